//! The linearizable register group: Paxos over the rows of one partition key.
mod acceptor;
mod acceptors;
mod backoff;
mod ballot;
mod basis;
#[cfg(test)]
mod check;
mod evaluate;
mod lead;
pub mod limits;
mod loss;
mod memory;
mod message;
mod read;
mod round;
mod row;
mod transaction;
mod undo;

pub use acceptor::{AcceptDecision, AcceptorHeader, PrepareDecision, RowsChange};
pub use acceptors::Acceptors;
pub use backoff::{Backoff, BackoffLimits};
pub use ballot::{Ballot, BallotClock, BallotsExhausted, Version, VersionError};
pub use basis::Basis;
pub use evaluate::{
    Evaluation, EvaluationTime, FailedCondition, Refusal, RowNotFetched, Verdict, evaluate, sweep,
};
pub use lead::{Lead, LeadOutrun};
pub use loss::{AfterLoss, after_loss};
pub use memory::{
    Answer, ClientMemory, MemoryError, MemoryFloor, REMEMBERED_FAILURES_MAX, RememberedFailure,
    WrittenVersions,
};
pub use message::{
    AcceptReply, AcceptRequest, Base, GroupImage, PrepareRequest, PromiseReply, ReadReply,
    ReadRequest, Report, RowRange, RowSelection,
};
pub use read::{ReadOutcome, ReadRound};
pub use round::{Action, Chosen, Lost, LostReason, Round};
pub use row::{
    Cell, Delta, GroupSize, KnownRows, Row, RowKey, RowKeyError, RowKind, RowView, Rows,
};
pub use transaction::{
    Condition, RequestStamp, RowOperation, Transaction, TransactionError, Write,
};
pub use undo::{UndoEntry, UndoLog};

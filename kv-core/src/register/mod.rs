//! The linearizable register group: Paxos over the rows of one partition key, without a log.
//!
//! A group is one page that several clerks keep copies of. A coordinator who wants to change it asks more than
//! half of the clerks to listen to nobody older (a promise), sees which page is the newest, writes the change
//! as a few lines on top of it, and has more than half of the clerks sign. The next coordinator is sure to meet
//! one who signed, so no signed page is ever lost and every page continues the one before.
//!
//! Place: pure; driven by `souk_kv_node`, encoded by `souk_kv_proto`, stored by `souk_kv_storage`.
//! Source: Lamport, Paxos Made Simple, 2001; Rystsov, CASPaxos: Replicated State Machines without logs, 2018;
//! `gryadka/js: gryadka-core/src/Proposer.js`; Cassandra's lightweight transactions (the group as the unit).
//! Shape: `ballot` orders, `row` and `transaction` say what is asked, `evaluate` and `memory` judge it, `round`
//! and `lead` propose it (`action` is what they ask of the driver), `acceptor` and `undo` accept it, `read` asks without writing, `loss` and `backoff`
//! say what follows a lost ballot, `lesson` teaches an acceptor that lost its state, `message` is what travels. `check` holds the machine's proofs.
//! Invariants: 1. at most one state is chosen per ballot. 2. chosen states form one lineage: each continues the
//! chosen one before it. 3. acceptors with equal accepted ballots have equal rows. 4. "not applied" is told only
//! from a state known to be chosen. 5. a remembered request takes effect at most once.
//! Not here: clocks, sockets, disks, queues; who the acceptors are (`souk_ring`, `crate::layout`); erasing whole
//! groups.
//!
//! What the driver owes, besides the lines "The driver owes" in `acceptor`:
//! - a fresh random proposer number for every start of the process ([`BallotClock::new`]);
//! - one round at a time per group, replies handed to the round whose ballot they carry;
//! - each request of a client runs once per attempt; a repetition is a new attempt. A client believes "not
//!   applied" only from its last attempt: an earlier one may have been judged before the later was sent.
//!
//! # One write, from ballot to answer
//!
//! ```
//! use std::collections::VecDeque;
//! use souk_kv_core::causality::{ContentType, RequestId};
//! use souk_kv_core::register::*;
//! use souk_ring::{LayoutEpoch, NodeId};
//!
//! // Three acceptors. A driver keeps header and rows on disk, and the undo log in memory.
//! let epoch = LayoutEpoch(1);
//! let mut acceptors = vec![(AcceptorHeader::empty(epoch), Rows::new(), UndoLog::default()); 3];
//!
//! let stamp = RequestStamp {
//!     request: RequestId { client: [7; 16], sequence: 1 },
//!     attempt: 1,
//!     lowest_unanswered: 1,
//!     issued_unix_ms: 1_000,
//! };
//! let cell = Cell { content_type: ContentType::text(), bytes: "5 units".into() };
//! let operation = RowOperation {
//!     key: RowKey::user(b"stock"),
//!     condition: Condition::Absent,
//!     write: Some(Write::Put(cell)),
//! };
//! let queue = [Transaction::new(stamp, vec![operation]).unwrap()];
//!
//! let mut clock = BallotClock::new(0x5eed);
//! let ballot = clock.next(1_000, Ballot::ZERO).unwrap();
//! let keys = RowSelection::keys(queue.iter().flat_map(Transaction::keys));
//! let (mut round, actions) =
//!     Round::prepare(Acceptors::new((0..3).map(NodeId)), epoch, ballot, keys);
//!
//! let mut open = VecDeque::from(actions);
//! let (mut evaluation, mut verdicts) = (None, None);
//! while let Some(action) = open.pop_front() {
//!     match action {
//!         Action::SendPrepare { to, request } => {
//!             let (header, rows, _) = &mut acceptors[to.0 as usize];
//!             let reply = match header.prepare(&request) {
//!                 PrepareDecision::Promise { header: promised } => {
//!                     *header = promised; // and make it durable before replying
//!                     let report = header.report(request.rows.select(rows));
//!                     PromiseReply::Promised { ballot: request.ballot, report }
//!                 }
//!                 PrepareDecision::Refused { promised } => {
//!                     PromiseReply::Refused { ballot: request.ballot, promised }
//!                 }
//!                 PrepareDecision::WrongEpoch { current } => PromiseReply::WrongEpoch { current },
//!             };
//!             open.extend(round.on_promise(to, reply));
//!         }
//!         Action::Evaluate => {
//!             let time = EvaluationTime {
//!                 now_unix_ms: 1_000,
//!                 request_memory_ms: 600_000,
//!                 clock_skew_max_ms: 500,
//!             };
//!             let judged = evaluate(round.basis().unwrap(), &time, &queue).unwrap();
//!             let next = clock.next(1_000, ballot).unwrap();
//!             open.extend(round.propose(&judged, Some(next)));
//!             evaluation = Some(judged);
//!         }
//!         Action::SendAccept { to, request } => {
//!             let (header, rows, undo) = &mut acceptors[to.0 as usize];
//!             let reply = match header.accept(&request, rows, undo) {
//!                 AcceptDecision::Apply { header: accepted, change, reply } => {
//!                     *header = accepted; // header and rows in one durable step
//!                     change.apply_to(rows);
//!                     reply
//!                 }
//!                 AcceptDecision::Reply(reply) => reply,
//!             };
//!             open.extend(round.on_accept(to, reply));
//!         }
//!         Action::FetchGroup { from, behind, .. } => open.extend(round.on_group(from, behind, None)),
//!         Action::Chosen(mut chosen) => {
//!             verdicts = evaluation.take().unwrap().open(&chosen);
//!             // The next write may go on from here in one round trip.
//!             let lead = chosen.take_lead().expect("all three promised the next ballot");
//!             assert_eq!(lead.base(), ballot);
//!         }
//!         Action::Lost(lost) => panic!("nobody else was there: {lost:?}"),
//!     }
//! }
//! assert!(matches!(verdicts.unwrap()[0], Verdict::Applied(_)));
//! ```

mod acceptor;
mod acceptors;
mod action;
mod backoff;
mod ballot;
mod basis;
#[cfg(test)]
mod check;
mod evaluate;
mod lead;
mod lesson;
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
pub use action::{Action, Chosen, Lost, LostReason};
pub use backoff::{Backoff, BackoffLimits};
pub use ballot::{Ballot, BallotClock, BallotsExhausted, Version, VersionError};
pub use basis::Basis;
pub use evaluate::{
    Evaluation, EvaluationTime, FailedCondition, Refusal, RowNotFetched, Verdict, evaluate, sweep,
};
pub use lead::{Lead, LeadOutrun};
pub use lesson::Lesson;
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
pub use round::Round;
pub use row::{
    Cell, Delta, GroupSize, KnownRows, Row, RowKey, RowKeyError, RowKind, RowView, Rows,
};
pub use transaction::{
    Condition, RequestStamp, RowOperation, Transaction, TransactionError, Write,
};
pub use undo::{UndoEntry, UndoLog};

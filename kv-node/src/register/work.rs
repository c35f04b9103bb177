//! What waits for a register group, and what goes into one ballot of it.
//!
//! Invariants: 1. each caller gets exactly its own answer. 2. what is past its deadline is not proposed any more.

use std::collections::BTreeMap;

use souk_kv_core::{
    outcome::Outcome,
    register::{
        Basis, Chosen, Evaluation, RowKey, RowSelection, RowView, Rows, Transaction, Verdict,
        limits,
    },
};
use tokio::{sync::oneshot, time::Instant};

use crate::error::RequestError;

/// What a caller of a transaction is told.
pub(super) type TransactAnswer = Result<Judged, RequestError>;

/// A verdict, and what the caller may believe of all attempts so far.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    pub(crate) outcome: Outcome,
}

/// Work for a group.
pub(super) enum Job {
    Transact {
        transaction: Transaction,
        deadline: Instant,
        answer: oneshot::Sender<TransactAnswer>,
    },
    /// A read of single rows that found no agreement: it joins the next ballot.
    Read(Reading),
    /// A read of a range that found no agreement: settle which state is the newest, then return its rows.
    Settle(Reading),
    /// Erase what is old among the rows from this one on.
    Sweep {
        from: RowKey,
        /// Whether anything was erased.
        answer: oneshot::Sender<Result<bool, RequestError>>,
    },
}

/// A read that waits.
pub(super) struct Reading {
    pub(super) rows: RowSelection,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Result<Rows, RequestError>>,
}

impl Reading {
    pub(super) fn is_late(&self) -> bool {
        self.answer.is_closed() || self.deadline <= Instant::now()
    }

    pub(super) fn finish(self, result: Result<Rows, RequestError>) {
        // A caller that has gone away needs no answer.
        let _ = self.answer.send(result);
    }
}

/// What goes into one ballot.
#[derive(Default)]
pub(super) struct Work {
    pub(super) transactions: Vec<Waiting>,
    pub(super) reads: Vec<Reading>,
}

impl Work {
    pub(super) fn is_empty(&self) -> bool {
        self.transactions.is_empty() && self.reads.is_empty()
    }

    pub(super) fn keys(&self) -> Vec<RowKey> {
        let written = self
            .transactions
            .iter()
            .flat_map(|waiting| waiting.transaction.keys());
        let read = self
            .reads
            .iter()
            .flat_map(|reading| reading.rows.keys.iter().cloned());
        written.chain(read).collect()
    }

    pub(super) fn drop_late(&mut self) {
        self.transactions = drop_late(std::mem::take(&mut self.transactions));
        self.reads.retain(|reading| !reading.is_late());
    }

    pub(super) fn fail(&mut self, cause: &str) {
        for waiting in self.transactions.drain(..) {
            let _ = waiting
                .answer
                .send(Err(RequestError::Internal(cause.to_owned())));
        }
        for reading in self.reads.drain(..) {
            reading.finish(Err(RequestError::Internal(cause.to_owned())));
        }
    }
}

/// A transaction that waits.
pub(super) struct Waiting {
    pub(super) transaction: Transaction,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<TransactAnswer>,
}

/// Tells each caller its verdict, once the ballot is chosen.
pub(super) fn answer_all(batch: Vec<Waiting>, evaluation: Evaluation, chosen: &Chosen) {
    let verdicts = evaluation
        .open(chosen)
        .expect("the evaluation was proposed in this very ballot");
    for (waiting, verdict) in batch.into_iter().zip(verdicts) {
        let outcome = verdict.outcome(&waiting.transaction);
        // A caller that has gone away needs no answer.
        let _ = waiting.answer.send(Ok(Judged { verdict, outcome }));
    }
}

/// Counts a transaction to its client; false when the client's memory holds no further answer of one
/// ballot. Were more of them in it, a lost ballot that is chosen after all could not be told for each.
pub(super) fn count_in(
    remembered: &mut BTreeMap<[u8; 16], usize>,
    transaction: &Transaction,
) -> bool {
    if !transaction.wants_memory() {
        return true;
    }
    let count = remembered
        .entry(transaction.stamp().request.client)
        .or_default();
    let fits = *count < limits::MEMORY_ANSWERS_MAX;
    *count += usize::from(fits);
    fits
}

/// Answers those whose time is over, keeps the others.
fn drop_late(batch: Vec<Waiting>) -> Vec<Waiting> {
    let now = Instant::now();
    let (kept, late): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .partition(|waiting| waiting.deadline > now && !waiting.answer.is_closed());
    for waiting in late {
        let outcome = exposed_outcome(&waiting.transaction);
        let _ = waiting
            .answer
            .send(Err(RequestError::Contention { outcome }));
    }
    kept
}

fn exposed_outcome(transaction: &Transaction) -> Outcome {
    if transaction.is_exposed() && transaction.writes() {
        Outcome::Unknown
    } else {
        Outcome::NotApplied
    }
}

/// The rows of a read as they are in the state that a ballot stands on.
pub(super) fn rows_of(basis: &Basis, reading: &Reading) -> Rows {
    let found = |key: &RowKey| Some((key.clone(), basis.rows().row(key)?.clone()));
    reading.rows.keys.iter().filter_map(found).collect()
}

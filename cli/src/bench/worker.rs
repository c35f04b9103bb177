//! One closed-loop client: chooses, sends, waits, counts, again.

use std::sync::Arc;

use souk_kv_client::{Outcome, RequestError, WriteOptions};
use tokio::time::Instant;

use super::choose::{Chooser, Step};
use super::field::Field;
use super::tally::Tally;

/// One client.
#[derive(Debug)]
pub(crate) struct Worker {
    field: Arc<Field>,
    chooser: Chooser,
    measured_from: Instant,
    measured_until: Instant,
    tally: Tally,
}

impl Worker {
    /// A client that works from now until `measured_until`.
    pub(crate) fn new(
        field: Arc<Field>,
        chooser: Chooser,
        measured_from: Instant,
        measured_until: Instant,
    ) -> Self {
        Self {
            field,
            chooser,
            measured_from,
            measured_until,
            tally: Tally::new(),
        }
    }

    /// Works to the end of the window, and tells what it saw in it.
    pub(crate) async fn run(mut self) -> Tally {
        loop {
            let began = Instant::now();
            if began >= self.measured_until {
                return self.tally;
            }
            let step = self.chooser.step();
            let results = self.perform(step).await;
            self.count(began, &results);
        }
    }

    /// One result per key.
    async fn perform(&mut self, step: Step) -> Vec<Result<(), RequestError>> {
        match step {
            Step::Read(index) => vec![self.field.read(index).await],
            Step::Write(index) => vec![self.field.write(index).await],
            Step::WriteMany(indexes) => {
                self.field
                    .write_many(&indexes, WriteOptions::default())
                    .await
            }
            Step::Cas(index) => vec![self.field.cas(index, &mut self.tally).await],
            Step::CasHot => vec![self.field.cas(Field::HOT, &mut self.tally).await],
        }
    }

    fn count(&mut self, began: Instant, results: &[Result<(), RequestError>]) {
        let ended = Instant::now();
        let applied = results.iter().filter(|result| result.is_ok()).count() as u64;
        let failures = || results.iter().filter_map(|result| result.as_ref().err());
        self.tally.all_applied += applied;
        self.tally.all_unknown += failures()
            .filter(|error| error.outcome() == Outcome::Unknown)
            .count() as u64;
        if began < self.measured_from {
            return;
        }
        if applied > 0 && ended <= self.measured_until {
            self.tally.succeed(applied, ended - began);
        }
        failures().for_each(|error| self.tally.fail(error));
    }
}

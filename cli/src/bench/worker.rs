//! One closed-loop client: chooses, sends, waits, counts, again.

use std::sync::Arc;

use souk_kv_client::{Outcome, WriteOptions};
use tokio::time::Instant;

use super::Ground;
use super::choose::{Chooser, Step};
use super::field::Field;
use super::tally::{Miss, Tally};

/// One client.
#[derive(Debug)]
pub(crate) struct Worker {
    ground: Arc<Ground>,
    chooser: Chooser,
    measured_from: Instant,
    measured_until: Instant,
    tally: Tally,
}

impl Worker {
    /// A client that works from now until `measured_until`.
    pub(crate) fn new(
        ground: Arc<Ground>,
        chooser: Chooser,
        measured_from: Instant,
        measured_until: Instant,
    ) -> Self {
        Self {
            ground,
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
            self.count(began, results);
        }
    }

    /// One result per key.
    async fn perform(&mut self, step: Step) -> Vec<Result<(), Miss>> {
        match &*self.ground {
            Ground::Rows(field) => perform_on_rows(field, step, &mut self.tally).await,
            Ground::Stock(shelves) => {
                vec![shelves.reserve(&mut self.tally).await.map_err(Miss::from)]
            }
        }
    }

    fn count(&mut self, began: Instant, results: Vec<Result<(), Miss>>) {
        let ended = Instant::now();
        let applied = results.iter().filter(|result| result.is_ok()).count() as u64;
        let failures: Vec<Miss> = results.into_iter().filter_map(Result::err).collect();
        self.tally.all_applied += applied;
        let is_unknown = |miss: &&Miss| miss.outcome == Outcome::Unknown;
        self.tally.all_unknown += failures.iter().filter(is_unknown).count() as u64;
        if began < self.measured_from {
            return;
        }
        if applied > 0 && ended <= self.measured_until {
            self.tally.succeed(applied, ended - began);
        }
        failures.into_iter().for_each(|miss| self.tally.fail(miss));
    }
}

async fn perform_on_rows(field: &Field, step: Step, tally: &mut Tally) -> Vec<Result<(), Miss>> {
    let result = match step {
        Step::Read(index) => field.read(index).await,
        Step::Write(index) => field.write(index).await,
        Step::WriteMany(indexes) => {
            let results = field.write_many(&indexes, WriteOptions::default()).await;
            return results
                .into_iter()
                .map(|result| result.map_err(Miss::from))
                .collect();
        }
        Step::Cas(index) => field.cas(index, tally).await,
        Step::CasHot => field.cas(Field::HOT, tally).await,
        Step::Reserve => unreachable!("reservations are made on shelves, never on rows"),
    };
    vec![result.map_err(Miss::from)]
}

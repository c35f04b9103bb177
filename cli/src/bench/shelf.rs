//! What `reserve-hot` works on: one article, whose stocks are sold out one after another.
//!
//! A stock takes only so many live holds, so a long run needs several. All clients work on one stock at a time; the
//! first one that finds it sold out opens the next. Every stock ends with exactly its units granted, which is what the
//! check in the end wants to see.
//!
//! Invariants: 1. every reservation id that was sent is noted as granted, in doubt, or surely refused. 2. no hold runs
//! out before the check.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use souk_inventory::store::{
    ClientStock, LEDGER_PAGES_MAX, StockStore, StockStoreError, StockStoreOptions, stock_bucket,
};
use souk_inventory::{
    Centre, CommandId, Compartment, HOLD_MAX_MS, HOLDS_MAX, HoldRow, Movement, Quantity,
    ReservationId, Sku, StockCommand, StockError, StockId,
};
use souk_kv_client::{Client, Outcome};

use super::BenchArgs;
use super::tally::Tally;
use crate::failure::Failure;
use crate::show::Progress;

/// Most units in one stock: so many holds that a stock takes them even when some are counted twice by a race.
pub(super) const UNITS_MAX: u32 = 150_000;
/// The bucket of the stocks.
const BUCKET: &str = "bench-stock";
/// Reservations under way at the same time while holds are made before the run.
const LOAD_CONCURRENCY: usize = 480;
/// Time for looking through all stocks in the end, before their holds may run out.
const CHECK_MS: u64 = 60 * 60 * 1_000;
/// Holds read at once.
const HOLDS_PAGE: usize = 5_000;

/// The stocks of one run.
#[derive(Debug)]
pub(crate) struct Shelves {
    store: StockStore,
    /// A name that no other run has.
    sku: Sku,
    units: u32,
    holds: u32,
    shards: u8,
    expires_unix_ms: u64,
    open: Mutex<Arc<Shelf>>,
    all: tokio::sync::Mutex<Vec<Arc<Shelf>>>,
}

/// One stock, and what became of the reservations in it.
#[derive(Debug)]
struct Shelf {
    stock: StockId,
    granted: Mutex<Vec<ReservationId>>,
    doubted: Mutex<Vec<ReservationId>>,
}

/// That a stock takes the holds, and that they last.
pub(super) fn check(units: u32, holds: u32, time: Duration) -> Result<(), Failure> {
    if u64::from(units) + u64::from(holds) > HOLDS_MAX {
        let problem = format!(
            "{units} units and {holds} holds are more than the {HOLDS_MAX} holds of a stock"
        );
        return Err(Failure::usage(problem, "lower --units or --holds"));
    }
    if lasting(time) > HOLD_MAX_MS {
        let problem = format!("holds do not last for {} s", time.as_secs());
        return Err(Failure::usage(problem, "lower --time"));
    }
    Ok(())
}

/// How long holds must last for a run of that length, in milliseconds.
fn lasting(time: Duration) -> u64 {
    u64::try_from(time.as_millis())
        .unwrap_or(u64::MAX)
        .saturating_add(CHECK_MS)
}

impl Shelves {
    /// Creates the bucket and fills the first stock.
    ///
    /// # Errors
    /// When the cluster refuses it.
    pub(super) async fn prepare(client: Client, args: &BenchArgs) -> Result<Self, Failure> {
        client.admin().create_bucket(stock_bucket(BUCKET)).await?;
        let options = StockStoreOptions {
            queue_max: (args.clients as usize).max(StockStoreOptions::default().queue_max),
            ..StockStoreOptions::default()
        };
        let store = StockStore::new(ClientStock::new(client, BUCKET), options);
        let sku = Sku::new(format!("bench-{:016x}", rand::random::<u64>()))
            .expect("a short plain name is a SKU");
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now_unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let first = Arc::new(Shelf::new(&sku, 0));
        let shelves = Self {
            store,
            sku,
            units: args.units,
            holds: args.holds,
            shards: args.shards,
            expires_unix_ms: now_unix_ms.saturating_add(lasting(args.whole_time())),
            open: Mutex::new(Arc::clone(&first)),
            all: tokio::sync::Mutex::new(vec![Arc::clone(&first)]),
        };
        shelves.fill(&first).await?;
        Ok(shelves)
    }

    /// Reserves one unit, going on with the next stock as long as this one has none left.
    pub(super) async fn reserve(&self, tally: &mut Tally) -> Result<(), StockStoreError> {
        loop {
            let shelf = Arc::clone(&self.open.lock());
            match self.reserve_in(&shelf).await {
                Err(StockStoreError::Refused(StockError::Insufficient { .. })) => {
                    tally.conflict();
                    self.go_on(&shelf).await?;
                }
                result => return result,
            }
        }
    }

    /// That each stock granted no more than it had, and that every unit of it can be accounted for.
    ///
    /// # Errors
    /// [`Failure::BenchStock`] when one did not.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        let all = self.all.lock().await;
        let progress = Progress::begin("counting every unit".to_owned());
        for (number, shelf) in all.iter().enumerate() {
            progress.set(number as u64, all.len() as u64);
            // Units that are on their way between shards arrive first.
            self.store.balance(&shelf.stock).await?;
            let total = self.store.total(&shelf.stock).await?;
            let mut counted = Counted {
                units: u64::from(self.units) + u64::from(self.holds),
                summary: total.unwrap_or_default(),
                ledger: Movement::default(),
            };
            let mut held = BTreeMap::new();
            for number in 0..self.shards {
                let shard = shelf.stock.shard(number);
                self.collect_holds(&shard, &mut held).await?;
                counted.ledger = counted.ledger.plus(&self.ledger_sum(&shard).await?);
            }
            let problem = counted
                .problem(&held)
                .or_else(|| shelf.problem(&held))
                .map(|problem| Failure::BenchStock {
                    stock: shelf.stock.clone(),
                    problem,
                });
            problem.map_or(Ok(()), Err)?;
        }
        progress.end(format_args!(
            "none is lost and none oversold, in {} stock(s)",
            all.len()
        ));
        Ok(())
    }

    async fn reserve_in(&self, shelf: &Shelf) -> Result<(), StockStoreError> {
        let id = ReservationId::from_bytes(rand::random());
        let command = StockCommand::Reserve {
            reservation_id: id,
            quantity: Quantity::new(1).expect("one is a quantity"),
            expires_unix_ms: self.expires_unix_ms,
        };
        let answer = self.store.run(&shelf.stock, command).await;
        match &answer {
            Ok(_) => shelf.granted.lock().push(id),
            Err(error) if error.outcome() == Outcome::Unknown => shelf.doubted.lock().push(id),
            Err(_) => {}
        }
        answer.map(|_| ())
    }

    /// Opens the next stock, unless somebody else has done so.
    async fn go_on(&self, sold_out: &Arc<Shelf>) -> Result<(), StockStoreError> {
        let mut all = self.all.lock().await;
        if !Arc::ptr_eq(&self.open.lock(), sold_out) {
            return Ok(());
        }
        let next = Arc::new(Shelf::new(&self.sku, all.len()));
        // Noted first: units of a stock whose receipt is in doubt have to be accounted for, too.
        all.push(Arc::clone(&next));
        let filled = self.fill(&next).await;
        *self.open.lock() = next;
        filled
    }

    /// Brings the units of a stock, and makes the holds that it begins with.
    async fn fill(&self, shelf: &Shelf) -> Result<(), StockStoreError> {
        let receive = StockCommand::Receive {
            command_id: CommandId::from_bytes(rand::random()),
            quantity: Quantity::new(self.units + self.holds)
                .expect("the limits of both arguments keep their sum a quantity"),
        };
        self.store.run(&shelf.stock, receive).await?;
        if self.shards > 1 {
            self.store.split(&shelf.stock, self.shards).await?;
        }
        if self.holds == 0 {
            return Ok(());
        }
        let progress = Progress::begin(format!("holding units of {}", shelf.stock));
        let mut holds = stream::iter((0..self.holds).map(|_| self.reserve_in(shelf)))
            .buffer_unordered(LOAD_CONCURRENCY);
        let mut done = 0;
        while let Some(()) = holds.try_next().await? {
            done += 1;
            progress.set(done, u64::from(self.holds));
        }
        progress.end(format_args!("{done} holds"));
        Ok(())
    }

    /// Adds every reservation that stands in a shard, and the units that it holds.
    async fn collect_holds(
        &self,
        shard: &StockId,
        held: &mut BTreeMap<ReservationId, u64>,
    ) -> Result<(), StockStoreError> {
        let mut first = ReservationId::from_bytes([0; 16]);
        loop {
            let page = self.store.reservations(shard, first, HOLDS_PAGE).await?;
            let Some((last, _)) = page.last().filter(|_| page.len() == HOLDS_PAGE).copied() else {
                held.extend(page.iter().filter_map(units_held));
                return Ok(());
            };
            held.extend(page.iter().filter_map(units_held));
            // The last one is read again, which changes nothing.
            first = last;
        }
    }

    /// The sum of every movement of a shard.
    async fn ledger_sum(&self, shard: &StockId) -> Result<Movement, StockStoreError> {
        let checkpoint = self.store.ledger_checkpoint(shard).await?;
        let mut sum = checkpoint.units;
        let mut first = checkpoint.pages;
        loop {
            let pages = self.store.ledger(shard, first, LEDGER_PAGES_MAX).await?;
            let Some((last, _)) = pages.last() else {
                return Ok(sum);
            };
            first = last + 1;
            for entry in pages.iter().flat_map(|(_, page)| &page.entries) {
                sum = sum.plus(&entry.units);
            }
        }
    }
}

fn units_held((id, row): &(ReservationId, HoldRow)) -> Option<(ReservationId, u64)> {
    match row {
        HoldRow::Made(hold) if !hold.status.is_ended() => Some((*id, hold.quantity.get().into())),
        HoldRow::Made(_) | HoldRow::Barred | HoldRow::Passed { .. } => None,
    }
}

impl Shelf {
    fn new(sku: &Sku, number: usize) -> Self {
        let centre =
            Centre::new(format!("bench-{number}")).expect("a short plain name is a centre");
        Self {
            stock: StockId {
                sku: sku.clone(),
                centre,
            },
            granted: Mutex::default(),
            doubted: Mutex::default(),
        }
    }

    /// What is wrong between what clients were told and what the stock holds.
    fn problem(&self, held: &BTreeMap<ReservationId, u64>) -> Option<String> {
        let (granted, doubted) = (self.granted.lock(), self.doubted.lock());
        let lost = granted.iter().filter(|id| !held.contains_key(id)).count();
        if lost > 0 {
            return Some(format!("{lost} reservations were granted and are not held"));
        }
        let told: BTreeSet<&ReservationId> = granted.iter().chain(doubted.iter()).collect();
        let strange = held.keys().filter(|id| !told.contains(id)).count();
        (strange > 0).then(|| {
            format!("{strange} reservations are held that were refused or never asked for")
        })
    }
}

/// The sums of a stock, which have to agree.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counted {
    units: u64,
    summary: souk_inventory::StockCounts,
    ledger: Movement,
}

impl Counted {
    fn problem(&self, held: &BTreeMap<ReservationId, u64>) -> Option<String> {
        let counts = Compartment::ALL.map(|compartment| self.summary.get(compartment));
        let sums = Compartment::ALL.map(|compartment| self.ledger.get(compartment));
        let ledger = sums.map(u64::try_from);
        if ledger
            .iter()
            .zip(counts)
            .any(|(sum, count)| *sum != Ok(count))
        {
            return Some(format!(
                "the ledger adds up to {sums:?}, the counts are {counts:?}"
            ));
        }
        let units_held: u64 = held.values().sum();
        if units_held > self.units {
            return Some(format!("{units_held} of {} units are held", self.units));
        }
        let expected = [self.units - units_held, units_held, 0, 0, 0];
        (counts != expected).then(|| {
            format!(
                "of {} units {units_held} are held, so the counts should be {expected:?}, and they are {counts:?}",
                self.units
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use souk_inventory::StockCounts;

    use super::*;

    fn id(number: u8) -> ReservationId {
        ReservationId::from_bytes([number; 16])
    }

    fn counted(available: u64, reserved: u64, ledger: [i64; 5]) -> Counted {
        let ledger = serde_json::from_value(serde_json::json!(ledger)).unwrap();
        let summary = StockCounts {
            available,
            reserved,
            ..StockCounts::default()
        };
        Counted {
            units: 3,
            summary,
            ledger,
        }
    }

    #[test]
    fn sums_that_disagree_are_told() {
        let held = BTreeMap::from([(id(1), 1), (id(2), 1)]);
        let check = |counted: Counted, part: Option<&str>| {
            let problem = counted.problem(&held);
            match part {
                None => assert_eq!(problem, None),
                Some(part) => assert!(
                    problem.as_ref().is_some_and(|text| text.contains(part)),
                    "{problem:?}"
                ),
            }
        };
        check(counted(1, 2, [1, 2, 0, 0, 0]), None);
        check(
            counted(1, 2, [2, 1, 0, 0, 0]),
            Some("the ledger adds up to"),
        );
        check(
            counted(1, 2, [1, 2, 0, -1, 0]),
            Some("the ledger adds up to"),
        );
        check(counted(2, 1, [2, 1, 0, 0, 0]), Some("2 are held"));
        let oversold = BTreeMap::from([(id(1), 4)]);
        let problem = counted(0, 3, [0, 3, 0, 0, 0]).problem(&oversold);
        assert!(problem.is_some_and(|text| text.contains("4 of 3 units")));
    }

    #[test]
    fn lost_and_strange_reservations_are_told() {
        let shelf = Shelf::new(&Sku::new("lamp").unwrap(), 0);
        shelf.granted.lock().push(id(1));
        shelf.doubted.lock().push(id(2));
        let check = |held: &[u8], part: Option<&str>| {
            let problem = shelf.problem(&held.iter().map(|number| (id(*number), 1)).collect());
            match part {
                None => assert_eq!(problem, None),
                Some(part) => assert!(
                    problem.as_ref().is_some_and(|text| text.contains(part)),
                    "{problem:?}"
                ),
            }
        };
        check(&[1], None);
        check(&[1, 2], None);
        check(&[2], Some("1 reservations were granted"));
        check(&[1, 3], Some("1 reservations are held that"));
    }
}

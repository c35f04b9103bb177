//! Many processes reserve one SKU until nothing is left of it.
//!
//! Each process has its own stock store, so that they outrun one another as several shops would. A reservation
//! that nobody confirmed is asked for again under its id. The stock is one group, or split into several shards among which
//! reservations are passed on and units are moved.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use rand::Rng as _;
use serde_json::json;
use souk_inventory::store::{
    ClientStock, LEDGER_PAGES_MAX, StockClock, StockStore, StockStoreError, StockStoreOptions,
    stock_bucket,
};
use souk_inventory::{
    Centre, CommandId, Compartment, HoldRow, HoldStatus, LedgerPage, Movement, Quantity,
    ReservationId, Row, RowKey, Sku, StockCommand, StockError, StockId,
};
use souk_kv_client::{Client, Outcome, ReadOptions, ScanQuery};
use tokio::time::{Instant, sleep};

use super::failed::not_answered;
use super::{ClientContext, Crowd, Target, Workload, WorkloadError};
use crate::checker::{Checker, HeldUnits, StockChecker, StockState};
use crate::history::{History, Lane, Recorder};

const BUCKET: &str = "jepsen-stock";
const SKU: &str = "lamp";
/// Shards of the split stock.
const SHARDS: u8 = 4;
/// Units that there are.
const UNITS: u32 = 500;
/// Clients share the units over this part of their time, if answers take no time; then they are refused.
const SOLD_OUT_AFTER: f64 = 0.5;
/// Attempts of one reservation.
const ATTEMPTS_MAX: u32 = 4;
/// How long a hold lasts: longer than any run.
const HOLD: Duration = Duration::from_secs(23 * 60 * 60);
/// Longest wait for an answer in the end.
const FINISH_WITHIN: Duration = Duration::from_secs(60);
/// Most holds that are read.
const HOLDS_MAX: usize = 100_000;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Stock {
    shards: u8,
}

impl Stock {
    /// One group.
    pub const WHOLE: Self = Self { shards: 1 };
    /// Four groups.
    pub const SPLIT: Self = Self { shards: SHARDS };
}

impl Workload for Stock {
    fn name(&self) -> &'static str {
        if self.shards == 1 {
            "stock"
        } else {
            "split-stock"
        }
    }

    fn about(&self) -> &'static str {
        if self.shards == 1 {
            "8 processes reserve one SKU with 500 units; exactly 500 are granted"
        } else {
            "8 processes reserve one SKU with 500 units in 4 shards; exactly 500 are granted"
        }
    }

    fn crowd(&self) -> Crowd {
        Crowd {
            workers: 8,
            lanes: 1,
        }
    }

    fn set_up<'a>(
        &'a self,
        target: &'a Target,
        recorder: &'a Recorder,
    ) -> BoxFuture<'a, Result<(), WorkloadError>> {
        async move {
            let client = target.with_bucket(stock_bucket(BUCKET)).await?;
            let stocks = store(client, target, "set-up");
            let mut lane = recorder.lane();
            let stock = self.id();
            let asked = json!({"stock": stock.to_string(), "quantity": UNITS});
            let pending = lane.invoke("receive", asked);
            let receive = StockCommand::Receive {
                command_id: CommandId::from_bytes([7; 16]),
                quantity: Quantity::new(UNITS).expect("the units are a quantity"),
            };
            match stocks.run(&stock, receive).await {
                Ok(_) => pending.ok_as_asked(),
                Err(problem) => pending.info(told(&problem)),
            }
            if self.shards > 1 {
                let split = stocks.split(&stock, self.shards).await;
                split.map_err(|problem| WorkloadError::NotSettled {
                    what: "the stock is not split",
                    waited_s: 0,
                    last: told(&problem),
                })?;
            }
            Ok(())
        }
        .boxed()
    }

    fn run(&self, mut context: ClientContext) -> BoxFuture<'static, Result<(), WorkloadError>> {
        let (stock, crowd) = (self.id(), self.crowd());
        async move {
            let client = context.target.connect(&context.id.to_string()).await?;
            let stocks = store(client, &context.target, &context.id.to_string());
            let share = f64::from(UNITS) / f64::from(crowd.workers * crowd.lanes);
            let pause = context.time.mul_f64(SOLD_OUT_AFTER / share);
            let expires_unix_ms = expiry(&context.target);
            while context.pause(pause).await {
                let id = ReservationId::from_bytes(context.random.random());
                reserve(&stocks, &stock, &mut context.lane, id, expires_unix_ms).await;
            }
            Ok(())
        }
        .boxed()
    }

    fn finish<'a>(
        &'a self,
        target: &'a Target,
        recorder: &'a Recorder,
        _until_now: &'a History,
    ) -> BoxFuture<'a, Result<(), WorkloadError>> {
        async move {
            let client = target.connect("finish").await?;
            let stocks = store(client.clone(), target, "finish");
            let mut lane = recorder.lane();
            let stock = self.id();
            sell_out(&stocks, &stock, &mut lane, expiry(target)).await?;
            let pending = lane.invoke("final-stock", json!({"stock": stock.to_string()}));
            match look(&client, &stocks, &stock, self.shards).await {
                Ok(state) => pending.ok(json!(state)),
                Err(why) => pending.fail(why),
            }
            Ok(())
        }
        .boxed()
    }

    fn checker(&self) -> Box<dyn Checker> {
        Box::new(StockChecker)
    }
}

/// What became of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Got {
    Granted,
    Refused,
    Failed,
    Doubt,
}

async fn reserve(
    stocks: &StockStore,
    stock: &StockId,
    lane: &mut Lane,
    id: ReservationId,
    expires_unix_ms: u64,
) -> Got {
    for _ in 0..ATTEMPTS_MAX {
        let got = try_reserve(stocks, stock, lane, id, expires_unix_ms).await;
        if got != Got::Doubt {
            return got;
        }
    }
    Got::Doubt
}

async fn try_reserve(
    stocks: &StockStore,
    stock: &StockId,
    lane: &mut Lane,
    id: ReservationId,
    expires_unix_ms: u64,
) -> Got {
    let asked = json!({"stock": stock.to_string(), "reservation": id.to_string(), "quantity": 1});
    let pending = lane.invoke("reserve", asked);
    let command = StockCommand::Reserve {
        reservation_id: id,
        quantity: Quantity::new(1).expect("one is a quantity"),
        expires_unix_ms,
    };
    match stocks.run(stock, command).await {
        Ok(_) => {
            pending.ok_as_asked();
            Got::Granted
        }
        Err(StockStoreError::Refused(StockError::Insufficient { .. })) => {
            pending.condition_failed(json!({"stock": stock.to_string()}));
            Got::Refused
        }
        Err(problem) => {
            not_answered(pending, problem.outcome(), told(&problem));
            match problem.outcome() {
                Outcome::NotApplied => Got::Failed,
                Outcome::Unknown | Outcome::Applied => Got::Doubt,
            }
        }
    }
}

/// Takes what is left, until there is nothing.
async fn sell_out(
    stocks: &StockStore,
    stock: &StockId,
    lane: &mut Lane,
    expires_unix_ms: u64,
) -> Result<(), WorkloadError> {
    let begun = Instant::now();
    // Units that a fault stopped on their way between shards arrive first.
    while let Err(problem) = stocks.balance(stock).await {
        if begun.elapsed() > FINISH_WITHIN {
            return Err(WorkloadError::NotSettled {
                what: "units are still on their way",
                waited_s: FINISH_WITHIN.as_secs(),
                last: told(&problem),
            });
        }
        sleep(Duration::from_millis(100)).await;
    }
    let mut number = 0_u128;
    loop {
        let id = ReservationId::from_bytes(number.to_be_bytes());
        if reserve(stocks, stock, lane, id, expires_unix_ms).await == Got::Refused {
            return Ok(());
        }
        number += 1;
        if begun.elapsed() > FINISH_WITHIN {
            return Err(WorkloadError::NotSettled {
                what: "stock is not sold out",
                waited_s: FINISH_WITHIN.as_secs(),
                last: format!("{number} more reservations"),
            });
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// Everything that the store has on the stock, over all shards.
async fn look(
    client: &Client,
    stocks: &StockStore,
    stock: &StockId,
    shards: u8,
) -> Result<StockState, String> {
    let mut state = StockState {
        stock: stock.to_string(),
        ..StockState::default()
    };
    for number in 0..shards {
        look_at(client, stocks, &stock.shard(number), &mut state).await?;
    }
    Ok(state)
}

/// Adds one shard, read row by row and not through the store's own sums.
async fn look_at(
    client: &Client,
    stocks: &StockStore,
    stock: &StockId,
    state: &mut StockState,
) -> Result<(), String> {
    let counts = stocks
        .summary(stock)
        .await
        .map_err(|problem| told(&problem))?
        .counts;
    let checkpoint = stocks.ledger_checkpoint(stock).await;
    let checkpoint = checkpoint.map_err(|problem| told(&problem))?;
    state.ledger_sum += on_hand(&checkpoint.units);
    let mut first = checkpoint.pages;
    loop {
        let pages = stocks.ledger(stock, first, LEDGER_PAGES_MAX).await;
        let pages: Vec<(u64, LedgerPage)> = pages.map_err(|problem| told(&problem))?;
        let Some((last, _)) = pages.last() else { break };
        first = last + 1;
        let entries = pages.iter().flat_map(|(_, page)| &page.entries);
        state.ledger_sum += entries.map(|entry| on_hand(&entry.units)).sum::<i64>();
    }
    let units = |compartment| i64::try_from(counts.get(compartment)).unwrap_or(i64::MAX);
    state.available += units(Compartment::Available);
    state.reserved += units(Compartment::Reserved);
    state.allocated += units(Compartment::Allocated);
    state.damaged += units(Compartment::Damaged);
    state.holds.extend(holds(client, stock).await?);
    Ok(())
}

fn on_hand(units: &Movement) -> i64 {
    let on_hand = [
        Compartment::Available,
        Compartment::Reserved,
        Compartment::Allocated,
        Compartment::Damaged,
    ];
    on_hand.map(|place| units.get(place)).iter().sum()
}

async fn holds(client: &Client, stock: &StockId) -> Result<Vec<HeldUnits>, String> {
    let mut query = ScanQuery::new(BUCKET, stock.to_string());
    query.prefix = "h/".into();
    let options = ReadOptions {
        timeout: Some(Duration::from_secs(30)),
        ..ReadOptions::default()
    };
    let page = client.scan_all(&query, HOLDS_MAX, options).await;
    let page = page.map_err(|problem| problem.to_string())?;
    let mut held: BTreeMap<String, i64> = BTreeMap::new();
    for row in page.rows {
        let key = RowKey::from_bytes(&row.sort_key).map_err(|problem| problem.to_string())?;
        let Some(value) = row.values.first() else {
            continue;
        };
        let read = Row::from_bytes(key, &value.data).map_err(|problem| problem.to_string())?;
        let (RowKey::Hold(id), Row::Hold(HoldRow::Made(hold))) = (key, read) else {
            continue;
        };
        if matches!(hold.status, HoldStatus::Held | HoldStatus::Allocated { .. }) {
            held.insert(id.to_string(), i64::from(hold.quantity.get()));
        }
    }
    let held = held.into_iter();
    Ok(held
        .map(|(reservation, quantity)| HeldUnits {
            reservation,
            quantity,
        })
        .collect())
}

fn store(client: Client, target: &Target, name: &str) -> StockStore {
    let world = target.world.clone();
    let options = StockStoreOptions {
        seed: world.seed_of(&format!("stock of {name}")),
        clock: StockClock::new(move || world.unix_ms()),
        ..StockStoreOptions::default()
    };
    StockStore::new(ClientStock::new(client, BUCKET), options)
}

impl Stock {
    fn id(self) -> StockId {
        StockId {
            sku: Sku::new(SKU).expect("a short plain name is a SKU"),
            centre: Centre::new(self.name()).expect("a short plain name is a centre"),
        }
    }
}

/// Part of a reservation's content, so one client uses one for all attempts.
fn expiry(target: &Target) -> u64 {
    let hold_ms = u64::try_from(HOLD.as_millis()).unwrap_or(u64::MAX);
    target.world.unix_ms().saturating_add(hold_ms)
}

/// The message with its source.
fn told(problem: &StockStoreError) -> String {
    match std::error::Error::source(problem) {
        Some(source) => format!("{problem}: {source}"),
        None => problem.to_string(),
    }
}

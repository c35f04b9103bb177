//! Split stocks over register groups in memory, with several processes and answers that get lost.

#![cfg(feature = "store")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod group;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use group::{Group, command, order, units};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use souk_inventory::store::{
    RowPage, StockBucket, StockClock, StockStore, StockStoreError, StockStoreOptions,
};
use souk_inventory::{
    Centre, HoldRow, HoldStatus, ReservationId, Row, RowKey, Sku, StockAnswer, StockCommand,
    StockCounts, StockError, StockId, TransferId, home_shard,
};
use souk_kv_client::{
    Condition, ErrorCode, FailedCondition, Outcome, RequestError, RowAction, RowOperation,
    TransactOutcome, Version, Versioned,
};

const SHARDS: u8 = 4;

type Rows = BTreeMap<Bytes, Versioned>;

/// Groups by their stock; one write in `lost_one_in` is carried out, or not, and its answer lost.
#[derive(Debug)]
struct State {
    groups: BTreeMap<StockId, Rows>,
    versions: u64,
    chance: SmallRng,
    lost_one_in: Option<u32>,
    transactions: BTreeMap<StockId, usize>,
}

impl State {
    fn transact(&mut self, stock: &StockId, operations: &[RowOperation]) -> TransactOutcome {
        *self.transactions.entry(stock.clone()).or_default() += 1;
        let rows = self.groups.entry(stock.clone()).or_default();
        let holds = |operation: &RowOperation| match (
            &operation.condition,
            rows.get(&operation.sort_key),
        ) {
            (Condition::Any, _) | (Condition::Missing, None) | (Condition::Present, Some(_)) => {
                true
            }
            (Condition::Version(expected), Some(row)) => *expected == row.version,
            _ => false,
        };
        let failed: Vec<FailedCondition> = operations
            .iter()
            .enumerate()
            .filter(|(_, operation)| !holds(operation))
            .map(|(operation, row)| FailedCondition {
                operation,
                current: rows.get(&row.sort_key).cloned(),
            })
            .collect();
        if !failed.is_empty() {
            return TransactOutcome::NotApplied { failed };
        }
        let mut versions = Vec::new();
        for operation in operations {
            versions.push(match &operation.action {
                RowAction::Put(value) => {
                    self.versions += 1;
                    let version = Version(Bytes::copy_from_slice(&self.versions.to_be_bytes()));
                    let row = Versioned {
                        value: value.clone(),
                        version: version.clone(),
                    };
                    rows.insert(operation.sort_key.clone(), row);
                    Some(version)
                }
                RowAction::Delete => {
                    rows.remove(&operation.sort_key);
                    None
                }
                RowAction::Check => None,
            });
        }
        TransactOutcome::Applied { versions }
    }
}

#[derive(Debug, Clone)]
struct FakeStock(Arc<Mutex<State>>);

impl FakeStock {
    fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            groups: BTreeMap::new(),
            versions: 0,
            chance: SmallRng::seed_from_u64(seed),
            lost_one_in: None,
            transactions: BTreeMap::new(),
        })))
    }

    fn lose_one_in(&self, count: Option<u32>) {
        self.0.lock().unwrap().lost_one_in = count;
    }

    fn group(&self, stock: &StockId) -> Group {
        let state = self.0.lock().unwrap();
        let rows = state.groups.get(stock).into_iter().flatten();
        Group {
            rows: rows
                .map(|(key, row)| (key.clone(), row.value.data.clone()))
                .collect(),
        }
    }

    fn writes(&self, stock: &StockId) -> usize {
        let state = self.0.lock().unwrap();
        state.transactions.get(stock).copied().unwrap_or(0)
    }

    /// Every hold with units, by id, over all shards; panics when one stands in two.
    fn held(&self, stock: &StockId) -> BTreeMap<ReservationId, (u8, HoldStatus)> {
        let mut held = BTreeMap::new();
        for number in 0..SHARDS {
            for (key, value) in self.group(&stock.shard(number)).rows {
                let key = RowKey::from_bytes(&key).unwrap();
                if let (RowKey::Hold(id), Row::Hold(HoldRow::Made(hold))) =
                    (key, Row::from_bytes(key, &value).unwrap())
                {
                    let before = held.insert(id, (number, hold.status));
                    assert_eq!(before, None, "{id} stands in two shards");
                }
            }
        }
        held
    }
}

impl StockBucket for FakeStock {
    async fn get(
        &self,
        rows: &[(&StockId, RowKey)],
        _: Duration,
    ) -> Vec<Result<Option<Versioned>, RequestError>> {
        let mut answers = Vec::new();
        for (stock, key) in rows {
            tokio::task::yield_now().await;
            let state = self.0.lock().unwrap();
            let row = state
                .groups
                .get(stock)
                .and_then(|rows| rows.get(&key.to_bytes()));
            answers.push(Ok(row.cloned()));
        }
        answers
    }

    async fn scan(
        &self,
        stock: &StockId,
        prefix: &str,
        from: Option<RowKey>,
        limit: usize,
        _: Duration,
    ) -> Result<RowPage, RequestError> {
        tokio::task::yield_now().await;
        let from = from.map(|key| key.to_bytes()).unwrap_or_default();
        let rows = self.group(stock).rows.into_iter();
        let mut rows: Vec<_> = rows
            .filter(|(key, _)| key.starts_with(prefix.as_bytes()) && *key >= from)
            .collect();
        let complete = rows.len() <= limit;
        rows.truncate(limit);
        Ok(RowPage { rows, complete })
    }

    async fn transact(
        &self,
        stock: &StockId,
        operations: Vec<RowOperation>,
        _: Duration,
    ) -> Result<TransactOutcome, RequestError> {
        tokio::task::yield_now().await;
        let answer = {
            let mut state = self.0.lock().unwrap();
            let lost = state.lost_one_in;
            let is_lost = lost.is_some_and(|count| state.chance.random_ratio(1, count));
            if is_lost && state.chance.random() {
                None
            } else {
                let outcome = state.transact(stock, &operations);
                (!is_lost).then_some(outcome)
            }
        };
        tokio::task::yield_now().await;
        answer.ok_or(RequestError {
            code: ErrorCode::Timeout,
            outcome: Outcome::Unknown,
            message: String::new(),
            retry_after: None,
            node: None,
            retryable: true,
        })
    }
}

fn stock() -> StockId {
    StockId {
        sku: Sku::new("lamp").unwrap(),
        centre: Centre::new("main").unwrap(),
    }
}

fn process(fake: &FakeStock, seed: u64) -> StockStore<FakeStock> {
    let options = StockStoreOptions {
        clock: StockClock::new(|| 1),
        seed: Some(seed),
        ..StockStoreOptions::default()
    };
    StockStore::new(fake.clone(), options)
}

fn id(number: u64) -> ReservationId {
    ReservationId::from_bytes(u128::from(number).to_be_bytes())
}

/// An id whose home is that shard.
fn id_at(shard: u8, nth: usize) -> ReservationId {
    let mut ids = (1..).map(id).filter(|id| home_shard(*id, SHARDS) == shard);
    ids.nth(nth).unwrap()
}

fn reserve(id: ReservationId, quantity: u32) -> StockCommand {
    StockCommand::Reserve {
        reservation_id: id,
        quantity: units(quantity),
        expires_unix_ms: 1_000,
    }
}

/// So many units, received before the split and spread by it.
async fn split_stock(fake: &FakeStock, count: u32) -> StockStore<FakeStock> {
    let store = process(fake, 1);
    let receive = StockCommand::Receive {
        command_id: command(1),
        quantity: units(count),
    };
    store.run(&stock(), receive).await.unwrap();
    store.split(&stock(), SHARDS).await.unwrap();
    store
}

fn available(fake: &FakeStock) -> Vec<u64> {
    let shards = (0..SHARDS).map(|number| stock().shard(number));
    shards
        .map(|shard| fake.group(&shard).summary().counts.available)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn splitting_spreads_the_units_and_reservations_go_home() {
    let fake = FakeStock::new(1);
    let store = split_stock(&fake, 10).await;
    assert_eq!(available(&fake), [3, 3, 2, 2]);
    store.split(&stock(), SHARDS).await.unwrap();
    for shard in 0..SHARDS {
        store
            .run(&stock(), reserve(id_at(shard, 0), 1))
            .await
            .unwrap();
    }
    assert_eq!(available(&fake), [2, 2, 1, 1]);
    let total = store.total(&stock()).await.unwrap().unwrap();
    let expected = StockCounts {
        available: 6,
        reserved: 4,
        ..StockCounts::default()
    };
    assert_eq!(total, expected);
}

#[tokio::test(start_paused = true)]
async fn a_stock_that_remembers_reservations_is_not_split() {
    let fake = FakeStock::new(1);
    let store = process(&fake, 1);
    let receive = StockCommand::Receive {
        command_id: command(1),
        quantity: units(5),
    };
    store.run(&stock(), receive).await.unwrap();
    store.run(&stock(), reserve(id(1), 1)).await.unwrap();
    let release = StockCommand::Release {
        reservation_id: id(1),
    };
    for _ in 0..2 {
        let refused = store.split(&stock(), SHARDS).await;
        assert!(
            matches!(
                refused,
                Err(StockStoreError::Refused(StockError::NotSplittable {
                    present: 1,
                    ..
                }))
            ),
            "{refused:?}"
        );
        store.run(&stock(), release.clone()).await.unwrap();
    }
    let shard = store.split(&stock().shard(2), SHARDS).await;
    assert!(
        matches!(shard, Err(StockStoreError::Refused(_))),
        "{shard:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dry_shard_passes_reservations_on_and_everybody_finds_them() {
    let fake = FakeStock::new(1);
    let store = split_stock(&fake, 8).await;
    // Shard 1 has 2 units; its third reservation goes elsewhere.
    for nth in 0..3 {
        store
            .run(&stock(), reserve(id_at(1, nth), 1))
            .await
            .unwrap();
    }
    let (passed, at) = (id_at(1, 2), |fake: &FakeStock| {
        fake.held(&stock())[&id_at(1, 2)]
    });
    let (shard, status) = at(&fake);
    assert!(shard > 1, "{shard}");
    assert_eq!(status, HoldStatus::Held);
    // Another process, which has not heard of the split, asks again and goes on with it.
    let other = process(&fake, 2);
    let again = other.run(&stock(), reserve(passed, 1)).await.unwrap();
    assert!(
        matches!(again, StockAnswer::Reservation(made) if made.id == passed),
        "{again:?}"
    );
    assert!(matches!(
        process(&fake, 3)
            .reservation(&stock(), passed)
            .await
            .unwrap(),
        Some(HoldRow::Made(_))
    ));
    let order_id = order(1);
    let confirm = StockCommand::Confirm {
        reservation_id: passed,
        order_id,
    };
    process(&fake, 4).run(&stock(), confirm).await.unwrap();
    assert_eq!(at(&fake), (shard, HoldStatus::Allocated { order_id }));
    let cancel = StockCommand::Cancel {
        reservation_id: passed,
        order_id,
    };
    process(&fake, 5).run(&stock(), cancel).await.unwrap();
    assert_eq!(at(&fake), (shard, HoldStatus::Cancelled { order_id }));
}

#[tokio::test(start_paused = true)]
async fn units_are_brought_together_for_a_large_order() {
    let fake = FakeStock::new(1);
    let store = split_stock(&fake, 8).await;
    store.run(&stock(), reserve(id(1), 7)).await.unwrap();
    assert_eq!(available(&fake).iter().sum::<u64>(), 1);
    let writes = |fake: &FakeStock| {
        let shards = (0..SHARDS).map(|number| fake.writes(&stock().shard(number)));
        shards.sum::<usize>()
    };
    let before = writes(&fake);
    let refused = store.run(&stock(), reserve(id(2), 2)).await;
    assert!(
        matches!(
            refused,
            Err(StockStoreError::Refused(StockError::Insufficient { .. }))
        ),
        "{refused:?}"
    );
    assert_eq!(writes(&fake), before, "a refusal leaves no trace");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_has_not_heard_of_the_split_reserves_nothing_in_the_first_shard() {
    let fake = FakeStock::new(1);
    let early = process(&fake, 9);
    // It knows the summary of the undivided stock.
    let receive = StockCommand::Receive {
        command_id: command(2),
        quantity: units(1),
    };
    early.run(&stock(), receive).await.unwrap();
    split_stock(&fake, 7).await;
    early.run(&stock(), reserve(id_at(2, 0), 1)).await.unwrap();
    assert_eq!(fake.held(&stock())[&id_at(2, 0)].0, 2);
}

#[tokio::test(start_paused = true)]
async fn a_move_that_was_left_half_way_is_finished() {
    let fake = FakeStock::new(1);
    let store = split_stock(&fake, 8).await;
    let out = StockCommand::TransferOut {
        transfer_id: TransferId::from_bytes([1; 16]),
        to: stock().shard(3).centre,
        quantity: units(2),
    };
    store.run(&stock().shard(1), out).await.unwrap();
    assert_eq!(available(&fake), [2, 0, 2, 2]);
    let other = process(&fake, 2);
    assert!(other.balance(&stock()).await.unwrap() >= 2);
    assert_eq!(available(&fake), [2, 2, 2, 2]);
    assert_eq!(other.balance(&stock()).await.unwrap(), 0);
    for number in 0..SHARDS {
        fake.group(&stock().shard(number)).audit();
    }
}

/// Many clients in several processes, some answers lost: whatever is granted is held once, and nothing is oversold.
async fn crowd(seed: u64) {
    const UNITS: u32 = 120;
    let fake = FakeStock::new(seed);
    split_stock(&fake, UNITS).await;
    fake.lose_one_in(Some(10));
    let granted = Arc::new(Mutex::new(BTreeMap::new()));
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let mut tasks = Vec::new();
    for worker in 0..12_u64 {
        let store = process(&fake, seed * 100 + worker / 4);
        let (granted, asked) = (Arc::clone(&granted), Arc::clone(&asked));
        let mut random = SmallRng::seed_from_u64(seed * 1_000 + worker);
        tasks.push(tokio::spawn(async move {
            for nth in 0..12 {
                let id = id(worker * 1_000 + nth);
                let quantity = random.random_range(1..4_u32);
                asked.lock().unwrap().insert(id);
                for _ in 0..4 {
                    match store.run(&stock(), reserve(id, quantity)).await {
                        Ok(_) => {
                            granted.lock().unwrap().insert(id, u64::from(quantity));
                            break;
                        }
                        Err(error) if error.outcome() == Outcome::Unknown => {}
                        Err(_) => break,
                    }
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    fake.lose_one_in(None);
    let store = process(&fake, seed + 7);
    store.balance(&stock()).await.unwrap();
    for number in 0..SHARDS {
        fake.group(&stock().shard(number)).audit();
    }
    let held = fake.held(&stock());
    let granted = granted.lock().unwrap().clone();
    for id in granted.keys() {
        assert!(
            held.contains_key(id),
            "{id} was granted and is lost, seed {seed}"
        );
    }
    assert!(
        held.keys().all(|id| asked.lock().unwrap().contains(id)),
        "seed {seed}"
    );
    let total = store.total(&stock()).await.unwrap().unwrap();
    assert_eq!(total.on_hand(), u64::from(UNITS), "seed {seed}");
    assert_eq!(total.in_transit, 0, "seed {seed}");
    assert!(
        granted.values().sum::<u64>() <= total.reserved,
        "seed {seed}"
    );
    assert!(
        total.available < 3,
        "{total:?}: 144 wishes want it all, seed {seed}"
    );
    // Whatever is held can be confirmed, and is found by a process that knows nothing.
    let fresh = process(&fake, seed + 8);
    for id in held.keys() {
        let confirm = StockCommand::Confirm {
            reservation_id: *id,
            order_id: order(1),
        };
        fresh.run(&stock(), confirm).await.unwrap();
    }
    let total = fresh.total(&stock()).await.unwrap().unwrap();
    assert_eq!(total.reserved, 0, "seed {seed}");
}

#[tokio::test(start_paused = true)]
async fn a_crowd_oversells_nothing_and_loses_nothing() {
    for seed in 0..12 {
        crowd(seed).await;
    }
}

//! The stock store over a register bucket in memory whose answers get lost, come late, or never come.

#![cfg(feature = "store")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod group;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use group::{Group, command, order, reservation, units};
use proptest::prelude::*;
use souk_inventory::store::{
    RowPage, StockBucket, StockClock, StockStore, StockStoreError, StockStoreOptions, stock_bucket,
};
use souk_inventory::{
    CHANGES_MAX, Centre, CommandId, Hold, HoldRow, HoldStatus, LEDGER_PAGES_KEPT, ReservationId,
    Row, RowKey, SHORTEN_MAX, SWEEP_MAX, Sku, StockAnswer, StockCommand, StockId,
};
use souk_kv_client::{
    BucketMode, Condition, ErrorCode, FailedCondition, Outcome, RequestError, RowAction,
    RowOperation, TransactOutcome, Value, Version, Versioned,
};

/// What happens to one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    /// Decided, but the answer is lost.
    AnswerLost,
    /// Lost on the way, and the sender cannot know.
    Lost,
    /// Held up: the sender hears nothing, and it lands so many calls later.
    Late(usize),
    /// Refused before anything was sent.
    NotSent,
    /// Answered; before the next call another process brings so many units in, new and returned.
    ThenRestocked(u32),
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Bytes, Versioned>,
    versions: u64,
    fates: VecDeque<Fate>,
    late: Vec<(usize, Vec<RowOperation>)>,
    gets: usize,
    rows_read: usize,
    writes: usize,
}

impl State {
    fn row(&self, key: &Bytes) -> Option<Versioned> {
        self.rows.get(key).cloned()
    }

    fn transact(&mut self, operations: &[RowOperation]) -> TransactOutcome {
        assert!((1..=CHANGES_MAX).contains(&operations.len()));
        let keys: BTreeSet<&Bytes> = operations
            .iter()
            .map(|operation| &operation.sort_key)
            .collect();
        assert_eq!(keys.len(), operations.len(), "a row is named twice");
        let mut failed = Vec::new();
        for (index, operation) in operations.iter().enumerate() {
            let current = self.row(&operation.sort_key);
            let holds = match (&operation.condition, &current) {
                (Condition::Any, _)
                | (Condition::Missing, None)
                | (Condition::Present, Some(_)) => true,
                (Condition::Version(expected), Some(row)) => *expected == row.version,
                (Condition::Missing, Some(_))
                | (Condition::Present | Condition::Version(_), None) => false,
            };
            if !holds {
                failed.push(FailedCondition {
                    operation: index,
                    current,
                });
            }
        }
        if !failed.is_empty() {
            return TransactOutcome::NotApplied { failed };
        }
        self.writes += 1;
        let versions = operations
            .iter()
            .map(|operation| self.apply(operation))
            .collect();
        TransactOutcome::Applied { versions }
    }

    fn apply(&mut self, operation: &RowOperation) -> Option<Version> {
        match &operation.action {
            RowAction::Put(value) => {
                self.versions += 1;
                let version = Version(Bytes::copy_from_slice(&self.versions.to_be_bytes()));
                let row = Versioned {
                    value: value.clone(),
                    version: version.clone(),
                };
                self.rows.insert(operation.sort_key.clone(), row);
                Some(version)
            }
            RowAction::Delete => {
                self.rows.remove(&operation.sort_key);
                None
            }
            RowAction::Check => None,
        }
    }

    /// What another process does when it receives units, new and returned ones.
    fn restock(&mut self, count: u32) {
        let rows = self
            .rows
            .iter()
            .map(|(key, row)| (key.clone(), row.value.data.clone()));
        let mut group = Group {
            rows: rows.collect(),
        };
        let before = group.clone();
        let (return_id, quantity) = (group::returned(200), units(count));
        for command in [
            StockCommand::Receive {
                command_id: command(200),
                quantity,
            },
            StockCommand::Return {
                return_id,
                order_id: order(1),
                quantity,
            },
        ] {
            group.one(command, 0).unwrap();
        }
        for (key, value) in group
            .rows
            .iter()
            .filter(|(key, value)| before.rows.get(*key) != Some(*value))
        {
            self.apply(&RowOperation::put(
                key,
                Condition::Any,
                Value::bytes(value.clone()),
            ));
        }
    }

    /// Lets held-up writes land whose time has come.
    fn tick(&mut self) {
        let mut waiting = Vec::new();
        for (left, operations) in std::mem::take(&mut self.late) {
            if left == 0 {
                self.transact(&operations);
            } else {
                waiting.push((left - 1, operations));
            }
        }
        self.late = waiting;
    }
}

#[derive(Debug, Clone, Default)]
struct FakeStock(Arc<Mutex<State>>);

fn failure(code: ErrorCode, outcome: Outcome) -> RequestError {
    RequestError {
        code,
        outcome,
        message: String::new(),
        retry_after: None,
        node: None,
        retryable: true,
    }
}

impl FakeStock {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn fates(&self, fates: impl IntoIterator<Item = Fate>) {
        self.state().fates.extend(fates);
    }

    /// Everything there, for the audit.
    fn group(&self) -> Group {
        let state = self.state();
        Group {
            rows: state
                .rows
                .iter()
                .map(|(key, row)| (key.clone(), row.value.data.clone()))
                .collect(),
        }
    }

    /// Lets everything land that is still on its way.
    fn settle(&self) {
        let mut state = self.state();
        while !state.late.is_empty() {
            state.tick();
        }
    }

    fn hold(&self, id: ReservationId) -> Option<HoldStatus> {
        let key = RowKey::Hold(id);
        let row = self.state().row(&key.to_bytes())?;
        match Row::from_bytes(key, &row.value.data).unwrap() {
            Row::Hold(HoldRow::Made(hold)) => Some(hold.status),
            _ => None,
        }
    }
}

impl StockBucket for FakeStock {
    async fn get(
        &self,
        rows: &[(&StockId, RowKey)],
        _: Duration,
    ) -> Vec<Result<Option<Versioned>, RequestError>> {
        tokio::task::yield_now().await;
        let mut answers = Vec::new();
        self.state().gets += 1;
        for (_, key) in rows {
            // Rows of one call are not read at one instant.
            tokio::task::yield_now().await;
            let mut state = self.state();
            state.tick();
            state.rows_read += 1;
            answers.push(Ok(state.row(&key.to_bytes())));
        }
        answers
    }

    async fn scan(
        &self,
        _: &StockId,
        prefix: &str,
        from: Option<RowKey>,
        limit: usize,
        _: Duration,
    ) -> Result<RowPage, RequestError> {
        tokio::task::yield_now().await;
        let mut state = self.state();
        state.tick();
        let from = from.map(|key| key.to_bytes()).unwrap_or_default();
        let rows = state
            .rows
            .iter()
            .filter(|(key, _)| key.starts_with(prefix.as_bytes()) && **key >= from);
        let mut rows: Vec<_> = rows
            .take(limit + 1)
            .map(|(key, row)| (key.clone(), row.value.data.clone()))
            .collect();
        let complete = rows.len() <= limit;
        rows.truncate(limit);
        Ok(RowPage { rows, complete })
    }

    async fn transact(
        &self,
        _: &StockId,
        operations: Vec<RowOperation>,
        _: Duration,
    ) -> Result<TransactOutcome, RequestError> {
        tokio::task::yield_now().await;
        let answer = {
            let mut state = self.state();
            state.tick();
            match state.fates.pop_front().unwrap_or(Fate::Answered) {
                Fate::Answered => Ok(state.transact(&operations)),
                Fate::AnswerLost => {
                    state.transact(&operations);
                    Err(failure(ErrorCode::Timeout, Outcome::Unknown))
                }
                Fate::Lost => Err(failure(ErrorCode::Timeout, Outcome::Unknown)),
                Fate::Late(calls) => {
                    state.late.push((calls, operations));
                    Err(failure(ErrorCode::Timeout, Outcome::Unknown))
                }
                Fate::ThenRestocked(count) => {
                    let answer = state.transact(&operations);
                    state.restock(count);
                    Ok(answer)
                }
                Fate::NotSent => Err(failure(ErrorCode::Unavailable, Outcome::NotApplied)),
            }
        };
        tokio::task::yield_now().await;
        answer
    }
}

/// A store over a fake bucket, with a clock that the test sets.
#[derive(Clone)]
struct Shop {
    fake: FakeStock,
    clock: Arc<AtomicU64>,
    store: StockStore<FakeStock>,
}

impl Shop {
    fn new(fake: FakeStock, queue_max: usize) -> Self {
        let clock = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&clock);
        let options = StockStoreOptions {
            clock: StockClock::new(move || read.load(Ordering::SeqCst)),
            seed: Some(7),
            queue_max,
            ..StockStoreOptions::default()
        };
        Self {
            store: StockStore::new(fake.clone(), options),
            fake,
            clock,
        }
    }

    async fn with_available(count: u32) -> Self {
        let shop = Self::new(FakeStock::default(), 10_000);
        shop.run(StockCommand::Receive {
            command_id: command(255),
            quantity: units(count),
        })
        .await
        .unwrap();
        shop
    }

    /// Another process with a store of its own over the same stock.
    fn another(&self) -> Self {
        Self::new(self.fake.clone(), 10_000)
    }

    async fn run(&self, command: StockCommand) -> Result<StockAnswer, StockStoreError> {
        self.store.run(&stock(), command).await
    }

    /// Runs commands at once.
    async fn all(&self, commands: Vec<StockCommand>) -> Vec<Result<StockAnswer, StockStoreError>> {
        let tasks: Vec<_> = commands
            .into_iter()
            .map(|command| {
                let shop = self.clone();
                tokio::spawn(async move { shop.run(command).await })
            })
            .collect();
        let mut answers = Vec::new();
        for task in tasks {
            answers.push(task.await.unwrap());
        }
        answers
    }
}

fn stock() -> StockId {
    StockId {
        sku: Sku::new("a").unwrap(),
        centre: Centre::new("near").unwrap(),
    }
}

fn id(number: usize) -> ReservationId {
    ReservationId::from_bytes((number as u128 + 1_000).to_be_bytes())
}

fn reserve(number: usize, count: u32, expires_unix_ms: u64) -> StockCommand {
    StockCommand::Reserve {
        reservation_id: id(number),
        quantity: units(count),
        expires_unix_ms,
    }
}

fn is_held(answer: &Result<StockAnswer, StockStoreError>) -> bool {
    matches!(answer, Ok(StockAnswer::Reservation(reservation)) if reservation.status == HoldStatus::Held)
}

#[tokio::test(start_paused = true)]
async fn commands_that_wait_together_are_written_together() {
    let shop = Shop::with_available(1_000).await;
    let before = shop.fake.state().writes;
    let answers = shop
        .all((0..100).map(|number| reserve(number, 1, 1_000)).collect())
        .await;
    assert!(answers.iter().all(is_held));
    let writes = shop.fake.state().writes - before;
    // The first command of an idle stock goes at once, the others while it is under way.
    assert!(writes <= 3, "{writes} writes for 100 commands");
    shop.fake.group().audit();
}

#[tokio::test(start_paused = true)]
async fn the_ledger_is_shortened_on_the_way() {
    let shop = Shop::with_available(1).await;
    let writes = LEDGER_PAGES_KEPT as usize + 2 * SHORTEN_MAX;
    for number in 0..writes {
        let command_id = CommandId::from_bytes((number as u128 + 1_000).to_be_bytes());
        let quantity = units(1);
        let received = shop
            .run(StockCommand::Receive {
                command_id,
                quantity,
            })
            .await;
        assert!(received.is_ok(), "{number}: {received:?}");
    }
    let summary = shop.store.summary(&stock()).await.unwrap();
    assert!(summary.ledger_first > 0, "{summary:?}");
    let checkpoint = shop.store.ledger_checkpoint(&stock()).await.unwrap();
    assert_eq!(checkpoint.pages, summary.ledger_first);
    shop.fake.group().audit();
}

#[tokio::test(start_paused = true)]
async fn new_reservations_on_a_busy_stock_read_nothing() {
    let shop = Shop::with_available(1_000).await;
    let before = shop.fake.state().rows_read;
    shop.all((0..500).map(|number| reserve(number, 1, 1_000)).collect())
        .await;
    // One look at the summary when the driver starts.
    assert_eq!(shop.fake.state().rows_read - before, 1);
}

#[tokio::test(start_paused = true)]
async fn two_processes_never_grant_more_than_there_is() {
    let one = Shop::with_available(50).await;
    let other = one.another();
    let wants = |first: usize| {
        (first..first + 60)
            .map(|number| reserve(number, 1, 1_000))
            .collect()
    };
    let (left, right) = tokio::join!(one.all(wants(0)), other.all(wants(100)));
    let granted = left
        .iter()
        .chain(&right)
        .filter(|answer| is_held(answer))
        .count();
    assert_eq!(granted, 50);
    assert!(left.iter().chain(&right).all(
        |answer| is_held(answer) || answer.as_ref().unwrap_err().code() == "stock_insufficient"
    ));
    one.fake.group().audit();
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_is_found_and_told() {
    let shop = Shop::with_available(5).await;
    shop.fake.fates([Fate::AnswerLost]);
    assert!(is_held(&shop.run(reserve(1, 2, 1_000)).await));
    assert_eq!(shop.fake.group().summary().counts.reserved, 2);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_lands_late_counts_once() {
    for calls in 0..8 {
        let shop = Shop::with_available(5).await;
        shop.fake.fates([Fate::Late(calls)]);
        assert!(is_held(&shop.run(reserve(1, 2, 1_000)).await));
        shop.fake.settle();
        assert_eq!(
            shop.fake.group().summary().counts.reserved,
            2,
            "late by {calls}"
        );
        shop.fake.group().audit();
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_not_belied_by_a_write_that_lands_later() {
    // The hold's time passes while its write is held up, so the second look finds nothing and refuses.
    for calls in 0..20 {
        let shop = Shop::with_available(1).await;
        shop.fake.fates([Fate::Late(calls)]);
        let task = {
            let shop = shop.clone();
            tokio::spawn(async move { shop.run(reserve(1, 1, 900)).await })
        };
        while !shop.fake.state().fates.is_empty() {
            tokio::task::yield_now().await;
        }
        shop.clock.store(1_000, Ordering::SeqCst);
        let error = task.await.unwrap().unwrap_err();
        shop.fake.settle();
        let expected = if shop.fake.hold(id(1)).is_some() {
            "reservation_expired"
        } else {
            "hold_expiry_passed"
        };
        assert_eq!(error.code(), expected, "late by {calls}");
        shop.fake.group().audit();
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_sent_means_nothing_done() {
    let shop = Shop::with_available(1).await;
    shop.fake.fates([Fate::NotSent]);
    let error = shop.run(reserve(1, 1, 1_000)).await.unwrap_err();
    assert_eq!(
        (error.code(), error.outcome()),
        ("stock_unreachable", Outcome::NotApplied)
    );
    assert!(is_held(&shop.run(reserve(1, 1, 1_000)).await));
}

#[tokio::test(start_paused = true)]
async fn doubt_that_cannot_be_settled_in_time_is_said() {
    let shop = Shop::with_available(1).await;
    shop.fake.fates([Fate::Lost, Fate::NotSent]);
    let error = shop.run(reserve(1, 1, 1_000)).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    shop.fake.fates(std::iter::repeat_n(Fate::Lost, 10_000));
    let error = shop.run(reserve(2, 1, 1_000)).await.unwrap_err();
    assert_eq!(
        (error.code(), error.outcome()),
        ("stock_contended", Outcome::Unknown)
    );
    shop.fake.state().fates.clear();
    assert!(
        is_held(&shop.run(reserve(2, 1, 1_000)).await),
        "the driver recovers"
    );
}

#[tokio::test(start_paused = true)]
async fn a_command_sent_again_is_answered_and_not_repeated() {
    let shop = Shop::with_available(9).await;
    let receive = StockCommand::Receive {
        command_id: command(1),
        quantity: units(5),
    };
    let first = shop.run(receive.clone()).await.unwrap();
    assert_eq!(shop.run(receive).await.unwrap(), first);
    assert!(is_held(&shop.run(reserve(1, 2, 1_000)).await));
    assert!(is_held(&shop.another().run(reserve(1, 2, 1_000)).await));
    assert_eq!(
        shop.run(reserve(1, 3, 1_000)).await.unwrap_err().code(),
        "id_reused"
    );
    let counts = shop.store.summary(&stock()).await.unwrap().counts;
    assert_eq!((counts.available, counts.reserved), (12, 2));
}

#[tokio::test(start_paused = true)]
async fn whoever_took_the_last_unit_is_told_so_again() {
    let shop = Shop::with_available(1).await;
    assert!(is_held(&shop.run(reserve(1, 1, 1_000)).await));
    // Alone, and in a batch that writes something else.
    assert!(is_held(&shop.another().run(reserve(1, 1, 1_000)).await));
    let broken = StockCommand::Return {
        return_id: group::returned(1),
        order_id: order(1),
        quantity: units(1),
    };
    let other = shop.another();
    let answers = other
        .all(vec![StockCommand::Sweep, reserve(1, 1, 1_000), broken])
        .await;
    assert!(is_held(&answers[1]), "{answers:?}");
}

/// Runs `first`, lets another process bring five units in, and runs `second` while the driver still remembers the
/// summary from before.
async fn check_not_refused(shop: &Shop, first: StockCommand, second: StockCommand) {
    shop.fake.fates([Fate::ThenRestocked(5)]);
    let task = {
        let shop = shop.clone();
        tokio::spawn(async move { shop.run(first).await })
    };
    while !shop.fake.state().fates.is_empty() {
        tokio::task::yield_now().await;
    }
    shop.run(second).await.unwrap();
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_never_rests_on_a_remembered_summary() {
    let shop = Shop::with_available(1).await;
    check_not_refused(&shop, reserve(1, 1, 1_000), reserve(2, 5, 1_000)).await;
    let shop = Shop::with_available(1).await;
    let (return_id, quantity) = (group::returned(1), units(1));
    shop.run(StockCommand::Return {
        return_id,
        order_id: order(1),
        quantity,
    })
    .await
    .unwrap();
    let discard = StockCommand::Discard {
        command_id: command(1),
        quantity,
    };
    check_not_refused(
        &shop,
        discard,
        StockCommand::Inspect {
            return_id,
            sellable: 1,
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_expired_holds_does_not_stop_who_needs_the_units() {
    let holds = 5 * SWEEP_MAX;
    let shop = Shop::with_available(holds as u32).await;
    shop.all((0..holds).map(|number| reserve(number, 1, 1_000)).collect())
        .await;
    shop.clock.store(1_000, Ordering::SeqCst);
    assert!(is_held(
        &shop.run(reserve(9_999, holds as u32, 2_000)).await
    ));
    shop.fake.group().audit();
}

#[tokio::test(start_paused = true)]
async fn a_reservation_goes_from_hold_to_shipment() {
    let shop = Shop::with_available(3).await;
    let (reservation_id, order_id) = (reservation(1), order(1));
    let reserve = StockCommand::Reserve {
        reservation_id,
        quantity: units(2),
        expires_unix_ms: 1_000,
    };
    let steps = [
        reserve,
        StockCommand::Confirm {
            reservation_id,
            order_id,
        },
        StockCommand::Ship {
            reservation_id,
            order_id,
        },
    ];
    for step in steps {
        shop.run(step).await.unwrap();
    }
    let found = shop
        .store
        .reservation(&stock(), reservation_id)
        .await
        .unwrap();
    assert!(
        matches!(found, Some(HoldRow::Made(hold)) if hold.status == HoldStatus::Shipped { order_id })
    );
    assert_eq!(
        shop.store.summary(&stock()).await.unwrap().counts.on_hand(),
        1
    );
    let pages = shop.store.ledger(&stock(), 1, 2).await.unwrap();
    assert_eq!(
        pages.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
        [1, 2]
    );
    let summaries = shop.store.summaries(&[stock(), stock()]).await;
    assert!(
        summaries
            .into_iter()
            .all(|summary| summary.unwrap().counts.available == 1)
    );
}

#[tokio::test(start_paused = true)]
async fn too_many_waiting_commands_are_refused_at_once() {
    let shop = Shop::new(FakeStock::default(), 2);
    let answers = shop
        .all((0..10).map(|number| reserve(number, 1, 1_000)).collect())
        .await;
    let refused: Vec<_> = answers
        .iter()
        .filter_map(|answer| answer.as_ref().err())
        .map(|error| error.code())
        .collect();
    assert!(
        refused.contains(&"stock_queue_full") && refused.contains(&"stock_insufficient"),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn rows_that_contradict_each_other_are_reported() {
    let shop = Shop::with_available(1).await;
    assert!(is_held(&shop.run(reserve(1, 1, 1_000)).await));
    // A hold of more units than the stock has reserved.
    let key = RowKey::Hold(id(1));
    let stored = shop.fake.state().row(&key.to_bytes()).unwrap();
    let row = Row::from_bytes(key, &stored.value.data).unwrap();
    let Row::Hold(HoldRow::Made(hold)) = row else {
        panic!("{row:?} is no hold");
    };
    let larger = Row::Hold(HoldRow::Made(Hold {
        quantity: units(2),
        ..hold
    }));
    let larger = Value::bytes(larger.to_bytes());
    let put = RowOperation::put(key.to_bytes(), Condition::Any, larger);
    shop.fake.state().transact(&[put]);
    shop.clock.store(1_000, Ordering::SeqCst);
    let error = shop.run(reserve(1, 1, 1_000)).await.unwrap_err();
    assert_eq!(
        (error.code(), error.outcome()),
        ("stock_unreadable", Outcome::NotApplied)
    );
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_newer_release_are_left_alone() {
    let shop = Shop::new(FakeStock::default(), 10);
    let newer = Value::bytes(Bytes::from_static(br#"{"format":9}"#));
    shop.fake
        .state()
        .transact(&[RowOperation::put("s", Condition::Missing, newer)]);
    let error = shop.run(reserve(1, 1, 1_000)).await.unwrap_err();
    assert_eq!(
        (error.code(), error.outcome()),
        ("stock_unreadable", Outcome::NotApplied)
    );
    assert_eq!(shop.fake.state().writes, 1);
}

#[test]
fn the_bucket_is_a_register() {
    assert_eq!(stock_bucket("stock").mode(), BucketMode::Register);
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Answered),
        1 => Just(Fate::AnswerLost),
        1 => Just(Fate::Lost),
        2 => (0..12_usize).prop_map(Fate::Late),
        1 => Just(Fate::NotSent),
    ]
}

#[derive(Debug, Clone, Copy)]
enum Wish {
    Reserve { count: u32, hold_ms: u64 },
    Confirm(usize),
    Release(usize),
    Pass(u64),
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        4 => (1..4_u32, 1..50_u64).prop_map(|(count, hold_ms)| Wish::Reserve { count, hold_ms }),
        2 => (0..12_usize).prop_map(Wish::Confirm),
        1 => (0..12_usize).prop_map(Wish::Release),
        1 => (1..30_u64).prop_map(Wish::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Two processes, writes that vanish, linger and land late: no unit is granted twice, and every certain answer is
    /// true once everything has landed.
    #[test]
    fn certain_answers_stay_true(
        waves in prop::collection::vec(prop::collection::vec((any::<bool>(), wish()), 1..8), 1..6),
        fates in prop::collection::vec(fate(), 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let one = Shop::with_available(6).await;
            let other = one.another();
            one.fake.fates(fates);
            let (mut granted, mut refused, mut confirmed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
            for (wave, wishes) in waves.iter().enumerate() {
                let mut sent = Vec::new();
                for (number, (first, wish)) in wishes.iter().enumerate() {
                    let shop = if *first { &one } else { &other };
                    let now = shop.clock.load(Ordering::SeqCst);
                    let command = match *wish {
                        // New in each wave, so that a grant belongs to one request.
                        Wish::Reserve { count, hold_ms } => reserve(wave * 100 + number, count, now + hold_ms),
                        Wish::Confirm(number) => StockCommand::Confirm {
                            reservation_id: id(wave.saturating_sub(1) * 100 + number), order_id: order(1),
                        },
                        Wish::Release(number) => {
                            StockCommand::Release { reservation_id: id(wave.saturating_sub(1) * 100 + number) }
                        }
                        Wish::Pass(ms) => {
                            shop.clock.fetch_add(ms, Ordering::SeqCst);
                            continue;
                        }
                    };
                    let shop = shop.clone();
                    let task = { let command = command.clone(); tokio::spawn(async move { shop.run(command).await }) };
                    sent.push((command, task));
                }
                for (command, task) in sent {
                    let outcome = task.await.unwrap();
                    match (command, outcome) {
                        (StockCommand::Reserve { reservation_id, .. }, Ok(_)) => drop(granted.insert(reservation_id)),
                        (StockCommand::Reserve { reservation_id, .. }, Err(error)) => {
                            // An ended hold was granted to an attempt whose answer was lost.
                            let is_granted = matches!(error.code(), "reservation_ended" | "reservation_expired");
                            if error.outcome() == Outcome::NotApplied && !is_granted {
                                refused.insert(reservation_id);
                            }
                        }
                        (StockCommand::Confirm { reservation_id, .. }, Ok(_)) => drop(confirmed.insert(reservation_id)),
                        _ => {}
                    }
                }
                one.fake.group().audit();
            }
            one.fake.settle();
            one.fake.group().audit();
            for reservation_id in &granted {
                assert!(one.fake.hold(*reservation_id).is_some(), "{reservation_id} was granted and is not there");
            }
            for reservation_id in &refused {
                assert_eq!(one.fake.hold(*reservation_id), None, "{reservation_id} was refused and is there");
            }
            for reservation_id in &confirmed {
                let status = one.fake.hold(*reservation_id);
                assert_eq!(status, Some(HoldStatus::Allocated { order_id: order(1) }));
            }
        });
    }
}

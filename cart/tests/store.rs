//! The cart store over three replicas in memory that lose touch, time out after writing, and meet again.

#![cfg(feature = "store")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use souk_cart::store::{
    CartAnswer, CartBucket, CartId, CartReading, CartStore, CartStoreError, CartStoreOptions,
    cart_bucket,
};
use souk_cart::{AddTag, Cart, Quantity, RemovalTag, Sku};
use souk_kv_client::{
    BucketMode, Consistency, Context, ErrorCode, Outcome, Read, RequestError, Value, Written,
};

const REPLICAS: usize = 3;

/// One replica of one cart: live values by the number of their write, and every write it has heard of.
#[derive(Debug, Clone, Default)]
struct Replica {
    live: BTreeMap<u32, Bytes>,
    heard: BTreeSet<u32>,
}

impl Replica {
    fn merge(&mut self, other: &Self) {
        self.live
            .retain(|write, _| other.live.contains_key(write) || !other.heard.contains(write));
        for (write, value) in &other.live {
            if !self.heard.contains(write) {
                self.live.insert(*write, value.clone());
            }
        }
        self.heard.extend(&other.heard);
    }
}

/// What goes wrong next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Weather {
    /// Which replicas can be reached.
    up: [bool; REPLICAS],
    /// Whether a write is stored and its answer lost.
    answers_lost: bool,
}

#[derive(Debug, Default)]
struct State {
    replicas: [Replica; REPLICAS],
    weather: Weather,
    writes: u32,
    /// What every read fails with, if anything.
    refuse_reads: Option<ErrorCode>,
}

#[derive(Debug)]
struct FakeCarts(Mutex<State>);

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

fn to_context(heard: &BTreeSet<u32>) -> Context {
    Context(heard.iter().flat_map(|write| write.to_be_bytes()).collect())
}

fn from_context(context: &Context) -> BTreeSet<u32> {
    context
        .0
        .chunks(4)
        .map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap()))
        .collect()
}

impl FakeCarts {
    fn new() -> Self {
        let fake = Self(Mutex::default());
        fake.weather([true; REPLICAS]);
        fake
    }

    fn weather(&self, up: [bool; REPLICAS]) {
        self.0.lock().unwrap().weather = Weather {
            up,
            answers_lost: false,
        };
    }

    fn lose_answers(&self) {
        self.0.lock().unwrap().weather.answers_lost = true;
    }

    fn refuse_reads(&self, code: ErrorCode) {
        self.0.lock().unwrap().refuse_reads = Some(code);
    }

    fn heal(&self) {
        self.weather([true; REPLICAS]);
        let mut state = self.0.lock().unwrap();
        let mut all = Replica::default();
        state.replicas.iter().for_each(|replica| all.merge(replica));
        state.replicas = std::array::from_fn(|_| all.clone());
    }

    /// How many values stand side by side over all replicas.
    fn siblings(&self) -> usize {
        let state = self.0.lock().unwrap();
        let mut all = Replica::default();
        state.replicas.iter().for_each(|replica| all.merge(replica));
        all.live.len()
    }

    fn writes(&self) -> u32 {
        self.0.lock().unwrap().writes
    }
}

impl CartBucket for &FakeCarts {
    async fn read(
        &self,
        _: &CartId,
        consistency: Consistency,
        _: Duration,
    ) -> Result<Read, RequestError> {
        let state = self.0.lock().unwrap();
        if let Some(code) = state.refuse_reads {
            return Err(failure(code, Outcome::NotApplied));
        }
        let up: Vec<&Replica> = state
            .replicas
            .iter()
            .zip(state.weather.up)
            .filter(|(_, up)| *up)
            .map(|(r, _)| r)
            .collect();
        let needed = if consistency == Consistency::One {
            1
        } else {
            2
        };
        if up.len() < needed {
            return Err(failure(ErrorCode::Unavailable, Outcome::NotApplied));
        }
        let mut merged = Replica::default();
        up.iter()
            .take(needed)
            .for_each(|replica| merged.merge(replica));
        let values = merged
            .live
            .values()
            .map(|bytes| Value::bytes(bytes.clone()))
            .collect();
        Ok(Read {
            values,
            context: to_context(&merged.heard),
            ..Read::default()
        })
    }

    async fn write(
        &self,
        _: &CartId,
        cart: Bytes,
        context: &Context,
        _: Duration,
    ) -> Result<Written, RequestError> {
        let mut state = self.0.lock().unwrap();
        let (number, weather) = (state.writes, state.weather);
        state.writes += 1;
        let mut written = Replica {
            live: BTreeMap::from([(number, cart)]),
            heard: from_context(context),
        };
        written.heard.insert(number);
        let mut copies = 0;
        for (replica, _) in state
            .replicas
            .iter_mut()
            .zip(weather.up)
            .filter(|(_, up)| *up)
        {
            replica.merge(&written);
            copies += 1;
        }
        match copies {
            0 => Err(failure(ErrorCode::Unavailable, Outcome::NotApplied)),
            _ if weather.answers_lost => Err(failure(ErrorCode::Timeout, Outcome::Unknown)),
            _ => Ok(Written {
                copies,
                degraded: copies < 2,
                context: to_context(&written.heard),
                explain: None,
            }),
        }
    }
}

fn store(fake: &FakeCarts) -> CartStore<&FakeCarts> {
    CartStore::new(fake, CartStoreOptions::default())
}

fn id() -> CartId {
    CartId::new("c").unwrap()
}

fn sku(text: &str) -> Sku {
    Sku::new(text).unwrap()
}

fn units(count: u32) -> Quantity {
    Quantity::new(count).unwrap()
}

fn tag(number: u128) -> AddTag {
    AddTag::from_bytes(number.to_be_bytes())
}

async fn add(fake: &FakeCarts, number: u128, article: &str) -> Result<CartAnswer, CartStoreError> {
    store(fake)
        .add(&id(), tag(number), sku(article), units(1), 0)
        .await
}

async fn remove(
    fake: &FakeCarts,
    number: u128,
    article: &str,
) -> Result<CartAnswer, CartStoreError> {
    store(fake)
        .remove(&id(), RemovalTag::from(tag(number)), &sku(article))
        .await
}

/// Checks an answer: SKUs with quantities, and whether it is degraded.
fn check(answer: &CartAnswer, expected: &[(&str, u64)], degraded: bool) {
    let view = answer.cart.view();
    let lines: Vec<_> = view
        .lines()
        .iter()
        .map(|line| (line.sku.as_str(), line.quantity))
        .collect();
    assert_eq!(lines, expected);
    assert_eq!(
        answer.is_degraded(),
        degraded,
        "{:?} {}",
        answer.reading,
        answer.few_copies
    );
}

#[tokio::test]
async fn a_healthy_cart_is_whole_and_keeps_one_value() {
    let fake = FakeCarts::new();
    check(&add(&fake, 1, "a").await.unwrap(), &[("a", 1)], false);
    check(
        &add(&fake, 2, "b").await.unwrap(),
        &[("a", 1), ("b", 1)],
        false,
    );
    check(&remove(&fake, 3, "a").await.unwrap(), &[("b", 1)], false);
    check(&store(&fake).get(&id()).await.unwrap(), &[("b", 1)], false);
    assert_eq!(fake.siblings(), 1);
}

#[tokio::test]
async fn with_one_replica_left_adds_are_taken_and_marked() {
    let fake = FakeCarts::new();
    add(&fake, 1, "a").await.unwrap();
    fake.weather([false, false, true]);
    let answer = add(&fake, 2, "b").await.unwrap();
    check(&answer, &[("a", 1), ("b", 1)], true);
    assert_eq!(
        (answer.reading, answer.few_copies),
        (CartReading::OneReplica, true)
    );
    fake.heal();
    check(
        &store(&fake).get(&id()).await.unwrap(),
        &[("a", 1), ("b", 1)],
        false,
    );
}

#[tokio::test]
async fn an_add_that_nothing_can_be_read_for_becomes_a_sibling() {
    let fake = FakeCarts::new();
    add(&fake, 1, "a").await.unwrap();
    fake.refuse_reads(ErrorCode::Corrupt);
    let answer = add(&fake, 2, "b").await.unwrap();
    check(&answer, &[("b", 1)], true);
    assert_eq!(answer.reading, CartReading::Nothing);
    assert_eq!(fake.siblings(), 2);
    fake.0.lock().unwrap().refuse_reads = None;
    check(
        &add(&fake, 3, "c").await.unwrap(),
        &[("a", 1), ("b", 1), ("c", 1)],
        false,
    );
    assert_eq!(fake.siblings(), 1);
}

#[tokio::test]
async fn a_request_at_fault_is_not_written_blind() {
    let fake = FakeCarts::new();
    fake.refuse_reads(ErrorCode::BucketNotFound);
    let refusal = add(&fake, 1, "a").await.unwrap_err();
    assert_eq!((refusal.code(), fake.writes()), ("cart_read_failed", 0));
}

#[tokio::test]
async fn a_value_of_a_newer_release_is_added_beside_and_never_overwritten() {
    let fake = FakeCarts::new();
    let newer = Bytes::from_static(br#"{"format":9}"#);
    (&fake)
        .write(&id(), newer, &Context::default(), Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(
        add(&fake, 1, "a").await.unwrap().reading,
        CartReading::Nothing
    );
    assert_eq!(fake.siblings(), 2);
    assert_eq!(
        remove(&fake, 2, "a").await.unwrap_err().code(),
        "cart_format_newer"
    );
    assert_eq!(
        store(&fake).get(&id()).await.unwrap_err().code(),
        "cart_format_newer"
    );
    assert_eq!(fake.siblings(), 2);
}

#[tokio::test]
async fn one_stale_copy_does_not_answer_that_there_is_nothing_to_remove() {
    let fake = FakeCarts::new();
    fake.weather([true, true, false]);
    add(&fake, 1, "a").await.unwrap();
    fake.weather([false, false, true]);
    assert_eq!(
        remove(&fake, 2, "a").await.unwrap_err().code(),
        "cart_read_partial"
    );
    let change = store(&fake)
        .change(&id(), tag(3), &sku("a"), units(2), 0)
        .await;
    assert_eq!(change.unwrap_err().code(), "cart_read_partial");
    fake.heal();
    check(&remove(&fake, 2, "a").await.unwrap(), &[], false);
    let change = store(&fake)
        .change(&id(), tag(3), &sku("a"), units(2), 0)
        .await;
    assert_eq!(change.unwrap_err().code(), "cart_line_missing");
}

#[tokio::test]
async fn an_add_whose_answer_was_lost_counts_once_when_sent_again() {
    let fake = FakeCarts::new();
    fake.lose_answers();
    assert_eq!(
        add(&fake, 1, "a").await.unwrap_err().outcome(),
        Outcome::Unknown
    );
    fake.weather([true; REPLICAS]);
    check(&add(&fake, 1, "a").await.unwrap(), &[("a", 1)], false);
}

#[tokio::test]
async fn a_removal_sent_again_is_written_again() {
    let fake = FakeCarts::new();
    add(&fake, 1, "a").await.unwrap();
    // The first try reaches one replica only and its answer is lost.
    fake.weather([true, false, false]);
    fake.lose_answers();
    assert_eq!(
        remove(&fake, 2, "a").await.unwrap_err().outcome(),
        Outcome::Unknown
    );
    fake.weather([true, true, false]);
    check(&remove(&fake, 2, "a").await.unwrap(), &[], false);
    // Now that the second try was acknowledged, the first replica may go.
    fake.weather([false, true, true]);
    check(&store(&fake).get(&id()).await.unwrap(), &[], false);
}

#[tokio::test]
async fn after_checkout_what_was_ordered_is_gone_and_the_rest_stays() {
    let fake = FakeCarts::new();
    add(&fake, 1, "a").await.unwrap();
    let ordered = add(&fake, 2, "b").await.unwrap().cart.view();
    add(&fake, 3, "c").await.unwrap();
    let removal = RemovalTag::from(tag(4));
    let answer = store(&fake)
        .remove_ordered(&id(), removal, ordered.ordered())
        .await
        .unwrap();
    check(&answer, &[("c", 1)], false);
}

#[test]
fn the_bucket_keeps_siblings_and_a_floor() {
    let bucket = cart_bucket("carts");
    assert_eq!(
        (bucket.mode(), bucket.write_floor),
        (BucketMode::Siblings, 1)
    );
}

#[derive(Debug, Clone)]
enum Step {
    Add {
        article: u8,
    },
    Remove {
        article: u8,
    },
    Weather {
        up: [bool; REPLICAS],
        answers_lost: bool,
    },
    Heal,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3_u8).prop_map(|article| Step::Add { article }),
        2 => (0..3_u8).prop_map(|article| Step::Remove { article }),
        3 => (any::<[bool; REPLICAS]>(), prop::bool::weighted(0.2))
            .prop_map(|(up, answers_lost)| Step::Weather { up, answers_lost }),
        1 => Just(Step::Heal),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever breaks in between: in the end every acknowledged add shows unless a removal that saw it took it out,
    /// and nothing that an acknowledged removal took out shows.
    #[test]
    fn nothing_acknowledged_is_lost_and_nothing_removed_returns(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let fake = FakeCarts::new();
        let (mut added, mut removed) = (BTreeSet::new(), BTreeSet::new());
        let mut maybe_removed = BTreeSet::new();
        for (number, step) in steps.iter().enumerate() {
            let number = number as u128;
            match step {
                Step::Add { article } => {
                    if let Ok(answer) = runtime.block_on(add(&fake, number, &article.to_string())) {
                        prop_assert!(answer.cart.knows(tag(number)));
                        added.insert(tag(number));
                    }
                }
                Step::Remove { article } => {
                    let article = sku(&article.to_string());
                    let before = runtime.block_on(store(&fake).get(&id()));
                    let shown: BTreeSet<AddTag> = before
                        .iter()
                        .flat_map(|answer| answer.cart.adds().filter(|(_, add)| add.sku == article))
                        .map(|(tag, _)| tag)
                        .collect();
                    match runtime.block_on(remove(&fake, number, article.as_str())) {
                        Ok(_) => removed.extend(shown),
                        Err(error) if error.outcome() == Outcome::Unknown => maybe_removed.extend(shown),
                        Err(_) => {}
                    }
                }
                Step::Weather { up, answers_lost } => {
                    fake.weather(*up);
                    if *answers_lost {
                        fake.lose_answers();
                    }
                }
                Step::Heal => fake.heal(),
            }
        }
        fake.heal();
        let cart: Cart = runtime.block_on(store(&fake).get(&id())).unwrap().cart;
        let shown: BTreeSet<AddTag> = cart.adds().map(|(tag, _)| tag).collect();
        for tag in &added {
            prop_assert!(shown.contains(tag) || removed.contains(tag) || maybe_removed.contains(tag), "{tag} is lost");
        }
        prop_assert!(shown.is_disjoint(&removed), "something removed is back");
    }
}

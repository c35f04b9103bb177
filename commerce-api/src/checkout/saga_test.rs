//! Drives orders through a small world with crashing, duplicated and delayed drivers.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::orders::record::tests::order;
use crate::payment_provider::book::{Book, PaymentStatus};

/// What became of one reservation, as `souk_inventory` keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Held(u32),
    Bound(u32),
    Ended,
}

/// Everything outside the drivers: the order's register, the stock, the provider.
struct World {
    record: OrderRecord,
    version: u64,
    available: BTreeMap<String, u32>,
    holds: BTreeMap<Uuid, Hold>,
    expired: bool,
    book: Book,
    payments_made: u128,
    tidied: u32,
}

impl World {
    fn new(record: OrderRecord, stock: &[u32]) -> Self {
        let available = stock
            .iter()
            .enumerate()
            .map(|(number, units)| (format!("sku-{number}"), *units));
        Self {
            record,
            version: 0,
            available: available.collect(),
            holds: BTreeMap::new(),
            expired: false,
            book: Book::default(),
            payments_made: 0,
            tidied: 0,
        }
    }

    fn perform(&mut self, order: &OrderRecord, step: Step) -> StepResult {
        match step {
            Step::HoldStock => self.hold(order),
            Step::AuthorisePayment => self.authorise(order),
            Step::BindStock => self.bind(order),
            Step::CapturePayment => match self.book.capture(payment_id(order)) {
                Ok(payment) => {
                    self.book.restore(payment);
                    StepResult::Done
                }
                Err(_) => declined(),
            },
            Step::Tidy => {
                self.tidied += 1;
                StepResult::Done
            }
            Step::ShipStock => unreachable!("nothing ships here"),
            Step::Undo => self.undo(order),
        }
    }

    fn hold(&mut self, order: &OrderRecord) -> StepResult {
        for line in &order.lines {
            let id = order.reservation_id(&line.sku);
            let available = self.available.get_mut(line.sku.as_str()).unwrap();
            let refused = Failure::OutOfStock {
                sku: line.sku.clone(),
                requested: line.quantity,
            };
            match self.holds.get(&id) {
                Some(Hold::Held(_) | Hold::Bound(_)) => {}
                Some(Hold::Ended) => return StepResult::Refused(Failure::HoldExpired),
                None if self.expired => return StepResult::Refused(Failure::HoldExpired),
                None if *available < line.quantity => return StepResult::Refused(refused),
                None => {
                    *available -= line.quantity;
                    self.holds.insert(id, Hold::Held(line.quantity));
                }
            }
        }
        StepResult::Done
    }

    fn authorise(&mut self, order: &OrderRecord) -> StepResult {
        self.payments_made += 1;
        let id = Uuid::from_u128(self.payments_made);
        let key = order.payment_key().to_string();
        let payment = self
            .book
            .authorise(id, &key, order.total, &order.payment_token)
            .unwrap();
        self.book.restore(payment.clone());
        match payment.status {
            PaymentStatus::Declined => declined(),
            _ => StepResult::Authorised {
                payment_id: payment.id.to_string(),
            },
        }
    }

    fn bind(&mut self, order: &OrderRecord) -> StepResult {
        for line in &order.lines {
            let id = order.reservation_id(&line.sku);
            match self.holds.get(&id) {
                Some(Hold::Held(units)) => {
                    let units = *units;
                    self.holds.insert(id, Hold::Bound(units));
                }
                Some(Hold::Bound(_)) => {}
                Some(Hold::Ended) | None => return StepResult::Refused(Failure::HoldExpired),
            }
        }
        StepResult::Done
    }

    fn undo(&mut self, order: &OrderRecord) -> StepResult {
        for line in &order.lines {
            let id = order.reservation_id(&line.sku);
            if let Some(Hold::Held(units) | Hold::Bound(units)) = self.holds.insert(id, Hold::Ended)
            {
                *self.available.get_mut(line.sku.as_str()).unwrap() += units;
            }
        }
        if order.payment_id.is_some() {
            let payment = self
                .book
                .void(payment_id(order))
                .expect("never captured before an undo");
            self.book.restore(payment);
        }
        StepResult::Done
    }

    /// Time passes: every hold that is not bound runs out.
    fn expire(&mut self, order: &OrderRecord) {
        self.expired = true;
        for line in &order.lines {
            let id = order.reservation_id(&line.sku);
            if let Some(Hold::Held(units)) = self.holds.get(&id).copied() {
                self.holds.insert(id, Hold::Ended);
                *self.available.get_mut(line.sku.as_str()).unwrap() += units;
            }
        }
    }

    fn compare_and_set(&mut self, seen: u64, record: OrderRecord) {
        if seen == self.version {
            self.record = record;
            self.version += 1;
        }
    }

    fn bound_units(&self) -> u32 {
        self.holds
            .values()
            .map(|hold| {
                if let Hold::Bound(units) = hold {
                    *units
                } else {
                    0
                }
            })
            .sum()
    }

    fn held_units(&self) -> u32 {
        self.holds
            .values()
            .map(|hold| {
                if let Hold::Held(units) = hold {
                    *units
                } else {
                    0
                }
            })
            .sum()
    }

    fn captured_minor(&self) -> i64 {
        self.in_status(PaymentStatus::Captured)
    }

    fn in_status(&self, status: PaymentStatus) -> i64 {
        let payments = self.book.all().filter(|payment| payment.status == status);
        payments.map(|payment| payment.amount.amount_minor).sum()
    }
}

fn payment_id(order: &OrderRecord) -> Uuid {
    order
        .payment_id
        .as_ref()
        .expect("authorised before")
        .parse()
        .unwrap()
}

fn declined() -> StepResult {
    StepResult::Refused(Failure::PaymentDeclined {
        detail: "no".into(),
    })
}

/// One driver: what it read, and what it was told, if anything.
#[derive(Clone, Default)]
struct Driver {
    read: Option<(u64, OrderRecord)>,
    result: Option<StepResult>,
}

/// What happens next in the world.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// The driver does its next thing: read, perform, or write.
    Go(usize),
    /// The driver performs its step, but the answer is lost and it asks again.
    LoseAnswer(usize),
    /// The driver's process dies and starts anew.
    Crash(usize),
    /// The holds run out.
    Expire,
}

fn go(world: &mut World, driver: &mut Driver) {
    let Some((version, order)) = driver.read.clone() else {
        driver.read = Some((world.version, world.record.clone()));
        return;
    };
    let Some(step) = next(&order) else {
        *driver = Driver::default();
        return;
    };
    let Some(result) = driver.result.take() else {
        driver.result = Some(world.perform(&order, step));
        return;
    };
    let changed = after(&order, result, 2_000).expect("the result belongs to the stage");
    world.compare_and_set(version, changed);
    *driver = Driver::default();
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        20 => (0_usize..3).prop_map(Turn::Go),
        3 => (0_usize..3).prop_map(Turn::LoseAnswer),
        3 => (0_usize..3).prop_map(Turn::Crash),
        1 => Just(Turn::Expire),
    ]
}

fn token() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        4 => Just("tok_ok"),
        1 => Just("tok_declined"),
        1 => Just("tok_capture_refused"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Whatever crashes, repeats or comes late: one order, one charge, every unit accounted for.
    #[test]
    fn ends_with_everything_or_with_nothing(
        quantities in proptest::collection::vec(1_u32..4, 1..4),
        stock in proptest::collection::vec(0_u32..6, 3),
        token in token(),
        turns in proptest::collection::vec(turn(), 0..120),
    ) {
        let mut record = order("k", &quantities);
        record.payment_token = token.to_owned();
        let mut world = World::new(record.clone(), &stock);
        let mut drivers = vec![Driver::default(); 3];
        for turn in turns {
            match turn {
                Turn::Go(number) => go(&mut world, &mut drivers[number]),
                Turn::LoseAnswer(number) => {
                    if let Some((_, order)) = drivers[number].read.clone()
                        && let Some(step) = next(&order)
                    {
                        let _lost = world.perform(&order, step);
                    }
                }
                Turn::Crash(number) => drivers[number] = Driver::default(),
                Turn::Expire => world.expire(&record),
            }
            prop_assert!(world.captured_minor() == 0 || world.bound_units() == quantities.iter().sum::<u32>());
        }
        // The drivers that are left, old ones with stale records among them, run to the end.
        for _ in 0..200 {
            for driver in &mut drivers {
                go(&mut world, driver);
            }
        }
        let wanted: u32 = quantities.iter().sum();
        let total = i64::from(wanted) * 100;
        prop_assert_eq!(world.available.values().sum::<u32>() + world.bound_units() + world.held_units(), stock.iter().sum::<u32>());
        prop_assert_eq!(world.held_units(), 0);
        match &world.record.stage {
            Stage::Placed => {
                prop_assert_eq!(world.captured_minor(), total);
                prop_assert_eq!(world.bound_units(), wanted);
                prop_assert!(world.tidied >= 1);
            }
            Stage::Failed { .. } => {
                prop_assert_eq!(world.captured_minor(), 0);
                prop_assert_eq!(world.in_status(PaymentStatus::Authorised), 0);
                prop_assert_eq!(world.bound_units(), 0);
            }
            other => prop_assert!(false, "stuck at {:?}", other),
        }
        prop_assert!(world.book.all().count() <= 1, "one payment for one order");
    }
}

#[test]
fn enough_of_everything_ends_placed() {
    let mut world = World::new(order("k", &[2, 1]), &[2, 1]);
    let mut driver = Driver::default();
    for _ in 0..50 {
        go(&mut world, &mut driver);
    }
    assert_eq!(world.record.stage, Stage::Placed);
    let kinds: Vec<EventKind> = world.record.events.iter().map(|event| event.kind).collect();
    assert_eq!(
        kinds,
        [
            EventKind::Received,
            EventKind::StockReserved,
            EventKind::PaymentAuthorised,
            EventKind::StockAllocated,
            EventKind::PaymentCaptured,
            EventKind::Placed
        ]
    );
}

#[test]
fn refuses_a_result_of_another_stage() {
    let quoted = order("k", &[1]);
    assert_eq!(
        after(
            &quoted,
            StepResult::Authorised {
                payment_id: "p".into()
            },
            0
        ),
        None
    );
    let mut paid = quoted;
    paid.stage = Stage::Paid;
    assert_eq!(
        after(&paid, StepResult::Refused(Failure::HoldExpired), 0),
        None
    );
}

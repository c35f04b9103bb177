//! Random histories of several devices that sync now and then, beside an oracle that keeps every event.
//!
//! The oracle knows nothing of tags removed or notes counted: each device keeps the set of events it has heard of, each
//! event keeps the set that its maker had heard of, and everything else follows from "happened before".

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use souk_cart::{AddTag, Cart, CartEffect, Quantity, Sku};

const DEVICES: usize = 4;
const SKUS: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Step {
    Add {
        device: usize,
        sku: usize,
        quantity: u32,
    },
    /// Adds without having read anything, as the store does when no replica answers a read.
    BlindAdd {
        device: usize,
        sku: usize,
        quantity: u32,
    },
    Change {
        device: usize,
        sku: usize,
        quantity: u32,
    },
    Remove {
        device: usize,
        sku: usize,
    },
    Sync {
        from: usize,
        to: usize,
    },
    /// Sends the device's last add again, as a retry after a lost answer does.
    Again {
        device: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (device, sku, quantity) = (0..DEVICES, 0..SKUS.len(), 1..6_u32);
    let edit = (device.clone(), sku.clone(), quantity);
    let step = prop_oneof![
        3 => edit.clone().prop_map(|(device, sku, quantity)| Step::Add { device, sku, quantity }),
        1 => edit.clone().prop_map(|(device, sku, quantity)| Step::BlindAdd { device, sku, quantity }),
        2 => edit.prop_map(|(device, sku, quantity)| Step::Change { device, sku, quantity }),
        2 => (device.clone(), sku).prop_map(|(device, sku)| Step::Remove { device, sku }),
        3 => (device.clone(), device.clone()).prop_map(|(from, to)| Step::Sync { from, to }),
        1 => device.prop_map(|device| Step::Again { device }),
    ];
    prop::collection::vec(step, 1..60)
}

/// One thing that happened, by its number.
#[derive(Debug, Clone)]
struct Event {
    sku: usize,
    /// The units it added; none for a removal.
    adds: Option<u32>,
    /// Whether it took out what its maker saw.
    strikes: bool,
    /// Every event that its maker had heard of.
    heard: BTreeSet<usize>,
}

#[derive(Default)]
struct Oracle {
    events: Vec<Event>,
    heard: [BTreeSet<usize>; DEVICES],
}

impl Oracle {
    fn record(&mut self, device: usize, sku: usize, adds: Option<u32>, strikes: bool, blind: bool) {
        let number = self.events.len();
        let heard = if blind {
            BTreeSet::new()
        } else {
            self.heard[device].clone()
        };
        self.events.push(Event {
            sku,
            adds,
            strikes,
            heard,
        });
        self.heard[device].insert(number);
    }

    /// An add shows unless some event in `heard` struck out what it had heard of, this add included.
    fn shown(&self, heard: &BTreeSet<usize>) -> Vec<usize> {
        let struck = |add: usize| {
            heard.iter().any(|&by| {
                let by = &self.events[by];
                by.strikes && by.sku == self.events[add].sku && by.heard.contains(&add)
            })
        };
        heard
            .iter()
            .copied()
            .filter(|&event| self.events[event].adds.is_some() && !struck(event))
            .collect()
    }

    /// SKU → (quantity, whether something struck concurrently with one of its adds).
    fn lines(&self, heard: &BTreeSet<usize>) -> BTreeMap<&'static str, (u64, bool)> {
        let mut lines = BTreeMap::new();
        for add in self.shown(heard) {
            let event = &self.events[add];
            let concurrent = heard.iter().any(|&by| {
                let other = &self.events[by];
                by != add
                    && other.strikes
                    && other.sku == event.sku
                    && !other.heard.contains(&add)
                    && !event.heard.contains(&by)
            });
            let line: &mut (u64, bool) = lines.entry(SKUS[event.sku]).or_default();
            line.0 += u64::from(event.adds.unwrap_or(0));
            line.1 |= concurrent;
        }
        lines
    }
}

fn tag(number: usize) -> AddTag {
    // Scattered, so that tag order and history order differ.
    AddTag::from_bytes(
        (number as u128 + 1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
            .to_be_bytes(),
    )
}

fn lines(cart: &Cart) -> BTreeMap<&'static str, (u64, bool)> {
    let name = |sku: &Sku| SKUS.into_iter().find(|name| *name == sku.as_str()).unwrap();
    cart.view()
        .lines()
        .iter()
        .map(|line| (name(&line.sku), (line.quantity, line.concurrent)))
        .collect()
}

#[derive(Default)]
struct Run {
    oracle: Oracle,
    carts: [Cart; DEVICES],
    last_add: [Option<(usize, usize, u32)>; DEVICES],
}

impl Run {
    fn step(&mut self, step: &Step) {
        let number = self.oracle.events.len();
        match *step {
            Step::Add {
                device,
                sku,
                quantity,
            } => {
                let done = self.carts[device].add(
                    tag(number),
                    to_sku(sku),
                    to_quantity(quantity),
                    number as u64,
                );
                assert_eq!(done, Ok(CartEffect::Changed));
                self.oracle
                    .record(device, sku, Some(quantity), false, false);
                self.last_add[device] = Some((number, sku, quantity));
            }
            Step::BlindAdd {
                device,
                sku,
                quantity,
            } => {
                let mut alone = Cart::default();
                alone
                    .add(
                        tag(number),
                        to_sku(sku),
                        to_quantity(quantity),
                        number as u64,
                    )
                    .unwrap();
                self.carts[device].merge(&alone);
                self.oracle.record(device, sku, Some(quantity), false, true);
            }
            Step::Change {
                device,
                sku,
                quantity,
            } => {
                let there = self.carts[device].view().line(&to_sku(sku)).is_some();
                let done = self.carts[device].change(
                    tag(number),
                    &to_sku(sku),
                    to_quantity(quantity),
                    number as u64,
                );
                assert_eq!(done.is_ok(), there);
                if there {
                    self.oracle.record(device, sku, Some(quantity), true, false);
                }
            }
            Step::Remove { device, sku } => {
                let effect = self.carts[device].remove(tag(number).into(), &to_sku(sku));
                if effect == CartEffect::Changed {
                    self.oracle.record(device, sku, None, true, false);
                }
            }
            Step::Sync { from, to } => {
                // Through the stored form, as a real sync goes.
                let read = Cart::from_bytes(&self.carts[from].to_bytes()).unwrap();
                self.carts[to].merge(&read);
                let heard = self.oracle.heard[from].clone();
                self.oracle.heard[to].extend(heard);
            }
            Step::Again { device } => {
                if let Some((number, sku, quantity)) = self.last_add[device] {
                    let done =
                        self.carts[device].add(tag(number), to_sku(sku), to_quantity(quantity), 0);
                    assert_eq!(done, Ok(CartEffect::Unchanged));
                }
            }
        }
    }

    fn check(&self) {
        for (device, cart) in self.carts.iter().enumerate() {
            assert_eq!(
                lines(cart),
                self.oracle.lines(&self.oracle.heard[device]),
                "device {device}"
            );
        }
    }
}

fn to_sku(index: usize) -> Sku {
    Sku::new(SKUS[index]).unwrap()
}

fn to_quantity(units: u32) -> Quantity {
    Quantity::new(units).unwrap()
}

/// Four carts of one history, at different points of it.
fn carts() -> impl Strategy<Value = [Cart; DEVICES]> {
    steps().prop_map(|steps| {
        let mut run = Run::default();
        steps.iter().for_each(|step| run.step(step));
        run.carts
    })
}

fn merged(left: &Cart, right: &Cart) -> Cart {
    Cart::merge_all([left, right])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_device_sees_what_the_oracle_sees(steps in steps()) {
        let mut run = Run::default();
        for step in &steps {
            run.step(step);
            run.check();
        }
    }

    #[test]
    fn after_a_full_sync_every_add_that_nobody_saw_and_removed_shows_everywhere(steps in steps()) {
        let mut run = Run::default();
        steps.iter().for_each(|step| run.step(step));
        let everything = Cart::merge_all(&run.carts);
        let all: BTreeSet<usize> = (0..run.oracle.events.len()).collect();
        let shown: BTreeSet<AddTag> = everything.adds().map(|(tag, _)| tag).collect();
        let expected: BTreeSet<AddTag> = run.oracle.shown(&all).into_iter().map(tag).collect();
        prop_assert_eq!(shown, expected);
        prop_assert_eq!(lines(&everything), run.oracle.lines(&all));
    }

    #[test]
    fn merging_is_commutative_associative_and_idempotent([a, b, c, d] in carts()) {
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        prop_assert_eq!(&merged(&d, &d), &d);
        let twice = merged(&merged(&a, &b), &a);
        prop_assert_eq!(merged(&a, &b), twice);
    }

    #[test]
    fn the_stored_form_reads_back([cart, ..] in carts()) {
        let bytes = cart.to_bytes();
        prop_assert_eq!(bytes.len(), cart.bytes_count());
        prop_assert_eq!(Cart::from_bytes(&bytes).unwrap(), cart);
    }

    #[test]
    fn broken_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Cart::from_bytes(&bytes);
    }
}

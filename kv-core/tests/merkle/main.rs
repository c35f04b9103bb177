//! Replicas that have diverged in every way find each other again, and those that agree stay silent.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod world;

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};
use souk_kv_core::{
    causality::Observed,
    merkle::{ExchangeStep, KeyHash, SuspectSide},
};
use world::{Cost, Replica, differing, exchange, key};

#[derive(Clone, Copy, Debug)]
enum Change {
    /// A write that sees what its replica holds, or nothing.
    Write {
        at: usize,
        key: u16,
        blind: bool,
        delete: bool,
    },
    /// A record reaches the other replica.
    Sync { from: usize, key: u16 },
    /// Memory of requests is dropped at one replica only.
    Forget { at: usize, key: u16 },
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        4 => (0..2usize, 0..40u16, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(at, key, blind, delete)| Change::Write { at, key, blind, delete }),
        3 => (0..2usize, 0..40u16).prop_map(|(from, key)| Change::Sync { from, key }),
        1 => (0..2usize, 0..40u16).prop_map(|(at, key)| Change::Forget { at, key }),
    ];
    prop::collection::vec(change, 0..80)
}

fn pair(changes: &[Change]) -> Vec<Replica> {
    let mut world = vec![Replica::new(1), Replica::new(2)];
    for change in changes {
        match *change {
            Change::Write {
                at,
                key: number,
                blind,
                delete,
            } => {
                let key = key(number);
                let held = world[at].records.get(&key);
                let observed = match held {
                    Some(record) if !blind => Observed::whole(record),
                    _ => Observed::default(),
                };
                world[at].write(&key, &observed, delete);
            }
            Change::Sync { from, key: number } => {
                let key = key(number);
                if let Some(record) = world[from].records.get(&key).cloned() {
                    world[1 - from].merge(&key, &record);
                }
            }
            Change::Forget { at, key: number } => {
                let key = key(number);
                if let Some(mut record) = world[at].records.get(&key).cloned() {
                    record.forget_requests_before(u64::MAX);
                    world[at].store(&key, record);
                }
            }
        }
    }
    world
}

fn undisturbed(world: &mut [Replica], here: usize, there: usize) -> Cost {
    exchange(world, here, there, |_, _| {})
}

proptest! {
    #[test]
    fn two_replicas_agree_after_one_exchange(changes in changes()) {
        let mut world = pair(&changes);
        let apart = differing(&world[0], &world[1]);
        let cost = undisturbed(&mut world, 0, 1);
        prop_assert_eq!(&cost.moved, &apart, "only differing keys travel, and all of them");
        prop_assert_eq!(&cost.suspects, &[]);
        prop_assert!(differing(&world[0], &world[1]).is_empty());
        prop_assert_eq!(world[0].tree.root(), world[1].tree.root());
        prop_assert_eq!(undisturbed(&mut world, 0, 1), Cost::default());
        prop_assert_eq!(undisturbed(&mut world, 1, 0), Cost::default());
    }

    #[test]
    fn a_wrong_leaf_is_found_on_the_right_side(
        changes in changes(), wrong in 0..2usize, number in 0..40u16,
    ) {
        let mut world = pair(&changes);
        undisturbed(&mut world, 0, 1);
        let leaf = KeyHash::of(&key(number)).leaf();
        world[wrong].tree.add(leaf, KeyHash::of(b"never written").digest(1));
        let cost = undisturbed(&mut world, 0, 1);
        let side = [SuspectSide::Here, SuspectSide::There][wrong];
        prop_assert_eq!(&cost.suspects, &[(side, leaf)]);
        prop_assert!(cost.moved.is_empty());
        let right = world[wrong].recount(leaf);
        prop_assert!(world[wrong].tree.set(leaf, right));
        prop_assert_eq!(undisturbed(&mut world, 0, 1), Cost::default());
    }
}

#[test]
fn what_replicas_remember_beside_causal_state_moves_nothing() {
    let mut world = vec![Replica::new(1), Replica::new(2)];
    let key = key(1);
    world[0].write(&key, &Observed::default(), false);
    let seen = Observed::whole(&world[0].records[&key]);
    world[0].write(&key, &seen, false);
    let record = world[0].records[&key].clone();
    world[1].merge(&key, &record);
    let mut forgetful = record.clone();
    forgetful.forget_requests_before(u64::MAX);
    assert_ne!(record, forgetful, "there was something to forget");
    world[1].store(&key, forgetful);
    assert_eq!(undisturbed(&mut world, 0, 1), Cost::default());
}

#[test]
fn a_write_that_arrives_during_the_pause_is_not_repaired() {
    let mut world = vec![Replica::new(1), Replica::new(2)];
    let key = key(7);
    world[0].write(&key, &Observed::default(), false);
    let cost = exchange(&mut world, 0, 1, |world, step| {
        if *step == ExchangeStep::Pause {
            let record = world[0].records[&key].clone();
            world[1].merge(&key, &record);
        }
    });
    assert_eq!(cost.listed, 0);
    assert!(cost.moved.is_empty());
}

#[test]
fn an_empty_replica_gets_everything() {
    let mut world = vec![Replica::new(1), Replica::new(2)];
    for number in 0..500 {
        world[0].write(&key(number), &Observed::default(), number % 7 == 0);
    }
    let cost = undisturbed(&mut world, 1, 0);
    assert_eq!(cost.moved.len(), 500);
    assert_eq!(world[0].tree.root(), world[1].tree.root());
}

/// Five replicas under writes that reach some of them, with exchanges all the time; at last it grows quiet.
fn run(seed: u64) {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut world: Vec<Replica> = (1..=5).map(Replica::new).collect();
    let mut disturb = {
        let mut chance = StdRng::seed_from_u64(seed ^ 1);
        move |world: &mut [Replica], _: &ExchangeStep| {
            for _ in 0..chance.random_range(0..3) {
                let (at, key) = (chance.random_range(0..5), key(chance.random_range(0..60)));
                let observed = match world[at].records.get(&key) {
                    Some(record) if chance.random_bool(0.7) => Observed::whole(record),
                    _ => Observed::default(),
                };
                world[at].write(&key, &observed, chance.random_bool(0.2));
                let record = world[at].records[&key].clone();
                for replica in world.iter_mut() {
                    if chance.random_bool(0.6) {
                        replica.merge(&key, &record);
                    }
                }
            }
        }
    };
    for _ in 0..30 {
        let (here, there) = (chance.random_range(0..5), chance.random_range(0..5));
        exchange(&mut world, here, there, &mut disturb);
    }
    // One spreads what it has gathered: two rounds of the others with it are enough.
    for _ in 0..2 {
        for other in 1..5 {
            undisturbed(&mut world, 0, other);
        }
    }
    for other in 1..5 {
        let apart = differing(&world[0], &world[other]);
        assert!(apart.is_empty(), "seed {seed}: {apart:?}");
        assert_eq!(
            undisturbed(&mut world, 0, other),
            Cost::default(),
            "seed {seed}"
        );
    }
}

#[test]
fn replicas_under_writes_converge_when_it_grows_quiet() {
    for seed in 0..60 {
        run(seed);
    }
}

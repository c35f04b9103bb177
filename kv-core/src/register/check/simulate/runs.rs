//! The runs: real ones have to be linearizable, broken ones have to be noticed.

use super::super::history::Told;
use super::super::linearizability::is_linearizable;
use super::super::mutant::Mutant;
use super::{Size, World};

const SMALL: Size = Size {
    nodes: 3,
    clients: 5,
    operations: 80,
};
const LARGE: Size = Size {
    nodes: 5,
    clients: 6,
    operations: 120,
};

fn check(seeds: std::ops::Range<u64>, size: Size) {
    let (mut known, mut asked, mut led) = (0, 0, 0);
    for seed in seeds {
        let (history, rounds_led) = World::new(seed, size, None).run();
        assert!(
            is_linearizable(&history),
            "seed {seed} of {size:?} is not linearizable"
        );
        known += history
            .iter()
            .filter(|operation| !matches!(operation.told, Told::Unknown | Told::Never))
            .count();
        asked += history.len();
        led += rounds_led;
    }
    println!("{known} of {asked} answered, {led} rounds from leads");
    assert!(
        known * 10 > asked * 6,
        "only {known} of {asked} operations were answered: the run proves little"
    );
    assert!(led > 20, "only {led} rounds went on from a lead");
}

fn caught(mutant: Mutant, seeds: u64) {
    let broken = |seed: &u64| !is_linearizable(&World::new(*seed, SMALL, Some(mutant)).run().0);
    match (0..seeds).find(broken) {
        Some(seed) => println!("{mutant:?}: seed {seed}"),
        None => panic!("{mutant:?} was not noticed in {seeds} seeds"),
    }
}

#[test]
fn three_nodes_are_linearizable() {
    check(0..40, SMALL);
}

#[test]
fn five_nodes_are_linearizable() {
    check(1000..1015, LARGE);
}

#[test]
fn a_seed_repeats_its_history() {
    assert_eq!(
        World::new(7, SMALL, None).run(),
        World::new(7, SMALL, None).run()
    );
}

#[test]
fn mutants_are_noticed() {
    caught(Mutant::AcceptBelowPromise, 200);
    caught(Mutant::IgnoreBase, 200);
    caught(Mutant::ReadOne, 200);
    caught(Mutant::NoMemory, 200);
    caught(Mutant::ForgetExposure, 200);
    caught(Mutant::BelieveLateNo, 200);
}

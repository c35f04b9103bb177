//! The runs: real ones have to be linearizable, broken ones have to be noticed.

use super::super::history::Told;
use super::super::linearizability::is_linearizable;
use super::super::mutant::Mutant;
use super::{Size, Trouble, World};

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
        let (history, rounds_led) = World::new(seed, size, None, Trouble::None).run();
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

fn caught(mutant: Mutant, size: Size, trouble: Trouble, seeds: u64) {
    let history = |seed: u64| World::new(seed, size, Some(mutant), trouble).run().0;
    match (0..seeds).find(|seed| !is_linearizable(&history(*seed))) {
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
        World::new(7, SMALL, None, Trouble::None).run(),
        World::new(7, SMALL, None, Trouble::None).run()
    );
}

#[test]
fn mutants_are_noticed() {
    caught(Mutant::AcceptBelowPromise, SMALL, Trouble::None, 200);
    caught(Mutant::IgnoreBase, SMALL, Trouble::None, 200);
    caught(Mutant::ReadOne, SMALL, Trouble::None, 200);
    caught(Mutant::NoMemory, SMALL, Trouble::None, 200);
    caught(Mutant::ForgetExposure, SMALL, Trouble::None, 200);
    caught(Mutant::BelieveLateNo, SMALL, Trouble::None, 200);
}

#[test]
fn lost_disks_are_survived() {
    let (mut known, mut asked, mut learnt) = (0, 0, 0);
    for (seeds, size) in [(0..30, SMALL), (2000..2010, LARGE)] {
        for seed in seeds {
            let mut world = World::new(seed, size, None, Trouble::LostDisks);
            world.run_on();
            assert!(
                is_linearizable(&world.history),
                "seed {seed} of {size:?} is not linearizable"
            );
            let told = |operation: &&super::super::history::Operation| {
                !matches!(operation.told, Told::Unknown | Told::Never)
            };
            known += world.history.iter().filter(told).count();
            asked += world.history.len();
            learnt += world.lessons_learnt;
        }
    }
    println!("{known} of {asked} answered, {learnt} lessons learnt");
    assert!(known * 10 > asked * 3, "only {known} of {asked} answered");
    assert!(learnt > 40, "only {learnt} lessons were learnt");
}

#[test]
fn careless_learners_are_noticed() {
    for mutant in [
        Mutant::LearnNothing,
        Mutant::LearnFromOne,
        Mutant::VoteWhileLearner,
        Mutant::LearnUnfenced,
    ] {
        caught(mutant, SMALL, Trouble::LostDisks, 300);
    }
}

#[test]
fn moves_lose_nothing() {
    let (mut known, mut asked, mut settled, mut rounds) = (0, 0, 0, 0);
    for seed in 0..40 {
        let mut world = World::new(seed, LARGE, None, Trouble::Moves);
        world.run_on();
        assert!(
            is_linearizable(&world.history),
            "seed {seed} is not linearizable"
        );
        let told = |operation: &&super::super::history::Operation| {
            !matches!(operation.told, Told::Unknown | Told::Never)
        };
        known += world.history.iter().filter(told).count();
        asked += world.history.len();
        settled += world.moves_settled;
        rounds += world.rounds_moved;
    }
    println!("{known} of {asked} answered, {settled} moves settled, {rounds} rounds for them");
    assert!(known * 10 > asked * 3, "only {known} of {asked} answered");
    assert!(settled > 80, "only {settled} moves settled");
    assert!(rounds > settled, "only {rounds} identity rounds");
}

#[test]
fn careless_moves_are_noticed() {
    for mutant in [
        Mutant::MoveUnfenced,
        Mutant::MoveAtOnce,
        Mutant::MoveFromOne,
        Mutant::MoveWithoutRounds,
    ] {
        caught(mutant, LARGE, Trouble::Moves, 300);
    }
}

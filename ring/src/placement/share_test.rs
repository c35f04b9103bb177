use proptest::prelude::*;

use super::*;
use crate::placement::tests::{nodes, problem};

fn shares(nodes: &[(usize, u64)], copies: usize, bits: u32) -> Vec<Share> {
    let problem = problem(nodes, copies, bits);
    fair_shares(&problem, &Spread::of(&problem))
}

#[test]
fn known_shares() {
    let check = |nodes: &[(usize, u64)], copies: usize, expected: &[(u64, u64)]| {
        let shares = shares(nodes, copies, 8);
        let found: Vec<(u64, u64)> = shares.iter().map(|share| (share.min, share.max)).collect();
        assert_eq!(
            found, expected,
            "{nodes:?}, {copies} copies of 256 partitions"
        );
    };
    check(&[(0, 100)], 1, &[(256, 256)]);
    check(&[(0, 100), (1, 100), (2, 100)], 3, &[(256, 256); 3]);
    check(&[(0, 100), (0, 100), (0, 100)], 1, &[(85, 86); 3]);
    check(&[(0, 100), (0, 300)], 1, &[(64, 64), (192, 192)]);
    // A node holds a partition once: the heavy one is full, the rest is shared by the others.
    check(
        &[(0, 1000), (1, 100), (2, 100)],
        2,
        &[(256, 256), (128, 128), (128, 128)],
    );
    // Each zone has one of two copies, so the lone node of its zone holds everything.
    check(
        &[(0, 100), (1, 100), (1, 100)],
        2,
        &[(256, 256), (128, 128), (128, 128)],
    );
    // Three copies over two zones lie 2-1 or 1-2; no zone sinks below one copy of each partition.
    let uneven = [(0, 10), (0, 10), (1, 1000), (1, 1000)];
    check(
        &uneven,
        3,
        &[(128, 128), (128, 128), (256, 256), (256, 256)],
    );
    // Five over three zones lie 2-2-1: the big zone may not take a third copy.
    let five = [
        (0, 100),
        (0, 100),
        (0, 100),
        (0, 100),
        (1, 100),
        (1, 100),
        (2, 100),
    ];
    check(
        &five,
        5,
        &[
            (128, 128),
            (128, 128),
            (128, 128),
            (128, 128),
            (256, 256),
            (256, 256),
            (256, 256),
        ],
    );
}

/// The level at which `amount` rises to `goal`, by halving; `amount` grows with the level.
fn halve(goal: f64, amount: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 1e9);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if amount(middle) < goal {
            low = middle
        } else {
            high = middle
        }
    }
    high
}

/// Fair shares as fractions, found by halving instead of by bends.
fn halved_shares(problem: &Problem, spread: &Spread) -> Vec<f64> {
    let full = problem.partitions_count as f64;
    let zones = problem.nodes_by_zone();
    let held = |node: usize, level: f64| full.min(problem.nodes[node].weight as f64 * level);
    let in_zone =
        |zone: usize, level: f64| zones[zone].iter().map(|n| held(*n, level)).sum::<f64>();
    let bounded = |zone: usize, level: f64| {
        let least = full * spread.zone_copies_min as f64;
        let most = full * spread.zone_copies_max.min(zones[zone].len()) as f64;
        in_zone(zone, level).clamp(least, most)
    };
    let all = |level: f64| {
        (0..zones.len())
            .map(|zone| bounded(zone, level))
            .sum::<f64>()
    };
    let level = halve(full * problem.copies_count as f64 - 1e-7, all);
    let goals: Vec<f64> = (0..zones.len()).map(|zone| bounded(zone, level)).collect();
    let levels: Vec<f64> = (0..zones.len())
        .map(|zone| halve(goals[zone] - 1e-7, |level| in_zone(zone, level)))
        .collect();
    (0..problem.nodes.len())
        .map(|node| held(node, levels[problem.nodes[node].zone]))
        .collect()
}

proptest! {
    #[test]
    fn shares_are_the_water_level_rounded(
        nodes in nodes(1..=12, 6), copies in 1..=7_usize, bits in 0..=10_u32,
    ) {
        let problem = problem(&nodes, copies, bits);
        let spread = Spread::of(&problem);
        for (share, halved) in fair_shares(&problem, &spread).iter().zip(halved_shares(&problem, &spread)) {
            prop_assert!(share.min as f64 <= halved + 1e-3 && halved - 1e-3 <= share.max as f64, "{share:?} {halved}");
            prop_assert!(share.max - share.min <= 1);
        }
    }

    #[test]
    fn shares_add_up_to_all_copies(nodes in nodes(1..=12, 6), copies in 1..=7_usize, bits in 0..=10_u32) {
        let problem = problem(&nodes, copies, bits);
        let shares = fair_shares(&problem, &Spread::of(&problem));
        let all = (problem.partitions_count * problem.copies_count) as u64;
        let (min, max) = shares.iter().fold((0, 0), |(min, max), share| (min + share.min, max + share.max));
        prop_assert!((min..=max).contains(&all), "{all} outside {min}..={max}");
    }
}

use proptest::prelude::*;

use super::share::{Share, fair_shares};
use super::spread::Spread;
use super::*;

/// A problem from zone and weight of each node, copies, and the binary logarithm of the partition
/// count.
pub(super) fn problem(nodes: &[(usize, u64)], copies: usize, partitions_bits: u32) -> Problem {
    let mut zones: BTreeMap<usize, usize> = BTreeMap::new();
    for (zone, _) in nodes {
        let next = zones.len();
        zones.entry(*zone).or_insert(next);
    }
    let node = |(zone, weight): &(usize, u64)| Node {
        zone: zones[zone],
        weight: *weight,
    };
    Problem {
        partitions_count: 1 << partitions_bits,
        copies_count: copies.min(nodes.len()),
        nodes: nodes.iter().map(node).collect(),
        zones_count: zones.len(),
    }
}

fn loads(problem: &Problem, plan: &Plan) -> Vec<u64> {
    let mut loads = vec![0; problem.nodes.len()];
    plan.iter().flatten().for_each(|node| loads[*node] += 1);
    loads
}

fn check_plan(problem: &Problem, plan: &Plan) {
    assert_eq!(plan.len(), problem.partitions_count);
    let spread = Spread::of(problem);
    let zones_wanted = problem.copies_count.min(problem.zones_count);
    for owners in plan {
        assert_eq!(owners.len(), problem.copies_count);
        let mut distinct = owners.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(
            distinct.len(),
            owners.len(),
            "{owners:?} names a node twice"
        );
        let in_zone = |zone| problem.copies_in_zone(owners, zone);
        let zones = (0..problem.zones_count)
            .filter(|zone| in_zone(*zone) > 0)
            .count();
        assert_eq!(
            zones, zones_wanted,
            "{owners:?} should spread over more zones"
        );
        assert!((0..problem.zones_count).all(|zone| in_zone(zone) <= spread.zone_copies_max));
    }
    let shares = fair_shares(problem, &spread);
    for (node, load) in loads(problem, plan).into_iter().enumerate() {
        let Share { min, max } = shares[node];
        assert!(
            (min..=max).contains(&load),
            "node {node} holds {load}, fair is {min}..={max}"
        );
        assert!(max - min <= 1);
    }
    check_order(problem, plan);
}

/// The first place of the lists is shared out in proportion to all places, rounded.
fn check_order(problem: &Problem, plan: &Plan) {
    let mut first = vec![0; problem.nodes.len()];
    plan.iter().for_each(|owners| first[owners[0]] += 1);
    for (node, load) in loads(problem, plan).into_iter().enumerate() {
        let (min, max) = (
            load / problem.copies_count as u64,
            load.div_ceil(problem.copies_count as u64),
        );
        assert!(
            (min..=max).contains(&first[node]),
            "node {node} is first in {}, fair is {min}..={max}",
            first[node]
        );
    }
}

fn moves(from: &Plan, to: &Plan) -> usize {
    let gained = |(before, after): (&Vec<usize>, &Vec<usize>)| {
        after.iter().filter(|node| !before.contains(node)).count()
    };
    from.iter().zip(to).map(gained).sum()
}

/// The fewest moves by trying everything: partition after partition, remembering for each vector
/// of loads the cheapest way to get there.
fn fewest_moves_by_force(problem: &Problem, previous: &Plan) -> usize {
    let spread = Spread::of(problem);
    let shares = fair_shares(problem, &spread);
    let nodes_count = problem.nodes.len();
    let sets: Vec<Vec<usize>> = (0_u32..1 << nodes_count)
        .map(|bits| {
            (0..nodes_count)
                .filter(|node| bits & (1 << node) != 0)
                .collect::<Vec<_>>()
        })
        .filter(|set| set.len() == problem.copies_count)
        .filter(|set| {
            let in_zone = |zone| problem.copies_in_zone(set, zone);
            let allowed = spread.zone_copies_min..=spread.zone_copies_max;
            (0..problem.zones_count).all(|zone| allowed.contains(&in_zone(zone)))
        })
        .collect();
    let mut cheapest: BTreeMap<Vec<u64>, usize> = BTreeMap::from([(vec![0; nodes_count], 0)]);
    for before in previous {
        let mut following: BTreeMap<Vec<u64>, usize> = BTreeMap::new();
        for (loads, cost) in &cheapest {
            for set in &sets {
                let mut loads = loads.clone();
                set.iter().for_each(|node| loads[*node] += 1);
                if (0..nodes_count).all(|node| loads[node] <= shares[node].max) {
                    let cost = cost + set.iter().filter(|node| !before.contains(node)).count();
                    let known = following.entry(loads).or_insert(cost);
                    *known = cost.min(*known);
                }
            }
        }
        cheapest = following;
    }
    let fair = |loads: &&Vec<u64>| (0..nodes_count).all(|n| loads[n] >= shares[n].min);
    let costs = cheapest
        .iter()
        .filter(|(loads, _)| fair(loads))
        .map(|(_, cost)| *cost);
    costs.min().expect("shares can be met")
}

/// Zone and weight of `count` nodes over at most `zones` zones.
pub(super) fn nodes(
    count: std::ops::RangeInclusive<usize>,
    zones: usize,
) -> impl Strategy<Value = Vec<(usize, u64)>> {
    let weight = prop_oneof![4 => Just(100_u64), 1 => 1..=1000_u64, 1 => 50..=200_u64];
    prop::collection::vec((0..zones, weight), count)
}

proptest! {
    #[test]
    fn first_plans_are_fair_and_spread(
        nodes in nodes(1..=14, 6), copies in 1..=7_usize, bits in 0..=7_u32,
    ) {
        let problem = problem(&nodes, copies, bits);
        check_plan(&problem, &solve(&problem, None));
    }

    #[test]
    fn any_previous_plan_is_brought_into_order(
        nodes in nodes(1..=10, 5), copies in 1..=5_usize,
        previous in prop::collection::vec(prop::sample::subsequence((0..10).collect::<Vec<usize>>(), 0..=5), 32),
    ) {
        let problem = problem(&nodes, copies, 5);
        let survivors = |owners: Vec<usize>| owners.into_iter().filter(|n| *n < problem.nodes.len()).collect();
        let previous: Plan = previous.into_iter().map(survivors).collect();
        check_plan(&problem, &solve(&problem, Some(previous)));
    }

    #[test]
    fn moves_are_as_few_as_brute_force_finds(
        nodes in nodes(1..=5, 4), copies in 1..=4_usize, bits in 0..=3_u32,
        previous in prop::collection::vec(prop::sample::subsequence((0..5).collect::<Vec<usize>>(), 0..=4), 8),
    ) {
        let problem = problem(&nodes, copies, bits);
        let survivors = |owners: Vec<usize>| owners.into_iter().filter(|n| *n < problem.nodes.len()).collect();
        let previous: Plan = previous.into_iter().take(1 << bits).map(survivors).collect();
        let plan = solve(&problem, Some(previous.clone()));
        prop_assert_eq!(moves(&previous, &plan), fewest_moves_by_force(&problem, &previous));
    }
}

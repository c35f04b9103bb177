//! The runs: whole rules keep every promise over all seeds, and each missing rule breaks one within the seeds.

use super::Mutant;
use super::cluster::Cluster;

#[test]
fn nothing_comes_back_and_nothing_is_lost() {
    let mut settled = 0;
    for seed in 0..300 {
        match Cluster::new(seed, None).run() {
            Ok(count) => settled += count,
            Err(broken) => panic!("seed {seed}: {broken}"),
        }
    }
    println!("{settled} items were settled in the midst of it");
    assert!(
        settled > 100,
        "only {settled} settled: the runs prove little"
    );
}

#[test]
fn a_seed_repeats_its_run() {
    let run = |seed| format!("{:?}", Cluster::new(seed, None).run());
    assert_eq!(run(7), run(7));
}

/// The first seed that notices the mutant; how many it takes says how likely a real accident would be seen.
fn first_seed(mutant: Mutant, seeds: u64) -> Option<u64> {
    let notice = |seed: u64| {
        Cluster::new(seed, Some(mutant))
            .run()
            .err()
            .map(|why| (seed, why))
    };
    let (seed, why) = (0..seeds).find_map(notice)?;
    println!("{mutant:?}: seed {seed}, {why}");
    Some(seed)
}

#[test]
fn every_missing_rule_is_noticed() {
    let mutants = [
        Mutant::EraseByAge,
        Mutant::SkipQuiesce,
        Mutant::CheckEarly,
        Mutant::SkipWork,
        Mutant::SkipArrivals,
        Mutant::SkipFence,
        Mutant::ForgetGeneration,
        Mutant::SkipHints,
        Mutant::SkipMember,
        Mutant::IgnoreChange,
        Mutant::EraseValues,
        Mutant::FoldUnproven,
    ];
    let missed: Vec<_> = mutants
        .into_iter()
        .filter(|&mutant| first_seed(mutant, 600).is_none())
        .collect();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

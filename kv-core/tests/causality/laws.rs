//! Merging is a join: order, grouping and repetition do not matter.

use proptest::prelude::*;
use souk_kv_core::causality::{MergeMode, Record};

use crate::history::{Step, World, merge_all, merged, steps};

const BOTH: [MergeMode; 2] = [MergeMode::Siblings, MergeMode::LastWriterWins];

fn three_of(world: &World, picks: [prop::sample::Index; 3]) -> [Record; 3] {
    let mut states = world.snapshots.clone();
    states.extend(world.stored());
    picks.map(|pick| pick.get(&states).clone())
}

fn check_laws(mode: MergeMode, [a, b, c]: &[Record; 3]) -> Result<(), TestCaseError> {
    prop_assert_eq!(merged(a, b, mode), merged(b, a, mode), "commutative");
    prop_assert_eq!(&merged(a, a, mode), a, "idempotent");
    let left = merged(&merged(a, b, mode), c, mode);
    let right = merged(a, &merged(b, c, mode), mode);
    prop_assert_eq!(left, right, "associative");
    let both = merged(a, b, mode);
    prop_assert_eq!(&merged(&both, a, mode), &both, "absorbs what it has");
    prop_assert_eq!(a.same_causal_state(b), a.causal_hash() == b.causal_hash());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn merge_is_a_join_over_all_states_of_a_history(
        steps in steps(false),
        picks in prop::array::uniform3(any::<prop::sample::Index>()),
    ) {
        for mode in BOTH {
            check_laws(mode, &three_of(&World::run(mode, &steps), picks))?;
        }
    }

    #[test]
    fn last_writer_wins_stays_a_join_when_requests_are_retried(
        steps in steps(true),
        picks in prop::array::uniform3(any::<prop::sample::Index>()),
    ) {
        let mode = MergeMode::LastWriterWins;
        check_laws(mode, &three_of(&World::run(mode, &steps), picks))?;
    }

    /// With a request run twice, two groupings can pass through different states: a write may name one run as seen
    /// while the other is still alone elsewhere. Gossip irons that out.
    #[test]
    fn replicas_converge_even_when_requests_are_retried(steps in steps(true), order in any::<u64>()) {
        for mode in BOTH {
            let mut records = World::run(mode, &steps).stored();
            let count = records.len();
            for round in 0..2 * count * count {
                let from = (order as usize).wrapping_mul(31).wrapping_add(round * 7) % count;
                let to = round % count;
                let sent = records[from].clone();
                records[to].merge(&sent, mode);
            }
            // One full exchange at the end, whatever the random one left out.
            let all = merge_all(&records, mode);
            for record in &mut records {
                record.merge(&all, mode);
            }
            let settled = merge_all(&records, mode);
            for record in &records {
                prop_assert!(record.same_causal_state(&settled), "{record:?}\n{settled:?}");
                prop_assert_eq!(record.causal_hash(), settled.causal_hash());
            }
        }
    }
}

#[test]
fn the_generator_reaches_what_the_laws_are_about() {
    // A law over records that never differ would prove nothing.
    let put = |client, replica, blind| Step::Put {
        client,
        replica,
        blind,
        delete: false,
    };
    let world = World::run(
        MergeMode::Siblings,
        &[
            put(0, 0, true),
            put(1, 1, true),
            Step::FallbackPut {
                client: 2,
                replica: 2,
            },
            Step::Sync { from: 1, to: 0 },
            Step::Sync { from: 2, to: 0 },
            Step::Read {
                client: 0,
                replica: 0,
            },
            put(0, 1, false),
        ],
    );
    let widest = world
        .snapshots
        .iter()
        .map(|record| record.siblings().len())
        .max();
    assert_eq!(widest, Some(3));
    let all = merge_all(&world.stored(), MergeMode::Siblings);
    assert_eq!(all.siblings().len(), 1);
    assert_eq!(all.context().loose().len(), 1);
}

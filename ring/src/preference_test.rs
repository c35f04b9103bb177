use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::testing::{any_layout, apart, layout, spec};
use crate::{NodeId, ReplicasN};

fn copies(replicas_n: u32) -> ReplicasN {
    ReplicasN::new(replicas_n).unwrap()
}

#[test]
fn buckets_with_fewer_copies_put_spare_owners_first_among_fallbacks() {
    let layout = layout(16, 3, apart(5));
    for partition in layout.partition_count().partitions() {
        let list = layout.preference_list(partition);
        let owners = layout.owners(partition);
        assert_eq!(list.primaries(copies(3)), owners);
        assert_eq!(list.primaries(copies(1)), &owners[..1]);
        assert_eq!(&list.fallbacks(copies(1))[..2], &owners[1..]);
        assert_eq!(list.primaries(copies(7)), owners);
    }
}

/// A dead node's writes go to fallbacks; each survivor should be first fallback equally often.
#[test]
fn first_fallbacks_scatter() {
    let layout = layout(1024, 3, apart(9));
    let mut firsts = vec![0_u32; 10];
    for partition in layout.partition_count().partitions() {
        firsts[layout.preference_list(partition).fallbacks(copies(3))[0].0 as usize] += 1;
    }
    // About 114 are due to each of nine nodes; five standard deviations are 50.
    assert!(
        firsts[1..].iter().all(|count| (64..=164).contains(count)),
        "{firsts:?}"
    );
}

#[test]
fn fallbacks_go_to_unused_zones_first() {
    let zones = ["a", "a", "a", "b", "b", "b", "c", "d"];
    let named = |(n, zone): (usize, &&str)| spec(&format!("node-{n}"), zone, 100);
    let layout = layout(64, 2, zones.iter().enumerate().map(named).collect());
    let zone = |id: &NodeId| layout.member(*id).unwrap().zone.clone();
    for partition in layout.partition_count().partitions() {
        let nodes = layout.preference_list(partition).nodes();
        let first_four: BTreeSet<_> = nodes[..4].iter().map(zone).collect();
        assert_eq!(first_four.len(), 4, "{nodes:?}");
        assert_ne!(zone(&nodes[4]), zone(&nodes[5]), "{nodes:?}");
    }
}

proptest! {
    #[test]
    fn every_member_once_for_any_replicas_n(layout in any_layout(), replicas_n in 1..=7_u32) {
        for partition in layout.partition_count().partitions() {
            let list = layout.preference_list(partition);
            let (primaries, fallbacks) = (list.primaries(copies(replicas_n)), list.fallbacks(copies(replicas_n)));
            prop_assert_eq!(primaries.len(), (replicas_n as usize).min(layout.copies_count()));
            prop_assert!(layout.owners(partition).starts_with(primaries));
            let mut members: Vec<NodeId> = [primaries, fallbacks].concat();
            members.sort_unstable();
            prop_assert_eq!(members, layout.members().keys().copied().collect::<Vec<_>>());
        }
    }

    #[test]
    fn equal_layouts_give_equal_lists(layout in any_layout()) {
        let again = crate::Layout::from_parts(layout.to_parts()).unwrap();
        for partition in layout.partition_count().partitions() {
            prop_assert_eq!(layout.preference_list(partition), again.preference_list(partition));
        }
    }
}

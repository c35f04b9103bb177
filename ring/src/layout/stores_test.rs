use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::testing::{apart, layout};

fn store(number: u8) -> StoreId {
    StoreId([number; 16])
}

fn founded(members: usize) -> Layout {
    let layout = layout(16, 3, apart(members));
    let stores: BTreeMap<NodeId, StoreId> = layout
        .members()
        .keys()
        .map(|id| (*id, store(id.0 as u8)))
        .collect();
    layout.founded(&stores).unwrap()
}

#[test]
fn founding_needs_every_store_and_keeps_the_epoch() {
    let draft = layout(16, 3, apart(3));
    assert!(!draft.is_founded());
    let two = BTreeMap::from([(NodeId(1), store(1)), (NodeId(2), store(2))]);
    assert_eq!(
        draft.founded(&two),
        Err(LayoutError::StoreUnknown { id: NodeId(3) })
    );
    let full = founded(3);
    assert!(full.is_founded());
    assert_eq!(full.epoch(), draft.epoch());
    assert_ne!(full.hash(), draft.hash());
}

#[test]
fn a_swapped_member_learns_until_it_is_promoted() {
    let before = founded(3);
    let swapped = before.swapped(NodeId(3), store(9)).unwrap();
    assert_eq!(swapped.epoch(), LayoutEpoch(2));
    assert_eq!(swapped.store_of(NodeId(3)), Some(store(9)));
    assert_eq!(swapped.learners(), BTreeSet::from([NodeId(3)]));
    assert_eq!(
        swapped.owners(PartitionId(0)),
        before.owners(PartitionId(0))
    );
    let promoted = swapped.promoted(NodeId(3)).unwrap();
    assert_eq!(promoted.epoch(), LayoutEpoch(3));
    assert!(promoted.learners().is_empty());
    assert_eq!(Layout::from_parts(promoted.to_parts()).unwrap(), promoted);
    let hashes = [&before, &swapped, &promoted].map(Layout::hash);
    assert_eq!(BTreeSet::from(hashes).len(), 3);
}

#[test]
fn a_store_that_is_known_is_no_new_one() {
    for known in 1..=3 {
        let error = founded(3).swapped(NodeId(3), store(known)).unwrap_err();
        assert!(matches!(error, LayoutError::StoreNotNew { .. }), "{error}");
    }
}

#[test]
fn a_majority_that_is_sure_always_remains() {
    let one = founded(3).swapped(NodeId(3), store(9)).unwrap();
    let error = one.swapped(NodeId(2), store(8)).unwrap_err();
    assert!(error.to_string().contains("1 of 3 copies"), "{error}");
    // The same member may lose its store again while it learns.
    one.swapped(NodeId(3), store(7)).unwrap();
    let error = founded(2).swapped(NodeId(2), store(9)).unwrap_err();
    assert!(error.to_string().contains("1 of 2 copies"), "{error}");
}

#[test]
fn recovery_names_who_is_sure() {
    let lost = founded(3);
    let survivors = BTreeSet::from([NodeId(2)]);
    let stores = BTreeMap::from([(NodeId(1), store(8)), (NodeId(3), store(9))]);
    let recovered = lost
        .recovered(LayoutEpoch(1000), &survivors, &stores)
        .unwrap();
    assert_eq!(recovered.epoch(), LayoutEpoch(1000));
    assert_eq!(recovered.learners(), BTreeSet::from([NodeId(1), NodeId(3)]));
    assert!(recovered.is_heir(NodeId(1)) && !recovered.is_heir(NodeId(2)));
    assert_eq!(recovered.store_of(NodeId(1)), Some(store(8)));
    assert_eq!(recovered.store_of(NodeId(2)), Some(store(2)));
    assert!(lost.recovered(lost.epoch(), &survivors, &stores).is_err());
}

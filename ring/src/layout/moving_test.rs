use proptest::prelude::*;

use super::*;
use crate::testing::{any_layout, apart, layout, spec};
use crate::{LayoutFault, Weight};

fn store(number: u32) -> StoreId {
    StoreId([u8::try_from(number).unwrap(); 16])
}

/// A cluster whose members have all shown their stores.
fn founded(layout: &Layout) -> Layout {
    let ids = layout.members().keys();
    layout
        .founded(&ids.map(|id| (*id, store(id.0))).collect())
        .unwrap()
}

fn newcomers(names: &[&str]) -> BTreeMap<Name, StoreId> {
    let stores = (200..).map(store);
    names
        .iter()
        .map(|name| name.parse().unwrap())
        .zip(stores)
        .collect()
}

fn join(name: &str) -> MemberChange {
    MemberChange::Join(spec(name, "new", 100))
}

fn three() -> Layout {
    founded(&layout(64, 3, apart(3)))
}

#[test]
fn a_join_goes_through_a_layout_of_both() {
    let before = three();
    let joint = before.begun(&[join("zz")], &newcomers(&["zz"]), 7).unwrap();
    assert_eq!(joint.epoch(), LayoutEpoch(2));
    assert_eq!(joint.moving_since(), Some(LayoutEpoch(2)));
    assert_eq!(joint.changes_applied(), 7);
    assert!(joint.is_joining(NodeId(4)) && !joint.is_leaving(NodeId(4)));
    assert_eq!(joint.store_of(NodeId(4)), Some(store(200)));
    assert_eq!(joint.gainers([3]), BTreeSet::from([NodeId(4)]));
    let gains = joint.gains_of(NodeId(4), 3).count();
    assert_eq!(gains, 48, "a quarter of all copies");
    assert_eq!(joint.kept_by(NodeId(4)).count(), gains);
    assert_eq!(joint.partitions_of(NodeId(4)).count(), 0);
    for partition in joint.partition_count().partitions() {
        assert_eq!(joint.owners(partition), before.owners(partition));
        let receivers = joint.receivers(partition, 3);
        assert!(receivers.starts_with(joint.owners(partition)));
        let next = joint.next_owners(partition).unwrap();
        assert!(next.iter().all(|node| receivers.contains(node)));
        assert_eq!(receivers.len(), 3 + usize::from(next.contains(&NodeId(4))));
    }
    let (old, new) = joint.electorates();
    assert_eq!(old, [1, 2, 3].map(NodeId));
    assert_eq!(new, Some([1, 2, 3, 4].map(NodeId).to_vec()));

    let after = joint.settled().unwrap();
    assert_eq!(
        (after.epoch(), after.moving_since()),
        (LayoutEpoch(3), None)
    );
    assert_eq!(after.partitions_of(NodeId(4)).count(), gains);
    assert_eq!(
        after.electorates(),
        ([1, 2, 3, 4].map(NodeId).to_vec(), None)
    );
    assert_eq!(after.settled(), Err(LayoutError::NotMoving));
}

#[test]
fn a_leaver_stays_until_the_move_has_settled() {
    let four = founded(&layout(64, 3, apart(4)));
    let leave = [MemberChange::Leave(NodeId(2))];
    let joint = four.begun(&leave, &BTreeMap::new(), 1).unwrap();
    assert!(joint.is_leaving(NodeId(2)));
    assert!(joint.partitions_of(NodeId(2)).count() > 0);
    let after = joint.settled().unwrap();
    assert_eq!(after.member(NodeId(2)), None);
    let back = joint.called_off().unwrap();
    assert!(back.member(NodeId(2)).is_some());
    assert_eq!(back.partitions_of(NodeId(2)).count(), 48);
}

/// Two nodes keep two copies although three are planned; the third comes with a third node.
#[test]
fn a_third_node_brings_the_third_copy() {
    let two = founded(&layout(16, 3, apart(2)));
    let joint = two.begun(&[join("zz")], &newcomers(&["zz"]), 1).unwrap();
    assert_eq!(
        (joint.copies_count(), joint.next_copies_count()),
        (2, Some(3))
    );
    assert_eq!(joint.gains_of(NodeId(3), 3).count(), 16);
    let again = Layout::from_parts(joint.to_parts()).unwrap();
    assert_eq!(again, joint);
    assert_eq!(joint.settled().unwrap().copies_count(), 3);
    assert_eq!(joint.called_off().unwrap().copies_count(), 2);
}

#[test]
fn one_move_at_a_time() {
    let joint = three()
        .begun(&[join("zz")], &newcomers(&["zz"]), 1)
        .unwrap();
    let started = LayoutEpoch(2);
    let heavier = MemberChange::SetWeight {
        id: NodeId(1),
        weight: Weight::new(7).unwrap(),
    };
    for changes in [vec![join("yy")], vec![heavier], vec![]] {
        let second = joint.begun(&changes, &newcomers(&["yy"]), 2);
        assert_eq!(second, Err(LayoutError::StillMoving { started }));
    }
    // A fence, or a store that was lost, may pass in between.
    let fenced = joint.fenced().unwrap();
    assert_eq!(fenced.moving_since(), Some(started));
    let swapped = fenced.swapped(NodeId(4), store(99)).unwrap();
    assert!(swapped.is_learner(NodeId(4)) && swapped.is_joining(NodeId(4)));
}

#[test]
fn newcomers_have_to_show_a_store_of_their_own() {
    let check = |stores: BTreeMap<Name, StoreId>, expected: LayoutError| {
        assert_eq!(three().begun(&[join("zz")], &stores, 1), Err(expected));
    };
    let name: Name = "zz".parse().unwrap();
    check(
        BTreeMap::new(),
        LayoutError::NewcomerUnknown { name: name.clone() },
    );
    let (id, taken) = (NodeId(4), store(2));
    check(
        BTreeMap::from([(name, taken)]),
        LayoutError::StoreNotNew { id, store: taken },
    );
    let unfounded = layout(64, 3, apart(3)).begun(&[], &BTreeMap::new(), 1);
    assert_eq!(unfounded, Err(LayoutError::StoreUnknown { id: NodeId(1) }));
}

#[test]
fn a_name_is_free_only_once_its_bearer_has_left() {
    let leave_and_join = [MemberChange::Leave(NodeId(1)), join("node-0000")];
    let result = three().begun(&leave_and_join, &newcomers(&["node-0000"]), 1);
    let name = "node-0000".parse().unwrap();
    assert_eq!(result, Err(LayoutError::NameTaken { name }));
}

#[test]
fn what_moves_nothing_is_done_at_once() {
    let heavier = MemberChange::SetWeight {
        id: NodeId(1),
        weight: Weight::new(900).unwrap(),
    };
    // Three nodes hold three copies of everything, whatever they weigh.
    let next = three().begun(&[heavier], &BTreeMap::new(), 5).unwrap();
    assert_eq!(next.moving_since(), None);
    assert_eq!(next.member(NodeId(1)).unwrap().weight.get(), 900);
    assert_eq!(next.changes_applied(), 5);
    assert_eq!(next.next(&[]).unwrap().changes_applied(), 5);
}

/// A bucket with fewer copies lives at the front of each list: who moves forward has to be given its keys.
#[test]
fn moving_forward_within_a_list_is_a_gain() {
    let mut parts = three().to_parts();
    parts.epoch = LayoutEpoch(2);
    let mut turned = parts.assignment.clone();
    turned[5].rotate_left(1);
    parts.moving = Some(crate::MovingParts {
        started: LayoutEpoch(2),
        joining: vec![],
        leaving: vec![],
        assignment: turned.clone(),
    });
    let joint = Layout::from_parts(parts.clone()).unwrap();
    let partition = PartitionId(5);
    let gains: Vec<_> = joint.gains_of(turned[5][0], 1).collect();
    assert_eq!(gains, [partition]);
    assert_eq!(joint.gains_of(turned[5][2], 1).count(), 0);
    assert_eq!(joint.gainers([3]), BTreeSet::new());
    assert_eq!(joint.gainers([1, 3]), [turned[5][0]].into());
    assert_eq!(joint.receivers(partition, 1), [turned[5][2], turned[5][0]]);
    assert_eq!(joint.receivers(partition, 3).len(), 3);
}

#[test]
fn contradicting_moves_are_refused() {
    let joint = three()
        .begun(&[join("zz")], &newcomers(&["zz"]), 1)
        .unwrap();
    let check = |spoil: fn(&mut crate::MovingParts), expected: LayoutFault| {
        let mut parts = joint.to_parts();
        spoil(parts.moving.as_mut().unwrap());
        let epoch = parts.epoch;
        let fault = Err(LayoutError::Malformed {
            epoch,
            fault: expected,
        });
        assert_eq!(Layout::from_parts(parts), fault);
    };
    let started = LayoutEpoch(9);
    check(
        |moving| moving.started = LayoutEpoch(9),
        LayoutFault::MoveStarted { started },
    );
    let id = NodeId(9);
    check(
        |moving| moving.leaving.push(NodeId(9)),
        LayoutFault::MoverUnknown { id },
    );
    let id = NodeId(4);
    check(
        |moving| moving.leaving.push(NodeId(4)),
        LayoutFault::MoverUnknown { id },
    );
    check(
        |moving| moving.joining = (1..=4).map(NodeId).collect(),
        LayoutFault::NobodyStays,
    );
    let partition = PartitionId(3);
    check(
        |moving| moving.assignment[3].truncate(2),
        LayoutFault::OwnersCount {
            partition,
            owners_count: 2,
            copies_count: 3,
        },
    );
}

/// Up to three changes that a cluster may be asked for, most of which it can grant.
fn any_changes() -> impl Strategy<Value = Vec<(u8, prop::sample::Index)>> {
    prop::collection::vec((0..4_u8, any::<prop::sample::Index>()), 0..=3)
}

fn changes_of(layout: &Layout, wishes: &[(u8, prop::sample::Index)]) -> Vec<MemberChange> {
    let ids: Vec<NodeId> = layout.members().keys().copied().collect();
    let change = |(number, (kind, pick)): (usize, &(u8, prop::sample::Index))| {
        let id = *pick.get(&ids);
        match kind {
            0 => MemberChange::Join(spec(&format!("zz-{number}"), "zone-2", 100)),
            1 => MemberChange::Leave(id),
            2 => MemberChange::SetWeight {
                id,
                weight: Weight::new(300).unwrap(),
            },
            _ => MemberChange::SetZone {
                id,
                zone: "zone-9".parse().unwrap(),
            },
        }
    };
    wishes.iter().enumerate().map(change).collect()
}

proptest! {
    /// However a change is reached, it is the one that was planned; and called off, nothing has moved.
    #[test]
    fn moves_lead_where_planning_says(before in any_layout(), wishes in any_changes()) {
        let before = founded(&before);
        let changes = changes_of(&before, &wishes);
        let stores = newcomers(&["zz-0", "zz-1", "zz-2"]);
        let (Ok(planned), Ok(joint)) = (before.next(&changes), before.begun(&changes, &stores, 3)) else {
            return Ok(());
        };
        prop_assert_eq!(joint.epoch(), planned.epoch());
        let again = Layout::from_parts(joint.to_parts()).unwrap();
        prop_assert_eq!(&again, &joint);
        prop_assert_eq!(again.hash(), joint.hash());
        let partitions = || before.partition_count().partitions();
        if joint.moving_since().is_none() {
            prop_assert!(partitions().all(|p| planned.owners(p) == before.owners(p)));
            return Ok(());
        }
        let (after, back) = (joint.settled().unwrap(), joint.called_off().unwrap());
        prop_assert!(partitions().all(|p| after.owners(p) == planned.owners(p)));
        prop_assert!(partitions().all(|p| back.owners(p) == before.owners(p)));
        prop_assert!(after.members().keys().eq(planned.members().keys()));
        prop_assert!(back.members().keys().eq(before.members().keys()));
        let fresh = Layout::from_parts(after.to_parts()).unwrap();
        for partition in partitions() {
            prop_assert_eq!(after.preference_list(partition), fresh.preference_list(partition));
            for copies in 1..=3 {
                // Whoever is to hold a copy and does not yet counts as somebody who gains.
                let held = &before.owners(partition)[..copies.min(before.copies_count())];
                for node in &after.owners(partition)[..copies.min(after.copies_count())] {
                    let gains = joint.gains_of(*node, copies).any(|gained| gained == partition);
                    prop_assert!(gains || held.contains(node));
                }
            }
        }
    }
}

use proptest::prelude::*;

use super::*;
use crate::member::Weight;
use crate::testing::{any_layout, any_members, apart, layout, spec, together};

fn demo() -> Layout {
    let members = ["ada", "bob", "cleo"]
        .into_iter()
        .zip(["east", "west", "north"]);
    layout(
        256,
        3,
        members.map(|(name, zone)| spec(name, zone, 100)).collect(),
    )
}

#[test]
fn first_layout_numbers_members_by_name() {
    let layout = layout(8, 2, vec![spec("bob", "west", 1), spec("ada", "east", 1)]);
    assert_eq!(layout.epoch(), LayoutEpoch::FIRST);
    assert_eq!(layout.member_named("ada").map(|m| m.id), Some(NodeId(1)));
    assert_eq!(layout.member_named("bob").map(|m| m.id), Some(NodeId(2)));
    assert_eq!(
        layout.member(NodeId(1)).map(|m| m.name.as_str()),
        Some("ada")
    );
    assert_eq!(layout.next_node_id(), NodeId(3));
    assert_eq!(layout.cluster_id().as_str(), "demo");
}

/// Digests cross the wire between versions; these were computed outside of Rust.
#[test]
fn golden_hashes() {
    assert_eq!(demo().genesis_hash(), 0xc7a3_150d_e774_7af4);
    let parts = LayoutParts {
        cluster_id: "demo".parse().unwrap(),
        genesis_hash: 0x0123_4567_89ab_cdef,
        epoch: LayoutEpoch(2),
        partition_count: PartitionCount::new(2).unwrap(),
        replicas_n: ReplicasN::new(2).unwrap(),
        members: vec![
            Member::new(NodeId(1), spec("ada", "east", 100)),
            Member::new(NodeId(3), spec("cleo", "north", 250)),
        ],
        next_node_id: NodeId(4),
        assignment: vec![vec![NodeId(1), NodeId(3)], vec![NodeId(3), NodeId(1)]],
        moving: None,
        changes_applied: 0,
    };
    assert_eq!(
        Layout::from_parts(parts).unwrap().hash(),
        0xe266_b8cf_56fe_c49d
    );
}

/// Founders plan epoch 1 each for themselves and must agree, also across versions.
#[test]
fn golden_plan() {
    assert_eq!(demo().hash(), 0x98b0_5440_6f3b_a6fd);
}

#[test]
fn fewer_members_than_copies_hold_everything() {
    let layout = layout(16, 3, apart(2));
    assert_eq!(layout.copies_count(), 2);
    assert_eq!(layout.partitions_of(NodeId(1)).count(), 16);
    let grown = layout
        .next(&[MemberChange::Join(spec("third", "zone-9", 100))])
        .unwrap();
    assert_eq!(grown.copies_count(), 3);
    assert_eq!(grown.partitions_of(NodeId(3)).count(), 16);
}

#[test]
fn refuses_impossible_members() {
    let check = |members: Vec<MemberSpec>, part: &str| {
        let (count, copies) = (PartitionCount::default(), ReplicasN::default());
        let result = Layout::initial("demo".parse().unwrap(), count, copies, members);
        let message = result.unwrap_err().to_string();
        assert!(
            message.contains(part),
            "{message:?} should mention {part:?}"
        );
    };
    check(vec![], "no members");
    check(
        vec![spec("ada", "a", 1), spec("ada", "b", 1)],
        "two members are called ada",
    );
    check(together(1001), "1001 members");
}

#[test]
fn refuses_impossible_changes() {
    let check = |changes: &[MemberChange], expected: LayoutError| {
        assert_eq!(demo().next(changes), Err(expected));
    };
    let id = NodeId(9);
    check(
        &[MemberChange::Leave(id)],
        LayoutError::UnknownMember { id },
    );
    check(
        &[MemberChange::SetZone {
            id,
            zone: "east".parse().unwrap(),
        }],
        LayoutError::UnknownMember { id },
    );
    let name = "ada".parse().unwrap();
    check(
        &[MemberChange::Join(spec("ada", "east", 100))],
        LayoutError::NameTaken { name },
    );
    check(
        &[1, 2, 3].map(|id| MemberChange::Leave(NodeId(id))),
        LayoutError::NoMembers,
    );
}

#[test]
fn changes_apply_in_order_and_never_reuse_ids() {
    let ada_again = MemberChange::Join(spec("ada", "south", 50));
    let next = demo()
        .next(&[MemberChange::Leave(NodeId(1)), ada_again])
        .unwrap();
    assert_eq!(next.epoch(), LayoutEpoch(2));
    assert_eq!(next.member_named("ada").map(|m| m.id), Some(NodeId(4)));
    let replace = MemberChange::Replace {
        id: NodeId(4),
        with: spec("dora", "south", 50),
    };
    let weight = MemberChange::SetWeight {
        id: NodeId(5),
        weight: Weight::new(7).unwrap(),
    };
    let after = next.next(&[replace, weight]).unwrap();
    assert_eq!(after.member(NodeId(4)), None);
    assert_eq!(
        after
            .member(NodeId(5))
            .map(|m| (m.name.as_str(), m.weight.get())),
        Some(("dora", 7))
    );
    assert_eq!(after.genesis_hash(), demo().genesis_hash());
}

#[test]
fn addresses_change_neither_hashes_nor_placement() {
    let mut moved = spec("bob", "elsewhere", 1);
    moved.grpc_address = "10.0.0.2:9".to_owned();
    let layout = demo().with_addresses(&[moved, spec("stranger", "x", 1)]);
    let bob = layout.member_named("bob").unwrap();
    assert_eq!(
        (bob.grpc_address.as_str(), bob.zone.as_str()),
        ("10.0.0.2:9", "west")
    );
    assert_eq!(layout.members().len(), 3);
    assert_eq!(
        (layout.hash(), layout.genesis_hash()),
        (demo().hash(), demo().genesis_hash())
    );
    assert_ne!(layout, demo());
}

#[test]
fn every_founding_fact_changes_the_genesis_hash() {
    let base = demo().genesis_hash();
    let check = |changed: Layout| assert_ne!(changed.genesis_hash(), base);
    let members = |zone: &str, weight| {
        vec![
            spec("ada", zone, weight),
            spec("bob", "west", 100),
            spec("cleo", "north", 100),
        ]
    };
    assert_eq!(layout(256, 3, members("east", 100)).genesis_hash(), base);
    check(layout(256, 3, members("south", 100)));
    check(layout(256, 3, members("east", 101)));
    check(layout(128, 3, members("east", 100)));
    check(layout(256, 2, members("east", 100)));
    check(layout(256, 3, members("east", 100).split_off(1)));
    let (count, copies) = (PartitionCount::default(), ReplicasN::default());
    let other = "other".parse().unwrap();
    check(Layout::initial(other, count, copies, members("east", 100)).unwrap());
}

#[test]
fn contradicting_parts_are_refused() {
    let check = |spoil: fn(&mut LayoutParts), part: &str| {
        let mut parts = demo().to_parts();
        spoil(&mut parts);
        let message = Layout::from_parts(parts).unwrap_err().to_string();
        assert!(
            message.contains(part),
            "{message:?} should mention {part:?}"
        );
    };
    check(|parts| parts.epoch = LayoutEpoch(0), "epoch is 0");
    check(|parts| parts.members.clear(), "no members");
    check(|parts| parts.members[0].id = NodeId(0), "node id 0");
    check(|parts| parts.members[0].id = NodeId(2), "the id n2");
    check(
        |parts| parts.members[0].name = "bob".parse().unwrap(),
        "are called bob",
    );
    check(
        |parts| parts.next_node_id = NodeId(3),
        "not above the member id n3",
    );
    check(|parts| parts.assignment.truncate(255), "255 partitions");
    check(
        |parts| parts.assignment[7].truncate(2),
        "p7 has 2 owners instead of 3",
    );
    check(
        |parts| parts.assignment[7].push(NodeId(1)),
        "p7 has 4 owners instead of 3",
    );
    check(
        |parts| parts.assignment[7][0] = NodeId(4),
        "p7 is owned by n4",
    );
    check(
        |parts| parts.assignment[7] = vec![NodeId(1); 3],
        "p7 is owned twice by n1",
    );
    check(
        |parts| parts.genesis_hash = 5,
        "genesis hash is 0000000000000005",
    );
}

/// The join of a node into a cluster without zones to respect moves just the copies it will hold,
/// and its leaving just the copies it held: fewer cannot be.
#[test]
fn join_and_leave_move_the_least_possible() {
    let halls = [
        (together(5), "hall"),
        (apart(5), "new"),
        (together(12), "hall"),
        (apart(20), "new"),
    ];
    for (members, zone) in halls {
        let before = layout(256, 3, members);
        let join = MemberChange::Join(spec("zz-new", zone, 100));
        let joined = before.next(std::slice::from_ref(&join)).unwrap();
        let new = joined.member_named("zz-new").unwrap().id;
        let plan = crate::MovePlan::between(&before, &joined).unwrap();
        assert_eq!(plan.gains_count(), joined.partitions_of(new).count());
        assert_eq!(plan.gains_count(), 256 * 3 / joined.members().len());

        let left = joined.next(&[MemberChange::Leave(new)]).unwrap();
        let plan = crate::MovePlan::between(&joined, &left).unwrap();
        assert_eq!(plan.gains_count(), joined.partitions_of(new).count());
    }
}

/// The other nodes that hold a partition together with `node`: so many help to replace it.
fn companions(layout: &Layout, node: NodeId) -> BTreeSet<NodeId> {
    let owners = layout
        .partitions_of(node)
        .flat_map(|partition| layout.owners(partition));
    owners.copied().filter(|owner| *owner != node).collect()
}

/// When a node fails for good, many others share the work of replacing its copies.
#[test]
fn copies_scatter_over_many_nodes() {
    let check = |layout: &Layout, among: std::ops::RangeInclusive<u32>, least: usize| {
        for node in among.clone().map(NodeId) {
            let companions = companions(layout, node);
            let companions = companions
                .iter()
                .filter(|other| among.contains(&other.0))
                .count();
            assert!(
                companions >= least,
                "{node} shares partitions with {companions} nodes only"
            );
        }
    };
    let first = layout(256, 3, apart(20));
    check(&first, 1..=20, 15);
    let joining = |n: usize| MemberChange::Join(spec(&format!("zz-{n}"), &format!("new-{n}"), 100));
    let grown = first
        .next(&(0..20).map(joining).collect::<Vec<_>>())
        .unwrap();
    check(&grown, 1..=40, 16);
    check(&grown, 21..=40, 5);

    // Half of all copies move, and yet hardly any partition changes all of its owners at once.
    let plan = crate::MovePlan::between(&first, &grown).unwrap();
    let uprooted = plan
        .moves()
        .iter()
        .filter(|change| change.losses.len() == 3)
        .count();
    assert!(uprooted <= 2, "{uprooted} of 256 partitions keep no owner");

    let left = first.next(&[MemberChange::Leave(NodeId(7))]).unwrap();
    let gains = crate::MovePlan::between(&first, &left).unwrap().per_node();
    let gainers = gains.values().filter(|moves| moves.gains_count > 0).count();
    assert!(gainers >= 15, "only {gainers} of 19 nodes help");
}

proptest! {
    #[test]
    fn order_of_members_does_not_matter(members in any_members(8), seed in any::<prop::sample::Index>()) {
        let mut turned = members.clone();
        turned.rotate_left(seed.index(members.len()));
        let (one, two) = (layout(32, 3, members), layout(32, 3, turned));
        prop_assert_eq!(one.hash(), two.hash());
        prop_assert_eq!(one, two);
    }

    #[test]
    fn parts_and_back_is_the_same(layout in any_layout()) {
        prop_assert_eq!(Layout::from_parts(layout.to_parts()), Ok(layout));
    }

    #[test]
    fn move_plans_lead_from_old_owners_to_new(
        before in any_layout(), joining in prop::bool::ANY, pick in any::<prop::sample::Index>(),
    ) {
        let id = *pick.get(&before.members().keys().copied().collect::<Vec<_>>());
        let change = if joining || before.members().len() == 1 {
            MemberChange::Join(spec("zz-new", "zone-2", 100))
        } else {
            MemberChange::Leave(id)
        };
        let after = before.next(&[change]).unwrap();
        let plan = crate::MovePlan::between(&before, &after).unwrap();
        for change in plan.moves() {
            let mut owners: BTreeSet<NodeId> = before.owners(change.partition).iter().copied().collect();
            change.losses.iter().for_each(|node| assert!(owners.remove(node)));
            change.gains.iter().for_each(|node| assert!(owners.insert(*node)));
            prop_assert_eq!(owners, after.owners(change.partition).iter().copied().collect());
        }
    }

    #[test]
    fn nothing_moves_without_a_change(layout in any_layout()) {
        let next = layout.next(&[]).unwrap();
        prop_assert!(crate::MovePlan::between(&layout, &next).unwrap().is_empty());
        prop_assert!(layout.partition_count().partitions().all(|p| layout.owners(p) == next.owners(p)));
    }
}

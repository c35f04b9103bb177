//! The largest ring that a layout may describe: 1,000 nodes over 65,536 partitions.
//!
//! Slow without optimization, hence ignored; run it as
//! `cargo test --release -p souk-ring --test large -- --ignored --nocapture`.
//! What it printed last stands at the top of `src/placement/mod.rs`. Nothing is asserted about time, but
//! that every share is fair and that a join moves little more than the newcomer's share.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Instant;

use souk_ring::{
    Layout, MemberChange, MemberSpec, MovePlan, NodeId, PartitionCount, ReplicasN, Weight,
};

const NODES: usize = 999;
const ZONES: usize = 10;
const COPIES: usize = 3;

fn member(number: usize) -> MemberSpec {
    MemberSpec {
        name: format!("node-{number:04}").parse().unwrap(),
        zone: format!("zone-{}", number % ZONES).parse().unwrap(),
        weight: Weight::default(),
        grpc_address: format!("node-{number:04}:7101"),
        http_address: format!("node-{number:04}:7201"),
    }
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let done = work();
    println!("{what}: {:.2} s", started.elapsed().as_secs_f64());
    done
}

/// How many copies the least and the most loaded node hold.
fn loads(layout: &Layout) -> (usize, usize) {
    let mut held = vec![0_usize; NODES + 2];
    for partition in layout.partition_count().partitions() {
        for owner in layout.owners(partition) {
            held[owner.0 as usize] += 1;
        }
    }
    let held = layout.members().keys().map(|node| held[node.0 as usize]);
    (held.clone().min().unwrap(), held.max().unwrap())
}

#[test]
#[ignore = "takes minutes without optimization"]
fn a_thousand_nodes_are_planned_in_seconds() {
    let partitions = PartitionCount::new(PartitionCount::MAX).unwrap();
    let copies = ReplicasN::new(u32::try_from(COPIES).unwrap()).unwrap();
    let members: Vec<MemberSpec> = (0..NODES).map(member).collect();
    let first = timed("the first layout of 999 nodes", || {
        Layout::initial("large".parse().unwrap(), partitions, copies, members).unwrap()
    });
    let all = partitions.get() as usize * COPIES;
    check_fair(&first, all);

    let join = MemberChange::Join(member(NODES));
    let grown = timed("one node joins", || first.next(&[join]).unwrap());
    check_fair(&grown, all);
    let plan = MovePlan::between(&first, &grown).unwrap();
    let newcomer = grown.member_named("node-0999").unwrap().id;
    let due = grown.partitions_of(newcomer).count();
    println!(
        "  moves {} copies, the newcomer holds {due}",
        plan.gains_count()
    );
    assert!(plan.gains_count() <= due + all / 100);

    let shrunk = timed("one node leaves", || {
        grown.next(&[MemberChange::Leave(NodeId(500))]).unwrap()
    });
    check_fair(&shrunk, all);
    let zone: Vec<MemberChange> = (0..NODES)
        .filter(|number| number % ZONES == 0)
        .map(|number| MemberChange::Leave(NodeId(u32::try_from(number + 1).unwrap())))
        .collect();
    let without_zone = timed("a zone of 100 nodes leaves", || grown.next(&zone).unwrap());
    let weights: Vec<MemberChange> = (1..=100)
        .map(|id| MemberChange::SetWeight {
            id: NodeId(id),
            weight: Weight::new(200).unwrap(),
        })
        .collect();
    timed("100 nodes double their weight", || {
        grown.next(&weights).unwrap()
    });
    println!(
        "  loads without the zone: {:?} copies per node",
        loads(&without_zone)
    );
}

fn check_fair(layout: &Layout, all: usize) {
    let (least, most) = loads(layout);
    println!("  {least} to {most} copies per node");
    let fair = all / layout.members().len();
    // Zones hold equal shares, and their nodes divide them: one zone has a node less at times.
    assert!(fair - fair / 50 <= least && most <= fair + fair / 50 + 1);
}

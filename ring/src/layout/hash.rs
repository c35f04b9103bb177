//! Digests by which nodes notice that their layouts differ.
//!
//! Place: pure; exchanged in handshakes and heartbeats. Not a defence against forgers.
//! Source: Aumasson, Bernstein, SipHash, INDOCRYPT 2012 (SipHash-2-4).
//! Shape: a canonical encoding fed to SipHash-2-4: integers little-endian at their full width,
//!   texts and lists after their length as `u32`.
//! Invariants: 1. keys and encoding are fixed: nodes of different versions compare digests.
//!   2. addresses are left out: they change when a cluster starts on other ports.
//! Not here: tokens of keys, which have keys of their own (`crate::token`).

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use crate::layout::{Layout, ReplicasN};
use crate::member::{Standing, Weight};
use crate::name::Name;
use crate::partition::PartitionCount;

/// First half of the published key: the ASCII bytes `souk-lay`, read big-endian.
const LAYOUT_KEY_0: u64 = u64::from_be_bytes(*b"souk-lay");
/// Second half of the published key: the ASCII bytes `out-hsh1`, read big-endian.
const LAYOUT_KEY_1: u64 = u64::from_be_bytes(*b"out-hsh1");

/// The digest of a founding: see [`Layout::genesis_hash`]. `members` come in name order.
pub(super) fn genesis_hash<'a>(
    cluster_id: &Name,
    partition_count: PartitionCount,
    replicas_n: ReplicasN,
    members: impl ExactSizeIterator<Item = (&'a Name, &'a Name, Weight)>,
) -> u64 {
    let mut digest = Digest::new();
    digest.text(cluster_id.as_str());
    digest.number(partition_count.get());
    digest.number(replicas_n.get());
    digest.length(members.len());
    for (name, zone, weight) in members {
        digest.text(name.as_str());
        digest.text(zone.as_str());
        digest.number(weight.get());
    }
    digest.finish()
}

/// The digest of a whole layout: see [`Layout::hash`].
pub(super) fn layout_hash(layout: &Layout) -> u64 {
    let mut digest = placement(layout);
    // At the end, and only where there are any: layouts without stores keep the digest they had.
    for member in layout.members().values() {
        if let Some(store) = member.store {
            digest.number(member.id.0);
            digest.bytes(&store.0);
            digest.number(match member.standing {
                Standing::Full => 0,
                Standing::Learner => 1,
                Standing::Heir => 2,
            });
        }
    }
    digest.finish()
}

/// The digest of a layout but for its members' stores: see [`Layout::placement_hash`].
pub(super) fn placement_hash(layout: &Layout) -> u64 {
    placement(layout).finish()
}

fn placement(layout: &Layout) -> Digest {
    let mut digest = Digest::new();
    digest.long(layout.genesis_hash());
    digest.text(layout.cluster_id().as_str());
    digest.long(layout.epoch().0);
    digest.number(layout.partition_count().get());
    digest.number(layout.replicas_n().get());
    digest.number(layout.next_node_id().0);
    digest.length(layout.members().len());
    for member in layout.members().values() {
        digest.number(member.id.0);
        digest.text(member.name.as_str());
        digest.text(member.zone.as_str());
        digest.number(member.weight.get());
    }
    for partition in layout.partition_count().partitions() {
        let owners = layout.owners(partition);
        digest.length(owners.len());
        owners.iter().for_each(|owner| digest.number(owner.0));
    }
    // As with stores: only where there is something to say.
    if let Some(started) = layout.moving_since() {
        digest.long(started.0);
        for member in layout.members().keys() {
            digest.number(u32::from(layout.is_joining(*member)));
            digest.number(u32::from(layout.is_leaving(*member)));
        }
        for partition in layout.partition_count().partitions() {
            let owners = layout.next_owners(partition).unwrap_or_default();
            digest.length(owners.len());
            owners.iter().for_each(|owner| digest.number(owner.0));
        }
    }
    if layout.changes_applied() > 0 {
        digest.long(layout.changes_applied());
    }
    digest
}

/// Writes the canonical encoding into the hasher.
struct Digest(SipHasher24);

impl Digest {
    fn new() -> Digest {
        Digest(SipHasher24::new_with_keys(LAYOUT_KEY_0, LAYOUT_KEY_1))
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.write(bytes);
    }

    fn length(&mut self, length: usize) {
        self.number(u32::try_from(length).expect("names, members and owners are bounded"));
    }

    /// As bytes, because `Hasher::write_u32` is free to use the machine's own byte order.
    fn number(&mut self, number: u32) {
        self.0.write(&number.to_le_bytes());
    }

    fn long(&mut self, number: u64) {
        self.0.write(&number.to_le_bytes());
    }

    fn finish(self) -> u64 {
        self.0.finish()
    }
}

//! Digests, leaves and keys as they travel.

use bytes::{BufMut, Bytes, BytesMut};
use souk_kv_core::merkle::{
    Digest, GroupIndex, KeyState, LEAVES_PER_GROUP, LeafIndex, MerkleTree, TREE_GROUPS,
};
use souk_kv_proto::peer::TreeKey;

/// The digests of all groups of a tree.
pub(super) fn encode_groups(tree: &MerkleTree) -> Bytes {
    encode(tree.groups().iter().copied())
}

/// The leaves of some groups of a tree, one after the other.
pub(super) fn encode_leaves(tree: &MerkleTree, groups: &[GroupIndex]) -> Bytes {
    encode(groups.iter().flat_map(|group| tree.leaves(*group)))
}

fn encode(digests: impl Iterator<Item = Digest>) -> Bytes {
    let mut bytes = BytesMut::new();
    for digest in digests {
        bytes.put_slice(&digest.to_bytes());
    }
    bytes.freeze()
}

/// The digests of all groups; `None` when these are some other number.
pub(super) fn decode_groups(bytes: &[u8]) -> Option<[Digest; TREE_GROUPS]> {
    decode(bytes)?.try_into().ok()
}

/// The leaves of each group asked for; `None` when they are cut off.
pub(super) fn decode_leaves(bytes: &[u8]) -> Option<Vec<[Digest; LEAVES_PER_GROUP]>> {
    let digests = decode(bytes)?;
    let groups = digests.chunks(LEAVES_PER_GROUP);
    groups.map(|group| group.try_into().ok()).collect()
}

fn decode(bytes: &[u8]) -> Option<Vec<Digest>> {
    let digests = bytes.chunks(Digest::BYTES);
    digests
        .map(|digest| Some(Digest::from_bytes(digest.try_into().ok()?)))
        .collect()
}

/// One digest.
pub(super) fn decode_one(bytes: &[u8]) -> Option<Digest> {
    Some(Digest::from_bytes(bytes.try_into().ok()?))
}

/// Numbers of groups; those that do not exist are passed over.
pub(super) fn groups_from_wire(numbers: &[u32]) -> Vec<GroupIndex> {
    let group = |number: &u32| GroupIndex::new(u8::try_from(*number).ok()?);
    numbers.iter().filter_map(group).collect()
}

/// Numbers of leaves; those that do not exist are passed over.
pub(super) fn leaves_from_wire<C: FromIterator<LeafIndex>>(numbers: &[u32]) -> C {
    let leaf = |number: &u32| LeafIndex::new(u16::try_from(*number).ok()?);
    numbers.iter().filter_map(leaf).collect()
}

pub(super) fn key_to_wire(state: KeyState) -> TreeKey {
    TreeKey {
        store_key: state.key,
        causal_hash: state.causal_hash.unwrap_or_default(),
        damaged: state.causal_hash.is_none(),
        collecting: state.is_collecting,
    }
}

pub(super) fn key_from_wire(key: TreeKey) -> KeyState {
    KeyState {
        // A copy: the message that it came in is larger.
        key: Bytes::copy_from_slice(&key.store_key),
        causal_hash: (!key.damaged).then_some(key.causal_hash),
        is_collecting: key.collecting,
    }
}

#[cfg(test)]
mod tests {
    use souk_kv_core::merkle::KeyHash;

    use super::*;

    #[test]
    fn digests_travel_in_order() {
        let mut tree = MerkleTree::default();
        for key in [b"a", b"b", b"c"] {
            let key = KeyHash::of(key);
            tree.add(key.leaf(), key.digest(1));
        }
        assert_eq!(
            decode_groups(&encode_groups(&tree)).as_ref(),
            Some(tree.groups())
        );
        let groups = groups_from_wire(&[31, 2, 77]);
        assert_eq!(groups.len(), 2);
        let leaves = decode_leaves(&encode_leaves(&tree, &groups));
        let expected: Vec<_> = groups.iter().map(|group| tree.leaves(*group)).collect();
        assert_eq!(leaves, Some(expected));
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let bytes = encode_groups(&MerkleTree::default());
        for length in [1, 15, 16, 511] {
            assert_eq!(decode_groups(&bytes[..length]), None, "{length} bytes");
        }
        assert_eq!(decode_leaves(&bytes[..48]), None);
        assert_eq!(decode_leaves(&[]), Some(Vec::new()));
    }
}

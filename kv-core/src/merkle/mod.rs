//! Finds which few of very many records two replicas disagree about, by comparing sums of sums.
//!
//! The picture: two librarians with the same catalogue compare the number at the foot of the last page.
//! If it agrees they are done. If not they compare the numbers of the chapters, then of the pages of the
//! chapters that differ, and read out cards only from the pages that differ.
//!
//! One [`MerkleTree`] stands for the records of one bucket in one vnode. A record counts as one
//! [`Digest`], made of its key and its *causal state* only: which writes it has seen and which it holds.
//! What replicas may differ in and still agree (remembered requests, stamps, the order of arrival) is not
//! in it, or the same keys would be repaired for ever. The digests of a leaf are added up, modulo 2^128, so
//! that a changed record changes its leaf by "take away the old digest, add the new one", in any order and
//! without reading its neighbours. Inner nodes are the sums of what is below them: no more than three
//! additions for each write, and nothing to recompute.
//!
//! Arithmetic: 1,024 leaves in 32 groups. With a million keys in 256 partitions a leaf holds about four
//! keys: to find one differing key costs 512 bytes of group digests, 512 of leaf digests and four entries
//! of a key list, 1.2 KiB in all and three round trips, shared by all differences of a tree. With 64 leaves
//! the key lists would weigh four times as much; with 16,384 each tree would take 256 KiB of memory instead
//! of 16, and its leaf rows as much room as the keys. At a hundred million keys a leaf holds 400, which is
//! 20 KiB for a difference and still nothing beside reading the partition; more partitions are the remedy.
//!
//! Place: pure; used by `souk_kv_node::anti_entropy`, which keeps the leaves on disk and carries the messages.
//! Source: Merkle, A Digital Signature Based on a Conventional Encryption Function (1987); DeCandia et al.,
//! Dynamo, SOSP 2007, §4.7; Bellare, Micciancio, A New Paradigm for Collision-free Hashing: Incrementality
//! at Reduced Cost (1997), §5, for sums as hashes of sets; `basho/riak_core: src/hashtree.erl`.
//! Shape: [`KeyHash`] places a key and makes its digests, [`MerkleTree`] adds them up, [`MerkleExchange`] is
//! the comparison of two trees by one of their owners, [`compare_keys`] its last step.
//! Invariants: 1. equal sets of (key, causal state) have equal trees, whatever the order of changes.
//! 2. an exchange of equal trees asks for nothing. 3. no key is moved whose leaf agreed in either of two looks.
//! Not here: what of a record is hashed (`crate::causality`), where leaves are stored, and mending a tree
//! that disagrees with its own records (`souk_kv_node`). The sums detect faults, not forgery: whoever may
//! write records of his own making into a node has easier ways to hide one.

mod digest;
mod exchange;
mod keys;
mod tree;

pub use digest::{
    Digest, GroupIndex, KeyHash, LEAVES_PER_GROUP, LeafIndex, TREE_GROUPS, TREE_LEAVES,
};
pub use exchange::{ExchangeStep, MerkleExchange, SuspectSide};
pub use keys::{KeyMove, KeyState, MoveKind, compare_keys};
pub use tree::MerkleTree;

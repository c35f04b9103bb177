//! One owner's side of comparing its tree with another replica's.
//!
//! The other side only answers: its groups, some leaves, some keys. All state is here, and little of it, so
//! that either may vanish at any step. A leaf is looked at twice, with a pause between: most differences are
//! writes that have reached one replica a moment before the other, and are gone at the second look.
//!
//! ```text
//! roots differ -> AskGroups -> AskLeaves -> Pause -> AskLeaves -> ListKeys, page by page -> Done
//! ```
//!
//! Place: pure; one step of it at a time is carried out by `souk_kv_node::anti_entropy`.
//! Invariants: 1. whatever agrees ends the search below it. 2. a leaf whose keys agree on both sides while its
//! digests do not is a wrong tree: it is named by [`MerkleExchange::suspects`], and mended by whoever holds it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    Digest, GroupIndex, KeyHash, KeyMove, KeyState, LEAVES_PER_GROUP, LeafIndex, TREE_GROUPS,
    compare_keys,
};

/// What the driver is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeStep {
    /// Ask for the digests of all groups; answer with [`MerkleExchange::on_groups`].
    AskGroups,
    /// Ask for the leaves of these groups; answer with [`MerkleExchange::on_leaves`].
    AskLeaves(Vec<GroupIndex>),
    /// Let writes under way arrive, then say [`MerkleExchange::on_paused`].
    Pause,
    /// List keys of these leaves behind `after` on both sides; answer with [`MerkleExchange::on_keys`].
    ListKeys {
        /// In order.
        leaves: Vec<LeafIndex>,
        /// The last key of the page before.
        after: Option<Bytes>,
    },
    /// Nothing.
    Done,
}

/// Whose tree disagrees with its own records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuspectSide {
    /// The one that runs the exchange.
    Here,
    /// The one that was asked.
    There,
}

/// The comparison of one tree with one other replica's.
#[derive(Clone, Debug)]
pub struct MerkleExchange {
    state: State,
    suspects: Vec<(SuspectSide, LeafIndex)>,
}

#[derive(Clone, Debug)]
enum State {
    Groups,
    FirstLook(Vec<GroupIndex>),
    Pausing(BTreeSet<LeafIndex>),
    SecondLook(BTreeSet<LeafIndex>),
    Keys {
        leaves: BTreeMap<LeafIndex, Listed>,
        after: Option<Bytes>,
    },
    Done,
}

/// What is known of a leaf whose keys are being listed.
#[derive(Clone, Copy, Debug)]
struct Listed {
    own_tree: Digest,
    their_tree: Digest,
    own_keys: Digest,
    their_keys: Digest,
    /// Some key of it differs or is damaged, which explains the digests.
    is_explained: bool,
}

impl MerkleExchange {
    /// Begins with both roots.
    #[must_use]
    pub fn start(own_root: Digest, their_root: Digest) -> MerkleExchange {
        let state = if own_root == their_root {
            State::Done
        } else {
            State::Groups
        };
        MerkleExchange {
            state,
            suspects: Vec::new(),
        }
    }

    /// What comes next.
    #[must_use]
    pub fn step(&self) -> ExchangeStep {
        match &self.state {
            State::Groups => ExchangeStep::AskGroups,
            State::FirstLook(groups) => ExchangeStep::AskLeaves(groups.clone()),
            State::Pausing(_) => ExchangeStep::Pause,
            State::SecondLook(leaves) => ExchangeStep::AskLeaves(groups_of(leaves)),
            State::Keys { leaves, after } => ExchangeStep::ListKeys {
                leaves: leaves.keys().copied().collect(),
                after: after.clone(),
            },
            State::Done => ExchangeStep::Done,
        }
    }

    /// Takes in the digests of all groups of both sides. Out of turn it changes nothing.
    pub fn on_groups(&mut self, own: &[Digest; TREE_GROUPS], theirs: &[Digest; TREE_GROUPS]) {
        if !matches!(self.state, State::Groups) {
            return;
        }
        let differing: Vec<GroupIndex> = GroupIndex::all()
            .filter(|group| own[group.place()] != theirs[group.place()])
            .collect();
        self.state = if differing.is_empty() {
            State::Done
        } else {
            State::FirstLook(differing)
        };
    }

    /// Takes in the leaves of the groups asked for: `own` as they are now, `theirs` in the order of asking.
    /// Out of turn, or with another number of groups than were asked for, it changes nothing.
    pub fn on_leaves(
        &mut self,
        own: impl Fn(LeafIndex) -> Digest,
        theirs: &[[Digest; LEAVES_PER_GROUP]],
    ) {
        let (asked, looked_before) = match &self.state {
            State::FirstLook(groups) => (groups.clone(), None),
            State::SecondLook(leaves) => (groups_of(leaves), Some(leaves)),
            State::Groups | State::Pausing(_) | State::Keys { .. } | State::Done => return,
        };
        if asked.len() != theirs.len() {
            return;
        }
        let looks = asked
            .iter()
            .zip(theirs)
            .flat_map(|(group, leaves)| group.leaves().zip(leaves.iter().copied()))
            .map(|(leaf, theirs)| (leaf, own(leaf), theirs))
            .filter(|(leaf, own, theirs)| {
                own != theirs && looked_before.is_none_or(|before| before.contains(leaf))
            });
        let differing: BTreeMap<LeafIndex, Listed> = looks
            .map(|(leaf, own_tree, their_tree)| {
                let listed = Listed {
                    own_tree,
                    their_tree,
                    own_keys: Digest::ZERO,
                    their_keys: Digest::ZERO,
                    is_explained: false,
                };
                (leaf, listed)
            })
            .collect();
        self.state = if differing.is_empty() {
            State::Done
        } else if looked_before.is_none() {
            State::Pausing(differing.into_keys().collect())
        } else {
            State::Keys {
                leaves: differing,
                after: None,
            }
        };
    }

    /// The pause is over.
    pub fn on_paused(&mut self) {
        if let State::Pausing(leaves) = &mut self.state {
            self.state = State::SecondLook(std::mem::take(leaves));
        }
    }

    /// Takes in one page of both sides' keys, sorted, of the leaves asked for. Both lists cover the same stretch:
    /// up to `next`, behind which the next page begins, or to the end when there is none.
    #[must_use]
    pub fn on_keys(
        &mut self,
        own: &[KeyState],
        theirs: &[KeyState],
        next: Option<Bytes>,
    ) -> Vec<KeyMove> {
        let State::Keys { leaves, after } = &mut self.state else {
            return Vec::new();
        };
        for (is_own, states) in [(true, own), (false, theirs)] {
            for state in states {
                let key = KeyHash::of(&state.key);
                let Some(listed) = leaves.get_mut(&key.leaf()) else {
                    continue;
                };
                match state.causal_hash {
                    None => listed.is_explained = true,
                    Some(hash) if is_own => listed.own_keys += key.digest(hash),
                    Some(hash) => listed.their_keys += key.digest(hash),
                }
            }
        }
        let mut moves = compare_keys(own, theirs);
        moves.retain(|step| leaves.contains_key(&KeyHash::of(&step.key).leaf()));
        match next {
            Some(next) => *after = Some(next),
            None => {
                for (leaf, listed) in &*leaves {
                    self.suspects.extend(listed.suspects(*leaf));
                }
                self.state = State::Done;
            }
        }
        moves
    }

    /// Leaves that disagree with the records they stand for, as far as this exchange could see. A write between
    /// two of its steps looks the same, so this is a reason to check a leaf, not yet to change it.
    #[must_use]
    pub fn suspects(&self) -> &[(SuspectSide, LeafIndex)] {
        &self.suspects
    }
}

impl Listed {
    fn suspects(&self, leaf: LeafIndex) -> impl Iterator<Item = (SuspectSide, LeafIndex)> + use<> {
        let keys_agree = self.own_keys == self.their_keys && !self.is_explained;
        let here = keys_agree && self.own_tree != self.own_keys;
        let there = keys_agree && self.their_tree != self.their_keys;
        let side = |is_suspect: bool, side| is_suspect.then_some((side, leaf));
        [
            side(here, SuspectSide::Here),
            side(there, SuspectSide::There),
        ]
        .into_iter()
        .flatten()
    }
}

fn groups_of(leaves: &BTreeSet<LeafIndex>) -> Vec<GroupIndex> {
    let mut groups: Vec<GroupIndex> = leaves.iter().map(|leaf| leaf.group()).collect();
    groups.dedup();
    groups
}

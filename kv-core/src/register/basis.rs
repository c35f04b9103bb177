//! What a round stands on while its transactions are evaluated.
//!
//! Place: pure; made by `round`, read by `evaluate`.
//! Invariants: the rows are those of the state at `base`, which is the newest accepted ballot that a quorum
//! reported together with its promise of `ballot`.
//! Not here: what is done with it (`evaluate`).

use super::{Ballot, GroupSize, KnownRows};

/// The state to change, as far as it was asked for, and the ballot to change it with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Basis {
    pub(super) ballot: Ballot,
    pub(super) base: Ballot,
    /// The base is known to be chosen.
    pub(super) base_chosen: bool,
    /// The base is known to be the newest chosen ballot: a quorum said so within this round.
    pub(super) settled: bool,
    pub(super) size: GroupSize,
    pub(super) rows: KnownRows,
}

impl Basis {
    /// The ballot that is being filled.
    #[must_use]
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// The ballot whose state the rows are.
    #[must_use]
    pub fn base(&self) -> Ballot {
        self.base
    }

    /// The rows known, with the keys known to be free.
    #[must_use]
    pub fn rows(&self) -> &KnownRows {
        &self.rows
    }

    /// The size of the group at the base.
    #[must_use]
    pub fn size(&self) -> GroupSize {
        self.size
    }
}

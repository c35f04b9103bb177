//! The right to propose again in one round trip, won together with the last ballot.
//!
//! Whoever is served at the counter may draw the next ticket while still standing there. As long as
//! nobody else has drawn one meanwhile, the next purchase needs no queueing.
//!
//! Place: pure; handed out by `round` with a chosen ballot, spent on the next round.
//! Source: Rystsov, CASPaxos, 2018, §2.2.1 (one-round-trip optimization).
//! Invariants: 1. a quorum accepted `base` *and* promised `next` in those same replies, so that a round at
//! `next` already holds the promises of a quorum whose newest accepted ballot is `base`.
//! 2. it is spent once: it is neither `Clone` nor made outside this crate.
//! 3. it is no lease. Others may be ahead at any time; only the next accept tells. It never answers reads.
//! Not here: who keeps it between rounds (the driver, one per group, dropped freely).

use souk_ring::LayoutEpoch;

use super::limits::LEAD_ROWS_MAX;
use super::{Acceptors, Ballot, Delta, GroupSize, KnownRows, Report, RowKey};

/// A chosen ballot's state as far as it is known, and the promised ballot to change it with.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(test, derive(Clone))]
pub struct Lead {
    pub(super) acceptors: Acceptors,
    pub(super) epoch: LayoutEpoch,
    pub(super) base: Ballot,
    pub(super) next: Ballot,
    pub(super) size: GroupSize,
    pub(super) rows: KnownRows,
}

impl Lead {
    /// The layout epoch it was won in. In any other it is worthless.
    #[must_use]
    pub fn epoch(&self) -> LayoutEpoch {
        self.epoch
    }

    /// The chosen ballot it stands on.
    #[must_use]
    pub fn base(&self) -> Ballot {
        self.base
    }

    /// The keys among `wanted` that have to be learnt before a round can start.
    #[must_use]
    pub fn missing<'a>(&self, wanted: impl IntoIterator<Item = &'a RowKey>) -> Vec<RowKey> {
        self.rows.missing(wanted)
    }

    /// Takes in rows read from any acceptor, for example the one in this very process.
    /// `asked` are the keys that were looked up.
    ///
    /// # Errors
    /// [`LeadOutrun`] when the acceptor reports another ballot than the base: drop the lead.
    pub fn learn<'a>(
        &mut self,
        asked: impl IntoIterator<Item = &'a RowKey>,
        report: Report,
    ) -> Result<(), LeadOutrun> {
        if report.accepted != self.base {
            return Err(LeadOutrun {
                base: self.base,
                accepted: report.accepted,
            });
        }
        self.rows.learn(asked, report.rows);
        Ok(())
    }

    /// The rows after `delta` was chosen on top of them.
    pub(super) fn advance(mut rows: KnownRows, delta: &Delta) -> KnownRows {
        rows.advance(delta);
        if rows.len() > LEAD_ROWS_MAX {
            rows.clear();
        }
        rows
    }
}

/// What: an acceptor's state is not the one the lead stands on. Why: it lags, or another coordinator was
/// faster. Mend: ask another acceptor, or drop the lead and start with a prepare; nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the lead stands on ballot {base}, but the acceptor has {accepted}; start with a prepare instead"
)]
pub struct LeadOutrun {
    /// The lead's base.
    pub base: Ballot,
    /// What the acceptor has.
    pub accepted: Ballot,
}

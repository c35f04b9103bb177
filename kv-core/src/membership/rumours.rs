//! What peers say of each other: who heard whom, and how long ago.
//!
//! A rumour never makes a peer worth asking: a node can only ask those that it reaches itself. But it tells a node that
//! is down from one that only this node is cut off from, and who could pass something on to it.
//!
//! Place: pure; one per node, fed by the heartbeats of its peers.
//! Source: the gossiped views of Dynamo, SOSP 2007, §4.8, kept as plain sightings without membership.
//! Shape: ages travel, never times of day, so that no two clocks are compared.
//! Invariants: 1. older news never replaces newer. 2. at most one entry for each pair of members.

use std::{collections::BTreeMap, time::Duration};

use souk_ring::NodeId;

/// Who was heard by whom, by this node's clock.
#[derive(Clone, Debug, Default)]
pub struct Rumours {
    /// By subject, then by witness: when the witness last heard the subject.
    heard: BTreeMap<NodeId, BTreeMap<NodeId, Duration>>,
}

impl Rumours {
    /// `witness` says that it heard `subject` answer `ago` before it said so.
    pub fn hear(&mut self, witness: NodeId, subject: NodeId, ago: Duration, now: Duration) {
        let Some(at) = now.checked_sub(ago) else {
            return;
        };
        let last = self
            .heard
            .entry(subject)
            .or_default()
            .entry(witness)
            .or_default();
        *last = at.max(*last);
    }

    /// Who heard `subject` answer within the last `fresh`, in node order.
    pub fn witnesses(
        &self,
        subject: NodeId,
        now: Duration,
        fresh: Duration,
    ) -> impl Iterator<Item = NodeId> {
        let since = now.saturating_sub(fresh);
        self.heard
            .get(&subject)
            .into_iter()
            .flatten()
            .filter(move |&(_, &at)| at >= since)
            .map(|(&witness, _)| witness)
    }

    /// Forgets a node that left the layout, as witness and as subject.
    pub fn remove(&mut self, node: NodeId) {
        self.heard.remove(&node);
        for witnesses in self.heard.values_mut() {
            witnesses.remove(&node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Duration = Duration::from_secs(100);
    const FRESH: Duration = Duration::from_secs(2);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn check(rumours: &Rumours, subject: u32, now: Duration, expected: &[u32]) {
        let witnesses: Vec<u32> = rumours
            .witnesses(NodeId(subject), now, FRESH)
            .map(|witness| witness.0)
            .collect();
        assert_eq!(witnesses, expected);
    }

    #[test]
    fn only_fresh_sightings_count() {
        let mut rumours = Rumours::default();
        rumours.hear(NodeId(2), NodeId(3), secs(0), NOW);
        rumours.hear(NodeId(4), NodeId(3), secs(3), NOW);
        check(&rumours, 3, NOW, &[2]);
        check(&rumours, 4, NOW, &[]);
        check(&rumours, 3, NOW + secs(5), &[]);
    }

    #[test]
    fn a_node_that_left_is_forgotten() {
        let mut rumours = Rumours::default();
        rumours.hear(NodeId(2), NodeId(3), secs(0), NOW);
        rumours.hear(NodeId(4), NodeId(3), secs(0), NOW);
        rumours.remove(NodeId(2));
        check(&rumours, 3, NOW, &[4]);
        rumours.remove(NodeId(3));
        check(&rumours, 3, NOW, &[]);
    }

    proptest! {
        #[test]
        fn late_news_changes_nothing(ages in prop::collection::vec(0..10_000u64, 1..20)) {
            let mut rumours = Rumours::default();
            for &age in &ages {
                rumours.hear(NodeId(1), NodeId(2), Duration::from_millis(age), NOW);
            }
            let youngest = ages.iter().min().is_some_and(|&age| Duration::from_millis(age) <= FRESH);
            prop_assert_eq!(rumours.witnesses(NodeId(2), NOW, FRESH).count() == 1, youngest);
        }
    }
}

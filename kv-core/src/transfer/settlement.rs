//! When a move may settle: everybody who gains copies has said that it holds them all.
//!
//! Place: pure; made by the first sure member that seems up, at each look while copies move, to ask the gaining nodes.
//! Invariants: 1. a report counts only for the move that it speaks of. 2. nobody speaks for another.

use std::collections::BTreeSet;

use souk_ring::{Layout, LayoutEpoch, NodeId};

/// Who is still missing copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    started: LayoutEpoch,
    missing: BTreeSet<NodeId>,
}

impl Settlement {
    /// Everybody that gains something in `layout` is missing it; `None` when nothing moves. `copies` are the numbers of
    /// copies that buckets keep.
    pub fn of(layout: &Layout, copies: impl IntoIterator<Item = usize>) -> Option<Settlement> {
        Some(Settlement {
            started: layout.moving_since()?,
            missing: layout.gainers(copies),
        })
    }

    /// The epoch that began the move.
    #[must_use]
    pub fn started(&self) -> LayoutEpoch {
        self.started
    }

    /// A node says how many partitions it still lacks of the move that began at `started`.
    pub fn on_report(&mut self, from: NodeId, started: LayoutEpoch, partitions_left: u64) {
        if started == self.started && partitions_left == 0 {
            self.missing.remove(&from);
        }
    }

    /// Who has not said that it has everything.
    #[must_use]
    pub fn missing(&self) -> &BTreeSet<NodeId> {
        &self.missing
    }

    /// Whether the layout of the next owners alone may be proposed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use souk_ring::{MemberChange, MemberSpec, PartitionCount, ReplicasN, StoreId, Weight};

    use super::*;

    fn moving() -> Layout {
        let spec = |number: u8| MemberSpec {
            name: format!("n{number}").parse().unwrap(),
            zone: format!("z{number}").parse().unwrap(),
            weight: Weight::default(),
            grpc_address: String::new(),
            http_address: String::new(),
        };
        let members = (1..=3).map(spec).collect();
        let copies = ReplicasN::new(2).unwrap();
        let count = PartitionCount::new(16).unwrap();
        let first = Layout::initial("demo".parse().unwrap(), count, copies, members).unwrap();
        let stores = (1..=3)
            .map(|id| (NodeId(id), StoreId([id as u8; 16])))
            .collect();
        let changes = [MemberChange::Leave(NodeId(2)), MemberChange::Join(spec(4))];
        let shown = BTreeMap::from([("n4".parse().unwrap(), StoreId([4; 16]))]);
        first
            .founded(&stores)
            .unwrap()
            .begun(&changes, &shown, 1)
            .unwrap()
    }

    #[test]
    fn everybody_who_gains_has_to_say_so_itself() {
        let layout = moving();
        let started = LayoutEpoch(2);
        let mut settlement = Settlement::of(&layout, [1, 2]).unwrap();
        assert!(settlement.missing().contains(&NodeId(4)));
        for gainer in layout.gainers([1, 2]) {
            assert!(!settlement.is_complete());
            settlement.on_report(gainer, started, 3);
            settlement.on_report(gainer, LayoutEpoch(1), 0);
            settlement.on_report(NodeId(2), started, 0);
            assert!(settlement.missing().contains(&gainer));
            settlement.on_report(gainer, started, 0);
        }
        assert!(settlement.is_complete());
        assert_eq!(Settlement::of(&layout.settled().unwrap(), [2]), None);
    }
}

//! What clients were promised, kept beside the cluster and compared at the end.

use std::collections::BTreeSet;

use crate::causality::Record;

/// One write of a client.
#[derive(Clone, Debug)]
struct Write {
    /// The writes that its client had been shown.
    shown: BTreeSet<u64>,
    is_delete: bool,
    is_acknowledged: bool,
}

/// All writes; the number of a write is its place, counted from 1, and the sequence of its request.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    writes: Vec<Write>,
}

impl Truth {
    pub(super) fn begin(&mut self, shown: BTreeSet<u64>, is_delete: bool) -> u64 {
        self.writes.push(Write {
            shown,
            is_delete,
            is_acknowledged: false,
        });
        self.writes.len() as u64
    }

    pub(super) fn acknowledge(&mut self, number: u64) {
        self.writes[number as usize - 1].is_acknowledged = true;
    }

    pub(super) fn acknowledge_last(&mut self) {
        self.acknowledge(self.writes.len() as u64);
    }

    /// What is wrong with what is stored, when everybody holds this.
    pub(super) fn broken_by(&self, settled: &Record) -> Option<String> {
        let live: BTreeSet<u64> = settled
            .siblings()
            .iter()
            .filter(|sibling| !sibling.is_tombstone())
            .map(|sibling| sibling.request.sequence)
            .collect();
        let shown_to = |number: u64, acknowledged_only: bool| {
            self.writes.iter().any(|write| {
                write.shown.contains(&number) && (write.is_acknowledged || !acknowledged_only)
            })
        };
        for (index, write) in self.writes.iter().enumerate() {
            let number = index as u64 + 1;
            if live.contains(&number) && shown_to(number, true) {
                return Some(format!("write {number} was replaced and is back"));
            }
            let is_owed = write.is_acknowledged && !write.is_delete && !shown_to(number, false);
            if is_owed && !live.contains(&number) {
                return Some(format!("write {number} was acknowledged and is lost"));
            }
        }
        None
    }
}

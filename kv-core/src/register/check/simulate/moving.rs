//! The group's partition moves to other owners, again and again, while coordinators that have not heard of it write
//! on: the layouts are decided by the checker itself, at once and once each, as `crate::layout` proves; the
//! fence, the listing and the identity rounds are played out by the real [`PartitionTransfer`].

use std::collections::BTreeMap;

use souk_ring::{LayoutEpoch, NodeId};

use super::super::super::{Acceptors, Ballot, Verdict};
use super::super::mutant::Mutant;
use super::coordinator::reading_transaction;
use super::{Event, Question, World};
use crate::transfer::{PartitionTransfer, TransferAction};

/// Owners at any time.
const OWNERS: usize = 3;
/// Questions of movers carry client numbers from here on.
const MOVERS: usize = 1_000;
/// A mover that has heard nothing for so long asks again.
const MOVE_TICKS: u64 = 400;

/// The node that gains the group, and how far it has come. There is one group, so its name says nothing.
#[derive(Clone, Debug)]
pub(super) struct Mover {
    epoch: LayoutEpoch,
    transfer: PartitionTransfer<()>,
    attempt: u32,
}

impl World {
    /// Begins a move to owners at random, some of which may be the present ones.
    pub(super) fn begin_move(&mut self) {
        if self.operations_left == 0 {
            return;
        }
        let mut era = self.newest();
        let mut left: Vec<usize> = (0..self.replicas.len()).collect();
        let mut next = Vec::new();
        while next.len() < OWNERS {
            let pick = self.chance.below(left.len() as u64) as usize;
            next.push(left.swap_remove(pick));
        }
        let gaining = next.iter().filter(|node| !era.owners.contains(node));
        let gaining: Vec<usize> = gaining.copied().collect();
        if self.mutant != Some(Mutant::MoveUnfenced) {
            era.epoch = LayoutEpoch(era.epoch.0 + 1);
        }
        let old = era.owners.clone();
        match self.mutant {
            Some(Mutant::MoveAtOnce) => era.owners = next,
            _ => era.next = Some(next),
        }
        let epoch = era.epoch;
        self.eras.push(era);
        if self.mutant == Some(Mutant::MoveFromOne) {
            let source = old[self.chance.below(OWNERS as u64) as usize];
            for node in &gaining {
                let (header, rows) = (
                    self.replicas[source].header,
                    self.replicas[source].rows.clone(),
                );
                if self.replicas[*node].header.accepted < header.accepted {
                    self.replicas[*node].learn(header, rows);
                }
            }
            return self.after(1, Event::SettleMove);
        }
        for node in gaining {
            self.start_mover(node, epoch, &old);
        }
        if self.movers.is_empty() {
            self.after(1, Event::SettleMove);
        }
    }

    /// A mover that crashed begins anew: what it had not written down is asked again.
    pub(super) fn crash_mover(&mut self, node: usize) {
        let era = self.newest();
        if self.movers.contains_key(&node) {
            self.start_mover(node, era.epoch, &era.owners);
        }
    }

    fn start_mover(&mut self, node: usize, epoch: LayoutEpoch, old: &[usize]) {
        let givers = Acceptors::new(old.iter().map(|node| NodeId(*node as u32)));
        let attempt = self.movers.get(&node).map_or(0, |mover| mover.attempt + 1);
        let mover = Mover {
            epoch,
            transfer: PartitionTransfer::new(vec![givers], |_| true),
            attempt,
        };
        self.movers.insert(node, mover);
        self.replicas[node].adopt(epoch);
        let coordinator = &mut self.coordinators[node];
        coordinator.epoch = coordinator.epoch.max(epoch);
        self.push_mover(node);
    }

    /// Performs what the mover can do now.
    pub(super) fn push_mover(&mut self, node: usize) {
        let Some(mover) = self.movers.get_mut(&node) else {
            return;
        };
        let (actions, attempt) = (mover.transfer.actions(), mover.attempt);
        for action in actions {
            let ticks = 1 + self.chance.below(6);
            match action {
                TransferAction::ListGroups { from } => {
                    let from = from.0 as usize;
                    self.after(ticks, Event::ListGroups { mover: node, from });
                }
                TransferAction::SettleGroup(())
                    if self.mutant == Some(Mutant::MoveWithoutRounds) =>
                {
                    self.mover(node).transfer.on_settled(&());
                    self.after(1, Event::PushMover { mover: node });
                }
                TransferAction::SettleGroup(()) => {
                    let question = Question {
                        client: MOVERS + node,
                        sequence: 0,
                        attempt,
                        change: Some(reading_transaction()),
                    };
                    self.coordinators[node].waiting.push(question);
                    self.after(
                        MOVE_TICKS,
                        Event::MoverWaits {
                            mover: node,
                            attempt,
                        },
                    );
                    self.pump(node);
                }
                // The group is all there is here: records and their trees are another matter.
                TransferAction::CopyRecords { from } => {
                    self.mover(node).transfer.on_copied(from);
                    self.after(1, Event::PushMover { mover: node });
                }
                TransferAction::Compare { with } => {
                    self.mover(node).transfer.on_compared(with);
                    self.after(1, Event::PushMover { mover: node });
                }
            }
        }
        if self.movers.values().all(|mover| mover.transfer.is_done()) {
            self.after(1, Event::SettleMove);
        }
    }

    /// An old owner is asked for its groups.
    pub(super) fn list_groups(&mut self, node: usize, from: usize) {
        let Some(epoch) = self.movers.get(&node).map(|mover| mover.epoch) else {
            return;
        };
        if self.chance.percent(70) {
            self.replicas[from].adopt(epoch);
        }
        let is_split =
            node != from && (self.cut_off.contains(&node) || self.cut_off.contains(&from));
        let is_fenced = self.replicas[from].adopted >= epoch;
        let holds_it = self.replicas[from].header.accepted > Ballot::ZERO;
        let giver = NodeId(from as u32);
        let transfer = &mut self.mover(node).transfer;
        if is_split || !is_fenced {
            transfer.on_failed(&TransferAction::ListGroups { from: giver });
        } else {
            transfer.on_names(giver, holds_it.then_some(()));
        }
        let ticks = 1 + self.chance.below(10);
        self.after(ticks, Event::PushMover { mover: node });
    }

    /// The answer to a mover's round. True when it was one.
    pub(super) fn told_mover(
        &mut self,
        client: usize,
        attempt: u32,
        verdict: Option<&Verdict>,
    ) -> bool {
        let Some(node) = client.checked_sub(MOVERS) else {
            return false;
        };
        let Some(mover) = self
            .movers
            .get_mut(&node)
            .filter(|mover| mover.attempt == attempt)
        else {
            return true;
        };
        // The condition never holds: to say which row refused it, the coordinator had to get a state chosen.
        let is_chosen =
            matches!(verdict, Some(Verdict::NotApplied { failed }) if !failed.is_empty());
        if is_chosen {
            mover.transfer.on_settled(&());
            self.rounds_moved += 1;
        } else {
            mover.transfer.on_failed(&TransferAction::SettleGroup(()));
        }
        self.after(1, Event::PushMover { mover: node });
        true
    }

    /// A round's answer has not come: another one is tried.
    pub(super) fn mover_waits(&mut self, node: usize, attempt: u32) {
        let Some(mover) = self
            .movers
            .get_mut(&node)
            .filter(|mover| mover.attempt == attempt)
        else {
            return;
        };
        if !mover.transfer.is_done() {
            mover.transfer.on_failed(&TransferAction::SettleGroup(()));
            self.push_mover(node);
        }
    }

    /// The layout of the next owners alone is decided, once all of them hold the group.
    pub(super) fn settle_move(&mut self) {
        let mut era = self.newest();
        let is_done = self.movers.values().all(|mover| mover.transfer.is_done());
        let next = era.next.take();
        if !is_done || (next.is_none() && self.mutant != Some(Mutant::MoveAtOnce)) {
            return;
        }
        self.movers = BTreeMap::new();
        if let Some(next) = next {
            era.owners = next;
            if self.mutant != Some(Mutant::MoveUnfenced) {
                era.epoch = LayoutEpoch(era.epoch.0 + 1);
            }
            self.eras.push(era);
        }
        self.moves_settled += 1;
        let ticks = 20 + self.chance.below(200);
        self.after(ticks, Event::BeginMove);
    }

    fn mover(&mut self, node: usize) -> &mut Mover {
        self.movers
            .get_mut(&node)
            .expect("its event says that it moves")
    }
}

//! What nodes do in a round: the real machine asks, the real ledgers, fences and marks answer.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Mutant;
use super::cluster::{Body, Cluster, NODES, PRIMARIES, STAND_IN, node_id, others};
use crate::causality::Record;
use crate::tombstone::{
    Generation, Item, Judgement, Purpose, Refusal, Ripeness, Round, RoundAction, RoundActions,
    RoundId, judge,
};

/// Stamps count writes; by then all of them are old.
const NOW_MS: u64 = 1 << 40;
const RIPENESS: Ripeness = Ripeness {
    request_memory_ms: 0,
    clock_skew_max_ms: 0,
};
const KEY: Bytes = Bytes::from_static(b"key");

#[derive(Clone, Debug)]
pub(super) enum Ask {
    Mark {
        round: RoundId,
        item: (u64, Purpose),
    },
    Quiesce {
        round: RoundId,
    },
    Check {
        round: RoundId,
    },
    Settle {
        round: RoundId,
        item: (u64, Purpose),
    },
    Fence {
        generation: Generation,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Reply {
    Marked {
        round: RoundId,
        refusal: Option<Refusal>,
    },
    Quiesced {
        round: RoundId,
    },
    Checked {
        round: RoundId,
        is_hinted: bool,
    },
    Settled {
        round: RoundId,
        is_changed: bool,
    },
    Fenced {
        generation: Generation,
    },
}

#[derive(Debug)]
pub(super) struct RunningRound {
    id: RoundId,
    round: Round,
    item: (u64, Purpose),
}

/// A member on its way to ending what began before a generation.
#[derive(Debug)]
pub(super) struct Quiesce {
    generation: Generation,
    asker: usize,
    reply: Reply,
    /// Whose fences are not up yet; `None` while own work is running.
    unfenced: Option<BTreeSet<usize>>,
}

/// A fence that waits for records being stored.
#[derive(Debug)]
pub(super) struct Fencing {
    asker: usize,
    theirs: Generation,
    ours: Generation,
}

impl Cluster {
    pub(super) fn begin_round(&mut self, node: usize) {
        if node >= PRIMARIES || !self.members[node].is_up || self.members[node].round.is_some() {
            return;
        }
        let Some(purpose) = self.purpose(node) else {
            return;
        };
        let id = RoundId(self.draw());
        let digest = self.members[node].record.causal_hash();
        let item = Item {
            key: KEY,
            digest,
            purpose,
            primaries: (0..PRIMARIES).map(node_id).collect(),
        };
        let asked = if self.is(Mutant::SkipMember) {
            0..STAND_IN
        } else {
            0..NODES
        };
        let (round, actions) = Round::start(asked.map(node_id).collect(), vec![item]);
        self.members[node].round = Some(RunningRound {
            id,
            round,
            item: (digest, purpose),
        });
        self.perform(node, actions);
    }

    /// What a primary would have done with its record.
    fn purpose(&self, node: usize) -> Option<Purpose> {
        let record = &self.members[node].record;
        match judge(record, RIPENESS, NOW_MS) {
            Judgement::Erasable => Some(Purpose::Erase),
            Judgement::Wanted if self.is(Mutant::EraseValues) => Some(Purpose::Erase),
            Judgement::Wanted | Judgement::Foldable if !record.context().loose().is_empty() => {
                Some(Purpose::Fold)
            }
            _ => None,
        }
    }

    fn perform(&mut self, node: usize, actions: RoundActions) {
        let Some(running) = &self.members[node].round else {
            return;
        };
        let (round, item) = (running.id, running.item);
        for action in actions {
            let (to, ask) = match action {
                RoundAction::Mark { node, .. } => (node, Ask::Mark { round, item }),
                RoundAction::Quiesce { node } => (node, Ask::Quiesce { round }),
                RoundAction::Check { node, .. } => (node, Ask::Check { round }),
                RoundAction::Settle { node, .. } => (node, Ask::Settle { round, item }),
                RoundAction::Finish(report) => {
                    self.settled += report.settled.len();
                    self.members[node].round = None;
                    return;
                }
            };
            self.send(node, to.0 as usize, Body::Ask(ask));
        }
    }

    pub(super) fn on_reply(&mut self, from: usize, to: usize, reply: Reply) {
        if let Reply::Fenced { generation } = reply {
            for quiesce in &mut self.members[to].quiescing {
                if quiesce.generation == generation
                    && let Some(unfenced) = &mut quiesce.unfenced
                {
                    unfenced.remove(&from);
                }
            }
            return;
        }
        let Some(running) = &mut self.members[to].round else {
            return;
        };
        let (current, machine, from) = (running.id, &mut running.round, node_id(from));
        let actions = match reply {
            Reply::Marked { round, refusal } if round == current => {
                let refused: Vec<_> = refusal.map(|why| (0, why)).into_iter().collect();
                machine.on_marked(from, &refused)
            }
            Reply::Quiesced { round } if round == current => machine.on_quiesced(from),
            Reply::Checked { round, is_hinted } if round == current => {
                machine.on_checked(from, if is_hinted { &[0] } else { &[] })
            }
            Reply::Settled { round, is_changed } if round == current => {
                machine.on_settled(from, if is_changed { &[0] } else { &[] })
            }
            _ => return,
        };
        self.perform(to, actions);
    }

    pub(super) fn on_ask(&mut self, from: usize, to: usize, ask: Ask) {
        match ask {
            Ask::Mark { round, item } => {
                let refusal = self.mark(from, to, round, item);
                self.send(to, from, Body::Reply(Reply::Marked { round, refusal }));
            }
            Ask::Quiesce { round } => {
                let reply = Reply::Quiesced { round };
                if self.is(Mutant::SkipQuiesce) || self.is(Mutant::CheckEarly) {
                    self.send(to, from, Body::Reply(reply));
                } else {
                    self.quiesce(from, to, reply);
                }
            }
            Ask::Check { round } => {
                let is_hinted = !self.members[to].hints.is_empty() && !self.is(Mutant::SkipHints);
                let reply = Reply::Checked { round, is_hinted };
                if self.is(Mutant::SkipQuiesce) || self.is(Mutant::QuiesceOnce) {
                    self.send(to, from, Body::Reply(reply));
                } else {
                    self.quiesce(from, to, reply);
                }
            }
            Ask::Settle { round, item } => {
                let is_changed = !self.settle(from, to, round, item);
                self.send(to, from, Body::Reply(Reply::Settled { round, is_changed }));
            }
            Ask::Fence { generation } => {
                let member = &mut self.members[to];
                member.fences.raise(node_id(from), generation);
                let ours = Generation(member.arrivals.current().0 + 1);
                member.arrivals.begin(ours);
                member.fencing.push(Fencing {
                    asker: from,
                    theirs: generation,
                    ours,
                });
            }
        }
    }

    fn mark(
        &mut self,
        from: usize,
        to: usize,
        round: RoundId,
        (digest, purpose): (u64, Purpose),
    ) -> Option<Refusal> {
        let blind = self.is(Mutant::SkipMarks);
        let agreed = self.purpose(to);
        let member = &mut self.members[to];
        if !blind && member.record.causal_hash() != digest {
            return Some(Refusal::Different);
        }
        if !blind && agreed != Some(purpose) {
            return Some(Refusal::Unripe);
        }
        let from = node_id(from);
        let marked = member.marks.begin(from, round) && member.marks.mark(from, round, KEY, digest);
        (!marked).then_some(Refusal::Different)
    }

    fn settle(
        &mut self,
        from: usize,
        to: usize,
        round: RoundId,
        (digest, purpose): (u64, Purpose),
    ) -> bool {
        let regardless = self.is(Mutant::IgnoreChange);
        let member = &mut self.members[to];
        let is_marked = member.marks.take(node_id(from), round, &KEY, digest);
        let is_same = member.record.causal_hash() == digest;
        if !is_marked || !(is_same || regardless) {
            return false;
        }
        match purpose {
            Purpose::Erase => member.record = Record::default(),
            Purpose::Fold => member.record.fold_loose(),
        }
        true
    }

    fn quiesce(&mut self, asker: usize, node: usize, reply: Reply) {
        let member = &mut self.members[node];
        let generation = member.draw_generation();
        member.work.begin(generation);
        member.quiescing.push(Quiesce {
            generation,
            asker,
            reply,
            unfenced: None,
        });
    }

    /// Whoever has waited long enough goes on.
    pub(super) fn make_progress(&mut self) {
        let skip_work = self.is(Mutant::SkipWork);
        let skip_arrivals = self.is(Mutant::SkipArrivals);
        for node in 0..NODES {
            let mut replies = Vec::new();
            let mut fences = Vec::new();
            let member = &mut self.members[node];
            for quiesce in &mut member.quiescing {
                if quiesce.unfenced.is_none()
                    && (skip_work || member.work.is_clear_below(quiesce.generation))
                {
                    quiesce.unfenced = Some(others(node));
                    fences.push(quiesce.generation);
                }
            }
            member.quiescing.retain(|quiesce| {
                let is_done = quiesce.unfenced.as_ref().is_some_and(BTreeSet::is_empty);
                if is_done {
                    replies.push((quiesce.asker, quiesce.reply.clone()));
                }
                !is_done
            });
            member.fencing.retain(|fencing| {
                let is_done = skip_arrivals || member.arrivals.is_clear_below(fencing.ours);
                if is_done {
                    let generation = fencing.theirs;
                    replies.push((fencing.asker, Reply::Fenced { generation }));
                }
                !is_done
            });
            for (to, reply) in replies {
                self.send(node, to, Body::Reply(reply));
            }
            for generation in fences {
                for to in others(node) {
                    self.send(node, to, Body::Ask(Ask::Fence { generation }));
                }
            }
        }
    }
}

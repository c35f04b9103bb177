//! Disks that are lost, and the lessons that follow: the layouts are decided by the checker itself, at once and
//! once each, as `crate::layout` proves; everything that the fence and the lesson owe is played out.

use std::collections::BTreeSet;

use souk_ring::{LayoutEpoch, NodeId};

use super::super::super::{Acceptors, Lesson};
use super::super::mutant::Mutant;
use super::super::replica::{EPOCH, Replica, Reply, Request};
use super::{Event, World};

/// A layout: whose store counts in it.
#[derive(Clone, Debug)]
pub(super) struct Era {
    pub(super) epoch: LayoutEpoch,
    /// Which life of each node it names.
    lives: Vec<u32>,
    learner: Option<usize>,
    pub(super) owners: Vec<usize>,
    /// Set while the group moves.
    pub(super) next: Option<Vec<usize>>,
}

impl Era {
    pub(super) fn first(nodes: usize, owners: usize) -> Era {
        Era {
            epoch: EPOCH,
            lives: vec![0; nodes],
            learner: None,
            owners: (0..owners).collect(),
            next: None,
        }
    }

    /// Who votes in it.
    pub(super) fn acceptors(&self) -> Acceptors {
        let nodes = |owners: &[usize]| -> Vec<NodeId> {
            owners.iter().map(|node| NodeId(*node as u32)).collect()
        };
        match &self.next {
            Some(next) => Acceptors::joint(nodes(&self.owners), nodes(next)),
            None => Acceptors::new(nodes(&self.owners)),
        }
    }
}

/// A learner, and whom it has asked.
#[derive(Clone, Debug)]
pub(super) struct Pupil {
    life: u32,
    epoch: LayoutEpoch,
    lesson: Lesson,
    taking: bool,
}

impl World {
    /// A replica's answer, as its node's gate lets it out.
    pub(super) fn vote(&mut self, node: usize, request: &Request) -> Option<Reply> {
        if let Some(asked) = request.epoch()
            && asked > self.replicas[node].adopted
        {
            // It fetches the layout from who asked, or is too slow to.
            if self.chance.percent(50) {
                return None;
            }
            self.replicas[node].adopt(asked);
        }
        self.may_vote(node)
            .then(|| self.replicas[node].handle(request))
    }

    /// Whether the layout that the node has adopted names its present store, as one that is sure.
    pub(super) fn may_vote(&self, node: usize) -> bool {
        let adopted = self.replicas[node].adopted;
        let Some(era) = self.eras.iter().rfind(|era| era.epoch == adopted) else {
            return false;
        };
        let is_careless = matches!(
            self.mutant,
            Some(Mutant::VoteWhileLearner | Mutant::LearnNothing)
        );
        era.lives[node] == self.lives[node] && (era.learner != Some(node) || is_careless)
    }

    /// Takes a node's disk away, unless the others could not teach it then.
    pub(super) fn lose_disk(&mut self, node: usize) {
        let newest = self.newest();
        let all_named = newest.lives == self.lives;
        if newest.learner.is_some() || !all_named || self.operations_left == 0 {
            return;
        }
        self.lives[node] += 1;
        self.replicas[node] = Replica::new(self.mutant);
        self.coordinators[node] = self.coordinator();
        let ticks = 1 + self.chance.below(4);
        self.after(ticks, Event::AskIn { node });
    }

    /// The layout that takes the node in as a learner is decided.
    pub(super) fn ask_in(&mut self, node: usize) {
        let mut era = self.newest();
        era.lives[node] = self.lives[node];
        era.learner = Some(node);
        if self.mutant != Some(Mutant::LearnUnfenced) {
            era.epoch = LayoutEpoch(era.epoch.0 + 1);
        }
        self.eras.push(era.clone());
        self.replicas[node].adopt(era.epoch);
        if self.mutant == Some(Mutant::LearnNothing) {
            return self.promote(node);
        }
        let nodes = self.replicas.len();
        let acceptors = match self.mutant {
            // Believing one is as good as a majority.
            Some(Mutant::LearnFromOne) => vec![(node + 1) % nodes],
            _ => (0..nodes).collect(),
        };
        let lesson = Lesson::new(
            Acceptors::new(acceptors.into_iter().map(|node| NodeId(node as u32))),
            NodeId(node as u32),
            era.epoch,
            |_| true,
        );
        let teachers: BTreeSet<NodeId> = lesson.teachers().collect();
        let pupil = Pupil {
            life: self.lives[node],
            epoch: era.epoch,
            lesson,
            taking: false,
        };
        self.pupils.insert(node, pupil);
        for teacher in teachers {
            let ticks = 1 + self.chance.below(6);
            let teacher = teacher.0 as usize;
            self.after(
                ticks,
                Event::AskTeacher {
                    pupil: node,
                    teacher,
                },
            );
        }
    }

    pub(super) fn ask_teacher(&mut self, node: usize, teacher: usize) {
        let Some(epoch) = self.pupils.get(&node).map(|pupil| pupil.epoch) else {
            return;
        };
        let ticks = 1 + self.chance.below(8);
        if self.chance.percent(70) {
            self.replicas[teacher].adopt(epoch);
        }
        let is_split = self.cut_off.contains(&node) || self.cut_off.contains(&teacher);
        let header = self.replicas[teacher].header;
        if is_split || !self.may_vote(teacher) || !header.teaches(epoch) {
            return self.after(
                ticks,
                Event::AskTeacher {
                    pupil: node,
                    teacher,
                },
            );
        }
        let Some(pupil) = self.pupils.get_mut(&node) else {
            return;
        };
        pupil.lesson.on_header(NodeId(teacher as u32), header);
        let Some(source) = pupil.lesson.source().filter(|_| !pupil.taking) else {
            return;
        };
        pupil.taking = true;
        let source = source.0 as usize;
        self.after(
            ticks,
            Event::TakeRows {
                pupil: node,
                source,
            },
        );
    }

    pub(super) fn take_rows(&mut self, node: usize, source: usize) {
        let Some(pupil) = self.pupils.get(&node) else {
            return;
        };
        let is_split = self.cut_off.contains(&node) || self.cut_off.contains(&source);
        let teacher = &self.replicas[source];
        let learnt = pupil.lesson.learnt(&teacher.header);
        let (Some(header), false, true) = (learnt, is_split, self.may_vote(source)) else {
            let ticks = 1 + self.chance.below(8);
            let source = pupil.lesson.source().map_or(source, |node| node.0 as usize);
            return self.after(
                ticks,
                Event::TakeRows {
                    pupil: node,
                    source,
                },
            );
        };
        let rows = teacher.rows.clone();
        if pupil.life == self.lives[node] {
            self.replicas[node].learn(header, rows);
            self.lessons_learnt += 1;
        }
        self.pupils.remove(&node);
        let ticks = 1 + self.chance.below(6);
        self.after(ticks, Event::Promote { node });
    }

    /// The layout in which the learner counts again is decided.
    pub(super) fn promote(&mut self, node: usize) {
        let mut era = self.newest();
        era.learner = None;
        if self.mutant != Some(Mutant::LearnUnfenced) {
            era.epoch = LayoutEpoch(era.epoch.0 + 1);
        }
        self.eras.push(era.clone());
        self.replicas[node].adopt(era.epoch);
    }

    pub(super) fn newest(&self) -> Era {
        self.eras.last().cloned().expect("there is a first one")
    }
}

//! What a node does for clients: puts, gets with repair, handoff; slowly, and with records in hand meanwhile.

use std::collections::BTreeSet;

use super::Mutant;
use super::cluster::{Body, Cluster, MODE, NODES, PRIMARIES, STAND_IN, node_id};
use crate::causality::{
    ContentType, Dot, Mint, NewWrite, Observed, PutEffect, Record, RequestId, Stamp, Value,
};
use crate::tombstone::Generation;

/// Copies that make an acknowledgement.
const QUORUM: usize = 2;

/// How impatient waiting work is.
const GIVE_UP_PERCENT: u64 = 12;

/// How many records are stored late.
const SLOW_DISK_PERCENT: u64 = 2;

/// What a client knows, and what it knew before.
#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    now: Knowledge,
    once: Knowledge,
}

#[derive(Clone, Debug, Default)]
struct Knowledge {
    observed: Observed,
    shown: BTreeSet<u64>,
}

/// Work in the memory of a node.
#[derive(Clone, Debug)]
pub(super) struct Task {
    generation: Generation,
    kind: Kind,
    /// Receivers that have not been sent the record, and for whom they shall keep it.
    unsent: Vec<(usize, Option<usize>)>,
    waiting: BTreeSet<usize>,
    record: Record,
}

#[derive(Clone, Debug)]
enum Kind {
    Put {
        number: u64,
        client: usize,
        answer: Observed,
        copies: BTreeSet<usize>,
    },
    Get {
        client: usize,
        replies: Vec<(usize, Record)>,
    },
    Repair,
    Exchange,
    Handoff {
        target: usize,
        /// Who passes it on, where the way to the target is cut.
        through: Option<usize>,
    },
    /// Passes on what somebody else sends.
    Relay {
        asker: usize,
        task: u64,
        entered: Option<Generation>,
    },
}

/// A record that has arrived and is not stored yet.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    from: usize,
    task: u64,
    record: Record,
    hinted_for: Option<usize>,
    entered: Generation,
    not_before: u64,
}

impl Task {
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }
}

impl Cluster {
    /// A client does something at a node.
    pub(super) fn act(&mut self, client: usize, node: usize) {
        match self.chance.place(20) {
            0 => self.clients[client].once = self.clients[client].now.clone(),
            1 => self.clients[client].now = self.clients[client].once.clone(),
            2 => self.clients[client].now = Knowledge::default(),
            3..=9 => self.get(client, node),
            10..=12 => self.put(client, node, false),
            _ => self.put(client, node, true),
        }
    }

    fn put(&mut self, client: usize, node: usize, is_delete: bool) {
        let Knowledge { observed, shown } = self.clients[client].now.clone();
        let number = self.truth.begin(shown, is_delete);
        let id = self.draw();
        let member = &mut self.members[node];
        let generation = member.work.enter();
        member.counter += 1;
        let dot = Dot {
            actor: member.actor,
            counter: member.counter,
        };
        let is_primary = node < PRIMARIES;
        let (mut record, mint) = if is_primary {
            (member.record.clone(), Mint::Vector)
        } else {
            (Record::default(), Mint::Loose)
        };
        let request = RequestId {
            client: [1; 16],
            sequence: number,
        };
        let write = NewWrite {
            request,
            stamp: Stamp::next(number, record.stamp_floor(observed.context())),
            expires_unix_ms: None,
            value: (!is_delete).then(|| Value::new(ContentType::octets(), "x".into())),
        };
        let effect = record.put(MODE, &observed, dot, mint, write, number);
        assert!(
            matches!(effect, Ok(PutEffect::Written { .. })),
            "{effect:?}"
        );
        let answer = observed.with_own_write(&record, request, dot);
        let mut copies = BTreeSet::new();
        if is_primary {
            member.record = record.clone();
            copies.insert(node);
        }
        let kind = Kind::Put {
            number,
            client,
            answer,
            copies,
        };
        let unsent = (0..PRIMARIES)
            .filter(|&other| other != node)
            .map(|other| (other, None));
        let task = Task {
            generation,
            kind,
            unsent: unsent.collect(),
            waiting: BTreeSet::new(),
            record,
        };
        member.tasks.insert(id, task);
    }

    fn get(&mut self, client: usize, node: usize) {
        let id = self.draw();
        let generation = self.members[node].work.enter();
        let mut asked: BTreeSet<usize> = (0..PRIMARIES).collect();
        let left_out = self.chance.place(PRIMARIES);
        asked.remove(&left_out);
        if self.chance.percent(50) {
            asked.insert(STAND_IN);
        }
        let task = Task {
            generation,
            kind: Kind::Get {
                client,
                replies: Vec::new(),
            },
            unsent: Vec::new(),
            waiting: asked.clone(),
            record: Record::default(),
        };
        self.members[node].tasks.insert(id, task);
        for to in asked {
            let with_hints = to == STAND_IN;
            self.send(
                node,
                to,
                Body::Read {
                    task: id,
                    with_hints,
                },
            );
        }
    }

    pub(super) fn begin_handoff(&mut self, node: usize) {
        let member = &self.members[node];
        if member.is_up && !member.hints.is_empty() {
            let through = self.chance.place(2 * NODES);
            let through = Some(through).filter(|&through| through < NODES && through != node);
            self.begin_handoff_through(node, through);
        }
    }

    pub(super) fn begin_handoff_through(&mut self, node: usize, through: Option<usize>) {
        let member = &mut self.members[node];
        if !member.is_up || member.hints.is_empty() {
            return;
        }
        let index = self.chance.place(member.hints.len());
        let Some((&target, record)) = member.hints.iter().nth(index) else {
            return;
        };
        let through = through.filter(|&through| through != target);
        let task = Task {
            generation: member.work.enter(),
            kind: Kind::Handoff { target, through },
            unsent: vec![(target, None)],
            waiting: BTreeSet::new(),
            record: record.clone(),
        };
        let id = self.draw();
        self.members[node].tasks.insert(id, task);
    }

    /// A value is written and gets about; then it is deleted, while old copies are still in many hands.
    pub(super) fn begin_episode(&mut self) {
        self.write_through(false);
        for _ in 0..self.chance.place(4) {
            let node = self.chance.place(PRIMARIES);
            if !self.members[node].is_up || !self.members[STAND_IN].is_up {
                continue;
            }
            match self.chance.place(16) {
                0..=4 => self.begin_exchange(node),
                5..=9 => {
                    let client = self.chance.place(self.clients.len());
                    self.get(client, node);
                }
                10 => {
                    let client = self.chance.place(self.clients.len());
                    self.put(client, STAND_IN, false);
                }
                _ => {
                    let record = self.members[node].record.clone();
                    let target = self.chance.place(PRIMARIES);
                    self.store(STAND_IN, Some(target), &record);
                    self.begin_handoff(STAND_IN);
                }
            }
        }
        for _ in 0..self.chance.place(20) {
            self.turn();
        }
        self.write_through(true);
    }

    /// A client that knows everything writes, and nearly all primaries have it at once.
    fn write_through(&mut self, is_delete: bool) {
        let up: Vec<usize> = (0..PRIMARIES)
            .filter(|&node| self.members[node].is_up)
            .collect();
        if up.len() < QUORUM {
            return;
        }
        let node = up[self.chance.place(up.len())];
        let mut whole = Record::default();
        for &other in &up {
            whole.merge(&self.members[other].record, MODE);
        }
        let held = whole.siblings().iter();
        let knowledge = Knowledge {
            observed: Observed::whole(&whole),
            shown: held.map(|sibling| sibling.request.sequence).collect(),
        };
        let client = self.chance.place(self.clients.len());
        self.clients[client].now = knowledge;
        self.members[node].record = whole;
        self.put(client, node, is_delete);
        let written = self.members[node].record.clone();
        let left_out = self.chance.place(PRIMARIES * 4);
        let mut copies = 0;
        for other in up {
            if other != left_out || other == node {
                self.store(other, None, &written);
                copies += 1;
            }
        }
        if copies >= QUORUM {
            self.truth.acknowledge_last();
            // The coordinator may be done with it too early: nobody had room for a hint.
            if self.chance.percent(30)
                && let Some((_, task)) = self.members[node].tasks.pop_last()
            {
                self.members[node].work.leave(task.generation);
            }
        }
    }

    /// Anti-entropy of a kind: a primary gives what it holds to the others.
    pub(super) fn begin_exchange(&mut self, node: usize) {
        let unseen = self.is(Mutant::ExchangeUnseen);
        let member = &mut self.members[node];
        if !member.is_up || node >= PRIMARIES || member.record.is_empty() {
            return;
        }
        let others = (0..PRIMARIES).filter(|&other| other != node);
        let generation = if unseen {
            member.work.current()
        } else {
            member.work.enter()
        };
        let task = Task {
            generation,
            kind: Kind::Exchange,
            unsent: others.map(|other| (other, None)).collect(),
            waiting: BTreeSet::new(),
            record: member.record.clone(),
        };
        let id = self.draw();
        self.members[node].tasks.insert(id, task);
    }

    /// A node gives up all its work.
    pub(super) fn abandon(&mut self, node: usize) {
        for (id, mut task) in std::mem::take(&mut self.members[node].tasks) {
            task.unsent.clear();
            task.waiting.clear();
            self.keep_or_end(node, id, task);
        }
    }

    /// One task of a node sends its next record, or gives up waiting.
    pub(super) fn work_on_one(&mut self, node: usize) {
        let tasks = &self.members[node].tasks;
        if tasks.is_empty() {
            return;
        }
        let index = self.chance.place(tasks.len());
        let Some(id) = tasks.keys().nth(index).copied() else {
            return;
        };
        let Some(mut task) = self.members[node].tasks.remove(&id) else {
            return;
        };
        if let Some((to, hinted_for)) = task.unsent.pop() {
            let (to, body) = self.message_of(node, id, &task, to, hinted_for);
            if to == node {
                self.store(node, hinted_for, &task.record);
                self.on_copy(&mut task, node);
            } else {
                task.waiting.insert(to);
                self.send(node, to, body);
            }
        } else if self.chance.percent(GIVE_UP_PERCENT)
            && let Some(silent) = task.waiting.pop_first()
        {
            // A primary that does not answer is stood in for.
            if matches!(task.kind, Kind::Put { .. }) && silent != STAND_IN {
                task.unsent.push((STAND_IN, Some(silent)));
            }
            if matches!(task.kind, Kind::Get { .. }) {
                task.waiting.clear();
            }
        }
        self.keep_or_end(node, id, task);
    }

    fn message_of(
        &self,
        node: usize,
        id: u64,
        task: &Task,
        to: usize,
        hinted_for: Option<usize>,
    ) -> (usize, Body) {
        let record = task.record.clone();
        if let Kind::Handoff {
            target,
            through: Some(through),
        } = task.kind
        {
            let relay = Body::Relay {
                task: id,
                target,
                record,
                generation: task.generation,
            };
            return (through, relay);
        }
        let origin = match task.kind {
            Kind::Relay { asker, .. } if !self.is(Mutant::RelayAsOwn) => asker,
            _ => node,
        };
        let is_unseen = matches!(task.kind, Kind::Exchange) && self.is(Mutant::ExchangeUnseen);
        let generation = if is_unseen {
            self.members[node].work.current()
        } else {
            task.generation
        };
        let write = Body::Write {
            task: id,
            record,
            origin,
            generation,
            hinted_for,
        };
        (to, write)
    }

    fn keep_or_end(&mut self, node: usize, id: u64, task: Task) {
        let unseen_exchange = self.is(Mutant::ExchangeUnseen);
        let relay_as_own = self.is(Mutant::RelayAsOwn);
        let member = &mut self.members[node];
        if !task.unsent.is_empty() || !task.waiting.is_empty() {
            member.tasks.insert(id, task);
            return;
        }
        let is_own = match task.kind {
            Kind::Relay { entered, .. } => {
                if let Some(entered) = entered {
                    member.arrivals.leave(entered);
                }
                relay_as_own
            }
            Kind::Exchange => !unseen_exchange,
            _ => true,
        };
        if is_own {
            member.work.leave(task.generation);
        }
    }

    /// A write has come that is to be passed on.
    fn begin_relay(
        &mut self,
        from: usize,
        to: usize,
        (task, target): (u64, usize),
        record: Record,
        generation: Generation,
    ) {
        let as_own = self.is(Mutant::RelayAsOwn);
        let unseen = self.is(Mutant::RelayUnseen);
        let id = self.draw();
        let member = &mut self.members[to];
        let entered = member.arrivals.enter();
        if !member.fences.admits(node_id(from), generation) {
            member.arrivals.leave(entered);
            return;
        }
        let entered = if unseen {
            member.arrivals.leave(entered);
            None
        } else {
            Some(entered)
        };
        let task = Task {
            generation: if as_own {
                member.work.enter()
            } else {
                generation
            },
            kind: Kind::Relay {
                asker: from,
                task,
                entered,
            },
            unsent: vec![(target, None)],
            waiting: BTreeSet::new(),
            record,
        };
        member.tasks.insert(id, task);
    }

    /// A record has arrived, or an answer.
    pub(super) fn on_work(&mut self, from: usize, to: usize, body: Body) {
        match body {
            Body::Write {
                task,
                record,
                origin,
                generation,
                hinted_for,
            } => {
                let open = self.is(Mutant::SkipFence);
                let not_before = self.delay(SLOW_DISK_PERCENT);
                let member = &mut self.members[to];
                let entered = member.arrivals.enter();
                if open || member.fences.admits(node_id(origin), generation) {
                    member.storing.push(Arrival {
                        from,
                        task,
                        record,
                        hinted_for,
                        entered,
                        not_before,
                    });
                } else {
                    member.arrivals.leave(entered);
                }
            }
            Body::Relay {
                task,
                target,
                record,
                generation,
            } => self.begin_relay(from, to, (task, target), record, generation),
            Body::Read { task, with_hints } => {
                let member = &self.members[to];
                let mut record = Record::default();
                if with_hints {
                    for hint in member.hints.values() {
                        record.merge(hint, MODE);
                    }
                } else {
                    record.merge(&member.record, MODE);
                }
                self.send(to, from, Body::Found { task, record });
            }
            Body::Stored { task: id } => {
                let Some(mut task) = self.members[to].tasks.remove(&id) else {
                    return;
                };
                if task.waiting.remove(&from) {
                    self.on_copy(&mut task, from);
                    self.end_handoff(to, &task);
                    if let Kind::Relay { asker, task, .. } = task.kind {
                        self.send(to, asker, Body::Stored { task });
                    }
                }
                self.keep_or_end(to, id, task);
            }
            Body::Found { task: id, record } => {
                let Some(mut task) = self.members[to].tasks.remove(&id) else {
                    return;
                };
                if task.waiting.remove(&from) {
                    self.on_found(&mut task, from, record);
                }
                self.keep_or_end(to, id, task);
            }
            Body::Ask(_) | Body::Reply(_) => unreachable!("the cluster hands these on"),
        }
    }

    fn on_copy(&mut self, task: &mut Task, node: usize) {
        if let Kind::Put {
            number,
            client,
            answer,
            copies,
        } = &mut task.kind
        {
            copies.insert(node);
            if copies.len() == QUORUM {
                self.truth.acknowledge(*number);
                let knowledge = &mut self.clients[*client].now;
                knowledge.observed.merge(answer);
                knowledge.shown.insert(*number);
            }
        }
    }

    fn end_handoff(&mut self, node: usize, task: &Task) {
        if let Kind::Handoff { target, .. } = task.kind {
            let hints = &mut self.members[node].hints;
            if hints.get(&target) == Some(&task.record) {
                hints.remove(&target);
            }
        }
    }

    fn on_found(&mut self, task: &mut Task, from: usize, found: Record) {
        let Kind::Get { client, replies } = &mut task.kind else {
            return;
        };
        replies.push((from, found));
        if !task.waiting.is_empty() {
            return;
        }
        let mut whole = Record::default();
        for (_, record) in replies.iter() {
            whole.merge(record, MODE);
        }
        let knowledge = &mut self.clients[*client].now;
        knowledge.observed.merge(&Observed::whole(&whole));
        let held = whole.siblings().iter();
        knowledge
            .shown
            .extend(held.map(|sibling| sibling.request.sequence));
        let stale = replies
            .iter()
            .filter(|(node, record)| *node != STAND_IN && !record.same_causal_state(&whole));
        task.unsent = stale.map(|&(node, _)| (node, None)).collect();
        task.record = whole;
        task.kind = Kind::Repair;
    }

    /// One arrival of a node reaches its disk.
    pub(super) fn store_one(&mut self, node: usize) {
        let now = self.turns;
        let storing = &self.members[node].storing;
        let ready: Vec<usize> = (0..storing.len())
            .filter(|&index| storing[index].not_before <= now)
            .collect();
        if ready.is_empty() {
            return;
        }
        let index = ready[self.chance.place(ready.len())];
        let arrival = self.members[node].storing.swap_remove(index);
        self.store(node, arrival.hinted_for, &arrival.record);
        self.members[node].arrivals.leave(arrival.entered);
        self.send(node, arrival.from, Body::Stored { task: arrival.task });
    }

    pub(super) fn store(&mut self, node: usize, hinted_for: Option<usize>, record: &Record) {
        let member = &mut self.members[node];
        match hinted_for {
            Some(target) => member.hints.entry(target).or_default(),
            None => &mut member.record,
        }
        .merge(record, MODE);
    }
}

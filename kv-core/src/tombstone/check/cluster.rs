//! Nodes, messages between them, and the turns that chance takes.

use std::collections::{BTreeMap, BTreeSet};

use souk_ring::NodeId;

use super::Mutant;
use super::collection::{Ask, Fencing, Quiesce, Reply, RunningRound};
use super::truth::Truth;
use super::work::{Arrival, Client, Task};
use crate::causality::{ActorId, MergeMode, Record};
use crate::chance::Chance;
use crate::tombstone::{Fences, Generation, Marks, WorkLedger};

pub(super) const PRIMARIES: usize = 3;
/// The last one stands in.
pub(super) const NODES: usize = 4;
pub(super) const STAND_IN: usize = NODES - 1;
const CLIENTS: usize = 3;
/// Times that a value is written, copied about, and deleted.
const EPISODES: usize = 3;
/// Turns after each of these.
const TURNS: usize = 500;
/// How many records and answers are late, and for how many turns at most.
const LATE_PERCENT: u64 = 10;
const LATE_TURNS: usize = 400;
/// Messages of rounds that are delivered for each other one.
const ROUND_HASTE: usize = 6;
/// Turns within which everything under way has to end once nothing goes wrong any more.
const HEALING_TURNS: usize = 50_000;
pub(super) const MODE: MergeMode = MergeMode::Siblings;

#[derive(Clone, Debug)]
pub(super) enum Body {
    /// Store this, as a hint when it is for somebody else.
    Write {
        task: u64,
        record: Record,
        /// Whose work it is, and of which generation.
        origin: usize,
        generation: Generation,
        hinted_for: Option<usize>,
    },
    /// Have that one store this.
    Relay {
        task: u64,
        target: usize,
        record: Record,
        generation: Generation,
    },
    Stored {
        task: u64,
    },
    Read {
        task: u64,
        with_hints: bool,
    },
    Found {
        task: u64,
        record: Record,
    },
    Ask(Ask),
    Reply(Reply),
}

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) body: Body,
    /// The turn before which it does not arrive.
    not_before: u64,
}

/// One node: first what is on its disk, then what a crash takes away.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) record: Record,
    pub(super) hints: BTreeMap<usize, Record>,
    pub(super) actor: ActorId,
    pub(super) counter: u64,
    pub(super) generation: u64,
    pub(super) is_up: bool,
    pub(super) work: WorkLedger,
    pub(super) arrivals: WorkLedger,
    pub(super) fences: Fences,
    pub(super) marks: Marks,
    pub(super) tasks: BTreeMap<u64, Task>,
    pub(super) storing: Vec<Arrival>,
    pub(super) quiescing: Vec<Quiesce>,
    pub(super) fencing: Vec<Fencing>,
    pub(super) round: Option<RunningRound>,
}

impl Member {
    fn new(actor: ActorId) -> Member {
        Member {
            record: Record::default(),
            hints: BTreeMap::new(),
            actor,
            counter: 0,
            generation: 1,
            is_up: true,
            work: WorkLedger::new(Generation(1)),
            arrivals: WorkLedger::new(Generation(1)),
            fences: Fences::default(),
            marks: Marks::default(),
            tasks: BTreeMap::new(),
            storing: Vec::new(),
            quiescing: Vec::new(),
            fencing: Vec::new(),
            round: None,
        }
    }

    /// A generation that was never used, from the durable lease.
    pub(super) fn draw_generation(&mut self) -> Generation {
        self.generation = self.generation.max(self.work.current().0) + 1;
        Generation(self.generation)
    }
}

#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) chance: Chance,
    pub(super) mutant: Option<Mutant>,
    pub(super) members: Vec<Member>,
    pub(super) network: Vec<Message>,
    pub(super) clients: Vec<Client>,
    pub(super) truth: Truth,
    pub(super) drawn: u64,
    pub(super) turns: u64,
    /// Items that rounds settled, erased and folded.
    pub(super) settled: usize,
}

impl Cluster {
    pub(super) fn new(seed: u64, mutant: Option<Mutant>) -> Cluster {
        let mut cluster = Cluster {
            chance: Chance(seed),
            mutant,
            members: Vec::new(),
            network: Vec::new(),
            clients: vec![Client::default(); CLIENTS],
            truth: Truth::default(),
            drawn: 0,
            turns: 0,
            settled: 0,
        };
        for _ in 0..NODES {
            let actor = cluster.draw_actor();
            cluster.members.push(Member::new(actor));
        }
        cluster
    }

    /// Runs the seed; how many items were settled on the way, or what is wrong at the end.
    pub(super) fn run(mut self) -> Result<usize, String> {
        for _ in 0..EPISODES {
            self.begin_episode();
            for _ in 0..TURNS {
                self.turn();
                self.make_progress();
            }
        }
        self.heal()?;
        let whole = self.exchange();
        if let Some(broken) = self.truth.broken_by(&whole) {
            return Err(broken);
        }
        let on_the_way = self.settled;
        self.collect_in_peace()?;
        Ok(on_the_way)
    }

    pub(super) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    pub(super) fn send(&mut self, from: usize, to: usize, body: Body) {
        if self.members[to].is_up {
            let not_before = match body {
                Body::Ask(_) | Body::Reply(_) => 0,
                _ => self.delay(LATE_PERCENT),
            };
            self.network.push(Message {
                from,
                to,
                body,
                not_before,
            });
        }
    }

    /// Most things take a while, and some take very long.
    pub(super) fn delay(&mut self, percent: u64) -> u64 {
        if self.chance.percent(percent) {
            self.turns + self.chance.place(LATE_TURNS) as u64
        } else {
            0
        }
    }

    fn draw_actor(&mut self) -> ActorId {
        let number = u128::from(self.draw());
        ActorId::from_bytes(number.to_be_bytes())
    }

    pub(super) fn turn(&mut self) {
        self.turns += 1;
        let node = self.chance.place(NODES);
        match self.chance.place(1000) {
            0..=1 if self.members[node].is_up => {
                let client = self.chance.place(CLIENTS);
                self.act(client, node);
            }
            0..=449 => {
                // Rounds are chatty: without haste few of them would end before the world has changed.
                for _ in 0..ROUND_HASTE {
                    self.deliver_one(true);
                }
                self.deliver_one(false);
            }
            450..=453 => {
                if !self.network.is_empty() {
                    let index = self.chance.place(self.network.len());
                    self.network.swap_remove(index);
                }
            }
            454..=604 => self.store_one(self.busy(node, |member| !member.storing.is_empty())),
            605..=839 => self.work_on_one(self.busy(node, |member| !member.tasks.is_empty())),
            840..=859 => self.begin_exchange(node),
            860..=889 => self.begin_handoff(node),
            890..=891 if self.members[node].is_up => self.crash(node),
            890..=929 if !self.members[node].is_up => self.restart(node),
            930..=969 => self.begin_round(node),
            970..=979 => self.members[node].round = None,
            _ => self.misbehave(node),
        }
    }

    /// That node, or the next one of which it is true.
    fn busy(&self, node: usize, is_busy: impl Fn(&Member) -> bool) -> usize {
        let mut from_there = (0..NODES).map(|step| (node + step) % NODES);
        from_there
            .find(|&node| is_busy(&self.members[node]))
            .unwrap_or(node)
    }

    fn deliver_one(&mut self, of_rounds_only: bool) {
        let is_due = |message: &Message| {
            let is_of_round = matches!(message.body, Body::Ask(_) | Body::Reply(_));
            message.not_before <= self.turns && (is_of_round || !of_rounds_only)
        };
        let due: Vec<usize> = (0..self.network.len())
            .filter(|&index| is_due(&self.network[index]))
            .collect();
        if due.is_empty() {
            return;
        }
        let index = due[self.chance.place(due.len())];
        let message = self.network.swap_remove(index);
        self.hand_over(message);
    }

    pub(super) fn hand_over(&mut self, message: Message) {
        let Message { from, to, body, .. } = message;
        match body {
            Body::Ask(ask) => self.on_ask(from, to, ask),
            Body::Reply(reply) => self.on_reply(from, to, reply),
            other => self.on_work(from, to, other),
        }
    }

    pub(super) fn crash(&mut self, node: usize) {
        // Half of the stops are orderly ones, after which a node keeps its name.
        let actor = if self.chance.percent(50) {
            self.draw_actor()
        } else {
            self.members[node].actor
        };
        let member = &mut self.members[node];
        let disk = (member.record.clone(), member.hints.clone());
        let (counter, generation) = (member.counter, member.generation);
        *member = Member {
            counter,
            generation,
            is_up: false,
            ..Member::new(actor)
        };
        (member.record, member.hints) = disk;
        // What it had sent is still under way; what was sent to it is gone with its connections.
        self.network.retain(|message| message.to != node);
    }

    pub(super) fn restart(&mut self, node: usize) {
        let forgets = self.is(Mutant::ForgetGeneration);
        let id = node_id(node);
        let told = self
            .members
            .iter()
            .map(|peer| peer.fences.lowest_of(id))
            .max();
        let member = &mut self.members[node];
        member.is_up = true;
        if forgets {
            member.generation = 1;
            return;
        }
        member.generation += 1;
        member.work = WorkLedger::new(Generation(member.generation));
        member.work.begin(told.unwrap_or_default());
    }

    /// Everybody is back and everything under way arrives.
    fn heal(&mut self) -> Result<(), String> {
        // Nothing is late any more.
        self.turns += 2 * LATE_TURNS as u64;
        for node in 0..NODES {
            if !self.members[node].is_up {
                self.restart(node);
            }
            self.members[node].round = None;
        }
        self.drain()?;
        for _ in 0..HEALING_TURNS {
            if self.members.iter().all(|member| member.hints.is_empty()) {
                return Ok(());
            }
            for node in 0..NODES {
                self.begin_handoff(node);
            }
            self.drain()?;
        }
        Err("a hint cannot be delivered in a quiet cluster".to_owned())
    }

    fn drain(&mut self) -> Result<(), String> {
        for _ in 0..HEALING_TURNS {
            self.make_progress();
            let any = |busy: fn(&Member) -> bool| self.members.iter().any(busy);
            self.turns += LATE_TURNS as u64;
            if !self.network.is_empty() {
                self.deliver_one(false);
            } else if any(|member| !member.storing.is_empty()) {
                (0..NODES).for_each(|node| self.store_one(node));
            } else if any(|member| !member.tasks.is_empty()) {
                (0..NODES).for_each(|node| self.work_on_one(node));
            } else {
                return Ok(());
            }
        }
        Err("work does not end in a quiet cluster".to_owned())
    }

    /// Anti-entropy: all primaries end up with the same record.
    fn exchange(&mut self) -> Record {
        let mut whole = Record::default();
        for member in &self.members[..PRIMARIES] {
            whole.merge(&member.record, MODE);
        }
        for member in &mut self.members[..PRIMARIES] {
            member.record.merge(&whole, MODE);
        }
        whole
    }

    /// With nothing else going on, what is only deletes is collected.
    fn collect_in_peace(&mut self) -> Result<(), String> {
        let is_garbage = self.members[0].record.is_only_tombstones();
        self.begin_round(0);
        self.drain()?;
        if is_garbage {
            for (node, member) in self.members[..PRIMARIES].iter().enumerate() {
                if !member.record.is_empty() {
                    return Err(format!("node {node} keeps a tombstone in a quiet cluster"));
                }
            }
        }
        Ok(())
    }

    /// What only mutants do.
    fn misbehave(&mut self, node: usize) {
        let by_age = self.is(Mutant::EraseByAge);
        let unproven = self.is(Mutant::FoldUnproven);
        let member = &mut self.members[node];
        if by_age && member.record.is_only_tombstones() {
            member.record = Record::default();
        }
        if unproven {
            member.record.fold_loose();
        }
    }
}

pub(super) fn node_id(node: usize) -> NodeId {
    NodeId(node as u32)
}

pub(super) fn others(node: usize) -> BTreeSet<usize> {
    (0..NODES).filter(|&other| other != node).collect()
}

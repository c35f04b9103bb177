//! Every turn that a small world can take: 3 acceptors, 2 proposers, messages lost, repeated, reordered and
//! late, acceptors and proposers restarted.
//!
//! The network is the set of all requests ever sent. Any of them may arrive at any time, any number of
//! times, or never, which covers loss, repetition and reordering without saying so. A reply arrives at once
//! or never: a late reply tells what the acceptor knew when it sent it, and whatever its proposer
//! would send then may just as well be sent at once and arrive late.
//! A proposer that writes appends its mark to one row, so that the row's text tells its own lineage, and
//! puts a second row of its own, so that a change lost or left over shows beside the text. A proposer that
//! asks poses a question that changes nothing, and is told the text.
//!
//! Source: the shape of Lamport's TLA+ model of Paxos (`Paxos.tla`); states are interned as in a BDD package,
//! so that a step taken once is never computed again.
//! Invariants checked at every state: 1. equal accepted ballots mean equal rows. 2. chosen states form one
//! lineage: of two chosen texts the older is a prefix of the newer. 3. a proposer says "chosen" only of chosen
//! ballots. 4. an answer holds every text that was chosen when its round began. 5. no promise ever falls.

mod ghost;
mod proposer;
mod worlds;

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::rc::Rc;

use bytes::Bytes;

use self::ghost::{Ghost, is_chosen, newest_chosen, note_accepted};
use self::proposer::Proposer;
use super::super::{Ballot, BallotClock, GroupSize, Round, RowKey, RowView};
use super::mutant::Mutant;
use super::replica::{Replica, Reply, Request};
use crate::chance::Chance;

/// How large the world is.
#[derive(Clone, Debug)]
struct Plan {
    /// What each proposer does, in order: `true` appends its mark, `false` asks for the text.
    tasks: [Vec<bool>; 2],
    /// Rounds that each proposer may start, counting those that go on from a lead.
    rounds_max: [u8; 2],
    /// What the proposers' clocks show, throughout.
    clocks: [u64; 2],
    replica_restarts: u8,
    proposer_restarts: u8,
    /// Which proposers ask for the next promise.
    leads: [bool; 2],
    mutant: Option<Mutant>,
    states_max: usize,
}

/// A request on its way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Message {
    replica: u8,
    proposer: u8,
    /// The round that sent it; replies find their way back by it.
    ballot: Ballot,
    request: Request,
}

/// What moves a proposer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Cause {
    Start,
    Timeout,
    Restart,
    Reply { replica: u8, reply: Reply },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    replicas: [u32; 3],
    proposers: [u32; 2],
    ghost: u32,
    /// Numbers of all messages ever sent, sorted.
    network: Vec<u32>,
}

/// What a proposer's step shows to the checker.
#[derive(Clone, Debug)]
enum Shown {
    Chosen(Ballot),
    Answer(Bytes),
}

/// The result of a proposer's step: its new state, messages sent, things shown.
type Step = (u32, Vec<u32>, Vec<Shown>);

/// Gives equal values equal numbers.
struct Interned<T> {
    numbers: HashMap<T, u32>,
    values: Vec<T>,
}

impl<T: Clone + Eq + Hash> Interned<T> {
    fn new() -> Interned<T> {
        Interned {
            numbers: HashMap::new(),
            values: Vec::new(),
        }
    }

    fn number(&mut self, value: T) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let number = self.values.len() as u32;
        self.values.push(value.clone());
        self.numbers.insert(value, number);
        number
    }

    fn get(&self, number: u32) -> &T {
        &self.values[number as usize]
    }
}

struct Explorer {
    plan: Plan,
    messages: Interned<Message>,
    replicas: Interned<Replica>,
    proposers: Interned<Proposer>,
    ghosts: Interned<Ghost>,
    ghost_steps: HashMap<(u32, usize, u32), u32>,
    causes: Interned<Cause>,
    replica_steps: HashMap<(u32, u32), (u32, u32)>,
    proposer_steps: HashMap<(u32, u8, u32), Rc<Step>>,
}

/// The marks of the two proposers, then of the two after a restart.
const MARKS: [u8; 4] = *b"abcd";

/// Turns of one random walk, at most.
const WALK_TURNS_MAX: usize = 60;

fn text_key() -> RowKey {
    RowKey::user(b"text")
}

fn mark_key(mark: u8) -> RowKey {
    RowKey::user(&[mark])
}

fn text(rows: &impl RowView) -> Bytes {
    rows.row(&text_key())
        .and_then(|row| row.cell.clone())
        .map_or(Bytes::new(), |cell| cell.bytes)
}

impl Explorer {
    fn new(plan: Plan) -> Explorer {
        Explorer {
            plan,
            messages: Interned::new(),
            replicas: Interned::new(),
            proposers: Interned::new(),
            ghosts: Interned::new(),
            ghost_steps: HashMap::new(),
            causes: Interned::new(),
            replica_steps: HashMap::new(),
            proposer_steps: HashMap::new(),
        }
    }

    /// Visits every state, or `states_max` of them.
    /// The number of states visited, or the first violation.
    fn run(&mut self) -> Result<usize, String> {
        let first = self.first();
        let mut visited = HashSet::from([first.clone()]);
        // Half depth first, half anywhere: a world too large to exhaust is then sampled at every depth.
        let mut open = vec![first];
        let mut chance = Chance(1);
        while let Some(last) = open.len().checked_sub(1) {
            let place = if chance.percent(50) {
                last
            } else {
                chance.below(open.len() as u64) as usize
            };
            let world = open.swap_remove(place);
            for next in self.turns(&world)? {
                if visited.len() < self.plan.states_max && visited.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        Ok(visited.len())
    }

    /// Takes random turns from the beginning until one violates something, over and over.
    /// The number of walks taken, or the first violation.
    fn wander(&mut self, walks: usize) -> Result<usize, String> {
        let mut chance = Chance(2);
        for _ in 0..walks {
            let mut world = self.first();
            for _ in 0..WALK_TURNS_MAX {
                let mut next = self.turns(&world)?;
                next.retain(|next| *next != world);
                if next.is_empty() {
                    break;
                }
                let place = chance.below(next.len() as u64) as usize;
                world = next.swap_remove(place);
            }
        }
        Ok(walks)
    }

    fn first(&mut self) -> World {
        let replica = self.replicas.number(Replica::new(self.plan.mutant));
        let proposers = [0u8, 1].map(|index| {
            let proposer = Proposer {
                clock: BallotClock::new(u64::from(index) + 1),
                life: 0,
                seen: Ballot::ZERO,
                task: 0,
                rounds_left: self.plan.rounds_max[usize::from(index)],
                round: None,
                evaluation: None,
                basis: None,
                next: None,
                lead: None,
            };
            self.proposers.number(proposer)
        });
        let ghost = self.ghosts.number(Ghost::default());
        World {
            replicas: [replica; 3],
            proposers,
            ghost,
            network: Vec::new(),
        }
    }

    fn turns(&mut self, world: &World) -> Result<Vec<World>, String> {
        let mut next = Vec::new();
        for number in &world.network {
            self.deliver(world, *number, &mut next)?;
        }
        for index in 0..2 {
            for cause in [Cause::Start, Cause::Timeout, Cause::Restart] {
                if self.may(world, index, &cause) {
                    let cause = self.causes.number(cause);
                    next.push(self.propose(world, index, cause)?);
                }
            }
        }
        if self.ghosts.get(world.ghost).restarts[0] < self.plan.replica_restarts {
            for replica in 0..3 {
                let mut restarted = self.replicas.get(world.replicas[replica]).clone();
                restarted.restart();
                let mut ghost = self.ghosts.get(world.ghost).clone();
                ghost.restarts[0] += 1;
                let mut world = world.clone();
                world.replicas[replica] = self.replicas.number(restarted);
                world.ghost = self.ghosts.number(ghost);
                next.push(world);
            }
        }
        Ok(next)
    }

    fn may(&self, world: &World, index: u8, cause: &Cause) -> bool {
        let proposer = self.proposers.get(world.proposers[usize::from(index)]);
        let idle = proposer.round.is_none();
        let more =
            proposer.rounds_left > 0 && proposer.task < self.plan.tasks[usize::from(index)].len();
        match cause {
            Cause::Start => idle && more,
            Cause::Timeout => !idle && proposer.rounds_left > 0,
            Cause::Restart => {
                !idle
                    && more
                    && self.ghosts.get(world.ghost).restarts[1] < self.plan.proposer_restarts
            }
            Cause::Reply { .. } => false,
        }
    }

    /// An acceptor takes a request; its reply is lost, or reaches the round that asked.
    fn deliver(
        &mut self,
        world: &World,
        number: u32,
        worlds: &mut Vec<World>,
    ) -> Result<(), String> {
        let message = self.messages.get(number);
        let (place, proposer, ballot) = (
            usize::from(message.replica),
            message.proposer,
            message.ballot,
        );
        let before = world.replicas[place];
        let (after, cause) = match self.replica_steps.get(&(before, number)) {
            Some(step) => *step,
            None => self.replica_step(before, number)?,
        };
        let mut next = world.clone();
        if before != after {
            next.replicas[place] = after;
            next.ghost = self.note_accepted(world.ghost, place, before, after)?;
            worlds.push(next.clone());
        }
        let asking = self.proposers.get(world.proposers[usize::from(proposer)]);
        if asking
            .round
            .as_ref()
            .is_some_and(|round| round.ballot() == ballot)
        {
            worlds.push(self.propose(&next, proposer, cause)?);
        }
        Ok(())
    }

    fn replica_step(&mut self, before: u32, number: u32) -> Result<(u32, u32), String> {
        let message = self.messages.get(number).clone();
        let mut state = self.replicas.get(before).clone();
        let promised = state.header.promised;
        let reply = state.handle(&message.request);
        if state.header.promised < promised && self.plan.mutant.is_none() {
            return Err(format!("acceptor {} lowered its promise", message.replica));
        }
        if GroupSize::of(&state.rows) != state.header.size && self.plan.mutant.is_none() {
            return Err(format!(
                "acceptor {} counts {:?} wrongly",
                message.replica, state.header.size
            ));
        }
        let cause = self.causes.number(Cause::Reply {
            replica: message.replica,
            reply,
        });
        let step = (self.replicas.number(state), cause);
        self.replica_steps.insert((before, number), step);
        Ok(step)
    }

    fn note_accepted(
        &mut self,
        ghost: u32,
        place: usize,
        before: u32,
        after: u32,
    ) -> Result<u32, String> {
        let (old, new) = (self.replicas.get(before), self.replicas.get(after));
        if old.header.accepted == new.header.accepted {
            return Ok(ghost);
        }
        if let Some(noted) = self.ghost_steps.get(&(ghost, place, after)) {
            return Ok(*noted);
        }
        let mut noted = self.ghosts.get(ghost).clone();
        note_accepted(&mut noted, place, new.header.accepted, &new.rows)?;
        let noted = self.ghosts.number(noted);
        self.ghost_steps.insert((ghost, place, after), noted);
        Ok(noted)
    }

    fn propose(&mut self, world: &World, index: u8, cause: u32) -> Result<World, String> {
        let place = usize::from(index);
        let key = (world.proposers[place], index, cause);
        let step = match self.proposer_steps.get(&key) {
            Some(step) => Rc::clone(step),
            None => {
                let cause = self.causes.get(cause).clone();
                let step = Rc::new(self.proposer_step(key.0, index, &cause));
                self.proposer_steps.insert(key, Rc::clone(&step));
                step
            }
        };
        let (after, sent, shown) = &*step;
        let mut next = world.clone();
        next.proposers[place] = *after;
        sent.iter()
            .for_each(|message| send(&mut next.network, *message));
        let cause = self.causes.get(cause);
        if matches!(cause, Cause::Start | Cause::Restart) {
            let mut ghost = self.ghosts.get(world.ghost).clone();
            ghost.known_at_start[place] = newest_chosen(&ghost);
            ghost.restarts[1] += u8::from(*cause == Cause::Restart);
            next.ghost = self.ghosts.number(ghost);
        }
        let ghost = self.ghosts.get(next.ghost);
        for shown in shown {
            match shown {
                Shown::Chosen(ballot) if !ballot.is_zero() && !is_chosen(ghost, *ballot) => {
                    return Err(format!("proposer {index} says that {ballot} is chosen"));
                }
                Shown::Answer(text) if !text.starts_with(&ghost.known_at_start[place]) => {
                    return Err(format!(
                        "proposer {index} answers {text:?} after {:?}",
                        ghost.known_at_start
                    ));
                }
                Shown::Chosen(_) | Shown::Answer(_) => {}
            }
        }
        Ok(next)
    }

    fn proposer_step(&mut self, before: u32, index: u8, cause: &Cause) -> Step {
        let mut proposer = self.proposers.get(before).clone();
        let mut shown = Vec::new();
        let actions = match cause {
            Cause::Start => proposer.start(&self.plan, index),
            Cause::Timeout => proposer
                .round
                .as_mut()
                .map(Round::on_timeout)
                .unwrap_or_default(),
            Cause::Restart => {
                proposer.restart(&self.plan, index);
                Vec::new()
            }
            Cause::Reply { replica, reply } => proposer.take(*replica, reply.clone()),
        };
        let asking = proposer.round.as_ref().map(Round::ballot);
        let requests = proposer.perform(actions, &self.plan, index, &mut shown);
        let message = |(replica, request)| {
            let ballot = asking.unwrap_or(Ballot::ZERO);
            self.messages.number(Message {
                replica,
                proposer: index,
                ballot,
                request,
            })
        };
        let sent = requests.into_iter().map(message).collect();
        (self.proposers.number(proposer), sent, shown)
    }
}

fn send(network: &mut Vec<u32>, number: u32) {
    if let Err(place) = network.binary_search(&number) {
        network.insert(place, number);
    }
}

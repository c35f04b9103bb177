//! Long random runs: 3 or 5 acceptors, as many coordinators, clients that retry, and a bad network.
//!
//! Everything that a driver does is done here in its simplest form: queues, coalescing, leads, retries,
//! backoff, request memory, one-round reads. The clients' story then goes to `linearizability`.
//!
//! Invariants: a run follows from its seed and mutant alone; time is counted in ticks.

mod client;
mod coordinator;
mod loss;
mod moving;
mod runs;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::client::Client;
use self::coordinator::Coordinator;
use self::loss::{Era, Pupil};
use self::moving::Mover;
use super::super::{
    Backoff, BackoffLimits, Ballot, BallotClock, Row, RowKey, RowSelection, Rows, Transaction,
    Verdict,
};
use super::history::{Operation, ROWS, State, Tag};
use super::mutant::Mutant;
use super::replica::{EPOCH, Replica, Reply, Request};
use crate::chance::Chance;
use crate::outcome::Outcome;

const ROUND_TICKS: u64 = 30;
const CLIENT_TICKS: u64 = 60;
const ATTEMPTS_MAX: u32 = 10;

/// The size of a run.
#[derive(Clone, Copy, Debug)]
struct Size {
    nodes: usize,
    clients: usize,
    operations: usize,
}

#[derive(Clone, Debug)]
enum Event {
    ToReplica {
        replica: usize,
        coordinator: usize,
        round: Asking,
        request: Request,
    },
    ToCoordinator {
        coordinator: usize,
        round: Asking,
        from: usize,
        reply: Reply,
    },
    Ask {
        coordinator: usize,
        question: Question,
    },
    Tell {
        client: usize,
        sequence: u64,
        attempt: u32,
        told: Result<Verdict, State>,
        outcome: Outcome,
    },
    RoundTimeout {
        coordinator: usize,
        round: Asking,
    },
    Wake {
        coordinator: usize,
    },
    ClientTimeout {
        client: usize,
        sequence: u64,
        attempt: u32,
    },
    ClientNext {
        client: usize,
    },
    /// A wiped node asks to be taken in.
    AskIn {
        node: usize,
    },
    /// A learner asks a teacher.
    AskTeacher {
        pupil: usize,
        teacher: usize,
    },
    /// A learner fetches the rows it needs.
    TakeRows {
        pupil: usize,
        source: usize,
    },
    /// A learner that was taught is declared full.
    Promote {
        node: usize,
    },
    /// The group begins to move to other owners.
    BeginMove,
    /// A mover asks an old owner for its groups.
    ListGroups {
        mover: usize,
        from: usize,
    },
    /// A mover does what it can.
    PushMover {
        mover: usize,
    },
    /// A mover's round may have come to nothing.
    MoverWaits {
        mover: usize,
        attempt: u32,
    },
    /// The move settles, if everybody holds the group.
    SettleMove,
    Fault,
}

/// What goes wrong in a run besides the network and the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    /// Disks are lost, and learn.
    LostDisks,
    /// The first three nodes own the group at first; then it moves, again and again.
    Moves,
}

/// Whom a reply belongs to: a round or a read. Neither number is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asking {
    Round(Ballot),
    Read(u64),
}

#[derive(Clone, Debug)]
struct Question {
    client: usize,
    sequence: u64,
    attempt: u32,
    /// A change, or `None` for a read of all rows.
    change: Option<Transaction>,
}

struct World {
    chance: Chance,
    now: u64,
    events: BTreeMap<(u64, u64), Event>,
    number: u64,
    replicas: Vec<Replica>,
    coordinators: Vec<Coordinator>,
    clients: Vec<Client>,
    cut_off: BTreeSet<usize>,
    history: Vec<Operation>,
    operations_left: usize,
    mutant: Option<Mutant>,
    rounds_led: u64,
    trouble: Trouble,
    /// Every layout ever decided.
    eras: Vec<Era>,
    /// How often each node has lost its disk.
    lives: Vec<u32>,
    pupils: BTreeMap<usize, Pupil>,
    lessons_learnt: u64,
    /// Nodes that are given the group.
    movers: BTreeMap<usize, Mover>,
    rounds_moved: u64,
    moves_settled: u64,
}

fn row_key(row: usize) -> RowKey {
    RowKey::user(&[row as u8])
}

fn all_rows() -> RowSelection {
    RowSelection::keys((0..ROWS).map(row_key))
}

fn tag_of(row: &Row) -> Option<Tag> {
    let bytes = &row.cell.as_ref()?.bytes;
    Some(Tag::from_be_bytes(bytes[..].try_into().unwrap()))
}

fn state_of(rows: &Rows) -> State {
    std::array::from_fn(|row| rows.get(&row_key(row)).and_then(tag_of))
}

impl World {
    fn new(seed: u64, size: Size, mutant: Option<Mutant>, trouble: Trouble) -> World {
        let owners = match trouble {
            Trouble::Moves => 3,
            Trouble::None | Trouble::LostDisks => size.nodes,
        };
        let mut world = World {
            chance: Chance(seed),
            now: 1_000,
            events: BTreeMap::new(),
            number: 0,
            replicas: (0..size.nodes).map(|_| Replica::new(mutant)).collect(),
            coordinators: Vec::new(),
            clients: (0..size.clients).map(|_| Client::default()).collect(),
            cut_off: BTreeSet::new(),
            history: Vec::new(),
            operations_left: size.operations,
            mutant,
            rounds_led: 0,
            trouble,
            eras: vec![Era::first(size.nodes, owners)],
            lives: vec![0; size.nodes],
            pupils: BTreeMap::new(),
            lessons_learnt: 0,
            movers: BTreeMap::new(),
            rounds_moved: 0,
            moves_settled: 0,
        };
        for _ in 0..size.nodes {
            let coordinator = world.coordinator();
            world.coordinators.push(coordinator);
        }
        for client in 0..size.clients {
            world.after(client as u64, Event::ClientNext { client });
        }
        world.after(50, Event::Fault);
        if trouble == Trouble::Moves {
            let ticks = world.chance.below(40);
            world.after(ticks, Event::BeginMove);
        }
        world
    }

    fn coordinator(&mut self) -> Coordinator {
        let limits = BackoffLimits {
            first: Duration::from_millis(10),
            waits_max: 6,
            ..BackoffLimits::default()
        };
        Coordinator {
            clock: BallotClock::new(self.chance.next()),
            seen: Ballot::ZERO,
            waiting: Vec::new(),
            active: None,
            lead: None,
            backoff: Backoff::new(limits),
            epoch: EPOCH,
            paused: false,
            reads: BTreeMap::new(),
        }
    }

    /// Runs until every client has had its say, and gives the history.
    fn run(mut self) -> (Vec<Operation>, u64) {
        self.run_on();
        (self.history, self.rounds_led)
    }

    fn run_on(&mut self) {
        while let Some((time, event)) = self.events.pop_first() {
            self.now = time.0;
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToReplica {
                replica,
                coordinator,
                round,
                request,
            } => {
                let Some(reply) = self.vote(replica, &request) else {
                    return;
                };
                let reply = Event::ToCoordinator {
                    coordinator,
                    round,
                    from: replica,
                    reply,
                };
                self.post(replica, coordinator, reply);
            }
            Event::ToCoordinator {
                coordinator,
                round,
                from,
                reply,
            } => self.reply(coordinator, round, from, reply),
            Event::Ask {
                coordinator,
                question,
            } => self.ask(coordinator, question),
            Event::Tell {
                client,
                sequence,
                attempt,
                told,
                outcome,
            } => {
                if !self.told_mover(client, attempt, told.as_ref().ok()) {
                    self.tell(client, sequence, attempt, told, outcome);
                }
            }
            Event::RoundTimeout { coordinator, round } => self.round_timeout(coordinator, round),
            Event::Wake { coordinator } => {
                self.coordinators[coordinator].paused = false;
                self.pump(coordinator);
            }
            Event::ClientTimeout {
                client,
                sequence,
                attempt,
            } => self.client_timeout(client, sequence, attempt),
            Event::ClientNext { client } => self.client_next(client),
            Event::AskIn { node } => self.ask_in(node),
            Event::AskTeacher { pupil, teacher } => self.ask_teacher(pupil, teacher),
            Event::TakeRows { pupil, source } => self.take_rows(pupil, source),
            Event::Promote { node } => self.promote(node),
            Event::BeginMove => self.begin_move(),
            Event::ListGroups { mover, from } => self.list_groups(mover, from),
            Event::PushMover { mover } => self.push_mover(mover),
            Event::MoverWaits { mover, attempt } => self.mover_waits(mover, attempt),
            Event::SettleMove => self.settle_move(),
            Event::Fault => self.fault(),
        }
    }

    /// Where disks are lost or owners change, a proposer has the patience to count a vote from before.
    fn round_ticks(&self) -> u64 {
        if self.is_patient() { 250 } else { ROUND_TICKS }
    }

    fn is_patient(&self) -> bool {
        self.trouble != Trouble::None
    }

    fn after(&mut self, ticks: u64, event: Event) {
        self.number += 1;
        self.events.insert((self.now + ticks, self.number), event);
    }

    /// Sends a message between two nodes: lost, late or twice at times.
    fn post(&mut self, from: usize, to: usize, event: Event) {
        let split = from != to && (self.cut_off.contains(&from) || self.cut_off.contains(&to));
        if split || self.chance.percent(3) {
            return;
        }
        for _ in 0..1 + u64::from(self.chance.percent(5)) {
            // Some messages outlive a whole lesson, or a whole move.
            let very_late = if self.is_patient() { 300 } else { 80 };
            let late = if self.chance.percent(5) { very_late } else { 6 };
            let ticks = 1 + self.chance.below(late);
            self.after(ticks, event.clone());
        }
    }

    /// Carries a message between a client and a coordinator: lost or late at times, but never twice,
    /// because a stream repeats nothing by itself; a client that repeats says so in the attempt.
    fn carry(&mut self, event: Event) {
        if !self.chance.percent(3) {
            let late = if self.chance.percent(5) { 80 } else { 6 };
            let ticks = 1 + self.chance.below(late);
            self.after(ticks, event);
        }
    }

    fn fault(&mut self) {
        let nodes = self.replicas.len() as u64;
        let node = self.chance.below(nodes) as usize;
        self.crash_mover(node);
        let loses_disks = self.trouble == Trouble::LostDisks;
        match self.chance.below(if loses_disks { 6 } else { 4 }) {
            4 => self.lose_disk(node),
            // The worst moment: who is left has to go on with the one that was away.
            5.. => {
                self.lose_disk(node);
                self.cut_off = BTreeSet::from([self.chance.below(nodes) as usize]);
            }
            0 => self.cut_off = BTreeSet::from([node]),
            1 => self.cut_off.clear(),
            2 => self.replicas[node].restart(),
            _ => self.coordinators[node] = self.coordinator(),
        }
        if self.operations_left > 0 {
            let ticks = if self.is_patient() {
                10 + self.chance.below(80)
            } else {
                30 + self.chance.below(200)
            };
            self.after(ticks, Event::Fault);
        } else {
            self.cut_off.clear();
        }
    }
}

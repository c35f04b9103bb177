//! Long random runs: 3 or 5 acceptors, as many coordinators, clients that retry, and a bad network.
//!
//! Everything that a driver does is done here in its simplest form: queues, coalescing, leads, retries,
//! backoff, request memory, one-round reads. The clients' story then goes to `linearizability`.
//!
//! Invariants: a run follows from its seed and mutant alone; time is counted in ticks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use souk_ring::NodeId;

use super::super::{
    Acceptors, Action, AfterLoss, Answer, Backoff, BackoffLimits, Ballot, BallotClock, Cell,
    Condition, Evaluation, EvaluationTime, Lead, Lost, ReadOutcome, ReadReply, ReadRound,
    RequestStamp, Round, Row, RowKey, RowOperation, RowSelection, Rows, Transaction, Verdict,
    Version, Write, after_loss, evaluate,
};
use super::Chance;
use super::history::{Call, Need, Operation, Part, ROWS, State, Tag, Told};
use super::linearizability::is_linearizable;
use super::mutant::Mutant;
use super::replica::{EPOCH, Replica, Reply, Request, read_request};
use crate::causality::RequestId;
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
    Fault,
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

struct Coordinator {
    clock: BallotClock,
    seen: Ballot,
    waiting: Vec<Question>,
    active: Option<Active>,
    lead: Option<Lead>,
    backoff: Backoff,
    paused: bool,
    reads: BTreeMap<u64, Reading>,
}

struct Active {
    round: Round,
    batch: Vec<Question>,
    evaluation: Option<Evaluation>,
}

struct Reading {
    round: ReadRound,
    question: Question,
    replies: BTreeMap<NodeId, Rows>,
}

#[derive(Default)]
struct Client {
    sequence: u64,
    attempt: u32,
    /// The call under way, with its place in the history.
    current: Option<(usize, Call, RequestStamp)>,
    /// The rows as last seen.
    seen: [Option<(Version, Tag)>; ROWS],
    /// The versions that conditions of the present call stand for.
    versions: BTreeMap<Tag, Version>,
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

fn put(tag: Tag) -> Write {
    let bytes = Bytes::copy_from_slice(&tag.to_be_bytes());
    Write::Put(Cell {
        content_type: super::content_type(),
        bytes,
    })
}

fn state_of(rows: &Rows) -> State {
    std::array::from_fn(|row| rows.get(&row_key(row)).and_then(tag_of))
}

impl World {
    fn new(seed: u64, size: Size, mutant: Option<Mutant>) -> World {
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
        };
        for _ in 0..size.nodes {
            let coordinator = world.coordinator();
            world.coordinators.push(coordinator);
        }
        for client in 0..size.clients {
            world.after(client as u64, Event::ClientNext { client });
        }
        world.after(50, Event::Fault);
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
            paused: false,
            reads: BTreeMap::new(),
        }
    }

    /// Runs until every client has had its say, and gives the history.
    fn run(mut self) -> (Vec<Operation>, u64) {
        while let Some((time, event)) = self.events.pop_first() {
            self.now = time.0;
            self.happen(event);
        }
        (self.history, self.rounds_led)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToReplica {
                replica,
                coordinator,
                round,
                request,
            } => {
                let reply = self.replicas[replica].handle(&request);
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
                self.tell(client, sequence, attempt, told, outcome);
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
            Event::Fault => self.fault(),
        }
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
            let late = if self.chance.percent(5) { 80 } else { 6 };
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
        match self.chance.below(4) {
            0 => self.cut_off = BTreeSet::from([node]),
            1 => self.cut_off.clear(),
            2 => self.replicas[node].restart(),
            _ => self.coordinators[node] = self.coordinator(),
        }
        if self.operations_left > 0 {
            let ticks = 30 + self.chance.below(200);
            self.after(ticks, Event::Fault);
        } else {
            self.cut_off.clear();
        }
    }

    // ----- coordinators -----

    fn ask(&mut self, place: usize, question: Question) {
        if question.change.is_some() {
            self.coordinators[place].waiting.push(question);
            return self.pump(place);
        }
        self.number += 1;
        let id = self.number;
        let acceptors = self.acceptors();
        let reading = Reading {
            round: ReadRound::new(acceptors, EPOCH),
            question,
            replies: BTreeMap::new(),
        };
        self.coordinators[place].reads.insert(id, reading);
        let wanted = Arc::new(all_rows());
        for replica in 0..self.replicas.len() {
            self.request(place, replica, Asking::Read(id), read_request(&wanted));
        }
        self.after(
            ROUND_TICKS,
            Event::RoundTimeout {
                coordinator: place,
                round: Asking::Read(id),
            },
        );
    }

    fn acceptors(&self) -> Acceptors {
        Acceptors::new((0..self.replicas.len()).map(|node| NodeId(node as u32)))
    }

    fn request(&mut self, coordinator: usize, replica: usize, round: Asking, request: Request) {
        self.post(
            coordinator,
            replica,
            Event::ToReplica {
                replica,
                coordinator,
                round,
                request,
            },
        );
    }

    /// Starts a round when there is work and none is under way.
    fn pump(&mut self, place: usize) {
        let acceptors = self.acceptors();
        let coordinator = &mut self.coordinators[place];
        if coordinator.active.is_some() || coordinator.paused || coordinator.waiting.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut coordinator.waiting);
        let keys: BTreeSet<_> = batch
            .iter()
            .filter_map(|question| question.change.as_ref())
            .flat_map(Transaction::keys)
            .collect();
        let mut lead = coordinator.lead.take();
        if let Some(held) = &mut lead {
            let missing = held.missing(&keys);
            let own = &self.replicas[place];
            let rows = RowSelection::keys(missing.iter().cloned()).select(&own.rows);
            if !missing.is_empty() && held.learn(&missing, own.header.report(rows)).is_err() {
                lead = None;
            }
        }
        let (round, actions) = match lead {
            Some(lead) => {
                self.rounds_led += 1;
                (Round::resume(lead), vec![Action::Evaluate])
            }
            None => {
                let ballot = coordinator.clock.next(self.now, coordinator.seen).unwrap();
                Round::prepare(acceptors, EPOCH, ballot, RowSelection::keys(keys))
            }
        };
        let asking = Asking::Round(round.ballot());
        coordinator.active = Some(Active {
            round,
            batch,
            evaluation: None,
        });
        self.after(
            ROUND_TICKS,
            Event::RoundTimeout {
                coordinator: place,
                round: asking,
            },
        );
        self.perform(place, actions);
    }

    fn perform(&mut self, place: usize, actions: Vec<Action>) {
        let mut open = VecDeque::from(actions);
        while let Some(action) = open.pop_front() {
            let Some(active) = &self.coordinators[place].active else {
                return;
            };
            let asking = Asking::Round(active.round.ballot());
            match action {
                Action::SendPrepare { to, request } => {
                    self.request(place, to.0 as usize, asking, Request::Prepare(request));
                }
                Action::SendAccept { to, request } => {
                    self.request(place, to.0 as usize, asking, Request::Accept(request));
                }
                Action::FetchGroup {
                    from,
                    behind,
                    since,
                } => {
                    self.request(
                        place,
                        from.0 as usize,
                        asking,
                        Request::Fetch { behind, since },
                    );
                }
                Action::Evaluate => open.extend(self.evaluate(place)),
                Action::Chosen(mut chosen) => {
                    let coordinator = &mut self.coordinators[place];
                    coordinator.lead = chosen.take_lead();
                    coordinator.backoff.reset();
                    let active = coordinator.active.take().unwrap();
                    let verdicts = active.evaluation.unwrap().open(&chosen).unwrap();
                    for (question, verdict) in active.batch.into_iter().zip(verdicts) {
                        self.answer(question, verdict);
                    }
                    return self.pump(place);
                }
                Action::Lost(lost) => return self.lost(place, lost),
            }
        }
    }

    fn evaluate(&mut self, place: usize) -> Vec<Action> {
        let time = EvaluationTime {
            now_unix_ms: self.now,
            request_memory_ms: 100_000,
            clock_skew_max_ms: 1_000,
        };
        let coordinator = &mut self.coordinators[place];
        let active = coordinator.active.as_mut().unwrap();
        let basis = active.round.basis().unwrap();
        let queue = active
            .batch
            .iter()
            .filter_map(|question| question.change.as_ref());
        let evaluation = evaluate(basis, &time, queue).unwrap();
        let next = coordinator.clock.next(self.now, basis.ballot).unwrap();
        let actions = active.round.propose(&evaluation, Some(next));
        active.evaluation = Some(evaluation);
        actions
    }

    fn lost(&mut self, place: usize, mut lost: Lost) {
        let random = self.chance.next();
        let coordinator = &mut self.coordinators[place];
        coordinator.seen = coordinator.seen.max(lost.highest_seen);
        let wait = coordinator.backoff.next(random);
        let active = coordinator.active.take().unwrap();
        if self.mutant == Some(Mutant::ForgetExposure) {
            lost.accepts_sent = false;
        }
        for mut question in active.batch {
            let Some(change) = &mut question.change else {
                continue;
            };
            let outcome = match after_loss(change, &lost, wait.is_some()) {
                AfterLoss::TryAgain => {
                    self.coordinators[place].waiting.push(question);
                    continue;
                }
                AfterLoss::NotApplied => Outcome::NotApplied,
                AfterLoss::Unknown => Outcome::Unknown,
            };
            // The client of a lost ballot hears nothing of conditions; only "not applied" is told apart.
            if outcome == Outcome::NotApplied {
                let verdict = Verdict::NotApplied { failed: Vec::new() };
                self.tell_later(&question, Ok(verdict), outcome);
            }
        }
        match wait {
            Some(wait) => {
                self.coordinators[place].paused = true;
                self.after(wait.as_millis() as u64, Event::Wake { coordinator: place });
            }
            None => {
                self.coordinators[place].backoff.reset();
                self.pump(place);
            }
        }
    }

    fn reply(&mut self, place: usize, asking: Asking, from: usize, reply: Reply) {
        let node = NodeId(from as u32);
        match (asking, reply) {
            (Asking::Read(id), Reply::Read(reply)) => self.read_reply(place, id, node, &reply),
            (Asking::Round(ballot), reply) => {
                let Some(active) = &mut self.coordinators[place].active else {
                    return;
                };
                if active.round.ballot() != ballot {
                    return;
                }
                let actions = match reply {
                    Reply::Promise(reply) => active.round.on_promise(node, reply),
                    Reply::Accept(reply) => active.round.on_accept(node, reply),
                    Reply::Group { behind, image } => {
                        active.round.on_group(node, behind, Some(image))
                    }
                    Reply::Read(_) => return,
                };
                self.perform(place, actions);
            }
            _ => {}
        }
    }

    fn read_reply(&mut self, place: usize, id: u64, from: NodeId, reply: &ReadReply) {
        let Some(reading) = self.coordinators[place].reads.get_mut(&id) else {
            return;
        };
        let mut outcome = reading.round.on_reply(from, reply);
        if let ReadReply::Report(report) = reply {
            reading.replies.insert(from, report.rows.clone());
            if self.mutant == Some(Mutant::ReadOne) {
                outcome = Some(ReadOutcome::Settled {
                    ballot: report.accepted,
                    sources: vec![from],
                });
            }
        }
        if let Some(outcome) = outcome {
            self.finish_read(place, id, outcome);
        }
    }

    fn finish_read(&mut self, place: usize, id: u64, outcome: ReadOutcome) {
        let Some(reading) = self.coordinators[place].reads.remove(&id) else {
            return;
        };
        match outcome {
            ReadOutcome::Settled { sources, .. } => {
                let state = state_of(&reading.replies[&sources[0]]);
                self.tell_later(&reading.question, Err(state), Outcome::Applied);
            }
            ReadOutcome::NeedsIdentityRound { highest_seen } => {
                let coordinator = &mut self.coordinators[place];
                coordinator.seen = coordinator.seen.max(highest_seen);
                let question = Question {
                    change: Some(reading_transaction()),
                    ..reading.question
                };
                coordinator.waiting.push(question);
                self.pump(place);
            }
            ReadOutcome::Unreachable | ReadOutcome::Epoch(_) => {}
        }
    }

    fn round_timeout(&mut self, place: usize, asking: Asking) {
        match asking {
            Asking::Read(id) => {
                if let Some(reading) = self.coordinators[place].reads.get_mut(&id) {
                    let outcome = reading.round.on_timeout();
                    self.finish_read(place, id, outcome);
                }
            }
            Asking::Round(ballot) => {
                let Some(active) = &mut self.coordinators[place].active else {
                    return;
                };
                if active.round.ballot() == ballot {
                    let actions = active.round.on_timeout();
                    self.perform(place, actions);
                }
            }
        }
    }

    fn answer(&mut self, question: Question, verdict: Verdict) {
        let outcome = verdict.outcome(question.change.as_ref().unwrap());
        self.tell_later(&question, Ok(verdict), outcome);
    }

    fn tell_later(&mut self, question: &Question, told: Result<Verdict, State>, outcome: Outcome) {
        let Question {
            client,
            sequence,
            attempt,
            ..
        } = *question;
        self.carry(Event::Tell {
            client,
            sequence,
            attempt,
            told,
            outcome,
        });
    }

    // ----- clients -----

    fn client_next(&mut self, client: usize) {
        if self.operations_left == 0 {
            return;
        }
        self.operations_left -= 1;
        let call = if self.chance.percent(30) {
            Call::Read
        } else {
            Call::Change(self.parts(client))
        };
        let operation = Operation {
            call: call.clone(),
            invoked: self.now,
            completed: u64::MAX,
            told: Told::Unknown,
        };
        self.history.push(operation);
        let place = self.history.len() - 1;
        let me = &mut self.clients[client];
        me.sequence += 1;
        me.attempt = 0;
        me.versions = me
            .seen
            .iter()
            .flatten()
            .map(|(version, tag)| (*tag, *version))
            .collect();
        // Some clients want no memory, and then never retry.
        let remembered = !self.chance.percent(6);
        let sequence = if remembered { me.sequence } else { 0 };
        let request = RequestId {
            client: [client as u8; 16],
            sequence,
        };
        let stamp = RequestStamp {
            request,
            attempt: 1,
            lowest_unanswered: me.sequence,
            issued_unix_ms: self.now,
        };
        me.current = Some((place, call, stamp));
        self.attempt(client);
    }

    fn parts(&mut self, client: usize) -> Vec<Part> {
        let first = self.chance.below(ROWS as u64) as usize;
        let count = if self.chance.percent(30) { 2 } else { 1 };
        let part = |row: usize, chance: &mut Chance, seen: &[Option<(Version, Tag)>; ROWS]| {
            let need = match (chance.below(5), seen[row]) {
                (0, _) => Need::Nothing,
                (1, _) => Need::Exists,
                (2..=3, Some((_, tag))) => Need::Holds(tag),
                _ => Need::Absent,
            };
            let write = (!chance.percent(20)).then(|| chance.next());
            Part { row, need, write }
        };
        let seen = self.clients[client].seen;
        (0..count)
            .map(|offset| part((first + offset) % ROWS, &mut self.chance, &seen))
            .collect()
    }

    fn attempt(&mut self, client: usize) {
        // Most go where the last one went, as the client library does; the rest makes the duels.
        let nodes = self.coordinators.len() as u64;
        let place = if self.chance.percent(60) {
            0
        } else {
            self.chance.below(nodes) as usize
        };
        let me = &mut self.clients[client];
        me.attempt += 1;
        let Some((_, call, stamp)) = &me.current else {
            return;
        };
        let mut stamp = RequestStamp {
            attempt: me.attempt,
            ..*stamp
        };
        if self.mutant == Some(Mutant::NoMemory) {
            stamp.request.sequence = 0;
        }
        let change = match call {
            Call::Read => None,
            Call::Change(parts) => Some(transaction(stamp, parts, &me.versions)),
        };
        let (sequence, attempt) = (me.sequence, me.attempt);
        let question = Question {
            client,
            sequence,
            attempt,
            change,
        };
        self.carry(Event::Ask {
            coordinator: place,
            question,
        });
        self.after(
            CLIENT_TICKS,
            Event::ClientTimeout {
                client,
                sequence,
                attempt,
            },
        );
    }

    fn client_timeout(&mut self, client: usize, sequence: u64, attempt: u32) {
        let me = &self.clients[client];
        let Some((_, call, stamp)) = &me.current else {
            return;
        };
        if (me.sequence, me.attempt) != (sequence, attempt) {
            return;
        }
        if attempt < ATTEMPTS_MAX && (*call == Call::Read || stamp.request.is_remembered()) {
            return self.attempt(client);
        }
        self.clients[client].current = None;
        self.after(1, Event::ClientNext { client });
    }

    fn tell(
        &mut self,
        client: usize,
        sequence: u64,
        attempt: u32,
        told: Result<Verdict, State>,
        outcome: Outcome,
    ) {
        let me = &mut self.clients[client];
        if me.sequence != sequence || me.current.is_none() {
            return;
        }
        let is_last = attempt == me.attempt || self.mutant == Some(Mutant::BelieveLateNo);
        if outcome == Outcome::Unknown || outcome == Outcome::NotApplied && !is_last {
            return;
        }
        let Some((place, call, _)) = me.current.take() else {
            return;
        };
        let operation = &mut self.history[place];
        let is_read = call == Call::Read;
        operation.told = match told {
            Err(state) => Told::Rows(state),
            // A refusal, or a loss before anything was sent, says nothing about the rows.
            Ok(Verdict::Refused(_)) => Told::Never,
            Ok(Verdict::NotApplied { failed }) if failed.is_empty() => Told::Never,
            Ok(Verdict::NotApplied { failed }) if is_read => {
                let rows = failed.iter().map(|failure| failure.current.clone());
                let rows: Vec<_> = rows.collect();
                for (row, current) in rows.iter().enumerate() {
                    me.seen[row] = current
                        .as_ref()
                        .and_then(|current| Some((current.version, tag_of(current)?)));
                }
                Told::Rows(std::array::from_fn(|row| {
                    rows.get(row)?.as_ref().and_then(tag_of)
                }))
            }
            Ok(Verdict::NotApplied { failed }) => {
                let Call::Change(parts) = &call else { return };
                for failure in &failed {
                    let current = failure.current.as_ref();
                    me.seen[parts[failure.index as usize].row] =
                        current.and_then(|current| Some((current.version, tag_of(current)?)));
                }
                let held = |current: Option<&Row>| Some(current.and_then(tag_of));
                Told::NotApplied(
                    failed
                        .iter()
                        .map(|one| (one.index as usize, held(one.current.as_ref())))
                        .collect(),
                )
            }
            Ok(Verdict::Replayed(Answer::NotApplied { failed })) => Told::NotApplied(
                failed
                    .iter()
                    .map(|failure| (failure.index as usize, None))
                    .collect(),
            ),
            Ok(Verdict::Applied(written) | Verdict::Replayed(Answer::Applied(written))) => {
                let Call::Change(parts) = &call else { return };
                for (part, version) in parts.iter().zip(written.iter()) {
                    me.seen[part.row] = part.write.map(|tag| (version, tag));
                }
                Told::Applied
            }
        };
        operation.completed = self.now;
        let ticks = 1 + self.chance.below(10);
        self.after(ticks, Event::ClientNext { client });
    }
}

/// A read that travels with the changes: a condition that never holds brings back every row.
fn reading_transaction() -> Transaction {
    let never = Condition::Version(Version::new(Ballot::ZERO, 0));
    let operations = (0..ROWS).map(|row| RowOperation {
        key: row_key(row),
        condition: never,
        write: None,
    });
    let request = RequestId {
        client: [0; 16],
        sequence: 0,
    };
    let stamp = RequestStamp {
        request,
        attempt: 1,
        lowest_unanswered: 0,
        issued_unix_ms: 0,
    };
    Transaction::new(stamp, operations.collect()).unwrap()
}

fn transaction(
    stamp: RequestStamp,
    parts: &[Part],
    versions: &BTreeMap<Tag, Version>,
) -> Transaction {
    let operation = |part: &Part| RowOperation {
        key: row_key(part.row),
        condition: match part.need {
            Need::Nothing => Condition::Any,
            Need::Absent => Condition::Absent,
            Need::Exists => Condition::Exists,
            Need::Holds(tag) => Condition::Version(versions[&tag]),
        },
        write: Some(part.write.map_or(Write::Delete, put)),
    };
    Transaction::new(stamp, parts.iter().map(operation).collect()).unwrap()
}

const SMALL: Size = Size {
    nodes: 3,
    clients: 5,
    operations: 80,
};
const LARGE: Size = Size {
    nodes: 5,
    clients: 6,
    operations: 120,
};

fn check(seeds: std::ops::Range<u64>, size: Size) {
    let (mut known, mut asked, mut led) = (0, 0, 0);
    for seed in seeds {
        let (history, rounds_led) = World::new(seed, size, None).run();
        assert!(
            is_linearizable(&history),
            "seed {seed} of {size:?} is not linearizable"
        );
        known += history
            .iter()
            .filter(|operation| !matches!(operation.told, Told::Unknown | Told::Never))
            .count();
        asked += history.len();
        led += rounds_led;
    }
    println!("{known} of {asked} answered, {led} rounds from leads");
    assert!(
        known * 10 > asked * 6,
        "only {known} of {asked} operations were answered: the run proves little"
    );
    assert!(led > 20, "only {led} rounds went on from a lead");
}

fn caught(mutant: Mutant, seeds: u64) {
    let broken = |seed: &u64| !is_linearizable(&World::new(*seed, SMALL, Some(mutant)).run().0);
    match (0..seeds).find(broken) {
        Some(seed) => println!("{mutant:?}: seed {seed}"),
        None => panic!("{mutant:?} was not noticed in {seeds} seeds"),
    }
}

#[test]
fn three_nodes_are_linearizable() {
    check(0..40, SMALL);
}

#[test]
fn five_nodes_are_linearizable() {
    check(1000..1015, LARGE);
}

#[test]
fn a_seed_repeats_its_history() {
    assert_eq!(
        World::new(7, SMALL, None).run(),
        World::new(7, SMALL, None).run()
    );
}

#[test]
fn mutants_are_noticed() {
    caught(Mutant::AcceptBelowPromise, 200);
    caught(Mutant::IgnoreBase, 200);
    caught(Mutant::ReadOne, 200);
    caught(Mutant::NoMemory, 200);
    caught(Mutant::ForgetExposure, 200);
    caught(Mutant::BelieveLateNo, 200);
}

//! A small world of replicas and clients, and the truth about who had seen what.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;
use souk_kv_core::causality::{
    ActorId, ContentType, Dot, MergeMode, Mint, NewWrite, Observed, PutEffect, Record, RequestId,
    Stamp, Value,
};

pub(crate) const REPLICAS: usize = 3;
pub(crate) const CLIENTS: usize = 3;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A client reads a replica and keeps the context.
    Read { client: usize, replica: usize },
    /// A client writes with its context, or blindly without one.
    Put {
        client: usize,
        replica: usize,
        blind: bool,
        delete: bool,
    },
    /// The same through a fallback that holds nothing; the hint reaches one replica at once.
    FallbackPut { client: usize, replica: usize },
    /// A client sends its last request again, elsewhere.
    Retry { client: usize, replica: usize },
    /// One replica's record reaches another.
    Sync { from: usize, to: usize },
    /// An old hint is delivered, perhaps once more.
    Deliver { hint: usize, to: usize },
}

pub(crate) fn steps(with_retries: bool) -> impl Strategy<Value = Vec<Step>> {
    let (client, replica) = (0..CLIENTS, 0..REPLICAS);
    let both = (client, replica.clone());
    let step = prop_oneof![
        3 => both.clone().prop_map(|(client, replica)| Step::Read { client, replica }),
        4 => (both.clone(), prop::bool::weighted(0.3), prop::bool::weighted(0.2)).prop_map(
            |((client, replica), blind, delete)| Step::Put { client, replica, blind, delete }
        ),
        2 => both.clone().prop_map(|(client, replica)| Step::FallbackPut { client, replica }),
        if with_retries { 2 } else { 0 } =>
            both.prop_map(|(client, replica)| Step::Retry { client, replica }),
        4 => (replica.clone(), replica.clone()).prop_map(|(from, to)| Step::Sync { from, to }),
        1 => (any::<usize>(), replica).prop_map(|(hint, to)| Step::Deliver { hint, to }),
    ];
    prop::collection::vec(step, 1..40)
}

#[derive(Clone, Debug)]
struct Replica {
    actor: ActorId,
    counter: u64,
    record: Record,
}

#[derive(Clone, Debug, Default)]
struct Client {
    observed: Observed,
    /// The numbers of the writes whose siblings it was shown.
    shown: BTreeSet<u64>,
    /// Its last request, with what it had seen then.
    last: Option<(u64, Observed)>,
}

impl Client {
    /// Keeps the newest answer, or both where neither has seen all of the other.
    fn learn(&mut self, answer: Observed) {
        if answer.context().dominates(self.observed.context()) {
            self.observed = answer;
        } else {
            self.observed.merge(&answer);
        }
    }
}

/// The truth about one write.
#[derive(Clone, Debug)]
pub(crate) struct Truth {
    /// Its request's sequence number; unique in the world.
    pub(crate) number: u64,
    /// The writes that its client had been shown.
    pub(crate) shown: BTreeSet<u64>,
    /// How often it was run; more than once only after a retry.
    pub(crate) runs: u32,
    pub(crate) delete: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    mode: MergeMode,
    replicas: Vec<Replica>,
    clients: Vec<Client>,
    fallback: Replica,
    hints: Vec<Record>,
    now_ms: u64,
    pub(crate) writes: Vec<Truth>,
    /// Every state that a replica ever had.
    pub(crate) snapshots: Vec<Record>,
}

pub(crate) fn actor(number: u8) -> ActorId {
    ActorId::from_bytes([number; 16])
}

pub(crate) fn request(number: u64) -> RequestId {
    RequestId {
        client: [9; 16],
        sequence: number,
    }
}

pub(crate) fn new_write(number: u64, stamp: Stamp, delete: bool) -> NewWrite {
    let value = Value::new(ContentType::text(), Bytes::from(number.to_string()));
    NewWrite {
        request: request(number),
        stamp,
        expires_unix_ms: None,
        value: (!delete).then_some(value),
    }
}

impl World {
    pub(crate) fn run(mode: MergeMode, steps: &[Step]) -> World {
        let replica = |number| Replica {
            actor: actor(number),
            counter: 0,
            record: Record::default(),
        };
        let mut world = World {
            mode,
            replicas: (1..=REPLICAS as u8).map(replica).collect(),
            clients: vec![Client::default(); CLIENTS],
            fallback: replica(100),
            hints: Vec::new(),
            now_ms: 1_000,
            writes: Vec::new(),
            snapshots: vec![Record::default()],
        };
        for &step in steps {
            world.step(step);
        }
        world
    }

    /// Everything that is stored anywhere.
    pub(crate) fn stored(&self) -> Vec<Record> {
        let replicas = self.replicas.iter().map(|replica| replica.record.clone());
        replicas.chain(self.hints.iter().cloned()).collect()
    }

    /// The write numbers that no later write had been shown.
    pub(crate) fn unseen(&self) -> BTreeSet<u64> {
        let seen = self.seen();
        self.writes
            .iter()
            .map(|write| write.number)
            .filter(|number| !seen.contains(number))
            .collect()
    }

    /// The write numbers that some later write had been shown.
    pub(crate) fn seen(&self) -> BTreeSet<u64> {
        self.writes
            .iter()
            .flat_map(|write| write.shown.iter().copied())
            .collect()
    }

    fn step(&mut self, step: Step) {
        // A clock that stands still half of the time, so that stamps have to count.
        self.now_ms += u64::from(self.snapshots.len().is_multiple_of(2));
        match step {
            Step::Read { client, replica } => {
                let record = &self.replicas[replica].record;
                let client = &mut self.clients[client];
                client.learn(Observed::whole(record));
                let numbers = record
                    .siblings()
                    .iter()
                    .map(|sibling| sibling.request.sequence);
                client.shown.extend(numbers);
            }
            Step::Put {
                client,
                replica,
                blind,
                delete,
            } => {
                if blind {
                    self.clients[client] = Client::default();
                }
                let number = self.begin(client, delete);
                self.put(client, Some(replica), number);
            }
            Step::FallbackPut { client, replica } => {
                let number = self.begin(client, false);
                self.put(client, None, number);
                let hint = self.hints.len() - 1;
                self.step(Step::Deliver { hint, to: replica });
            }
            Step::Retry { client, replica } => {
                if let Some((number, _)) = self.clients[client].last {
                    self.put(client, Some(replica), number);
                }
            }
            Step::Sync { from, to } => {
                let sent = self.replicas[from].record.clone();
                self.receive(to, &sent);
            }
            Step::Deliver { hint, to } => {
                if !self.hints.is_empty() {
                    let sent = self.hints[hint % self.hints.len()].clone();
                    self.receive(to, &sent);
                }
            }
        }
    }

    fn begin(&mut self, client: usize, delete: bool) -> u64 {
        let number = self.writes.len() as u64 + 1;
        let client = &mut self.clients[client];
        client.last = Some((number, client.observed.clone()));
        let shown = client.shown.clone();
        self.writes.push(Truth {
            number,
            shown,
            runs: 0,
            delete,
        });
        number
    }

    /// Runs a client's last request at a replica, or at the fallback, which starts from an empty record each time.
    fn put(&mut self, client: usize, replica: Option<usize>, number: u64) {
        let (coordinator, mint) = match replica {
            Some(replica) => (&mut self.replicas[replica], Mint::Vector),
            None => (&mut self.fallback, Mint::Loose),
        };
        let (_, observed) = self.clients[client]
            .last
            .clone()
            .expect("a request was begun");
        let truth = &mut self.writes[number as usize - 1];
        let floor = coordinator.record.stamp_floor(observed.context());
        let write = new_write(number, Stamp::next(self.now_ms, floor), truth.delete);
        coordinator.counter += 1;
        let dot = Dot {
            actor: coordinator.actor,
            counter: coordinator.counter,
        };
        let effect = coordinator
            .record
            .put(self.mode, &observed, dot, mint, write, self.now_ms)
            .expect("counters never repeat and stamps pass their floor");
        let (dot, is_replay) = match effect {
            PutEffect::Written { .. } => (dot, false),
            PutEffect::Replayed { dot } => (dot, true),
        };
        truth.runs += u32::from(!is_replay);
        let answer = observed.with_own_write(&coordinator.record, request(number), dot);
        let seen = answer.context();
        assert!(seen.dominates(observed.context()) && seen.contains(dot));
        assert!(is_replay || coordinator.record.context().dominates(seen));
        if replica.is_none() {
            self.hints.push(std::mem::take(&mut coordinator.record));
        } else {
            self.snapshots.push(coordinator.record.clone());
        }
        let client = &mut self.clients[client];
        client.learn(answer);
        client.shown.insert(number);
    }

    fn receive(&mut self, to: usize, sent: &Record) {
        let record = &mut self.replicas[to].record;
        let before = record.clone();
        let changed = record.merge(sent, self.mode);
        assert_eq!(
            changed,
            *record != before,
            "merge tells whether it changed anything"
        );
        assert!(record.context().dominates(sent.context()));
        self.snapshots.push(record.clone());
    }
}

/// What a record becomes after taking in another.
pub(crate) fn merged(left: &Record, right: &Record, mode: MergeMode) -> Record {
    let mut result = left.clone();
    result.merge(right, mode);
    result
}

pub(crate) fn merge_all<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    mode: MergeMode,
) -> Record {
    records
        .into_iter()
        .fold(Record::default(), |all, record| merged(&all, record, mode))
}

/// The numbers of the writes held.
pub(crate) fn held(record: &Record) -> BTreeSet<u64> {
    record
        .siblings()
        .iter()
        .map(|sibling| sibling.request.sequence)
        .collect()
}

//! Replicas with records and trees, and a driver that carries an exchange between two of them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use souk_kv_core::{
    causality::{
        ActorId, ContentType, Dot, MergeMode, Mint, NewWrite, Observed, Record, RequestId, Stamp,
        Value,
    },
    merkle::{
        Digest, ExchangeStep, KeyHash, KeyState, LeafIndex, MerkleExchange, MerkleTree, MoveKind,
        SuspectSide,
    },
};

/// Keys that one page of a list covers: few, so that lists have several pages.
const PAGE: usize = 3;

/// One replica of one bucket's vnode.
pub(crate) struct Replica {
    pub(crate) records: BTreeMap<Bytes, Record>,
    pub(crate) tree: MerkleTree,
    actor: ActorId,
    counter: u64,
}

/// What an exchange cost.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) asked: u32,
    pub(crate) listed: u32,
    pub(crate) moved: BTreeSet<Bytes>,
    pub(crate) suspects: Vec<(SuspectSide, LeafIndex)>,
}

pub(crate) fn key(number: u16) -> Bytes {
    Bytes::from(format!("key-{number:05}"))
}

impl Replica {
    pub(crate) fn new(number: u8) -> Replica {
        Replica {
            records: BTreeMap::new(),
            tree: MerkleTree::default(),
            actor: ActorId::from_bytes([number; 16]),
            counter: 0,
        }
    }

    /// Stores a record and keeps the tree in step, as the node does in one batch.
    pub(crate) fn store(&mut self, key: &Bytes, record: Record) {
        let hash = KeyHash::of(key);
        let weight = |record: &Record| hash.digest(record.causal_hash());
        let before = self.records.get(key).map_or(Digest::ZERO, weight);
        self.tree.add(hash.leaf(), weight(&record) - before);
        self.records.insert(key.clone(), record);
    }

    /// A write by a client that had seen `observed`.
    pub(crate) fn write(&mut self, key: &Bytes, observed: &Observed, delete: bool) {
        self.counter += 1;
        let mut record = self.records.get(key).cloned().unwrap_or_default();
        let value = Value::new(ContentType::text(), Bytes::from(self.counter.to_string()));
        let write = NewWrite {
            request: RequestId {
                client: *self.actor.as_bytes(),
                sequence: self.counter,
            },
            stamp: Stamp::next(self.counter, record.stamp_floor(observed.context())),
            expires_unix_ms: None,
            value: (!delete).then_some(value),
        };
        let dot = Dot {
            actor: self.actor,
            counter: self.counter,
        };
        record
            .put(
                MergeMode::Siblings,
                observed,
                dot,
                Mint::Vector,
                write,
                self.counter,
            )
            .expect("the dot is fresh");
        self.store(key, record);
    }

    /// Takes in what another replica holds.
    pub(crate) fn merge(&mut self, key: &Bytes, arrived: &Record) {
        let mut record = self.records.get(key).cloned().unwrap_or_default();
        if record.merge(arrived, MergeMode::Siblings) {
            self.store(key, record);
        }
    }

    /// What the leaf ought to be.
    pub(crate) fn recount(&self, leaf: LeafIndex) -> Digest {
        self.records
            .iter()
            .map(|(key, record)| (KeyHash::of(key), record))
            .filter(|(hash, _)| hash.leaf() == leaf)
            .map(|(hash, record)| hash.digest(record.causal_hash()))
            .sum()
    }

    /// A page of keys of some leaves: the keys, and behind which key the next page begins.
    fn list(
        &self,
        leaves: &[LeafIndex],
        after: Option<&Bytes>,
        until: Option<&Bytes>,
        rows: usize,
    ) -> (Vec<KeyState>, Option<Bytes>) {
        let mut walked: Vec<(&Bytes, &Record)> = self
            .records
            .iter()
            .filter(|(key, _)| after.is_none_or(|after| *key > after))
            .filter(|(key, _)| until.is_none_or(|until| *key <= until))
            .collect();
        let more = walked.len() > rows;
        walked.truncate(rows);
        let next = more.then(|| walked[rows - 1].0.clone());
        let states = walked
            .into_iter()
            .filter(|(key, _)| leaves.contains(&KeyHash::of(key).leaf()))
            .map(|(key, record)| KeyState {
                key: key.clone(),
                causal_hash: Some(record.causal_hash()),
                is_collecting: false,
            });
        (states.collect(), next)
    }
}

/// Runs one exchange to its end. `meanwhile` is called before each step, to let the world go on.
pub(crate) fn exchange(
    world: &mut [Replica],
    here: usize,
    there: usize,
    mut meanwhile: impl FnMut(&mut [Replica], &ExchangeStep),
) -> Cost {
    let mut cost = Cost::default();
    let mut exchange = MerkleExchange::start(world[here].tree.root(), world[there].tree.root());
    loop {
        let step = exchange.step();
        meanwhile(world, &step);
        match step {
            ExchangeStep::AskGroups => {
                cost.asked += 1;
                exchange.on_groups(world[here].tree.groups(), world[there].tree.groups());
            }
            ExchangeStep::AskLeaves(groups) => {
                cost.asked += 1;
                let theirs: Vec<_> = groups
                    .iter()
                    .map(|group| world[there].tree.leaves(*group))
                    .collect();
                exchange.on_leaves(|leaf| world[here].tree.leaf(leaf), &theirs);
            }
            ExchangeStep::Pause => exchange.on_paused(),
            ExchangeStep::ListKeys { leaves, after } => {
                cost.asked += 1;
                cost.listed += 1;
                let (theirs, next) = world[there].list(&leaves, after.as_ref(), None, PAGE);
                let (own, _) = world[here].list(&leaves, after.as_ref(), next.as_ref(), usize::MAX);
                for step in exchange.on_keys(&own, &theirs, next) {
                    assert_ne!(step.kind, MoveKind::MendHere);
                    if step.kind != MoveKind::Push {
                        let record = world[there].records[&step.key].clone();
                        world[here].merge(&step.key, &record);
                    }
                    let record = world[here].records[&step.key].clone();
                    if step.theirs != Some(record.causal_hash()) {
                        world[there].merge(&step.key, &record);
                    }
                    cost.moved.insert(step.key);
                }
            }
            ExchangeStep::Done => {
                cost.suspects = exchange.suspects().to_vec();
                return cost;
            }
        }
    }
}

/// The keys under which two replicas do not agree.
pub(crate) fn differing(one: &Replica, other: &Replica) -> BTreeSet<Bytes> {
    let keys = one.records.keys().chain(other.records.keys());
    keys.filter(
        |key| match (one.records.get(*key), other.records.get(*key)) {
            (Some(one), Some(other)) => !one.same_causal_state(other),
            _ => true,
        },
    )
    .cloned()
    .collect()
}

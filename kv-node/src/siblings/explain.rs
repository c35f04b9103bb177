//! Keeps a diary of one request, for those who ask how it was answered.
//!
//! Place: made only for requests with `explain`; gets and puts write into it, the API sends it along.
//! Invariants: every node of the key's preference list is in it exactly once, asked or not.

use std::time::Duration;

use souk_kv_proto::kv::{Explain, ExplainReplica};
use souk_ring::NodeId;
use tokio::time::Instant;

use super::RecordPlace;
use crate::cluster::{Cluster, name_of};

/// What became of asking one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing yet.
    Late,
    /// A read: its record was as good as all together.
    Answered,
    /// A read: its record lacked something.
    Stale,
    /// A read: its record was damaged.
    Damaged,
    /// A read: no usable answer.
    Failed,
    /// A write is on its disk.
    Stored,
    /// It did not take the write, and will not.
    Refused,
    /// It may have taken the write.
    Silent,
}

impl Told {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Answered => "answered",
            Self::Stale => "stale",
            Self::Damaged => "damaged",
            Self::Failed => "failed",
            Self::Stored => "stored",
            Self::Refused => "refused",
            Self::Silent => "silent",
        }
    }
}

/// The diary.
#[derive(Debug, Clone)]
pub(crate) struct Explanation {
    started: Instant,
    prepared: Duration,
    answered: Option<Duration>,
    asked: Vec<Asked>,
    repairs: u32,
    is_hedged: bool,
}

#[derive(Debug, Clone)]
struct Asked {
    node: NodeId,
    /// A stand-in, and for whom if that is known.
    is_fallback: bool,
    hinted_for: Option<NodeId>,
    told: Told,
    after: Duration,
}

impl Explanation {
    pub(super) fn new(started: Instant) -> Self {
        Self {
            started,
            prepared: Duration::ZERO,
            answered: None,
            asked: Vec::new(),
            repairs: 0,
            is_hedged: false,
        }
    }

    /// The node has read, changed and handed its own copy to its disk.
    pub(super) fn prepared(&mut self) {
        self.prepared = self.started.elapsed();
    }

    pub(super) fn asks(&mut self, node: NodeId, is_fallback: bool, hinted_for: Option<NodeId>) {
        self.asked.push(Asked {
            node,
            is_fallback,
            hinted_for,
            told: Told::Late,
            after: Duration::ZERO,
        });
    }

    pub(super) fn hears(&mut self, node: NodeId, told: Told) {
        let after = self.started.elapsed();
        let waiting = |asked: &&mut Asked| asked.node == node && asked.told == Told::Late;
        if let Some(asked) = self.asked.iter_mut().find(waiting) {
            asked.told = told;
            asked.after = after;
        }
    }

    pub(super) fn hedges(&mut self) {
        self.is_hedged = true;
    }

    /// These are sent what they lacked.
    pub(super) fn repairs(&mut self, nodes: &[NodeId]) {
        self.repairs += u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        for asked in &mut self.asked {
            if nodes.contains(&asked.node) && asked.told == Told::Answered {
                asked.told = Told::Stale;
            }
        }
    }

    /// As many have spoken as the request asked for.
    pub(super) fn answers(&mut self) {
        self.answered = Some(self.started.elapsed());
    }

    /// As the wire carries it; the siblings are counted by the caller.
    pub(crate) fn to_wire(&self, cluster: &Cluster, place: &RecordPlace) -> Explain {
        let layout = cluster.layout();
        let name = |node| name_of(&layout, node);
        let mut replicas: Vec<ExplainReplica> = self
            .asked
            .iter()
            .map(|asked| ExplainReplica {
                node: name(asked.node),
                state: asked.told.as_str().to_owned(),
                fallback: asked.is_fallback,
                after_us: micros(asked.after),
                hinted_for: asked.hinted_for.map(name).unwrap_or_default(),
            })
            .collect();
        let primaries = place.primaries().iter().map(|&node| (node, false));
        let fallbacks = place.fallbacks().iter().map(|&node| (node, true));
        for (node, fallback) in primaries.chain(fallbacks) {
            if !self.asked.iter().any(|asked| asked.node == node) {
                replicas.push(ExplainReplica {
                    node: name(node),
                    state: "not-asked".to_owned(),
                    fallback,
                    ..Default::default()
                });
            }
        }
        let total = self.started.elapsed();
        Explain {
            replicas,
            siblings: 0,
            repairs_started: self.repairs,
            total_us: micros(total),
            coordinator: name(cluster.node),
            prepared_us: micros(self.prepared),
            answered_us: micros(self.answered.unwrap_or(total)),
            hedged: self.is_hedged,
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

//! One get: whom to ask, when to answer, and which replicas turned out to be stale.
//!
//! Place: pure; one value per request, fed by the driver until [`GetCoordinator::is_finished`].
//! Source: DeCandia et al., Dynamo, SOSP 2007, §4.5, §5; `OpenRiak/riak_kv: src/riak_kv_get_core.erl`.
//! Shape: candidates in order of preference; R of them are asked, and the next one whenever somebody fails
//! or the driver hedges. All replies are merged, those after the answer too.
//! Invariants: 1. one answer, never two. 2. `Enough` has R distinct nodes behind it. 3. a node is asked once.
//! 4. only primaries are called stale: a fallback owes nobody a copy.
//! Not here: the hedging budget and its timers; writing the repair.

use smallvec::SmallVec;
use souk_ring::NodeId;

use crate::causality::{MergeMode, Record};
use crate::membership::Health;

/// Several actions, in the order to perform them.
pub type GetActions = SmallVec<[GetAction; 4]>;

/// What a get starts from.
#[derive(Clone, Copy, Debug)]
pub struct GetRequest<'a> {
    /// The key's primaries in order.
    pub primaries: &'a [NodeId],
    /// Who may stand in, in order.
    pub fallbacks: &'a [NodeId],
    /// The node that runs this.
    pub local: NodeId,
    /// R, 1 to N.
    pub read_quorum: u8,
    /// Ask every primary at once, and answer after R all the same: more load for less waiting and more repair.
    pub ask_all: bool,
    /// Ask primaries only.
    pub strict: bool,
    /// How the bucket merges.
    pub mode: MergeMode,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetAction {
    /// Ask a node (possibly the local one) for its record, and report what became of it.
    Ask {
        /// The node.
        node: NodeId,
        /// Set for a stand-in: merge what its hint space holds for the key, for any primary.
        with_hints: bool,
    },
    /// Tell the client. Comes exactly once.
    Answer(GetAnswer),
    /// Send [`GetCoordinator::merged`] to these primaries in the background. Comes last, at most once.
    RepairStale {
        /// The primaries whose reply lacked something, sorted.
        nodes: SmallVec<[NodeId; 4]>,
    },
}

/// What the client is told, together with [`GetCoordinator::merged`] at that moment. An empty record means that no
/// replica knew the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetAnswer {
    /// R distinct nodes have replied.
    Enough {
        /// How many they were.
        replies: u8,
    },
    /// Nobody is left to ask. What was learnt may be behind acknowledged writes; some callers prefer it to nothing.
    TooFew {
        /// How many replied.
        replies: u8,
        /// R.
        needed: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Replied { causal_hash: u64 },
    Failed,
}

#[derive(Clone, Debug)]
struct Asked {
    node: NodeId,
    is_primary: bool,
    state: State,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    node: NodeId,
    is_primary: bool,
    is_up: bool,
}

/// One get in progress.
#[derive(Clone, Debug)]
pub struct GetCoordinator {
    mode: MergeMode,
    needed: u8,
    asked: SmallVec<[Asked; 4]>,
    /// Not asked yet, the next one last.
    candidates: SmallVec<[Candidate; 8]>,
    merged: Record,
    answered: bool,
    repair_told: bool,
}

impl GetCoordinator {
    /// Starts a get; `health` is this node's opinion of others, the local node is always healthy to itself.
    ///
    /// Healthy primaries are asked first, demoted ones after them, then stand-ins, and suspects last. For each
    /// suspect primary one stand-in is asked beside the R, because it may hold the newest write as a hint.
    pub fn start(
        request: GetRequest<'_>,
        health: impl Fn(NodeId) -> Health,
    ) -> (GetCoordinator, GetActions) {
        let health = |node: NodeId| {
            if node == request.local {
                Health::Healthy
            } else {
                health(node)
            }
        };
        let stand_ins = if request.strict {
            &[]
        } else {
            request.fallbacks
        };
        let mut ordered: SmallVec<[(u8, bool, Candidate); 8]> = SmallVec::new();
        for (nodes, is_primary) in [(request.primaries, true), (stand_ins, false)] {
            ordered.extend(nodes.iter().map(|&node| {
                let opinion = health(node);
                let rank = match (opinion, is_primary) {
                    (Health::Healthy, true) => 0,
                    (Health::Demoted, true) => 1,
                    (Health::Healthy | Health::Demoted, false) => 2,
                    (Health::Suspect, true) => 3,
                    (Health::Suspect, false) => 4,
                };
                let candidate = Candidate {
                    node,
                    is_primary,
                    is_up: opinion.is_up(),
                };
                (rank, node != request.local, candidate)
            }));
        }
        // Stable, so that the preference list decides among equals; the local node costs no round trip.
        ordered.sort_by_key(|&(rank, is_remote, _)| (rank, is_remote));
        let mut get = GetCoordinator {
            mode: request.mode,
            needed: request.read_quorum,
            asked: SmallVec::new(),
            candidates: ordered
                .iter()
                .rev()
                .map(|&(_, _, candidate)| candidate)
                .collect(),
            merged: Record::default(),
            answered: false,
            repair_told: false,
        };
        let up = request
            .primaries
            .iter()
            .filter(|&&node| health(node).is_up())
            .count();
        let quorum = usize::from(request.read_quorum);
        let mut actions = GetActions::new();
        for _ in 0..if request.ask_all {
            up.max(quorum)
        } else {
            quorum
        } {
            get.ask_next(&mut actions);
        }
        let stand_ins = get.asked.iter().filter(|asked| !asked.is_primary).count();
        for _ in stand_ins..request.primaries.len() - up {
            get.ask_next_stand_in(&mut actions);
        }
        get.judge(&mut actions);
        (get, actions)
    }

    /// A node replied with its record; `None` when it has none, which is a reply like any other.
    pub fn on_reply(&mut self, node: NodeId, record: Option<Record>) -> GetActions {
        let mut actions = GetActions::new();
        if let Some(asked) = self.asked.iter_mut().find(|asked| asked.node == node)
            && !matches!(asked.state, State::Replied { .. })
        {
            let record = record.unwrap_or_default();
            asked.state = State::Replied {
                causal_hash: record.causal_hash(),
            };
            self.merged.merge(&record, self.mode);
        }
        self.judge(&mut actions);
        actions
    }

    /// A node failed, refused, or did not answer in time: the next one is asked, unless the client has its answer.
    pub fn on_failed(&mut self, node: NodeId) -> GetActions {
        let mut actions = GetActions::new();
        let waiting =
            |asked: &&mut Asked| asked.node == node && matches!(asked.state, State::Waiting);
        if let Some(asked) = self.asked.iter_mut().find(waiting) {
            asked.state = State::Failed;
            if !self.answered {
                self.ask_next(&mut actions);
            }
        }
        self.judge(&mut actions);
        actions
    }

    /// Whether somebody is left for [`Self::hedge`] to ask, who does not seem down.
    #[must_use]
    pub fn may_hedge(&self) -> bool {
        !self.answered
            && self
                .candidates
                .last()
                .is_some_and(|candidate| candidate.is_up)
    }

    /// Asks one node more, because a reply takes long. Empty when nobody is left, or the client has its answer.
    pub fn hedge(&mut self) -> GetActions {
        let mut actions = GetActions::new();
        if !self.answered {
            self.ask_next(&mut actions);
        }
        actions
    }

    /// The time of the whole request, or of waiting for stragglers, is over.
    pub fn on_deadline(&mut self) -> GetActions {
        let mut actions = GetActions::new();
        self.candidates.clear();
        for asked in &mut self.asked {
            if matches!(asked.state, State::Waiting) {
                asked.state = State::Failed;
            }
        }
        self.judge(&mut actions);
        actions
    }

    /// Everything learnt so far, merged.
    #[must_use]
    pub const fn merged(&self) -> &Record {
        &self.merged
    }

    /// True when the client has its answer and nothing is on its way.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.answered && !self.is_waiting()
    }

    fn ask_next(&mut self, actions: &mut GetActions) {
        if let Some(candidate) = self.candidates.pop() {
            self.ask(candidate, actions);
        }
    }

    fn ask_next_stand_in(&mut self, actions: &mut GetActions) {
        let is_stand_in = |candidate: &Candidate| !candidate.is_primary && candidate.is_up;
        if let Some(index) = self.candidates.iter().rposition(is_stand_in) {
            let candidate = self.candidates.remove(index);
            self.ask(candidate, actions);
        }
    }

    fn ask(&mut self, candidate: Candidate, actions: &mut GetActions) {
        let Candidate {
            node, is_primary, ..
        } = candidate;
        self.asked.push(Asked {
            node,
            is_primary,
            state: State::Waiting,
        });
        actions.push(GetAction::Ask {
            node,
            with_hints: !is_primary,
        });
    }

    fn judge(&mut self, actions: &mut GetActions) {
        let replied = |asked: &&Asked| matches!(asked.state, State::Replied { .. });
        let replies = u8::try_from(self.asked.iter().filter(replied).count()).unwrap_or(u8::MAX);
        if !self.answered {
            let needed = self.needed;
            let answer = if replies >= needed {
                GetAnswer::Enough { replies }
            } else if self.is_waiting() {
                return;
            } else {
                GetAnswer::TooFew { replies, needed }
            };
            self.answered = true;
            actions.push(GetAction::Answer(answer));
        }
        if !self.is_waiting() && !self.repair_told {
            self.repair_told = true;
            let nodes = self.stale();
            if !nodes.is_empty() {
                actions.push(GetAction::RepairStale { nodes });
            }
        }
    }

    /// The primaries whose reply was not yet what all replies together make.
    fn stale(&self) -> SmallVec<[NodeId; 4]> {
        let whole = self.merged.causal_hash();
        let is_stale = |asked: &&Asked| match asked.state {
            State::Replied { causal_hash } => asked.is_primary && causal_hash != whole,
            State::Waiting | State::Failed => false,
        };
        let mut nodes: SmallVec<[NodeId; 4]> = self
            .asked
            .iter()
            .filter(is_stale)
            .map(|asked| asked.node)
            .collect();
        nodes.sort_unstable();
        nodes
    }

    fn is_waiting(&self) -> bool {
        self.asked
            .iter()
            .any(|asked| matches!(asked.state, State::Waiting))
    }
}

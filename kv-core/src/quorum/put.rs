//! One put: who is sent the record, who stands in for whom, and when the client may be told.
//!
//! Place: pure; one value per request, fed by the driver until [`PutCoordinator::is_finished`].
//! Source: DeCandia et al., Dynamo, SOSP 2007, §4.6.
//! Shape: one slot per primary. A slot is filled by its primary, or by a fallback that keeps a hint for it;
//! when fallbacks run out, a node that has the record anyway keeps a hint beside it.
//! Invariants: 1. one answer, never two. 2. an undegraded `Applied` has W distinct nodes behind it.
//! 3. `NotApplied` only if nobody stored, and everybody asked said so. 4. a fallback stands in once per put.
//! 5. no acknowledged record is held by departing nodes alone. 6. every send is answered, or given up by [`PutCoordinator::on_deadline`], so every put ends.
//! Not here: the bytes, the timers, the hint space and its cap.

use smallvec::SmallVec;
use souk_ring::NodeId;

use crate::outcome::Outcome;

/// Several actions, in the order to perform them.
pub type PutActions = SmallVec<[PutAction; 4]>;

/// What a put starts from.
#[derive(Clone, Copy, Debug)]
pub struct PutRequest<'a> {
    /// The key's primaries in order, at most N; fewer when the layout has fewer members.
    pub primaries: &'a [NodeId],
    /// Who may stand in, in order.
    pub fallbacks: &'a [NodeId],
    /// The node that runs this.
    pub local: NodeId,
    /// W, 1 to N.
    pub write_quorum: u8,
    /// The bucket's floor.
    pub write_floor: Option<u8>,
    /// Nodes that are about to leave: a copy of theirs counts towards W, where enough others have one too, and not for the
    /// floor, which may be the only copy.
    pub departing: &'a [NodeId],
    /// Only primaries count: no fallbacks, and no floor either, for whoever asks for this wants the real quorum.
    pub strict: bool,
}

/// What the driver has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutAction {
    /// Send the whole record to a node (possibly the local one), and report what became of it.
    SendTo {
        /// The receiver.
        node: NodeId,
        /// Set when it shall be kept as a hint for this primary, in the receiver's hint space.
        hinted_for: Option<NodeId>,
    },
    /// Keep a hint for this primary on the local node, which has the record. Best effort: nothing is reported back.
    HintLocally {
        /// The primary without a stand-in.
        absent: NodeId,
    },
    /// Tell the client. Comes exactly once.
    Answer(PutAnswer),
}

/// What the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutAnswer {
    /// Stored by `copies` distinct nodes.
    Applied {
        /// Distinct nodes at the moment of the answer.
        copies: u8,
        /// W.
        needed: u8,
        /// True when `copies` is below W and the floor spoke.
        degraded: bool,
    },
    /// Stored nowhere, and never will be.
    NotApplied {
        /// How many nodes seemed able to take it; 0 when all that were asked refused.
        reachable: u8,
        /// W.
        needed: u8,
    },
    /// Too few are known to have stored it, and others may have.
    Unknown {
        /// Distinct nodes known to have it.
        copies: u8,
        /// W.
        needed: u8,
    },
}

impl PutAnswer {
    /// The outcome that the wire carries.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            PutAnswer::Applied { .. } => Outcome::Applied,
            PutAnswer::NotApplied { .. } => Outcome::NotApplied,
            PutAnswer::Unknown { .. } => Outcome::Unknown,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Stored,
    /// It said that it did not and will not store: the only failure that allows `NotApplied`.
    Refused,
    /// No answer: it may have stored.
    Silent,
}

/// Why a node was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// A primary or a stand-in that seemed up: its answer is waited for.
    Firm,
    /// A primary believed down, tried when the others cannot make W: its copy is welcome, but at the floor
    /// nobody waits for it.
    LastResort,
    /// A node that has the record and is asked for a hint besides: no copy more.
    HintKeeper,
}

#[derive(Clone, Copy, Debug)]
struct Target {
    node: NodeId,
    hinted_for: Option<NodeId>,
    state: State,
    role: Role,
}

/// A primary without a stand-in.
#[derive(Clone, Copy, Debug)]
struct Absent {
    primary: NodeId,
    /// Its hint has been handed to somebody; it is not offered twice.
    hinted: bool,
}

impl Target {
    fn primary(&self) -> NodeId {
        self.hinted_for.unwrap_or(self.node)
    }
}

/// One put in progress.
#[derive(Clone, Debug)]
pub struct PutCoordinator {
    local: NodeId,
    needed: u8,
    floor: Option<u8>,
    departing: SmallVec<[NodeId; 4]>,
    targets: SmallVec<[Target; 4]>,
    /// Unused fallbacks, the next one last.
    pool: SmallVec<[NodeId; 4]>,
    absent: SmallVec<[Absent; 4]>,
    answered: Option<PutAnswer>,
}

impl PutCoordinator {
    /// Starts a put; `is_up` is this node's opinion of others, its own liveness is not in doubt.
    ///
    /// Refuses at once, with nothing sent, when the nodes that seem up cannot make W nor the floor.
    pub fn start(
        request: PutRequest<'_>,
        is_up: impl Fn(NodeId) -> bool,
    ) -> (PutCoordinator, PutActions) {
        let is_up = |node: NodeId| node == request.local || is_up(node);
        let mut put = PutCoordinator {
            local: request.local,
            needed: request.write_quorum,
            floor: request.write_floor.filter(|_| !request.strict),
            departing: request.departing.into(),
            targets: SmallVec::new(),
            pool: SmallVec::new(),
            absent: SmallVec::new(),
            answered: None,
        };
        if !request.strict {
            put.pool.extend(
                request
                    .fallbacks
                    .iter()
                    .copied()
                    .filter(|&node| is_up(node)),
            );
            // Standing in oneself costs no round trip, so the local node goes first.
            put.pool.sort_by_key(|&node| node != request.local);
            put.pool.reverse();
        }
        let mut actions = PutActions::new();
        let absent = request
            .primaries
            .iter()
            .filter(|&&node| !is_up(node))
            .count();
        let reachable = request.primaries.len() - absent + absent.min(put.pool.len());
        let reachable = u8::try_from(reachable).unwrap_or(u8::MAX);
        let is_too_few = reachable < put.needed;
        if is_too_few && put.floor.is_none_or(|floor| reachable < floor) {
            put.pool.clear();
            put.answer(
                PutAnswer::NotApplied {
                    reachable,
                    needed: put.needed,
                },
                &mut actions,
            );
            return (put, actions);
        }
        for &primary in request.primaries {
            if is_up(primary) {
                put.send(primary, None, Role::Firm, &mut actions);
            } else {
                put.stand_in(primary, &mut actions);
            }
        }
        put.try_last_resorts(&mut actions);
        (put, actions)
    }

    /// A node has stored the record durably, as its own or as a hint. Also counts when it comes late.
    pub fn on_stored(&mut self, node: NodeId) -> PutActions {
        let mut actions = PutActions::new();
        for target in self.targets.iter_mut().filter(|target| target.node == node) {
            target.state = State::Stored;
        }
        self.absent.retain(|absent| absent.primary != node);
        self.judge(&mut actions);
        self.hand_out_hints(&mut actions);
        actions
    }

    /// A node says that it did not store the record and will not, or it was never sent: full disk, full hint space,
    /// overload at the entry, no connection.
    pub fn on_refused(&mut self, node: NodeId) -> PutActions {
        self.fail(node, State::Refused)
    }

    /// A node was sent the record and did not answer in time, or the connection broke: it may have stored it.
    pub fn on_silent(&mut self, node: NodeId) -> PutActions {
        self.fail(node, State::Silent)
    }

    /// The time of the whole request is over: nobody else is asked, and the answer is what there is.
    pub fn on_deadline(&mut self) -> PutActions {
        let mut actions = PutActions::new();
        self.pool.clear();
        for index in 0..self.targets.len() {
            let target = self.targets[index];
            if target.state == State::Waiting {
                self.targets[index].state = State::Silent;
                self.stand_in(target.primary(), &mut actions);
            }
        }
        self.judge(&mut actions);
        if self.is_stored_by(self.local) {
            self.hand_out_hints(&mut actions);
        }
        actions
    }

    /// The answer, once given.
    #[must_use]
    pub const fn answer_given(&self) -> Option<PutAnswer> {
        self.answered
    }

    /// How many distinct nodes are known to have the record now.
    #[must_use]
    pub fn copies(&self) -> u8 {
        self.copies_at(|_| true)
    }

    fn copies_at(&self, counts: impl Fn(NodeId) -> bool) -> u8 {
        let mut nodes: SmallVec<[NodeId; 8]> = SmallVec::new();
        for target in &self.targets {
            let is_new = target.state == State::Stored && !nodes.contains(&target.node);
            if is_new && counts(target.node) {
                nodes.push(target.node);
            }
        }
        u8::try_from(nodes.len()).unwrap_or(u8::MAX)
    }

    /// True when the client has its answer and nothing is on its way.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.answered.is_some() && !self.is_waiting(|_| true)
    }

    fn fail(&mut self, node: NodeId, state: State) -> PutActions {
        let mut actions = PutActions::new();
        for index in 0..self.targets.len() {
            let target = self.targets[index];
            if target.node == node && target.state == State::Waiting {
                self.targets[index].state = state;
                self.stand_in(target.primary(), &mut actions);
            }
        }
        if self.answered.is_none() {
            self.try_last_resorts(&mut actions);
        }
        self.judge(&mut actions);
        self.hand_out_hints(&mut actions);
        actions
    }

    /// Fills a primary's slot with the next fallback, or notes that it has none.
    fn stand_in(&mut self, primary: NodeId, actions: &mut PutActions) {
        if let Some(fallback) = self.pool.pop() {
            self.send(fallback, Some(primary), Role::Firm, actions);
        } else if self.absent.iter().all(|absent| absent.primary != primary) {
            self.absent.push(Absent {
                primary,
                hinted: false,
            });
        }
    }

    /// When the nodes that seemed up cannot make W any more, tries the primaries that were never asked:
    /// liveness is an opinion, and asking costs nothing but a message.
    fn try_last_resorts(&mut self, actions: &mut PutActions) {
        let firm = |target: &&Target| target.state == State::Waiting && target.role == Role::Firm;
        let hopeful = self.targets.iter().filter(firm).count();
        if usize::from(self.copies()) + hopeful >= usize::from(self.needed) {
            return;
        }
        for index in 0..self.absent.len() {
            let primary = self.absent[index].primary;
            if self.targets.iter().all(|target| target.node != primary) {
                self.send(primary, None, Role::LastResort, actions);
            }
        }
    }

    fn send(
        &mut self,
        node: NodeId,
        hinted_for: Option<NodeId>,
        role: Role,
        actions: &mut PutActions,
    ) {
        let state = State::Waiting;
        self.targets.push(Target {
            node,
            hinted_for,
            state,
            role,
        });
        actions.push(PutAction::SendTo { node, hinted_for });
    }

    fn judge(&mut self, actions: &mut PutActions) {
        if self.answered.is_some() {
            return;
        }
        let (copies, needed) = (self.copies(), self.needed);
        if copies >= needed {
            self.answer(
                PutAnswer::Applied {
                    copies,
                    needed,
                    degraded: false,
                },
                actions,
            );
        } else if self.is_waiting(|target| target.role == Role::Firm) {
            // Somebody who counts may still answer.
        } else if self.is_floor_reached() {
            self.answer(
                PutAnswer::Applied {
                    copies,
                    needed,
                    degraded: true,
                },
                actions,
            );
        } else if self.is_waiting(|_| true) {
            // Only those believed down are left, and without them the put fails.
        } else if self
            .targets
            .iter()
            .all(|target| target.state == State::Refused)
        {
            self.answer(
                PutAnswer::NotApplied {
                    reachable: 0,
                    needed,
                },
                actions,
            );
        } else {
            self.answer(PutAnswer::Unknown { copies, needed }, actions);
        }
    }

    fn is_floor_reached(&self) -> bool {
        let staying = self.copies_at(|node| !self.departing.contains(&node));
        self.floor.is_some_and(|floor| staying >= floor)
    }

    /// Lets a node that has the record keep the hints of primaries without a stand-in: the local node,
    /// or once that has failed, any other.
    fn hand_out_hints(&mut self, actions: &mut PutActions) {
        if self.absent.iter().all(|absent| absent.hinted) {
            return;
        }
        let waits = |target: &Target| target.node == self.local && target.state == State::Waiting;
        let holder = if self.is_stored_by(self.local) {
            self.local
        } else if self.targets.iter().any(waits) {
            return;
        } else {
            let stored = |target: &&Target| target.state == State::Stored;
            let Some(target) = self.targets.iter().find(stored) else {
                return;
            };
            target.node
        };
        for index in 0..self.absent.len() {
            let Absent { primary, hinted } = self.absent[index];
            self.absent[index].hinted = true;
            if hinted {
                continue;
            }
            if holder == self.local {
                actions.push(PutAction::HintLocally { absent: primary });
            } else {
                self.send(holder, Some(primary), Role::HintKeeper, actions);
            }
        }
    }

    fn is_stored_by(&self, node: NodeId) -> bool {
        let by_node = |target: &Target| target.node == node && target.state == State::Stored;
        self.targets.iter().any(by_node)
    }

    fn is_waiting(&self, among: impl Fn(&Target) -> bool) -> bool {
        self.targets
            .iter()
            .any(|target| target.state == State::Waiting && among(target))
    }

    fn answer(&mut self, answer: PutAnswer, actions: &mut PutActions) {
        self.answered = Some(answer);
        actions.push(PutAction::Answer(answer));
    }
}

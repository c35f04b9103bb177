//! One ballot: performs what the pure round asks for, and feeds it the answers.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use souk_kv_core::register::{
    AcceptReply, Action, Ballot, Base, Chosen, Evaluation, GroupImage, Lead, Lost, PromiseReply,
    Round, RowSelection, limits,
};
use souk_kv_proto::{
    convert::register::{
        accept_reply_from_wire, accept_to_wire, ballot_to_wire, image_from_wire, prepare_to_wire,
        promise_from_wire,
    },
    peer::{FetchGroup, peer_message::Body},
};
use souk_ring::NodeId;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::{GroupPlace, GroupStore, group_to_wire};
use crate::{cluster::Cluster, error::RequestError, members::Members, peer::MESSAGE_BYTES_MAX};

/// How long an acceptor may take before it counts as failed in this ballot.
const VOTE_TIMEOUT: Duration = Duration::from_millis(1000);
/// How long the image of a group may take from one acceptor to another.
const IMAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// A change above so many bytes takes the bulk lane: it must not hold up the votes of others.
const VOTE_BYTES_MAX: u64 = 1024 * 1024;

// The image of the largest group fits a message. A row takes its weight, and tags and lengths around it.
const _: () = assert!(
    limits::GROUP_BYTES_MAX + limits::GROUP_ROWS_MAX * 64 <= MESSAGE_BYTES_MAX as u64,
    "an acceptor that lags can be brought up"
);

/// What a ballot needs.
#[derive(Debug, Clone)]
pub(super) struct Voting {
    pub(super) cluster: Arc<Cluster>,
    pub(super) groups: Arc<GroupStore>,
    pub(super) members: Arc<Members>,
}

/// An answer, and whose.
enum Event {
    Promise(NodeId, Option<PromiseReply>),
    Accept(NodeId, Option<AcceptReply>),
    Group {
        from: NodeId,
        behind: NodeId,
        image: Option<GroupImage>,
    },
}

/// A ballot under way: the pure round, and the questions without an answer yet.
pub(super) struct BallotRun {
    voting: Voting,
    place: GroupPlace,
    round: Round,
    open: FuturesUnordered<BoxFuture<'static, Event>>,
    deadline: Instant,
}

/// What the ballot has come to.
pub(super) enum Progress {
    /// Evaluate against the round's basis, then propose.
    Evaluate,
    Chosen(Chosen),
    Lost(Lost),
}

impl BallotRun {
    /// Asks for promises.
    pub(super) fn prepare(
        voting: Voting,
        place: GroupPlace,
        ballot: Ballot,
        rows: RowSelection,
    ) -> Self {
        let (round, actions) = Round::prepare((*place.voters).clone(), place.epoch, ballot, rows);
        let mut run = Self::new(voting, place, round);
        let ended = run.perform(actions);
        debug_assert!(ended.is_none(), "a round begins with questions");
        run
    }

    /// Goes on from the last ballot; it can be evaluated at once.
    pub(super) fn resume(voting: Voting, place: GroupPlace, lead: Lead) -> Self {
        Self::new(voting, place, Round::resume(lead))
    }

    fn new(voting: Voting, place: GroupPlace, round: Round) -> Self {
        let deadline = Instant::now() + VOTE_TIMEOUT;
        Self {
            voting,
            place,
            round,
            open: FuturesUnordered::new(),
            deadline,
        }
    }

    pub(super) fn round(&self) -> &Round {
        &self.round
    }

    /// Proposes what was evaluated; may be chosen at once.
    pub(super) fn propose(
        &mut self,
        evaluation: &Evaluation,
        next: Option<Ballot>,
    ) -> Option<Progress> {
        self.deadline = Instant::now() + VOTE_TIMEOUT;
        let actions = self.round.propose(evaluation, next);
        self.perform(actions)
    }

    /// Waits until the round has come to something.
    pub(super) async fn progress(&mut self) -> Progress {
        loop {
            let actions = tokio::select! {
                biased;
                Some(event) = self.open.next() => self.take(event),
                () = sleep_until(self.deadline) => self.round.on_timeout(),
            };
            if let Some(progress) = self.perform(actions) {
                return progress;
            }
        }
    }

    /// Brings lagging acceptors up after the ballot was chosen. Nobody waits for it.
    pub(super) async fn finish(mut self) {
        let give_up = Instant::now() + IMAGE_TIMEOUT * 2;
        while !self.round.is_finished() {
            let actions = tokio::select! {
                biased;
                event = self.open.next() => match event {
                    Some(event) => self.take(event),
                    // Who still lags cannot be helped by anybody who was asked.
                    None => return,
                },
                () = sleep_until(give_up) => return,
            };
            self.perform(actions);
        }
    }

    fn take(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Promise(from, Some(reply)) => self.round.on_promise(from, reply),
            Event::Accept(from, Some(reply)) => self.round.on_accept(from, reply),
            Event::Promise(from, None) | Event::Accept(from, None) => self.round.on_failed(from),
            Event::Group {
                from,
                behind,
                image,
            } => self.round.on_group(from, behind, image),
        }
    }

    fn perform(&mut self, actions: Vec<Action>) -> Option<Progress> {
        let mut progress = None;
        for action in actions {
            match action {
                Action::SendPrepare { to, request } => {
                    let (voting, place) = (self.voting.clone(), self.place.clone());
                    self.open.push(Box::pin(async move {
                        Event::Promise(to, voting.ask_prepare(to, &place, &request).await)
                    }));
                }
                Action::SendAccept { to, request } => {
                    let (voting, place) = (self.voting.clone(), self.place.clone());
                    self.open.push(Box::pin(async move {
                        Event::Accept(to, voting.ask_accept(to, &place, &request).await)
                    }));
                }
                Action::FetchGroup {
                    from,
                    behind,
                    since,
                } => {
                    let (voting, place) = (self.voting.clone(), self.place.clone());
                    self.open.push(Box::pin(async move {
                        let image = voting.ask_group(from, &place, since).await;
                        Event::Group {
                            from,
                            behind,
                            image,
                        }
                    }));
                }
                Action::Evaluate => progress = Some(Progress::Evaluate),
                Action::Chosen(chosen) => progress = Some(Progress::Chosen(chosen)),
                Action::Lost(lost) => progress = Some(Progress::Lost(lost)),
            }
        }
        progress
    }
}

impl Voting {
    /// How many of the group's acceptors seem up and may vote.
    pub(super) fn reachable(&self, place: &GroupPlace) -> usize {
        let acceptors = place.acceptors.iter();
        acceptors.filter(|node| self.may_vote(**node)).count()
    }

    /// Whether enough of them do.
    pub(super) fn is_quorum_reachable(&self, place: &GroupPlace) -> bool {
        place.voters.is_quorum(|node| self.may_vote(node))
    }

    fn may_vote(&self, node: NodeId) -> bool {
        self.cluster.is_up(node) && !self.cluster.is_learner(node)
    }

    async fn ask_prepare(
        &self,
        to: NodeId,
        place: &GroupPlace,
        request: &souk_kv_core::register::PrepareRequest,
    ) -> Option<PromiseReply> {
        if to == self.cluster.node {
            let (groups, place, request) =
                (Arc::clone(&self.groups), place.clone(), request.clone());
            let vote = async move { groups.prepare(&place.key, &request).await };
            return vote_here(to, vote).await;
        }
        let body = Body::Prepare(prepare_to_wire(group_to_wire(&place.key), request));
        match self.ask(to, body).await? {
            Body::PrepareReply(reply) => noted(to, promise_from_wire(reply)),
            _ => None,
        }
    }

    async fn ask_accept(
        &self,
        to: NodeId,
        place: &GroupPlace,
        request: &souk_kv_core::register::AcceptRequest,
    ) -> Option<AcceptReply> {
        if to == self.cluster.node {
            let (groups, place, request) =
                (Arc::clone(&self.groups), place.clone(), request.clone());
            let vote = async move { groups.accept(&place.key, &request).await };
            return vote_here(to, vote).await;
        }
        let body = Body::Accept(accept_to_wire(group_to_wire(&place.key), request));
        let answer = if request.delta.weight() > VOTE_BYTES_MAX {
            let deadline = Instant::now() + IMAGE_TIMEOUT;
            noted(to, self.cluster.call_in_bulk(to, body, deadline).await)
        } else {
            self.ask(to, body).await
        };
        match answer? {
            Body::AcceptReply(reply) => noted(to, accept_reply_from_wire(reply)),
            _ => None,
        }
    }

    async fn ask_group(
        &self,
        from: NodeId,
        place: &GroupPlace,
        since: Option<Ballot>,
    ) -> Option<GroupImage> {
        if from == self.cluster.node {
            return noted(from, self.groups.fetch(&place.key, since).await);
        }
        let request = FetchGroup {
            group: Some(group_to_wire(&place.key)),
            since: since.map(ballot_to_wire),
        };
        // An image may have megabytes, which must not hold up the votes of others.
        let deadline = Instant::now() + IMAGE_TIMEOUT;
        let answer = self
            .cluster
            .call_in_bulk(from, Body::FetchGroup(request), deadline)
            .await;
        let image = match noted(from, answer)? {
            Body::FetchGroupReply(reply) => noted(from, image_from_wire(reply))?,
            _ => return None,
        };
        debug!(
            group = ?place.key,
            whole = image.base == Base::Whole,
            rows = image.delta.rows.len(),
            "an acceptor is brought up"
        );
        Some(image)
    }

    async fn ask(&self, to: NodeId, body: Body) -> Option<Body> {
        noted(
            to,
            self.cluster
                .call(to, body, Instant::now() + VOTE_TIMEOUT)
                .await,
        )
    }
}

/// Votes in a task of its own: a ballot that ends early must not take the guard of a group away
/// from a vote whose commit is still on its way to the disk.
async fn vote_here<T: Send + 'static>(
    node: NodeId,
    vote: impl Future<Output = Result<T, RequestError>> + Send + 'static,
) -> Option<T> {
    noted(node, noted(node, tokio::spawn(vote).await)?)
}

fn noted<T, E: std::fmt::Display>(node: NodeId, result: Result<T, E>) -> Option<T> {
    result
        .inspect_err(|cause| debug!(node = node.0, %cause, "an acceptor gave no answer"))
        .ok()
}

//! This node's vote on the next layout, and its own proposals.
//!
//! Place: I/O; drives `souk_kv_core::layout`.
//! Invariants: 1. a vote is on disk before it is told. 2. a store that the layout does not name gives none.
//! Not here: which layout is wished for (`care`, operators).

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use metrics::counter;
use souk_kv_core::{
    layout::{Ask, Decision, Given, LayoutVote, Send, Step, Undecided, VoteReply, VoteRequest},
    register::{Acceptors, Ballot},
};
use souk_kv_proto::{
    convert::layout::{answer_from_wire, ask_to_wire, encode_vote},
    peer::peer_message::Body,
};
use souk_kv_storage::{Keyspace, StorageError, WriteBatch};
use souk_ring::{Layout, LayoutEpoch, NodeId};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info};

use super::{Members, Voice};
use crate::{error::RequestError, keys};

/// How long a member may take to vote.
const VOTE_TIMEOUT: Duration = Duration::from_secs(1);
/// Proposals of one wish before it is given up.
const TRIES: usize = 6;
/// Two proposers that met wait up to this long before they try again.
const PAUSE_MAX_MS: u64 = 200;

/// Why a wish for a layout came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecideError {
    /// The wish was made for another layout than the one in force.
    #[error("the layout has changed meanwhile: look at it and ask again")]
    Changed,
    /// No majority, or too much rivalry.
    #[error(transparent)]
    Undecided(#[from] Undecided),
    /// What was chosen could not be stored here.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

type Request = VoteRequest<Arc<Layout>>;
type Reply = VoteReply<Arc<Layout>>;

impl Members {
    /// Votes on a layout, as a member.
    pub(crate) async fn give_vote(&self, request: &Request) -> Result<Reply, RequestError> {
        let mut stored = self.vote.lock().await;
        let gate = self.fence.look();
        if let Voice::Silent(why) = &gate.voice {
            return Err(RequestError::NotReady(format!(
                "this node does not vote: {why}"
            )));
        }
        if let VoteRequest::Accept { proposal, .. } = request
            && !self.is_ours(&proposal.value)
        {
            return Err(RequestError::Invalid(
                "a layout of another cluster was proposed".to_owned(),
            ));
        }
        match LayoutVote::give(stored.as_ref(), gate.epoch, request) {
            Given::Reply(reply) => Ok(reply),
            Given::Store { vote, reply } => {
                let mut batch = WriteBatch::new();
                batch.put(Keyspace::Meta, keys::META_LAYOUT_VOTE, encode_vote(&vote));
                self.store.commit(batch.using_reserve()).await?;
                *stored = Some(vote);
                Ok(reply)
            }
        }
    }

    /// Gets the layout of the next epoch decided, adopts it and tells it. It may be another than `wish`.
    pub(crate) async fn decide(&self, wish: Layout) -> Result<Arc<Layout>, DecideError> {
        let wish = Arc::new(wish);
        let mut highest_seen = Ballot::ZERO;
        let mut last = Undecided::TooFew { agreed_count: 0 };
        for _ in 0..TRIES {
            let current = self.cluster.layout();
            if current.epoch().next() != Some(wish.epoch()) {
                return Err(DecideError::Changed);
            }
            match self
                .one_try(&current, Arc::clone(&wish), highest_seen)
                .await
            {
                Ok(chosen) => {
                    info!(epoch = chosen.epoch().0, "a layout was decided");
                    counter!("souk_layout_decisions_total").increment(1);
                    self.adopt(&chosen).await?;
                    self.announce();
                    return Ok(chosen);
                }
                Err(undecided) => last = undecided,
            }
            match last {
                Undecided::Outrun { highest_seen: seen } => highest_seen = highest_seen.max(seen),
                Undecided::Settled { adopted } => self.catch_up_somewhere(adopted).await,
                Undecided::TooFew { .. } => return Err(last.into()),
            }
            let pause = self.cluster.environment.random_u64() % PAUSE_MAX_MS;
            sleep(Duration::from_millis(pause)).await;
        }
        Err(last.into())
    }

    async fn one_try(
        &self,
        current: &Layout,
        wish: Arc<Layout>,
        highest_seen: Ballot,
    ) -> Result<Arc<Layout>, Undecided> {
        let ballot = self
            .ballots
            .lock()
            .next(self.cluster.environment.unix_ms(), highest_seen)
            .map_err(|_| Undecided::Outrun { highest_seen })?;
        let deciding: LayoutEpoch = wish.epoch();
        let (mut decision, sends) = Decision::start(Ask {
            acceptors: Acceptors::of_members(current),
            deciding,
            ballot,
            wish,
        });
        let mut open = FuturesUnordered::new();
        open.extend(sends.into_iter().map(|send| self.ask(send)));
        let mut deadline = Instant::now() + VOTE_TIMEOUT;
        loop {
            let step = tokio::select! {
                biased;
                Some((from, reply)) = open.next() => match reply {
                    Some(reply) => decision.on_reply(from, reply),
                    None => decision.on_failed(from),
                },
                () = sleep_until(deadline) => decision.on_timeout(),
            };
            match step {
                Step::Ask(sends) if sends.is_empty() => {}
                Step::Ask(sends) => {
                    deadline = Instant::now() + VOTE_TIMEOUT;
                    open = FuturesUnordered::new();
                    open.extend(sends.into_iter().map(|send| self.ask(send)));
                }
                Step::Chosen(layout) => return Ok(layout),
                Step::Lost(undecided) => return Err(undecided),
            }
        }
    }

    async fn ask(&self, send: Send<Arc<Layout>>) -> (NodeId, Option<Reply>) {
        let Send { to, request } = send;
        if to == self.cluster.node {
            let vote = self.give_vote(&request).await;
            return (to, noted(to, vote));
        }
        let body = Body::LayoutAsk(ask_to_wire(&request));
        let deadline = Instant::now() + VOTE_TIMEOUT;
        let reply = match noted(to, self.cluster.peers().call(to, body, deadline).await) {
            Some(Body::LayoutAnswer(answer)) => noted(to, answer_from_wire(answer)),
            _ => None,
        };
        (to, reply)
    }
}

fn noted<T, E: std::fmt::Display>(node: NodeId, result: Result<T, E>) -> Option<T> {
    result
        .inspect_err(
            |cause| debug!(node = node.0, %cause, "a member gave no vote on the next layout"),
        )
        .ok()
}

//! Runs one request over its attempts until it has an answer, a final failure, or no time left.
//!
//! Shape: choose a node, send, wait, let `crate::attempts` decide, repeat. When a read or a plain write
//! has had no answer for a while, a second node is asked beside the first, and the first success counts.
//! Invariants: 1. one deadline covers all attempts and waits. 2. nothing is decided here that
//! `crate::attempts` could decide.
//! Not here: many requests in one frame (`super::batch`).

use std::{sync::Arc, time::Duration};

use souk_kv_proto::kv::{session_request::Body as Question, session_response::Body as Answer};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    failure::Failure,
    flight::{Asked, Flight, QuestionBytes},
    shared::{Shared, View},
};
use crate::{
    attempts::{Attempts, Kind, Next},
    error::RequestError,
    routing::{self, Candidate},
    session::Link,
    topology::Place,
};

/// Longest wait for a fresh topology before a retry goes ahead with the old one.
const REFRESH_WAIT_MAX: Duration = Duration::from_millis(500);

/// One request, whatever it asks.
pub(super) struct Call<'a> {
    pub(super) kind: Kind,
    pub(super) bucket: &'a str,
    pub(super) partition_key: &'a [u8],
    pub(super) deadline: Instant,
    /// When to ask a second node beside the first; conditional writes never do.
    pub(super) double_after: Duration,
}

impl Shared {
    /// Asks `question`, made anew for each attempt, and gives what `hear` makes of the answer, which is
    /// `None` for an answer to another question.
    pub(super) async fn call<T>(
        &self,
        call: Call<'_>,
        question: impl Fn(Asked) -> (Question, QuestionBytes),
        hear: impl Fn(Answer) -> Option<T>,
    ) -> Result<T, RequestError> {
        self.budget.earn(1);
        let mut attempts = Attempts::new(call.kind, self.attempt_limits());
        let mut tried = Vec::new();
        loop {
            let opened = self.signals.link_opened.notified();
            let view = self.view.load_full();
            let place = view.topology.place(call.bucket, call.partition_key);
            let Some(link) = pick(&view, place, &tried).cloned() else {
                if timeout_at(call.deadline, opened).await.is_err() {
                    let outcome = attempts.outcome_if_stopped();
                    return Err(Failure::no_connection(&view).into_error(&view, outcome));
                }
                continue;
            };
            let attempt = self.attempt(
                &call,
                &view,
                place,
                &link,
                &mut attempts,
                &mut tried,
                &question,
            );
            let failure = match attempt.await.map(&hear) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => Failure::nonsense(&link),
                Err(failure) => failure,
            };
            let left = call.deadline.saturating_duration_since(Instant::now());
            match attempts.next(failure.ended, left, self.jitter(), || self.budget.spend()) {
                Next::Fail { outcome } => return Err(failure.into_error(&view, outcome)),
                Next::Retry {
                    wait,
                    elsewhere,
                    refresh,
                } => {
                    if elsewhere {
                        tried.push(link);
                    }
                    self.before_retry(wait, refresh, call.deadline).await;
                }
            }
        }
    }

    /// One attempt at `link`, and beside it at another node once `link` has kept silent for a while.
    #[allow(clippy::too_many_arguments)] // All of it is the state of one call, private to this file.
    async fn attempt(
        &self,
        call: &Call<'_>,
        view: &View,
        place: Place,
        link: &Arc<Link>,
        attempts: &mut Attempts,
        tried: &mut Vec<Arc<Link>>,
        question: &impl Fn(Asked) -> (Question, QuestionBytes),
    ) -> Result<Answer, Failure> {
        let deadline = call.deadline;
        let number = attempts.launch();
        let ask = |timeout_ms| {
            question(Asked {
                attempt: number,
                timeout_ms,
            })
        };
        let mut flight = Flight::begin(link, deadline, deadline, ask).await?;
        if attempts.may_be_doubled() {
            let soon = deadline.min(flight.sent_at + call.double_after);
            if let Some(ended) = flight.ended_by(soon).await {
                return ended;
            }
            link.kept_silent(flight.sent_at);
            tried.push(Arc::clone(link));
            let other = pick(view, place, tried).filter(|other| !Arc::ptr_eq(other, link));
            if let Some(other) = other.filter(|_| self.budget.spend()) {
                tried.push(Arc::clone(other));
                // The second flight is worth taking only if it need not wait for room.
                let number = attempts.launch();
                let ask = |timeout_ms| {
                    question(Asked {
                        attempt: number,
                        timeout_ms,
                    })
                };
                match Flight::begin(other, Instant::now(), deadline, ask).await {
                    Ok(second) => return flight.finish_beside(second, deadline, attempts).await,
                    Err(failure) => attempts.note(failure.ended),
                }
            }
        }
        flight.finish(deadline).await
    }

    /// Waits, and fetches the topology if that may help.
    pub(super) async fn before_retry(&self, wait: Duration, refresh: bool, deadline: Instant) {
        if refresh {
            self.refreshed_by(deadline.min(Instant::now() + REFRESH_WAIT_MAX))
                .await;
        }
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }
}

/// The node to ask next: the first healthy primary that was not tried, or the best there is.
pub(super) fn pick<'a>(view: &'a View, place: Place, tried: &[Arc<Link>]) -> Option<&'a Arc<Link>> {
    let list = view.topology.layout().preference_list(place.partition);
    let primaries = list
        .primaries(place.replicas_n)
        .iter()
        .map(|node| (node, true));
    let fallbacks = list
        .fallbacks(place.replicas_n)
        .iter()
        .map(|node| (node, false));
    let members = primaries
        .chain(fallbacks)
        .filter_map(|(node, primary)| view.links.get(node).map(|link| (link, primary)));
    let seeds = view.seeds.iter().map(|link| (link, false));
    routing::choose(members.chain(seeds).map(|(link, primary)| {
        let times = tried
            .iter()
            .filter(|other| Arc::ptr_eq(other, link))
            .count();
        let candidate = Candidate {
            connected: link.is_open(),
            suspect: link.is_suspect(),
            tried: u32::try_from(times).unwrap_or(u32::MAX),
            primary,
        };
        (link, candidate)
    }))
}

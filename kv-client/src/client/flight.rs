//! One attempt: a request on its way to one node, or to two when the first keeps silent.
//!
//! Invariants: 1. an attempt that is given up before it left is `NotSent`, and never leaves later.
//! 2. of two flights the first success counts; if both fail, the failure that came last is reported and
//! the other one is noted in `Attempts`.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::future::{Either, select};
use souk_kv_proto::kv::{session_request::Body as Question, session_response::Body as Answer};
use tokio::{
    sync::SemaphorePermit,
    time::{Instant, timeout_at},
};

use super::failure::Failure;
use crate::{
    attempts::Attempts,
    convert::millis,
    options::REQUEST_TIMEOUT_MAX,
    session::{Link, Lost, Waiting},
};

/// Part of the time left that a node is not told of, so that its own timeout, which knows more, arrives
/// before ours: a tenth, at most this much.
const ANSWER_TRAVEL_MAX: Duration = Duration::from_millis(25);

/// A request that was queued to one node.
pub(super) struct Flight<'a> {
    link: &'a Arc<Link>,
    pub(super) sent_at: Instant,
    waiting: Waiting,
    _permit: SemaphorePermit<'a>,
}

/// What makes the question of one attempt differ from that of another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// From 1.
    pub(super) attempt: u32,
    /// The time that the node may take.
    pub(super) timeout_ms: u32,
}

/// What a question weighs, in bytes, roughly: enough to close frames in time.
pub(super) type QuestionBytes = usize;

impl<'a> Flight<'a> {
    /// Queues `question` once there is room at the node, waiting for room until `room_by`.
    pub(super) async fn begin(
        link: &'a Arc<Link>,
        room_by: Instant,
        deadline: Instant,
        question: impl FnOnce(u32) -> (Question, QuestionBytes),
    ) -> Result<Flight<'a>, Failure> {
        let permit = match link.in_flight().try_acquire() {
            Ok(permit) => permit,
            Err(_) => match timeout_at(room_by, link.in_flight().acquire()).await {
                Ok(Ok(permit)) => permit,
                Ok(Err(_)) | Err(_) => return Err(Failure::crowded(link)),
            },
        };
        let sent_at = Instant::now();
        let (question, bytes) = question(time_told(deadline.saturating_duration_since(sent_at)));
        match link.send(question, bytes) {
            Ok(waiting) => Ok(Flight {
                link,
                sent_at,
                waiting,
                _permit: permit,
            }),
            Err(Lost { .. }) => Err(Failure::not_sent(link)),
        }
    }

    /// Waits until `soon`; `None` when there is no answer yet.
    pub(super) async fn ended_by(&mut self, soon: Instant) -> Option<Result<Answer, Failure>> {
        let ended = timeout_at(soon, &mut self.waiting).await.ok()?;
        Some(judge(self.link, ended))
    }

    /// Waits until `deadline`, then gives up.
    pub(super) async fn finish(mut self, deadline: Instant) -> Result<Answer, Failure> {
        if let Some(ended) = self.ended_by(deadline).await {
            return ended;
        }
        self.link.kept_silent(self.sent_at);
        let had_left = self.waiting.give_up();
        Err(if had_left {
            Failure::silent(self.link, self.sent_at.elapsed())
        } else {
            Failure::not_sent(self.link)
        })
    }

    /// Waits for this flight and for `other` until `deadline`.
    pub(super) async fn finish_beside(
        self,
        other: Flight<'_>,
        deadline: Instant,
        attempts: &mut Attempts,
    ) -> Result<Answer, Failure> {
        let (first, second) = (pin!(self.finish(deadline)), pin!(other.finish(deadline)));
        let (earlier, later) = match select(first, second).await {
            Either::Left((earlier, later)) => (earlier, Either::Left(later)),
            Either::Right((earlier, later)) => (earlier, Either::Right(later)),
        };
        match earlier {
            Ok(answer) => Ok(answer),
            Err(failure) => {
                attempts.note(failure.ended);
                later.await
            }
        }
    }
}

fn judge(link: &Arc<Link>, ended: Result<Answer, Lost>) -> Result<Answer, Failure> {
    match ended {
        Ok(Answer::Error(error)) => {
            let failure = Failure::refused(link, error);
            if failure.is_node_unfit() {
                link.failed()
            } else {
                link.succeeded()
            }
            Err(failure)
        }
        Ok(answer) => {
            link.succeeded();
            Ok(answer)
        }
        Err(Lost { sent }) => {
            link.failed();
            Err(if sent {
                Failure::broken(link)
            } else {
                Failure::not_sent(link)
            })
        }
    }
}

/// What a node is told of the time left, in milliseconds.
fn time_told(left: Duration) -> u32 {
    let told = left - (left / 10).min(ANSWER_TRAVEL_MAX);
    let told = millis(told.clamp(Duration::from_millis(1), REQUEST_TIMEOUT_MAX));
    u32::try_from(told).expect("REQUEST_TIMEOUT_MAX has few milliseconds")
}

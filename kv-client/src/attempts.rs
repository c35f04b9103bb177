//! Decides after each failed attempt of a request: give up with which outcome, or try again.
//!
//! Think of a letter that may have been lost: before posting a copy, ask what happens if both arrive.
//! Reads do no harm. Plain writes carry a request id that every replica remembers. Conditional writes too,
//! but there a wrong guess costs most, so that the caller decides.
//!
//! Place: pure; driven by `crate::client::call` and `crate::client::batch`; chance and time are arguments.
//! Source: Helland, Idempotence Is Not a Medical Condition, ACM Queue 2012.
//! Invariants: 1. once an attempt of a write ended in doubt, no failure of a later one takes the doubt back:
//! the request fails as `Unknown`. Only an answer resolves it: "applied", or "conditions did not hold" to an
//! attempt numbered 2 or above, which nodes record before they give it (`RequestId.attempt`), so that no
//! earlier copy can be applied any more. 2. a conditional write in doubt is sent again only if the caller
//! allowed it. 3. at most `attempts_max` attempts leave. 4. failed reads are `NotApplied`.
//! Not here: which node is next (`crate::routing`), how many retries a client may spend (`crate::budget`).

use std::time::Duration;

use souk_kv_core::outcome::Outcome;
use souk_kv_proto::kv::ErrorCode;

/// What a second arrival of the request would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Changes nothing.
    Read,
    /// A put or delete under a request id that siblings keep: applied once however often it arrives.
    Plain,
    /// A conditional write.
    Conditional {
        /// The caller allows another attempt after one that ended in doubt.
        retry_unknown: bool,
    },
}

/// How one attempt ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The node answered with an error.
    Refused {
        code: ErrorCode,
        outcome: Outcome,
        retryable: bool,
        retry_after: Option<Duration>,
    },
    /// The request never left this process.
    NotSent,
    /// The request left; no answer came in time.
    Silent,
    /// The request left; the connection broke before an answer came.
    Broken,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Next {
    /// Report the failure of this attempt, with this outcome of the whole request.
    Fail { outcome: Outcome },
    /// Try again after waiting.
    Retry {
        wait: Duration,
        /// Prefer nodes that have not been tried.
        elsewhere: bool,
        /// Fetch the topology first.
        refresh: bool,
    },
}

/// Bounds of the attempts of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttemptLimits {
    /// Most attempts that may be sent, at least 1.
    pub(crate) attempts_max: u32,
    /// Bounds of the wait before a retry.
    pub(crate) backoff_min: Duration,
    pub(crate) backoff_max: Duration,
}

/// The attempts of one request so far.
#[derive(Clone, Debug)]
pub(crate) struct Attempts {
    kind: Kind,
    limits: AttemptLimits,
    /// Attempts that have left or are about to.
    launched_count: u32,
    waits_count: u32,
    in_doubt: bool,
    refreshed: bool,
}

/// What another attempt would need, or that none makes sense.
enum Advice {
    Stop,
    Again {
        backoff: bool,
        elsewhere: bool,
        refresh: bool,
        at_least: Duration,
    },
}

impl Attempts {
    pub(crate) fn new(kind: Kind, limits: AttemptLimits) -> Attempts {
        Attempts {
            kind,
            limits,
            launched_count: 0,
            waits_count: 0,
            in_doubt: false,
            refreshed: false,
        }
    }

    /// Begins an attempt and gives its number, from 1. An attempt that did not leave gives its number back.
    pub(crate) fn launch(&mut self) -> u32 {
        self.launched_count += 1;
        self.launched_count
    }

    /// True when the limits allow an attempt beside the one under way, which has had no answer so far.
    pub(crate) fn may_be_doubled(&self) -> bool {
        let harmless = match self.kind {
            Kind::Read | Kind::Plain => true,
            Kind::Conditional { .. } => false,
        };
        harmless && self.launched_count < self.limits.attempts_max
    }

    /// The outcome of the whole request if nothing more is tried.
    pub(crate) fn outcome_if_stopped(&self) -> Outcome {
        if self.in_doubt {
            Outcome::Unknown
        } else {
            Outcome::NotApplied
        }
    }

    /// Takes the end of the last launched attempt under way. `left` is the time until the deadline, `jitter` a random number in
    /// 0.0..=1.0, and `budget` spends one retry or says no; it is asked only when everything else allows
    /// one.
    pub(crate) fn next(
        &mut self,
        ended: Ended,
        left: Duration,
        jitter: f64,
        budget: impl FnOnce() -> bool,
    ) -> Next {
        if let Ended::Refused {
            outcome: Outcome::Applied,
            ..
        } = ended
        {
            return Next::Fail {
                outcome: self.known_applied(),
            };
        }
        self.note(ended);
        let sent = ended != Ended::NotSent;
        let stop = Next::Fail {
            outcome: self.outcome_if_stopped(),
        };

        let Advice::Again {
            backoff,
            elsewhere,
            refresh,
            at_least,
        } = self.advice(ended)
        else {
            return stop;
        };
        if !self.may_send_again() || self.launched_count >= self.limits.attempts_max {
            return stop;
        }
        let wait = if backoff {
            self.backoff(jitter).max(at_least)
        } else {
            at_least
        };
        // An attempt that never left cost nobody anything, so that its repetition is free.
        if wait >= left || (sent && !budget()) {
            return stop;
        }
        self.refreshed |= refresh;
        Next::Retry {
            wait,
            elsewhere,
            refresh,
        }
    }

    /// Takes the end of a launched attempt while another one is still under way.
    pub(crate) fn note(&mut self, ended: Ended) {
        self.launched_count -= u32::from(ended == Ended::NotSent);
        self.in_doubt |= self.kind != Kind::Read && leaves_doubt(ended);
    }

    /// A read has nothing to apply, whatever a node may say.
    fn known_applied(&self) -> Outcome {
        match self.kind {
            Kind::Read => Outcome::NotApplied,
            Kind::Plain | Kind::Conditional { .. } => Outcome::Applied,
        }
    }

    fn may_send_again(&self) -> bool {
        match self.kind {
            Kind::Read | Kind::Plain => true,
            Kind::Conditional { retry_unknown } => retry_unknown || !self.in_doubt,
        }
    }

    fn advice(&self, ended: Ended) -> Advice {
        let at_once = Advice::Again {
            backoff: false,
            elsewhere: true,
            refresh: false,
            at_least: Duration::ZERO,
        };
        match ended {
            Ended::NotSent => Advice::Again {
                backoff: true,
                elsewhere: true,
                refresh: false,
                at_least: Duration::ZERO,
            },
            Ended::Silent | Ended::Broken => at_once,
            Ended::Refused {
                code,
                retryable,
                retry_after,
                ..
            } => self.advice_on_refusal(code, retryable, retry_after),
        }
    }

    fn advice_on_refusal(
        &self,
        code: ErrorCode,
        retryable: bool,
        retry_after: Option<Duration>,
    ) -> Advice {
        // A client or a node that has not heard of a new bucket or layout yet looks like this too.
        let may_be_stale = matches!(code, ErrorCode::BucketNotFound | ErrorCode::StaleEpoch);
        if may_be_stale && !self.refreshed {
            let elsewhere = code == ErrorCode::BucketNotFound;
            let at_least = retry_after.unwrap_or_default();
            return Advice::Again {
                backoff: false,
                elsewhere,
                refresh: true,
                at_least,
            };
        }
        if !retryable {
            return Advice::Stop;
        }
        // Asking another coordinator for a contended group makes the contention worse.
        let elsewhere = code != ErrorCode::Contention && code != ErrorCode::StaleEpoch;
        let at_least = retry_after.unwrap_or_default();
        Advice::Again {
            backoff: true,
            elsewhere,
            refresh: false,
            at_least,
        }
    }

    /// Doubles from `backoff_min` to `backoff_max`; each wait is between half of it and all of it.
    fn backoff(&mut self, jitter: f64) -> Duration {
        let doubled = self
            .limits
            .backoff_min
            .saturating_mul(1 << self.waits_count.min(16));
        self.waits_count += 1;
        doubled
            .min(self.limits.backoff_max)
            .mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

fn leaves_doubt(ended: Ended) -> bool {
    match ended {
        Ended::Silent | Ended::Broken => true,
        Ended::Refused { outcome, .. } => match outcome {
            Outcome::Unknown => true,
            Outcome::Applied | Outcome::NotApplied => false,
        },
        Ended::NotSent => false,
    }
}

#[cfg(test)]
#[path = "attempts_test.rs"]
mod tests;

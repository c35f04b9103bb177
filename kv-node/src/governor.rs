//! Makes the node's own work wait while the requests of others are slow.
//!
//! Every background job asks before each portion of its work: `governor.pace(Job::Handoff, 1).await`. While requests are
//! answered within their target, the answer comes at once; when the 99th percentile rises above it, the portions come
//! ever more slowly, down to a rate that never ends.
//!
//! Place: I/O; one per node. The API tells it how long requests took, the jobs ask it.
//! Invariants: 1. jobs are let in one after the other, in the order they came. 2. no job waits for ever.
//! Not here: how the rate is found (`souk_kv_core::overload`); how much may be in work at once, which each job bounds.

use std::{fmt, time::Duration};

use metrics::{counter, gauge, histogram};
use parking_lot::Mutex;
use souk_kv_core::overload::{Allowance, Governor as Policy, GovernorOptions};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::meter::LatencyMeter;

/// How often the rate is judged anew.
const STEP: Duration = Duration::from_millis(100);
/// Longest portion, in units: a longer one would hold up the other jobs.
const PORTION_MAX: u32 = 256;

/// What a node does by itself, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// Delivers hints.
    Handoff,
    /// Takes in what other nodes hand over or repair here.
    Incoming,
    /// Learns what a lost store knew, from the other members.
    Lessons,
    /// Looks for old register rows, and erases them.
    Sweep,
    /// Sends merged records to replicas that lacked something.
    ReadRepair,
    /// Compares trees with other replicas, and moves what differs.
    AntiEntropy,
    /// Reads the node's own data to see whether it is sound.
    Scrub,
    /// Looks for tombstones and erases them.
    Collection,
    /// Brings copies to their next owners.
    Transfers,
}

impl Job {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Handoff => "handoff",
            Self::Incoming => "incoming",
            Self::Lessons => "lessons",
            Self::Sweep => "sweep",
            Self::ReadRepair => "read-repair",
            Self::AntiEntropy => "anti-entropy",
            Self::Scrub => "scrub",
            Self::Collection => "collection",
            Self::Transfers => "transfers",
        }
    }
}

/// Lets background work in at the rate that requests leave it.
pub(crate) struct Governor {
    started: Instant,
    /// Answers since the last step.
    answers: LatencyMeter,
    policy: Mutex<Policy>,
    allowance: Mutex<Allowance>,
    /// Whose turn it is to wait for the allowance; fair.
    turn: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Governor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Governor({} units/s)", self.policy.lock().rate())
    }
}

impl Governor {
    /// Starts at full speed. `p99_target` is what 99 of 100 requests shall take at most.
    pub(crate) fn new(p99_target: Duration) -> Self {
        let policy = Policy::new(GovernorOptions {
            p99_target,
            ..GovernorOptions::default()
        })
        .expect("the default bounds are valid");
        Self {
            started: Instant::now(),
            answers: LatencyMeter::new(),
            allowance: Mutex::new(Allowance::new(policy.rate(), Duration::ZERO)),
            policy: Mutex::new(policy),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// A request of a client was answered after `waited`.
    pub(crate) fn answered(&self, waited: Duration) {
        self.answers.record(waited);
    }

    /// Waits until a portion of background work may be done. One unit is one record read, written or sent, or one
    /// page of keys; ask for small portions (at most 256 units), so that jobs take turns. Dropping the future gives
    /// the turn up.
    pub(crate) async fn pace(&self, job: Job, units: u32) {
        let asked = Instant::now();
        {
            let _turn = self.turn.lock().await;
            loop {
                let units = units.min(PORTION_MAX);
                let taken = self
                    .allowance
                    .lock()
                    .try_take(units, self.started.elapsed());
                match taken {
                    Ok(()) => break,
                    // No longer than a step: the rate may have risen by then.
                    Err(wait) => sleep(wait.min(STEP)).await,
                }
            }
        }
        counter!("souk_background_units_total", "job" => job.as_str()).increment(units.into());
        histogram!("souk_background_wait_seconds", "job" => job.as_str())
            .record(asked.elapsed().as_secs_f64());
    }

    /// Judges the rate several times a second, until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut ticks = interval(STEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.step(),
            }
        }
    }

    fn step(&self) {
        let mut policy = self.policy.lock();
        if policy.step(self.answers.take()) {
            counter!("souk_background_slowed_total").increment(1);
        }
        let rate = policy.rate();
        gauge!("souk_background_rate_units").set(rate);
        gauge!("souk_foreground_p99_seconds")
            .set(policy.p99().map_or(0.0, |p99| p99.as_secs_f64()));
        drop(policy);
        self.allowance.lock().set_rate(rate, self.started.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const TARGET: Duration = Duration::from_millis(20);

    /// How many single units one job gets within a second.
    async fn units_in_a_second(governor: &Governor) -> u32 {
        let mut units = 0;
        let _ = tokio::time::timeout(Duration::from_secs(1), async {
            loop {
                governor.pace(Job::Handoff, 1).await;
                units += 1;
            }
        })
        .await;
        units
    }

    fn overload(governor: &Governor) {
        for _ in 0..20 {
            for _ in 0..10 {
                governor.answered(TARGET * 3);
            }
            governor.step();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn background_work_yields_to_slow_requests_and_comes_back() {
        let governor = Governor::new(TARGET);
        let quiet = units_in_a_second(&governor).await;
        overload(&governor);
        let busy = units_in_a_second(&governor).await;
        assert!(busy > 0, "it never ends");
        assert!(busy * 100 < quiet, "{busy} of {quiet}");
        for _ in 0..200 {
            governor.answered(TARGET / 4);
            governor.step();
        }
        assert!(units_in_a_second(&governor).await > busy * 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_job_feels_a_risen_rate() {
        let governor = Arc::new(Governor::new(TARGET));
        overload(&governor);
        // Pays for a second at the lowest rate, and more.
        governor.pace(Job::Handoff, PORTION_MAX).await;
        governor.pace(Job::Handoff, PORTION_MAX).await;
        let waiting = tokio::spawn({
            let governor = Arc::clone(&governor);
            async move { governor.pace(Job::ReadRepair, 1).await }
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        for _ in 0..200 {
            governor.step();
        }
        let waited = Instant::now();
        waiting.await.expect("it ends");
        assert!(waited.elapsed() <= STEP, "{:?}", waited.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn the_task_judges_by_itself_and_stops() {
        let governor = Arc::new(Governor::new(TARGET));
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (governor, stop) = (Arc::clone(&governor), stop.clone());
            async move { governor.run(stop).await }
        });
        let full = governor.policy.lock().rate();
        for _ in 0..5 {
            (0..10).for_each(|_| governor.answered(TARGET * 3));
            tokio::time::sleep(STEP).await;
        }
        assert!(governor.policy.lock().rate() < full);
        stop.cancel();
        task.await.expect("it stops");
    }
}

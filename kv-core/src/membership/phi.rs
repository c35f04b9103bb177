//! Turns the rhythm of a peer's heartbeats into a degree of suspicion.
//!
//! Place: pure; times are `Duration`s since any one start of the caller's monotonic clock.
//! Source: Hayashibara et al., The φ Accrual Failure Detector (2004), §4; the logistic approximation of the normal
//! distribution's tail is that of Akka's `PhiAccrualFailureDetector`.
//! Shape: φ = −log10 of the chance that a heartbeat is merely this late: 1 is one in ten, 8 one in a hundred million.
//! Invariants: 1. φ never falls while nothing arrives. 2. the window is bounded. 3. a clock that steps back counts as
//! standing still.

use std::collections::VecDeque;
use std::time::Duration;

/// How to judge silence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PhiOptions {
    /// The φ from which on a peer is suspected; 8 suits a local network, 12 a noisy one. Above 0.
    pub threshold: f64,
    /// How many intervals are remembered, from 1.
    pub window_count: usize,
    /// The least standard deviation assumed, above zero: a perfect rhythm must not make the judge nervous.
    pub deviation_min: Duration,
    /// Silence on top of the rhythm that is always forgiven, for pauses of the process or its disk.
    pub pause_acceptable: Duration,
    /// The interval assumed before the first one is seen, above zero.
    pub interval_expected: Duration,
}

impl Default for PhiOptions {
    /// Suits heartbeats every 200 ms: a dead peer is suspected after about a second.
    fn default() -> PhiOptions {
        PhiOptions {
            threshold: 8.0,
            window_count: 100,
            deviation_min: Duration::from_millis(50),
            pause_acceptable: Duration::from_millis(500),
            interval_expected: Duration::from_millis(200),
        }
    }
}

/// Options that cannot judge anything. Mend: as the message says.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum PhiOptionsError {
    /// The threshold is not a positive number.
    #[error("a phi threshold of {threshold}: choose a number above 0, usually 8")]
    Threshold {
        /// The given threshold.
        threshold: f64,
    },
    /// The window is empty.
    #[error("a window of 0 heartbeats: choose at least 1, usually 100")]
    Window,
    /// A deviation of zero would divide by it.
    #[error("a smallest deviation of zero: choose about a quarter of the heartbeat interval")]
    Deviation,
    /// An expected interval of zero.
    #[error("an expected heartbeat interval of zero: give the interval at which peers send")]
    Interval,
}

impl PhiOptions {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`PhiOptionsError`] for the first option out of its range.
    pub fn validated(self) -> Result<PhiOptions, PhiOptionsError> {
        let threshold = self.threshold;
        if !(threshold.is_finite() && threshold > 0.0) {
            Err(PhiOptionsError::Threshold { threshold })
        } else if self.window_count == 0 {
            Err(PhiOptionsError::Window)
        } else if self.deviation_min.is_zero() {
            Err(PhiOptionsError::Deviation)
        } else if self.interval_expected.is_zero() {
            Err(PhiOptionsError::Interval)
        } else {
            Ok(self)
        }
    }
}

/// The judge of one peer's silence.
#[derive(Clone, Debug)]
pub struct PhiAccrual {
    options: PhiOptions,
    /// Seconds between heartbeats, oldest first.
    intervals: VecDeque<f64>,
    last: Option<Duration>,
}

impl PhiAccrual {
    /// A judge who has heard nothing yet, and so suspects nobody.
    ///
    /// # Errors
    /// [`PhiOptionsError`] when an option is out of its range.
    pub fn new(options: PhiOptions) -> Result<PhiAccrual, PhiOptionsError> {
        Ok(PhiAccrual {
            options: options.validated()?,
            intervals: VecDeque::new(),
            last: None,
        })
    }

    /// A sign of life arrived: a heartbeat, or any other message.
    pub fn heartbeat(&mut self, now: Duration) {
        if let Some(last) = self.last {
            if self.intervals.len() == self.options.window_count {
                self.intervals.pop_front();
            }
            self.intervals
                .push_back(now.saturating_sub(last).as_secs_f64());
        }
        self.last = Some(self.last.map_or(now, |last| last.max(now)));
    }

    /// Starts the silence afresh without counting the gap as an interval: a link was down and came back,
    /// which says nothing about the peer's rhythm.
    pub fn resume(&mut self, now: Duration) {
        self.last = Some(now);
    }

    /// The suspicion at `now`: 0 for a peer never heard, rising without bound in silence.
    #[must_use]
    pub fn phi(&self, now: Duration) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        let silence = now.saturating_sub(last).as_secs_f64();
        let (mean, deviation) = self.rhythm();
        let mean = mean + self.options.pause_acceptable.as_secs_f64();
        let y = (silence - mean) / deviation;
        // log10(1 + e^x) for the tail chance 1 / (1 + e^x), written so that a long silence does not overflow.
        let x = y * (1.5976 + 0.070_566 * y * y);
        let natural = if x > 0.0 {
            x + (-x).exp().ln_1p()
        } else {
            x.exp().ln_1p()
        };
        natural / std::f64::consts::LN_10
    }

    /// True while the suspicion is below the threshold.
    #[must_use]
    pub fn is_available(&self, now: Duration) -> bool {
        self.phi(now) < self.options.threshold
    }

    /// Mean and standard deviation of the intervals, in seconds.
    fn rhythm(&self) -> (f64, f64) {
        let deviation_min = self.options.deviation_min.as_secs_f64();
        if self.intervals.is_empty() {
            // Nothing known: a quarter of the interval is a guess that errs on the patient side.
            let mean = self.options.interval_expected.as_secs_f64();
            return (mean, deviation_min.max(mean / 4.0));
        }
        // Summed anew each time, over at most a window: a running sum would drift over months.
        let count = self.intervals.len() as f64;
        let mean = self.intervals.iter().sum::<f64>() / count;
        let squares = self
            .intervals
            .iter()
            .map(|interval| (interval - mean).powi(2));
        (
            mean,
            deviation_min.max((squares.sum::<f64>() / count).sqrt()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn judge_after(intervals_ms: &[u64]) -> (PhiAccrual, Duration) {
        let mut judge = PhiAccrual::new(PhiOptions::default()).expect("the defaults are valid");
        let mut now = Duration::from_secs(5);
        judge.heartbeat(now);
        for &interval in intervals_ms {
            now += Duration::from_millis(interval);
            judge.heartbeat(now);
        }
        (judge, now)
    }

    proptest! {
        #[test]
        fn suspicion_only_grows_in_silence_and_ends_with_a_heartbeat(
            intervals in prop::collection::vec(1..2_000u64, 0..150),
            steps in prop::collection::vec(1..5_000u64, 1..40),
        ) {
            let (mut judge, mut now) = judge_after(&intervals);
            let mut before = judge.phi(now);
            for step in steps {
                now += Duration::from_millis(step);
                let phi = judge.phi(now);
                prop_assert!(phi.is_finite() && phi >= before);
                before = phi;
            }
            prop_assert!(!judge.is_available(now + Duration::from_secs(3_600)));
            judge.heartbeat(now);
            prop_assert!(judge.is_available(now));
        }

        #[test]
        fn a_steady_peer_is_never_suspected_within_its_rhythm(
            intervals in prop::collection::vec(150..250u64, 20..150),
        ) {
            let (judge, now) = judge_after(&intervals);
            // The acceptable pause on top of the slowest beat.
            prop_assert!(judge.is_available(now + Duration::from_millis(250 + 400)));
            // And death shows within a second and a half.
            prop_assert!(!judge.is_available(now + Duration::from_millis(1_500)));
        }

        #[test]
        fn an_irregular_peer_is_given_more_time(
            steady in 400..600u64,
            jitter in 300..390u64,
            silence in 900..4_000u64,
        ) {
            let (calm, now) = judge_after(&[steady; 40]);
            let swinging: Vec<u64> = (0..40).map(|i| if i % 2 == 0 { steady - jitter } else { steady + jitter }).collect();
            let (nervous, then) = judge_after(&swinging);
            prop_assume!(silence > steady + 500);
            let silence = Duration::from_millis(silence);
            prop_assert!(nervous.phi(then + silence) <= calm.phi(now + silence));
        }
    }

    #[test]
    fn a_gap_of_the_link_is_no_interval() {
        let (mut judge, now) = judge_after(&[200; 10]);
        let later = now + Duration::from_secs(3_600);
        judge.resume(later);
        assert!(judge.is_available(later));
        assert!(!judge.is_available(later + Duration::from_millis(1_500)));
    }

    #[test]
    fn a_clock_that_steps_back_is_survived() {
        let (mut judge, now) = judge_after(&[200; 10]);
        judge.heartbeat(Duration::ZERO);
        assert!(judge.phi(Duration::ZERO) < 1.0);
        assert!(judge.is_available(now));
    }

    #[test]
    fn a_peer_never_heard_is_not_suspected() {
        let judge = PhiAccrual::new(PhiOptions::default()).expect("the defaults are valid");
        assert!(judge.is_available(Duration::from_secs(1_000_000)));
    }

    #[test]
    fn impossible_options_are_named() {
        let check = |change: fn(&mut PhiOptions), expected| {
            let mut options = PhiOptions::default();
            change(&mut options);
            assert_eq!(options.validated(), Err(expected));
        };
        check(
            |o| o.threshold = 0.0,
            PhiOptionsError::Threshold { threshold: 0.0 },
        );
        check(|o| o.window_count = 0, PhiOptionsError::Window);
        check(
            |o| o.deviation_min = Duration::ZERO,
            PhiOptionsError::Deviation,
        );
        check(
            |o| o.interval_expected = Duration::ZERO,
            PhiOptionsError::Interval,
        );
    }
}

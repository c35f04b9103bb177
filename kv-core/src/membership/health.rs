//! What one node thinks of one peer, from everything it has noticed.
//!
//! Place: pure; one per peer inside [`super::Peers`].
//! Invariants: 1. a closed link is suspect at once, however lively the peer was. 2. an open link is suspect only after
//! a silence out of rhythm. 3. slowness never makes a peer suspect, it only moves it back in the order.

use std::time::Duration;

use super::{LatencyAverage, PhiAccrual, PhiOptions, PhiOptionsError};

/// An opinion of a peer; the better one is the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Health {
    /// Ask it first.
    Healthy,
    /// Alive, but slower than its fellows: ask it after them.
    Demoted,
    /// Probably down or split off: let a fallback stand in.
    Suspect,
}

impl Health {
    /// True unless the peer is suspect.
    #[must_use]
    pub const fn is_up(self) -> bool {
        match self {
            Health::Healthy | Health::Demoted => true,
            Health::Suspect => false,
        }
    }
}

/// The evidence about one peer.
#[derive(Clone, Debug)]
pub struct PeerHealth {
    link_is_up: bool,
    silence: PhiAccrual,
    latency: LatencyAverage,
    /// When it last answered a sign of life.
    heard: Option<Duration>,
}

impl PeerHealth {
    /// A peer without a link, and so suspect.
    ///
    /// # Errors
    /// [`PhiOptionsError`] when an option is out of its range.
    pub fn new(options: PhiOptions) -> Result<PeerHealth, PhiOptionsError> {
        Ok(PeerHealth {
            link_is_up: false,
            silence: PhiAccrual::new(options)?,
            latency: LatencyAverage::default(),
            heard: None,
        })
    }

    /// A link to the peer was opened, by either side.
    pub fn link_up(&mut self, now: Duration) {
        if !self.link_is_up {
            self.link_is_up = true;
            self.silence.resume(now);
        }
    }

    /// The last link to the peer was closed, or failed to open.
    pub fn link_down(&mut self) {
        self.link_is_up = false;
    }

    /// The peer's regular heartbeat arrived. Only regular ones: bursts of data would teach the detector a
    /// rhythm that no idle peer can keep.
    pub fn heartbeat(&mut self, now: Duration) {
        self.silence.heartbeat(now);
        self.heard = Some(now);
    }

    /// The peer answered after `waited`; for a timeout, pass the time waited in vain.
    pub fn answered(&mut self, waited: Duration) {
        self.latency.record(waited);
    }

    /// True when the link is open and the silence on it within the rhythm.
    #[must_use]
    pub fn is_available(&self, now: Duration) -> bool {
        self.link_is_up && self.silence.is_available(now)
    }

    /// The suspicion from silence alone, for metrics.
    #[must_use]
    pub fn phi(&self, now: Duration) -> f64 {
        self.silence.phi(now)
    }

    /// When it last answered a sign of life, for others to be told.
    #[must_use]
    pub const fn heard(&self) -> Option<Duration> {
        self.heard
    }

    /// The average answer time, once there was an answer.
    #[must_use]
    pub const fn latency(&self) -> Option<Duration> {
        self.latency.get()
    }
}

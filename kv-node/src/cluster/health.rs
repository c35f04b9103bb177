//! The failure detector's driver: feeds it what the links see, and keeps its opinions at hand.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use souk_kv_core::membership::{Health, Peers as Opinions, PeersOptions, PhiOptions};
use souk_ring::NodeId;
use tokio::time::Instant;

use crate::config::FailureDetection;

/// How old an opinion may be that a request acts on. Forming one looks at all peers' rhythms, and there
/// are several to form for each request.
const FRESH: Duration = Duration::from_millis(50);

/// What is known of one peer, for status pages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerOpinion {
    pub(crate) health: Health,
    pub(crate) phi: f64,
    pub(crate) latency: Option<Duration>,
}

/// Opinions of all peers.
pub(crate) struct HealthBoard {
    started: Instant,
    opinions: Mutex<Opinions>,
    /// What every request looks at.
    published: ArcSwap<Published>,
}

/// The opinions of one moment.
struct Published {
    /// Since the board was made.
    at: Duration,
    health: BTreeMap<NodeId, Health>,
}

impl Published {
    fn of(opinions: &Opinions, at: Duration) -> Self {
        let health = opinions
            .iter()
            .map(|(node, _)| (node, opinions.health(node, at)))
            .collect();
        Self { at, health }
    }
}

impl fmt::Debug for HealthBoard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("HealthBoard")
    }
}

impl HealthBoard {
    pub(crate) fn new(options: &FailureDetection) -> Self {
        let phi = PhiOptions {
            threshold: options.phi_threshold,
            pause_acceptable: options.acceptable_pause,
            interval_expected: options.heartbeat,
            ..PhiOptions::default()
        };
        let opinions = Opinions::new(PeersOptions {
            phi,
            ..PeersOptions::default()
        })
        .expect("cluster.toml was checked against narrower ranges");
        Self {
            started: Instant::now(),
            published: ArcSwap::from_pointee(Published::of(&opinions, Duration::ZERO)),
            opinions: Mutex::new(opinions),
        }
    }

    /// The opinion of a node, at most [`FRESH`] old; a node never met is suspect.
    pub(crate) fn of(&self, node: NodeId) -> Health {
        let now = self.started.elapsed();
        let stale = now.saturating_sub(self.published.load().at) >= FRESH;
        // One of those who find it stale is enough to renew it, the others need not wait.
        if stale && let Some(opinions) = self.opinions.try_lock() {
            self.publish(&opinions, now);
        }
        let health = self.published.load().health.get(&node).copied();
        health.unwrap_or(Health::Suspect)
    }

    pub(crate) fn opinion(&self, node: NodeId) -> PeerOpinion {
        let now = self.started.elapsed();
        let mut opinions = self.opinions.lock();
        let health = opinions.health(node, now);
        let peer = opinions.peer(node);
        PeerOpinion {
            health,
            phi: peer.phi(now),
            latency: peer.latency(),
        }
    }

    pub(crate) fn link_up(&self, node: NodeId) {
        self.change(|opinions, now| opinions.peer(node).link_up(now));
    }

    pub(crate) fn link_down(&self, node: NodeId) {
        self.change(|opinions, _| opinions.peer(node).link_down());
    }

    pub(crate) fn heartbeat(&self, node: NodeId) {
        self.change(|opinions, now| opinions.peer(node).heartbeat(now));
    }

    /// It answered after `waited`. Comes with every answer, so it waits to be published.
    pub(crate) fn answered(&self, node: NodeId, waited: Duration) {
        self.opinions.lock().peer(node).answered(waited);
    }

    /// It did not answer within `waited`. A caller who waited less than an answer takes learnt nothing.
    pub(crate) fn timed_out(&self, node: NodeId, waited: Duration) {
        let mut opinions = self.opinions.lock();
        let peer = opinions.peer(node);
        if peer.latency().is_none_or(|usual| waited > usual) {
            peer.answered(waited);
        }
    }

    /// News that nobody shall miss.
    fn change(&self, change: impl FnOnce(&mut Opinions, Duration)) {
        let now = self.started.elapsed();
        let mut opinions = self.opinions.lock();
        change(&mut opinions, now);
        self.publish(&opinions, now);
    }

    /// The caller holds the lock, so that a later moment is never overwritten by an earlier one.
    fn publish(&self, opinions: &Opinions, now: Duration) {
        self.published.store(Arc::new(Published::of(opinions, now)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> HealthBoard {
        HealthBoard::new(&FailureDetection {
            heartbeat: Duration::from_millis(200),
            acceptable_pause: Duration::from_millis(500),
            phi_threshold: 8.0,
        })
    }

    const NODE: NodeId = NodeId(1);

    #[tokio::test(start_paused = true)]
    async fn links_are_news_at_once() {
        let board = board();
        assert_eq!(board.of(NODE), Health::Suspect);
        board.link_up(NODE);
        assert_eq!(board.of(NODE), Health::Healthy);
        board.link_down(NODE);
        assert_eq!(board.of(NODE), Health::Suspect);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_noticed_without_news() {
        let board = board();
        board.link_up(NODE);
        board.heartbeat(NODE);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(board.of(NODE), Health::Suspect);
        board.heartbeat(NODE);
        assert_eq!(board.of(NODE), Health::Healthy);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_times_out_is_asked_after_its_fellows() {
        let board = board();
        for node in [NODE, NodeId(2), NodeId(3)] {
            board.link_up(node);
            board.answered(node, Duration::from_millis(5));
        }
        for _ in 0..20 {
            board.timed_out(NODE, Duration::from_millis(1));
        }
        tokio::time::advance(FRESH).await;
        assert_eq!(board.of(NODE), Health::Healthy, "nobody waited long enough");
        assert_eq!(
            board.opinion(NODE).latency,
            Some(Duration::from_millis(5)),
            "an early end of waiting is no quick answer"
        );
        for _ in 0..20 {
            board.timed_out(NODE, Duration::from_secs(1));
        }
        tokio::time::advance(FRESH).await;
        assert_eq!(board.of(NODE), Health::Demoted);
    }
}

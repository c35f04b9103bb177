//! The failure detector's driver: feeds it what the links see, and keeps its opinions at hand.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use souk_kv_core::membership::{
    Health, PeerHealth, Peers as Opinions, PeersOptions, PhiOptions, Rumours,
};
use souk_kv_proto::peer::Sighting;
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

/// How a node that cannot be asked can be reached all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detour {
    /// This one heard it a moment ago.
    Through(NodeId),
    /// Nobody did, but it sends its own signs of life here: the network carries one direction only.
    OneWay,
}

/// Opinions of all peers.
pub(crate) struct HealthBoard {
    started: Instant,
    opinions: Mutex<Opinions>,
    gossip: Mutex<Gossip>,
    /// What is said of somebody counts for this long.
    fresh: Duration,
    /// What every request looks at.
    published: ArcSwap<Published>,
}

#[derive(Debug, Default)]
struct Gossip {
    rumours: Rumours,
    /// When a peer's own sign of life last arrived here.
    greeted: BTreeMap<NodeId, Duration>,
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
            gossip: Mutex::default(),
            fresh: options.acceptable_pause + options.heartbeat * 3,
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

    /// Who answered this node lately, for its peers to know.
    pub(crate) fn sightings(&self) -> Vec<Sighting> {
        let now = self.started.elapsed();
        let opinions = self.opinions.lock();
        let sighting = |(node, peer): (NodeId, &PeerHealth)| {
            let ago = now.saturating_sub(peer.heard()?);
            (ago <= self.fresh && peer.is_available(now)).then(|| Sighting {
                node: node.0,
                ago_ms: u32::try_from(ago.as_millis()).unwrap_or(u32::MAX),
            })
        };
        opinions.iter().filter_map(sighting).collect()
    }

    /// A peer says who answered it lately.
    pub(crate) fn told(&self, witness: NodeId, sightings: &[Sighting]) {
        let now = self.started.elapsed();
        let rumours = &mut self.gossip.lock().rumours;
        for sighting in sightings {
            let ago = Duration::from_millis(sighting.ago_ms.into());
            rumours.hear(witness, NodeId(sighting.node), ago, now);
        }
    }

    /// A peer's own sign of life arrived, on its link.
    pub(crate) fn greeted_by(&self, node: NodeId) {
        let now = self.started.elapsed();
        self.gossip.lock().greeted.insert(node, now);
    }

    /// How to reach a node that cannot be asked; `None` when everything is silent about it.
    pub(crate) fn detour(&self, node: NodeId) -> Option<Detour> {
        let now = self.started.elapsed();
        let witnesses: Vec<NodeId> = {
            let gossip = self.gossip.lock();
            let witnesses = gossip.rumours.witnesses(node, now, self.fresh);
            witnesses.collect()
        };
        let through = witnesses
            .into_iter()
            .find(|&witness| self.of(witness).is_up());
        if let Some(witness) = through {
            return Some(Detour::Through(witness));
        }
        let greeted = self.gossip.lock().greeted.get(&node).copied();
        greeted
            .is_some_and(|at| now.saturating_sub(at) <= self.fresh)
            .then_some(Detour::OneWay)
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

    /// It is no member any more.
    pub(crate) fn forget(&self, node: NodeId) {
        self.change(|opinions, _| opinions.remove(node));
        let mut gossip = self.gossip.lock();
        gossip.rumours.remove(node);
        gossip.greeted.remove(&node);
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

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_others_hear_has_a_detour() {
        let board = board();
        // Nothing that is older than the board counts.
        tokio::time::advance(Duration::from_secs(1)).await;
        let witness = NodeId(2);
        let says = |ago_ms| {
            let sighting = Sighting {
                node: NODE.0,
                ago_ms,
            };
            board.told(witness, &[sighting]);
        };
        says(100);
        assert_eq!(board.detour(NODE), None, "nobody can be asked");
        board.link_up(witness);
        assert_eq!(board.detour(NODE), Some(Detour::Through(witness)));
        assert_eq!(board.of(NODE), Health::Suspect, "a rumour makes no link");
        tokio::time::advance(Duration::from_secs(5)).await;
        board.heartbeat(witness);
        assert_eq!(board.detour(NODE), None, "old news");
        says(60_000);
        assert_eq!(board.detour(NODE), None, "still old news");
        board.greeted_by(NODE);
        assert_eq!(board.detour(NODE), Some(Detour::OneWay));
    }

    #[tokio::test(start_paused = true)]
    async fn only_those_who_answer_are_told_of() {
        let board = board();
        board.link_up(NODE);
        assert!(board.sightings().is_empty(), "a link is no answer");
        board.heartbeat(NODE);
        tokio::time::advance(Duration::from_millis(300)).await;
        let told: Vec<(u32, u32)> = board
            .sightings()
            .iter()
            .map(|sighting| (sighting.node, sighting.ago_ms))
            .collect();
        assert_eq!(told, [(NODE.0, 300)]);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(board.sightings().is_empty());
    }
}

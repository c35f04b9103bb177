//! What comparing with other replicas found, and what it cost.

use metrics::counter;

/// Counts of one or more rounds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Vnodes compared with one other replica.
    pub(crate) vnodes: u64,
    /// Vnodes that could not be compared, because one side was still counting its records.
    pub(crate) vnodes_unready: u64,
    /// Trees whose roots differed.
    pub(crate) trees: u64,
    /// Leaves that still differed after the pause.
    pub(crate) leaves: u64,
    /// Records that came here.
    pub(crate) keys_fetched: u64,
    /// Records that went there.
    pub(crate) keys_pushed: u64,
    /// Records here that were found damaged.
    pub(crate) keys_damaged: u64,
    /// Leaves that seemed to disagree with their own records.
    pub(crate) leaves_suspect: u64,
    /// Questions asked.
    pub(crate) requests: u64,
    /// Bytes of questions and of records sent.
    pub(crate) bytes_sent: u64,
    /// Bytes of answers and of records received.
    pub(crate) bytes_received: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.vnodes += other.vnodes;
        self.vnodes_unready += other.vnodes_unready;
        self.trees += other.trees;
        self.leaves += other.leaves;
        self.keys_fetched += other.keys_fetched;
        self.keys_pushed += other.keys_pushed;
        self.keys_damaged += other.keys_damaged;
        self.leaves_suspect += other.leaves_suspect;
        self.requests += other.requests;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
    }

    /// Adds a finished round to the metrics.
    pub(super) fn publish(&self) {
        counter!("souk_anti_entropy_rounds_total").increment(1);
        counter!("souk_anti_entropy_trees_differing_total").increment(self.trees);
        counter!("souk_anti_entropy_leaves_differing_total").increment(self.leaves);
        counter!("souk_anti_entropy_keys_total", "direction" => "fetched")
            .increment(self.keys_fetched);
        counter!("souk_anti_entropy_keys_total", "direction" => "pushed")
            .increment(self.keys_pushed);
        counter!("souk_anti_entropy_bytes_total", "direction" => "sent").increment(self.bytes_sent);
        counter!("souk_anti_entropy_bytes_total", "direction" => "received")
            .increment(self.bytes_received);
    }
}

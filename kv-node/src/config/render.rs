//! Writes a cluster file with a comment above every key, as the committed `cluster.toml` is written.
//!
//! Place: pure; `souk up` writes the file that its nodes read, and a test compares the committed file.
//! Invariants: reading what was rendered gives the same `ClusterFile`.

use std::fmt::Write as _;
use std::time::Duration;

use super::keys::{self, Documented};
use super::{ClusterFile, NodeSection};

/// Longest line of a comment, in characters.
const LINE_CHARS_MAX: usize = 100;

const HEADER: &str = "Who belongs to the cluster, where everybody listens, and every bound. \
    A key may be left out; then its default holds. All nodes read the same file. \
    `souk config check` reads it and lists what is wrong, with line, key and how to mend it.";

/// A key and its value as it would be written; `None` for a node's `engine` that is left out.
type Line<'a> = (&'a dyn Documented, Option<String>);

impl ClusterFile {
    /// The file as text, every key with its comment.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        comment(&mut text, HEADER);
        section(&mut text, "cluster", &self.cluster_lines());
        for (index, node) in self.nodes.iter().enumerate() {
            render_node(&mut text, node, index == 0);
        }
        section(&mut text, "shop", &self.shop_lines());
        section(&mut text, "limits", &self.limits_lines());
        section(
            &mut text,
            "failure_detection",
            &self.failure_detection_lines(),
        );
        section(&mut text, "repair", &self.repair_lines());
        section(&mut text, "storage", &self.storage_lines());
        section(&mut text, "security", &self.security_lines());
        text
    }

    fn cluster_lines(&self) -> [Line<'_>; 3] {
        let cluster = &self.cluster;
        [
            (&keys::CLUSTER_ID, quoted(&cluster.id)),
            (&keys::PARTITIONS_COUNT, plain(cluster.partitions_count)),
            (&keys::REPLICAS_N, plain(cluster.replicas_n)),
        ]
    }

    fn shop_lines(&self) -> [Line<'_>; 4] {
        [
            (&keys::SHOP_LISTEN, quoted(&self.shop.listen)),
            (
                &keys::SHOP_PAYMENT_PROVIDER,
                quoted(&self.shop.payment_provider),
            ),
            (
                &keys::SHOP_CHECKOUT_HOLD_MS,
                millis(self.shop.checkout_hold),
            ),
            (&keys::SHOP_CART_HOLD_MS, millis(self.shop.cart_hold)),
        ]
    }

    fn limits_lines(&self) -> [Line<'_>; 11] {
        let limits = &self.limits;
        [
            (&keys::REQUEST_TIMEOUT_MS, millis(limits.request_timeout)),
            (&keys::VALUE_BYTES_MAX, plain(limits.value_bytes_max)),
            (
                &keys::PEER_IN_FLIGHT_BYTES_MAX,
                plain(limits.peer_in_flight_bytes_max),
            ),
            (
                &keys::CLIENT_IN_FLIGHT_MAX,
                plain(limits.client_in_flight_max),
            ),
            (&keys::HINTS_BYTES_MAX, plain(limits.hints_bytes_max)),
            (&keys::REQUEST_MEMORY_MS, millis(limits.request_memory)),
            (&keys::CLOCK_SKEW_MAX_MS, millis(limits.clock_skew_max)),
            (&keys::TOMBSTONES_PAUSE_MS, millis(limits.tombstones_pause)),
            (&keys::SHUTDOWN_TIMEOUT_MS, millis(limits.shutdown_timeout)),
            (
                &keys::FOREGROUND_P99_TARGET_MS,
                millis(limits.foreground_p99_target),
            ),
            (
                &keys::HEDGED_READS_PERCENT_MAX,
                plain(limits.hedged_reads_percent_max),
            ),
        ]
    }

    fn failure_detection_lines(&self) -> [Line<'_>; 3] {
        let detection = &self.failure_detection;
        [
            (&keys::HEARTBEAT_MS, millis(detection.heartbeat)),
            (
                &keys::PHI_THRESHOLD,
                Some(format!("{:?}", detection.phi_threshold)),
            ),
            (
                &keys::ACCEPTABLE_PAUSE_MS,
                millis(detection.acceptable_pause),
            ),
        ]
    }

    fn repair_lines(&self) -> [Line<'_>; 3] {
        let repair = &self.repair;
        [
            (&keys::ROUND_PAUSE_MS, millis(repair.round_pause)),
            (&keys::RECHECK_MS, millis(repair.recheck)),
            (&keys::SCRUB_PAUSE_MS, millis(repair.scrub_pause)),
        ]
    }

    fn storage_lines(&self) -> [Line<'_>; 7] {
        let storage = &self.storage;
        [
            (&keys::ENGINE, quoted(storage.engine)),
            (&keys::CACHE_BYTES, plain(storage.cache_bytes)),
            (&keys::MEMTABLE_BYTES_MAX, plain(storage.memtable_bytes_max)),
            (&keys::JOURNAL_BYTES_MAX, plain(storage.journal_bytes_max)),
            (&keys::QUEUE_BYTES_MAX, plain(storage.queue_bytes_max)),
            (&keys::QUEUE_REQUESTS_MAX, plain(storage.queue_requests_max)),
            (&keys::DISK_RESERVE_BYTES, plain(storage.disk_reserve_bytes)),
        ]
    }

    fn security_lines(&self) -> [Line<'_>; 2] {
        let security = &self.security;
        let folder = security.certificates.as_ref();
        // A path may hold what has to be escaped.
        let folder =
            folder.map(|path| toml::Value::from(path.to_string_lossy().into_owned()).to_string());
        [
            (&keys::CERTIFICATES, folder),
            (&keys::INSECURE, plain(security.insecure)),
        ]
    }
}

/// The first node carries the comments for all of them.
fn render_node(text: &mut String, node: &NodeSection, first: bool) {
    let lines: [Line<'_>; 6] = [
        (&keys::NODE_NAME, quoted(&node.name)),
        (&keys::NODE_ZONE, quoted(&node.zone)),
        (&keys::NODE_WEIGHT, plain(node.weight)),
        (&keys::NODE_GRPC, quoted(&node.grpc)),
        (&keys::NODE_HTTP, quoted(&node.http)),
        (&keys::NODE_ENGINE, node.engine.and_then(quoted)),
    ];
    if first {
        section(text, "[node]", &lines);
        return;
    }
    text.push_str("\n[[node]]\n");
    for (key, value) in lines {
        if let Some(value) = value {
            put_line(text, key.name(), &value);
        }
    }
}

fn section(text: &mut String, heading: &str, lines: &[Line<'_>]) {
    put(text, format_args!("\n[{heading}]\n"));
    for (index, (key, value)) in lines.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        comment(text, key.meaning());
        comment(text, &key.bounds());
        match value {
            Some(value) => put_line(text, key.name(), value),
            None => put(text, format_args!("# {} = {}\n", key.name(), key.example())),
        }
    }
}

fn put_line(text: &mut String, name: &str, value: &str) {
    put(text, format_args!("{name} = {value}\n"));
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what)
        .expect("writing to a String cannot fail");
}

/// Breaks a text into comment lines.
fn comment(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in words.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > LINE_CHARS_MAX {
            put(text, format_args!("{line}\n"));
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    put(text, format_args!("{line}\n"));
}

/// Names, addresses and words hold no character that TOML would need to escape.
fn quoted(value: impl std::fmt::Display) -> Option<String> {
    Some(format!("\"{value}\""))
}

fn plain(value: impl ToString) -> Option<String> {
    Some(value.to_string())
}

fn millis(value: Duration) -> Option<String> {
    plain(value.as_millis())
}

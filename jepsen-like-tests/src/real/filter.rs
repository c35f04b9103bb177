//! Packets that a host does not take: all of some senders, or some of some senders.
//!
//! The rules stand at the receiver, so that one direction can be cut. They are written anew as a whole at every change;
//! the counters stay.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use serde_json::Value;

use super::hosts::Host;
use super::tool::run_words;
use crate::process::HarnessError;

/// What one host does not take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// Senders that are not heard at all.
    pub(super) cut: BTreeSet<Ipv4Addr>,
    /// Senders of whose thousand packets so many are lost.
    pub(super) lose: BTreeMap<Ipv4Addr, u32>,
}

impl Filter {
    /// Makes the host behave so.
    pub(super) fn apply(&self, host: &Host) -> Result<(), HarnessError> {
        let prefix = host.prefix();
        let mut words: Vec<&str> = prefix.iter().map(String::as_str).collect();
        words.extend(["nft", "-f", "-"]);
        run_words(&words, &self.script()).map(|_| ())
    }

    fn script(&self) -> String {
        let mut text = "\
add table inet souk
add counter inet souk cut
add counter inet souk lost
add set inet souk cut_from { type ipv4_addr; }
add chain inet souk taken { type filter hook input priority 0; policy accept; }
flush chain inet souk taken
flush set inet souk cut_from
add rule inet souk taken ip saddr @cut_from counter name cut drop
"
        .to_owned();
        // Writing to a string cannot fail.
        for sender in &self.cut {
            writeln!(text, "add element inet souk cut_from {{ {sender} }}").ok();
        }
        for (sender, per_mille) in &self.lose {
            writeln!(
                text,
                "add rule inet souk taken ip saddr {sender} numgen random mod 1000 < {per_mille} counter name lost drop"
            )
            .ok();
        }
        text
    }
}

/// How many packets a host did not take since it was made.
pub(super) fn dropped(host: &Host) -> Result<u64, HarnessError> {
    let text = host.run("nft -j list counters table inet souk")?;
    Ok(packets(&text))
}

fn packets(text: &str) -> u64 {
    let all: Value = serde_json::from_str(text).unwrap_or_default();
    let entries = all.get("nftables").and_then(Value::as_array);
    let packets = |entry: &Value| entry.get("counter")?.get("packets")?.as_u64();
    entries.into_iter().flatten().filter_map(packets).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_say_what_is_cut_and_what_is_lost() {
        let mut filter = Filter::default();
        let empty = filter.script();
        assert!(
            !empty.contains("element") && !empty.contains("numgen"),
            "{empty}"
        );
        filter.cut.insert(Ipv4Addr::new(10, 0, 0, 1));
        filter.lose.insert(Ipv4Addr::new(10, 0, 0, 2), 50);
        let script = filter.script();
        assert!(script.contains("cut_from { 10.0.0.1 }"), "{script}");
        assert!(
            script.contains("10.0.0.2 numgen random mod 1000 < 50 "),
            "{script}"
        );
    }

    #[test]
    fn counters_are_added_up() {
        let text = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
            {"counter": {"name": "cut", "packets": 7, "bytes": 1}}, {"counter": {"name": "lost", "packets": 2}}]}"#;
        assert_eq!(packets(text), 9);
        assert_eq!(packets("nonsense"), 0);
    }
}

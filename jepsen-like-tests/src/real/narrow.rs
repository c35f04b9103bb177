//! A network that carries little: a bucket of tokens at the sender's interface.

use super::hosts::{Host, INTERFACE};
use crate::process::HarnessError;

/// What may leave at once, and how long a packet waits at most before it is lost.
const SHAPE: &str = "burst 5kb latency 2s";

/// From now on the host sends so much in a second, and no more.
pub(super) fn narrow(host: &Host, kbit_per_s: i64) -> Result<(), HarnessError> {
    let line = format!("tc qdisc replace dev {INTERFACE} root tbf rate {kbit_per_s}kbit {SHAPE}");
    host.run(&line).map(|_| ())
}

/// As before. Returns how many packets had to wait or were lost.
pub(super) fn widen(host: &Host) -> Result<u64, HarnessError> {
    let text = host.run(&format!("tc -s qdisc show dev {INTERFACE}"))?;
    host.run(&format!("tc qdisc delete dev {INTERFACE} root"))?;
    Ok(held(&text))
}

/// Reads `(dropped 3, overlimits 17 requeues 0)`.
fn held(text: &str) -> u64 {
    let after = |word: &str| {
        let rest = text.split_once(word)?.1.trim_start();
        let end = rest.find(|letter: char| !letter.is_ascii_digit())?;
        rest[..end].parse::<u64>().ok()
    };
    ["dropped", "overlimits"]
        .into_iter()
        .filter_map(after)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_to_wait_is_read() {
        let text = "qdisc tbf 8001: root refcnt 3 rate 400Kbit burst 5Kb lat 2s \n \
                    Sent 900 bytes 5 pkt (dropped 3, overlimits 17 requeues 0) \n backlog 0b 0p requeues 0";
        assert_eq!(held(text), 20);
        assert_eq!(held(""), 0);
    }
}

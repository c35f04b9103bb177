//! Chooses the node that an attempt goes to.
//!
//! Place: pure; used by `crate::client`.
//! Source: DeCandia et al., Dynamo, SOSP 2007, §6.4 (client-driven coordination).
//! Shape: the first healthy primary; then the next ones; then healthy fallbacks; nodes under suspicion
//! last. A key's writes thus meet at one coordinator, which keeps clocks short and registers uncontended.
//! Invariants: 1. a node without a connection is never chosen. 2. a healthy node goes before a suspected
//! one, an untried before a tried one, a primary before a fallback, in this order of weight.
//! Not here: the preference list (`souk_ring`), connections (`crate::session`).

mod health;

pub(crate) use health::NodeHealth;

/// What is known of a node when it could be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) connected: bool,
    pub(crate) suspect: bool,
    /// Attempts of this request that this node has already had.
    pub(crate) tried: u32,
    pub(crate) primary: bool,
}

impl Candidate {
    /// Lower is better; equal ranks keep the order of the preference list.
    fn rank(self) -> (bool, u32, bool) {
        (self.suspect, self.tried, !self.primary)
    }
}

const BEST_RANK: (bool, u32, bool) = (false, 0, false);

/// The node of the best candidate, or `None` when no node is connected. Candidates come in the order of
/// the preference list and are looked at only as far as needed.
pub(crate) fn choose<T>(candidates: impl Iterator<Item = (T, Candidate)>) -> Option<T> {
    let mut best = None;
    for (node, candidate) in candidates {
        if !candidate.connected {
            continue;
        }
        let rank = candidate.rank();
        if rank == BEST_RANK {
            return Some(node);
        }
        if best.as_ref().is_none_or(|(best_rank, _)| rank < *best_rank) {
            best = Some((rank, node));
        }
    }
    best.map(|(_, node)| node)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One letter a flag: `c`onnected, `s`uspect, `p`rimary, and a digit for the attempts it had.
    fn candidate(text: &str) -> Candidate {
        Candidate {
            connected: text.contains('c'),
            suspect: text.contains('s'),
            primary: text.contains('p'),
            tried: text.chars().find_map(|c| c.to_digit(10)).unwrap_or(0),
        }
    }

    #[track_caller]
    fn check(candidates: &[&str], expected: Option<usize>) {
        let chosen = choose(candidates.iter().map(|text| candidate(text)).enumerate());
        assert_eq!(chosen, expected, "{candidates:?}");
    }

    #[test]
    fn the_first_healthy_primary_goes_first() {
        check(&["cp", "cp", "cp", "c"], Some(0));
        check(&["p", "cp", "cp", "c"], Some(1));
        check(&["csp", "cp", "cp", "c"], Some(1));
        check(&["cp1", "cp", "cp", "c"], Some(1));
        check(&["cp1", "cp1", "cp1", "c"], Some(3));
        check(&["csp", "csp", "p", "c"], Some(3));
        check(&["csp", "csp", "p", "cs"], Some(0));
        check(&["cp2", "cp1", "csp"], Some(1));
        check(&["p", "sp", ""], None);
        check(&[], None);
    }

    prop_compose! {
        fn any_candidate()(
            connected: bool, suspect: bool, primary: bool, tried in 0..3u32,
        ) -> Candidate {
            Candidate { connected, suspect, tried, primary }
        }
    }

    proptest! {
        #[test]
        fn no_connected_candidate_is_better_than_the_chosen_one(
            candidates in prop::collection::vec(any_candidate(), 0..8),
        ) {
            match choose(candidates.iter().copied().enumerate()) {
                None => prop_assert!(candidates.iter().all(|candidate| !candidate.connected)),
                Some(index) => {
                    let chosen = candidates[index];
                    prop_assert!(chosen.connected);
                    for (other_index, other) in candidates.iter().enumerate() {
                        if other.connected && other_index < index {
                            prop_assert!(other.rank() > chosen.rank());
                        }
                        if other.connected {
                            prop_assert!(other.rank() >= chosen.rank());
                        }
                    }
                }
            }
        }
    }
}

//! When it pays to hold the ferry: whether those who just landed will want to cross again at once.
//!
//! Many writers that each wait for their answer split into two halves which never meet: while one
//! half's sync runs, the other half queues, and each sync serves half of what it could. Holding
//! the next group back for a moment lets those who were just answered come back and join it.
//!
//! Place: pure; asked by `crate::writer` after each group.
//! Shape: after a group of many, wait until as many wait as were answered and waited already, but
//! no longer than a part of a usual commit.
//! Invariants: 1. after a group of fewer than [`MANY`] nobody is held back, so a lone writer never
//! waits for others. 2. the wait is at most [`HOLD_DIVISOR`]th of the median commit and
//! [`HOLD_MAX`]. 3. where holding brought nobody back, it is tried again only rarely.
//! Not here: the waiting itself (`crate::queue`).

use std::time::Duration;

/// Requests of a group from which on its callers count as a crowd that may come back.
const MANY: usize = 8;
/// The part of the median commit that a group may be held back.
const HOLD_DIVISOR: u32 = 2;
/// Longest time that a group is held back, however slow the disk is.
const HOLD_MAX: Duration = Duration::from_millis(1);
/// Commits that the median looks back on.
const COMMITS_REMEMBERED: usize = 15;
/// Most groups that go unheld after holding was of no use.
const PAUSE_MAX: u32 = 64;

/// How long to hold the next group, and for how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hold {
    /// Stop waiting when so many requests wait.
    pub(crate) until_requests: usize,
    /// Stop waiting after this time.
    pub(crate) at_most: Duration,
}

/// Remembers recent commits and whether holding paid.
#[derive(Debug, Default)]
pub(crate) struct Gatherer {
    commits: [Duration; COMMITS_REMEMBERED],
    next_commit: usize,
    /// Requests that waited when the present hold began, and those it hopes for beyond them.
    hope: Option<(usize, usize)>,
    /// Groups to let pass before holding again, and what that will be after the next failure.
    pause: u32,
    next_pause: u32,
}

impl Gatherer {
    /// Learns that a group of `answered` requests took `took` and was answered, and that `waiting`
    /// came meanwhile. Says whether to hold the group that they form.
    pub(crate) fn after_group(
        &mut self,
        answered: usize,
        took: Duration,
        waiting: usize,
        group_max: usize,
    ) -> Option<Hold> {
        self.commits[self.next_commit] = took;
        self.next_commit = (self.next_commit + 1) % COMMITS_REMEMBERED;
        self.hope = None;
        let until_requests = (answered + waiting).min(group_max);
        if answered < MANY || until_requests <= waiting {
            return None;
        }
        if self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        let at_most = (self.median() / HOLD_DIVISOR).min(HOLD_MAX);
        self.hope = Some((waiting, until_requests - waiting));
        (!at_most.is_zero()).then_some(Hold {
            until_requests,
            at_most,
        })
    }

    /// Learns of how many requests the next group consists, held back or not.
    pub(crate) fn group_formed(&mut self, requests: usize) {
        let Some((waiting, hoped)) = self.hope.take() else {
            return;
        };
        let came = requests.saturating_sub(waiting);
        if came * 4 < hoped {
            self.next_pause = (self.next_pause * 2).clamp(1, PAUSE_MAX);
            self.pause = self.next_pause;
        } else {
            self.next_pause = 0;
        }
    }

    /// The median of the remembered commits; those not yet seen count as zero, so that nothing is
    /// held back before half of them are.
    fn median(&self) -> Duration {
        let mut sorted = self.commits;
        sorted.sort_unstable();
        sorted[COMMITS_REMEMBERED / 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COMMIT: Duration = Duration::from_micros(300);
    const GROUP_MAX: usize = 4_096;

    fn settled() -> Gatherer {
        let mut gatherer = Gatherer::default();
        for _ in 0..COMMITS_REMEMBERED {
            assert_eq!(gatherer.after_group(1, COMMIT, 0, GROUP_MAX), None);
        }
        gatherer
    }

    #[test]
    fn a_crowd_is_waited_for_and_a_few_are_not() {
        fn check(answered: usize, waiting: usize, until: Option<usize>) {
            let hold = settled().after_group(answered, COMMIT, waiting, GROUP_MAX);
            assert_eq!(hold.map(|hold| hold.until_requests), until);
        }
        check(1, 0, None);
        check(MANY - 1, 500, None);
        check(MANY, 0, Some(MANY));
        check(32, 32, Some(64));
        check(GROUP_MAX, 10, Some(GROUP_MAX));
        check(GROUP_MAX, GROUP_MAX, None);
    }

    proptest! {
        #[test]
        fn a_hold_is_bounded(micros in prop::collection::vec(0u64..100_000, 1..60)) {
            let mut gatherer = Gatherer::default();
            for took in micros.iter().copied().map(Duration::from_micros) {
                if let Some(hold) = gatherer.after_group(32, took, 8, GROUP_MAX) {
                    let longest = micros.iter().copied().max().unwrap_or(0);
                    prop_assert!(hold.at_most <= Duration::from_micros(longest) / HOLD_DIVISOR);
                    prop_assert!(hold.at_most <= HOLD_MAX);
                }
            }
        }
    }

    #[test]
    fn one_slow_commit_does_not_lengthen_the_hold() {
        let mut gatherer = settled();
        let hold = gatherer.after_group(32, Duration::from_secs(1), 32, GROUP_MAX);
        assert_eq!(hold.expect("held").at_most, COMMIT / HOLD_DIVISOR);
    }

    /// A crowd that never comes back costs one hold in [`PAUSE_MAX`] groups in the long run.
    #[test]
    fn holding_in_vain_becomes_rare_and_success_ends_that() {
        let mut gatherer = settled();
        let mut holds = 0;
        let mut group = |gatherer: &mut Gatherer, came: usize| {
            let hold = gatherer.after_group(32, COMMIT, 32, GROUP_MAX);
            holds += u32::from(hold.is_some());
            gatherer.group_formed(32 + came);
            hold.is_some()
        };
        for _ in 0..1_000 {
            group(&mut gatherer, 3);
        }
        while !group(&mut gatherer, 32) {}
        for _ in 0..100 {
            assert!(group(&mut gatherer, 32), "holding pays again");
        }
        assert!(holds < 130, "{holds}");
    }
}

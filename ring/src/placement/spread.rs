//! How far apart the copies of one partition have to stand.
//!
//! Place: pure; the first question of [`super`].
//! Shape: the smallest cap on copies per zone that still finds room for all of them; and, when
//!   there are no more zones than copies, at least one copy in every zone.
//! Invariants: 1. together the two bounds give `min(copies, zones)` distinct zones. 2. five copies
//!   over three zones lie 2-2-1 and never 3-1-1: losing a zone costs no majority it need not cost.
//! Not here: how many copies a zone holds over all partitions ([`super::share`]).

use super::Problem;

/// Bounds on the copies of one partition within one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spread {
    /// At most this many copies of a partition in any zone.
    pub(super) zone_copies_max: usize,
    /// At least this many copies of a partition in every zone: 0 or 1.
    pub(super) zone_copies_min: usize,
}

impl Spread {
    pub(super) fn of(problem: &Problem) -> Spread {
        let sizes: Vec<usize> = problem.nodes_by_zone().iter().map(Vec::len).collect();
        let room = |cap: usize| sizes.iter().map(|size| cap.min(*size)).sum::<usize>();
        let zone_copies_max = (1..=problem.copies_count)
            .find(|cap| room(*cap) >= problem.copies_count)
            .expect("there are at least as many nodes as copies");
        let zone_copies_min = usize::from(problem.zones_count <= problem.copies_count);
        Spread {
            zone_copies_max,
            zone_copies_min,
        }
    }
}

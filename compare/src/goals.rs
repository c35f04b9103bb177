//! What souk should reach, alone and beside the others.
//!
//! Place: pure; judged from the medians.
//! Not here: failing a build over them. A slow or busy machine says nothing about the code.

use crate::figure::Figure;
use crate::measure::{Measure, System, Work};

/// One figure of souk and what it should be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    /// What is judged.
    pub(crate) work: Work,
    /// With one client instead of the crowd.
    pub(crate) alone: bool,
    /// Beside what.
    pub(crate) against: Against,
}

/// What a figure is held against.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Against {
    /// Operations in a second.
    Rate(f64),
    /// The latency that 99 of 100 stay below, in milliseconds.
    P99Ms(f64),
    /// So many times the rate of another system, with as many clients.
    Times(f64, System, Work),
}

/// All goals.
pub(crate) const GOALS: [Goal; 10] = [
    crowd(Work::ReserveHot, Against::Rate(25_000.0)),
    crowd(Work::ReserveHot, Against::P99Ms(50.0)),
    crowd(
        Work::ReserveHot,
        Against::Times(100.0, System::Etcd, Work::CasHot),
    ),
    crowd(
        Work::ReserveHot,
        Against::Times(10.0, System::PostgresQuorum, Work::UpdateHot),
    ),
    crowd(
        Work::ReserveHot,
        Against::Times(4.0, System::Postgres, Work::UpdateHot),
    ),
    crowd(Work::CasSpread, Against::Rate(12_000.0)),
    crowd(
        Work::CasSpread,
        Against::Times(6.0, System::Etcd, Work::CasSpread),
    ),
    crowd(
        Work::CasSpread,
        Against::Times(1.3, System::Postgres, Work::UpdateSpread),
    ),
    alone(
        Work::CasSpread,
        Against::Times(2.0, System::Etcd, Work::CasSpread),
    ),
    alone(Work::Put, Against::Times(2.0, System::Etcd, Work::Put)),
];

const fn crowd(work: Work, against: Against) -> Goal {
    Goal {
        work,
        alone: false,
        against,
    }
}

const fn alone(work: Work, against: Against) -> Goal {
    Goal {
        work,
        alone: true,
        against,
    }
}

/// How a goal came out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Judged {
    /// Which.
    pub(crate) goal: String,
    /// What was wanted.
    pub(crate) wanted: f64,
    /// What was found, in the same unit.
    pub(crate) found: f64,
    /// Whether that is enough.
    pub(crate) is_met: bool,
}

impl Goal {
    /// Holds it against the figures; none when something of it was not measured.
    pub(crate) fn judge(
        &self,
        clients: u32,
        figure: impl Fn(Measure) -> Option<Figure>,
    ) -> Option<Judged> {
        let clients = if self.alone { 1 } else { clients };
        let of = |system, work| {
            figure(Measure {
                system,
                work,
                clients,
            })
        };
        let ours = of(System::Souk, self.work)?;
        let work = self.work.name();
        let crowd = if self.alone { ", 1 client" } else { "" };
        Some(match self.against {
            Against::Rate(wanted) => Judged {
                goal: format!("{work}{crowd}: operations/s"),
                wanted,
                found: ours.ops_per_s,
                is_met: ours.ops_per_s >= wanted,
            },
            Against::P99Ms(wanted) => {
                let found = ours.p99_ms?;
                Judged {
                    goal: format!("{work}{crowd}: p99 in ms"),
                    wanted,
                    found,
                    is_met: found < wanted,
                }
            }
            Against::Times(wanted, system, other) => {
                let theirs = of(system, other)?;
                let found = ours.ops_per_s / theirs.ops_per_s;
                Judged {
                    goal: format!("{work}{crowd}: times {system} {}", other.name()),
                    wanted,
                    found,
                    is_met: found >= wanted,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(measure: Measure) -> Option<Figure> {
        let ops_per_s = match (measure.system, measure.clients) {
            (System::Souk, _) => 100.0,
            (System::Etcd, 1) => 60.0,
            (System::Etcd, _) => 20.0,
            _ => return None,
        };
        Some(Figure {
            ops_per_s,
            p50_ms: None,
            p99_ms: Some(50.0),
            failed: 0,
        })
    }

    #[test]
    fn goals_compare_like_with_like() {
        let judge = |goal: Goal| {
            goal.judge(64, figures)
                .map(|judged| (judged.found, judged.is_met))
        };
        let etcd = |times| Against::Times(times, System::Etcd, Work::Put);
        assert_eq!(judge(crowd(Work::Put, etcd(5.0))), Some((5.0, true)));
        assert_eq!(judge(crowd(Work::Put, etcd(5.1))), Some((5.0, false)));
        assert_eq!(
            judge(alone(Work::Put, etcd(2.0))),
            Some((100.0 / 60.0, false))
        );
        assert_eq!(
            judge(crowd(Work::Put, Against::Rate(100.0))),
            Some((100.0, true))
        );
        assert_eq!(
            judge(crowd(Work::Put, Against::P99Ms(50.0))),
            Some((50.0, false))
        );
        let absent = Against::Times(1.0, System::Postgres, Work::UpdateHot);
        assert_eq!(judge(crowd(Work::Put, absent)), None);
    }
}

//! How many copies each node should hold: its fair share, exact as a fraction.
//!
//! Think of pouring water into glasses as wide as the nodes' weights. All glasses stand at one
//! level, except where a rule stops them: a node is full when it holds every partition, and a
//! zone has a least and a most it may take. The level at which all copies are poured is found
//! exactly, so that no machine rounds differently.
//!
//! Place: pure; the second question of [`super`].
//! Source: Fujishige, Lexicographically optimal base of a polymatroid, 1980 (such a level makes
//!   the worst-off node as well off as it can be, then the next, and so on).
//! Shape: a whole lower and upper bound per node, equal or one apart.
//! Invariants: 1. some plan within the spread gives every node a load within its bounds: the
//!   fractions themselves are a flow through integer capacities, so a whole one exists.
//! Not here: which partitions make up the share ([`super::flow`]).

use super::spread::Spread;
use super::{Node, Problem};

/// The fair share of one node rounded down and up, in copies of partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) min: u64,
    pub(super) max: u64,
}

/// The fair share of every node.
pub(super) fn fair_shares(problem: &Problem, spread: &Spread) -> Vec<Share> {
    let full = problem.partitions_count as u64;
    let zones: Vec<Zone> = problem
        .nodes_by_zone()
        .into_iter()
        .map(|nodes| Zone {
            nodes: nodes.iter().map(|node| problem.nodes[*node]).collect(),
            full,
            least: full * spread.zone_copies_min as u64,
            most: full * spread.zone_copies_max.min(nodes.len()) as u64,
        })
        .collect();

    let copies = full * problem.copies_count as u64;
    let mut bends: Vec<Level> = zones.iter().flat_map(Zone::bends).collect();
    let level = level_for(copies, &mut bends, |level| {
        zones
            .iter()
            .map(|zone| zone.line(level))
            .fold(Line::FLAT, Line::plus)
    });
    let levels: Vec<Level> = zones.iter().map(|zone| zone.own_level(level)).collect();
    problem
        .nodes
        .iter()
        .map(|node| levels[node.zone].share_of(*node, full))
        .collect()
}

/// A water level: copies per unit of weight, as an exact fraction.
#[derive(Clone, Copy, Debug)]
struct Level {
    copies: u64,
    weight: u64,
}

impl Level {
    const EMPTY: Level = Level {
        copies: 0,
        weight: 1,
    };

    fn share_of(self, node: Node, full: u64) -> Share {
        let copies = node.weight * self.copies;
        Share {
            min: full.min(copies / self.weight),
            max: full.min(copies.div_ceil(self.weight)),
        }
    }
}

/// The amount poured as a function of the level, from some level up to the next bend:
/// `fixed + slope * level`.
#[derive(Clone, Copy, Debug)]
struct Line {
    fixed: u64,
    slope: u64,
}

impl Line {
    const FLAT: Line = Line { fixed: 0, slope: 0 };

    fn plus(self, other: Line) -> Line {
        Line {
            fixed: self.fixed + other.fixed,
            slope: self.slope + other.slope,
        }
    }

    /// The amount at `level`, in units of `1 / level.weight` copies, which keeps it whole.
    fn scaled_amount(self, level: Level) -> u64 {
        self.fixed * level.weight + self.slope * level.copies
    }
}

/// The lowest level, among those that `line` can express, at which `amount` has been poured.
/// `line(level)` gives the function from `level` up to the next of `bends`.
fn level_for(amount: u64, bends: &mut Vec<Level>, line: impl Fn(Level) -> Line) -> Level {
    bends.push(Level::EMPTY);
    bends.sort_by(|a, b| (a.copies * b.weight).cmp(&(b.copies * a.weight)));
    let reached =
        bends.partition_point(|bend| line(*bend).scaled_amount(*bend) <= amount * bend.weight);
    let bend = bends[reached
        .checked_sub(1)
        .expect("an empty glass holds at most the amount")];
    let line = line(bend);
    if line.scaled_amount(bend) == amount * bend.weight {
        return bend;
    }
    assert!(line.slope > 0, "the spread leaves room for all copies");
    Level {
        copies: amount - line.fixed,
        weight: line.slope,
    }
}

/// The glasses of one zone, and how much the zone may take together.
struct Zone {
    nodes: Vec<Node>,
    full: u64,
    least: u64,
    most: u64,
}

impl Zone {
    /// The level at which the zone's nodes, left to themselves, hold `amount`.
    fn level_holding(&self, amount: u64) -> Level {
        level_for(amount, &mut self.node_bends().collect(), |level| {
            self.free_line(level)
        })
    }

    /// The level inside the zone when the level outside is `level`.
    fn own_level(&self, level: Level) -> Level {
        let amount = self.free_line(level).scaled_amount(level);
        if amount < self.least * level.weight {
            self.level_holding(self.least)
        } else if amount > self.most * level.weight {
            self.level_holding(self.most)
        } else {
            level
        }
    }

    fn bends(&self) -> impl Iterator<Item = Level> {
        let clamps = [
            self.level_holding(self.least),
            self.level_holding(self.most),
        ];
        self.node_bends().chain(clamps)
    }

    fn node_bends(&self) -> impl Iterator<Item = Level> {
        self.nodes.iter().map(|node| Level {
            copies: self.full,
            weight: node.weight,
        })
    }

    /// The zone's amount above `level`, kept between its least and most.
    fn line(&self, level: Level) -> Line {
        let line = self.free_line(level);
        let amount = line.scaled_amount(level);
        if amount < self.least * level.weight {
            Line {
                fixed: self.least,
                slope: 0,
            }
        } else if amount >= self.most * level.weight {
            Line {
                fixed: self.most,
                slope: 0,
            }
        } else {
            line
        }
    }

    /// The zone's amount above `level` if only full nodes limited it.
    fn free_line(&self, level: Level) -> Line {
        let line_of = |node: &Node| {
            if node.weight * level.copies >= self.full * level.weight {
                Line {
                    fixed: self.full,
                    slope: 0,
                }
            } else {
                Line {
                    fixed: 0,
                    slope: node.weight,
                }
            }
        };
        self.nodes.iter().map(line_of).fold(Line::FLAT, Line::plus)
    }
}

#[cfg(test)]
#[path = "share_test.rs"]
mod tests;

//! What the judge of the small world knows: who accepted what, and which of it is chosen.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::super::{Ballot, Rows};
use super::{MARKS, mark_key, text};

/// What the checker knows and nobody in the world does.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ghost {
    /// What was accepted at each ballot.
    pub(super) accepted: BTreeMap<Ballot, Accepted>,
    /// Per proposer: the newest chosen text when its present round began.
    pub(super) known_at_start: [Bytes; 2],
    pub(super) restarts: [u8; 2],
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Accepted {
    /// One bit per acceptor.
    pub(super) votes: u8,
    pub(super) rows: Rows,
}

pub(super) fn note_accepted(
    ghost: &mut Ghost,
    replica: usize,
    ballot: Ballot,
    rows: &Rows,
) -> Result<(), String> {
    let entry = ghost.accepted.entry(ballot).or_insert_with(|| Accepted {
        votes: 0,
        rows: rows.clone(),
    });
    if entry.rows != *rows {
        return Err(format!(
            "ballot {ballot} has two states: {:?} and {rows:?}",
            entry.rows
        ));
    }
    entry.votes |= 1 << replica;
    let chosen: Vec<_> = ghost
        .accepted
        .iter()
        .filter(|(_, accepted)| accepted.votes.count_ones() >= 2)
        .collect();
    for pair in chosen.windows(2) {
        let [(older, one), (newer, other)] = pair else {
            continue;
        };
        let (one, other) = (text(&one.rows), text(&other.rows));
        if !other.starts_with(&one) {
            return Err(format!(
                "{newer} {other:?} is chosen and does not continue {older} {one:?}"
            ));
        }
    }
    let marks = |mark: u8| text(rows).contains(&mark) == rows.contains_key(&mark_key(mark));
    if !MARKS.into_iter().all(marks) {
        return Err(format!("ballot {ballot} mixes two states: {rows:?}"));
    }
    Ok(())
}

pub(super) fn is_chosen(ghost: &Ghost, ballot: Ballot) -> bool {
    ghost
        .accepted
        .get(&ballot)
        .is_some_and(|accepted| accepted.votes.count_ones() >= 2)
}

pub(super) fn newest_chosen(ghost: &Ghost) -> Bytes {
    let newest = ghost
        .accepted
        .values()
        .rev()
        .find(|accepted| accepted.votes.count_ones() >= 2);
    newest.map_or(Bytes::new(), |accepted| text(&accepted.rows))
}

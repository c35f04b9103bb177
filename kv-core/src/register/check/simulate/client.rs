//! A client of the large world: one call at a time, retried elsewhere until it is answered.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::super::{
    Answer, Cell, Condition, RequestStamp, Row, RowOperation, Transaction, Verdict, Version, Write,
};
use super::super::content_type;
use super::super::history::{Call, Need, Operation, Part, ROWS, State, Tag, Told};
use super::super::mutant::Mutant;
use super::{ATTEMPTS_MAX, CLIENT_TICKS, Event, Question, World, row_key, tag_of};
use crate::causality::RequestId;
use crate::chance::Chance;
use crate::outcome::Outcome;

#[derive(Default)]
pub(super) struct Client {
    pub(super) sequence: u64,
    pub(super) attempt: u32,
    /// The call under way, with its place in the history.
    pub(super) current: Option<(usize, Call, RequestStamp)>,
    /// The rows as last seen.
    pub(super) seen: [Option<(Version, Tag)>; ROWS],
    /// The versions that conditions of the present call stand for.
    pub(super) versions: BTreeMap<Tag, Version>,
}

impl World {
    pub(super) fn client_next(&mut self, client: usize) {
        if self.operations_left == 0 {
            return;
        }
        self.operations_left -= 1;
        let call = if self.chance.percent(30) {
            Call::Read
        } else {
            Call::Change(self.parts(client))
        };
        let operation = Operation {
            call: call.clone(),
            invoked: self.now,
            completed: u64::MAX,
            told: Told::Unknown,
        };
        self.history.push(operation);
        let place = self.history.len() - 1;
        let me = &mut self.clients[client];
        me.sequence += 1;
        me.attempt = 0;
        me.versions = me
            .seen
            .iter()
            .flatten()
            .map(|(version, tag)| (*tag, *version))
            .collect();
        // Some clients want no memory, and then never retry.
        let remembered = !self.chance.percent(6);
        let sequence = if remembered { me.sequence } else { 0 };
        let request = RequestId {
            client: [client as u8; 16],
            sequence,
        };
        let stamp = RequestStamp {
            request,
            attempt: 1,
            lowest_unanswered: me.sequence,
            issued_unix_ms: self.now,
        };
        me.current = Some((place, call, stamp));
        self.attempt(client);
    }

    pub(super) fn parts(&mut self, client: usize) -> Vec<Part> {
        let first = self.chance.below(ROWS as u64) as usize;
        let count = if self.chance.percent(30) { 2 } else { 1 };
        let part = |row: usize, chance: &mut Chance, seen: &[Option<(Version, Tag)>; ROWS]| {
            let need = match (chance.below(5), seen[row]) {
                (0, _) => Need::Nothing,
                (1, _) => Need::Exists,
                (2..=3, Some((_, tag))) => Need::Holds(tag),
                _ => Need::Absent,
            };
            let write = (!chance.percent(20)).then(|| chance.next());
            Part { row, need, write }
        };
        let seen = self.clients[client].seen;
        (0..count)
            .map(|offset| part((first + offset) % ROWS, &mut self.chance, &seen))
            .collect()
    }

    pub(super) fn attempt(&mut self, client: usize) {
        // Most go where the last one went, as the client library does; the rest makes the duels.
        let nodes = self.coordinators.len() as u64;
        let place = if self.chance.percent(60) {
            0
        } else {
            self.chance.below(nodes) as usize
        };
        let me = &mut self.clients[client];
        me.attempt += 1;
        let Some((_, call, stamp)) = &me.current else {
            return;
        };
        let mut stamp = RequestStamp {
            attempt: me.attempt,
            ..*stamp
        };
        if self.mutant == Some(Mutant::NoMemory) {
            stamp.request.sequence = 0;
        }
        let change = match call {
            Call::Read => None,
            Call::Change(parts) => Some(transaction(stamp, parts, &me.versions)),
        };
        let (sequence, attempt) = (me.sequence, me.attempt);
        let question = Question {
            client,
            sequence,
            attempt,
            change,
        };
        self.carry(Event::Ask {
            coordinator: place,
            question,
        });
        self.after(
            CLIENT_TICKS,
            Event::ClientTimeout {
                client,
                sequence,
                attempt,
            },
        );
    }

    pub(super) fn client_timeout(&mut self, client: usize, sequence: u64, attempt: u32) {
        let me = &self.clients[client];
        let Some((_, call, stamp)) = &me.current else {
            return;
        };
        if (me.sequence, me.attempt) != (sequence, attempt) {
            return;
        }
        if attempt < ATTEMPTS_MAX && (*call == Call::Read || stamp.request.is_remembered()) {
            return self.attempt(client);
        }
        self.clients[client].current = None;
        self.after(1, Event::ClientNext { client });
    }

    pub(super) fn tell(
        &mut self,
        client: usize,
        sequence: u64,
        attempt: u32,
        told: Result<Verdict, State>,
        outcome: Outcome,
    ) {
        let me = &mut self.clients[client];
        if me.sequence != sequence || me.current.is_none() {
            return;
        }
        let is_last = attempt == me.attempt || self.mutant == Some(Mutant::BelieveLateNo);
        if outcome == Outcome::Unknown || outcome == Outcome::NotApplied && !is_last {
            return;
        }
        let Some((place, call, _)) = me.current.take() else {
            return;
        };
        let operation = &mut self.history[place];
        let is_read = call == Call::Read;
        operation.told = match told {
            Err(state) => Told::Rows(state),
            // A refusal, or a loss before anything was sent, says nothing about the rows.
            Ok(Verdict::Refused(_)) => Told::Never,
            Ok(Verdict::NotApplied { failed }) if failed.is_empty() => Told::Never,
            Ok(Verdict::NotApplied { failed }) if is_read => {
                let rows = failed.iter().map(|failure| failure.current.clone());
                let rows: Vec<_> = rows.collect();
                for (row, current) in rows.iter().enumerate() {
                    me.seen[row] = current
                        .as_ref()
                        .and_then(|current| Some((current.version, tag_of(current)?)));
                }
                Told::Rows(std::array::from_fn(|row| {
                    rows.get(row)?.as_ref().and_then(tag_of)
                }))
            }
            Ok(Verdict::NotApplied { failed }) => {
                let Call::Change(parts) = &call else { return };
                for failure in &failed {
                    let current = failure.current.as_ref();
                    me.seen[parts[failure.index as usize].row] =
                        current.and_then(|current| Some((current.version, tag_of(current)?)));
                }
                let held = |current: Option<&Row>| Some(current.and_then(tag_of));
                Told::NotApplied(
                    failed
                        .iter()
                        .map(|one| (one.index as usize, held(one.current.as_ref())))
                        .collect(),
                )
            }
            Ok(Verdict::Replayed(Answer::NotApplied { failed })) => Told::NotApplied(
                failed
                    .iter()
                    .map(|failure| (failure.index as usize, None))
                    .collect(),
            ),
            Ok(Verdict::Applied(written) | Verdict::Replayed(Answer::Applied(written))) => {
                let Call::Change(parts) = &call else { return };
                for (part, version) in parts.iter().zip(written.iter()) {
                    me.seen[part.row] = part.write.map(|tag| (version, tag));
                }
                Told::Applied
            }
        };
        operation.completed = self.now;
        let ticks = 1 + self.chance.below(10);
        self.after(ticks, Event::ClientNext { client });
    }
}

fn transaction(
    stamp: RequestStamp,
    parts: &[Part],
    versions: &BTreeMap<Tag, Version>,
) -> Transaction {
    let operation = |part: &Part| RowOperation {
        key: row_key(part.row),
        condition: match part.need {
            Need::Nothing => Condition::Any,
            Need::Absent => Condition::Absent,
            Need::Exists => Condition::Exists,
            Need::Holds(tag) => Condition::Version(versions[&tag]),
        },
        write: Some(part.write.map_or(Write::Delete, put)),
    };
    Transaction::new(stamp, parts.iter().map(operation).collect()).unwrap()
}

fn put(tag: Tag) -> Write {
    let bytes = Bytes::copy_from_slice(&tag.to_be_bytes());
    Write::Put(Cell {
        content_type: content_type(),
        bytes,
    })
}

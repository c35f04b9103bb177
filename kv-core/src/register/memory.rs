//! What a group remembers of the requests it has answered, so that a retry gets the first answer again.
//!
//! A cloakroom attendant keeps the stub of every ticket until the guest says it is settled. One row per
//! client holds its stubs; it is changed in the same ballot as the rows that the request changed.
//!
//! Place: pure; used by `evaluate`, stored as ordinary rows of the kinds `Memory` and `MemoryFloor`.
//! Source: Lee et al., Implementing Linearizability at Large Scale and Low Latency (RIFL), SOSP 2015, §3.
//! Shape: at most [`MEMORY_ANSWERS_MAX`] answers per client, by sequence; a format byte, then big-endian fields.
//! Invariants: 1. a request below `lowest_unanswered` is never run. 2. when rows of idle clients are erased,
//! the floor keeps the newest issue time among what they held; no request issued up to it is run. So forgetting is exact and trusts no clock but the client's own, which stamps each request once.
//! Not here: when to look (`evaluate`), how long to remember (an operator's setting).

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};

use super::limits::MEMORY_ANSWERS_MAX;
use super::{Ballot, Version};

const FORMAT: u8 = 1;
const ANSWER_APPLIED: u8 = 0;
const ANSWER_NOT_APPLIED: u8 = 1;

/// Failed conditions that a remembered "not applied" names, at most; the first ones are kept.
pub const REMEMBERED_FAILURES_MAX: usize = 8;

/// The versions that one transaction gave to its writes: consecutive, in the order of its operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WrittenVersions {
    /// The version of the first write.
    pub first: Version,
    /// How many writes there were; operations that only check are not among them.
    pub count: u32,
}

impl WrittenVersions {
    /// One version per write, in the order of the operations.
    pub fn iter(&self) -> impl Iterator<Item = Version> + use<> {
        let first = self.first;
        (0..self.count).map(move |offset| Version {
            index: first.index + offset,
            ..first
        })
    }
}

/// A condition that did not hold when the answer was first given, as a retry learns of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RememberedFailure {
    /// The operation, from 0.
    pub index: u32,
    /// The version of the live row found then, `None` when there was none.
    pub version: Option<Version>,
}

/// The answer to a request, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    /// It was applied.
    Applied(WrittenVersions),
    /// It was not applied, and never will be.
    NotApplied {
        /// The first conditions that failed, at most [`REMEMBERED_FAILURES_MAX`].
        failed: Vec<RememberedFailure>,
    },
}

/// The content of one client's memory row.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientMemory {
    /// Requests below this sequence are never run.
    pub lowest_unanswered: u64,
    /// The newest issue time among all requests ever remembered here, milliseconds since the Unix epoch.
    pub newest_issued_unix_ms: u64,
    /// Answers by sequence.
    pub answers: BTreeMap<u64, Answer>,
}

impl ClientMemory {
    /// Notes an answer, forgetting those that the client has seen and, over the limit, the oldest.
    pub fn remember(
        &mut self,
        sequence: u64,
        lowest_unanswered: u64,
        issued_unix_ms: u64,
        answer: Answer,
    ) {
        self.newest_issued_unix_ms = self.newest_issued_unix_ms.max(issued_unix_ms);
        self.answers.insert(sequence, answer);
        self.lowest_unanswered = self.lowest_unanswered.max(lowest_unanswered);
        while self.answers.len() > MEMORY_ANSWERS_MAX {
            if let Some((oldest, _)) = self.answers.pop_first() {
                self.lowest_unanswered = self.lowest_unanswered.max(oldest.saturating_add(1));
            }
        }
        self.answers = self.answers.split_off(&self.lowest_unanswered);
    }

    /// The row's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(19 + self.answers.len() * 40);
        out.put_u8(FORMAT);
        out.put_u64(self.lowest_unanswered);
        out.put_u64(self.newest_issued_unix_ms);
        out.put_u16(self.answers.len() as u16);
        for (sequence, answer) in &self.answers {
            out.put_u64(*sequence);
            put_answer(&mut out, answer);
        }
        out.into()
    }

    /// Reads a row's bytes.
    ///
    /// # Errors
    /// [`MemoryError`] when a newer node wrote them or they are damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<ClientMemory, MemoryError> {
        let mut input = Input::open(bytes)?;
        let mut memory = ClientMemory {
            lowest_unanswered: input.u64()?,
            newest_issued_unix_ms: input.u64()?,
            answers: BTreeMap::new(),
        };
        for _ in 0..input.u16()? {
            let sequence = input.u64()?;
            memory.answers.insert(sequence, input.answer()?);
        }
        input.finish()?;
        Ok(memory)
    }
}

/// The content of the floor row: up to which issue time memory was erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemoryFloor {
    /// Milliseconds since the Unix epoch; requests issued up to it may have been answered and forgotten.
    pub issued_unix_ms: u64,
}

impl MemoryFloor {
    /// True when the answer to a request issued then may have been forgotten. A floor of 0 covers nothing.
    #[must_use]
    pub fn covers(&self, issued_unix_ms: u64) -> bool {
        self.issued_unix_ms > 0 && issued_unix_ms <= self.issued_unix_ms
    }

    /// The row's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(9);
        out.put_u8(FORMAT);
        out.put_u64(self.issued_unix_ms);
        out.into()
    }

    /// Reads a row's bytes.
    ///
    /// # Errors
    /// [`MemoryError`] when a newer node wrote them or they are damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<MemoryFloor, MemoryError> {
        let mut input = Input::open(bytes)?;
        let floor = MemoryFloor {
            issued_unix_ms: input.u64()?,
        };
        input.finish()?;
        Ok(floor)
    }
}

/// What: request memory cannot be read, so a retry could not be told from a new request.
/// Mend: by the variant; until then the request is refused, which is always safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum MemoryError {
    /// A newer node wrote it.
    #[error("request memory has format {format}, this node reads up to {FORMAT}; upgrade it")]
    Format {
        /// The format found.
        format: u8,
    },
    /// It does not parse.
    #[error("request memory is damaged; rebuild this node's copy of the group from its peers")]
    Damaged,
}

fn put_answer(out: &mut Vec<u8>, answer: &Answer) {
    match answer {
        Answer::Applied(versions) => {
            out.put_u8(ANSWER_APPLIED);
            out.put_slice(&versions.first.to_bytes());
            out.put_u32(versions.count);
        }
        Answer::NotApplied { failed } => {
            let kept = &failed[..failed.len().min(REMEMBERED_FAILURES_MAX)];
            out.put_u8(ANSWER_NOT_APPLIED);
            out.put_u8(kept.len() as u8);
            for failure in kept {
                out.put_u32(failure.index);
                out.put_slice(
                    &failure
                        .version
                        .unwrap_or(Version::new(Ballot::ZERO, 0))
                        .to_bytes(),
                );
            }
        }
    }
}

/// Reads fields off the front and reports a short input as damage.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn open(bytes: &'a [u8]) -> Result<Input<'a>, MemoryError> {
        let mut input = Input(bytes);
        match input.0.try_get_u8() {
            Ok(FORMAT) => Ok(input),
            Ok(format) if format > FORMAT => Err(MemoryError::Format { format }),
            _ => Err(MemoryError::Damaged),
        }
    }

    fn u16(&mut self) -> Result<u16, MemoryError> {
        self.0.try_get_u16().map_err(|_| MemoryError::Damaged)
    }

    fn u64(&mut self) -> Result<u64, MemoryError> {
        self.0.try_get_u64().map_err(|_| MemoryError::Damaged)
    }

    fn u32(&mut self) -> Result<u32, MemoryError> {
        self.0.try_get_u32().map_err(|_| MemoryError::Damaged)
    }

    fn version(&mut self) -> Result<Version, MemoryError> {
        let (head, rest) = self
            .0
            .split_at_checked(Version::ENCODED_LEN)
            .ok_or(MemoryError::Damaged)?;
        self.0 = rest;
        Version::from_bytes(head).map_err(|_| MemoryError::Damaged)
    }

    fn answer(&mut self) -> Result<Answer, MemoryError> {
        match self.0.try_get_u8().map_err(|_| MemoryError::Damaged)? {
            ANSWER_APPLIED => {
                let first = self.version()?;
                let count = self.u32()?;
                first.index.checked_add(count).ok_or(MemoryError::Damaged)?;
                Ok(Answer::Applied(WrittenVersions { first, count }))
            }
            ANSWER_NOT_APPLIED => {
                let count = self.0.try_get_u8().map_err(|_| MemoryError::Damaged)?;
                let failed = (0..count)
                    .map(|_| self.failure())
                    .collect::<Result<_, _>>()?;
                Ok(Answer::NotApplied { failed })
            }
            _ => Err(MemoryError::Damaged),
        }
    }

    fn failure(&mut self) -> Result<RememberedFailure, MemoryError> {
        let index = self.u32()?;
        let version = self.version()?;
        Ok(RememberedFailure {
            index,
            version: Some(version).filter(|version| !version.ballot().is_zero()),
        })
    }

    fn finish(self) -> Result<(), MemoryError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(MemoryError::Damaged)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version() -> impl Strategy<Value = Version> {
        (1u64.., any::<u64>(), 0u32..1000).prop_map(|(counter, proposer, index)| Version {
            counter,
            proposer,
            index,
        })
    }

    fn answer() -> impl Strategy<Value = Answer> {
        let failure = (any::<u32>(), prop::option::of(version()))
            .prop_map(|(index, version)| RememberedFailure { index, version });
        prop_oneof![
            (version(), 0u32..1000)
                .prop_map(|(first, count)| Answer::Applied(WrittenVersions { first, count })),
            prop::collection::vec(failure, 0..=REMEMBERED_FAILURES_MAX)
                .prop_map(|failed| Answer::NotApplied { failed }),
        ]
    }

    proptest! {
        #[test]
        fn memory_survives_its_bytes_and_no_prefix_parses(
            lowest_unanswered: u64, newest_issued_unix_ms: u64,
            answers in prop::collection::btree_map(any::<u64>(), answer(), 0..6),
        ) {
            let memory = ClientMemory { lowest_unanswered, newest_issued_unix_ms, answers };
            let bytes = memory.to_bytes();
            prop_assert_eq!(ClientMemory::from_bytes(&bytes), Ok(memory));
            for length in 0..bytes.len() {
                prop_assert_eq!(ClientMemory::from_bytes(&bytes[..length]), Err(MemoryError::Damaged));
            }
        }

        #[test]
        fn a_request_is_remembered_or_too_old(requests in prop::collection::vec((1u64..400, 0u64..100), 1..300)) {
            let mut memory = ClientMemory::default();
            let mut done = std::collections::BTreeSet::new();
            for (sequence, lowest) in requests {
                memory.remember(sequence, lowest.min(sequence), 0, Answer::NotApplied { failed: vec![] });
                done.insert(sequence);
                prop_assert!(memory.answers.len() <= MEMORY_ANSWERS_MAX);
                let exact = |known: &u64| *known < memory.lowest_unanswered || memory.answers.contains_key(known);
                prop_assert!(done.iter().all(exact));
            }
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        assert_eq!(
            ClientMemory::from_bytes(&[9, 0]),
            Err(MemoryError::Format { format: 9 })
        );
        assert_eq!(
            MemoryFloor::from_bytes(&[FORMAT, 0]),
            Err(MemoryError::Damaged)
        );
    }
}

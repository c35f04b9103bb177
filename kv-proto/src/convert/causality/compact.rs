//! Today's format of records and contexts.
//!
//! ```text
//! record   = FORMAT flags names context siblings memory
//! observed = FORMAT names context [count, then per entry: request dot]
//! names    = count, then 16 bytes each, sorted
//! context  = dots (the vector), dots (loose), newest stamp
//! sibling  = dot stamp flags [request] [deadline] [content type, value]
//! memory   = count [newest time, then per entry: request dot age]
//! dot      = index of its actor among the names, counter
//! ```
//!
//! Counts, indexes, counters, sequences and times are varints; stamps have 8 bytes, little endian.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{decode_varint, encode_varint};
use smallvec::SmallVec;
use souk_kv_core::causality::{
    ActorId, CausalContext, ContentType, Dot, MergeMode, Observed, Record, Remembered, RequestId,
    RequestMemory, Sibling, Stamp, Value,
};

use super::{CONTEXT, RECORD, content_type};
use crate::convert::DecodeError;

/// The first byte. As a protobuf tag it would name the field 0, which does not exist.
pub(super) const FORMAT: u8 = 2;

const LAST_WRITER_WINS: u8 = 1;

const HAS_REQUEST: u8 = 1;
const HAS_DEADLINE: u8 = 2;
const HAS_VALUE: u8 = 4;

/// Encodes a record.
pub(super) fn record(record: &Record, mode: MergeMode) -> Bytes {
    let mut names = Names::default();
    names.add_context(record.context());
    for sibling in record.siblings() {
        names.add(sibling.dot.actor.as_bytes());
        if sibling.request.is_remembered() {
            names.add(&sibling.request.client);
        }
    }
    for entry in record.superseded().entries() {
        names.add(entry.dot.actor.as_bytes());
        names.add(&entry.request.client);
    }
    let mut out = Vec::with_capacity(record.size_bytes() + 64);
    out.put_u8(FORMAT);
    out.put_u8(match mode {
        MergeMode::Siblings => 0,
        MergeMode::LastWriterWins => LAST_WRITER_WINS,
    });
    let mut writer = Writer { names, out };
    writer.names();
    writer.context(record.context());
    writer.count(record.siblings().len());
    for sibling in record.siblings() {
        writer.sibling(sibling);
    }
    writer.memory(record.superseded());
    writer.out.into()
}

/// Encodes what a client has seen.
pub(super) fn observed(observed: &Observed) -> Bytes {
    let requests = observed.requests();
    let mut names = Names::default();
    names.add_context(observed.context());
    for (request, dot) in requests {
        names.add(&request.client);
        names.add(dot.actor.as_bytes());
    }
    let mut out = Vec::with_capacity(observed.context().size_bytes() + 24 * requests.len() + 16);
    out.put_u8(FORMAT);
    let mut writer = Writer { names, out };
    writer.names();
    writer.context(observed.context());
    if !requests.is_empty() {
        writer.count(requests.len());
    }
    for (request, dot) in requests {
        writer.request(request);
        writer.dot(*dot);
    }
    writer.out.into()
}

/// Decodes a record; `bytes` begins with [`FORMAT`].
pub(super) fn read_record(bytes: &Bytes) -> Result<(Record, MergeMode), DecodeError> {
    let mut reader = Reader::new(RECORD, &bytes[1..]);
    let mode = match reader.byte()? {
        0 => MergeMode::Siblings,
        LAST_WRITER_WINS => MergeMode::LastWriterWins,
        other => return Err(reader.wrong(format_args!("unknown flags {other:#04x}"))),
    };
    reader.names()?;
    let context = reader.context()?;
    let siblings = reader.count()?;
    let siblings: SmallVec<[Sibling; 1]> = (0..siblings)
        .map(|_| reader.sibling(bytes))
        .collect::<Result<_, _>>()?;
    let superseded = reader.memory()?;
    reader.end()?;
    let record = Record::from_parts(context, siblings, superseded)
        .map_err(|cause| DecodeError::malformed(RECORD, cause))?;
    Ok((record, mode))
}

/// Decodes what a client has seen; `bytes` begins with [`FORMAT`].
pub(super) fn read_observed(bytes: &[u8]) -> Result<Observed, DecodeError> {
    let mut reader = Reader::new(CONTEXT, &bytes[1..]);
    reader.names()?;
    let context = reader.context()?;
    // Earlier versions ended here.
    let count = if reader.left.is_empty() {
        0
    } else {
        reader.count()?
    };
    let requests: SmallVec<[(RequestId, Dot); 1]> = (0..count)
        .map(|_| Ok((reader.request()?, reader.dot()?)))
        .collect::<Result<_, DecodeError>>()?;
    reader.end()?;
    Ok(Observed::from_parts(context, requests))
}

type Name = [u8; 16];

/// The table at the head, sorted.
#[derive(Default)]
struct Names(SmallVec<[Name; 6]>);

impl Names {
    fn add(&mut self, name: &Name) {
        if let Err(index) = self.0.binary_search(name) {
            self.0.insert(index, *name);
        }
    }

    fn add_context(&mut self, context: &CausalContext) {
        for (actor, _) in context.vector() {
            self.add(actor.as_bytes());
        }
        for dot in context.loose() {
            self.add(dot.actor.as_bytes());
        }
    }

    fn index(&self, name: &Name) -> u64 {
        let found = self.0.binary_search(name);
        found.expect("every name was added before writing began") as u64
    }
}

struct Writer {
    names: Names,
    out: Vec<u8>,
}

impl Writer {
    fn number(&mut self, number: u64) {
        encode_varint(number, &mut self.out);
    }

    fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    fn names(&mut self) {
        self.count(self.names.0.len());
        for name in &self.names.0 {
            self.out.extend_from_slice(name);
        }
    }

    fn dot(&mut self, dot: Dot) {
        let index = self.names.index(dot.actor.as_bytes());
        self.number(index);
        self.number(dot.counter);
    }

    fn request(&mut self, request: &RequestId) {
        let index = self.names.index(&request.client);
        self.number(index);
        self.number(request.sequence);
    }

    fn context(&mut self, context: &CausalContext) {
        self.count(context.vector().len());
        for (actor, counter) in context.vector() {
            self.dot(Dot { actor, counter });
        }
        self.count(context.loose().len());
        for dot in context.loose() {
            self.dot(*dot);
        }
        self.out.put_u64_le(context.newest_stamp().to_bits());
    }

    fn sibling(&mut self, sibling: &Sibling) {
        self.dot(sibling.dot);
        self.out.put_u64_le(sibling.stamp.to_bits());
        let mut flags = 0;
        if sibling.request.is_remembered() {
            flags |= HAS_REQUEST;
        }
        if sibling.expires_unix_ms.is_some() {
            flags |= HAS_DEADLINE;
        }
        if sibling.value.is_some() {
            flags |= HAS_VALUE;
        }
        self.out.put_u8(flags);
        if sibling.request.is_remembered() {
            self.request(&sibling.request);
        }
        if let Some(deadline) = sibling.expires_unix_ms {
            self.number(deadline);
        }
        if let Some(value) = &sibling.value {
            let default = value.content_type == ContentType::octets();
            let text = if default {
                ""
            } else {
                value.content_type.as_str()
            };
            self.count(text.len());
            self.out.extend_from_slice(text.as_bytes());
            self.count(value.bytes.len());
            self.out.extend_from_slice(&value.bytes);
        }
    }

    fn memory(&mut self, memory: &RequestMemory) {
        let entries = memory.entries();
        self.count(entries.len());
        let newest = entries.iter().map(|entry| entry.superseded_unix_ms).max();
        let Some(newest) = newest else { return };
        self.number(newest);
        for entry in entries {
            self.request(&entry.request);
            self.dot(entry.dot);
            self.number(newest - entry.superseded_unix_ms);
        }
    }
}

struct Reader<'a> {
    what: &'static str,
    names: &'a [Name],
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(what: &'static str, left: &'a [u8]) -> Self {
        let names = &[];
        Self { what, names, left }
    }

    fn wrong(&self, cause: impl ToString) -> DecodeError {
        DecodeError::malformed(self.what, cause)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, left)) = self.left.split_at_checked(count) else {
            return Err(self.wrong("it ends too early"));
        };
        self.left = left;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        decode_varint(&mut self.left).map_err(|cause| self.wrong(cause))
    }

    /// How many parts follow. Each of them takes a byte at least.
    fn count(&mut self) -> Result<usize, DecodeError> {
        let count = self.number()?;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= self.left.len())
            .ok_or_else(|| self.wrong(format_args!("it promises {count} parts and is shorter")))
    }

    fn names(&mut self) -> Result<(), DecodeError> {
        let count = self.count()?;
        let bytes = self.take(count.saturating_mul(size_of::<Name>()))?;
        self.names = bytes.as_chunks().0;
        Ok(())
    }

    fn name(&mut self) -> Result<Name, DecodeError> {
        let index = self.number()?;
        let name = usize::try_from(index)
            .ok()
            .and_then(|index| self.names.get(index));
        name.copied()
            .ok_or_else(|| self.wrong(format_args!("it has no name number {index}")))
    }

    fn dot(&mut self) -> Result<Dot, DecodeError> {
        Ok(Dot {
            actor: ActorId::from_bytes(self.name()?),
            counter: self.number()?,
        })
    }

    fn request(&mut self) -> Result<RequestId, DecodeError> {
        Ok(RequestId {
            client: self.name()?,
            sequence: self.number()?,
        })
    }

    fn stamp(&mut self) -> Result<Stamp, DecodeError> {
        self.take(8)
            .map(|mut bytes| Stamp::from_bits(bytes.get_u64_le()))
    }

    fn dots(&mut self) -> Result<SmallVec<[Dot; 4]>, DecodeError> {
        let count = self.count()?;
        (0..count).map(|_| self.dot()).collect()
    }

    fn context(&mut self) -> Result<CausalContext, DecodeError> {
        let vector = self.dots()?;
        let vector = vector.into_iter().map(|dot| (dot.actor, dot.counter));
        let loose = self.dots()?;
        Ok(CausalContext::from_parts(vector, loose, self.stamp()?))
    }

    fn sibling(&mut self, whole: &Bytes) -> Result<Sibling, DecodeError> {
        let dot = self.dot()?;
        let stamp = self.stamp()?;
        let flags = self.byte()?;
        if flags > HAS_REQUEST | HAS_DEADLINE | HAS_VALUE {
            return Err(self.wrong(format_args!("unknown flags {flags:#04x} of a sibling")));
        }
        let request = if flags & HAS_REQUEST != 0 {
            let request = self.request()?;
            if !request.is_remembered() {
                return Err(self.wrong("a sibling names a request that asked for no memory"));
            }
            request
        } else {
            RequestId {
                client: [0; 16],
                sequence: 0,
            }
        };
        let expires_unix_ms = if flags & HAS_DEADLINE != 0 {
            Some(self.number()?)
        } else {
            None
        };
        let value = if flags & HAS_VALUE != 0 {
            Some(self.value(whole)?)
        } else {
            None
        };
        Ok(Sibling {
            dot,
            stamp,
            request,
            expires_unix_ms,
            value,
        })
    }

    fn value(&mut self, whole: &Bytes) -> Result<Value, DecodeError> {
        let count = self.count()?;
        let text = str::from_utf8(self.take(count)?).map_err(|cause| self.wrong(cause))?;
        let content_type = content_type(text)?;
        let count = self.count()?;
        Ok(Value::new(content_type, whole.slice_ref(self.take(count)?)))
    }

    fn memory(&mut self) -> Result<RequestMemory, DecodeError> {
        let count = self.count()?;
        if count == 0 {
            return Ok(RequestMemory::default());
        }
        let newest = self.number()?;
        let entries: Result<Vec<Remembered>, DecodeError> = (0..count)
            .map(|_| {
                let request = self.request()?;
                let dot = self.dot()?;
                let age = self.number()?;
                let superseded_unix_ms = newest
                    .checked_sub(age)
                    .ok_or_else(|| self.wrong("it remembers a request from before 1970"))?;
                Ok(Remembered {
                    request,
                    dot,
                    superseded_unix_ms,
                })
            })
            .collect();
        Ok(RequestMemory::from_entries(entries?))
    }

    fn end(&self) -> Result<(), DecodeError> {
        if self.left.is_empty() {
            return Ok(());
        }
        Err(self.wrong(format_args!("{} bytes follow its end", self.left.len())))
    }
}

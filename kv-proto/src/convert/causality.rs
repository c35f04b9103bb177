//! Records and causal contexts as bytes.
//!
//! Equal records encode to equal bytes (everything in them is sorted), so a coordinator can compare
//! the answers of replicas without decoding them.

use bytes::Bytes;
use prost::Message;
use souk_kv_core::causality::{
    ActorId, CausalContext, ContentType, Dot, MergeMode, Record, Remembered, RequestId,
    RequestMemory, Sibling, Stamp, Value,
};

use super::{DecodeError, fixed};
use crate::{kv, store};

const RECORD: &str = "record";
const CONTEXT: &str = "context";

/// Encodes a record for disk and wire.
pub fn encode_record(record: &Record, mode: MergeMode) -> Bytes {
    store::Record {
        context: Some(context_to_wire(record.context())),
        siblings: record.siblings().iter().map(sibling_to_wire).collect(),
        superseded: record
            .superseded()
            .entries()
            .iter()
            .map(remembered_to_wire)
            .collect(),
        last_writer_wins: mode == MergeMode::LastWriterWins,
    }
    .encode_to_vec()
    .into()
}

/// Decodes a record. No bytes at all are the record of a key never written, in `siblings` mode.
///
/// # Errors
/// [`DecodeError`] when the bytes are no record or break one of its invariants.
pub fn decode_record(bytes: Bytes) -> Result<(Record, MergeMode), DecodeError> {
    let wire =
        store::Record::decode(bytes).map_err(|cause| DecodeError::malformed(RECORD, cause))?;
    let mode = if wire.last_writer_wins {
        MergeMode::LastWriterWins
    } else {
        MergeMode::Siblings
    };
    let context = context_from_wire(wire.context.unwrap_or_default())?;
    let siblings: Vec<Sibling> = wire
        .siblings
        .into_iter()
        .map(sibling_from_wire)
        .collect::<Result<_, _>>()?;
    let superseded: Vec<Remembered> = wire
        .superseded
        .into_iter()
        .map(remembered_from_wire)
        .collect::<Result<_, _>>()?;
    let record = Record::from_parts(context, siblings, RequestMemory::from_entries(superseded))
        .map_err(|cause| DecodeError::malformed(RECORD, cause))?;
    Ok((record, mode))
}

/// Encodes a context for clients, to whom it is opaque. The empty context is no bytes at all.
pub fn encode_context(context: &CausalContext) -> Bytes {
    context_to_wire(context).encode_to_vec().into()
}

/// Decodes what a client passed back.
///
/// # Errors
/// [`DecodeError`] when it is not a context that a node gave out.
pub fn decode_context(bytes: Bytes) -> Result<CausalContext, DecodeError> {
    let wire =
        store::Context::decode(bytes).map_err(|cause| DecodeError::malformed(CONTEXT, cause))?;
    context_from_wire(wire)
}

/// A value as clients send it.
///
/// # Errors
/// [`DecodeError`] when the content type is not one.
pub fn value_from_wire(value: kv::Value) -> Result<Value, DecodeError> {
    let content_type = if value.content_type.is_empty() {
        ContentType::octets()
    } else {
        ContentType::new(&value.content_type)
            .map_err(|cause| DecodeError::field("value", "content_type", cause))?
    };
    Ok(Value::new(content_type, value.data))
}

/// A value as clients receive it.
pub fn value_to_wire(value: &Value) -> kv::Value {
    kv::Value {
        content_type: value.content_type.as_str().to_owned(),
        data: value.bytes.clone(),
    }
}

fn context_to_wire(context: &CausalContext) -> store::Context {
    store::Context {
        vector: context
            .vector()
            .map(|(actor, counter)| dot_to_wire(Dot { actor, counter }))
            .collect(),
        loose: context.loose().iter().copied().map(dot_to_wire).collect(),
        newest_stamp: context.newest_stamp().to_bits(),
    }
}

fn context_from_wire(wire: store::Context) -> Result<CausalContext, DecodeError> {
    let dots = |dots: Vec<store::Dot>| {
        dots.iter()
            .map(dot_from_wire)
            .collect::<Result<Vec<Dot>, DecodeError>>()
    };
    let vector = dots(wire.vector)?
        .into_iter()
        .map(|dot| (dot.actor, dot.counter));
    let loose = dots(wire.loose)?;
    Ok(CausalContext::from_parts(
        vector,
        loose,
        Stamp::from_bits(wire.newest_stamp),
    ))
}

fn dot_to_wire(dot: Dot) -> store::Dot {
    store::Dot {
        actor: Bytes::copy_from_slice(dot.actor.as_bytes()),
        counter: dot.counter,
    }
}

fn dot_from_wire(wire: &store::Dot) -> Result<Dot, DecodeError> {
    let actor = ActorId::from_bytes(fixed("dot", "actor", &wire.actor)?);
    Ok(Dot {
        actor,
        counter: wire.counter,
    })
}

fn request_to_wire(request: &RequestId) -> store::RequestName {
    store::RequestName {
        client: Bytes::copy_from_slice(&request.client),
        sequence: request.sequence,
    }
}

fn request_from_wire(wire: Option<store::RequestName>) -> Result<RequestId, DecodeError> {
    match wire {
        None => Ok(RequestId {
            client: [0; 16],
            sequence: 0,
        }),
        Some(name) => Ok(RequestId {
            client: fixed("request", "client", &name.client)?,
            sequence: name.sequence,
        }),
    }
}

fn sibling_to_wire(sibling: &Sibling) -> store::Sibling {
    store::Sibling {
        dot: Some(dot_to_wire(sibling.dot)),
        stamp: sibling.stamp.to_bits(),
        request: sibling
            .request
            .is_remembered()
            .then(|| request_to_wire(&sibling.request)),
        expires_unix_ms: sibling.expires_unix_ms,
        value: sibling.value.as_ref().map(value_to_wire),
    }
}

fn sibling_from_wire(wire: store::Sibling) -> Result<Sibling, DecodeError> {
    Ok(Sibling {
        dot: dot_from_wire(&wire.dot.unwrap_or_default())?,
        stamp: Stamp::from_bits(wire.stamp),
        request: request_from_wire(wire.request)?,
        expires_unix_ms: wire.expires_unix_ms,
        value: wire.value.map(value_from_wire).transpose()?,
    })
}

fn remembered_to_wire(entry: &Remembered) -> store::Superseded {
    store::Superseded {
        request: Some(request_to_wire(&entry.request)),
        dot: Some(dot_to_wire(entry.dot)),
        at_unix_ms: entry.superseded_unix_ms,
    }
}

fn remembered_from_wire(wire: store::Superseded) -> Result<Remembered, DecodeError> {
    Ok(Remembered {
        request: request_from_wire(wire.request)?,
        dot: dot_from_wire(&wire.dot.unwrap_or_default())?,
        superseded_unix_ms: wire.at_unix_ms,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use souk_kv_core::causality::{Mint, NewWrite};

    use super::*;

    /// A record that a history of puts made: contexts, siblings, tombstones, remembered requests.
    fn record_of(steps: &[(u8, bool, Option<Vec<u8>>)]) -> Record {
        let mut record = Record::default();
        for (index, (actor, observed, value)) in steps.iter().enumerate() {
            let counter = index as u64 + 1;
            let context = if *observed {
                record.context().clone()
            } else {
                CausalContext::default()
            };
            let dot = Dot {
                actor: ActorId::from_bytes([*actor; 16]),
                counter,
            };
            let mint = if counter.is_multiple_of(3) {
                Mint::Loose
            } else {
                Mint::Vector
            };
            let write = NewWrite {
                request: RequestId {
                    client: [*actor; 16],
                    sequence: counter,
                },
                stamp: Stamp::next(counter, record.stamp_floor(&context)),
                expires_unix_ms: counter.is_multiple_of(2).then_some(counter),
                value: value
                    .clone()
                    .map(|bytes| Value::new(ContentType::json(), bytes.into())),
            };
            record
                .put(MergeMode::Siblings, &context, dot, mint, write, counter)
                .expect("every dot is new");
        }
        record
    }

    proptest! {
        #[test]
        fn records_survive_the_round_trip(
            steps in prop::collection::vec((0u8..3, any::<bool>(), any::<Option<Vec<u8>>>()), 0..12),
            lww in any::<bool>(),
        ) {
            let mode = if lww { MergeMode::LastWriterWins } else { MergeMode::Siblings };
            let record = record_of(&steps);
            let decoded = decode_record(encode_record(&record, mode)).expect("it was encoded by us");
            prop_assert_eq!(&decoded, &(record.clone(), mode));
            let context = decode_context(encode_context(record.context())).expect("it was encoded by us");
            prop_assert_eq!(&context, record.context());
        }

        #[test]
        fn any_bytes_give_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            // The point is that it returns.
            let bytes = Bytes::from(bytes);
            if let Ok((record, mode)) = decode_record(bytes.clone()) {
                prop_assert_eq!(decode_record(encode_record(&record, mode)).ok(), Some((record, mode)));
            }
            let _ = decode_context(bytes);
        }
    }

    #[test]
    fn the_empty_context_is_no_bytes() {
        assert!(encode_context(&CausalContext::default()).is_empty());
        assert!(
            decode_context(Bytes::new())
                .expect("no bytes are the empty context")
                .is_empty()
        );
    }

    #[test]
    fn a_short_actor_is_refused() {
        let wire = store::Context {
            vector: vec![store::Dot {
                actor: Bytes::from_static(b"short"),
                counter: 1,
            }],
            ..Default::default()
        };
        let error = decode_context(wire.encode_to_vec().into()).expect_err("actors have 16 bytes");
        assert_eq!(error.to_string(), "actor of dot has 5 bytes instead of 16");
    }
}

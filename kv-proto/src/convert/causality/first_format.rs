//! The format of the first version: records and contexts as protobuf messages. Read only; a record is written in
//! today's format at its next change.

use bytes::Bytes;
use prost::Message;
use souk_kv_core::causality::{
    ActorId, CausalContext, Dot, MergeMode, Record, Remembered, RequestId, RequestMemory, Sibling,
    Stamp,
};

use super::{CONTEXT, RECORD, value_from_wire};
use crate::{
    convert::{DecodeError, fixed},
    store,
};

/// Decodes a record.
pub(super) fn record(bytes: Bytes) -> Result<(Record, MergeMode), DecodeError> {
    let wire =
        store::Record::decode(bytes).map_err(|cause| DecodeError::malformed(RECORD, cause))?;
    let mode = if wire.last_writer_wins {
        MergeMode::LastWriterWins
    } else {
        MergeMode::Siblings
    };
    let context = context_of(wire.context.unwrap_or_default())?;
    let siblings: Vec<Sibling> = wire
        .siblings
        .into_iter()
        .map(sibling)
        .collect::<Result<_, _>>()?;
    let superseded: Vec<Remembered> = wire
        .superseded
        .into_iter()
        .map(remembered)
        .collect::<Result<_, _>>()?;
    let record = Record::from_parts(context, siblings, RequestMemory::from_entries(superseded))
        .map_err(|cause| DecodeError::malformed(RECORD, cause))?;
    Ok((record, mode))
}

/// Decodes a context.
pub(super) fn context(bytes: &[u8]) -> Result<CausalContext, DecodeError> {
    let wire =
        store::Context::decode(bytes).map_err(|cause| DecodeError::malformed(CONTEXT, cause))?;
    context_of(wire)
}

fn context_of(wire: store::Context) -> Result<CausalContext, DecodeError> {
    let dots = |dots: Vec<store::Dot>| {
        dots.iter()
            .map(dot)
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

fn dot(wire: &store::Dot) -> Result<Dot, DecodeError> {
    let actor = ActorId::from_bytes(fixed("dot", "actor", &wire.actor)?);
    Ok(Dot {
        actor,
        counter: wire.counter,
    })
}

fn request(wire: Option<store::RequestName>) -> Result<RequestId, DecodeError> {
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

fn sibling(wire: store::Sibling) -> Result<Sibling, DecodeError> {
    Ok(Sibling {
        dot: dot(&wire.dot.unwrap_or_default())?,
        stamp: Stamp::from_bits(wire.stamp),
        request: request(wire.request)?,
        expires_unix_ms: wire.expires_unix_ms,
        value: wire.value.map(value_from_wire).transpose()?,
    })
}

fn remembered(wire: store::Superseded) -> Result<Remembered, DecodeError> {
    Ok(Remembered {
        request: request(wire.request)?,
        dot: dot(&wire.dot.unwrap_or_default())?,
        superseded_unix_ms: wire.at_unix_ms,
    })
}

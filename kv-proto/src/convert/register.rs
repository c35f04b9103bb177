//! Register messages, headers and rows as bytes.
//!
//! Keys and contents of rows are copied out of the message that they came in: they are remembered one by one, and each
//! would keep the whole frame in memory.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use prost::Message;
use souk_kv_core::register::{
    AcceptReply, AcceptRequest, AcceptorHeader, Ballot, Base, Cell, Delta, GroupImage, GroupSize,
    PrepareRequest, PromiseReply, ReadReply, ReadRequest, Report, Row, RowKey, RowRange,
    RowSelection, Rows, Version,
};
use souk_ring::LayoutEpoch;

use super::{DecodeError, causality::value_from_wire};
use crate::{kv, peer, store};

const ROW: &str = "register row";
const HEADER: &str = "acceptor header";
const REPLY: &str = "acceptor's reply";

/// Encodes an acceptor's header for disk.
pub fn encode_header(header: &AcceptorHeader) -> Bytes {
    header_to_wire(header).encode_to_vec().into()
}

/// Decodes an acceptor's header.
///
/// # Errors
/// [`DecodeError`] when the bytes are none.
pub fn decode_header(bytes: Bytes) -> Result<AcceptorHeader, DecodeError> {
    let wire = store::AcceptorHeader::decode(bytes)
        .map_err(|cause| DecodeError::malformed(HEADER, cause))?;
    Ok(header_from_wire(&wire))
}

/// Encodes a row for disk; its key is the storage key's business.
pub fn encode_row(row: &Row) -> Bytes {
    row_to_wire(row).encode_to_vec().into()
}

/// Decodes a row.
///
/// # Errors
/// [`DecodeError`] when the bytes are none.
pub fn decode_row(bytes: Bytes) -> Result<Row, DecodeError> {
    row_from_wire(store::Row::decode(bytes).map_err(|cause| DecodeError::malformed(ROW, cause))?)
}

/// A header as a message.
pub fn header_to_wire(header: &AcceptorHeader) -> store::AcceptorHeader {
    store::AcceptorHeader {
        promised: Some(ballot_to_wire(header.promised)),
        accepted: Some(ballot_to_wire(header.accepted)),
        chosen: Some(ballot_to_wire(header.chosen)),
        epoch: header.epoch.0,
        rows: header.size.rows,
        bytes: header.size.bytes,
    }
}

/// A header from a message.
pub fn header_from_wire(wire: &store::AcceptorHeader) -> AcceptorHeader {
    AcceptorHeader {
        promised: ballot_or_zero(wire.promised.as_ref()),
        accepted: ballot_or_zero(wire.accepted.as_ref()),
        chosen: ballot_or_zero(wire.chosen.as_ref()),
        epoch: LayoutEpoch(wire.epoch),
        size: GroupSize {
            rows: wire.rows,
            bytes: wire.bytes,
        },
    }
}

/// A prepare for a peer.
pub fn prepare_to_wire(group: peer::Group, request: &PrepareRequest) -> peer::Prepare {
    peer::Prepare {
        group: Some(group),
        epoch: request.epoch.0,
        ballot: Some(ballot_to_wire(request.ballot)),
        rows: Some(selection_to_wire(&request.rows)),
    }
}

/// A prepare from a peer.
///
/// # Errors
/// [`DecodeError`] when a row key is none.
pub fn prepare_from_wire(wire: peer::Prepare) -> Result<PrepareRequest, DecodeError> {
    Ok(PrepareRequest {
        epoch: LayoutEpoch(wire.epoch),
        ballot: ballot_or_zero(wire.ballot.as_ref()),
        rows: Arc::new(selection_from_wire(wire.rows.unwrap_or_default())?),
    })
}

/// The answer to a prepare.
pub fn promise_to_wire(reply: &PromiseReply) -> peer::PrepareReply {
    use peer::prepare_reply::Result;
    let result = match reply {
        PromiseReply::Promised { ballot, report } => Result::Promised(peer::Promised {
            ballot: Some(ballot_to_wire(*ballot)),
            report: Some(report_to_wire(report)),
        }),
        PromiseReply::Refused { ballot, promised } => Result::Refused(peer::Refused {
            ballot: Some(ballot_to_wire(*ballot)),
            promised: Some(ballot_to_wire(*promised)),
        }),
        PromiseReply::WrongEpoch { current } => {
            Result::WrongEpoch(peer::WrongEpoch { current: current.0 })
        }
    };
    peer::PrepareReply {
        result: Some(result),
    }
}

/// A peer's answer to a prepare.
///
/// # Errors
/// [`DecodeError`] when it is none.
pub fn promise_from_wire(wire: peer::PrepareReply) -> Result<PromiseReply, DecodeError> {
    use peer::prepare_reply::Result as Wire;
    match wire.result {
        Some(Wire::Promised(promised)) => Ok(PromiseReply::Promised {
            ballot: ballot_or_zero(promised.ballot.as_ref()),
            report: report_from_wire(promised.report.unwrap_or_default())?,
        }),
        Some(Wire::Refused(refused)) => Ok(PromiseReply::Refused {
            ballot: ballot_or_zero(refused.ballot.as_ref()),
            promised: ballot_or_zero(refused.promised.as_ref()),
        }),
        Some(Wire::WrongEpoch(wrong)) => Ok(PromiseReply::WrongEpoch {
            current: LayoutEpoch(wrong.current),
        }),
        None => Err(DecodeError::field(REPLY, "result", "is missing")),
    }
}

/// An accept for a peer.
pub fn accept_to_wire(group: peer::Group, request: &AcceptRequest) -> peer::Accept {
    peer::Accept {
        group: Some(group),
        epoch: request.epoch.0,
        ballot: Some(ballot_to_wire(request.ballot)),
        base: base_to_wire(request.base),
        delta: delta_to_wire(&request.delta),
        fresh: fresh_to_wire(request),
        next_promise: request.next_promise.map(ballot_to_wire),
        chosen: Some(ballot_to_wire(request.chosen)),
    }
}

/// An accept from a peer.
///
/// # Errors
/// [`DecodeError`] when a row is none, or a place lies outside the change.
pub fn accept_from_wire(wire: peer::Accept) -> Result<AcceptRequest, DecodeError> {
    let fresh = fresh_from_wire(&wire.fresh, &wire.delta)?;
    Ok(AcceptRequest {
        epoch: LayoutEpoch(wire.epoch),
        ballot: ballot_or_zero(wire.ballot.as_ref()),
        base: base_from_wire(wire.base.as_ref()),
        delta: Arc::new(delta_from_wire(wire.delta)?),
        fresh: Arc::new(fresh),
        next_promise: wire.next_promise.as_ref().map(ballot_from_wire),
        chosen: ballot_or_zero(wire.chosen.as_ref()),
    })
}

/// The answer to an accept.
pub fn accept_reply_to_wire(reply: &AcceptReply) -> peer::AcceptReply {
    use peer::accept_reply::Result;
    let result = match reply {
        AcceptReply::Accepted { ballot, promised } => Result::Accepted(peer::Accepted {
            ballot: Some(ballot_to_wire(*ballot)),
            promised: Some(ballot_to_wire(*promised)),
        }),
        AcceptReply::NeedFull { ballot, accepted } => Result::NeedFull(peer::NeedFull {
            ballot: Some(ballot_to_wire(*ballot)),
            accepted: Some(ballot_to_wire(*accepted)),
        }),
        AcceptReply::Refused { ballot, promised } => Result::Refused(peer::Refused {
            ballot: Some(ballot_to_wire(*ballot)),
            promised: Some(ballot_to_wire(*promised)),
        }),
        AcceptReply::WrongEpoch { current } => {
            Result::WrongEpoch(peer::WrongEpoch { current: current.0 })
        }
    };
    peer::AcceptReply {
        result: Some(result),
    }
}

/// A peer's answer to an accept.
///
/// # Errors
/// [`DecodeError`] when it is none.
pub fn accept_reply_from_wire(wire: peer::AcceptReply) -> Result<AcceptReply, DecodeError> {
    use peer::accept_reply::Result as Wire;
    match wire.result {
        Some(Wire::Accepted(accepted)) => Ok(AcceptReply::Accepted {
            ballot: ballot_or_zero(accepted.ballot.as_ref()),
            promised: ballot_or_zero(accepted.promised.as_ref()),
        }),
        Some(Wire::NeedFull(need)) => Ok(AcceptReply::NeedFull {
            ballot: ballot_or_zero(need.ballot.as_ref()),
            accepted: ballot_or_zero(need.accepted.as_ref()),
        }),
        Some(Wire::Refused(refused)) => Ok(AcceptReply::Refused {
            ballot: ballot_or_zero(refused.ballot.as_ref()),
            promised: ballot_or_zero(refused.promised.as_ref()),
        }),
        Some(Wire::WrongEpoch(wrong)) => Ok(AcceptReply::WrongEpoch {
            current: LayoutEpoch(wrong.current),
        }),
        None => Err(DecodeError::field(REPLY, "result", "is missing")),
    }
}

/// A read for a peer.
pub fn read_to_wire(group: peer::Group, request: &ReadRequest) -> peer::ReadGroup {
    peer::ReadGroup {
        group: Some(group),
        epoch: request.epoch.0,
        rows: Some(selection_to_wire(&request.rows)),
    }
}

/// A read from a peer.
///
/// # Errors
/// [`DecodeError`] when a row key is none.
pub fn read_from_wire(wire: peer::ReadGroup) -> Result<ReadRequest, DecodeError> {
    Ok(ReadRequest {
        epoch: LayoutEpoch(wire.epoch),
        rows: Arc::new(selection_from_wire(wire.rows.unwrap_or_default())?),
    })
}

/// The answer to a read.
pub fn read_reply_to_wire(reply: &ReadReply) -> peer::ReadGroupReply {
    use peer::read_group_reply::Result;
    let result = match reply {
        ReadReply::Report(report) => Result::Report(report_to_wire(report)),
        ReadReply::WrongEpoch { current } => {
            Result::WrongEpoch(peer::WrongEpoch { current: current.0 })
        }
    };
    peer::ReadGroupReply {
        result: Some(result),
    }
}

/// A peer's answer to a read.
///
/// # Errors
/// [`DecodeError`] when it is none.
pub fn read_reply_from_wire(wire: peer::ReadGroupReply) -> Result<ReadReply, DecodeError> {
    use peer::read_group_reply::Result as Wire;
    match wire.result {
        Some(Wire::Report(report)) => Ok(ReadReply::Report(report_from_wire(report)?)),
        Some(Wire::WrongEpoch(wrong)) => Ok(ReadReply::WrongEpoch {
            current: LayoutEpoch(wrong.current),
        }),
        None => Err(DecodeError::field(REPLY, "result", "is missing")),
    }
}

/// The state of a group as a message.
pub fn image_to_wire(image: &GroupImage) -> peer::FetchGroupReply {
    peer::FetchGroupReply {
        accepted: Some(ballot_to_wire(image.accepted)),
        base: base_to_wire(image.base),
        delta: delta_to_wire(&image.delta),
    }
}

/// The state of a group from a peer.
///
/// # Errors
/// [`DecodeError`] when a row is none.
pub fn image_from_wire(wire: peer::FetchGroupReply) -> Result<GroupImage, DecodeError> {
    Ok(GroupImage {
        accepted: ballot_or_zero(wire.accepted.as_ref()),
        base: base_from_wire(wire.base.as_ref()),
        delta: delta_from_wire(wire.delta)?,
    })
}

/// Rows as a message.
pub fn rows_to_wire(rows: &Rows) -> Vec<store::KeyedRow> {
    let keyed = |(key, row): (&RowKey, &Row)| store::KeyedRow {
        key: key.as_bytes().clone(),
        row: Some(row_to_wire(row)),
    };
    rows.iter().map(keyed).collect()
}

/// Rows from a peer.
///
/// # Errors
/// [`DecodeError`] when one is none.
pub fn rows_from_wire(wire: Vec<store::KeyedRow>) -> Result<Rows, DecodeError> {
    let keyed = |keyed: store::KeyedRow| {
        let row = keyed
            .row
            .ok_or_else(|| DecodeError::field(REPLY, "row", "is missing"))?;
        Ok((key_from_wire(keyed.key)?, row_from_wire(row)?))
    };
    wire.into_iter().map(keyed).collect()
}

/// A ballot as a message.
pub fn ballot_to_wire(ballot: Ballot) -> store::Ballot {
    store::Ballot {
        counter: ballot.counter,
        proposer: ballot.proposer,
    }
}

/// A ballot from a message.
pub fn ballot_from_wire(wire: &store::Ballot) -> Ballot {
    Ballot {
        counter: wire.counter,
        proposer: wire.proposer,
    }
}

/// A row's content as clients see it.
pub fn cell_to_wire(cell: &Cell) -> kv::Value {
    kv::Value {
        content_type: cell.content_type.as_str().to_owned(),
        data: cell.bytes.clone(),
    }
}

/// A row's content as clients send it.
///
/// # Errors
/// [`DecodeError`] when the content type is none.
pub fn cell_from_wire(wire: kv::Value) -> Result<Cell, DecodeError> {
    let value = value_from_wire(wire)?;
    Ok(Cell {
        content_type: value.content_type,
        bytes: Bytes::copy_from_slice(&value.bytes),
    })
}

fn ballot_or_zero(wire: Option<&store::Ballot>) -> Ballot {
    wire.map_or(Ballot::ZERO, ballot_from_wire)
}

fn base_to_wire(base: Base) -> Option<store::Ballot> {
    match base {
        Base::On(ballot) => Some(ballot_to_wire(ballot)),
        Base::Whole => None,
    }
}

fn base_from_wire(wire: Option<&store::Ballot>) -> Base {
    wire.map_or(Base::Whole, |ballot| Base::On(ballot_from_wire(ballot)))
}

fn row_to_wire(row: &Row) -> store::Row {
    store::Row {
        version: Some(store::RowVersion {
            counter: row.version.counter,
            proposer: row.version.proposer,
            index: row.version.index,
        }),
        cell: row.cell.as_ref().map(cell_to_wire),
        written_unix_ms: row.written_unix_ms,
    }
}

fn row_from_wire(wire: store::Row) -> Result<Row, DecodeError> {
    let version = wire
        .version
        .ok_or_else(|| DecodeError::field(ROW, "version", "is missing"))?;
    Ok(Row {
        version: Version {
            counter: version.counter,
            proposer: version.proposer,
            index: version.index,
        },
        cell: wire.cell.map(cell_from_wire).transpose()?,
        written_unix_ms: wire.written_unix_ms,
    })
}

fn key_from_wire(key: Bytes) -> Result<RowKey, DecodeError> {
    RowKey::from_bytes(Bytes::copy_from_slice(&key))
        .map_err(|cause| DecodeError::field(ROW, "key", cause))
}

fn delta_to_wire(delta: &Delta) -> Vec<store::KeyedRow> {
    let keyed = |(key, row): (&RowKey, &Option<Row>)| store::KeyedRow {
        key: key.as_bytes().clone(),
        row: row.as_ref().map(row_to_wire),
    };
    delta.rows.iter().map(keyed).collect()
}

fn delta_from_wire(wire: Vec<store::KeyedRow>) -> Result<Delta, DecodeError> {
    let keyed = |keyed: store::KeyedRow| {
        Ok((
            key_from_wire(keyed.key)?,
            keyed.row.map(row_from_wire).transpose()?,
        ))
    };
    Ok(Delta {
        rows: wire
            .into_iter()
            .map(keyed)
            .collect::<Result<_, DecodeError>>()?,
    })
}

/// Places in the change, which is in key order on both sides.
fn fresh_to_wire(request: &AcceptRequest) -> Vec<u32> {
    let keys = (0..).zip(request.delta.rows.keys());
    keys.filter(|(_, key)| request.fresh.contains(*key))
        .map(|(place, _)| place)
        .collect()
}

fn fresh_from_wire(
    places: &[u32],
    delta: &[store::KeyedRow],
) -> Result<BTreeSet<RowKey>, DecodeError> {
    let key = |place: &u32| {
        let keyed = delta.get(*place as usize).ok_or_else(|| {
            DecodeError::field(
                "accept",
                "fresh",
                "names a row that the change does not have",
            )
        })?;
        key_from_wire(keyed.key.clone())
    };
    places.iter().map(key).collect()
}

fn report_to_wire(report: &Report) -> peer::Report {
    peer::Report {
        accepted: Some(ballot_to_wire(report.accepted)),
        chosen: Some(ballot_to_wire(report.chosen)),
        size_rows: report.size.rows,
        size_bytes: report.size.bytes,
        rows: rows_to_wire(&report.rows),
    }
}

fn report_from_wire(wire: peer::Report) -> Result<Report, DecodeError> {
    let rows = rows_from_wire(wire.rows)?;
    Ok(Report {
        accepted: ballot_or_zero(wire.accepted.as_ref()),
        chosen: ballot_or_zero(wire.chosen.as_ref()),
        size: GroupSize {
            rows: wire.size_rows,
            bytes: wire.size_bytes,
        },
        rows,
    })
}

fn selection_to_wire(selection: &RowSelection) -> peer::RowSelection {
    peer::RowSelection {
        keys: selection
            .keys
            .iter()
            .map(|key| key.as_bytes().clone())
            .collect(),
        range: selection.range.as_ref().map(|range| peer::RowRange {
            from: range.from.as_bytes().clone(),
            to: range.to.as_ref().map(|key| key.as_bytes().clone()),
            rows_max: range.rows_max,
            reverse: range.reverse,
        }),
    }
}

fn selection_from_wire(wire: peer::RowSelection) -> Result<RowSelection, DecodeError> {
    let keys: BTreeSet<RowKey> = wire
        .keys
        .into_iter()
        .map(key_from_wire)
        .collect::<Result<_, _>>()?;
    let range = wire.range.map(range_from_wire).transpose()?;
    Ok(RowSelection { keys, range })
}

fn range_from_wire(wire: peer::RowRange) -> Result<RowRange, DecodeError> {
    Ok(RowRange {
        from: key_from_wire(wire.from)?,
        to: wire.to.map(key_from_wire).transpose()?,
        rows_max: wire.rows_max,
        reverse: wire.reverse,
    })
}

#[cfg(test)]
mod tests {
    use souk_kv_core::causality::ContentType;

    use super::*;

    fn row(index: u32, cell: Option<&'static str>) -> Row {
        Row {
            version: Version {
                counter: 1_700_000_000_000,
                proposer: u64::MAX,
                index,
            },
            cell: cell.map(|text| Cell {
                content_type: ContentType::json(),
                bytes: Bytes::from_static(text.as_bytes()),
            }),
            written_unix_ms: 1_700_000_000_001,
        }
    }

    fn ballot(counter: u64) -> Ballot {
        Ballot {
            counter,
            proposer: 7,
        }
    }

    #[test]
    fn headers_and_rows_survive_the_disk() {
        let header = AcceptorHeader {
            promised: ballot(9),
            accepted: ballot(8),
            chosen: Ballot::ZERO,
            epoch: LayoutEpoch(3),
            size: GroupSize { rows: 2, bytes: 99 },
        };
        assert_eq!(decode_header(encode_header(&header)), Ok(header));
        for row in [row(0, Some("{}")), row(1, None)] {
            assert_eq!(decode_row(encode_row(&row)), Ok(row));
        }
        let error = decode_row(Bytes::new()).expect_err("a row has a version");
        assert_eq!(error.to_string(), "version of register row is missing");
    }

    #[test]
    fn accepts_survive_the_wire() {
        let delta = Delta {
            rows: [
                (RowKey::user(b"a"), Some(row(0, Some("1")))),
                (RowKey::user(b"b"), None),
            ]
            .into(),
        };
        for base in [Base::On(ballot(4)), Base::On(Ballot::ZERO), Base::Whole] {
            for next_promise in [None, Some(ballot(6))] {
                let request = AcceptRequest {
                    epoch: LayoutEpoch(1),
                    ballot: ballot(5),
                    base,
                    delta: Arc::new(delta.clone()),
                    fresh: Arc::new([RowKey::user(b"b")].into()),
                    next_promise,
                    chosen: ballot(3),
                };
                let wire = accept_to_wire(peer::Group::default(), &request);
                let decoded = peer::Accept::decode(wire.encode_to_vec().as_slice())
                    .expect("it was encoded by us");
                assert_eq!(accept_from_wire(decoded), Ok(request));
            }
        }
    }

    #[test]
    fn a_place_outside_the_change_is_refused() {
        let wire = peer::Accept {
            fresh: vec![0],
            ..peer::Accept::default()
        };
        accept_from_wire(wire).expect_err("there is no row 0");
    }

    #[test]
    fn a_row_key_of_no_kind_is_refused() {
        let wire = peer::RowSelection {
            keys: vec![Bytes::from_static(&[9, 9])],
            range: None,
        };
        selection_from_wire(wire).expect_err("kind 9 is not known");
    }
}

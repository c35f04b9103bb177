use proptest::prelude::*;
use prost::Message;
use souk_kv_core::causality::{
    ActorId, CausalContext, Dot, Mint, NewWrite, RequestId, Sibling, Stamp,
};

use super::*;
use crate::store;

/// A record that a history of puts made: contexts, siblings, tombstones, remembered requests.
fn record_of(steps: &[(u8, bool, Option<Vec<u8>>)]) -> Record {
    let mut record = Record::default();
    for (index, (actor, observed, value)) in steps.iter().enumerate() {
        let counter = index as u64 + 1;
        let observed = if *observed {
            Observed::whole(&record)
        } else {
            Observed::default()
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
            stamp: Stamp::next(counter, record.stamp_floor(observed.context())),
            expires_unix_ms: counter.is_multiple_of(2).then_some(counter),
            value: value
                .clone()
                .map(|bytes| Value::new(ContentType::json(), bytes.into())),
        };
        record
            .put(MergeMode::Siblings, &observed, dot, mint, write, counter)
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
        let observed = Observed::whole(&record);
        prop_assert_eq!(decode_observed(&encode_observed(&observed)).ok(), Some(observed.clone()));
        let dots_alone = Observed::from(record.context().clone());
        prop_assert_eq!(decode_observed(&encode_observed(&dots_alone)).ok(), Some(dots_alone));
        let named = observed.requests().len();
        prop_assert_eq!(named, record.siblings().len(), "every request is named once");
    }

    #[test]
    fn any_bytes_give_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        // The point is that it returns.
        let bytes = Bytes::from(bytes);
        if let Ok((record, mode)) = decode_record(bytes.clone()) {
            prop_assert_eq!(decode_record(encode_record(&record, mode)).ok(), Some((record, mode)));
        }
        if let Ok(observed) = decode_observed(&bytes) {
            prop_assert_eq!(decode_observed(&encode_observed(&observed)).ok(), Some(observed));
        }
    }

    #[test]
    fn a_damaged_record_is_another_record_or_an_error(
        steps in prop::collection::vec((0u8..3, any::<bool>(), any::<Option<Vec<u8>>>()), 1..8),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let good = encode_record(&record_of(&steps), MergeMode::Siblings);
        let mut bytes = good.to_vec();
        let at = at.index(bytes.len());
        prop_assert!(decode_record(good.slice(..at)).is_err() || at == 0);
        bytes[at] ^= flip;
        if let Ok((record, mode)) = decode_record(bytes.into()) {
            prop_assert_eq!(decode_record(encode_record(&record, mode)).ok(), Some((record, mode)));
        }
    }

    #[test]
    fn what_the_first_version_wrote_is_read(
        steps in prop::collection::vec((0u8..3, any::<bool>(), any::<Option<Vec<u8>>>()), 1..12),
        lww in any::<bool>(),
    ) {
        let mode = if lww { MergeMode::LastWriterWins } else { MergeMode::Siblings };
        let record = record_of(&steps);
        let old = first_record(&record, mode).encode_to_vec();
        prop_assert_eq!(decode_record(old.into()).ok(), Some((record.clone(), mode)));
        let old = first_context(record.context()).encode_to_vec();
        prop_assert_eq!(decode_observed(&old).ok(), Some(record.context().clone().into()));
    }
}

/// As the first version wrote records.
fn first_record(record: &Record, mode: MergeMode) -> store::Record {
    let superseded = record.superseded().entries().iter();
    store::Record {
        context: Some(first_context(record.context())),
        siblings: record.siblings().iter().map(first_sibling).collect(),
        superseded: superseded
            .map(|entry| store::Superseded {
                request: Some(first_request(&entry.request)),
                dot: Some(first_dot(entry.dot)),
                at_unix_ms: entry.superseded_unix_ms,
            })
            .collect(),
        last_writer_wins: mode == MergeMode::LastWriterWins,
    }
}

fn first_context(context: &CausalContext) -> store::Context {
    let vector = context.vector();
    store::Context {
        vector: vector
            .map(|(actor, counter)| first_dot(Dot { actor, counter }))
            .collect(),
        loose: context.loose().iter().copied().map(first_dot).collect(),
        newest_stamp: context.newest_stamp().to_bits(),
    }
}

fn first_sibling(sibling: &Sibling) -> store::Sibling {
    store::Sibling {
        dot: Some(first_dot(sibling.dot)),
        stamp: sibling.stamp.to_bits(),
        request: Some(first_request(&sibling.request)),
        expires_unix_ms: sibling.expires_unix_ms,
        value: sibling.value.as_ref().map(value_to_wire),
    }
}

fn first_request(request: &RequestId) -> store::RequestName {
    store::RequestName {
        client: Bytes::copy_from_slice(&request.client),
        sequence: request.sequence,
    }
}

fn first_dot(dot: Dot) -> store::Dot {
    store::Dot {
        actor: Bytes::copy_from_slice(dot.actor.as_bytes()),
        counter: dot.counter,
    }
}

#[test]
fn a_long_memory_takes_little_room() {
    let steps: Vec<_> = (0..80).map(|_| (1, true, Some(vec![0; 256]))).collect();
    let record = record_of(&steps);
    let compact = encode_record(&record, MergeMode::Siblings).len();
    let first = first_record(&record, MergeMode::Siblings).encoded_len();
    assert!(compact * 4 < first, "{compact} bytes, formerly {first}");
}

#[test]
fn the_empty_context_is_no_bytes() {
    assert!(encode_observed(&Observed::default()).is_empty());
    assert!(
        decode_observed(&[])
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
    let error = decode_observed(&wire.encode_to_vec()).expect_err("actors have 16 bytes");
    assert_eq!(error.to_string(), "actor of dot has 5 bytes instead of 16");
}

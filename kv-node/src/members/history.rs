//! Which layouts this node has adopted, and what each of them changed: for people who look back.
//!
//! Place: I/O; written together with the layout, read by the API for operators. Every node keeps its own: one that was
//! away sees several changes as one.
//! Invariants: 1. a deed is on disk when its layout is. 2. the newest [`DEEDS_MAX`] are kept.

use std::collections::BTreeSet;

use prost::Message;
use souk_kv_proto::store::LayoutDeed;
use souk_kv_storage::{Keyspace, Scan, StorageError, Store, WriteBatch};
use souk_ring::{Layout, LayoutEpoch, MovePlan, NodeId, Standing};
use tracing::warn;

use crate::{cluster::name_of, keys};

/// Layouts remembered.
const DEEDS_MAX: u64 = 200;

/// Adds to the batch that makes `newer` durable.
pub(super) fn note(batch: &mut WriteBatch, older: &Layout, newer: &Layout, now_unix_ms: u64) {
    let epoch = newer.epoch().0;
    let deed = LayoutDeed {
        epoch,
        adopted_unix_ms: now_unix_ms,
        what: changes(older, newer),
        changes_applied: newer.changes_applied(),
    };
    batch.put(
        Keyspace::Meta,
        keys::meta_layout_deed(epoch),
        deed.encode_to_vec(),
    );
    if let Some(old) = epoch.checked_sub(DEEDS_MAX) {
        batch.delete(Keyspace::Meta, keys::meta_layout_deed(old));
    }
}

/// The newest first.
pub(crate) fn deeds(store: &Store) -> Result<Vec<LayoutDeed>, StorageError> {
    let page = store.scan(&Scan::prefix(Keyspace::Meta, keys::META_LAYOUT_DEEDS))?;
    let mut deeds = Vec::with_capacity(page.rows.len());
    for row in page.rows {
        match row.value.map(LayoutDeed::decode) {
            Ok(Ok(deed)) => deeds.push(deed),
            // It is for people only.
            Ok(Err(cause)) => warn!(%cause, "a line of the layout's history is damaged"),
            Err(cause) => warn!(%cause, "a line of the layout's history cannot be read"),
        }
    }
    deeds.reverse();
    Ok(deeds)
}

/// What is different, in words.
pub(crate) fn changes(older: &Layout, newer: &Layout) -> Vec<String> {
    let mut what = Vec::new();
    let name = |id: NodeId| name_of(newer.member(id).map_or(older, |_| newer), id);
    let ids: BTreeSet<NodeId> = older
        .members()
        .keys()
        .chain(newer.members().keys())
        .copied()
        .collect();
    for id in ids {
        match (older.member(id), newer.member(id)) {
            (None, Some(_)) => what.push(format!("{} joins", name(id))),
            (Some(_), None) => what.push(format!("{} has left", name(id))),
            (Some(before), Some(after)) => {
                if before.weight != after.weight {
                    let (before, after) = (before.weight.get(), after.weight.get());
                    what.push(format!("weight of {}: {before} to {after}", name(id)));
                }
                if before.zone != after.zone {
                    let (before, after) = (&before.zone, &after.zone);
                    what.push(format!("zone of {}: {before} to {after}", name(id)));
                }
                if before.store.is_some() && before.store != after.store {
                    what.push(format!("{} came back with a new store", name(id)));
                }
                if before.standing != after.standing {
                    what.push(match after.standing {
                        Standing::Full => format!("{} has learnt and counts again", name(id)),
                        Standing::Learner => format!("{} learns", name(id)),
                        Standing::Heir => format!("{} learns from the survivors", name(id)),
                    });
                }
                if newer.is_leaving(id) && !older.is_leaving(id) {
                    what.push(format!("{} leaves", name(id)));
                }
            }
            (None, None) => {}
        }
    }
    match (older.moving_since(), newer.moving_since()) {
        (None, Some(_)) => what.push("copies begin to move".to_owned()),
        (Some(_), None) => {
            let moved = MovePlan::between(older, newer).map_or(0, |plan| plan.gains_count());
            what.push(match moved {
                0 => "the move was called off".to_owned(),
                moved => format!("the move has settled: {moved} copies have new owners"),
            });
        }
        _ => {}
    }
    if what.is_empty() && newer.epoch() == LayoutEpoch(1) {
        what.push("the cluster was founded".to_owned());
    } else if what.is_empty() {
        what.push("a fence: requests of earlier epochs can no longer complete".to_owned());
    }
    what
}

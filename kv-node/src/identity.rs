//! Who this node is, for good: its cluster, its name, its store, and the first layout.
//!
//! A node writes its genesis down before it listens and tells it in every greeting; how the founders then agree is
//! told in `crate::members`. A store that may have lost anything that others rely on becomes another store here.
//!
//! Place: start-up; afterwards `crate::members` keeps the identity.
//! Invariants: 1. the identity is written before anything else. 2. a different `cluster.toml` or another node's
//! directory never gets past start-up. 3. a store that may have lost votes never uses its old name again.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use souk_kv_proto::{
    convert::layout::{decode_vote, layout_from_wire, layout_to_wire},
    kv,
    store::StoreIdentity,
};
use souk_kv_storage::{Keyspace, Recovery, StorageError, Store, WriteBatch};
use souk_ring::{Layout, LayoutEpoch, Member, MemberSpec, NodeId, StoreId};
use tracing::error;

use crate::{clock::Environment, keys};

/// Why a node cannot start on this data directory.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// What: `cluster.toml` names other members, zones, weights, partitions or copies than at the first start.
    #[error(
        "cluster.toml describes another first layout than the one this data was made with (digest {found:016x}, stored {stored:016x}). Members, zones, weights, partitions_count and replicas_n are fixed at the first start: put the file back as it was; later changes go through `souk admin layout`, not through this file"
    )]
    OtherLayout {
        /// What the file gives.
        found: u64,
        /// What is stored.
        stored: u64,
    },
    /// What: the directory belongs to another node.
    #[error(
        "this data directory belongs to node `{stored}`, not to `{asked}`: point --data at the directory of `{asked}`, or start `{stored}`"
    )]
    OtherNode {
        /// Whose it is.
        stored: String,
        /// Who asked.
        asked: String,
    },
    /// What: the directory belongs to another cluster.
    #[error(
        "this data directory belongs to cluster `{stored}`, cluster.toml says `{asked}`: use the right file, or an empty directory"
    )]
    OtherCluster {
        /// Whose it is.
        stored: String,
        /// What the file says.
        asked: String,
    },
    /// What: `cluster.toml` has no such node.
    #[error(
        "cluster.toml has no node `{name}`, it names {known}: add it to the file before the cluster's first start, or choose one of these with --name"
    )]
    NotAMember {
        /// Who asked.
        name: String,
        /// Who is there.
        known: String,
    },
    /// What: the node was a member and has left; its store may hold what was deleted since.
    #[error(
        "node `{name}` has left the cluster with layout {epoch}: to come back it has to join again with an empty data directory, so move this one away"
    )]
    Left {
        /// Whose store it is.
        name: String,
        /// The layout without it.
        epoch: LayoutEpoch,
    },
    /// What: the stored identity cannot be read.
    #[error(
        "{what} in the data directory is damaged ({cause}): move the directory away and let the node come back empty, its peers hold the data"
    )]
    Damaged {
        /// Which record.
        what: &'static str,
        /// What was seen.
        cause: String,
    },
    /// The disk refused or failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What the store says of its node.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    pub(crate) stored: StoreIdentity,
}

impl Identity {
    /// Reads the identity and the layout, or founds them from the first layout that `cluster.toml` gives.
    pub(crate) async fn open(
        store: &Store,
        genesis: &Layout,
        name: &str,
        environment: &Environment,
    ) -> Result<(Self, Arc<Layout>), IdentityError> {
        let stored = store.get(Keyspace::Meta, keys::META_IDENTITY)?;
        let (identity, layout) = match stored {
            Some(bytes) => {
                let identity =
                    StoreIdentity::decode(bytes).map_err(|cause| IdentityError::Damaged {
                        what: "the identity",
                        cause: cause.to_string(),
                    })?;
                check(&identity, genesis, name)?;
                let identity = rename_if_lost(store, identity, environment).await?;
                (identity, read_layout(store, genesis)?)
            }
            None => {
                let identity = StoreIdentity {
                    cluster_id: genesis.cluster_id().to_string(),
                    node_name: name.to_owned(),
                    store_id: Bytes::copy_from_slice(&environment.random_id()),
                    genesis_hash: genesis.genesis_hash(),
                    genesis_agreed: false,
                    named: false,
                };
                let mut batch = WriteBatch::new();
                batch.put(
                    Keyspace::Meta,
                    keys::META_IDENTITY,
                    identity.encode_to_vec(),
                );
                batch.put(
                    Keyspace::Meta,
                    keys::META_LAYOUT,
                    layout_to_wire(genesis).encode_to_vec(),
                );
                store.commit(batch).await?;
                (identity, genesis.clone())
            }
        };
        let node = layout
            .member_named(name)
            .map(|member| member.id)
            .ok_or_else(|| {
                if identity.named {
                    return IdentityError::Left {
                        name: name.to_owned(),
                        epoch: layout.epoch(),
                    };
                }
                let names: Vec<&str> = layout
                    .members()
                    .values()
                    .map(|member| member.name.as_str())
                    .collect();
                IdentityError::NotAMember {
                    name: name.to_owned(),
                    known: names.join(", "),
                }
            })?;
        let identity = Self {
            node,
            stored: identity,
        };
        Ok((identity, Arc::new(layout)))
    }
}

/// The store that an identity names.
pub(crate) fn store_of(identity: &StoreIdentity) -> StoreId {
    // What is no id names nobody: the layout will not have it, and it is made anew.
    StoreId(identity.store_id.as_ref().try_into().unwrap_or_default())
}

/// A store that may have lost votes is another store from here on: under its old name it could break
/// promises that it has forgotten.
async fn rename_if_lost(
    store: &Store,
    identity: StoreIdentity,
    environment: &Environment,
) -> Result<StoreIdentity, IdentityError> {
    let Some(why) = why_lost(store)? else {
        return Ok(identity);
    };
    error!(
        why,
        "this store may have lost votes: it takes a new identity, and learns what it may have lost"
    );
    let renamed = StoreIdentity {
        store_id: Bytes::copy_from_slice(&environment.random_id()),
        named: false,
        ..identity
    };
    let mut batch = WriteBatch::new();
    batch.put(Keyspace::Meta, keys::META_IDENTITY, renamed.encode_to_vec());
    batch.delete(Keyspace::Meta, keys::META_VOTES_LOST);
    batch.delete(Keyspace::Meta, keys::META_LAYOUT_VOTE);
    store.commit(batch.using_reserve()).await?;
    Ok(renamed)
}

fn why_lost(store: &Store) -> Result<Option<String>, StorageError> {
    if let Recovery::Suspect { why } = store.recovery() {
        return Ok(Some(why.clone()));
    }
    // Written by versions that had no way back from it.
    if let Some(why) = store.get(Keyspace::Meta, keys::META_VOTES_LOST)? {
        return Ok(Some(String::from_utf8_lossy(&why).into_owned()));
    }
    let is_damaged = match store.get(Keyspace::Meta, keys::META_LAYOUT_VOTE) {
        Ok(vote) => vote.is_some_and(|bytes| decode_vote(bytes).is_err()),
        Err(StorageError::Corrupt { .. }) => true,
        Err(cause) => return Err(cause),
    };
    Ok(is_damaged.then(|| "its vote on the next layout is damaged".to_owned()))
}

fn check(identity: &StoreIdentity, genesis: &Layout, name: &str) -> Result<(), IdentityError> {
    if identity.cluster_id != genesis.cluster_id().as_str() {
        return Err(IdentityError::OtherCluster {
            stored: identity.cluster_id.clone(),
            asked: genesis.cluster_id().to_string(),
        });
    }
    if identity.node_name != name {
        return Err(IdentityError::OtherNode {
            stored: identity.node_name.clone(),
            asked: name.to_owned(),
        });
    }
    if identity.genesis_hash != genesis.genesis_hash() {
        return Err(IdentityError::OtherLayout {
            found: genesis.genesis_hash(),
            stored: identity.genesis_hash,
        });
    }
    Ok(())
}

/// The stored layout rules; only the addresses follow the file, so that a node may move.
fn read_layout(store: &Store, genesis: &Layout) -> Result<Layout, IdentityError> {
    let damaged = |cause: String| IdentityError::Damaged {
        what: "the layout",
        cause,
    };
    let bytes = store
        .get(Keyspace::Meta, keys::META_LAYOUT)?
        .ok_or_else(|| damaged("it is missing".to_owned()))?;
    let wire = kv::Layout::decode(bytes).map_err(|cause| damaged(cause.to_string()))?;
    let layout = layout_from_wire(wire).map_err(|cause| damaged(cause.to_string()))?;
    Ok(layout.with_addresses(&addresses_of(genesis)))
}

/// Where a layout says that its members are.
pub(crate) fn addresses_of(layout: &Layout) -> Vec<MemberSpec> {
    let spec = |member: &Member| MemberSpec {
        name: member.name.clone(),
        zone: member.zone.clone(),
        weight: member.weight,
        grpc_address: member.grpc_address.clone(),
        http_address: member.http_address.clone(),
    };
    layout.members().values().map(spec).collect()
}

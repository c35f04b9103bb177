//! Answers what other nodes ask: the replica's side of every protocol.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use metrics::counter;
use parking_lot::Mutex;
use souk_kv_proto::{
    convert::register::{
        accept_from_wire, accept_reply_to_wire, ballot_from_wire, header_to_wire, image_to_wire,
        prepare_from_wire, promise_to_wire, read_from_wire, read_reply_to_wire,
    },
    kv::{Error, ErrorCode, Outcome, SessionResponse},
    peer::{
        Done, HeartbeatReply, Hello, HelloReply, ReadHeaderReply, RecordReply, peer_message::Body,
    },
};
use souk_kv_storage::{Keyspace, Store, WriteBatch};
use souk_ring::NodeId;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use crate::{
    api::Requests,
    core::NodeCore,
    error::RequestError,
    governor::Job,
    keys,
    peer::{Lane, PeerHandler, Prompt, unexpected},
    register::group_from_wire,
};

/// The handler behind the peers' service.
#[derive(Debug)]
pub(crate) struct PeerAnswers {
    core: Arc<NodeCore>,
    requests: Requests,
    stores: Arc<KnownStores>,
}

impl PeerAnswers {
    pub(crate) fn new(core: Arc<NodeCore>, stores: Arc<KnownStores>) -> Self {
        Self {
            requests: Requests::new(Arc::clone(&core)),
            core,
            stores,
        }
    }

    async fn run(&self, body: Body) -> Result<Body, RequestError> {
        let core = &self.core;
        let epoch = core.cluster.layout().epoch();
        match body {
            Body::WriteRecord(write) => {
                core.records.merge(write.store_key, write.record).await?;
                Ok(Body::Done(Done {}))
            }
            Body::WriteRecords(write) => {
                core.records.merge_all(write.records).await?;
                Ok(Body::Done(Done {}))
            }
            Body::StoreHint(hint) => {
                core.hints
                    .keep(NodeId(hint.target), hint.store_key, hint.record)
                    .await?;
                Ok(Body::Done(Done {}))
            }
            Body::Prepare(prepare) => {
                let key = group_from_wire(prepare.group.clone())?;
                let request = prepare_from_wire(prepare).map_err(damaged)?;
                let reply = core.groups.prepare(&key, epoch, &request).await?;
                Ok(Body::PrepareReply(promise_to_wire(&reply)))
            }
            Body::Accept(accept) => {
                let key = group_from_wire(accept.group.clone())?;
                let request = accept_from_wire(accept).map_err(damaged)?;
                let reply = core.groups.accept(&key, epoch, &request).await?;
                Ok(Body::AcceptReply(accept_reply_to_wire(&reply)))
            }
            Body::ReadGroup(read) => {
                let key = group_from_wire(read.group.clone())?;
                let request = read_from_wire(read).map_err(damaged)?;
                let reply = core.groups.read(&key, epoch, &request).await?;
                Ok(Body::ReadGroupReply(read_reply_to_wire(&reply)))
            }
            Body::FetchGroup(fetch) => {
                let key = group_from_wire(fetch.group)?;
                let since = fetch.since.as_ref().map(ballot_from_wire);
                let image = core.groups.fetch(&key, epoch, since).await?;
                Ok(Body::FetchGroupReply(image_to_wire(&image)))
            }
            Body::ReadHeader(read) => {
                let key = group_from_wire(read.group)?;
                let header = core.groups.header(&key, epoch)?;
                Ok(Body::ReadHeaderReply(ReadHeaderReply {
                    header: Some(header_to_wire(&header)),
                }))
            }
            Body::ScanRecords(scan) => Ok(Body::ScanReply(core.records.scan_for(&scan)?)),
            Body::ReadRecord(read) => self.read_record(&read.store_key, read.with_hints),
            Body::Forward(forward) => {
                let request = forward.request.unwrap_or_default();
                let answer = match request.body {
                    Some(ask) => Some(self.requests.run_forwarded(ask).await),
                    None => None,
                };
                Ok(Body::ForwardReply(SessionResponse {
                    id: request.id,
                    body: answer,
                }))
            }
            _ => Ok(unexpected("an answer without a question")),
        }
    }

    fn read_record(&self, store_key: &[u8], with_hints: bool) -> Result<Body, RequestError> {
        let record = if with_hints {
            self.core.hints.read_any(store_key)?
        } else {
            self.core.records.read(store_key)?
        };
        Ok(Body::RecordReply(RecordReply { record }))
    }
}

impl PeerHandler for PeerAnswers {
    fn greet(&self, hello: &Hello) -> Result<HelloReply, Error> {
        let layout = self.core.cluster.layout();
        let refuse = |message: String| {
            warn!(peer = hello.node_name, message, "a peer was refused");
            Error::new(ErrorCode::WrongCluster, Outcome::NotApplied, message)
        };
        if hello.cluster_id != layout.cluster_id().as_str() {
            return Err(refuse(format!(
                "node `{}` belongs to cluster `{}`, this is cluster `{}`: check the addresses in cluster.toml",
                hello.node_name,
                hello.cluster_id,
                layout.cluster_id()
            )));
        }
        if hello.genesis_hash != layout.genesis_hash() {
            return Err(refuse(format!(
                "node `{}` was founded with another first layout ({:016x}, here {:016x}): give all nodes the same cluster.toml",
                hello.node_name,
                hello.genesis_hash,
                layout.genesis_hash()
            )));
        }
        if hello.layout_epoch == layout.epoch().0 && hello.layout_hash != layout.hash() {
            return Err(refuse(format!(
                "node `{}` places partitions otherwise in the same epoch {}: run the same version of souk on all nodes at the first start",
                hello.node_name, hello.layout_epoch
            )));
        }
        let node = NodeId(hello.node_id);
        if layout
            .member(node)
            .is_none_or(|member| member.name.as_str() != hello.node_name)
        {
            return Err(refuse(format!(
                "node `{}` with number {} is no member of this layout",
                hello.node_name, hello.node_id
            )));
        }
        self.stores
            .check(node, &hello.node_name, &hello.store_id)
            .map_err(refuse)?;
        Ok(HelloReply {
            node_id: self.core.cluster.node.0,
            store_id: self.core.identity.store_id.clone(),
            genesis_stored: true,
            layout_epoch: layout.epoch().0,
        })
    }

    fn answer_now(&self, from: NodeId, body: Body) -> Prompt {
        Prompt::Answer(match body {
            Body::ReadRecord(read) => self
                .read_record(&read.store_key, read.with_hints)
                .unwrap_or_else(|cause| Body::Error(cause.to_wire())),
            Body::Heartbeat(heartbeat) => {
                if heartbeat.leaving {
                    self.core.cluster.health.link_down(from);
                }
                Body::HeartbeatReply(HeartbeatReply {
                    layout_epoch: self.core.cluster.layout().epoch().0,
                    catalogue_version: self.core.cluster.catalogue.version(),
                    genesis_agreed: *self.core.agreed.borrow(),
                })
            }
            Body::FetchCatalogue(_) => Body::Catalogue(self.core.cluster.catalogue.to_wire()),
            other => return Prompt::Later(other),
        })
    }

    async fn answer(&self, from: NodeId, lane: Lane, body: Body, deadline: Instant) -> Body {
        let is_late = match (lane, &body) {
            // Someone else's background work yields to the requests here, as the own one does.
            (Lane::Bulk, Body::WriteRecord(_) | Body::StoreHint(_)) => {
                let pace = self.core.governor.pace(Job::Incoming, 1);
                timeout_at(deadline, pace).await.is_err()
            }
            _ => Instant::now() >= deadline,
        };
        if is_late {
            counter!("souk_peer_requests_expired_total", "side" => "answering").increment(1);
            let late = Error::new(
                ErrorCode::Timeout,
                Outcome::NotApplied,
                "the request came too late to be worth running",
            );
            return Body::Error(late);
        }
        let body = match lane {
            Lane::Foreground => body,
            // What came on this lane has not been tried yet.
            Lane::Bulk => match self.answer_now(from, body) {
                Prompt::Answer(answer) => return answer,
                Prompt::Later(body) => body,
            },
        };
        self.run(body)
            .await
            .unwrap_or_else(|cause| Body::Error(cause.to_wire()))
    }
}

fn damaged(cause: souk_kv_proto::convert::DecodeError) -> RequestError {
    RequestError::Corrupt {
        what: "a message of a peer",
        cause: cause.to_string(),
    }
}

/// Which store each member came with. A member that comes back with another one has lost its votes and
/// its promises; letting it vote again could fork a register, so it is refused.
#[derive(Debug)]
pub(crate) struct KnownStores {
    store: Store,
    known: Mutex<BTreeMap<NodeId, Bytes>>,
}

impl KnownStores {
    pub(crate) fn open(
        store: Store,
        members: impl Iterator<Item = NodeId>,
    ) -> Result<Self, souk_kv_storage::StorageError> {
        let mut known = BTreeMap::new();
        for member in members {
            if let Some(id) = store.get(Keyspace::Meta, &keys::meta_store_of(member))? {
                known.insert(member, id);
            }
        }
        Ok(Self {
            store,
            known: Mutex::new(known),
        })
    }

    /// Accepts the store a member was first seen with, and no other.
    pub(crate) fn check(&self, member: NodeId, name: &str, store_id: &Bytes) -> Result<(), String> {
        let mut known = self.known.lock();
        match known.get(&member) {
            Some(first) if first == store_id => Ok(()),
            Some(_) => Err(format!(
                "node `{name}` came back with another store than it had: its votes are gone, so it may not vote. Give it its data directory back"
            )),
            None => {
                // A copy: the message that it came in is larger.
                let store_id = Bytes::copy_from_slice(store_id);
                known.insert(member, store_id.clone());
                let mut batch = WriteBatch::new();
                batch.put(Keyspace::Meta, keys::meta_store_of(member), store_id);
                let commit = self.store.submit(batch);
                tokio::spawn(async move {
                    if let Err(cause) = commit.await {
                        error!(%cause, "the store of a peer could not be written down");
                    }
                });
                Ok(())
            }
        }
    }
}

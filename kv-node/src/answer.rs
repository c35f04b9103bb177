//! Answers what other nodes ask: the replica's side of every protocol.

use std::sync::Arc;

use bytes::Bytes;
use metrics::counter;
use souk_kv_core::register::RowKey;
use souk_kv_proto::{
    convert::layout::{answer_to_wire, ask_from_wire},
    convert::register::{
        accept_from_wire, accept_reply_to_wire, ballot_from_wire, header_to_wire, image_to_wire,
        prepare_from_wire, promise_to_wire, read_from_wire, read_reply_to_wire, rows_to_wire,
    },
    kv::{Error, ErrorCode, Outcome, SessionResponse},
    peer::{
        Done, GroupNames, HeartbeatReply, Hello, HelloReply, Lesson, ReadHeaderReply, RecordReply,
        Relay, WriteRecord, peer_message::Body,
    },
};
use souk_ring::{LayoutEpoch, NodeId, PartitionId};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::{
    api::Requests,
    core::NodeCore,
    error::RequestError,
    governor::Job,
    keys::partition_of_record,
    members::{Greeting, Pulse},
    peer::{Lane, PeerError, PeerHandler, Prompt, unexpected},
    register::{Wanted, group_from_wire, group_to_wire},
    tombstone::{self, Work},
};

/// The handler behind the peers' service.
#[derive(Debug)]
pub(crate) struct PeerAnswers {
    core: Arc<NodeCore>,
    requests: Requests,
}

impl PeerAnswers {
    pub(crate) fn new(core: Arc<NodeCore>) -> Self {
        Self {
            requests: Requests::new(Arc::clone(&core)),
            core,
        }
    }

    async fn run(&self, from: NodeId, body: Body, deadline: Instant) -> Result<Body, RequestError> {
        let core = &self.core;
        match body {
            Body::WriteRecord(write) => {
                self.check_receiver(&write)?;
                let origin = write.origin.map_or(from, NodeId);
                let _arrival = self.admit(origin, write.generation)?;
                core.records.merge(write.store_key, write.record).await?;
                Ok(Body::Done(Done {}))
            }
            Body::WriteRecords(write) => {
                write
                    .records
                    .iter()
                    .try_for_each(|write| self.check_receiver(write))?;
                let oldest = write.records.iter().map(|record| record.generation).min();
                let _arrival = self.admit(from, oldest.unwrap_or_default())?;
                core.records.merge_all(write.records).await?;
                Ok(Body::Done(Done {}))
            }
            Body::StoreHint(hint) => {
                if core.cluster.layout().is_leaving(core.cluster.node) {
                    return Err(RequestError::NotReady(
                        "this node leaves the cluster, and could not deliver the hint".to_owned(),
                    ));
                }
                let _arrival = self.admit(from, hint.generation)?;
                core.hints
                    .keep(NodeId(hint.target), hint.store_key, hint.record)
                    .await?;
                Ok(Body::Done(Done {}))
            }
            Body::Relay(relay) => self.relay(from, relay, deadline).await,
            Body::Prepare(prepare) => {
                let key = group_from_wire(prepare.group.clone())?;
                let request = prepare_from_wire(prepare).map_err(damaged)?;
                core.members.catch_up(from, request.epoch).await;
                let reply = core.groups.prepare(&key, &request).await?;
                Ok(Body::PrepareReply(promise_to_wire(&reply)))
            }
            Body::Accept(accept) => {
                let key = group_from_wire(accept.group.clone())?;
                let request = accept_from_wire(accept).map_err(damaged)?;
                core.members.catch_up(from, request.epoch).await;
                let reply = core.groups.accept(&key, &request).await?;
                Ok(Body::AcceptReply(accept_reply_to_wire(&reply)))
            }
            Body::ReadGroup(read) => {
                let key = group_from_wire(read.group.clone())?;
                let request = read_from_wire(read).map_err(damaged)?;
                core.members.catch_up(from, request.epoch).await;
                let reply = core.groups.read(&key, &request).await?;
                Ok(Body::ReadGroupReply(read_reply_to_wire(&reply)))
            }
            Body::FetchGroup(fetch) => {
                let key = group_from_wire(fetch.group)?;
                let since = fetch.since.as_ref().map(ballot_from_wire);
                let image = core.groups.fetch(&key, since).await?;
                Ok(Body::FetchGroupReply(image_to_wire(&image)))
            }
            Body::ReadHeader(read) => {
                let key = group_from_wire(read.group)?;
                let header = core.groups.shown(&key)?;
                Ok(Body::ReadHeaderReply(ReadHeaderReply {
                    header: Some(header_to_wire(&header)),
                }))
            }
            Body::ScanRecords(scan) => {
                Ok(Body::ScanReply(core.records.scan_for(&scan, &core.hints)?))
            }
            body @ (Body::CompareVnodes(_)
            | Body::ReadTree(_)
            | Body::ListTreeKeys(_)
            | Body::ReadRecords(_)
            | Body::SuspectLeaves(_)) => core.anti_entropy.answer(from, body).await,
            Body::ReadRecord(read) => self.read_record(&read.store_key, read.with_hints),
            Body::Collect(ask) => {
                let reply = tombstone::answer(core, from, ask, deadline).await?;
                Ok(Body::CollectReply(reply))
            }
            Body::Fence(fence) => {
                tombstone::fence(core, from, fence.generation, deadline).await?;
                Ok(Body::Done(Done {}))
            }
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
            other => self.run_for_members(from, other).await,
        }
    }

    /// What keeps the member set together.
    async fn run_for_members(&self, from: NodeId, body: Body) -> Result<Body, RequestError> {
        let core = &self.core;
        match body {
            Body::LayoutState(state) => {
                core.members.note(from, state).await;
                Ok(Body::Done(Done {}))
            }
            Body::LayoutAsk(ask) => {
                let before = LayoutEpoch(ask.deciding.saturating_sub(1));
                core.members.catch_up(from, before).await;
                let request = ask_from_wire(ask).map_err(damaged)?;
                let reply = core.members.give_vote(&request).await?;
                Ok(Body::LayoutAnswer(answer_to_wire(&reply)))
            }
            Body::ListGroups(list) => {
                let epoch = LayoutEpoch(list.epoch);
                core.members.catch_up(from, epoch).await;
                let partition = partition_from_wire(list.partition)?;
                let after = match list.after {
                    Some(after) => Some(group_from_wire(Some(after))?),
                    None => None,
                };
                let (names, more) = core.groups.names(epoch, partition, after.as_ref()).await?;
                let groups = names.iter().map(group_to_wire).collect();
                Ok(Body::GroupNames(GroupNames { groups, more }))
            }
            Body::TeachGroup(teach) => {
                let epoch = LayoutEpoch(teach.epoch);
                core.members.catch_up(from, epoch).await;
                let key = group_from_wire(teach.group)?;
                let wanted = match teach.after.as_ref() {
                    _ if !teach.with_rows => Wanted::Header,
                    _ if teach.whole => Wanted::Whole,
                    [] => Wanted::Behind(None),
                    bytes => Wanted::Behind(Some(row_key_from_wire(bytes)?)),
                };
                let page = core.groups.tell(&key, epoch, &wanted).await?;
                Ok(Body::Lesson(Lesson {
                    header: Some(header_to_wire(&page.header)),
                    rows: rows_to_wire(&page.rows),
                    more: page.more,
                }))
            }
            Body::ReadTransfers(_) => {
                let layout = core.cluster.layout();
                let started = layout.moving_since().map_or(0, |epoch| epoch.0);
                Ok(Body::Transfers(core.transfers.report(started)))
            }
            Body::CopyRecords(copy) => {
                let partition = partition_from_wire(copy.partition)?;
                Ok(Body::RecordCopies(
                    core.records.copies(partition, &copy.after)?,
                ))
            }
            _ => Ok(unexpected("an answer without a question")),
        }
    }

    /// Passes a write on. One step only: whoever asks has heard that this node reaches the target itself. The write
    /// stays work of that node, whose fences keep it out of the target when it is late, and out of here.
    async fn relay(
        &self,
        from: NodeId,
        relay: Relay,
        deadline: Instant,
    ) -> Result<Body, RequestError> {
        let write = WriteRecord {
            origin: Some(from.0),
            ..relay.write.unwrap_or_default()
        };
        // Kept until the target has answered: the link to the target may outlive the fence that the target had.
        let _arrival = self.admit(from, write.generation)?;
        let write = Body::WriteRecord(write);
        let target = NodeId(relay.target);
        let answer = self
            .core
            .cluster
            .call_in_bulk(target, write, deadline)
            .await;
        Ok(match answer {
            Ok(answer) => answer,
            Err(PeerError::Remote(error)) => Body::Error(error),
            Err(cause) => {
                let outcome = cause.outcome();
                let message = format!("the write could not be passed on: {cause}");
                Body::Error(Error::new(ErrorCode::Unavailable, outcome, message))
            }
        })
    }

    /// Lets a record of a peer in, unless its work is over or its store was given up.
    fn admit(&self, from: NodeId, generation: u64) -> Result<Work, RequestError> {
        if self.core.cluster.is_forgotten(from) {
            return Err(RequestError::NotReady(
                "the store that sent this was given up by an operator: it may only come back empty"
                    .to_owned(),
            ));
        }
        if self.core.cluster.layout().member(from).is_none() {
            return Err(RequestError::NotReady(
                "the node that sent this is no member: what it holds may have been deleted since"
                    .to_owned(),
            ));
        }
        self.core.gate.admit(from, generation)
    }

    /// Refuses a write whose coordinator would have sent it to others, had it heard of a newer layout: who gains the
    /// partition meanwhile would never see it. Somebody stands in, and the hint finds its way.
    fn check_receiver(&self, write: &WriteRecord) -> Result<(), RequestError> {
        let layout = self.core.cluster.layout();
        if write.layout_epoch == 0 || write.layout_epoch >= layout.epoch().0 {
            return Ok(());
        }
        let Some(partition) = partition_of_record(&write.store_key)
            .filter(|partition| partition.0 < layout.partition_count().get())
        else {
            return Ok(());
        };
        let is_receiver = layout
            .receivers(partition, usize::MAX)
            .contains(&self.core.cluster.node);
        let has_moved_since = layout.moving_since().is_some_and(|started| {
            write.layout_epoch < started.0
                && layout.next_owners(partition) != Some(layout.owners(partition))
        });
        if is_receiver && !has_moved_since {
            return Ok(());
        }
        Err(RequestError::NotReady(format!(
            "the write was sent by layout {}, and {} has other owners for it",
            write.layout_epoch,
            layout.epoch()
        )))
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
        if hello.layout_epoch == layout.epoch().0 && hello.layout_hash != layout.placement_hash() {
            return Err(refuse(format!(
                "node `{}` places partitions otherwise in the same epoch {}: run the same version of souk on all nodes at the first start",
                hello.node_name, hello.layout_epoch
            )));
        }
        let node = NodeId(hello.node_id);
        // Numbers are never given twice: who has one below the next was a member.
        let was_member = node < layout.next_node_id() && hello.layout_epoch < layout.epoch().0;
        if layout.member(node).is_none() && was_member {
            warn!(
                peer = hello.node_name,
                "a node that has left the cluster calls"
            );
            return Ok(HelloReply {
                node_id: self.core.cluster.node.0,
                removed: true,
                ..HelloReply::default()
            });
        }
        if layout
            .member(node)
            .is_none_or(|member| member.name.as_str() != hello.node_name)
        {
            return Err(refuse(format!(
                "node `{}` with number {} is no member of this layout",
                hello.node_name, hello.node_id
            )));
        }
        let pulse = Pulse {
            process: hello.process,
            start: hello.start,
        };
        let own = self.core.members.pulse();
        let catalogue = &self.core.cluster.catalogue;
        let forgotten = catalogue.is_forgotten_store(&hello.store_id);
        let greeting = self.core.members.judge(node, &hello.store_id, pulse);
        let stranger = greeting == Greeting::Stranger;
        let rolled_back = greeting == Greeting::RolledBack && !forgotten;
        if forgotten {
            warn!(peer = hello.node_name, "a store that was given up calls");
        } else if rolled_back {
            warn!(
                peer = hello.node_name,
                "a member stands on an older copy of its data directory: it has forgotten promises and takes a new identity"
            );
        } else if stranger {
            warn!(
                peer = hello.node_name,
                "a member greets with another store than the layout names: it may ask to be taken in"
            );
        }
        Ok(HelloReply {
            node_id: self.core.cluster.node.0,
            store_id: self.core.members.store_id_bytes(),
            genesis_stored: true,
            layout_epoch: layout.epoch().0,
            stranger,
            process: own.process,
            start: own.start,
            rolled_back,
            fence: self.core.gate.lowest_of(node),
            forgotten,
            removed: false,
        })
    }

    fn answer_now(&self, from: NodeId, body: Body) -> Prompt {
        Prompt::Answer(match body {
            Body::ReadRecord(read) => self
                .read_record(&read.store_key, read.with_hints)
                .unwrap_or_else(|cause| Body::Error(cause.to_wire())),
            Body::Heartbeat(heartbeat) => {
                let health = &self.core.cluster.health;
                health.told(from, &heartbeat.sightings);
                self.core.members.hear_pulse(from, heartbeat.pulse);
                if heartbeat.leaving {
                    health.link_down(from);
                } else {
                    health.greeted_by(from);
                }
                Body::HeartbeatReply(HeartbeatReply {
                    layout_epoch: self.core.cluster.layout().epoch().0,
                    catalogue_version: self.core.cluster.catalogue.version(),
                    genesis_agreed: self.core.members.is_agreed(),
                    sightings: health.sightings(),
                })
            }
            Body::FetchLayout(_) => Body::LayoutState(self.core.members.state()),
            Body::FetchCatalogue(_) => Body::Catalogue(self.core.cluster.catalogue.to_wire()),
            other => return Prompt::Later(other),
        })
    }

    async fn answer(&self, from: NodeId, lane: Lane, body: Body, deadline: Instant) -> Body {
        let is_late = match (lane, &body) {
            // Someone else's background work yields to the requests here, as the own one does.
            (Lane::Bulk, Body::WriteRecord(_) | Body::StoreHint(_) | Body::Relay(_)) => {
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
        self.run(from, body, deadline)
            .await
            .unwrap_or_else(|cause| Body::Error(cause.to_wire()))
    }
}

fn partition_from_wire(partition: u32) -> Result<PartitionId, RequestError> {
    u16::try_from(partition)
        .map(|number| PartitionId(number.into()))
        .map_err(|_| RequestError::Invalid("a peer named a partition that cannot be".to_owned()))
}

fn row_key_from_wire(bytes: &[u8]) -> Result<RowKey, RequestError> {
    RowKey::from_bytes(Bytes::copy_from_slice(bytes)).map_err(|cause| {
        RequestError::Invalid(format!("a peer named a row that cannot be: {cause}"))
    })
}

fn damaged(cause: souk_kv_proto::convert::DecodeError) -> RequestError {
    RequestError::Corrupt {
        what: "a message of a peer",
        cause: cause.to_string(),
    }
}

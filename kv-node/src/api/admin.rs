//! What operators ask of a node.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::join_all;
use souk_kv_core::{access::Role, membership::Health, register::Ballot};
use souk_kv_proto::{
    admin::{
        AcceptorState, CreateBucketRequest, CreateBucketResponse, CreateTokenRequest,
        EndpointsRequest, EndpointsResponse, ForgetRequest, ForgetResponse, HintsRequest,
        HintsResponse, KnockRequest, KnockResponse, LayoutApplyRequest, LayoutApplyResponse,
        LayoutCallOffRequest, LayoutCallOffResponse, LayoutHistoryRequest, LayoutHistoryResponse,
        LayoutPlanRequest, LayoutPlanResponse, LayoutRevertRequest, LayoutRevertResponse,
        LayoutStageRequest, LayoutStageResponse, ListBucketsRequest, ListBucketsResponse,
        ListTokensRequest, ListTokensResponse, NodeStatus, RegisterRecoverRequest,
        RegisterRecoverResponse, RegisterShowRequest, RegisterShowResponse, RepairProgress,
        RepairRequest, RevokeTokenRequest, RevokeTokenResponse, RotateTokenRequest, ScrubProgress,
        ScrubRequest, StatusRequest, StatusResponse, SteerHintsRequest, SteerHintsResponse,
        TokenSecret, TombstonesRequest, TombstonesResponse, TombstonesWait, TransfersRequest,
        TransfersResponse, admin_server::Admin,
    },
    convert::{layout::layout_to_wire, register::header_from_wire},
    network::ShownBearer,
    peer::{ReadHeader, peer_message::Body},
    store::ForgottenStore,
};
use souk_ring::{Layout, Member, NodeId, Standing, token_of};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{
    check, hints, layout, tokens,
    upkeep::{ProgressStream, repair, scrub},
};
use crate::{
    access::{Caller, Need, caller_of},
    cluster::{Detour, Mode, name_of},
    core::NodeCore,
    error::RequestError,
    register::{GroupPlace, group_to_wire},
    system::SystemGroup,
};

/// How long an operator's request may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The name under which the cluster's own group is shown.
const SYSTEM: &str = "_system";

/// The gRPC service.
#[derive(Debug)]
pub(crate) struct AdminService {
    core: Arc<NodeCore>,
}

impl AdminService {
    pub(crate) fn new(core: Arc<NodeCore>) -> Self {
        Self { core }
    }

    fn ready(&self) -> Result<(), Status> {
        match self.core.not_ready() {
            Some(reason) => Err(status(RequestError::NotReady(reason))),
            None => Ok(()),
        }
    }

    /// Whether whoever asks may look after a bucket.
    fn may<T>(&self, request: &Request<T>, bucket: &str) -> Result<(), Status> {
        let caller = self.caller(request);
        let need = || vec![Need::Bucket(Role::Admin, bucket.to_owned())];
        self.core.access.check(&caller, need).map_err(status)
    }

    fn caller<T>(&self, request: &Request<T>) -> Caller {
        caller_of(request.extensions(), self.core.is_guarded())
    }

    fn node_status(&self, layout: &Layout, member: &Member) -> NodeStatus {
        let core = &self.core;
        let is_self = member.id == core.cluster.node;
        let opinion = core.cluster.health.opinion(member.id);
        let state = match opinion.health {
            _ if is_self => "self",
            Health::Healthy => "up",
            Health::Demoted => "slow",
            Health::Suspect if core.cluster.peers().is_connected(member.id) => "suspect",
            Health::Suspect => match core.cluster.health.detour(member.id) {
                Some(Detour::Through(_)) => "cut-off",
                Some(Detour::OneWay) => "one-way",
                None => "down",
            },
        };
        let count = |partitions: usize| u32::try_from(partitions).unwrap_or(u32::MAX);
        let first = layout
            .partition_count()
            .partitions()
            .filter(|partition| layout.owners(*partition).first() == Some(&member.id))
            .count();
        NodeStatus {
            id: member.id.0,
            name: member.name.to_string(),
            zone: member.zone.to_string(),
            grpc_address: member.grpc_address.clone(),
            http_address: member.http_address.clone(),
            state: state.to_owned(),
            phi: if is_self || !opinion.phi.is_finite() {
                0.0
            } else {
                opinion.phi
            },
            latency_us: opinion.latency.map_or(0, |latency| {
                u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)
            }),
            partitions_held: count(layout.partitions_of(member.id).count()),
            partitions_first: count(first),
            hints_count: core
                .hints
                .totals()
                .get(&member.id)
                .map_or(0, |totals| totals.count),
        }
    }

    async fn acceptor(&self, layout: &Layout, place: &GroupPlace, node: NodeId) -> AcceptorState {
        let name = name_of(layout, node);
        let standing = standing(layout, node).to_owned();
        let header = if node == self.core.cluster.node {
            self.core
                .groups
                .shown(&place.key)
                .map_err(|cause| cause.to_string())
        } else {
            let body = Body::ReadHeader(ReadHeader {
                group: Some(group_to_wire(&place.key)),
            });
            match self
                .core
                .cluster
                .call(node, body, Instant::now() + TIMEOUT)
                .await
            {
                Ok(Body::ReadHeaderReply(reply)) => {
                    Ok(header_from_wire(&reply.header.unwrap_or_default()))
                }
                Ok(_) => Err("it answered something else".to_owned()),
                Err(cause) => Err(cause.to_string()),
            }
        };
        match header {
            Ok(header) => AcceptorState {
                node: name,
                standing,
                chosen: ballot(header.chosen),
                error: String::new(),
                promised: ballot(header.promised),
                accepted: ballot(header.accepted),
                rows: header.size.rows,
                bytes: header.size.bytes,
                layout_epoch: header.epoch.0,
            },
            Err(error) => AcceptorState {
                node: name,
                standing,
                error,
                ..Default::default()
            },
        }
    }

    /// The store of a member, if it can be given up.
    fn store_to_forget(&self, name: &str) -> Result<ForgottenStore, RequestError> {
        let core = &self.core;
        let layout = core.cluster.layout();
        let Some(member) = layout.member_named(name) else {
            return Err(RequestError::Invalid(format!(
                "there is no node `{name}` in the layout"
            )));
        };
        if member.id == core.cluster.node || core.cluster.is_up(member.id) {
            return Err(RequestError::Invalid(format!(
                "node `{name}` is up: only an absent node can be given up, stop it first"
            )));
        }
        let store = layout.store_of(member.id).ok_or_else(|| {
            RequestError::Invalid(format!(
                "node `{name}` has not shown its store yet: start all nodes of cluster.toml once"
            ))
        })?;
        Ok(ForgottenStore {
            node_id: member.id.0,
            store_id: bytes::Bytes::copy_from_slice(&store.0),
        })
    }

    async fn group(&self, bucket: &str, partition_key: &[u8]) -> Result<GroupPlace, RequestError> {
        if bucket == SYSTEM {
            let layout = self.core.cluster.layout();
            return Ok(GroupPlace::new(&layout, SystemGroup::key(), 0));
        }
        check::partition_key(partition_key)?;
        let bucket = self.core.bucket(bucket, Instant::now() + TIMEOUT).await?;
        if bucket.mode != Mode::Register {
            return Err(RequestError::WrongMode {
                bucket: bucket.name.clone(),
                mode: bucket.mode.name(),
                mend: "only register buckets have acceptors; try `souk admin endpoints`",
            });
        }
        Ok(self
            .core
            .group_place(bucket, bytes::Bytes::copy_from_slice(partition_key)))
    }
}

fn status(error: RequestError) -> Status {
    error.to_wire().into_status()
}

fn ballot(ballot: Ballot) -> String {
    if ballot.is_zero() {
        String::new()
    } else {
        format!("{}.{:016x}", ballot.counter, ballot.proposer)
    }
}

fn standing(layout: &Layout, node: NodeId) -> &'static str {
    match layout.member(node).map(|member| member.standing) {
        Some(Standing::Full) => "full",
        Some(Standing::Learner) => "learner",
        Some(Standing::Heir) => "heir",
        None => "",
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    type RepairStream = ProgressStream<RepairProgress>;
    type ScrubStream = ProgressStream<ScrubProgress>;

    async fn repair(
        &self,
        request: Request<RepairRequest>,
    ) -> Result<Response<Self::RepairStream>, Status> {
        self.ready()?;
        let request = request.into_inner();
        let bucket = if request.bucket.is_empty() {
            None
        } else {
            let deadline = Instant::now() + TIMEOUT;
            let bucket = self.core.bucket(&request.bucket, deadline).await;
            let bucket = bucket.map_err(status)?;
            if bucket.mode == Mode::Register {
                return Err(status(RequestError::WrongMode {
                    bucket: bucket.name.clone(),
                    mode: bucket.mode.name(),
                    mend: "its replicas are brought up by their own ballots, there is nothing to compare",
                }));
            }
            Some(bucket.id)
        };
        let stream = repair(Arc::clone(&self.core), bucket, request.skip_nodes);
        Ok(Response::new(stream))
    }

    async fn scrub(&self, _: Request<ScrubRequest>) -> Result<Response<Self::ScrubStream>, Status> {
        Ok(Response::new(scrub(Arc::clone(&self.core))))
    }

    async fn knock(
        &self,
        request: Request<KnockRequest>,
    ) -> Result<Response<KnockResponse>, Status> {
        let claimed = request.get_ref().node.as_ref().map(|node| &node.name);
        let shown = request.extensions().get::<ShownBearer>();
        if let (Some(shown), Some(claimed)) = (shown, claimed)
            && shown.name != *claimed
        {
            return Err(status(RequestError::Unauthenticated(format!(
                "the caller knocks as node `{claimed}` and shows the certificate of {shown}: give every node its own"
            ))));
        }
        let known = layout::knock(&self.core, request.into_inner()).map_err(status)?;
        Ok(Response::new(KnockResponse {
            layout: Some(layout_to_wire(&known)),
        }))
    }

    async fn layout_plan(
        &self,
        _: Request<LayoutPlanRequest>,
    ) -> Result<Response<LayoutPlanResponse>, Status> {
        self.ready()?;
        let plan = layout::plan(&self.core, Instant::now() + TIMEOUT).await;
        Ok(Response::new(plan.map_err(status)?))
    }

    async fn layout_stage(
        &self,
        request: Request<LayoutStageRequest>,
    ) -> Result<Response<LayoutStageResponse>, Status> {
        self.ready()?;
        let deadline = Instant::now() + TIMEOUT;
        let staged = layout::stage(&self.core, request.into_inner(), deadline).await;
        Ok(Response::new(staged.map_err(status)?))
    }

    async fn layout_apply(
        &self,
        request: Request<LayoutApplyRequest>,
    ) -> Result<Response<LayoutApplyResponse>, Status> {
        self.ready()?;
        let (version, deadline) = (request.get_ref().version, Instant::now() + TIMEOUT);
        let applied = layout::apply(&self.core, version, deadline).await;
        Ok(Response::new(applied.map_err(status)?))
    }

    async fn layout_revert(
        &self,
        _: Request<LayoutRevertRequest>,
    ) -> Result<Response<LayoutRevertResponse>, Status> {
        self.ready()?;
        let reverted = self.core.staged.revert(Instant::now() + TIMEOUT).await;
        Ok(Response::new(LayoutRevertResponse {
            staged_version: reverted.map_err(status)?.version,
        }))
    }

    async fn layout_call_off(
        &self,
        _: Request<LayoutCallOffRequest>,
    ) -> Result<Response<LayoutCallOffResponse>, Status> {
        self.ready()?;
        let layout = self.core.staged.call_off().await.map_err(status)?;
        Ok(Response::new(LayoutCallOffResponse {
            layout_epoch: layout.epoch().0,
        }))
    }

    async fn layout_history(
        &self,
        _: Request<LayoutHistoryRequest>,
    ) -> Result<Response<LayoutHistoryResponse>, Status> {
        Ok(Response::new(layout::history(&self.core).map_err(status)?))
    }

    async fn transfers(
        &self,
        _: Request<TransfersRequest>,
    ) -> Result<Response<TransfersResponse>, Status> {
        Ok(Response::new(layout::transfers(&self.core).await))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let core = &self.core;
        let layout = core.cluster.layout();
        let reason = core.not_ready();
        let disk_bytes = core
            .store
            .stats()
            .map_or(0, |stats| stats.engine.disk_bytes);
        Ok(Response::new(StatusResponse {
            cluster_id: layout.cluster_id().to_string(),
            node: core.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            layout_epoch: layout.epoch().0,
            catalogue_version: core.cluster.catalogue.version(),
            ready: reason.is_none(),
            not_ready_reason: reason.unwrap_or_default(),
            nodes: layout
                .members()
                .values()
                .map(|member| self.node_status(&layout, member))
                .collect(),
            partitions_count: layout.partition_count().get(),
            replicas_n: layout.replicas_n().get(),
            uptime_ms: u64::try_from(core.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            engine: core.engine.to_owned(),
            disk_bytes,
        }))
    }

    async fn create_bucket(
        &self,
        request: Request<CreateBucketRequest>,
    ) -> Result<Response<CreateBucketResponse>, Status> {
        self.ready()?;
        let name = request.get_ref().bucket.as_ref();
        self.may(&request, name.map_or("", |bucket| bucket.name.as_str()))?;
        let config = request.into_inner().bucket.unwrap_or_default();
        let deadline = Instant::now() + TIMEOUT;
        let (bucket, created) = self
            .core
            .system
            .create_bucket(&config, deadline)
            .await
            .map_err(status)?;
        Ok(Response::new(CreateBucketResponse {
            bucket: Some(bucket),
            created,
        }))
    }

    async fn list_buckets(
        &self,
        request: Request<ListBucketsRequest>,
    ) -> Result<Response<ListBucketsResponse>, Status> {
        self.ready()?;
        let caller = self.caller(&request);
        // Without a majority the node still tells what it has seen.
        self.core
            .system
            .refresh(Instant::now() + TIMEOUT)
            .await
            .ok();
        let mut catalogue = self.core.cluster.catalogue.to_wire();
        let access = &self.core.access;
        catalogue
            .buckets
            .retain(|bucket| access.may_see(&caller, &bucket.name));
        Ok(Response::new(ListBucketsResponse {
            buckets: catalogue.buckets,
            catalogue_version: catalogue.version,
        }))
    }

    async fn endpoints(
        &self,
        request: Request<EndpointsRequest>,
    ) -> Result<Response<EndpointsResponse>, Status> {
        self.ready()?;
        self.may(&request, &request.get_ref().bucket)?;
        let request = request.into_inner();
        check::partition_key(&request.partition_key).map_err(status)?;
        let deadline = Instant::now() + TIMEOUT;
        let bucket = self
            .core
            .bucket(&request.bucket, deadline)
            .await
            .map_err(status)?;
        let layout = self.core.cluster.layout();
        let token = token_of(&bucket.name, &request.partition_key);
        let place = self.core.record_place(bucket, request.partition_key, b"");
        let names = |nodes: &[NodeId]| nodes.iter().map(|&node| name_of(&layout, node)).collect();
        Ok(Response::new(EndpointsResponse {
            partition: place.group.partition.0,
            token: token.0,
            primaries: names(place.primaries()),
            fallbacks: names(place.fallbacks()),
        }))
    }

    async fn hints(&self, _: Request<HintsRequest>) -> Result<Response<HintsResponse>, Status> {
        Ok(Response::new(hints::listed(&self.core)))
    }

    async fn steer_hints(
        &self,
        request: Request<SteerHintsRequest>,
    ) -> Result<Response<SteerHintsResponse>, Status> {
        let answer = hints::steer(&self.core, request.get_ref()).await;
        Ok(Response::new(answer.map_err(status)?))
    }

    async fn tombstones(
        &self,
        request: Request<TombstonesRequest>,
    ) -> Result<Response<TombstonesResponse>, Status> {
        if request.into_inner().collect_now {
            self.core.tombstones.want_walk();
        }
        let layout = self.core.cluster.layout();
        let state = self.core.tombstones.state();
        let waiting_for = state.waiting_for.into_iter();
        Ok(Response::new(TombstonesResponse {
            node: self.core.name.clone(),
            walks: state.walks,
            walk_failure: state.walk_failure.unwrap_or_default(),
            tombstones_count: state.tombstones,
            ripening_count: state.ripening,
            different_count: state.different,
            erased_count: state.erased,
            folded_count: state.folded,
            expired_count: state.expired,
            waiting_for: waiting_for
                .map(|(node, why)| TombstonesWait {
                    node: name_of(&layout, node),
                    why,
                })
                .collect(),
        }))
    }

    async fn forget(
        &self,
        request: Request<ForgetRequest>,
    ) -> Result<Response<ForgetResponse>, Status> {
        self.ready()?;
        let name = request.into_inner().node;
        let store = self.store_to_forget(&name).map_err(status)?;
        let deadline = Instant::now() + TIMEOUT;
        let forgotten = self.core.system.forget(&store, deadline).await;
        let store_id = store.store_id.iter().map(|byte| format!("{byte:02x}"));
        Ok(Response::new(ForgetResponse {
            store_id: store_id.collect(),
            forgotten: forgotten.map_err(status)?,
        }))
    }

    async fn register_show(
        &self,
        request: Request<RegisterShowRequest>,
    ) -> Result<Response<RegisterShowResponse>, Status> {
        self.ready()?;
        self.may(&request, &request.get_ref().bucket)?;
        let request = request.into_inner();
        let place = self
            .group(&request.bucket, &request.partition_key)
            .await
            .map_err(status)?;
        let layout = self.core.cluster.layout();
        let asked = place
            .acceptors
            .iter()
            .map(|&node| self.acceptor(&layout, &place, node));
        Ok(Response::new(RegisterShowResponse {
            partition: place.key.partition.0,
            acceptors: join_all(asked).await,
        }))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<TokenSecret>, Status> {
        self.ready()?;
        let made = tokens::create(&self.core, request.into_inner(), Instant::now() + TIMEOUT);
        Ok(Response::new(made.await.map_err(status)?))
    }

    async fn list_tokens(
        &self,
        _: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, Status> {
        self.ready()?;
        let listed = tokens::list(&self.core, Instant::now() + TIMEOUT);
        Ok(Response::new(listed.await.map_err(status)?))
    }

    async fn rotate_token(
        &self,
        request: Request<RotateTokenRequest>,
    ) -> Result<Response<TokenSecret>, Status> {
        self.ready()?;
        let rotated = tokens::rotate(&self.core, request.get_ref(), Instant::now() + TIMEOUT);
        Ok(Response::new(rotated.await.map_err(status)?))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        self.ready()?;
        let revoked = tokens::revoke(&self.core, request.get_ref(), Instant::now() + TIMEOUT);
        Ok(Response::new(revoked.await.map_err(status)?))
    }

    async fn register_recover(
        &self,
        request: Request<RegisterRecoverRequest>,
    ) -> Result<Response<RegisterRecoverResponse>, Status> {
        let core = &self.core;
        let declared = request.into_inner().accept_data_loss;
        let plan = core.members.plan_recovery().map_err(status)?;
        if declared {
            core.members.declare(&plan).await.map_err(status)?;
        }
        let count = |partitions: usize| u32::try_from(partitions).unwrap_or(u32::MAX);
        let names = |nodes: &BTreeSet<NodeId>| {
            nodes
                .iter()
                .map(|&node| name_of(&plan.layout, node))
                .collect()
        };
        Ok(Response::new(RegisterRecoverResponse {
            declared,
            layout_epoch: plan.layout.epoch().0,
            survivors: names(&plan.survivors),
            lost: names(&plan.lost),
            partitions_at_risk: count(plan.partitions_at_risk),
            partitions_without_copy: count(plan.partitions_without_copy),
        }))
    }
}

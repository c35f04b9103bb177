//! What operators ask of nodes: buckets, status, where keys live.
//!
//! Place: I/O; unary calls over the same connections as the data.
//! Invariant: every call here may be repeated, creating a bucket included, so that another node is asked
//! when one fails. Staging a change twice is refused, or stages the same.
//! Long work comes as [`Progress`]: one node does it, and it ends when nobody listens.
//! Not here: backups, which have no wire messages.

use std::{future::Future, sync::Arc, time::Duration};

use souk_kv_core::outcome::Outcome;
use souk_kv_proto::{
    admin::{
        CreateBucketRequest, CreateBucketResponse, CreateTokenRequest, EndpointsRequest,
        EndpointsResponse, ForgetRequest, ForgetResponse, HintsRequest, HintsResponse,
        LayoutApplyRequest, LayoutApplyResponse, LayoutCallOffRequest, LayoutCallOffResponse,
        LayoutHistoryRequest, LayoutHistoryResponse, LayoutPlanRequest, LayoutPlanResponse,
        LayoutRevertRequest, LayoutRevertResponse, LayoutStageRequest, LayoutStageResponse,
        ListBucketsRequest, ListTokensRequest, RegisterRecoverRequest, RegisterRecoverResponse,
        RegisterShowRequest, RegisterShowResponse, RepairProgress, RepairRequest,
        RevokeTokenRequest, RevokeTokenResponse, RotateTokenRequest, ScrubProgress, ScrubRequest,
        StatusRequest, StatusResponse, SteerHintsRequest, SteerHintsResponse, TokenInfo,
        TokenSecret, TombstonesRequest, TombstonesResponse, TransfersRequest, TransfersResponse,
        admin_client::AdminClient,
    },
    kv::{BucketConfig, Error, ErrorCode},
};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Response, Status, Streaming};

use crate::{
    client::{Shared, View},
    convert::outcome_from_wire,
    error::RequestError,
    model::Key,
    session::Link,
    token::ShowingChannel,
};

/// Deadline of a call over all nodes asked; creating a bucket touches every node's disk.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long creating a bucket waits for the news to reach the node that is asked for the topology.
const NEWS_TIMEOUT: Duration = Duration::from_secs(1);
/// Wait before the next node is asked.
const ASK_NEXT_AFTER: Duration = Duration::from_millis(50);

/// Long work of one node, as it goes on. Dropping it ends the work.
#[derive(Debug)]
pub struct Progress<T> {
    stream: Streaming<T>,
    node: String,
}

impl<T> Progress<T> {
    /// The next word of progress; `None` when the node has no more to say. The last word says `done`.
    ///
    /// # Errors
    /// When the work failed, or the connection broke; then it is not known how far it came.
    pub async fn next(&mut self) -> Result<Option<T>, RequestError> {
        let next = self.stream.message().await;
        next.map_err(|status| request_error(Error::from_status(&status), Some(self.node.clone())))
    }
}

/// See the module; made by `Client::admin`.
pub struct Admin<'a> {
    shared: &'a Shared,
}

impl<'a> Admin<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Admin<'a> {
        Admin { shared }
    }

    /// Creates a bucket; false when it was there already with an equal configuration. As a rule the client
    /// knows the bucket when this returns.
    ///
    /// # Errors
    /// `BucketExists` when it is there with another configuration.
    pub async fn create_bucket(&self, bucket: BucketConfig) -> Result<bool, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| {
            let bucket = Some(bucket.clone());
            async move { admin.create_bucket(CreateBucketRequest { bucket }).await }
        };
        let answer: CreateBucketResponse = self.ask_any(ask).await?;
        let name = answer.bucket.map_or(bucket.name, |bucket| bucket.name);
        let deadline = Instant::now() + NEWS_TIMEOUT;
        // The node that is asked for the topology may hear of the bucket a moment later than the creator.
        while !self
            .shared
            .view
            .load()
            .topology
            .buckets()
            .contains_key(&name)
            && self.shared.refreshed_by(deadline).await
        {}
        Ok(answer.created)
    }

    /// The buckets in order of their names.
    ///
    /// # Errors
    /// When no node answered.
    pub async fn list_buckets(&self) -> Result<Vec<BucketConfig>, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| async move {
            admin.list_buckets(ListBucketsRequest {}).await
        };
        let mut buckets = self.ask_any(ask).await?.buckets;
        buckets.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(buckets)
    }

    /// The cluster as `node`, by name, sees it; `None` asks any node.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such node; otherwise when it did not answer.
    pub async fn status(&self, node: Option<&str>) -> Result<StatusResponse, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| async move {
            admin.status(StatusRequest {}).await
        };
        self.ask_at(node, ask).await
    }

    /// Where a key lives.
    ///
    /// # Errors
    /// When no node answered, or the bucket is missing.
    pub async fn endpoints(&self, key: &Key) -> Result<EndpointsResponse, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| {
            let request = EndpointsRequest {
                bucket: key.bucket.clone(),
                partition_key: key.partition_key.clone(),
            };
            async move { admin.endpoints(request).await }
        };
        self.ask_any(ask).await
    }

    /// The hints that `node`, by name, keeps for absent nodes; `None` asks any node.
    ///
    /// # Errors
    /// As for [`Admin::status`].
    pub async fn hints(&self, node: Option<&str>) -> Result<HintsResponse, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| async move {
            admin.hints(HintsRequest {}).await
        };
        self.ask_at(node, ask).await
    }

    /// Pauses, resumes or hurries the delivery of the hints that `node`, by name, keeps, or gives some of them up. A
    /// call that drops may leave some behind: then `more` is set, and it is to be repeated.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such node or target; otherwise as for [`Admin::status`].
    pub async fn steer_hints(
        &self,
        node: &str,
        request: SteerHintsRequest,
    ) -> Result<SteerHintsResponse, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| {
            let request = request.clone();
            async move { admin.steer_hints(request).await }
        };
        self.ask_at(Some(node), ask).await
    }

    /// What `node`, by name, collects of deletes; `None` asks any node. With `collect_now` it looks for them now.
    ///
    /// # Errors
    /// As for [`Admin::status`].
    pub async fn tombstones(
        &self,
        node: Option<&str>,
        collect_now: bool,
    ) -> Result<TombstonesResponse, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| async move {
            admin.tombstones(TombstonesRequest { collect_now }).await
        };
        self.ask_at(node, ask).await
    }

    /// Gives the store of an absent node up: collection waits for it no longer, and it may only come back empty.
    /// What it alone held is lost.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such node, or it is up; otherwise when no majority answered.
    pub async fn forget(&self, node: &str) -> Result<ForgetResponse, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| {
            let node = node.to_owned();
            async move { admin.forget(ForgetRequest { node }).await }
        };
        self.ask_any(ask).await
    }

    /// Ballots and acceptors of the register group of a key.
    ///
    /// # Errors
    /// When no node answered, or the bucket is missing or no register bucket.
    pub async fn register_show(&self, key: &Key) -> Result<RegisterShowResponse, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| {
            let request = RegisterShowRequest {
                bucket: key.bucket.clone(),
                partition_key: key.partition_key.clone(),
            };
            async move { admin.register_show(request).await }
        };
        self.ask_any(ask).await
    }

    /// Has `node` compare its records with the other replicas' now, and bring together what differs. An empty
    /// `bucket` compares all; nodes in `skip_nodes` are not compared with.
    ///
    /// # Errors
    /// As for [`Admin::status`]; when the bucket is missing or a register bucket.
    pub async fn repair(
        &self,
        node: &str,
        bucket: &str,
        skip_nodes: &[String],
    ) -> Result<Progress<RepairProgress>, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| {
            let request = RepairRequest {
                bucket: bucket.to_owned(),
                skip_nodes: skip_nodes.to_vec(),
            };
            async move { admin.repair(request).await }
        };
        let node = node.to_owned();
        let stream = self.ask_at(Some(&node), ask).await?;
        Ok(Progress { stream, node })
    }

    /// Has `node` read everything that it has stored, and mend what is damaged.
    ///
    /// # Errors
    /// As for [`Admin::status`].
    pub async fn scrub(&self, node: &str) -> Result<Progress<ScrubProgress>, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| async move {
            admin.scrub(ScrubRequest {}).await
        };
        let node = node.to_owned();
        let stream = self.ask_at(Some(&node), ask).await?;
        Ok(Progress { stream, node })
    }

    /// Goes on with the register copies of `node`, by name, and of the sure ones it can reach, when no majority is
    /// left; without `accept_data_loss` it only says what would be given up.
    ///
    /// # Errors
    /// When the node is not sure of its past, when a majority can be reached, or when it did not answer.
    pub async fn register_recover(
        &self,
        node: &str,
        accept_data_loss: bool,
    ) -> Result<RegisterRecoverResponse, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| async move {
            admin
                .register_recover(RegisterRecoverRequest { accept_data_loss })
                .await
        };
        self.ask_at(Some(node), ask).await
    }

    /// The layout in force, what is staged, and where that would lead.
    ///
    /// # Errors
    /// When no node can tell.
    pub async fn layout_plan(&self) -> Result<LayoutPlanResponse, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| async move {
            admin.layout_plan(LayoutPlanRequest {}).await
        };
        self.ask_any(ask).await
    }

    /// Writes a change of the members down. Nothing happens before it is applied.
    ///
    /// # Errors
    /// When the change leads nowhere, with the reason.
    pub async fn layout_stage(
        &self,
        request: LayoutStageRequest,
    ) -> Result<LayoutStageResponse, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| {
            let request = request.clone();
            async move { admin.layout_stage(request).await }
        };
        self.ask_any(ask).await
    }

    /// Does what is staged, if it is still what the operator has looked at.
    ///
    /// # Errors
    /// When it is not, when another change is under way, or when too few members agree.
    pub async fn layout_apply(&self, version: u64) -> Result<LayoutApplyResponse, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| async move {
            admin.layout_apply(LayoutApplyRequest { version }).await
        };
        self.ask_any(ask).await
    }

    /// Forgets what is staged.
    ///
    /// # Errors
    /// When too few members agree.
    pub async fn layout_revert(&self) -> Result<LayoutRevertResponse, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| async move {
            admin.layout_revert(LayoutRevertRequest {}).await
        };
        self.ask_any(ask).await
    }

    /// Gives up the change that is under way.
    ///
    /// # Errors
    /// When nothing moves, or too few members agree.
    pub async fn layout_call_off(&self) -> Result<LayoutCallOffResponse, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| async move {
            admin.layout_call_off(LayoutCallOffRequest {}).await
        };
        self.ask_any(ask).await
    }

    /// The layouts that a node has adopted, the newest first; any node that answers when none is named.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn layout_history(
        &self,
        node: Option<&str>,
    ) -> Result<LayoutHistoryResponse, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| async move {
            admin.layout_history(LayoutHistoryRequest {}).await
        };
        self.ask_at(node, ask).await
    }

    /// How far the nodes have come with the copies that are on their way to them.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn transfers(&self) -> Result<TransfersResponse, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| async move {
            admin.transfers(TransfersRequest {}).await
        };
        self.ask_any(ask).await
    }

    /// Makes a token; its secret is told this once. Another node is asked only when nothing can have been made.
    ///
    /// # Errors
    /// `InvalidArgument` when the name is taken or a grant makes no sense; otherwise when no majority answered.
    pub async fn create_token(
        &self,
        name: &str,
        grants: &[String],
        expires_after: Option<Duration>,
    ) -> Result<TokenSecret, RequestError> {
        let request = CreateTokenRequest {
            name: name.to_owned(),
            grants: grants.to_vec(),
            expires_after_ms: expires_after.map_or(0, crate::convert::millis),
        };
        let ask = |mut admin: AdminClient<ShowingChannel>| {
            let request = request.clone();
            async move { admin.create_token(request).await }
        };
        self.ask_any(ask).await
    }

    /// The tokens in order of their names, without their secrets.
    ///
    /// # Errors
    /// When no node answered.
    pub async fn list_tokens(&self) -> Result<Vec<TokenInfo>, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| async move {
            admin.list_tokens(ListTokensRequest {}).await
        };
        Ok(self.ask_any(ask).await?.tokens)
    }

    /// Gives a token a new secret, told this once; the former one stays good for `overlap`, at most 30 days.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such token; otherwise when no majority answered.
    pub async fn rotate_token(
        &self,
        name: &str,
        overlap: Duration,
    ) -> Result<TokenSecret, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| {
            let request = RotateTokenRequest {
                name: name.to_owned(),
                overlap_ms: crate::convert::millis(overlap),
            };
            async move { admin.rotate_token(request).await }
        };
        self.ask_any(ask).await
    }

    /// Ends a token.
    ///
    /// # Errors
    /// As for [`Admin::rotate_token`].
    pub async fn revoke_token(&self, name: &str) -> Result<RevokeTokenResponse, RequestError> {
        let ask = |mut admin: AdminClient<ShowingChannel>| {
            let name = name.to_owned();
            async move { admin.revoke_token(RevokeTokenRequest { name }).await }
        };
        self.ask_any(ask).await
    }

    async fn ask_at<T, F>(
        &self,
        node: Option<&str>,
        ask: impl Fn(AdminClient<ShowingChannel>) -> F,
    ) -> Result<T, RequestError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let Some(name) = node else {
            return self.ask_any(ask).await;
        };
        let view = self.shared.view.load_full();
        let member = view.topology.layout().member_named(name);
        let Some(link) = member.and_then(|member| view.links.get(&member.id)) else {
            let names: Vec<_> = view
                .topology
                .nodes()
                .values()
                .map(|node| node.name.as_str())
                .collect();
            let message = format!(
                "there is no node `{name}`; the nodes are {}",
                names.join(", ")
            );
            let error = Error::new(ErrorCode::InvalidArgument, NOT_APPLIED, message);
            return Err(request_error(error, None));
        };
        ask_one(&view, link, Instant::now() + ADMIN_TIMEOUT, &ask).await
    }

    /// Asks one connected node after another until one answers or refuses for good.
    async fn ask_any<T, F>(
        &self,
        ask: impl Fn(AdminClient<ShowingChannel>) -> F,
    ) -> Result<T, RequestError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + ADMIN_TIMEOUT;
        let message = "no node is connected; check that the nodes are running";
        let mut last = request_error(
            Error::new(ErrorCode::Unavailable, NOT_APPLIED, message),
            None,
        );
        loop {
            let view = self.shared.view.load_full();
            let mut links: Vec<_> = view.all_links().filter(|link| link.is_open()).collect();
            links.sort_by_key(|link| link.is_suspect());
            for link in links {
                match ask_one(&view, link, deadline, &ask).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) if !error.retryable => return Err(error),
                    Err(error) => last = error,
                }
                if Instant::now() + ASK_NEXT_AFTER >= deadline {
                    return Err(last);
                }
                sleep(ASK_NEXT_AFTER).await;
            }
            if Instant::now() + ASK_NEXT_AFTER >= deadline {
                return Err(last);
            }
            sleep(ASK_NEXT_AFTER).await;
        }
    }
}

const NOT_APPLIED: souk_kv_proto::kv::Outcome = souk_kv_proto::kv::Outcome::NotApplied;

async fn ask_one<T, F>(
    view: &View,
    link: &Arc<Link>,
    deadline: Instant,
    ask: &impl Fn(AdminClient<ShowingChannel>) -> F,
) -> Result<T, RequestError>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let error = match timeout_at(deadline, ask(AdminClient::new(link.channel()))).await {
        Ok(Ok(response)) => return Ok(response.into_inner()),
        Ok(Err(status)) => Error::from_status(&status),
        Err(_) => Error::new(
            ErrorCode::Timeout,
            souk_kv_proto::kv::Outcome::Unknown,
            format!("no answer from {} within {ADMIN_TIMEOUT:?}", link.address()),
        ),
    };
    Err(request_error(error, Some(view.name_of(link))))
}

fn request_error(error: Error, node: Option<String>) -> RequestError {
    let outcome: Outcome = outcome_from_wire(error.outcome());
    let retry_after_ms = u64::from(error.retry_after_ms);
    RequestError {
        code: error.code(),
        outcome,
        retryable: error.retryable,
        retry_after: (retry_after_ms > 0).then(|| Duration::from_millis(retry_after_ms)),
        message: error.message,
        node,
    }
}

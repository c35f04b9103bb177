//! What operators ask of the hints on a node: what is kept for whom, and how its delivery is to go on.

use souk_kv_proto::admin::{
    HintAction, HintSummary, HintsResponse, SteerHintsRequest, SteerHintsResponse,
};
use souk_ring::NodeId;
use tracing::warn;

use crate::{cluster::name_of, core::NodeCore, error::RequestError};

/// Hints given up in one call; a caller with more of them asks again.
const DROP_MAX: usize = 4096;
/// Hints given up in one batch.
const DROP_BATCH: usize = 256;

/// What is kept for whom.
pub(super) fn listed(core: &NodeCore) -> HintsResponse {
    let hints = summaries(core);
    HintsResponse {
        bytes_used: hints.iter().map(|hint| hint.hints_bytes).sum(),
        hints,
        bytes_max: core.limits.hints_bytes_max,
        node: core.name.clone(),
    }
}

/// Does what an operator wants.
pub(super) async fn steer(
    core: &NodeCore,
    request: &SteerHintsRequest,
) -> Result<SteerHintsResponse, RequestError> {
    let targets = targets(core, &request.target)?;
    let steering = core.hints.steering();
    let mut response = SteerHintsResponse::default();
    match request.action() {
        HintAction::Pause | HintAction::Resume => {
            let is_paused = request.action() == HintAction::Pause;
            for target in targets {
                steering.set_paused(target, is_paused).await?;
            }
        }
        HintAction::DeliverNow => {
            for target in targets {
                steering.deliver_now(target);
            }
        }
        HintAction::Drop => {
            let [target] = targets[..] else {
                return Err(RequestError::Invalid(
                    "hints are dropped for one target at a time: name it".to_owned(),
                ));
            };
            if !request.accept_data_loss {
                return Err(RequestError::Invalid(
                    "dropping hints may lose acknowledged writes for ever: set accept_data_loss if that is meant".to_owned(),
                ));
            }
            drop_hints(core, target, &mut response).await?;
        }
        HintAction::Unspecified => {
            return Err(RequestError::Invalid(
                "no action: choose pause, resume, deliver-now or drop".to_owned(),
            ));
        }
    }
    response.hints = summaries(core);
    Ok(response)
}

async fn drop_hints(
    core: &NodeCore,
    target: NodeId,
    response: &mut SteerHintsResponse,
) -> Result<(), RequestError> {
    for _ in 0..DROP_MAX / DROP_BATCH {
        let dropped = core.hints.drop_some(target, DROP_BATCH).await?;
        response.dropped_count += dropped.count;
        response.dropped_bytes += dropped.bytes;
        response.more = dropped.more;
        if !dropped.more {
            break;
        }
    }
    warn!(
        target_node = target.0,
        count = response.dropped_count,
        bytes = response.dropped_bytes,
        "an operator dropped hints"
    );
    Ok(())
}

fn summaries(core: &NodeCore) -> Vec<HintSummary> {
    let layout = core.cluster.layout();
    let now_ms = core.cluster.environment.unix_ms();
    let steering = core.hints.steering();
    let mut totals = core.hints.totals();
    for member in layout.members().keys() {
        if steering.is_paused(*member) {
            totals.entry(*member).or_default();
        }
    }
    let summary = |(target, totals): (NodeId, crate::hint::HintTotals)| {
        let member = layout.member(target);
        let state = match member {
            _ if steering.is_paused(target) => "paused",
            None => "rerouting",
            Some(_) if core.cluster.is_forgotten(target) => "rerouting",
            Some(_) if core.cluster.is_up(target) => "delivering",
            Some(_) => "waiting",
        };
        HintSummary {
            target: name_of(&layout, target),
            hints_count: totals.count,
            hints_bytes: totals.bytes,
            waiting_ms: match totals.since_unix_ms {
                0 => 0,
                since => now_ms.saturating_sub(since),
            },
            state: state.to_owned(),
        }
    };
    totals.into_iter().map(summary).collect()
}

/// The target of that name or number; all when there is no name.
fn targets(core: &NodeCore, name: &str) -> Result<Vec<NodeId>, RequestError> {
    let layout = core.cluster.layout();
    let others = || {
        layout
            .members()
            .values()
            .filter(|member| member.id != core.cluster.node)
    };
    let totals = core.hints.totals();
    if name.is_empty() {
        let mut all: Vec<NodeId> = others()
            .map(|member| member.id)
            .chain(totals.into_keys())
            .collect();
        all.sort_unstable();
        all.dedup();
        return Ok(all);
    }
    let member = others().find(|member| member.name.as_str() == name);
    let removed = || {
        let number = NodeId(name.parse().ok()?);
        (layout.member(number).is_none() && totals.contains_key(&number)).then_some(number)
    };
    match member.map(|member| member.id).or_else(removed) {
        Some(target) => Ok(vec![target]),
        None => {
            let names: Vec<&str> = others().map(|member| member.name.as_str()).collect();
            Err(RequestError::Invalid(format!(
                "`{name}` is no node that {} keeps hints for; those are {}",
                core.name,
                names.join(", ")
            )))
        }
    }
}

//! What operators ask about the members and their layout: plan, stage, apply, history, and who is at the door.
//!
//! Place: behind the admin service; the rules are `crate::members::staged`'s and `souk_ring`'s.
//! Not here: moving copies (`crate::transfer`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use souk_kv_core::layout::{StagedChange, Staging};
use souk_kv_proto::{
    admin::{
        KnockRequest, LayoutApplyResponse, LayoutDeed, LayoutHistoryResponse, LayoutPlanResponse,
        LayoutStageRequest, LayoutStageResponse, NodeTransfers, PlannedNode, StageJoin,
        TransfersResponse, layout_stage_request::Change,
    },
    convert::staging::{newcomer_from_wire, newcomer_to_wire},
    peer::{self, ReadTransfers, peer_message::Body},
};
use souk_ring::{
    Layout, MemberChange, MemberSpec, MovePlan, Name, NodeId, PartitionId, StoreId, Weight,
};
use tokio::time::Instant;

use crate::{
    cluster::name_of,
    core::NodeCore,
    error::RequestError,
    members::{self, Newcomer},
};

/// How long a node may take to say how far it is.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// A node at the door shows itself.
pub(super) fn knock(core: &NodeCore, request: KnockRequest) -> Result<Arc<Layout>, RequestError> {
    if !core.members.is_agreed() {
        return Err(RequestError::NotReady(
            "the first layout is not agreed on yet: start all nodes of cluster.toml once"
                .to_owned(),
        ));
    }
    let layout = core.cluster.layout();
    if !request.cluster_id.is_empty() && request.cluster_id != layout.cluster_id().as_str() {
        return Err(RequestError::Invalid(format!(
            "the store at the door belongs to cluster `{}`, this is `{}`",
            request.cluster_id,
            layout.cluster_id()
        )));
    }
    let shown = newcomer_from_wire(request.node.unwrap_or_default());
    let (spec, store) = shown.map_err(|cause| RequestError::Invalid(cause.to_string()))?;
    // The first knock asks for the layout alone: without one there is no identity to show.
    if let Some(store) = store
        && layout.member_named(spec.name.as_str()).is_none()
        && !core.members.newcomers.knock(Newcomer { spec, store })
    {
        return Err(RequestError::Overloaded {
            what: "too many nodes wait to be let in",
            retry_after_ms: 1_000,
        });
    }
    Ok(layout)
}

/// Writes a change down.
pub(super) async fn stage(
    core: &NodeCore,
    request: LayoutStageRequest,
    deadline: Instant,
) -> Result<LayoutStageResponse, RequestError> {
    let layout = core.cluster.layout();
    let (change, store) = change_of(core, &layout, request)?;
    let staging = core.staged.stage(&change, store, deadline).await?;
    Ok(LayoutStageResponse {
        staged_version: staging.version,
        staged: words(&staging, &layout),
    })
}

/// Applies what is staged.
pub(super) async fn apply(
    core: &NodeCore,
    version: u64,
    deadline: Instant,
) -> Result<LayoutApplyResponse, RequestError> {
    let applied = core.staged.apply(version, deadline).await?;
    Ok(LayoutApplyResponse {
        layout_epoch: applied.layout.epoch().0,
        moving: applied.layout.moving_since().is_some(),
        applied_before: applied.before,
    })
}

/// The layout, what is staged, and where that leads.
pub(super) async fn plan(
    core: &NodeCore,
    deadline: Instant,
) -> Result<LayoutPlanResponse, RequestError> {
    let staging = core.staged.read(deadline).await?;
    let layout = core.cluster.layout();
    let wished: Vec<MemberChange> = staging
        .pending(&layout)
        .map(|line| line.change.clone())
        .collect();
    let refused = match staging.applied(&layout, staging.version) {
        _ if wished.is_empty() => String::new(),
        Ok(_) => String::new(),
        Err(cause) => cause.to_string(),
    };
    // Where it leads can be shown even while it cannot be done: the change under way is taken as settled.
    let settled = layout.settled().unwrap_or_else(|_| (*layout).clone());
    let after = settled.next(&wished).unwrap_or_else(|_| settled.clone());
    let moves = MovePlan::between(&settled, &after)
        .map_err(|cause| RequestError::Internal(cause.to_string()))?;
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let copies_total = after.copies_count() * after.partition_count().get() as usize;
    Ok(LayoutPlanResponse {
        layout_epoch: layout.epoch().0,
        staged_version: staging.version,
        staged: words(&staging, &layout),
        moving: moving_words(&layout),
        nodes: planned_nodes(&settled, &after, &moves),
        copies_moving: count(moves.gains_count()),
        copies_total: count(copies_total),
        bytes_moving: bytes_of_a_copy(core, &layout).saturating_mul(count(moves.gains_count())),
        partitions_unsafe: unsafe_partitions(&settled),
        partitions_unsafe_after: unsafe_partitions(&after),
        warnings: warnings(core, &settled, &after),
        refused,
        newcomers: core
            .members
            .newcomers
            .all()
            .iter()
            .map(|newcomer| newcomer_to_wire(&newcomer.spec, Some(newcomer.store)))
            .collect(),
    })
}

/// What this node has seen.
pub(super) fn history(core: &NodeCore) -> Result<LayoutHistoryResponse, RequestError> {
    let deeds = members::deeds(&core.store)?;
    let deed = |deed: souk_kv_proto::store::LayoutDeed| LayoutDeed {
        layout_epoch: deed.epoch,
        adopted_unix_ms: deed.adopted_unix_ms,
        what: deed.what,
    };
    Ok(LayoutHistoryResponse {
        deeds: deeds.into_iter().map(deed).collect(),
    })
}

/// How far all members are.
pub(super) async fn transfers(core: &NodeCore) -> TransfersResponse {
    let layout = core.cluster.layout();
    let started = layout.moving_since().map_or(0, |epoch| epoch.0);
    let asked = layout.members().values().map(|member| async {
        let (transfers, error) = match report(core, member.id, started).await {
            Ok(transfers) => (Some(transfers), String::new()),
            Err(cause) => (None, cause),
        };
        NodeTransfers {
            node: member.name.to_string(),
            error,
            transfers,
        }
    });
    TransfersResponse {
        started,
        nodes: join_all(asked).await,
    }
}

async fn report(core: &NodeCore, node: NodeId, started: u64) -> Result<peer::Transfers, String> {
    if node == core.cluster.node {
        return Ok(core.transfers.report(started));
    }
    let body = Body::ReadTransfers(ReadTransfers {});
    let deadline = Instant::now() + REPORT_TIMEOUT;
    match core.cluster.call(node, body, deadline).await {
        Ok(Body::Transfers(transfers)) => Ok(transfers),
        Ok(_) => Err("it answered something else".to_owned()),
        Err(cause) => Err(cause.to_string()),
    }
}

fn change_of(
    core: &NodeCore,
    layout: &Layout,
    request: LayoutStageRequest,
) -> Result<(MemberChange, Option<StoreId>), RequestError> {
    let change = match request.change {
        None => return Err(RequestError::Invalid("no change is named".to_owned())),
        Some(Change::Join(join)) => {
            let newcomer = at_the_door(core, layout, join)?;
            return Ok((MemberChange::Join(newcomer.spec), Some(newcomer.store)));
        }
        Some(Change::Replace(replace)) => {
            let id = member(layout, &replace.name)?;
            let newcomer = at_the_door(core, layout, replace.with.unwrap_or_default())?;
            let with = newcomer.spec;
            return Ok((MemberChange::Replace { id, with }, Some(newcomer.store)));
        }
        Some(Change::Leave(name)) => MemberChange::Leave(member(layout, &name)?),
        Some(Change::Weight(weight)) => MemberChange::SetWeight {
            id: member(layout, &weight.name)?,
            weight: Weight::new(weight.weight).map_err(invalid)?,
        },
        Some(Change::Zone(zone)) => MemberChange::SetZone {
            id: member(layout, &zone.name)?,
            zone: Name::try_from(zone.zone).map_err(invalid)?,
        },
    };
    Ok((change, None))
}

fn invalid(cause: impl ToString) -> RequestError {
    RequestError::Invalid(cause.to_string())
}

fn member(layout: &Layout, name: &str) -> Result<NodeId, RequestError> {
    let names = || {
        let names = layout.members().values().map(|member| member.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let member = layout.member_named(name);
    member.map(|member| member.id).ok_or_else(|| {
        invalid(format_args!(
            "there is no member `{name}`, the members are {}",
            names()
        ))
    })
}

/// A node that has shown itself, as it is to be a member.
fn at_the_door(
    core: &NodeCore,
    layout: &Layout,
    join: StageJoin,
) -> Result<Newcomer, RequestError> {
    let newcomer = core.members.newcomers.named(&join.name).ok_or_else(|| {
        invalid(if layout.member_named(&join.name).is_some() {
            format!("`{}` is a member already", join.name)
        } else {
            format!(
                "no node `{0}` has shown itself: start it with `souk node --name {0} --join ADDRESS`, and ask again while it waits",
                join.name
            )
        })
    })?;
    let mut spec = newcomer.spec;
    if !join.zone.is_empty() {
        spec.zone = Name::try_from(join.zone).map_err(invalid)?;
    }
    if join.weight > 0 {
        spec.weight = Weight::new(join.weight).map_err(invalid)?;
    }
    Ok(Newcomer { spec, ..newcomer })
}

/// What is pending, for people.
fn words(staging: &Staging, layout: &Layout) -> Vec<String> {
    let name = |id: &NodeId| name_of(layout, *id);
    let joins = |spec: &MemberSpec| {
        let (zone, weight) = (&spec.zone, spec.weight.get());
        format!("{} joins, zone {zone}, weight {weight}", spec.name)
    };
    let line = |line: &StagedChange| match &line.change {
        MemberChange::Join(spec) => joins(spec),
        MemberChange::Leave(id) => format!("{} leaves", name(id)),
        MemberChange::Replace { id, with } => format!("{} leaves, {}", name(id), joins(with)),
        MemberChange::SetWeight { id, weight } => {
            format!("{} gets weight {}", name(id), weight.get())
        }
        MemberChange::SetZone { id, zone } => format!("{} stands in zone {zone}", name(id)),
    };
    staging.pending(layout).map(line).collect()
}

fn moving_words(layout: &Layout) -> String {
    let Some(started) = layout.moving_since() else {
        return String::new();
    };
    let those = |which: &dyn Fn(NodeId) -> bool| {
        let members = layout.members().values().filter(|member| which(member.id));
        members
            .map(|member| member.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let joining = those(&|id| layout.is_joining(id));
    let leaving = those(&|id| layout.is_leaving(id));
    let mut words = format!("copies move since epoch {started}");
    for (who, what) in [(joining, "joining"), (leaving, "leaving")] {
        if !who.is_empty() {
            words.push_str(&format!("; {what}: {who}"));
        }
    }
    words
}

fn planned_nodes(before: &Layout, after: &Layout, moves: &MovePlan) -> Vec<PlannedNode> {
    let held = |layout: &Layout| {
        let mut held: BTreeMap<NodeId, u32> = BTreeMap::new();
        for partition in layout.partition_count().partitions() {
            for owner in layout.owners(partition) {
                *held.entry(*owner).or_default() += 1;
            }
        }
        held
    };
    let (now, then, per_node) = (held(before), held(after), moves.per_node());
    let mut members = before.members().clone();
    members.extend(after.members().clone());
    let planned = members.into_values().map(|member| {
        let id = member.id;
        let moves = per_node.get(&id).copied().unwrap_or_default();
        let fate = match (before.member(id).is_some(), after.member(id).is_some()) {
            (false, _) => "joins",
            (true, true) => "stays",
            (true, false) => "leaves",
        };
        PlannedNode {
            name: member.name.to_string(),
            id: id.0,
            zone: member.zone.to_string(),
            weight: member.weight.get(),
            fate: fate.to_owned(),
            partitions: now.get(&id).copied().unwrap_or_default(),
            partitions_after: then.get(&id).copied().unwrap_or_default(),
            gains: moves.gains_count,
            losses: moves.losses_count,
        }
    });
    planned.collect()
}

fn zones_of(layout: &Layout, partition: PartitionId) -> usize {
    let owners = layout.owners(partition).iter();
    let zones = owners.filter_map(|owner| layout.member(*owner).map(|member| &member.zone));
    zones.collect::<std::collections::BTreeSet<_>>().len()
}

/// Partitions whose copies stand in fewer zones than there are copies.
fn unsafe_partitions(layout: &Layout) -> u32 {
    let copies = layout.copies_count();
    let partitions = layout.partition_count().partitions();
    let few = partitions.filter(|partition| zones_of(layout, *partition) < copies);
    u32::try_from(few.count()).unwrap_or(u32::MAX)
}

fn warnings(core: &NodeCore, before: &Layout, after: &Layout) -> Vec<String> {
    let mut warnings = Vec::new();
    let planned = after.replicas_n().count();
    if after.copies_count() < planned {
        warnings.push(format!(
            "{} members keep {} copies of everything, {planned} are wished for",
            after.members().len(),
            after.copies_count()
        ));
    }
    let unsafe_after = unsafe_partitions(after);
    if unsafe_after > unsafe_partitions(before) {
        warnings.push(format!(
            "{unsafe_after} partitions will have two copies in one zone: losing that zone costs them both"
        ));
    }
    for member in before.members().values() {
        if !core.cluster.is_up(member.id) {
            let fate = match after.member(member.id) {
                Some(_) => "and what it gains waits for it",
                None => "its copies are taken from the others, writes that it alone has are lost",
            };
            warnings.push(format!("{} does not answer: {fate}", member.name));
        } else if before.is_learner(member.id) {
            warnings.push(format!(
                "{} is being taught what its lost store knew: let that end first",
                member.name
            ));
        }
    }
    let own = after.members().len();
    if own == 2 && before.members().len() != 2 {
        warnings
            .push("with two members nothing can be decided when one of them is away".to_owned());
    }
    warnings
}

/// What one copy of a partition takes on this node's disk, on average; 0 when it holds none.
fn bytes_of_a_copy(core: &NodeCore, layout: &Layout) -> u64 {
    let held = layout.partitions_of(core.cluster.node).count();
    let disk = core
        .store
        .stats()
        .map_or(0, |stats| stats.engine.disk_bytes);
    u64::try_from(held).map_or(0, |held| disk.checked_div(held).unwrap_or(0))
}

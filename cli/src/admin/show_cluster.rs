//! `souk admin status`, `endpoints` and `register show`.

use comfy_table::Cell;
use serde_json::{Value as Json, json};
use souk_kv_client::{AcceptorState, Key, NodeStatus, StatusResponse};

use super::{PlaceArgs, StatusArgs};
use crate::cluster::ClusterArgs;
use crate::failure::Failure;
use crate::kv::bytes_of;
use crate::show;

/// The cluster as one node sees it.
pub(crate) async fn status(args: StatusArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let client = args.common.endpoints.connect(cluster).await?;
    let status = client.admin().status(args.node.as_deref()).await?;
    if args.common.json {
        show::json(&status_json(&status));
        return Ok(());
    }
    show::line(format_args!(
        "cluster {}, as seen by {} (souk {})",
        status.cluster_id, status.node, status.version
    ));
    let (partitions, copies) = (status.partitions_count, status.replicas_n);
    show::line(format_args!(
        "layout epoch {}, {partitions} partitions, {copies} copies",
        status.layout_epoch
    ));
    let disk = show::size(status.disk_bytes);
    show::line(format_args!(
        "engine {}, {disk} on disk, up for {} s",
        status.engine,
        status.uptime_ms / 1000
    ));
    if status.ready {
        show::line(show::good("ready"));
    } else {
        show::line(format_args!(
            "{}: {}",
            show::bad("not ready"),
            status.not_ready_reason
        ));
    }
    let heading = [
        "node",
        "zone",
        "state",
        "grpc",
        "http",
        "phi",
        "answers in",
        "partitions",
        "first",
        "hints for it",
    ];
    show::table(heading, status.nodes.iter().map(node_row));
    Ok(())
}

fn node_row(node: &NodeStatus) -> [Cell; 10] {
    let is_up = matches!(node.state.as_str(), "self" | "up");
    let latency = if node.latency_us == 0 {
        "-".to_owned()
    } else {
        format!("{} us", node.latency_us)
    };
    [
        Cell::new(&node.name),
        Cell::new(&node.zone),
        show::judged(&node.state, is_up),
        Cell::new(&node.grpc_address),
        Cell::new(&node.http_address),
        Cell::new(format!("{:.1}", node.phi)),
        Cell::new(latency),
        Cell::new(node.partitions_held),
        Cell::new(node.partitions_first),
        Cell::new(node.hints_count),
    ]
}

fn status_json(status: &StatusResponse) -> Json {
    let node = |node: &NodeStatus| {
        json!({
            "id": node.id,
            "name": node.name,
            "zone": node.zone,
            "grpc": node.grpc_address,
            "http": node.http_address,
            "state": node.state,
            "phi": node.phi,
            "latency_us": node.latency_us,
            "partitions_held": node.partitions_held,
            "partitions_first": node.partitions_first,
            "hints_count": node.hints_count,
        })
    };
    json!({
        "cluster": status.cluster_id,
        "node": status.node,
        "version": status.version,
        "layout_epoch": status.layout_epoch,
        "catalogue_version": status.catalogue_version,
        "ready": status.ready,
        "not_ready_reason": status.not_ready_reason,
        "partitions_count": status.partitions_count,
        "replicas_n": status.replicas_n,
        "uptime_ms": status.uptime_ms,
        "engine": status.engine,
        "disk_bytes": status.disk_bytes,
        "nodes": status.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

/// Which nodes hold a key.
pub(crate) async fn endpoints(args: PlaceArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let partition_key = bytes_of(&args.partition_key, args.hex)?;
    let client = args.common.endpoints.connect(cluster).await?;
    let place = client
        .admin()
        .endpoints(&Key::new(args.bucket, partition_key, ""))
        .await?;
    if args.common.json {
        show::json(&json!({
            "partition": place.partition,
            "token": format!("{:016x}", place.token),
            "primaries": place.primaries,
            "fallbacks": place.fallbacks,
        }));
        return Ok(());
    }
    show::line(format_args!(
        "partition {}, token {:016x}",
        place.partition, place.token
    ));
    show::line(format_args!("primaries  {}", place.primaries.join(", ")));
    show::line(format_args!("fallbacks  {}", place.fallbacks.join(", ")));
    Ok(())
}

/// Acceptors of one register group.
pub(crate) async fn register(args: PlaceArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let partition_key = bytes_of(&args.partition_key, args.hex)?;
    let client = args.common.endpoints.connect(cluster).await?;
    let group = client
        .admin()
        .register_show(&Key::new(args.bucket, partition_key, ""))
        .await?;
    if args.common.json {
        let acceptors: Vec<Json> = group.acceptors.iter().map(acceptor_json).collect();
        show::json(&json!({ "partition": group.partition, "acceptors": acceptors }));
        return Ok(());
    }
    show::line(format_args!("partition {}", group.partition));
    show::table(
        [
            "acceptor", "standing", "promised", "accepted", "chosen", "rows", "size", "epoch",
        ],
        group.acceptors.iter().map(acceptor_row),
    );
    Ok(())
}

fn acceptor_row(acceptor: &AcceptorState) -> [Cell; 8] {
    let or_none = |ballot: &str| Cell::new(if ballot.is_empty() { "-" } else { ballot });
    if !acceptor.error.is_empty() {
        let none = || Cell::new("-");
        return [
            Cell::new(&acceptor.node),
            Cell::new(&acceptor.standing),
            show::judged(&acceptor.error, false),
            none(),
            none(),
            none(),
            none(),
            none(),
        ];
    }
    [
        Cell::new(&acceptor.node),
        show::judged(&acceptor.standing, acceptor.standing == "full"),
        or_none(&acceptor.promised),
        or_none(&acceptor.accepted),
        or_none(&acceptor.chosen),
        Cell::new(acceptor.rows),
        Cell::new(show::size(acceptor.bytes)),
        Cell::new(acceptor.layout_epoch),
    ]
}

fn acceptor_json(acceptor: &AcceptorState) -> Json {
    json!({
        "node": acceptor.node,
        "error": acceptor.error,
        "promised": acceptor.promised,
        "accepted": acceptor.accepted,
        "chosen": acceptor.chosen,
        "standing": acceptor.standing,
        "rows": acceptor.rows,
        "bytes": acceptor.bytes,
        "layout_epoch": acceptor.layout_epoch,
    })
}

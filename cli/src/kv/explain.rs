//! How the cluster answered one request: the table behind `--explain`.

use comfy_table::Cell;
use serde_json::{Value as Json, json};
use souk_kv_client::{Explain, ExplainReplica};

use crate::show;

/// For people.
pub(crate) fn show(explain: &Explain) {
    let hedged = if explain.hedged {
        ", one replica more was asked because the others were slow"
    } else {
        ""
    };
    let prepared = match explain.prepared_us {
        0 => String::new(),
        us => format!("own copy on its way to the disk after {us} us, "),
    };
    show::line(format_args!(
        "asked by {}: {prepared}enough had answered after {} us of {} us{hedged}",
        explain.coordinator, explain.answered_us, explain.total_us
    ));
    if explain.siblings > 0 || explain.repairs_started > 0 {
        show::line(format_args!(
            "{} siblings, {} repairs started",
            explain.siblings, explain.repairs_started
        ));
    }
    show::table(
        ["node", "role", "said", "after"],
        explain.replicas.iter().map(row),
    );
}

fn row(replica: &ExplainReplica) -> [Cell; 4] {
    let role = match (replica.fallback, replica.hinted_for.as_str()) {
        (false, _) => "owner".to_owned(),
        (true, "") => "stand-in".to_owned(),
        (true, absent) => format!("stand-in for {absent}"),
    };
    let is_good = matches!(replica.state.as_str(), "answered" | "stored");
    let state = match replica.state.as_str() {
        "not-asked" => Cell::new("not asked"),
        state => show::judged(state, is_good),
    };
    let after = match replica.after_us {
        0 => "-".to_owned(),
        us => format!("{us} us"),
    };
    [
        Cell::new(&replica.node),
        Cell::new(role),
        state,
        Cell::new(after),
    ]
}

/// For scripts.
pub(crate) fn as_json(explain: &Explain) -> Json {
    let replica = |replica: &ExplainReplica| {
        json!({
            "node": replica.node,
            "state": replica.state,
            "fallback": replica.fallback,
            "hinted_for": replica.hinted_for,
            "after_us": replica.after_us,
        })
    };
    json!({
        "coordinator": explain.coordinator,
        "siblings": explain.siblings,
        "repairs_started": explain.repairs_started,
        "hedged": explain.hedged,
        "prepared_us": explain.prepared_us,
        "answered_us": explain.answered_us,
        "total_us": explain.total_us,
        "replicas": explain.replicas.iter().map(replica).collect::<Vec<_>>(),
    })
}

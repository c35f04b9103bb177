//! Conditional writes by many clients, judged linearizable, while nodes die, freeze and are restarted.

use souk_jepsen_like_tests::fault::Fault;

use crate::support::Chaos;

async fn check(fault: Fault, engine: &str) {
    let chaos = Chaos {
        workloads: &["register"],
        fault,
        engine,
    };
    let report = chaos.run().await;
    let counts = &report.workloads[0].report.counts;
    assert!(
        counts["ok"] * 10 > counts["operations"] * 3,
        "too little was answered: {counts:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn registers_are_linearizable_while_nodes_die() {
    check(Fault::KillOne, "fjall").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registers_are_linearizable_while_nodes_freeze() {
    check(Fault::PauseOne, "sled").await;
}

//! One of three nodes is killed and comes back, then another one: nobody loses anything, and nobody has to wait.

use souk_jepsen_like_tests::checker::{Checker as _, ReadPromise, SetChecker};
use souk_jepsen_like_tests::fault::{Fault, Window, windows};
use souk_jepsen_like_tests::history::{EventKind, History};

use crate::support::{Chaos, all_open, within};

#[tokio::test(flavor = "multi_thread")]
async fn carts_stock_and_orders_survive_the_death_of_a_node() {
    let chaos = Chaos {
        workloads: &["cart", "shop-cart", "stock", "checkout"],
        fault: Fault::KillOne,
        engine: "fjall",
    };
    let report = chaos.run().await;

    let stock = report.of("stock").unwrap();
    let last = stock.history.operations_of("final-stock").pop().unwrap();
    let state = last.told().unwrap();
    assert_eq!(state["available"], 0, "{state}");
    assert_eq!(state["reserved"], 500, "{state}");
    assert_eq!(state["holds"].as_array().unwrap().len(), 500);

    // The others go on while one is down: every window has adds and reservations that were answered ok.
    for (workload, f) in [("cart", "add"), ("shop-cart", "add"), ("stock", "reserve")] {
        let history = &report.of(workload).unwrap().history;
        let found = windows(history);
        assert_eq!(found.len(), 3, "{found:?}");
        let ok = |window: &Window| {
            within(history, f, all_open(std::slice::from_ref(window)))
                .iter()
                .any(|one| one.is_ok())
        };
        // Stock may be sold out by the second blow.
        let counted = if workload == "stock" {
            &found[..1]
        } else {
            &found[..]
        };
        assert!(counted.iter().all(ok), "{workload} stood still: {found:?}");
    }

    // The verdict rests on the acknowledgements: without one cart's last look at one item, it is another.
    let spoilt = without_one_element(&report.of("cart").unwrap().history);
    let verdict = SetChecker {
        promise: ReadPromise::Final,
    }
    .check(&spoilt)
    .verdict;
    assert!(verdict.is_invalid(), "{verdict}");
}

/// The history, but one final read lacks its first element.
fn without_one_element(history: &History) -> History {
    let mut events = history.events().to_vec();
    let read = events
        .iter_mut()
        .find(|event| event.f == "final-read" && event.kind == EventKind::Ok)
        .unwrap();
    read.value[1].as_array_mut().unwrap().remove(0);
    History::new(events).unwrap()
}

//! Two of three nodes are killed: carts take every item all the same, stock says no and means it.

use souk_jepsen_like_tests::fault::{Fault, windows};
use souk_jepsen_like_tests::history::Operation;

use crate::support::{Chaos, all_open, within};

#[tokio::test(flavor = "multi_thread")]
async fn carts_stay_writable_and_stock_refuses_honestly_without_a_majority() {
    let chaos = Chaos {
        workloads: &["cart", "stock"],
        fault: Fault::KillMajority,
        engine: "fjall",
    };
    let report = chaos.run().await;

    let carts = &report.of("cart").unwrap().history;
    let found = windows(carts);
    assert_eq!(found.len(), 2, "{found:?}");
    let adds = within(carts, "add", all_open(&found));
    let (taken, refused): (Vec<&Operation>, Vec<&Operation>) =
        adds.iter().partition(|add| add.is_ok());
    assert!(
        taken.len() > 20,
        "{} adds were taken by one node of three",
        taken.len()
    );
    assert!(
        refused.is_empty(),
        "adds were refused, such as {}",
        refused[0]
    );
    let plain = taken
        .iter()
        .find(|add| add.told().unwrap()[1]["degraded"] != true);
    assert!(
        plain.is_none(),
        "an add does not say that it is degraded: {}",
        plain.unwrap()
    );

    // One acceptor of three can decide nothing, so whatever it answers, it is not a grant. That no refusal
    // was one after all is the checker's business: it finds held what failed.
    let stock = &report.of("stock").unwrap().history;
    let reserves = within(stock, "reserve", all_open(&windows(stock)));
    assert!(
        reserves.len() > 5,
        "only {} reservations were tried",
        reserves.len()
    );
    let granted = reserves
        .iter()
        .find(|one| one.is_ok() || one.refused().is_some());
    assert!(
        granted.is_none(),
        "decided without a majority: {}",
        granted.unwrap()
    );
}

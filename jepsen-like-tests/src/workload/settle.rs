//! Waits until a cluster that runs again has come to rest.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use souk_kv_client::Client;
use tokio::time::{Instant, sleep};

use super::{Target, WorkloadError};
use crate::history::Recorder;

/// Longest wait for rest.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Waits until no node keeps a hint for another one.
pub(super) async fn hints_delivered(client: &Client, target: &Target) -> Result<(), WorkloadError> {
    let begun = Instant::now();
    loop {
        let last = match hints_left(client, target).await {
            Ok(0) => return Ok(()),
            Ok(count) => format!("{count} hints"),
            Err(problem) => problem,
        };
        if begun.elapsed() > SETTLE_WITHIN {
            return Err(WorkloadError::NotSettled {
                what: "hints are not delivered",
                waited_s: SETTLE_WITHIN.as_secs(),
                last,
            });
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn hints_left(client: &Client, target: &Target) -> Result<u64, String> {
    let mut count = 0;
    for node in &target.nodes {
        let hints = client.admin().hints(Some(node)).await;
        let hints = hints.map_err(|problem| problem.to_string())?;
        count += hints
            .hints
            .iter()
            .map(|summary| summary.hints_count)
            .sum::<u64>();
    }
    Ok(count)
}

/// Reads every cart once, patiently; `look` gives its elements or says why not.
pub(super) async fn final_cart_reads<F>(
    carts: &BTreeSet<String>,
    recorder: &Recorder,
    look: impl Fn(String) -> F,
) -> Result<(), WorkloadError>
where
    F: Future<Output = Result<Value, String>>,
{
    let answer = |cart: String| {
        let look = look(cart.clone());
        async move { Ok(json!([cart, look.await?])) }
    };
    let asked = |cart: &str| json!([cart, null]);
    final_reads(carts, recorder, "a cart cannot be read", asked, answer).await
}

/// Reads every thing of these names once, patiently. `what` says that it did not work, `asked` what is asked;
/// `look` gives the whole answer, or says why there is none.
pub(super) async fn final_reads<F>(
    names: &BTreeSet<String>,
    recorder: &Recorder,
    what: &'static str,
    asked: impl Fn(&str) -> Value,
    look: impl Fn(String) -> F,
) -> Result<(), WorkloadError>
where
    F: Future<Output = Result<Value, String>>,
{
    let mut lane = recorder.lane();
    for name in names {
        let begun = Instant::now();
        loop {
            let pending = lane.invoke("final-read", asked(name));
            let last = match look(name.clone()).await {
                Ok(answer) => {
                    pending.ok(answer);
                    break;
                }
                Err(problem) => problem,
            };
            pending.fail(last.clone());
            if begun.elapsed() > SETTLE_WITHIN {
                return Err(WorkloadError::NotSettled {
                    what,
                    waited_s: SETTLE_WITHIN.as_secs(),
                    last,
                });
            }
            sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

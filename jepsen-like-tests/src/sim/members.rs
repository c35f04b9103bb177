//! Operators of a simulated cluster: each change of the members is the work of one of them, on a machine of his own.
//!
//! Place: started by [`super::nemesis`], which goes on with its steps when the operator is done.
//! Invariant: what an operator is told is repeated until it is certain; what he cannot get done is said, and is the store's
//! failure.
//! Not here: which changes, and when (`crate::fault`).

use std::collections::BTreeSet;
use std::time::Duration;

use souk_kv_client::{
    Client, LayoutPlanResponse, LayoutStageRequest, RequestError, StageChange, StageJoin,
    StageReplace,
};
use tokio::time::{Instant, sleep, timeout};

use crate::fault::{Action, Step};
use crate::workload::Target;

/// How long an operator repeats what is refused: longer than any window of another fault.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long copies may move.
const SETTLE_WITHIN: Duration = Duration::from_secs(240);
const REPEAT_EVERY: Duration = Duration::from_millis(250);

/// What an operator has seen in the end.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// In words.
    pub(super) words: String,
    /// The members by then.
    pub(super) members: BTreeSet<String>,
}

/// Stages and applies a change. One operator of three goes away in the middle of applying it, after `hasty`.
pub(super) async fn change(target: Target, step: Step, hasty: Duration) -> Result<Seen, String> {
    let operator = Operator::arrive(&target).await?;
    for (number, change) in (1..).zip(changes(&step)) {
        operator.stage(change, number).await?;
    }
    let plan = operator.plan().await?;
    let version = plan.staged_version;
    // Dropped in the middle of it: what he sent is under way.
    timeout(hasty, operator.client.admin().layout_apply(version))
        .await
        .ok();
    let (one, other) = tokio::join!(operator.apply(version), operator.apply(version));
    let (one, other) = (one?, other?);
    Ok(Seen {
        words: format!(
            "version {version} on layout epoch {}, {} of {} copies to move; two operators were told of epochs {one} and {other}",
            plan.layout_epoch, plan.copies_moving, plan.copies_total
        ),
        members: members(&plan),
    })
}

/// Waits until nothing moves and nothing is staged.
pub(super) async fn rest(target: Target) -> Result<Seen, String> {
    let operator = Operator::arrive(&target).await?;
    let begun = Instant::now();
    loop {
        let last = match operator.client.admin().layout_plan().await {
            Ok(plan) if plan.moving.is_empty() && plan.staged.is_empty() => {
                return Ok(Seen {
                    words: format!(
                        "nothing moves in layout epoch {}, after {} ms",
                        plan.layout_epoch,
                        begun.elapsed().as_millis()
                    ),
                    members: members(&plan),
                });
            }
            Ok(plan) => format!("{} {:?}", plan.moving, plan.staged),
            Err(problem) => problem.to_string(),
        };
        if begun.elapsed() > SETTLE_WITHIN {
            let waited = SETTLE_WITHIN.as_secs();
            let transfers = operator.client.admin().transfers().await;
            return Err(format!(
                "a change of members does not end within {waited} s: {last}; {transfers:?}"
            ));
        }
        sleep(REPEAT_EVERY).await;
    }
}

fn changes(step: &Step) -> Vec<StageChange> {
    let (leaving, joining) = step.leavers_and_joiners();
    let join = |name: &String| StageJoin {
        name: name.clone(),
        ..StageJoin::default()
    };
    if step.action == Action::Replace {
        let pairs = leaving.iter().zip(joining);
        let replace = pairs.map(|(old, new)| StageReplace {
            name: old.clone(),
            with: Some(join(new)),
        });
        return replace.map(StageChange::Replace).collect();
    }
    let leave = leaving.iter().cloned().map(StageChange::Leave);
    let join = joining.iter().map(join).map(StageChange::Join);
    leave.chain(join).collect()
}

fn members(plan: &LayoutPlanResponse) -> BTreeSet<String> {
    plan.nodes.iter().map(|node| node.name.clone()).collect()
}

struct Operator {
    client: Client,
}

impl Operator {
    async fn arrive(target: &Target) -> Result<Operator, String> {
        let begun = Instant::now();
        loop {
            match target.connect("operator").await {
                Ok(client) => return Ok(Operator { client }),
                Err(problem) if begun.elapsed() > PATIENCE => return Err(problem.to_string()),
                Err(_) => sleep(REPEAT_EVERY).await,
            }
        }
    }

    /// Stages one line, so that there are `number` of them.
    async fn stage(&self, change: StageChange, number: usize) -> Result<(), String> {
        let request = LayoutStageRequest {
            change: Some(change),
        };
        patiently(
            async || match self.client.admin().layout_stage(request.clone()).await {
                Ok(_) => Ok(()),
                Err(refused) => match self.client.admin().layout_plan().await {
                    // One that was not told how it ended may have done it.
                    Ok(plan) if plan.staged.len() == number => Ok(()),
                    _ => Err(refused),
                },
            },
        )
        .await
    }

    async fn plan(&self) -> Result<LayoutPlanResponse, String> {
        patiently(async || self.client.admin().layout_plan().await).await
    }

    /// Tells the epoch.
    async fn apply(&self, version: u64) -> Result<u64, String> {
        let applied = patiently(async || self.client.admin().layout_apply(version).await).await?;
        Ok(applied.layout_epoch)
    }
}

async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T, RequestError>) -> Result<T, String> {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(problem) if begun.elapsed() > PATIENCE => return Err(problem.to_string()),
            Err(_) => sleep(REPEAT_EVERY).await,
        }
    }
}

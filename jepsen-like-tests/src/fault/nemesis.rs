//! Carries out a schedule on real processes.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::{Action, Schedule};
use crate::history::Recorder;
use crate::process::{HarnessError, TestCluster};

/// See the module.
#[derive(Debug)]
pub struct Nemesis<'cluster> {
    cluster: &'cluster mut TestCluster,
    recorder: Recorder,
}

impl<'cluster> Nemesis<'cluster> {
    /// A nemesis that notes what it does.
    pub fn new(cluster: &'cluster mut TestCluster, recorder: Recorder) -> Nemesis<'cluster> {
        Nemesis { cluster, recorder }
    }

    /// Performs all steps at their times, counted from now.
    ///
    /// # Errors
    /// When a step had no effect that could be seen.
    pub async fn perform(&mut self, schedule: &Schedule) -> Result<(), HarnessError> {
        let begun = Instant::now();
        for step in &schedule.steps {
            sleep_until(begun + Duration::from_millis(step.at_ms)).await;
            for node in &step.nodes {
                let seen = self.act(step.action, node)?;
                tracing::info!(at_ms = step.at_ms, node, seen, "{}", step.action.as_str());
                self.recorder
                    .note(step.action.as_str(), json!({"node": node, "seen": seen}));
            }
        }
        Ok(())
    }

    fn act(&mut self, action: Action, node: &str) -> Result<String, HarnessError> {
        match action {
            Action::Kill => self.cluster.server(node)?.kill_9(),
            Action::Stop => self.cluster.server(node)?.stop(),
            Action::Start => self.cluster.start_server(node),
            Action::Pause => self.cluster.server(node)?.pause(),
            Action::Resume => self.cluster.server(node)?.resume(),
            Action::Cut
            | Action::Mend
            | Action::Delay
            | Action::Shuffle
            | Action::Lose
            | Action::Calm
            | Action::SetClock
            | Action::BendClock
            | Action::MendClock
            | Action::FillDisk
            | Action::FreeDisk
            | Action::FailSync
            | Action::Tear
            | Action::FlipBit
            | Action::Wipe => Err(HarnessError::NotReal {
                action: action.as_str(),
            }),
        }
    }
}

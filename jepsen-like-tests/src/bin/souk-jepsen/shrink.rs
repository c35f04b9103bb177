//! `souk-jepsen shrink`: makes the schedule of a simulated run that broke a promise small.

use std::error::Error;
use std::time::Duration;

use souk_jepsen_like_tests::fault::{Schedule, shrink};
use souk_jepsen_like_tests::sim::SimPlan;

use crate::apart::run_apart;
use crate::args::ShrinkArgs;
use crate::run::new_folder;
use crate::simulate::{read_plan, run_and_print};

/// Shrinks, runs the smallest schedule once more, and prints that; the exit code is that of its verdict.
pub(crate) fn shrink_run(args: &ShrinkArgs) -> Result<u8, Box<dyn Error>> {
    let plan = read_plan(&args.folder)?;
    let schedule = plan.schedule.clone();
    let schedule = schedule.ok_or("the plan in this folder has no schedule; run it again first")?;
    let out = new_folder(&args.out)?;
    let first = run_apart(&plan, &out.join("try"))?;
    if !first.is_invalid() {
        return Err("this run broke no promise, or does so no longer".into());
    }
    std::fs::remove_dir_all(out.join("try"))?;
    let wanted = first.kind().to_owned();
    let shrunk = shrink(&schedule, args.tries, |candidate| {
        let folder = out.join("try");
        let found = run_apart(&with(&plan, candidate), &folder)?;
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        let fails = found.is_invalid() && found.kind() == wanted;
        if fails {
            let seconds = Duration::from_millis(candidate.time_ms).as_secs();
            eprintln!("{} steps in {seconds} s still do it", candidate.steps.len());
        }
        Ok::<_, Box<dyn Error>>(fails)
    })?;
    eprintln!(
        "{} steps of {} are left after {} tries",
        shrunk.schedule.steps.len(),
        schedule.steps.len(),
        shrunk.tries
    );
    run_and_print(&with(&plan, &shrunk.schedule), &out, args.json)
}

fn with(plan: &SimPlan, schedule: &Schedule) -> SimPlan {
    SimPlan {
        time: Duration::from_millis(schedule.time_ms),
        schedule: Some(schedule.clone()),
        ..plan.clone()
    }
}

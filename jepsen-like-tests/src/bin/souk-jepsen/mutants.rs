//! `souk-jepsen mutants`: builds the store with all deliberate breakages, and hunts each of them by seeds.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use souk_jepsen_like_tests::fault::Fault;
use souk_jepsen_like_tests::mutants::{MUTANTS, Mutant, named};
use souk_jepsen_like_tests::sim::SimPlan;

use crate::apart::run_apart;
use crate::args::{HuntArgs, MutantsArgs};
use crate::{INVALID, VALID};

/// What a hunt found.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Hunted {
    name: String,
    /// The seed whose run broke a promise, if any did.
    caught_by: Option<u64>,
    seeds: u64,
    /// What the checker said first.
    violation: String,
    seconds: f64,
}

/// Hunts all mutants, or those named; succeeds when all are caught.
pub(crate) fn mutants(args: &MutantsArgs) -> Result<u8, Box<dyn Error>> {
    let chosen: Vec<Mutant> = if args.name.is_empty() {
        MUTANTS.to_vec()
    } else {
        let named = args.name.iter().map(|name| named(name));
        named.collect::<Result<_, _>>()?
    };
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => build(&args.target_dir)?,
    };
    let mut all = Vec::new();
    for mutant in &chosen {
        let hunted = hunt_with(&binary, mutant.name, args)?;
        eprintln!("{}", told(&hunted));
        all.push(hunted);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        print!("{}", table(&chosen, &all));
    }
    let is_caught = all.iter().all(|hunted| hunted.caught_by.is_some());
    Ok(if is_caught { VALID } else { INVALID })
}

/// Builds this program with the breakages in it, in a folder of its own.
fn build(target_dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    eprintln!("building the mutants in {}", target_dir.display());
    let status = Command::new(env!("CARGO"))
        .args(["build", "--profile", "suite"])
        .args(["-p", "souk-jepsen-like-tests", "--bin", "souk-jepsen"])
        .arg("--target-dir")
        .arg(target_dir)
        .env("SOUK_BUILD_MUTANTS", "1")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    if !status.success() {
        return Err(format!("the mutants do not build: {status}").into());
    }
    Ok(target_dir.join("suite/souk-jepsen"))
}

fn hunt_with(binary: &Path, name: &str, args: &MutantsArgs) -> Result<Hunted, Box<dyn Error>> {
    let output = Command::new(binary)
        .args(["hunt", name])
        .args(["--seeds", &args.seeds.to_string()])
        .args(["--time", &args.time.to_string()])
        .env("SOUK_MUTANT", name)
        .env("SOUK_LOG", "off")
        .output()?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("the hunt of {name} failed: {said}").into()
    })
}

/// Runs seeds until one breaks a promise; prints what was found as JSON.
pub(crate) fn hunt(args: &HuntArgs) -> Result<u8, Box<dyn Error>> {
    let mutant = named(&args.name)?;
    let begun = Instant::now();
    let mut hunted = Hunted {
        name: mutant.name.to_owned(),
        ..Hunted::default()
    };
    for seed in 1..=args.seeds {
        hunted.seeds = seed;
        let plan = SimPlan {
            time: Duration::from_secs_f64(args.time),
            nodes: mutant.nodes,
            ..SimPlan::new(mutant.workload, mutant.faults, seed)
        };
        let folder = tempfile::tempdir()?;
        // A store that does not even start is noticed as well.
        let violation = match run_apart(&plan, &folder.path().join("run")) {
            Ok(found) => found.is_invalid().then(|| found.told()),
            Err(problem) => Some(problem.to_string()),
        };
        if let Some(violation) = violation {
            hunted.caught_by = Some(seed);
            hunted.violation = violation;
            break;
        }
    }
    hunted.seconds = begun.elapsed().as_secs_f64();
    println!("{}", serde_json::to_string(&hunted)?);
    Ok(VALID)
}

fn told(hunted: &Hunted) -> String {
    match hunted.caught_by {
        Some(seed) => format!(
            "{}: caught by seed {seed}, {}",
            hunted.name, hunted.violation
        ),
        None => format!("{}: NOT caught by {} seeds", hunted.name, hunted.seeds),
    }
}

fn table(chosen: &[Mutant], all: &[Hunted]) -> String {
    let mut table = comfy_table::Table::new();
    table
        .load_style(comfy_table::presets::ASCII_MARKDOWN)
        .set_header([
            "mutant",
            "what it breaks",
            "workload",
            "faults",
            "caught by seed",
        ]);
    for (mutant, hunted) in chosen.iter().zip(all) {
        let seed = match hunted.caught_by {
            Some(seed) => seed.to_string(),
            None => "NOT CAUGHT".to_owned(),
        };
        table.add_row([
            mutant.name.to_owned(),
            mutant.breaks.to_owned(),
            mutant.workload.to_owned(),
            Fault::names(mutant.faults),
            seed,
        ]);
    }
    format!("{table}\n")
}

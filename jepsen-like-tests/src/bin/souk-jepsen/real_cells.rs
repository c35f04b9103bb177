//! `souk-jepsen matrix --real`: workloads under faults on real processes, one cell after the other.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use souk_jepsen_like_tests::checker::Verdict;
use souk_jepsen_like_tests::fault::Fault;
use souk_jepsen_like_tests::real::HostsWanted;
use souk_jepsen_like_tests::run::{RunPlan, RunReport};
use souk_jepsen_like_tests::workload;

use crate::args::MatrixArgs;
use crate::run::{new_folder, run_until_interrupted};
use crate::simulate::check_time;
use crate::{FAILED, INVALID, SKIPPED, UNKNOWN, VALID};

/// What each fault meets when no workload is named: those that it may hurt.
const MEETS: [(Fault, &[&str]); 26] = [
    (
        Fault::KillOne,
        &[
            "register",
            "register-hot",
            "register-wide",
            "cart",
            "checkout",
        ],
    ),
    (Fault::KillMajority, &["cart", "stock", "ledger"]),
    (
        Fault::PauseOne,
        &[
            "register",
            "register-hot",
            "register-wide",
            "session",
            "split-stock",
        ],
    ),
    (
        Fault::Restart,
        &[
            "register-hot",
            "register-wide",
            "set",
            "siblings",
            "shop-cart",
        ],
    ),
    (Fault::SplitOne, &["register", "deletes", "checkout"]),
    (
        Fault::SplitHalves,
        &["cas-register", "cart-changes", "stock"],
    ),
    (Fault::SplitRing, &["register", "siblings", "ledger"]),
    (Fault::SplitBridge, &["set", "cart", "session"]),
    (Fault::SplitOneWay, &["register", "deletes", "stock"]),
    (Fault::SplitFlapping, &["cas-register", "cart", "checkout"]),
    (Fault::Slow, &["register", "session", "cart"]),
    (Fault::Lossy, &["ledger", "siblings", "checkout"]),
    (Fault::Jitter, &["cas-register", "cart-changes", "set"]),
    (
        Fault::ClockJump,
        &["register", "deletes", "latest", "stock"],
    ),
    (Fault::ClockStrobe, &["cas-register", "session", "cart"]),
    (Fault::ClockRate, &["stock", "siblings", "set"]),
    (Fault::DiskFull, &["register", "cart", "ledger"]),
    (Fault::SyncError, &["register", "set", "cart-changes"]),
    (Fault::TornWrite, &["register", "cart", "stock"]),
    (Fault::BitFlip, &["register", "siblings", "set"]),
    (Fault::Wipe, &["register", "cart", "ledger"]),
    (Fault::Narrow, &["register", "session", "cart"]),
    (Fault::CpuStarved, &["cas-register", "siblings", "checkout"]),
    (Fault::MemoryStarved, &["set", "cart", "stock"]),
    (Fault::KillShop, &["checkout", "shop-cart"]),
    (Fault::Membership, &["register", "cart", "stock"]),
];

/// What became of a cell.
#[derive(Debug, Serialize)]
struct Cell {
    workload: String,
    fault: Fault,
    seed: u64,
    /// `valid`, `INVALID`, `unknown`, `skipped` or `failed`.
    verdict: &'static str,
    /// Why it is not valid; empty when it is.
    why: String,
    hosts: &'static str,
    requests: u64,
    requests_answered: u64,
    windows: u64,
    windows_bitten: u64,
    /// From the first start to the verdict.
    seconds: f64,
}

/// Runs all cells and prints them; the exit code is that of the worst one.
pub(crate) fn matrix(args: &MatrixArgs) -> Result<u8, Box<dyn Error>> {
    check_time(args.time)?;
    let chosen = cells_of(&args.workload, &args.fault)?;
    let out = new_folder(&args.sweep.out)?;
    let begun = Instant::now();
    let mut cells = Vec::new();
    let all = chosen.len() * usize::try_from(args.seeds)?;
    let mut seed = args.sweep.first_seed;
    for (name, fault) in chosen {
        for _ in 0..args.seeds {
            let plan = plan(args, name, fault, seed, &out)?;
            let cell = run_cell(&plan, name, fault)?;
            seed += 1;
            cells.push(cell);
            let left_s =
                begun.elapsed().as_secs() * (all - cells.len()) as u64 / cells.len() as u64;
            let cell = &cells[cells.len() - 1];
            let Cell { verdict, why, .. } = cell;
            eprintln!(
                "{}/{all} {name} under {fault}: {verdict} {why}; about {left_s} s left",
                cells.len()
            );
        }
    }
    let table = table(&cells);
    std::fs::write(out.join("matrix.md"), &table)?;
    std::fs::write(out.join("matrix.json"), serde_json::to_vec_pretty(&cells)?)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&cells)?);
    } else {
        print!("{table}");
        let seconds = begun.elapsed().as_secs();
        println!("{} cells in {seconds} s", cells.len());
    }
    Ok(worst(&cells))
}

/// Every named workload under every named fault; where one of both is not named, those that belong to the other.
fn cells_of<'args>(
    workloads: &'args [String],
    faults: &[Fault],
) -> Result<Vec<(&'args str, Fault)>, Box<dyn Error>> {
    for name in workloads {
        workload::named(name)?;
    }
    let is_wanted = |fault: &Fault| faults.is_empty() || faults.contains(fault);
    if workloads.is_empty() {
        let cells = usual().into_iter();
        return Ok(cells.filter(|(_, fault)| is_wanted(fault)).collect());
    }
    let mut cells = Vec::new();
    for fault in Fault::ALL.into_iter().filter(is_wanted) {
        cells.extend(workloads.iter().map(|name| (name.as_str(), fault)));
    }
    Ok(cells)
}

/// Every fault with the workloads that it meets.
pub(crate) fn usual() -> Vec<(&'static str, Fault)> {
    let pairs = MEETS
        .iter()
        .flat_map(|(fault, meets)| meets.iter().map(|name| (*name, *fault)));
    pairs.collect()
}

fn plan(
    args: &MatrixArgs,
    workload: &str,
    fault: Fault,
    seed: u64,
    out: &Path,
) -> Result<RunPlan, Box<dyn Error>> {
    Ok(RunPlan {
        workloads: vec![workload.to_owned()],
        faults: vec![fault],
        seed,
        time: Duration::from_secs_f64(args.time),
        nodes: usize::try_from(args.nodes)?,
        hosts: HostsWanted::Auto,
        engine: "fjall".to_owned(),
        out: new_folder(&out.join(format!("{workload}-{fault}-{seed}")))?,
        worker_binary: std::env::current_exe()?,
    })
}

/// Runs one cell; keeps its histories, and the data of its nodes only when it is not valid.
fn run_cell(plan: &RunPlan, workload: &str, fault: Fault) -> Result<Cell, Box<dyn Error>> {
    let begun = Instant::now();
    let mut cell = Cell {
        workload: workload.to_owned(),
        fault,
        seed: plan.seed,
        verdict: "failed",
        why: String::new(),
        hosts: "",
        requests: 0,
        requests_answered: 0,
        windows: 0,
        windows_bitten: 0,
        seconds: 0.0,
    };
    match run_until_interrupted(plan) {
        Ok(Ok(report)) => cell.read(&report),
        Ok(Err(skipped)) => {
            cell.verdict = "skipped";
            cell.why = skipped;
        }
        // The next cells may still say something of the store.
        Err(problem) if !problem.to_string().starts_with("interrupted") => {
            cell.why = first_line(&chain(&*problem));
        }
        Err(interrupted) => return Err(interrupted),
    }
    cell.seconds = begun.elapsed().as_secs_f64();
    if cell.verdict == "valid" {
        std::fs::remove_dir_all(plan.out.join("cluster"))?;
    }
    Ok(cell)
}

impl Cell {
    fn read(&mut self, report: &RunReport) {
        self.hosts = report.hosts;
        for one in &report.workloads {
            let count = |name: &str| one.report.counts.get(name).copied().unwrap_or_default();
            self.requests += count("requests");
            self.requests_answered += count("requests_answered");
            self.windows += count("windows");
            self.windows_bitten += count("windows_bitten");
        }
        (self.verdict, self.why) = match report.verdict() {
            Verdict::Valid => ("valid", String::new()),
            Verdict::Unknown { why } => ("unknown", why),
            Verdict::Invalid { violations } => {
                let first = violations.first().map(ToString::to_string);
                ("INVALID", first_line(&first.unwrap_or_default()))
            }
        };
    }
}

/// As Markdown.
fn table(cells: &[Cell]) -> String {
    let mut table = comfy_table::Table::new();
    table
        .load_style(comfy_table::presets::ASCII_MARKDOWN)
        .set_header([
            "fault",
            "workload",
            "seed",
            "verdict",
            "answered",
            "windows that bit",
            "hosts",
            "seconds",
        ]);
    for cell in cells {
        let verdict = match cell.why.as_str() {
            "" => cell.verdict.to_owned(),
            why => format!("{}: {why}", cell.verdict),
        };
        table.add_row([
            cell.fault.to_string(),
            cell.workload.clone(),
            cell.seed.to_string(),
            verdict,
            format!("{} of {}", cell.requests_answered, cell.requests),
            format!("{} of {}", cell.windows_bitten, cell.windows),
            cell.hosts.to_owned(),
            format!("{:.0}", cell.seconds),
        ]);
    }
    format!("{table}\n")
}

fn worst(cells: &[Cell]) -> u8 {
    let order = [
        ("INVALID", INVALID),
        ("failed", FAILED),
        ("unknown", UNKNOWN),
        ("skipped", SKIPPED),
    ];
    let has = |verdict: &str| cells.iter().any(|cell| cell.verdict == verdict);
    let found = order.into_iter().find(|(verdict, _)| has(verdict));
    found.map_or(VALID, |(_, code)| code)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn chain(problem: &dyn Error) -> String {
    match problem.source() {
        Some(source) => format!("{problem}: {}", chain(source)),
        None => problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_fault_and_every_workload_is_met() {
        let cells = cells_of(&[], &[]).unwrap();
        assert!(cells.len() >= 48, "{}", cells.len());
        let distinct: BTreeSet<_> = cells.iter().collect();
        assert_eq!(distinct.len(), cells.len());
        for fault in Fault::ALL.into_iter().filter(|fault| *fault != Fault::None) {
            assert!(
                cells.iter().any(|(_, one)| *one == fault),
                "{fault} is not met"
            );
        }
        for workload in workload::all() {
            let name = workload.name();
            assert!(
                cells.iter().any(|(one, _)| *one == name),
                "{name} is not met"
            );
        }
    }

    #[test]
    fn names_choose_cells() {
        let names = ["cart".to_owned()];
        let cells = cells_of(&names, &[Fault::Wipe, Fault::None]).unwrap();
        assert_eq!(cells, [("cart", Fault::None), ("cart", Fault::Wipe)]);
        assert!(cells_of(&["meteor".to_owned()], &[]).is_err());
    }
}

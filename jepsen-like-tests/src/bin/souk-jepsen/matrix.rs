//! `souk-jepsen matrix`: every workload under every fault, in simulation.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use souk_jepsen_like_tests::fault::Fault;
use souk_jepsen_like_tests::sim::SimPlan;
use souk_jepsen_like_tests::workload;

use crate::args::MatrixArgs;
use crate::run::new_folder;
use crate::simulate::{check_pace, check_time, run_apart};
use crate::{INVALID, UNKNOWN, VALID};

/// What became of the runs of one cell.
#[derive(Default)]
struct Cell {
    valid: u64,
    unknown: Vec<u64>,
    invalid: Vec<u64>,
    requests: u64,
    answered: u64,
}

/// Runs all cells and prints them as a table; the exit code is that of the worst verdict.
pub(crate) fn matrix(args: &MatrixArgs) -> Result<u8, Box<dyn Error>> {
    check_time(args.time)?;
    check_pace(args.pace)?;
    let workloads = workloads(&args.workload)?;
    let faults = if args.fault.is_empty() {
        Fault::ALL.to_vec()
    } else {
        args.fault.clone()
    };
    let out = new_folder(&args.out)?;
    let begun = Instant::now();
    let mut cells: BTreeMap<(String, Fault), Cell> = BTreeMap::new();
    let mut simulated = Duration::ZERO;
    let all = workloads.len() * faults.len();
    let mut seed = args.first_seed;
    for (done, (name, fault)) in workloads
        .iter()
        .flat_map(|name| faults.iter().map(move |fault| (name, *fault)))
        .enumerate()
    {
        let cell = cells.entry((name.clone(), fault)).or_default();
        for _ in 0..args.seeds {
            simulated += one(args, name, fault, seed, cell, &out)?;
            seed += 1;
        }
        eprintln!("{}/{all} {name} under {fault}: {}", done + 1, told(cell));
    }
    let table = table(&workloads, &faults, &cells);
    std::fs::write(out.join("matrix.txt"), &table)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&as_json(&cells))?);
    } else {
        print!("{table}");
        let (real_s, simulated_s) = (begun.elapsed().as_secs_f64(), simulated.as_secs_f64());
        println!("{simulated_s:.0} simulated seconds in {real_s:.0} s");
    }
    Ok(worst(&cells))
}

fn workloads(named: &[String]) -> Result<Vec<String>, Box<dyn Error>> {
    if named.is_empty() {
        let all = workload::all();
        let simulated = all.iter().filter(|workload| !workload.needs_shop());
        return Ok(simulated
            .map(|workload| workload.name().to_owned())
            .collect());
    }
    for name in named {
        workload::named(name)?;
    }
    Ok(named.to_vec())
}

/// One run of a cell; keeps its files unless it is valid.
fn one(
    args: &MatrixArgs,
    workload: &str,
    fault: Fault,
    seed: u64,
    cell: &mut Cell,
    out: &Path,
) -> Result<Duration, Box<dyn Error>> {
    let plan = SimPlan {
        time: Duration::from_secs_f64(args.time),
        nodes: args.nodes,
        pace: args.pace,
        ..SimPlan::new(workload, &[fault], seed)
    };
    let found = run_apart(&plan, &out.join(format!("{workload}-{fault}-{seed}")))?;
    cell.requests += found.count("requests");
    cell.answered += found.count("requests_answered");
    if found.is_valid() {
        cell.valid += 1;
    } else if found.is_invalid() {
        cell.invalid.push(seed);
    } else {
        cell.unknown.push(seed);
    }
    Ok(Duration::from_millis(found.simulated_ms))
}

fn told(cell: &Cell) -> String {
    let percent = cell.answered * 100 / cell.requests.max(1);
    let mut text = format!("{} valid, {percent}% answered", cell.valid);
    for (word, seeds) in [("INVALID", &cell.invalid), ("unknown", &cell.unknown)] {
        if !seeds.is_empty() {
            text += &format!(", {word} at seeds {seeds:?}");
        }
    }
    text
}

fn table(
    workloads: &[String],
    faults: &[Fault],
    cells: &BTreeMap<(String, Fault), Cell>,
) -> String {
    let mut table = comfy_table::Table::new();
    let header = std::iter::once("fault".to_owned()).chain(workloads.iter().cloned());
    table
        .load_style(comfy_table::presets::ASCII_MARKDOWN)
        .set_header(header);
    for fault in faults {
        let shown = workloads.iter().map(|name| {
            let Some(cell) = cells.get(&(name.clone(), *fault)) else {
                return String::new();
            };
            match (cell.invalid.is_empty(), cell.unknown.is_empty()) {
                (false, _) => format!("INVALID {:?}", cell.invalid),
                (true, false) => format!("unknown {:?}", cell.unknown),
                (true, true) => format!("ok {}", cell.valid),
            }
        });
        table.add_row(std::iter::once(fault.as_str().to_owned()).chain(shown));
    }
    format!("{table}\n")
}

fn as_json(cells: &BTreeMap<(String, Fault), Cell>) -> serde_json::Value {
    let cell = |((workload, fault), cell): (&(String, Fault), &Cell)| {
        json!({
            "workload": workload, "fault": fault, "valid": cell.valid, "unknown": cell.unknown,
            "invalid": cell.invalid, "requests": cell.requests, "requests_answered": cell.answered,
        })
    };
    cells.iter().map(cell).collect()
}

fn worst(cells: &BTreeMap<(String, Fault), Cell>) -> u8 {
    if cells.values().any(|cell| !cell.invalid.is_empty()) {
        INVALID
    } else if cells.values().any(|cell| !cell.unknown.is_empty()) {
        UNKNOWN
    } else {
        VALID
    }
}

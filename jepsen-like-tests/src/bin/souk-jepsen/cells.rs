//! What became of many runs, by workload and fault.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::json;
use souk_jepsen_like_tests::fault::Fault;
use souk_jepsen_like_tests::sim::{SimPlan, simulated_workloads};
use souk_jepsen_like_tests::workload;

use crate::apart::Apart;
use crate::{INVALID, UNKNOWN, VALID};

/// The runs of one workload under one fault.
#[derive(Debug, Default)]
struct Cell {
    valid: u64,
    unknown: Vec<u64>,
    invalid: Vec<u64>,
    requests: u64,
    answered: u64,
}

/// A table of them.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    cells: BTreeMap<Fault, BTreeMap<String, Cell>>,
    workloads: Vec<String>,
    runs: u64,
    simulated: Duration,
}

impl Cells {
    /// A table with a column for each of these workloads.
    pub(crate) fn new(workloads: &[String]) -> Cells {
        Cells {
            workloads: workloads.to_vec(),
            ..Cells::default()
        }
    }

    /// Counts a run. It belongs to the first of its faults.
    pub(crate) fn add(&mut self, plan: &SimPlan, found: &Apart) {
        self.runs += 1;
        self.simulated += Duration::from_millis(found.simulated_ms);
        let fault = plan.faults.first().copied().unwrap_or(Fault::None);
        let row = self.cells.entry(fault).or_default();
        let cell = row.entry(plan.workload.clone()).or_default();
        cell.requests += found.count("requests");
        cell.answered += found.count("requests_answered");
        if found.is_valid() {
            cell.valid += 1;
        } else if found.is_invalid() {
            cell.invalid.push(plan.seed);
        } else {
            cell.unknown.push(plan.seed);
        }
    }

    pub(crate) fn runs(&self) -> u64 {
        self.runs
    }

    pub(crate) fn simulated(&self) -> Duration {
        self.simulated
    }

    pub(crate) fn invalid(&self) -> usize {
        self.all().map(|cell| cell.invalid.len()).sum()
    }

    pub(crate) fn unknown(&self) -> usize {
        self.all().map(|cell| cell.unknown.len()).sum()
    }

    pub(crate) fn requests(&self) -> u64 {
        self.all().map(|cell| cell.requests).sum()
    }

    /// The exit code of the worst verdict.
    pub(crate) fn worst(&self) -> u8 {
        match (self.invalid(), self.unknown()) {
            (0, 0) => VALID,
            (0, _) => UNKNOWN,
            _ => INVALID,
        }
    }

    pub(crate) fn as_json(&self) -> serde_json::Value {
        let mut all = Vec::new();
        for (fault, row) in &self.cells {
            for (workload, cell) in row {
                all.push(json!({
                    "workload": workload, "fault": fault, "valid": cell.valid,
                    "unknown": cell.unknown, "invalid": cell.invalid,
                    "requests": cell.requests, "requests_answered": cell.answered,
                }));
            }
        }
        all.into()
    }

    fn all(&self) -> impl Iterator<Item = &Cell> {
        self.cells.values().flat_map(BTreeMap::values)
    }
}

/// A row for each fault, a column for each workload.
impl fmt::Display for Cells {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        let header = std::iter::once("fault".to_owned()).chain(self.workloads.iter().cloned());
        table
            .load_style(comfy_table::presets::ASCII_MARKDOWN)
            .set_header(header);
        for (fault, row) in &self.cells {
            let shown = self.workloads.iter().map(|name| {
                let Some(cell) = row.get(name) else {
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
        writeln!(formatter, "{table}")
    }
}

/// The workloads of these names; all that can be simulated when there are none.
///
/// # Errors
/// A text with all names when there is no such workload.
pub(crate) fn chosen_workloads(named: &[String]) -> Result<Vec<String>, String> {
    for name in named {
        workload::named(name)?;
    }
    let all = || simulated_workloads().into_iter().map(str::to_owned);
    Ok(match named {
        [] => all().collect(),
        named => named.to_vec(),
    })
}

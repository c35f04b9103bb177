//! Three nodes of souk, started by `souk up` and loaded by `souk bench`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;

use crate::error::CompareError;
use crate::figure::Figure;
use crate::measure::{KEYS, Measure, VALUE_BYTES};
use crate::process::{Server, free_ports, output};

/// Before each measured window, in seconds.
const WARM_UP_S: u64 = 1;

/// A running cluster.
#[derive(Debug)]
pub(crate) struct Souk {
    binary: PathBuf,
    cluster: PathBuf,
    _server: Server,
}

/// The part of `souk bench --json` that is compared.
#[derive(Debug, Deserialize)]
struct BenchReport {
    ops_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    errors: u64,
    unknown: u64,
}

/// Why souk cannot be measured here; none when it can.
pub(crate) fn missing(binary: &Path) -> Option<String> {
    let build = "build it with `cargo build --release -p souk-cli`";
    (!binary.is_file()).then(|| format!("there is no {}; {build}", binary.display()))
}

impl Souk {
    /// Starts three nodes and waits until all are ready.
    pub(crate) fn start(binary: &Path, home: &Path) -> Result<Self, CompareError> {
        let cluster = home.join("cluster.toml");
        let file = cluster_file(free_ports()?);
        std::fs::write(&cluster, file).map_err(|source| CompareError::File {
            path: cluster.clone(),
            source,
        })?;
        let log = home.join("souk.log");
        let mut command = Command::new(binary);
        command
            .args(["up", "--no-shop", "--config"])
            .arg(&cluster)
            .arg("--data")
            .arg(home.join("souk"));
        let mut server = Server::start(&mut command, log.clone(), Signal::TERM)?;
        server.wait_until(|| Server::said(&log).lines().any(|line| line == "ready"))?;
        Ok(Self {
            binary: binary.to_owned(),
            cluster,
            _server: server,
        })
    }

    /// Runs one workload of `souk bench`.
    pub(crate) fn run(&self, measure: &Measure, time: Duration) -> Result<Figure, CompareError> {
        let mut command = Command::new(&self.binary);
        command
            .args(["bench", measure.work.name(), "--json", "--config"])
            .arg(&self.cluster);
        for (option, value) in [
            ("--clients", u64::from(measure.clients)),
            ("--time", time.as_secs()),
            ("--warm-up", WARM_UP_S),
            ("--keys", u64::from(KEYS)),
            ("--value-bytes", VALUE_BYTES as u64),
        ] {
            command.arg(option).arg(value.to_string());
        }
        let said = output(&mut command)?;
        let report: BenchReport =
            serde_json::from_str(&said).map_err(|_| CompareError::Unreadable {
                program: "souk bench".to_owned(),
                wanted: "its figures",
                said,
            })?;
        Ok(Figure {
            ops_per_s: report.ops_per_s,
            p50_ms: Some(report.p50_ms),
            p99_ms: Some(report.p99_ms),
            failed: report.errors + report.unknown,
        })
    }
}

/// The usual three nodes, on other ports.
fn cluster_file(ports: [u16; 6]) -> String {
    let mut file = "[cluster]\nid = \"souk-compare\"\n".to_owned();
    for (number, pair) in ports.chunks(2).enumerate() {
        let name = number + 1;
        let (grpc, http) = (pair[0], pair[1]);
        file += &format!(
            "\n[[node]]\nname = \"n{name}\"\nzone = \"z{name}\"\ngrpc = \"127.0.0.1:{grpc}\"\nhttp = \"127.0.0.1:{http}\"\n"
        );
    }
    file
}

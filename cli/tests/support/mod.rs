//! Runs the `souk` binary against clusters on free ports.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a module shared by test binaries, each of which uses its own part of it"
)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

#[path = "../../../kv-node/tests/support/ports.rs"]
mod ports;

use ports::free_ports;

/// How long anything may take on a busy machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The command under test, without settings from the outside.
pub fn souk() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_souk"));
    for variable in [
        "SOUK_CONFIG",
        "SOUK_ENDPOINTS",
        "SOUK_LOG",
        "SOUK_ADMIN_TOKEN",
    ] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

/// What a finished command said.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Said {
    /// Everything it said must hold all of these.
    #[track_caller]
    pub fn holds(&self, code: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.code, code, "out: {}\nerr: {}", self.out, self.err);
        for part in parts {
            assert!(
                self.out.contains(part) || self.err.contains(part),
                "{part:?} is in neither\nout: {}\nerr: {}",
                self.out,
                self.err
            );
        }
        self
    }

    /// Its answer as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|problem| panic!("{problem}: {:?}; {}", self.out, self.err))
    }
}

/// Runs the command to its end.
pub fn run(arguments: &[&str]) -> Said {
    souk().args(arguments).output().unwrap().into()
}

/// A cluster file on free ports, and a data directory.
pub struct Place {
    pub home: tempfile::TempDir,
    pub file: PathBuf,
    pub grpc: Vec<u16>,
    pub http: Vec<u16>,
    pub shop: u16,
}

impl Place {
    /// For so many nodes.
    pub fn new(nodes_count: usize) -> Self {
        let home = tempfile::tempdir().unwrap();
        let ports = free_ports(nodes_count * 2 + 2);
        let (grpc, http) = (
            ports[..nodes_count].to_vec(),
            ports[nodes_count..nodes_count * 2].to_vec(),
        );
        let mut text = String::from("[cluster]\nid = \"test\"\npartitions_count = 16\n");
        for (index, (grpc, http)) in grpc.iter().zip(&http).enumerate() {
            let name = index + 1;
            text += &format!(
                "[[node]]\nname = \"n{name}\"\nzone = \"z{name}\"\ngrpc = \"127.0.0.1:{grpc}\"\nhttp = \"127.0.0.1:{http}\"\n"
            );
        }
        let (shop, provider) = (ports[nodes_count * 2], ports[nodes_count * 2 + 1]);
        text += &format!(
            "[shop]\nlisten = \"127.0.0.1:{shop}\"\npayment_provider = \"127.0.0.1:{provider}\"\n"
        );
        let file = home.path().join("cluster.toml");
        std::fs::write(&file, text).unwrap();
        Self {
            home,
            file,
            grpc,
            http,
            shop,
        }
    }

    /// Where the cluster keeps its data.
    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Runs a command on this cluster.
    pub fn run(&self, arguments: &[&str]) -> Said {
        souk()
            .args(arguments)
            .arg("--config")
            .arg(&self.file)
            .output()
            .unwrap()
            .into()
    }

    /// Starts a server of this cluster and waits for a line of its standard output.
    pub fn start(&self, arguments: &[&str], until: &str) -> Running {
        let mut command = souk();
        command.args(arguments).arg("--config").arg(&self.file);
        Running::start(command, until)
    }
}

/// A server that runs until it is dropped.
pub struct Running {
    child: Child,
    pub stdin: Option<ChildStdin>,
    pub before: String,
    lines: mpsc::Receiver<String>,
}

impl Running {
    /// Starts it and waits until it says so.
    #[track_caller]
    pub fn start(mut command: Command, until: &str) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        let err = BufReader::new(child.stderr.take().unwrap());
        let also = sender.clone();
        std::thread::spawn(move || {
            out.lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        std::thread::spawn(move || {
            err.lines()
                .map_while(Result::ok)
                .try_for_each(|line| also.send(line))
        });
        let stdin = child.stdin.take();
        let mut running = Self {
            child,
            stdin,
            before: String::new(),
            lines,
        };
        running.before = running.read_until(until);
        running
    }

    /// All lines up to the one wanted.
    #[track_caller]
    pub fn read_until(&mut self, wanted: &str) -> String {
        let began = Instant::now();
        let mut all = String::new();
        while began.elapsed() < PATIENCE {
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => {
                    let found = line.contains(wanted);
                    all += &line;
                    all.push('\n');
                    if found {
                        return all;
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        panic!("no line with {wanted:?} in:\n{all}");
    }

    pub fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// Sends SIGTERM and waits for the end; gives the exit code and the last lines.
    pub fn terminate(mut self) -> (Option<i32>, String) {
        signal("-TERM", &self.pid());
        let status = wait(&mut self.child);
        (status, self.lines.iter().map(|line| line + "\n").collect())
    }

    /// Waits for the end of a server that was told to stop in another way.
    pub fn wait(mut self) -> Option<i32> {
        wait(&mut self.child)
    }

    /// Ends it as kill -9 does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[track_caller]
fn wait(child: &mut Child) -> Option<i32> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it did not end");
}

/// Sends a signal by the system's own command.
pub fn signal(signal: &str, pid: &str) {
    assert!(
        Command::new("kill")
            .args([signal, pid])
            .status()
            .unwrap()
            .success()
    );
}

/// Waits until a process is gone.
#[track_caller]
pub fn wait_gone(pid: &str) {
    let began = Instant::now();
    // A process that ended but was not collected yet is gone, too.
    let is_there = || {
        let status = std::fs::read_to_string(Path::new("/proc").join(pid).join("status"))
            .unwrap_or_default();
        !status.is_empty() && !status.contains("\nState:\tZ")
    };
    while is_there() {
        assert!(began.elapsed() < PATIENCE, "process {pid} is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The process numbers in the table that `souk up` prints, by name.
pub fn pid_in(table: &str, name: &str) -> String {
    let row = table
        .lines()
        .find(|line| line.split_whitespace().next() == Some(name));
    let row = row.unwrap_or_else(|| panic!("{name} is not in\n{table}"));
    row.split_whitespace().nth(1).unwrap().to_owned()
}

/// Reads a whole answer of a plain HTTP server; gives the status line and the rest.
pub fn http_get(port: u16, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    std::io::Write::write_all(
        &mut stream,
        format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes(),
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

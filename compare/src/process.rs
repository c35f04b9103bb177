//! Child processes: started with a log, watched until ready, stopped with us.
//!
//! Invariants: 1. no child outlives the comparison, whichever way it ends (short of SIGKILL).

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::error::CompareError;

/// Longest wait for a server to get ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Longest wait for one to stop before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How much of a program's output is shown when it fails, in bytes.
const SAID_BYTES_MAX: usize = 2_000;

/// The temporary directory of a run. Servers under other users have to be able to enter it.
pub(crate) fn home(below: Option<&Path>) -> Result<TempDir, CompareError> {
    let below = below.map_or_else(std::env::temp_dir, Path::to_owned);
    let unusable = |source| CompareError::File {
        path: below.clone(),
        source,
    };
    let home = TempDir::with_prefix_in("souk-compare-", &below).map_err(unusable)?;
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(home.path(), open).map_err(unusable)?;
    Ok(home)
}

/// So many distinct free ports on 127.0.0.1.
pub(crate) fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT], CompareError> {
    // All are held until all are known, so that none is given twice.
    let mut held = Vec::with_capacity(COUNT);
    let mut ports = [0; COUNT];
    for port in &mut ports {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|_| CompareError::NoPort)?;
        *port = listener
            .local_addr()
            .map_err(|_| CompareError::NoPort)?
            .port();
        held.push(listener);
    }
    Ok(ports)
}

/// Whether a program is on the search path.
pub(crate) fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|paths| {
        std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
    })
}

/// A program that runs to its end; gives its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, CompareError> {
    let program = name_of(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| CompareError::Start {
            program: program.clone(),
            source,
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    let from = said.len().saturating_sub(SAID_BYTES_MAX);
    let said = String::from_utf8_lossy(&said[from..]).trim().to_owned();
    Err(CompareError::Failed { program, said })
}

/// A server.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    child: Child,
    log: PathBuf,
    stop: Signal,
}

impl Server {
    /// Starts it with its output in `log`; `stop` is the signal that ends it in order.
    pub(crate) fn start(
        command: &mut Command,
        log: PathBuf,
        stop: Signal,
    ) -> Result<Self, CompareError> {
        let name = name_of(command);
        let unusable = |source| CompareError::File {
            path: log.clone(),
            source,
        };
        let file = File::create(&log).map_err(unusable)?;
        let copy = file.try_clone().map_err(unusable)?;
        // A group of its own: Ctrl-C reaches us, and we stop the children in order.
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy)
            .process_group(0)
            .spawn()
            .map_err(|source| CompareError::Start {
                program: name.clone(),
                source,
            })?;
        Ok(Self {
            name,
            child,
            log,
            stop,
        })
    }

    /// Waits until `is_ready` says so.
    pub(crate) fn wait_until(
        &mut self,
        mut is_ready: impl FnMut() -> bool,
    ) -> Result<(), CompareError> {
        let begun = Instant::now();
        while !is_ready() {
            let ended = self.child.try_wait().ok().flatten().is_some();
            if ended || begun.elapsed() > READY_WITHIN {
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                let from = said
                    .char_indices()
                    .map(|(at, _)| at)
                    .find(|at| said.len() - at <= SAID_BYTES_MAX)
                    .unwrap_or(0);
                let program = self.name.clone();
                return Err(if ended {
                    CompareError::Failed {
                        program,
                        said: said[from..].to_owned(),
                    }
                } else {
                    CompareError::NotReady {
                        program,
                        waited_s: READY_WITHIN.as_secs(),
                        log: self.log.clone(),
                    }
                });
            }
            sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// What it has written so far.
    pub(crate) fn said(log: &Path) -> String {
        std::fs::read_to_string(log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // One that has ended already needs no signal.
            kill_process(pid, self.stop).ok();
        }
        let begun = Instant::now();
        while begun.elapsed() < STOP_WITHIN {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            sleep(LOOK_EVERY);
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn name_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_what_the_program_said() {
        let failed = output(Command::new("sh").args(["-c", "echo no room >&2; exit 3"]));
        assert!(
            matches!(&failed, Err(CompareError::Failed { program, said }) if program == "sh" && said == "no room"),
            "{failed:?}"
        );
        assert_eq!(output(Command::new("echo").arg("yes")).unwrap(), "yes\n");
    }

    #[test]
    fn a_server_ends_with_its_handle() {
        let home = home(None).unwrap();
        let log = home.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo ready; exec sleep 600"]);
        let mut server = Server::start(&mut command, log.clone(), Signal::TERM).unwrap();
        server
            .wait_until(|| Server::said(&log).contains("ready"))
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(server.child.id()).unwrap()).unwrap();
        drop(server);
        assert!(kill_process(pid, Signal::TERM).is_err());
    }

    #[test]
    fn a_server_that_ends_early_is_not_waited_for() {
        let home = home(None).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo bad flag"]);
        let log = home.path().join("log");
        let mut server = Server::start(&mut command, log, Signal::TERM).unwrap();
        let failed = server.wait_until(|| false);
        assert!(
            matches!(&failed, Err(CompareError::Failed { said, .. }) if said.contains("bad flag")),
            "{failed:?}"
        );
    }

    #[test]
    fn ports_are_distinct() {
        let mut ports = free_ports::<8>().unwrap();
        ports.sort_unstable();
        assert!(ports.windows(2).all(|pair| pair[0] < pair[1]), "{ports:?}");
    }
}

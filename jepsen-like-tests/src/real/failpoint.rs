//! System calls of a running node that fail when told so: libfiu, loaded before the node, listens at a named pipe.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::tool::{find, run_words};
use crate::process::HarnessError;

/// What packages install.
const FOLDERS: [&str; 3] = ["/usr/lib/fiu", "/usr/local/lib/fiu", "/usr/lib64/fiu"];
const LIBRARIES: [&str; 2] = ["fiu_run_preload.so", "fiu_posix_preload.so"];
/// Everything that makes written bytes durable.
const SYNCS: &str = "posix/io/sync/*";
/// EIO.
const INPUT_OUTPUT_ERROR: i32 = 5;
/// How long a node may take to open its pipe.
const PIPE_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where the libraries lie, if all of it is installed.
pub(super) fn folder() -> Option<&'static Path> {
    find("fiu-ctrl")?;
    let is_whole = |folder: &&Path| LIBRARIES.iter().all(|file| folder.join(file).is_file());
    FOLDERS.map(Path::new).into_iter().find(is_whole)
}

/// The fail points of a run.
#[derive(Clone, Debug)]
pub(super) struct FailPoints {
    libraries: PathBuf,
    /// How pipes begin; the number of the process follows.
    pipes: PathBuf,
}

impl FailPoints {
    pub(super) fn new(libraries: &Path, home: &Path) -> FailPoints {
        FailPoints {
            libraries: libraries.to_owned(),
            pipes: home.join("fiu"),
        }
    }

    /// The libraries to load before all others.
    pub(super) fn preload(&self) -> String {
        let all = LIBRARIES.map(|file| self.libraries.join(file).display().to_string());
        all.join(":")
    }

    /// What a node's environment has to hold.
    pub(super) fn variables(&self) -> Vec<String> {
        vec![format!("FIU_CTRL_FIFO={}", self.pipes.display())]
    }

    /// From now on every sync of a process that begins fails with an I/O error. Those under way may still succeed.
    pub(super) fn fail_syncs(&self, process: u32) -> Result<(), HarnessError> {
        let pipe = PathBuf::from(format!("{}-{process}.in", self.pipes.display()));
        let begun = Instant::now();
        while !pipe.exists() {
            if begun.elapsed() > PIPE_WITHIN {
                return Err(HarnessError::NoEffect {
                    name: format!("process {process}"),
                    what: "open its pipe for fail points",
                    waited: PIPE_WITHIN,
                });
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let (pipes, process) = (self.pipes.display().to_string(), process.to_string());
        let command = format!("enable name={SYNCS},failinfo={INPUT_OUTPUT_ERROR}");
        run_words(&["fiu-ctrl", "-f", &pipes, "-c", &command, &process], "")?;
        Ok(())
    }

    /// Removes the pipes of a process that is gone.
    pub(super) fn tidy_after(&self, process: u32) {
        for end in ["in", "out"] {
            // Fails only when there is none.
            std::fs::remove_file(format!("{}-{process}.{end}", self.pipes.display())).ok();
        }
    }
}

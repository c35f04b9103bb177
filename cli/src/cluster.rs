//! Finds the cluster file: the one named, the one in this folder, or the built-in one.

use std::path::{Path, PathBuf};

use clap::Args;
use souk_kv_node::config::{ClusterFile, ConfigError, Overrides};

/// The file that is read when none is named and this one is there.
const USUAL_FILE: &str = "cluster.toml";

/// Where a cluster keeps its data when nothing else is said.
pub(crate) const USUAL_DATA: &str = "souk-data";

/// Which cluster.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClusterArgs {
    /// The cluster file. Without it: ./cluster.toml if there is one, else three nodes on
    /// 127.0.0.1:7101 to 7103 (`souk config show` prints them).
    #[arg(long, global = true, env = "SOUK_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// A cluster file and where it came from.
#[derive(Debug)]
pub(crate) struct Found {
    /// What it says.
    pub(crate) file: ClusterFile,
    /// `None` for the built-in one.
    pub(crate) path: Option<PathBuf>,
}

impl Found {
    /// For messages: the path, or that it is the built-in one.
    pub(crate) fn name(&self) -> String {
        let name = self.path.as_deref().map(|path| path.display().to_string());
        name.unwrap_or_else(|| "the built-in cluster.toml".to_owned())
    }

    /// True when it says just what the built-in one says.
    pub(crate) fn is_builtin(&self) -> bool {
        self.file == ClusterFile::builtin()
    }
}

impl ClusterArgs {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// When the named file cannot be read, and when the file found has problems.
    pub(crate) fn load(&self) -> Result<Found, ConfigError> {
        self.load_with(&Overrides::default())
    }

    /// As [`ClusterArgs::load`], where the command line has the last word.
    pub(crate) fn load_with(&self, overrides: &Overrides) -> Result<Found, ConfigError> {
        let usual = Path::new(USUAL_FILE);
        let path = match &self.config {
            Some(path) => Some(path.clone()),
            None => usual.exists().then(|| usual.to_owned()),
        };
        let file = match &path {
            Some(path) => ClusterFile::load_with(path, overrides)?,
            None => {
                let mut file = ClusterFile::builtin();
                overrides.apply(&mut file.security);
                file
            }
        };
        Ok(Found { file, path })
    }
}

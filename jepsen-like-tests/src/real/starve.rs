//! A share of the machine for each node: control groups, of version 1 or 2.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::mark::Mark;
use super::tool::{read, write};
use crate::process::HarnessError;

/// The stretch over which time on processors is counted.
const PERIOD_US: i64 = 100_000;
const MIB: i64 = 1 << 20;

/// Where the kernel's control groups are mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Roots {
    /// A tree for each thing that is shared.
    First { cpu: PathBuf, memory: PathBuf },
    /// One tree.
    Second(PathBuf),
}

impl Roots {
    /// Reads `/proc/mounts`. None when processors and memory cannot both be shared out.
    pub(super) fn find() -> Option<Roots> {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        Roots::among(&mounts, |root| {
            std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default()
        })
    }

    fn among(mounts: &str, controllers: impl Fn(&Path) -> String) -> Option<Roots> {
        let (mut cpu, mut memory, mut second) = (None, None, None);
        for line in mounts.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [_, target, kind, options, ..] = words[..] else {
                continue;
            };
            let has = |word: &str| options.split(',').any(|option| option == word);
            match kind {
                "cgroup" if has("cpu") => cpu = Some(PathBuf::from(target)),
                "cgroup" if has("memory") => memory = Some(PathBuf::from(target)),
                "cgroup2" => second = Some(PathBuf::from(target)),
                _ => {}
            }
        }
        if let (Some(cpu), Some(memory)) = (cpu, memory) {
            return Some(Roots::First { cpu, memory });
        }
        let root = second?;
        let controllers = controllers(&root);
        let has = |word: &str| controllers.split_whitespace().any(|one| one == word);
        (has("cpu") && has("memory")).then_some(Roots::Second(root))
    }

    /// Every folder in which groups are made.
    pub(super) fn folders(&self) -> Vec<&Path> {
        match self {
            Roots::First { cpu, memory } => vec![cpu, memory],
            Roots::Second(root) => vec![root],
        }
    }
}

/// A group for each node. Dropped, it removes them.
#[derive(Debug)]
pub(super) struct Groups {
    roots: Roots,
    /// By the names of the nodes.
    names: BTreeMap<String, String>,
}

impl Groups {
    pub(super) fn make(roots: Roots, mark: Mark, nodes: &[String]) -> Result<Groups, HarnessError> {
        if let Roots::Second(root) = &roots {
            write(&root.join("cgroup.subtree_control"), "+cpu +memory")?;
        }
        let mut groups = Groups {
            roots,
            names: BTreeMap::new(),
        };
        for node in nodes {
            let name = format!("{mark}-{node}");
            for root in groups.roots.folders() {
                let folder = root.join(&name);
                std::fs::create_dir(&folder).map_err(HarnessError::file(&folder))?;
            }
            groups.names.insert(node.clone(), name);
        }
        Ok(groups)
    }

    /// What starts a command in the group of a node.
    pub(super) fn prefix(&self, node: &str) -> Result<Vec<String>, HarnessError> {
        let folders = self.folders(node)?;
        let joins = folders
            .iter()
            .map(|folder| format!("echo $$ > {}/cgroup.procs", folder.display()));
        let mut script: Vec<String> = joins.collect();
        script.push("exec \"$@\"".to_owned());
        let words = ["sh", "-c", &script.join(" && "), "sh"];
        Ok(words.map(ToOwned::to_owned).to_vec())
    }

    /// Gives it so many thousandths of one processor; all with none.
    pub(super) fn limit_cpu(&self, node: &str, per_mille: Option<i64>) -> Result<(), HarnessError> {
        let quota_us = per_mille.map(|share| share * PERIOD_US / 1_000);
        let folder = self.cpu(node)?;
        match &self.roots {
            Roots::First { .. } => {
                write(&folder.join("cpu.cfs_period_us"), &PERIOD_US.to_string())?;
                let quota_us = quota_us.unwrap_or(-1);
                write(&folder.join("cpu.cfs_quota_us"), &quota_us.to_string())
            }
            Roots::Second(_) => {
                let quota_us = quota_us.map_or("max".to_owned(), |quota| quota.to_string());
                write(&folder.join("cpu.max"), &format!("{quota_us} {PERIOD_US}"))
            }
        }
    }

    /// How often it had to do without.
    pub(super) fn missed(&self, node: &str) -> Result<u64, HarnessError> {
        Ok(self.throttled(node)? + self.refused(node)?)
    }

    /// How many periods it had to wait in.
    fn throttled(&self, node: &str) -> Result<u64, HarnessError> {
        let text = read(&self.cpu(node)?.join("cpu.stat"))?;
        Ok(field(&text, "nr_throttled"))
    }

    /// Gives it so much memory more than it has, in mebibytes; all with none. Returns the limit, in bytes.
    pub(super) fn limit_memory(
        &self,
        node: &str,
        more_mib: Option<i64>,
    ) -> Result<i64, HarnessError> {
        let folder = self.memory(node)?;
        let (usage, limit, none) = match &self.roots {
            Roots::First { .. } => ("memory.usage_in_bytes", "memory.limit_in_bytes", "-1"),
            Roots::Second(_) => ("memory.current", "memory.max", "max"),
        };
        let Some(more_mib) = more_mib else {
            write(&folder.join(limit), none)?;
            return Ok(-1);
        };
        // What the kernel keeps of files counts as well, and is given back first.
        let used: i64 = read(&folder.join(usage))?
            .trim()
            .parse()
            .unwrap_or_default();
        let bytes =
            used - field_signed(&read(&folder.join("memory.stat"))?, "file") + more_mib * MIB;
        write(&folder.join(limit), &bytes.to_string())?;
        Ok(bytes)
    }

    /// How often it wanted more memory than it may have.
    fn refused(&self, node: &str) -> Result<u64, HarnessError> {
        let folder = self.memory(node)?;
        match &self.roots {
            Roots::First { .. } => {
                let text = read(&folder.join("memory.failcnt"))?;
                Ok(text.trim().parse().unwrap_or_default())
            }
            Roots::Second(_) => Ok(field(&read(&folder.join("memory.events"))?, "max")),
        }
    }

    fn cpu(&self, node: &str) -> Result<PathBuf, HarnessError> {
        let mut folders = self.folders(node)?;
        Ok(folders.swap_remove(0))
    }

    fn memory(&self, node: &str) -> Result<PathBuf, HarnessError> {
        let mut folders = self.folders(node)?;
        Ok(folders.swap_remove(folders.len() - 1))
    }

    /// The first for processors, the last for memory.
    fn folders(&self, node: &str) -> Result<Vec<PathBuf>, HarnessError> {
        let name = self
            .names
            .get(node)
            .ok_or_else(|| HarnessError::NoSuchServer {
                name: node.to_owned(),
            })?;
        let roots = self.roots.folders();
        Ok(roots.into_iter().map(|root| root.join(name)).collect())
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for name in self.names.values() {
            for root in self.roots.folders() {
                // Fails while a process is in it; then the next run removes it.
                std::fs::remove_dir(root.join(name)).ok();
            }
        }
    }
}

fn field(text: &str, name: &str) -> u64 {
    u64::try_from(field_signed(text, name)).unwrap_or_default()
}

/// The number behind a name at the beginning of a line; version 1 says `cache` for `file`.
fn field_signed(text: &str, name: &str) -> i64 {
    let is_named = |word: &str| word == name || (name == "file" && word == "cache");
    let value = text.lines().find_map(|line| {
        let (word, value) = line.split_once(' ')?;
        is_named(word).then(|| value.trim().parse().ok())?
    });
    value.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found() {
        let first = "cgroup /c/cpu cgroup rw,cpu 0 0\ncgroup /c/memory cgroup rw,relatime,memory 0 0\n\
                     cgroup2 /c/unified cgroup2 rw 0 0\n";
        let found = Roots::among(first, |_| String::new()).unwrap();
        assert_eq!(
            found.folders(),
            [Path::new("/c/cpu"), Path::new("/c/memory")]
        );
        let second = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        let found = Roots::among(second, |_| "cpuset cpu io memory pids".to_owned()).unwrap();
        assert_eq!(found.folders(), [Path::new("/sys/fs/cgroup")]);
        assert_eq!(Roots::among(second, |_| "cpuset pids".to_owned()), None);
        assert_eq!(
            Roots::among("tmpfs / tmpfs rw 0 0\n", |_| String::new()),
            None
        );
    }

    #[test]
    fn numbers_are_read_by_their_names() {
        let text = "nr_periods 10\nnr_throttled 7\ncache 4096\n";
        assert_eq!(field(text, "nr_throttled"), 7);
        assert_eq!(field_signed(text, "file"), 4_096);
        assert_eq!(field(text, "nr"), 0);
    }
}

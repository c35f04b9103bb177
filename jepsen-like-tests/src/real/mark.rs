//! Names of what a run makes on the machine, and the removal of what crashed runs left.
//!
//! A name tells which process made the thing: by its number and by when it began, as numbers are used again. What no
//! living process made is left over.
//!
//! Invariant: nothing is removed that a living process made.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use super::tool::{run, run_words};

const PREFIX: &str = "souk-jepsen";
const NAMESPACES: &str = "/run/netns";

/// A prefix of names that only this run uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    process: u32,
    /// In clock ticks since the machine was started.
    began: u64,
    number: u32,
}

impl Mark {
    /// Another one of this process.
    pub(super) fn new() -> Mark {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let process = std::process::id();
        Mark {
            process,
            began: began(process).unwrap_or_default(),
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// For names that may have 15 letters only.
    pub(super) fn short(self) -> String {
        format!("sj{:x}x{:x}", self.process, self.number)
    }

    /// Spreads runs over something that they share.
    pub(super) fn spread(self) -> u32 {
        self.process.wrapping_mul(31).wrapping_add(self.number)
    }

    fn is_alive(self) -> bool {
        began(self.process) == Some(self.began)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mark {
            process,
            began,
            number,
        } = self;
        write!(formatter, "{PREFIX}-{process}-{began}-{number}")
    }
}

impl FromStr for Mark {
    type Err = ();

    /// Reads the beginning of a name.
    fn from_str(name: &str) -> Result<Mark, ()> {
        let rest = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_prefix('-'));
        let mut parts = rest.ok_or(())?.split('-');
        let mut part = || {
            parts
                .next()
                .and_then(|text| text.parse::<u64>().ok())
                .ok_or(())
        };
        let (process, began, number) = (part()?, part()?, part()?);
        Ok(Mark {
            process: u32::try_from(process).map_err(|_| ())?,
            began,
            number: u32::try_from(number).map_err(|_| ())?,
        })
    }
}

/// Removes what runs left that ended without doing so; returns the names of what was removed.
pub(super) fn sweep(group_roots: &[&Path]) -> Vec<String> {
    let mut removed = Vec::new();
    for namespace in left(names_in(Path::new(NAMESPACES))) {
        remove_namespace(&namespace);
        removed.push(namespace);
    }
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(source), Some(target)) = (words.next(), words.next()) else {
            continue;
        };
        if is_left(source) && run_words(&["umount", target], "").is_ok() {
            removed.push(target.to_owned());
        }
    }
    for root in group_roots {
        for group in left(names_in(root)) {
            if std::fs::remove_dir(root.join(&group)).is_ok() {
                removed.push(root.join(group).display().to_string());
            }
        }
    }
    removed
}

/// Removes a namespace with everything in it.
pub(super) fn remove_namespace(name: &str) {
    // Each fails only when it is gone already. A frozen process would keep it otherwise.
    for process in run(&format!("ip netns pids {name}"))
        .unwrap_or_default()
        .lines()
    {
        run(&format!("kill -9 {process}")).ok();
    }
    run(&format!("ip netns delete {name}")).ok();
}

fn left(names: Vec<String>) -> impl Iterator<Item = String> {
    names.into_iter().filter(|name| is_left(name))
}

fn is_left(name: &str) -> bool {
    name.parse().is_ok_and(|mark: Mark| !mark.is_alive())
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// When a process began, in clock ticks since the machine was started; none if it does not run.
fn began(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may hold anything, so count behind the last one.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_belong_to_the_living() {
        let mark = Mark::new();
        let name = format!("{mark}-n1");
        assert_eq!(name.parse(), Ok(mark));
        assert_ne!(Mark::new(), mark);
        assert!(!is_left(&name), "this process lives");
        let dead = Mark {
            began: mark.began + 1,
            ..mark
        };
        assert!(
            is_left(&format!("{dead}-hub")),
            "this number began at another time"
        );
        for other in [
            "souk-jepsen",
            "souk-jepsen-1-2",
            "souk-jepsen-a-2-3",
            "eth0",
        ] {
            assert!(!is_left(other), "{other} is not ours");
        }
        assert!(mark.short().len() <= 15);
    }
}

//! The deliberate breakages that this suite has to notice, and where each of them shows.
//!
//! Place: names of `souk_kv_proto::mutants`, with the workload and the faults under which a break of that promise comes to
//! light. `souk-jepsen mutants` builds the store with all of them and hunts one after the other.
//! Not here: the breakages themselves, which stand beside what they break.

use crate::fault::Fault;

/// One breakage.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// Its name in the code, and in `SOUK_MUTANT`.
    pub name: &'static str,
    /// What it does.
    pub breaks: &'static str,
    /// Under which traffic it shows.
    pub workload: &'static str,
    /// Under which faults it shows.
    pub faults: &'static [Fault],
    /// In a cluster of how many nodes.
    pub nodes: u32,
}

/// All of them.
pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "put-one-short",
        breaks: "a put is acknowledged at W - 1 copies",
        workload: "session",
        faults: &[Fault::SplitOneWay, Fault::Slow],
        nodes: 3,
    },
    Mutant {
        name: "get-asks-one",
        breaks: "a get ignores R and answers from one copy",
        workload: "session",
        faults: &[Fault::SplitOne, Fault::KillOne],
        nodes: 3,
    },
    Mutant {
        name: "put-before-sync",
        breaks: "a put counts its own copy before that is synced",
        workload: "cart",
        faults: &[Fault::TornWrite, Fault::SplitOne],
        nodes: 3,
    },
    Mutant {
        name: "vote-before-sync",
        breaks: "an acceptor votes before its vote is synced",
        workload: "register",
        faults: &[Fault::TornWrite, Fault::SplitFlapping],
        nodes: 3,
    },
    Mutant {
        name: "promise-forgotten",
        breaks: "an acceptor does not write its promises down",
        workload: "register",
        faults: &[Fault::KillOne, Fault::SplitFlapping],
        nodes: 3,
    },
    Mutant {
        name: "lower-ballots-accepted",
        breaks: "an acceptor ignores what it promised: a compare-and-set becomes read, then write",
        workload: "cas-register",
        faults: &[Fault::Jitter, Fault::SplitOneWay],
        nodes: 3,
    },
    Mutant {
        name: "read-asks-one",
        breaks: "a register read trusts the first acceptor that answers",
        workload: "cas-register",
        faults: &[Fault::SplitOne],
        nodes: 3,
    },
    Mutant {
        name: "hints-forgotten",
        breaks: "hints are lost when their keeper starts again",
        workload: "siblings",
        faults: &[Fault::SplitHalves, Fault::KillMajority],
        nodes: 5,
    },
    Mutant {
        name: "hint-dropped-untaken",
        breaks: "a hint that was not taken is dropped",
        workload: "siblings",
        faults: &[Fault::SplitHalves],
        nodes: 5,
    },
    Mutant {
        name: "get-forgets-deletes",
        breaks: "a read takes a tombstone for nothing, and repair does so too",
        workload: "deletes",
        faults: &[Fault::SplitOne],
        nodes: 3,
    },
    Mutant {
        name: "merge-keeps-arrival",
        breaks: "a replica keeps what arrives instead of merging it",
        workload: "siblings",
        faults: &[Fault::SplitHalves],
        nodes: 3,
    },
    Mutant {
        name: "merge-keeps-local",
        breaks: "a replica keeps what it has instead of merging what arrives",
        workload: "siblings",
        faults: &[Fault::SplitOne],
        nodes: 3,
    },
    Mutant {
        name: "actors-kept",
        breaks: "a vnode keeps its actor after a stop that was not orderly",
        workload: "siblings",
        faults: &[Fault::TornWrite, Fault::SplitOneWay],
        nodes: 3,
    },
    Mutant {
        name: "lease-from-zero",
        breaks: "counters begin anew after a stop that was not orderly, under the same actors, so that dots repeat",
        workload: "siblings",
        faults: &[Fault::TornWrite, Fault::SplitOneWay],
        nodes: 3,
    },
    Mutant {
        name: "actors-by-partition",
        breaks: "an actor follows from its partition: replicas share it, and a wiped one uses it again",
        workload: "siblings",
        faults: &[Fault::Wipe],
        nodes: 3,
    },
    Mutant {
        name: "learner-untaught",
        breaks: "a wiped acceptor votes without having been taught",
        workload: "set",
        faults: &[Fault::Wipe, Fault::SplitOne],
        nodes: 3,
    },
    Mutant {
        name: "one-teacher",
        breaks: "a wiped acceptor learns a register from one replica instead of a majority",
        workload: "set",
        faults: &[Fault::Wipe, Fault::SplitOne],
        nodes: 3,
    },
    Mutant {
        name: "leaf-off-by-one",
        breaks: "records weigh in the leaf beside the one in which they are looked for",
        workload: "siblings",
        faults: &[Fault::SplitOne, Fault::TornWrite],
        nodes: 3,
    },
    Mutant {
        name: "tombstone-by-age",
        breaks: "each node erases its tombstones when they are old enough, whatever others hold",
        workload: "deletes",
        faults: &[Fault::SplitOne],
        nodes: 3,
    },
    Mutant {
        name: "dated-by-the-clock",
        breaks: "a put to an lww key is dated by the node's clock alone, and takes the place of what is there",
        workload: "latest",
        faults: &[Fault::ClockJump],
        nodes: 3,
    },
    Mutant {
        name: "strict-counts-stand-ins",
        breaks: "a strict put counts copies on stand-ins",
        workload: "session",
        faults: &[Fault::SplitHalves],
        nodes: 5,
    },
    Mutant {
        name: "timeout-is-no",
        breaks: "a put in doubt is called not applied",
        workload: "siblings",
        faults: &[Fault::SplitHalves, Fault::Lossy],
        nodes: 3,
    },
    Mutant {
        name: "retry-under-another-name",
        breaks: "a client sends a request again without its id",
        workload: "cas-register",
        faults: &[Fault::SplitFlapping, Fault::Lossy],
        nodes: 3,
    },
];

/// The mutant of that name.
///
/// # Errors
/// A text with all names.
pub fn named(name: &str) -> Result<Mutant, String> {
    let found = MUTANTS.iter().find(|mutant| mutant.name == name);
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = MUTANTS.iter().map(|mutant| mutant.name).collect();
        format!(
            "there is no mutant `{name}`; the mutants are {}",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_workloads_exist() {
        let names: BTreeSet<&str> = MUTANTS.iter().map(|mutant| mutant.name).collect();
        assert_eq!(names.len(), MUTANTS.len());
        for mutant in MUTANTS {
            crate::workload::named(mutant.workload).unwrap();
        }
        assert!(named("meteor").unwrap_err().contains("get-asks-one"));
    }
}

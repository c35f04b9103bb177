//! A small cluster in which everything that can go wrong with deletes goes wrong by seed, and the proof that the
//! check would notice a rule that is missing.
//!
//! One key, three primaries and a stand-in. Clients write, delete and create again, with contexts old and new;
//! coordinators and repairs dawdle with records in hand; messages are late, lost, or outlive their sender; hints are
//! parked and delivered twice; nodes crash. Rounds of collection run all the while. At the end everything is
//! healed, and the truth is compared: nothing deleted is back, nothing acknowledged is lost, and what is only deletes
//! gets collected.
//!
//! | file | idea |
//! |---|---|
//! | `cluster` | nodes, messages, and the turns that chance takes |
//! | `work` | what a node does for clients: puts, gets with repair, handoff |
//! | `collection` | what a node does in a round, driven by the real machine |
//! | `truth` | what was promised, and whether it was kept |
//! | `runs` | seeds, and mutants that the seeds have to catch |
//! | `schedules` | accidents that chance seldom finds, step by step |
//!
//! Place: tests only. Records, ledgers, fences, marks and rounds are the real ones; mutants break the joints between.

mod cluster;
mod collection;
mod runs;
mod schedules;
mod truth;
mod work;

/// One broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mutant {
    /// A primary erases its tombstone after a while, without asking anybody.
    EraseByAge,
    /// Nobody quiesces.
    SkipQuiesce,
    /// Members quiesce only before they look for hints.
    QuiesceOnce,
    /// Members look for hints right away, without quiescing before.
    CheckEarly,
    /// Work under way is not waited for; only the fence is raised.
    SkipWork,
    /// The fence is raised without waiting for records that are being stored.
    SkipArrivals,
    /// Late messages are taken.
    SkipFence,
    /// Whoever passes a write on makes it his own work.
    RelayAsOwn,
    /// Whoever passes a write on does not wait for it when his peer declares its work over.
    RelayUnseen,
    /// Anti-entropy is no work.
    ExchangeUnseen,
    /// A restarted node counts its generations anew, and does not listen to the greeting.
    ForgetGeneration,
    /// Nobody looks for hints.
    SkipHints,
    /// The stand-in is not asked.
    SkipMember,
    /// Primaries that hold something else are not asked about it.
    SkipMarks,
    /// A record that changed is erased all the same.
    IgnoreChange,
    /// A record with a value in it counts as garbage.
    EraseValues,
    /// Loose dots are folded without a round.
    FoldUnproven,
}

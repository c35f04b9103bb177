//! What an opening says about the stop before it.
//!
//! Place: asked of [`crate::Store::recovery`] by the node before it mints a dot or casts a vote.

use crate::engine::EngineFindings;
use crate::marker::CloseNote;

/// How the data was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// A new store, or one that was closed in order: everything acknowledged is here.
    Clean,
    /// The process died. Every synced write is here; interval writes since the last sync may not
    /// be if the machine died too.
    Unclean,
    /// Something that was acknowledged may be gone. The node has to take new actor ids and to
    /// prove itself whole against its peers before it votes.
    Suspect {
        /// What was seen.
        why: String,
    },
}

impl Recovery {
    /// Weighs what was found. `note` is what the last close left, if it was orderly; `findings`
    /// are those of the engine and of the look at its files.
    pub(crate) fn judge(
        existed: bool,
        note: Option<CloseNote>,
        last_group: u64,
        findings: EngineFindings,
    ) -> Self {
        if let Some(why) = findings.suspicion {
            return Self::Suspect { why };
        }
        match note {
            Some(note) if note.last_group != last_group => Self::Suspect {
                why: format!(
                    "the last orderly close came after group {}, the engine shows group {last_group}",
                    note.last_group
                ),
            },
            Some(_) => Self::Clean,
            None if !existed && last_group == 0 => Self::Clean,
            None => Self::Unclean,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_matching_note_or_a_new_store_is_clean() {
        fn check(existed: bool, note: Option<u64>, found: u64, hole: bool, expected: &str) {
            let note = note.map(|last_group| CloseNote {
                last_group,
                ..CloseNote::default()
            });
            let findings = EngineFindings {
                suspicion: hole.then(|| "hole".to_owned()),
            };
            let judged = match Recovery::judge(existed, note, found, findings) {
                Recovery::Clean => "clean",
                Recovery::Unclean => "unclean",
                Recovery::Suspect { .. } => "suspect",
            };
            assert_eq!(judged, expected);
        }
        check(false, None, 0, false, "clean");
        check(true, Some(7), 7, false, "clean");
        check(true, Some(7), 6, false, "suspect");
        check(true, None, 7, false, "unclean");
        check(true, None, 0, false, "unclean");
        check(true, Some(7), 7, true, "suspect");
        check(true, None, 7, true, "suspect");
    }
}

//! What a checker says, and on what evidence.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::history::Operation;

/// Most violations that a report shows; the others are only counted.
const VIOLATIONS_SHOWN: usize = 10;
/// Most operations that one violation shows.
const OPERATIONS_SHOWN: usize = 20;

/// Valid, invalid, or unknown. Serialised in Jepsen's way: `true`, `false`, `"unknown"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything can be explained.
    Valid,
    /// Something cannot.
    Invalid {
        /// Not empty.
        violations: Vec<Violation>,
    },
    /// There is not enough evidence, or too much to judge.
    Unknown {
        /// In words.
        why: String,
    },
}

/// One thing that must not happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// A short name, such as `lost`.
    pub kind: &'static str,
    /// What happened.
    pub what: String,
    /// The operations involved, as they are written in the history.
    pub operations: Vec<String>,
    /// Where they stand in the history: from event to event, without an end where that is in doubt.
    #[serde(skip)]
    pub spans: Vec<(u64, Option<u64>)>,
}

/// A verdict with its evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Of the checker.
    pub checker: &'static str,
    /// What it says.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What it counted, by name.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Violation {
    /// A violation that involves some operations.
    pub fn new<'operation>(
        kind: &'static str,
        what: impl Into<String>,
        operations: impl IntoIterator<Item = &'operation Operation>,
    ) -> Violation {
        let operations = operations.into_iter().take(OPERATIONS_SHOWN);
        let shown = |one: &Operation| (one.to_string(), (one.invoked, one.completed));
        let (operations, spans) = operations.map(shown).unzip();
        Violation {
            kind,
            what: what.into(),
            operations,
            spans,
        }
    }
}

impl Verdict {
    /// Valid without violations, invalid with some.
    #[must_use]
    pub fn of(violations: Vec<Violation>) -> Verdict {
        if violations.is_empty() {
            Verdict::Valid
        } else {
            Verdict::Invalid { violations }
        }
    }

    /// Not enough evidence, or too much.
    pub fn unknown(why: impl fmt::Display) -> Verdict {
        Verdict::Unknown {
            why: why.to_string(),
        }
    }

    /// True when everything can be explained.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        matches!(self, Verdict::Valid)
    }

    /// True when something cannot be explained.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        matches!(self, Verdict::Invalid { .. })
    }

    /// True when there was not enough to judge, or too much.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, Verdict::Unknown { .. })
    }

    /// The verdict on both: one violation suffices, and doubt beats trust.
    #[must_use]
    pub fn and(self, other: Verdict) -> Verdict {
        match (self, other) {
            (
                Verdict::Invalid { mut violations },
                Verdict::Invalid {
                    violations: further,
                },
            ) => {
                violations.extend(further);
                Verdict::Invalid { violations }
            }
            (invalid @ Verdict::Invalid { .. }, _) | (_, invalid @ Verdict::Invalid { .. }) => {
                invalid
            }
            (unknown @ Verdict::Unknown { .. }, _) | (_, unknown @ Verdict::Unknown { .. }) => {
                unknown
            }
            (Verdict::Valid, Verdict::Valid) => Verdict::Valid,
        }
    }
}

impl Report {
    /// A report on what was counted.
    pub fn new<const COUNTS: usize>(
        checker: &'static str,
        verdict: Verdict,
        counts: [(&'static str, usize); COUNTS],
    ) -> Report {
        let as_u64 = |(name, count)| (name, u64::try_from(count).unwrap_or(u64::MAX));
        Report {
            checker,
            verdict,
            counts: counts.into_iter().map(as_u64).collect(),
        }
    }

    /// A report that nothing can be said.
    pub fn unknown(checker: &'static str, why: impl fmt::Display) -> Report {
        Report::new(checker, Verdict::unknown(why), [])
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.kind, self.what)?;
        for operation in &self.operations {
            write!(formatter, "\n    {operation}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Valid => formatter.write_str("valid"),
            Verdict::Unknown { why } => write!(formatter, "unknown: {why}"),
            Verdict::Invalid { violations } => {
                write!(formatter, "INVALID, {} violation(s)", violations.len())?;
                for violation in violations.iter().take(VIOLATIONS_SHOWN) {
                    write!(formatter, "\n  {violation}")?;
                }
                if violations.len() > VIOLATIONS_SHOWN {
                    write!(
                        formatter,
                        "\n  ... and {} more",
                        violations.len() - VIOLATIONS_SHOWN
                    )?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.checker, self.verdict)?;
        for (name, count) in &self.counts {
            write!(formatter, "\n  {name} = {count}")?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Written<'verdict> {
    valid: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'verdict str>,
    #[serde(skip_serializing_if = "<[Violation]>::is_empty")]
    violations: &'verdict [Violation],
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (valid, why, violations): (_, _, &[Violation]) = match self {
            Verdict::Valid => (true.into(), None, &[]),
            Verdict::Invalid { violations } => (false.into(), None, violations),
            Verdict::Unknown { why } => ("unknown".into(), Some(why.as_str()), &[]),
        };
        Written {
            valid,
            why,
            violations,
        }
        .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invalid(kind: &'static str) -> Verdict {
        Verdict::of(vec![Violation::new(kind, "", [])])
    }

    #[test]
    fn one_violation_suffices_and_doubt_beats_trust() {
        let unknown = || Verdict::unknown("nothing happened");
        assert!(Verdict::Valid.and(Verdict::Valid).is_valid());
        assert!(Verdict::Valid.and(unknown()).is_unknown());
        assert!(unknown().and(invalid("a")).is_invalid());
        let both = invalid("a").and(invalid("b"));
        assert!(matches!(both, Verdict::Invalid { violations } if violations.len() == 2));
    }

    #[test]
    fn results_are_written_as_jepsen_does() {
        let check = |verdict: Verdict, expected: &str| {
            let report = Report::new("set", verdict, [("lost", 1)]);
            assert_eq!(serde_json::to_string(&report).unwrap(), expected);
        };
        check(
            Verdict::Valid,
            r#"{"checker":"set","valid":true,"counts":{"lost":1}}"#,
        );
        check(
            Verdict::unknown("why"),
            r#"{"checker":"set","valid":"unknown","why":"why","counts":{"lost":1}}"#,
        );
        check(
            invalid("lost"),
            r#"{"checker":"set","valid":false,"violations":[{"kind":"lost","what":"","operations":[]}],"counts":{"lost":1}}"#,
        );
    }
}

//! A request together with its answer.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::{CONDITION_FAILED, Process};

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Operation {
    /// Who asked.
    pub process: Process,
    /// The operation's name.
    pub f: String,
    /// Its argument.
    pub asked: Value,
    /// Index of the event that began it.
    pub invoked: u64,
    /// Index of the event that ended it; none when it is in doubt, as it may still take effect at any time.
    pub completed: Option<u64>,
    /// When it began, in nanoseconds.
    pub invoked_ns: u64,
    /// When its answer came, in nanoseconds, if one came; a doubtful one may have ended with a time-out.
    pub ended_ns: Option<u64>,
    /// The answer.
    pub end: End,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// It took effect.
    Ok {
        /// Its result.
        value: Value,
    },
    /// It had no effect.
    Fail {
        /// What the answer shows, if anything.
        value: Value,
        /// Why.
        error: Option<Value>,
    },
    /// It may have taken effect, or may still.
    Unknown {
        /// Why nobody knows.
        error: Option<Value>,
    },
}

impl Operation {
    /// True when it surely took effect.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self.end, End::Ok { .. })
    }

    /// True when somebody who knew told its outcome: it was done, or refused.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.is_ok() || self.refused().is_some()
    }

    /// True when it surely had no effect.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        matches!(self.end, End::Fail { .. })
    }

    /// True when nobody knows.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self.end, End::Unknown { .. })
    }

    /// The result of one that took effect.
    #[must_use]
    pub fn told(&self) -> Option<&Value> {
        match &self.end {
            End::Ok { value } => Some(value),
            End::Fail { .. } | End::Unknown { .. } => None,
        }
    }

    /// What the answer shows when the request was run and its condition did not hold.
    #[must_use]
    pub fn refused(&self) -> Option<&Value> {
        match &self.end {
            End::Fail { value, error } => error
                .as_ref()
                .is_some_and(|error| error == CONDITION_FAILED)
                .then_some(value),
            End::Ok { .. } | End::Unknown { .. } => None,
        }
    }
}

/// `#12..#15 process 3: cas ["k1",[1,2]] -> ok ["k1",[1,2]]`.
impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "#{}..", self.invoked)?;
        if let Some(completed) = self.completed {
            write!(formatter, "#{completed}")?;
        }
        let Operation {
            process, f, asked, ..
        } = self;
        write!(formatter, " process {process}: {f} {asked} -> ")?;
        let (word, value, error) = match &self.end {
            End::Ok { value } => ("ok", Some(value), None),
            End::Fail { value, error } => ("fail", Some(value), error.as_ref()),
            End::Unknown { error } => ("info", None, error.as_ref()),
        };
        formatter.write_str(word)?;
        for shown in value.into_iter().chain(error) {
            write!(formatter, " {shown}")?;
        }
        Ok(())
    }
}

//! Histories as JSON Lines: one event a line.

use std::io::{self, BufRead, Write};

use super::{Event, History, HistoryError};

/// Why a file could not be read as a history.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The file itself.
    #[error("cannot read the history")]
    Read(#[source] io::Error),
    /// A line is no event.
    #[error(
        "line {line} is no event of the form {{\"process\":0,\"type\":\"invoke\",\"f\":\"read\",\"value\":null,\"time\":1,\"index\":0}}"
    )]
    Malformed {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The events contradict one another.
    #[error("the events are no history")]
    History(#[from] HistoryError),
}

/// Reads a history; empty lines are skipped.
///
/// # Errors
/// When a line is no event or the events are no history.
pub fn read_lines(input: impl BufRead) -> Result<History, LineError> {
    let mut events: Vec<Event> = Vec::new();
    for (number, line) in input.lines().enumerate() {
        let line = line.map_err(LineError::Read)?;
        if line.trim().is_empty() {
            continue;
        }
        let event = serde_json::from_str(&line).map_err(|source| LineError::Malformed {
            line: number + 1,
            source,
        })?;
        events.push(event);
    }
    Ok(History::new(events)?)
}

/// Writes a history.
///
/// # Errors
/// When the output cannot be written.
pub fn write_lines(history: &History, mut output: impl Write) -> io::Result<()> {
    for event in history.events() {
        write_line(event, &mut output)?;
    }
    output.flush()
}

pub(super) fn write_line(event: &Event, mut output: impl Write) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    output.write_all(&line)
}

//! A history to look at: plots of latency and rate, a timeline of every request, and the story of a violation.
//!
//! Shape: a history in, a text out: SVG or HTML, complete in itself, without scripts, or words. Windows of faults are shaded in all of
//! them, so that cause and effect stand side by side.
//!
//! Place: pure; written beside the verdicts of a run.
//! Source: Jepsen, `checker/perf.clj` and `checker/timeline.clj`.

mod explanation;
mod plot;
mod timeline;

pub use explanation::explanation;
pub use plot::{latency_svg, rate_svg};
pub use timeline::timeline_html;

use crate::history::{End, Operation};

/// How a request ended, as a colour.
fn colour(operation: &Operation) -> &'static str {
    match operation.end {
        End::Ok { .. } => "#4c9f4c",
        End::Fail { .. } => "#d08a2e",
        End::Unknown { .. } => "#b0419a",
    }
}

/// Text that stands in XML.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            other => safe.push(other),
        }
    }
    safe
}

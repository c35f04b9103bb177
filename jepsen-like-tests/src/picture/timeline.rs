//! Every request as a bar in the column of its process, as one page of HTML.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{colour, escaped};
use crate::fault::windows;
use crate::history::{End, History, Operation, Process};

/// Pixels of a millisecond, at first; long histories are squeezed into [`PIXELS_MAX`].
const PIXELS_PER_MS: f64 = 1.0;
const PIXELS_MAX: f64 = 60_000.0;
const COLUMN: f64 = 110.0;
const BAR: f64 = 104.0;
const BAR_HEIGHT_MIN: f64 = 11.0;
/// Most bars of a page; the rest is left to the history itself.
const BARS_MAX: usize = 10_000;
/// Most letters of an argument or a result that a bar shows when it is pointed at.
const SHOWN_MAX: usize = 300;
const NS_PER_MS: f64 = 1e6;

const HEAD: &str = "<!DOCTYPE html><html><head><meta charset=\"utf-8\"><title>Timeline</title><style>\
body{font:11px sans-serif;margin:8px}.page{position:relative}.bar,.fault{position:absolute;overflow:hidden;\
white-space:nowrap;box-sizing:border-box}.bar{border-radius:2px;color:#fff;padding:0 2px}\
.fault{left:0;background:rgba(204,51,51,.12);border-top:1px solid #c33;color:#922}</style></head><body>";

/// The page.
#[must_use]
pub fn timeline_html(history: &History) -> String {
    let operations = history.operations();
    let first_ns = history.events().first().map_or(0, |event| event.time);
    let last_ns = history.events().last().map_or(0, |event| event.time);
    let length_ms = last_ns.saturating_sub(first_ns) as f64 / NS_PER_MS;
    let scale = PIXELS_PER_MS.min(PIXELS_MAX / length_ms.max(1.0));
    let place = |time_ns: u64| time_ns.saturating_sub(first_ns) as f64 / NS_PER_MS * scale;
    let columns = columns(&operations);
    let width = COLUMN * (columns.values().max().map_or(0, |last| last + 1)) as f64;
    let mut page = String::from(HEAD);
    let mut add = |text: std::fmt::Arguments<'_>| {
        page.write_fmt(text).expect("a text takes everything");
    };
    if operations.len() > BARS_MAX {
        add(format_args!(
            "<p>The first {BARS_MAX} of {} requests; all are in history.jsonl.</p>",
            operations.len()
        ));
    }
    add(format_args!(
        "<div class=\"page\" style=\"height:{:.0}px\">",
        length_ms * scale + 40.0
    ));
    for window in windows(history) {
        let top = place(window.from_ns);
        add(format_args!(
            "<div class=\"fault\" style=\"top:{top:.0}px;height:{:.0}px;width:{width:.0}px\">{}</div>",
            place(window.to_ns.unwrap_or(last_ns)) - top,
            escaped(&window.node)
        ));
    }
    for operation in operations.iter().take(BARS_MAX) {
        let top = place(operation.invoked_ns);
        let bottom = place(operation.ended_ns.unwrap_or(last_ns));
        let column = columns.get(&operation.process).copied().unwrap_or_default();
        add(format_args!(
            "<div class=\"bar\" title=\"{}\" style=\"top:{top:.0}px;left:{:.0}px;width:{BAR}px;height:{:.0}px;background:{}\">{} {}</div>",
            escaped(&shortened(operation.to_string())),
            column as f64 * COLUMN,
            (bottom - top).max(BAR_HEIGHT_MIN),
            colour(operation),
            escaped(&operation.f),
            escaped(&shortened(operation.asked.to_string())),
        ));
    }
    add(format_args!("</div></body></html>\n"));
    page
}

/// Processes that replaced one another after a request in doubt share a column.
fn columns(operations: &[Operation]) -> BTreeMap<Process, usize> {
    let mut columns: BTreeMap<Process, usize> = BTreeMap::new();
    let mut free: Vec<(u64, usize)> = Vec::new();
    let mut count = 0;
    for operation in operations {
        let column = *columns.entry(operation.process).or_insert_with(|| {
            let reused = free
                .iter()
                .position(|(since_ns, _)| *since_ns <= operation.invoked_ns);
            reused.map_or_else(
                || {
                    count += 1;
                    count - 1
                },
                |position| free.swap_remove(position).1,
            )
        });
        if let (End::Unknown { .. }, Some(ended_ns)) = (&operation.end, operation.ended_ns) {
            free.push((ended_ns, column));
        }
    }
    columns
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::Script;

    #[test]
    fn every_request_is_a_bar() {
        let history = Script::default()
            .ok(0, "add", json!("<b>&"), json!(1))
            .info(0, "add", json!(2))
            .ok(1, "add", json!(3), json!(3))
            .history();
        let page = timeline_html(&history);
        assert_eq!(page.matches("class=\"bar\"").count(), 3);
        assert!(page.contains("&lt;b&gt;&amp;") && !page.contains("<b>"));
    }

    #[test]
    fn who_comes_after_doubt_takes_the_column() {
        let history = Script::default()
            .info(0, "add", json!(1))
            .ok(1, "add", json!(2), json!(2))
            .history();
        let columns = columns(&history.operations());
        assert!(columns.values().all(|column| *column == 0));
    }
}

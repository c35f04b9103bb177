//! What people and scripts see: lines, tables, JSON, progress, colours.
//!
//! Standard output carries answers, standard error everything else. Colours and moving bars appear
//! only on a terminal; anywhere else the same information comes as plain lines.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use owo_colors::{OwoColorize as _, Stream};
use parking_lot::Mutex;

/// Time between two plain progress lines.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// One line of an answer. When nobody reads any more, such as after `| head`, the process ends quietly.
pub(crate) fn line(text: impl Display) {
    bytes(format!("{text}\n").as_bytes());
}

/// Raw bytes of an answer; as [`line()`] when nobody reads.
pub(crate) fn bytes(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    if stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .is_err()
    {
        std::process::exit(0);
    }
}

/// A JSON document on one line.
pub(crate) fn json(document: &serde_json::Value) {
    line(document);
}

/// A word about what is going on, on standard error.
pub(crate) fn note(text: impl Display) {
    eprintln!("{text}");
}

/// A table with a heading.
pub(crate) fn table<const COLUMNS: usize, C: Into<Cell>>(
    heading: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [C; COLUMNS]>,
) {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heading);
    for row in rows {
        table.add_row(row.map(Into::into));
    }
    let text = table.trim_fmt();
    // Without borders the first column would otherwise be indented.
    text.lines()
        .for_each(|row| line(row.strip_prefix(' ').unwrap_or(row)));
}

/// Green on a terminal.
pub(crate) fn good(text: &str) -> String {
    text.if_supports_color(Stream::Stdout, |text| text.green())
        .to_string()
}

/// Red on a terminal.
pub(crate) fn bad(text: &str) -> String {
    text.if_supports_color(Stream::Stdout, |text| text.red())
        .to_string()
}

/// A cell of a table, green or red on a terminal.
pub(crate) fn judged(text: &str, is_good: bool) -> Cell {
    Cell::new(text).fg(if is_good { Color::Green } else { Color::Red })
}

/// Bytes as people say them.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// How far a long step is: a bar on a terminal, a line now and then anywhere else.
pub(crate) struct Progress {
    label: String,
    bar: ProgressBar,
    plain: bool,
    last: Mutex<(Instant, String)>,
}

impl Progress {
    /// Begins a step.
    pub(crate) fn begin(label: impl Into<String>) -> Self {
        let label = label.into();
        let plain = !std::io::stderr().is_terminal();
        let target = if plain {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(style("{spinner} {msg}"));
        bar.set_message(label.clone());
        if plain {
            note(&label);
        }
        Self {
            label,
            bar,
            plain,
            last: Mutex::new((Instant::now(), String::new())),
        }
    }

    /// So much of `total` is done.
    pub(crate) fn set(&self, done: u64, total: u64) {
        if self.bar.length() != Some(total) {
            self.bar.set_length(total);
            self.bar
                .set_style(style("{msg} {wide_bar} {human_pos}/{human_len}"));
        }
        self.bar.set_position(done);
        self.now_and_then(|| format!("{done} of {total}"));
    }

    /// So much is done, of a whole that is not known.
    pub(crate) fn count(&self, done: u64) {
        self.bar.set_style(style("{spinner} {msg} {human_pos}"));
        self.bar.set_position(done);
        self.now_and_then(|| done.to_string());
    }

    /// What the step is at now.
    pub(crate) fn say(&self, detail: impl Display) {
        let detail = detail.to_string();
        self.bar.set_message(format!("{}: {detail}", self.label));
        self.bar.tick();
        let mut last = self.last.lock();
        if self.plain && last.1 != detail {
            note(format_args!("{}: {detail}", self.label));
            last.1 = detail;
        }
    }

    /// The step is over, and this is what came of it.
    pub(crate) fn end(self, result: impl Display) {
        self.bar.finish_and_clear();
        note(format_args!("{}: {result}", self.label));
    }

    fn now_and_then(&self, text: impl FnOnce() -> String) {
        let mut last = self.last.lock();
        if self.plain && last.0.elapsed() >= PLAIN_EVERY {
            last.0 = Instant::now();
            note(format_args!("{}: {}", self.label, text()));
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates in this file are well formed")
}

//! Latency and rate over time, as SVG.
//!
//! Latency: one dot for each answered request, on a logarithmic scale of milliseconds. Rate: answers of each kind per
//! second of the history.

use std::fmt::Write as _;

use super::{colour, escaped};
use crate::fault::windows;
use crate::history::{End, History, Operation};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 50.0;
/// Bottom and top of the latency scale, in milliseconds.
const LATENCY_MS: (f64, f64) = (1.0, 100_000.0);
/// Most dots of a plot; of more requests every so many-th is drawn.
const DOTS_MAX: usize = 20_000;
const NS_PER_S: f64 = 1e9;
const NS_PER_MS: f64 = 1e6;

/// The span of a history.
#[derive(Clone, Copy)]
struct Span {
    from_ns: u64,
    to_ns: u64,
}

impl Span {
    fn of(history: &History) -> Span {
        let times = history.events().iter().map(|event| event.time);
        let from_ns = times.clone().min().unwrap_or(0);
        Span {
            from_ns,
            to_ns: times.max().unwrap_or(0).max(from_ns + 1),
        }
    }

    fn seconds(self, time_ns: u64) -> f64 {
        time_ns.saturating_sub(self.from_ns) as f64 / NS_PER_S
    }

    fn x(self, time_ns: u64) -> f64 {
        let share = self.seconds(time_ns) / self.seconds(self.to_ns);
        MARGIN + share * (WIDTH - 2.0 * MARGIN)
    }
}

/// `share` of the way from the bottom to the top.
fn y(share: f64) -> f64 {
    HEIGHT - MARGIN - share.clamp(0.0, 1.0) * (HEIGHT - 2.0 * MARGIN)
}

/// Latency of each answered request, by how it ended.
#[must_use]
pub fn latency_svg(history: &History) -> String {
    let span = Span::of(history);
    let mut svg = begun("Latency", "ms", history, span);
    let (least, most) = LATENCY_MS;
    let share = |ms: f64| (ms.max(least) / least).log10() / (most / least).log10();
    for ms in [1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0] {
        mark(&mut svg, y(share(ms)), &format!("{ms}"));
    }
    let operations = history.operations();
    let every = operations.len().div_ceil(DOTS_MAX).max(1);
    for operation in operations.iter().step_by(every) {
        if let Some(ended_ns) = operation.ended_ns {
            let ms = ended_ns.saturating_sub(operation.invoked_ns) as f64 / NS_PER_MS;
            add(
                &mut svg,
                format_args!(
                    r#"<circle cx="{:.1}" cy="{:.1}" r="1.6" fill="{}" fill-opacity="0.6"/>"#,
                    span.x(operation.invoked_ns),
                    y(share(ms)),
                    colour(operation)
                ),
            );
        }
    }
    ended(svg)
}

/// Answers per second, by kind.
#[must_use]
pub fn rate_svg(history: &History) -> String {
    let span = Span::of(history);
    let mut svg = begun("Rate", "answers per second", history, span);
    let seconds = span.seconds(span.to_ns).ceil().max(1.0) as usize;
    let operations = history.operations();
    let is_kind: [fn(&Operation) -> bool; 3] = [
        |one| matches!(one.end, End::Ok { .. }),
        |one| matches!(one.end, End::Fail { .. }),
        |one| matches!(one.end, End::Unknown { .. }),
    ];
    let counted = is_kind.map(|is_kind| {
        let mut counts = vec![0_u32; seconds + 1];
        let mut line_colour = "";
        for operation in operations.iter().filter(|one| is_kind(one)) {
            line_colour = colour(operation);
            if let Some(ended_ns) = operation.ended_ns {
                counts[span.seconds(ended_ns) as usize] += 1;
            }
        }
        (line_colour, counts)
    });
    let most = counted.iter().flat_map(|(_, counts)| counts).max();
    let most = f64::from(most.copied().unwrap_or(0).max(1));
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        mark(&mut svg, y(share), &format!("{:.0}", share * most));
    }
    for (line_colour, counts) in counted
        .iter()
        .filter(|(_, counts)| counts.iter().any(|&one| one > 0))
    {
        let mut points = String::new();
        for (second, count) in (0_u64..).zip(counts) {
            let time_ns = span.from_ns + second * 1_000_000_000;
            let x = span.x(time_ns.min(span.to_ns));
            add(
                &mut points,
                format_args!("{x:.1},{:.1} ", y(f64::from(*count) / most)),
            );
        }
        add(
            &mut svg,
            format_args!(r#"<polyline points="{points}" fill="none" stroke="{line_colour}"/>"#),
        );
    }
    ended(svg)
}

/// Frame, title, scale of time, and shaded fault windows.
fn begun(title: &str, unit: &str, history: &History, span: Span) -> String {
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/><text x="{MARGIN}" y="20" font-size="14">{title} ({unit})</text>"#
    );
    let (top, height) = (y(1.0), y(0.0) - y(1.0));
    for window in windows(history) {
        let from = span.x(window.from_ns);
        let width = span.x(window.to_ns.unwrap_or(span.to_ns)) - from;
        add(
            &mut svg,
            format_args!(
                r##"<rect x="{from:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" fill="#c33" fill-opacity="0.12"><title>{}</title></rect>"##,
                escaped(&window.node)
            ),
        );
    }
    for tenth in 0..=10_u64 {
        let time_ns = span.from_ns + (span.to_ns - span.from_ns) / 10 * tenth;
        add(
            &mut svg,
            format_args!(
                r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{:.0} s</text>"#,
                span.x(time_ns),
                HEIGHT - MARGIN + 18.0,
                span.seconds(time_ns)
            ),
        );
    }
    svg
}

/// A line across, with its name at the left.
fn mark(svg: &mut String, at_y: f64, name: &str) {
    add(
        svg,
        format_args!(
            r##"<line x1="{MARGIN}" x2="{}" y1="{at_y:.1}" y2="{at_y:.1}" stroke="#ddd"/><text x="{}" y="{:.1}" text-anchor="end">{name}</text>"##,
            WIDTH - MARGIN,
            MARGIN - 6.0,
            at_y + 4.0
        ),
    );
}

fn ended(mut svg: String) -> String {
    let names = [("#4c9f4c", "ok"), ("#d08a2e", "fail"), ("#b0419a", "info")];
    for (position, (line_colour, name)) in (0_u8..).zip(names) {
        let x = WIDTH - MARGIN - 160.0 + f64::from(position) * 60.0;
        add(
            &mut svg,
            format_args!(
                r#"<circle cx="{x}" cy="16" r="4" fill="{line_colour}"/><text x="{}" y="20">{name}</text>"#,
                x + 8.0
            ),
        );
    }
    svg + "</svg>\n"
}

fn add(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a text takes everything");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::Script;

    #[test]
    fn every_request_is_a_dot_and_every_kind_a_line() {
        let history = Script::default()
            .ok(0, "add", json!(1), json!(1))
            .fail(0, "add", json!(2))
            .info(0, "add", json!(3))
            .history();
        let latency = latency_svg(&history);
        // Three requests, and three dots that say what colours mean.
        assert_eq!(latency.matches("<circle").count(), 6);
        let rate = rate_svg(&history);
        assert_eq!(rate.matches("<polyline").count(), 3);
        for svg in [latency, rate] {
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
            assert!(!svg.contains("NaN"), "{svg}");
        }
    }

    #[test]
    fn an_empty_history_has_pictures_too() {
        let history = History::default();
        assert!(!latency_svg(&history).contains("NaN"));
        assert!(!rate_svg(&history).contains("NaN"));
    }
}

//! Histories as EDN, for the tools of the Clojure world (knossos, elle, jepsen's own checkers).
//!
//! Source: the EDN format; Jepsen's `history.edn`: one map a line, keywords for keys, types and functions.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::Value;

use super::{Event, History, Process};

/// Writes a history.
///
/// # Errors
/// When the output cannot be written.
pub fn write_edn(history: &History, mut output: impl Write) -> io::Result<()> {
    for event in history.events() {
        writeln!(output, "{}", event_edn(event))?;
    }
    output.flush()
}

fn event_edn(event: &Event) -> String {
    let process = match event.process {
        Process::Client(number) => number.to_string(),
        Process::Nemesis => ":nemesis".to_owned(),
    };
    let mut line = format!(
        "{{:process {process}, :type :{}, :f {}, :value ",
        event.kind.as_str(),
        keyword(&event.f)
    );
    value_edn(&event.value, &mut line);
    if let Some(error) = &event.error {
        line.push_str(", :error ");
        value_edn(error, &mut line);
    }
    // Writing to a string cannot fail.
    write!(line, ", :time {}, :index {}}}", event.time, event.index).ok();
    line
}

fn value_edn(value: &Value, line: &mut String) {
    match value {
        Value::Null => line.push_str("nil"),
        Value::Bool(_) | Value::Number(_) => line.push_str(&value.to_string()),
        Value::String(text) => string_edn(text, line),
        Value::Array(items) => {
            line.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    line.push(' ');
                }
                value_edn(item, line);
            }
            line.push(']');
        }
        Value::Object(fields) => {
            line.push('{');
            for (position, (name, item)) in fields.iter().enumerate() {
                if position > 0 {
                    line.push_str(", ");
                }
                line.push_str(&keyword(name));
                line.push(' ');
                value_edn(item, line);
            }
            line.push('}');
        }
    }
}

/// A keyword where the name allows one, else a string.
fn keyword(name: &str) -> String {
    let is_plain = name
        .chars()
        .all(|letter| letter.is_ascii_alphanumeric() || "-_.*+!?".contains(letter));
    if is_plain && name.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
        return format!(":{name}");
    }
    let mut text = String::new();
    string_edn(name, &mut text);
    text
}

fn string_edn(text: &str, line: &mut String) {
    line.push('"');
    for letter in text.chars() {
        match letter {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            other => line.push(other),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::EventKind;
    use super::*;

    fn check(f: &str, value: Value, expected: &str) {
        let event = Event {
            process: Process::Client(3),
            kind: EventKind::Ok,
            f: f.to_owned(),
            value,
            error: None,
            time: 9,
            index: 1,
        };
        assert_eq!(event_edn(&event), expected);
    }

    #[test]
    fn values_become_their_counterparts() {
        check(
            "read",
            json!(["k1", null, 1, true]),
            r#"{:process 3, :type :ok, :f :read, :value ["k1" nil 1 true], :time 9, :index 1}"#,
        );
        check(
            "put if",
            json!({"a": "say \"hi\"\n", "a/b": []}),
            r#"{:process 3, :type :ok, :f "put if", :value {:a "say \"hi\"\n", "a/b" []}, :time 9, :index 1}"#,
        );
    }

    #[test]
    fn the_nemesis_and_errors_have_their_words() {
        let event = Event {
            process: Process::Nemesis,
            kind: EventKind::Info,
            f: "kill".to_owned(),
            value: json!("n1"),
            error: Some(json!("gone")),
            time: 9,
            index: 0,
        };
        assert_eq!(
            event_edn(&event),
            r#"{:process :nemesis, :type :info, :f :kill, :value "n1", :error "gone", :time 9, :index 0}"#
        );
    }
}

//! Reads histories in EDN, as Jepsen and Knossos leave them.
//!
//! Shape: EDN is turned into JSON values, and those into events: keywords and symbols become texts, lists and sets become
//! arrays, tags (`#jepsen.history.Op{...}`) are passed over. The file holds one map after the other, or one list of them.
//!
//! Place: beside [`super::read_lines`]; which one a file needs, [`super::read_any`] sees by its first letters.
//! Source: the EDN format (`edn-format/edn`).
//! Invariants: 1. whatever the bytes, an answer or an error with its line. 2. nesting is bounded.
//! Not here: writing (`super::edn`).

use std::iter::Peekable;
use std::str::Chars;

use serde_json::{Map, Number, Value};

use super::{Event, History, HistoryError};

/// Deepest nesting of collections.
const DEPTH_MAX: u32 = 64;

/// Why a text is no history in EDN.
#[derive(Debug, thiserror::Error)]
pub enum EdnError {
    /// The text is not EDN.
    #[error("line {line}: {what}")]
    Syntax {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A value is no event.
    #[error(
        "line {line} is no event of the form {{:process 0, :type :invoke, :f :read, :value nil, :time 1, :index 0}}"
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

/// Reads a history.
///
/// # Errors
/// When the text is not EDN, something in it is no event, or the events are no history.
pub fn read_edn(text: &str) -> Result<History, EdnError> {
    let mut reader = Reader::new(text);
    let mut events = Vec::new();
    while let Some(value) = reader.next_value()? {
        let line = reader.line;
        let found = match value {
            Value::Array(items) => items,
            other => vec![other],
        };
        for value in found {
            let event: Event = serde_json::from_value(value)
                .map_err(|source| EdnError::Malformed { line, source })?;
            events.push(event);
        }
    }
    Ok(History::new(events)?)
}

/// What stands next in the text.
enum Token {
    Value(Value),
    /// The end of a collection, or of the text.
    End(Option<char>),
}

struct Reader<'text> {
    letters: Peekable<Chars<'text>>,
    line: usize,
}

impl<'text> Reader<'text> {
    fn new(text: &'text str) -> Reader<'text> {
        Reader {
            letters: text.chars().peekable(),
            line: 1,
        }
    }

    /// The next value outside of all collections; none at the end.
    fn next_value(&mut self) -> Result<Option<Value>, EdnError> {
        match self.token(0)? {
            Token::Value(value) => Ok(Some(value)),
            Token::End(None) => Ok(None),
            Token::End(Some(_)) => Err(self.wrong("a bracket closes that was never opened")),
        }
    }

    fn token(&mut self, depth: u32) -> Result<Token, EdnError> {
        if depth > DEPTH_MAX {
            return Err(self.wrong("collections are nested too deep"));
        }
        loop {
            self.pass_blanks();
            let Some(letter) = self.take() else {
                return Ok(Token::End(None));
            };
            let value = match letter {
                ')' | ']' | '}' => return Ok(Token::End(Some(letter))),
                '(' => self.items(')', depth)?,
                '[' => self.items(']', depth)?,
                '{' => self.map(depth)?,
                '"' => self.text()?,
                '\\' => Value::from(self.word(None)),
                ':' => Value::from(self.word(None)),
                '#' => match self.letters.peek() {
                    Some('{') => {
                        self.take();
                        self.items('}', depth)?
                    }
                    Some('_') => {
                        self.take();
                        self.needed(depth)?;
                        continue;
                    }
                    // What is tagged counts as what it is made from.
                    _ => {
                        self.word(None);
                        self.needed(depth)?
                    }
                },
                first => atom(self.word(Some(first))),
            };
            return Ok(Token::Value(value));
        }
    }

    /// The value that has to follow.
    fn needed(&mut self, depth: u32) -> Result<Value, EdnError> {
        match self.token(depth + 1)? {
            Token::Value(value) => Ok(value),
            Token::End(_) => Err(self.wrong("a tag or a key stands before nothing")),
        }
    }

    fn items(&mut self, close: char, depth: u32) -> Result<Value, EdnError> {
        let mut items = Vec::new();
        loop {
            match self.token(depth + 1)? {
                Token::Value(value) => items.push(value),
                Token::End(Some(end)) if end == close => return Ok(Value::Array(items)),
                Token::End(_) => return Err(self.wrong("a collection does not end as it began")),
            }
        }
    }

    fn map(&mut self, depth: u32) -> Result<Value, EdnError> {
        let mut fields = Map::new();
        loop {
            let name = match self.token(depth + 1)? {
                Token::Value(Value::String(name)) => name,
                Token::Value(other) => other.to_string(),
                Token::End(Some('}')) => return Ok(Value::Object(fields)),
                Token::End(_) => return Err(self.wrong("a map does not end as it began")),
            };
            let value = self.needed(depth)?;
            fields.insert(name, value);
        }
    }

    fn text(&mut self) -> Result<Value, EdnError> {
        let mut text = String::new();
        loop {
            match self.take() {
                None => return Err(self.wrong("a text does not end")),
                Some('"') => return Ok(Value::String(text)),
                Some('\\') => text.push(self.escaped()?),
                Some(letter) => text.push(letter),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, EdnError> {
        match self.take() {
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some('u') => {
                let digits: String = (0..4).filter_map(|_| self.take()).collect();
                let code = u32::from_str_radix(&digits, 16).ok();
                let letter = code.and_then(char::from_u32);
                letter.ok_or_else(|| self.wrong("an escape names no letter"))
            }
            Some(letter @ ('"' | '\\')) => Ok(letter),
            _ => Err(self.wrong("an escape that EDN does not have")),
        }
    }

    /// Letters up to the next blank or bracket.
    fn word(&mut self, first: Option<char>) -> String {
        let mut word: String = first.into_iter().collect();
        while let Some(letter) = self.letters.peek().copied() {
            if is_blank(letter) || "()[]{}\";".contains(letter) {
                break;
            }
            word.push(letter);
            self.take();
        }
        word
    }

    fn pass_blanks(&mut self) {
        while let Some(letter) = self.letters.peek().copied() {
            if letter == ';' {
                while self.letters.peek().is_some_and(|letter| *letter != '\n') {
                    self.take();
                }
            } else if is_blank(letter) {
                self.take();
            } else {
                break;
            }
        }
    }

    fn take(&mut self) -> Option<char> {
        let letter = self.letters.next()?;
        self.line += usize::from(letter == '\n');
        Some(letter)
    }

    fn wrong(&self, what: &'static str) -> EdnError {
        EdnError::Syntax {
            line: self.line,
            what,
        }
    }
}

fn is_blank(letter: char) -> bool {
    letter.is_whitespace() || letter == ','
}

fn atom(word: String) -> Value {
    match word.as_str() {
        "nil" => return Value::Null,
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        _ => {}
    }
    // `7N` and `7.0M` are numbers of unbounded size; a symbol is not read as one.
    let digits = word.trim_end_matches(['N', 'M']);
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let is_number = digits
        .trim_start_matches('-')
        .starts_with(|letter: char| letter.is_ascii_digit());
    if is_number {
        let whole = digits.parse::<i64>().map(Number::from);
        let whole = whole.or_else(|_| digits.parse::<u64>().map(Number::from));
        let number = whole
            .ok()
            .or_else(|| Number::from_f64(digits.parse().ok()?));
        if let Some(number) = number {
            return Value::Number(number);
        }
    }
    Value::String(word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::{Process, write_edn};
    use super::*;
    use crate::testing::Script;

    fn check(text: &str, expected: Value) {
        let value = Reader::new(text).next_value().unwrap();
        assert_eq!(value, Some(expected), "{text}");
    }

    #[test]
    fn every_kind_of_value_has_a_counterpart() {
        check("nil", json!(null));
        check("[1 -2, 3.5 7N +4]", json!([1, -2, 3.5, 7, 4]));
        check("(:read write \\a)", json!(["read", "write", "a"]));
        check("#{1}", json!([1]));
        check(
            r#"{:a "say \"hi\"\n", "b/c" {}, 3 #_ignored true}"#,
            json!({"a": "say \"hi\"\n", "b/c": {}, "3": true}),
        );
        check("; a word before\n#inst \"2026\"", json!("2026"));
        check(r#""\u00e9""#, json!("é"));
        check("- ", json!("-"));
    }

    #[test]
    fn what_is_no_edn_is_named_by_its_line() {
        let deep = "[".repeat(10_000);
        for text in [
            "\n]",
            "\n[1",
            "\n{:a}",
            "\n\"open",
            "\n[1}",
            "\n\"\\q\"",
            "\n#",
            &deep,
        ] {
            let error = read_edn(text).unwrap_err();
            let line = 1 + usize::from(text.starts_with('\n'));
            assert!(
                matches!(error, EdnError::Syntax { line: at, .. } if at == line),
                "{text:.9}: {error}"
            );
        }
        let error = read_edn("{:process 0}").unwrap_err();
        assert!(matches!(error, EdnError::Malformed { line: 1, .. }));
    }

    #[test]
    fn histories_of_jepsen_and_knossos_are_read() {
        let one_by_line = "#jepsen.history.Op{:index 0, :time 5, :type :invoke, :process 0, :f :cas, :value [1 2]}\n\
             {:index 1, :time 6, :type :info, :process :nemesis, :f :kill, :value nil}\n\
             {:index 2, :time 7, :type :info, :process 0, :f :cas, :value [1 2], :error [:timeout]}\n";
        let history = read_edn(one_by_line).unwrap();
        let kinds: Vec<Process> = history.events().iter().map(|event| event.process).collect();
        assert_eq!(
            kinds,
            [Process::Client(0), Process::Nemesis, Process::Client(0)]
        );
        assert!(history.operations()[0].is_unknown());
        // Knossos leaves times out.
        let one_list = "[{:process 1, :type :invoke, :f :read, :value nil}\n\
             {:process 1, :type :ok, :f :read, :value 3}]";
        assert_eq!(
            read_edn(one_list).unwrap().operations()[0].told(),
            Some(&json!(3))
        );
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(values in proptest::collection::vec((".*", any::<i64>()), 0..20)) {
            let mut script = Script::default();
            for (number, (text, value)) in (0_u64..).zip(values) {
                let asked = json!([text, value, {"nested": null}]);
                script = script.ok(number, "add", asked.clone(), asked);
            }
            let history = script.history();
            let mut bytes = Vec::new();
            write_edn(&history, &mut bytes).unwrap();
            prop_assert_eq!(read_edn(&String::from_utf8(bytes).unwrap()).unwrap(), history);
        }

        #[test]
        fn no_text_does_harm(text in "[\\[\\]{}()#:\"\\\\ a1\n;_-]{0,60}") {
            let _ = read_edn(&text);
        }
    }
}

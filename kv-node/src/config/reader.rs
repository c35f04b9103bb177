//! Takes values out of the parsed file, one key at a time, and notes every problem on the way.
//!
//! Reading never stops at the first problem: a bad value is noted and replaced by its default or by
//! a stand-in, and the file as a whole is refused at the end. So one run shows all there is to mend.
//!
//! Place: pure; used by `config::ClusterFile::parse` only.
//! Not here: rules that join several keys (`check`).

use std::cell::RefCell;
use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::address::Address;
use super::error::{Fault, Problem};
use super::keys::{
    Accepts, Choice, Flag, Folder, HostPort, Key, Name, Number, Whole, names_in, sections,
};

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Found<T> {
    pub(super) value: T,
    /// Of the value; of its section's heading when the default was taken.
    pub(super) span: Range<usize>,
}

/// The text, and what is wrong with it so far.
#[derive(Debug)]
pub(super) struct Problems<'t> {
    text: &'t str,
    list: RefCell<Vec<Problem>>,
}

impl<'t> Problems<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            list: RefCell::default(),
        }
    }

    pub(super) fn note(&self, span: Range<usize>, key: impl Into<String>, fault: Fault) {
        let problem = Problem::new(self.text, span, key, fault);
        self.list.borrow_mut().push(problem);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        Problem::new(self.text, span.clone(), "", Fault::NoNodes).line
    }

    pub(super) fn into_sorted(self) -> Vec<Problem> {
        let mut list = self.list.into_inner();
        list.sort_by_key(|problem| (problem.span.start, problem.span.end));
        list.dedup();
        list
    }
}

/// The whole file.
pub(super) struct Root<'t, 'p> {
    table: DeTable<'t>,
    problems: &'p Problems<'t>,
}

impl<'t, 'p> Root<'t, 'p> {
    pub(super) fn parse(problems: &'p Problems<'t>) -> Self {
        let (table, errors) = DeTable::parse_recoverable(problems.text);
        for error in errors {
            let message = error.message().trim_end().to_owned();
            problems.note(error.span().unwrap_or(0..0), "", Fault::Syntax { message });
        }
        let root = Self {
            table: table.into_inner(),
            problems,
        };
        let known = sections();
        for name in root.table.keys() {
            if !known.contains(&name.get_ref().as_ref()) {
                let found = name.get_ref().to_string();
                let nearest = nearest(&found, &known);
                let fault = Fault::UnknownSection {
                    nearest,
                    known: known.clone(),
                    found: found.clone(),
                };
                problems.note(name.span(), found, fault);
            }
        }
        root
    }

    /// A section written once; when it is left out, every key takes its default.
    pub(super) fn section(&self, name: &'static str) -> Section<'_, 't, 'p> {
        let entry = self.table.get_key_value(name);
        let span = entry.map_or(0..0, |(key, _)| key.span());
        let table = entry.and_then(|(_, value)| self.table_of(name, value));
        Section::new(name, span, table, self.problems)
    }

    /// A section written any number of times, as `[[name]]`.
    pub(super) fn repeated(&self, name: &'static str) -> Vec<Section<'_, 't, 'p>> {
        let Some((key, value)) = self.table.get_key_value(name) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            let fault = Fault::WrongKind {
                expected: "a section in double brackets, [[node]]",
                found: value.get_ref().type_str(),
            };
            self.problems.note(key.span(), name, fault);
            return Vec::new();
        };
        let as_section = |item: &'_ Spanned<DeValue<'t>>| item.span();
        items
            .iter()
            .map(|item| {
                Section::new(
                    name,
                    as_section(item),
                    self.table_of(name, item),
                    self.problems,
                )
            })
            .collect()
    }

    fn table_of<'r>(
        &self,
        name: &'static str,
        value: &'r Spanned<DeValue<'t>>,
    ) -> Option<&'r DeTable<'t>> {
        if let DeValue::Table(table) = value.get_ref() {
            return Some(table);
        }
        let fault = Fault::WrongKind {
            expected: "a section with keys",
            found: value.get_ref().type_str(),
        };
        self.problems.note(value.span(), name, fault);
        None
    }
}

/// One section, or one of the repeated ones.
pub(super) struct Section<'r, 't, 'p> {
    name: &'static str,
    span: Range<usize>,
    table: Option<&'r DeTable<'t>>,
    problems: &'p Problems<'t>,
}

impl<'r, 't, 'p> Section<'r, 't, 'p> {
    fn new(
        name: &'static str,
        span: Range<usize>,
        table: Option<&'r DeTable<'t>>,
        problems: &'p Problems<'t>,
    ) -> Self {
        let section = Self {
            name,
            span,
            table,
            problems,
        };
        section.note_unknown_keys();
        section
    }

    /// Of the heading.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    pub(super) fn whole(&self, key: &Key<Whole>) -> Found<u64> {
        let accepts = &key.accepts;
        self.read(key, "a whole number", accepts.default, |value| {
            let integer = value.as_integer()?;
            let number =
                i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i128::MAX);
            let fits = u64::try_from(number).ok().filter(|number| {
                (accepts.min..=accepts.max).contains(number)
                    && (!accepts.power_of_two || number.is_power_of_two())
            });
            Some(fits.ok_or_else(|| out_of_range(accepts, integer)))
        })
    }

    pub(super) fn number(&self, key: &Key<Number>) -> Found<f64> {
        let accepts = &key.accepts;
        self.read(key, "a number", accepts.default, |value| {
            let text = match value {
                DeValue::Float(float) => float.as_str(),
                DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
                _ => return None,
            };
            let fits = text
                .parse()
                .ok()
                .filter(|number: &f64| (accepts.min..=accepts.max).contains(number));
            Some(fits.ok_or_else(|| out_of_range(accepts, text)))
        })
    }

    pub(super) fn flag(&self, key: &Key<Flag>) -> Found<bool> {
        self.read(key, "true or false", key.accepts.default, |value| {
            value.as_bool().map(Ok)
        })
    }

    /// As written; an empty text is none.
    pub(super) fn folder(&self, key: &Key<Folder>) -> Option<PathBuf> {
        let found = self.read(key, "a text in double quotes", None, |value| {
            let text = value.as_str()?;
            Some(Ok((!text.is_empty()).then(|| PathBuf::from(text))))
        });
        found.value
    }

    pub(super) fn name(&self, key: &Key<Name>) -> Found<String> {
        self.required(key, key.accepts.default, "\"n1\"");
        let default = key.accepts.default.unwrap_or_default().to_owned();
        self.read(key, "a text in double quotes", default, |value| {
            let text = value.as_str()?;
            Some(if is_name(text) {
                Ok(text.to_owned())
            } else {
                Err(Fault::BadName {
                    value: text.to_owned(),
                })
            })
        })
    }

    /// `None` only when a problem was noted.
    pub(super) fn address(&self, key: &Key<HostPort>) -> Option<Found<Address>> {
        self.required(key, key.accepts.default, "\"127.0.0.1:7101\"");
        let default = key.accepts.default.and_then(Address::parse);
        let found = self.read(key, "a text in double quotes", default, |value| {
            let text = value.as_str()?;
            let bad = || Fault::BadAddress {
                value: text.to_owned(),
            };
            Some(Address::parse(text).map(Some).ok_or_else(bad))
        });
        Some(Found {
            value: found.value?,
            span: found.span,
        })
    }

    /// The word, or the default if there is one.
    pub(super) fn choice(&self, key: &Key<Choice>) -> Option<&'static str> {
        let known = key.accepts.known;
        let found = self.read(
            key,
            "a text in double quotes",
            key.accepts.default,
            |value| {
                let text = value.as_str()?;
                let word = known.iter().find(|word| **word == text);
                let fault = || Fault::UnknownChoice {
                    value: text.to_owned(),
                    known,
                    nearest: nearest(text, known),
                };
                Some(word.map(|word| Some(*word)).ok_or_else(fault))
            },
        );
        found.value
    }

    /// `take` gives `None` for a value of another kind.
    fn read<T, A: Accepts>(
        &self,
        key: &Key<A>,
        expected: &'static str,
        default: T,
        take: impl FnOnce(&DeValue<'t>) -> Option<Result<T, Fault>>,
    ) -> Found<T> {
        debug_assert_eq!(key.section, self.name, "a key is read from its own section");
        let Some(value) = self.table.and_then(|table| table.get(key.name)) else {
            return Found {
                value: default,
                span: self.span(),
            };
        };
        let wrong_kind = || Fault::WrongKind {
            expected,
            found: value.get_ref().type_str(),
        };
        let taken = take(value.get_ref()).unwrap_or_else(|| Err(wrong_kind()));
        let value_or_default = taken.unwrap_or_else(|fault| {
            self.problems
                .note(value.span(), dotted(self.name, key.name), fault);
            default
        });
        Found {
            value: value_or_default,
            span: value.span(),
        }
    }

    fn required<A: Accepts>(&self, key: &Key<A>, default: Option<&str>, example: &str) {
        let missing = self
            .table
            .is_some_and(|table| table.get(key.name).is_none());
        if missing && default.is_none() {
            let fault = Fault::Missing {
                name: key.name,
                example: format!("{} = {example}", key.name),
            };
            self.problems
                .note(self.span(), dotted(self.name, key.name), fault);
        }
    }

    fn note_unknown_keys(&self) {
        let known = names_in(self.name);
        for name in self.table.into_iter().flat_map(DeTable::keys) {
            let found = name.get_ref().to_string();
            if known.contains(&found.as_str()) {
                continue;
            }
            let key = dotted(self.name, &found);
            let nearest = nearest(&found, &known);
            let fault = Fault::UnknownKey {
                section: self.name,
                nearest,
                known: known.clone(),
                found,
            };
            self.problems.note(name.span(), key, fault);
        }
    }
}

/// True for 1 to 63 characters of a-z, 0-9 and `-`.
fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn dotted(section: &str, name: &str) -> String {
    format!("{section}.{name}")
}

fn out_of_range(accepts: &impl Accepts, value: impl ToString) -> Fault {
    Fault::OutOfRange {
        value: value.to_string(),
        range: accepts.range(),
        default: accepts.default_text(),
    }
}

/// The known word that a slip of the fingers would turn into `found`.
fn nearest(found: &str, known: &[&'static str]) -> Option<&'static str> {
    const LIKENESS_MIN: f64 = 0.8;
    let likeness = |word: &&'static str| strsim::jaro_winkler(found, word);
    let best = known
        .iter()
        .copied()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&best) >= LIKENESS_MIN).then_some(best)
}

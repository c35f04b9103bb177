//! A register group: rows with values and versions, and conditions on them.
//!
//! | f | asked | told |
//! |---|---|---|
//! | `get` | `{"key", "row"}` | `{"key", "row", "value", "version"}`, without the last two when the row is missing |
//! | `put` | `{"key", "row", "value"}` and `"if": "absent"` or `"if": version` or neither | `{"version"}` |
//! | `delete` | `{"key", "row"}`, `"if"` as above | anything |
//!
//! A `fail` with the error `condition-failed` carries what the row was instead, as `get` does, or `"unseen": true`
//! when the answer does not show it. The version that a write in doubt made is learnt from the first answer
//! that shows it.
//!
//! Invariant: a version names one value for ever; the same version with two values is a violation by itself.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::{Model, Read};
use crate::checker::{Malformed, Violation};
use crate::history::Operation;

/// See the module; groups have no rows before the first write.
#[derive(Clone, Copy, Debug, Default)]
pub struct VersionedMap;

/// What a row holds; the version is `None` until some answer shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VersionedRow {
    value: Value,
    version: Option<String>,
}

/// What must hold of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing.
    Nothing,
    /// The row is missing.
    Absent,
    /// The row has this version.
    Version(String),
}

/// What an operation says of its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapStep {
    row: String,
    action: MapAction,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum MapAction {
    /// The row was like this.
    Was(Option<VersionedRow>),
    /// The row was like this, and the need did not hold.
    Refused(Need, Option<VersionedRow>),
    /// The need did not hold.
    RefusedUnseen(Need),
    /// The need held, and the row is like this from now on.
    Became(Need, Option<VersionedRow>),
}

const EXPECTED: &str = "`get`, `put` or `delete` of {\"key\", \"row\", ...}";

type Rows = BTreeMap<String, VersionedRow>;

impl Model for VersionedMap {
    type State = Rows;
    type Step = MapStep;

    fn name(&self) -> &'static str {
        "linearizable versioned-map"
    }

    fn initial(&self) -> Rows {
        Rows::new()
    }

    fn read(&self, operation: &Operation) -> Result<Option<Read<MapStep>>, Malformed> {
        let malformed = || Malformed::new(operation, EXPECTED);
        let key = text(&operation.asked, "key").ok_or_else(malformed)?;
        let row = text(&operation.asked, "row").ok_or_else(malformed)?;
        let action = action(operation).ok_or_else(malformed)?;
        Ok(action.map(|action| Read {
            key,
            step: MapStep { row, action },
        }))
    }

    fn apply(&self, state: &Rows, step: &MapStep) -> Option<Rows> {
        let current = state.get(&step.row);
        let row = match &step.action {
            MapAction::Was(seen) => bind(current, seen)?,
            MapAction::Refused(need, seen) => {
                let bound = bind(current, seen)?;
                (!holds(need, bound.as_ref())).then_some(bound)?
            }
            MapAction::RefusedUnseen(need) => {
                return (!holds(need, current)).then(|| state.clone());
            }
            MapAction::Became(need, row) => holds(need, current).then(|| row.clone())?,
        };
        let mut after = state.clone();
        match row {
            Some(row) => after.insert(step.row.clone(), row),
            None => after.remove(&step.row),
        };
        Some(after)
    }

    /// A read may teach the version of a row. Such a one changes the state, and the search sees that.
    fn only_looks(&self, step: &MapStep) -> bool {
        match step.action {
            MapAction::Was(_) | MapAction::Refused(..) | MapAction::RefusedUnseen(_) => true,
            MapAction::Became(..) => false,
        }
    }

    fn may_enable(&self, doubtful: &MapStep, step: &MapStep) -> bool {
        let MapAction::Became(_, made) = &doubtful.action else {
            return false;
        };
        if doubtful.row != step.row {
            return false;
        }
        match &step.action {
            MapAction::Was(seen) | MapAction::Refused(_, seen) => {
                bind(made.as_ref(), seen).is_some()
            }
            MapAction::RefusedUnseen(need) => !holds(need, made.as_ref()),
            MapAction::Became(need, _) => holds(need, made.as_ref()),
        }
    }

    fn show(&self, state: &Rows) -> String {
        let rows = state.iter().map(|(name, row)| format!("{name}: {row}"));
        format!("{{{}}}", rows.collect::<Vec<_>>().join(", "))
    }

    fn more_violations(&self, operations: &[Operation]) -> Vec<Violation> {
        let mut seen: BTreeMap<(String, String, String), (Value, &Operation)> = BTreeMap::new();
        let mut violations = Vec::new();
        for operation in operations {
            let Ok(Some(Read { key, step })) = self.read(operation) else {
                continue;
            };
            let (MapAction::Was(Some(row))
            | MapAction::Refused(_, Some(row))
            | MapAction::Became(_, Some(row))) = step.action
            else {
                continue;
            };
            let Some(version) = row.version else { continue };
            let name = (key, step.row, version);
            let (value, first) = seen
                .entry(name.clone())
                .or_insert_with(|| (row.value.clone(), operation));
            if *value != row.value {
                let (key, row, version) = name;
                violations.push(Violation::new(
                    "version repeats",
                    format!("key {key}, row {row}: version {version} names two values"),
                    [*first, operation],
                ));
            }
        }
        violations
    }
}

fn action(operation: &Operation) -> Option<Option<MapAction>> {
    let told = operation.told();
    if operation.f == "get" {
        return Some(told.map(|told| MapAction::Was(row_of(told))));
    }
    let need = match operation.asked.get("if") {
        None => Need::Nothing,
        Some(Value::String(word)) if word == "absent" => Need::Absent,
        Some(Value::String(version)) => Need::Version(version.clone()),
        Some(_) => return None,
    };
    let row = match operation.f.as_str() {
        "put" => Some(VersionedRow {
            value: operation.asked.get("value")?.clone(),
            version: told.and_then(|told| text(told, "version")),
        }),
        "delete" => None,
        _ => return None,
    };
    if let Some(seen) = operation.refused() {
        if seen.get("unseen").is_some() {
            return Some(Some(MapAction::RefusedUnseen(need)));
        }
        return Some(Some(MapAction::Refused(need, row_of(seen))));
    }
    Some((!operation.is_failed()).then_some(MapAction::Became(need, row)))
}

fn text(value: &Value, name: &str) -> Option<String> {
    Some(value.get(name)?.as_str()?.to_owned())
}

fn row_of(value: &Value) -> Option<VersionedRow> {
    Some(VersionedRow {
        value: value.get("value").filter(|value| !value.is_null())?.clone(),
        version: text(value, "version"),
    })
}

/// The row once an answer showed it; `None` when it cannot have looked like that.
fn bind(
    current: Option<&VersionedRow>,
    seen: &Option<VersionedRow>,
) -> Option<Option<VersionedRow>> {
    match (current, seen) {
        (None, None) => Some(None),
        (Some(current), Some(seen)) if current.value == seen.value => {
            let is_open = current.version.is_none() || seen.version.is_none();
            let version = current.version.clone().or_else(|| seen.version.clone());
            (is_open || current.version == seen.version).then(|| {
                Some(VersionedRow {
                    version,
                    ..seen.clone()
                })
            })
        }
        (None, Some(_)) | (Some(_), None | Some(_)) => None,
    }
}

/// A version that no answer has shown yet is none that a client could have named.
fn holds(need: &Need, row: Option<&VersionedRow>) -> bool {
    match need {
        Need::Nothing => true,
        Need::Absent => row.is_none(),
        Need::Version(version) => {
            row.is_some_and(|row| row.version.as_deref() == Some(version.as_str()))
        }
    }
}

impl fmt::Display for VersionedRow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version.as_deref().unwrap_or("?");
        write!(formatter, "{} at {version}", self.value)
    }
}

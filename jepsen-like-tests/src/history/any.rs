//! Reads a history in either form.

use super::{EdnError, History, LineError, read_edn, read_lines};

/// Why a text is no history.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It was taken for JSON Lines.
    #[error("cannot read the history as JSON Lines")]
    Lines(#[from] LineError),
    /// It was taken for EDN.
    #[error("cannot read the history as EDN")]
    Edn(#[from] EdnError),
}

/// Reads a history: JSON Lines if its first letters are those of a JSON object, else EDN.
///
/// # Errors
/// When the text is no history in that form.
pub fn read_any(text: &str) -> Result<History, ReadError> {
    let first = text.trim_start();
    // A JSON object begins with a name in quotes; Jepsen's maps begin with a keyword.
    let is_json = first
        .strip_prefix('{')
        .is_some_and(|rest| rest.trim_start().starts_with('"'));
    if is_json || first.is_empty() {
        Ok(read_lines(text.as_bytes())?)
    } else {
        Ok(read_edn(text)?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{write_edn, write_lines};
    use super::*;
    use crate::testing::Script;

    #[test]
    fn both_forms_of_one_history_are_equal() {
        let history = Script::default()
            .ok(0, "read", json!(null), json!(["k", 1]))
            .info(1, "write", json!({"a": 1}))
            .history();
        let (mut lines, mut edn) = (Vec::new(), Vec::new());
        write_lines(&history, &mut lines).unwrap();
        write_edn(&history, &mut edn).unwrap();
        for bytes in [lines, edn] {
            assert_eq!(
                read_any(&String::from_utf8(bytes).unwrap()).unwrap(),
                history
            );
        }
        assert!(read_any(" ").unwrap().events().is_empty());
        assert!(matches!(read_any("nonsense {"), Err(ReadError::Edn(_))));
    }
}

//! Turns words of the command line into keys, values and tokens, and answers back into words.
//!
//! Shape: text by default, hexadecimal with `--hex`; contexts and versions are always base64.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use clap::Args;
use serde_json::{Value as Json, json};
use souk_kv_client::{Context, Key, Value, Version};

use crate::failure::Failure;

/// Name of a row.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// Name of the bucket.
    bucket: String,
    /// Chooses the place; 1 to 1024 bytes.
    partition_key: String,
    /// Names a row under the partition key; up to 1024 bytes.
    #[arg(default_value = "")]
    sort_key: String,
    /// Keys and values are hexadecimal.
    #[arg(long)]
    pub(crate) hex: bool,
}

impl KeyArgs {
    /// The key in bytes.
    pub(crate) fn key(&self) -> Result<Key, Failure> {
        let partition_key = bytes_of(&self.partition_key, self.hex)?;
        Ok(Key::new(
            self.bucket.as_str(),
            partition_key,
            bytes_of(&self.sort_key, self.hex)?,
        ))
    }
}

/// What to write.
#[derive(Debug, Args)]
pub(crate) struct ContentArgs {
    /// The value itself.
    #[arg(long, conflicts_with = "file")]
    value: Option<String>,
    /// Take the value from a file; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Stored with the value [default: text/plain for --value, else application/octet-stream].
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
}

impl ContentArgs {
    /// The value in bytes.
    pub(crate) fn read(&self, hex: bool) -> Result<Value, Failure> {
        let (data, usual_type) = match (&self.value, &self.file) {
            (Some(value), _) if hex => (bytes_of(value, true)?, ""),
            (Some(value), _) => (bytes_of(value, false)?, "text/plain"),
            (None, Some(file)) => (read_file(file)?.into(), ""),
            (None, None) => {
                return Err(Failure::usage(
                    "there is no value to write",
                    "add --value TEXT or --file FILE",
                ));
            }
        };
        Ok(Value::new(
            self.content_type.as_deref().unwrap_or(usual_type),
            data,
        ))
    }
}

fn read_file(file: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = if file == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    bytes.map_err(|source| Failure::Unreadable {
        path: file.to_owned(),
        source,
    })
}

/// Text as it is, or hexadecimal digits, two a byte.
pub(crate) fn bytes_of(word: &str, hex: bool) -> Result<Bytes, Failure> {
    if !hex {
        return Ok(Bytes::copy_from_slice(word.as_bytes()));
    }
    let bad = || {
        Failure::usage(
            format!("`{word}` is not hexadecimal"),
            "write two of 0-9 and a-f for every byte",
        )
    };
    if !word.len().is_multiple_of(2) || !word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(bad());
    }
    let byte = |at: usize| u8::from_str_radix(&word[at..at + 2], 16).map_err(|_| bad());
    (0..word.len()).step_by(2).map(byte).collect()
}

/// A context as `get` showed it.
pub(crate) fn context_of(word: &str) -> Result<Context, Failure> {
    from_base64(word, "a context").map(Context)
}

/// A version as `get` showed it.
pub(crate) fn version_of(word: &str) -> Result<Version, Failure> {
    from_base64(word, "a version").map(Version)
}

fn from_base64(word: &str, what: &str) -> Result<Bytes, Failure> {
    let bad = |_| {
        Failure::usage(
            format!("`{word}` is not {what}"),
            "copy the base64 text that `souk kv get` shows",
        )
    };
    BASE64.decode(word).map(Bytes::from).map_err(bad)
}

/// Base64 of an opaque token.
pub(crate) fn token(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// A key or value for people: text if it is text, else hexadecimal.
pub(crate) fn shown(bytes: &[u8], hex: bool) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text)
            if !hex
                && !text
                    .chars()
                    .any(|character| character.is_control() && character != '\n') =>
        {
            text.to_owned()
        }
        _ => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// A value for scripts; `text` is there when it is UTF-8.
pub(crate) fn value_json(value: &Value) -> Json {
    let mut document =
        json!({ "content_type": value.content_type, "base64": BASE64.encode(&value.data) });
    if let Ok(text) = std::str::from_utf8(&value.data) {
        document["text"] = text.into();
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(word: &str, expected: Option<&[u8]>) {
        assert_eq!(bytes_of(word, true).ok().as_deref(), expected, "{word}");
        if let Some(bytes) = expected {
            assert_eq!(shown(bytes, true), word.to_lowercase());
        }
    }

    #[test]
    fn hexadecimal_is_two_digits_a_byte() {
        check("", Some(b""));
        check("00fF", Some(b"\x00\xff"));
        for bad in ["0", "0g", "+1", "0x10", "ä"] {
            check(bad, None);
        }
    }

    #[test]
    fn only_printable_text_is_shown_as_text() {
        assert_eq!(shown("grüße".as_bytes(), false), "grüße");
        assert_eq!(shown(b"\x1b[31m", false), "1b5b33316d");
        assert_eq!(shown(b"\xff", false), "ff");
    }
}

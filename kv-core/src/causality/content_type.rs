//! What the bytes of a value mean, as a media type; the common ones cost nothing to copy.
//!
//! Place: pure; part of [`super::Value`] and of register cells.
//! Invariants: 1. 1 to 255 visible ASCII characters or spaces. 2. equal text means equal type: no second spelling.

use std::fmt;
use std::sync::Arc;

/// The longest media type accepted, in bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 255;

const OCTETS: &str = "application/octet-stream";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const PROTOBUF: &str = "application/x-protobuf";

/// A media type such as `application/json`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentType(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Known(&'static str),
    Other(Arc<str>),
}

/// What: a content type that cannot be carried in headers and logs.
/// Mend: send a media type such as `application/json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentTypeError {
    /// Nothing, or too much.
    #[error("a content type of {bytes} bytes: it needs 1 to {CONTENT_TYPE_BYTES_MAX}")]
    Length {
        /// How long the text was.
        bytes: usize,
    },
    /// A control character, or something beyond ASCII.
    #[error(
        "a content type with byte {byte:#04x} at {position}: only visible ASCII and spaces are allowed"
    )]
    Byte {
        /// The offending byte.
        byte: u8,
        /// Its place, from 0.
        position: usize,
    },
}

impl ContentType {
    /// Takes a media type as the client wrote it.
    ///
    /// # Errors
    /// [`ContentTypeError`] when the text is empty, longer than [`CONTENT_TYPE_BYTES_MAX`] or not plain ASCII.
    pub fn new(text: &str) -> Result<ContentType, ContentTypeError> {
        for known in [OCTETS, JSON, TEXT, PROTOBUF] {
            if text == known {
                return Ok(ContentType(Repr::Known(known)));
            }
        }
        if text.is_empty() || text.len() > CONTENT_TYPE_BYTES_MAX {
            return Err(ContentTypeError::Length { bytes: text.len() });
        }
        match text.bytes().position(|byte| !(b' '..=b'~').contains(&byte)) {
            Some(position) => Err(ContentTypeError::Byte {
                byte: text.as_bytes()[position],
                position,
            }),
            None => Ok(ContentType(Repr::Other(Arc::from(text)))),
        }
    }

    /// `application/octet-stream`: bytes of unknown meaning, the default.
    #[must_use]
    pub const fn octets() -> ContentType {
        ContentType(Repr::Known(OCTETS))
    }

    /// `application/json`.
    #[must_use]
    pub const fn json() -> ContentType {
        ContentType(Repr::Known(JSON))
    }

    /// `text/plain; charset=utf-8`.
    #[must_use]
    pub const fn text() -> ContentType {
        ContentType(Repr::Known(TEXT))
    }

    /// `application/x-protobuf`.
    #[must_use]
    pub const fn protobuf() -> ContentType {
        ContentType(Repr::Known(PROTOBUF))
    }

    /// The media type as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Known(text) => text,
            Repr::Other(text) => text,
        }
    }
}

impl Default for ContentType {
    fn default() -> ContentType {
        ContentType::octets()
    }
}

impl fmt::Debug for ContentType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_type_has_one_spelling() {
        assert_eq!(
            ContentType::new("application/json"),
            Ok(ContentType::json())
        );
        let own = ContentType::new("image/webp").unwrap();
        assert_eq!(own.as_str(), "image/webp");
        assert_eq!(own, ContentType::new("image/webp").unwrap());
    }

    #[test]
    fn refuses_what_headers_cannot_carry() {
        assert_eq!(
            ContentType::new(""),
            Err(ContentTypeError::Length { bytes: 0 })
        );
        assert!(ContentType::new(&"x".repeat(255)).is_ok());
        assert!(ContentType::new(&"x".repeat(256)).is_err());
        let injected = ContentType::new("text/plain\r\nx: y").unwrap_err();
        assert_eq!(
            injected,
            ContentTypeError::Byte {
                byte: b'\r',
                position: 10
            }
        );
    }
}

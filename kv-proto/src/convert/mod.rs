//! Conversions between wire messages and the types of the pure crates.
//!
//! Place: wire. Everything that comes from a network or a disk passes a checking constructor here,
//! so that the pure crates never see a state that cannot be.
//! Not here: the meaning of any field (`souk_kv_core`, `souk_ring`).

pub mod access;
pub mod causality;
pub mod layout;
pub mod register;
pub mod staging;

/// Bytes from a network or a disk that do not mean what they should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// What: not a valid message. Why: damaged, or written by something else.
    #[error("not a valid {what}: {cause}")]
    Malformed {
        /// The message that was expected.
        what: &'static str,
        /// What the decoder said.
        cause: String,
    },
    /// What: a field has a value outside its range.
    #[error("{field} of {what} {problem}")]
    Field {
        /// The message.
        what: &'static str,
        /// Its field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl DecodeError {
    fn field(what: &'static str, field: &'static str, problem: impl ToString) -> Self {
        Self::Field {
            what,
            field,
            problem: problem.to_string(),
        }
    }

    fn malformed(what: &'static str, cause: impl ToString) -> Self {
        Self::Malformed {
            what,
            cause: cause.to_string(),
        }
    }
}

/// A fixed number of bytes out of a field.
fn fixed<const N: usize>(
    what: &'static str,
    field: &'static str,
    bytes: &[u8],
) -> Result<[u8; N], DecodeError> {
    bytes.try_into().map_err(|_| {
        DecodeError::field(
            what,
            field,
            format_args!("has {} bytes instead of {N}", bytes.len()),
        )
    })
}

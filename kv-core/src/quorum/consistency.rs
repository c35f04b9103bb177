//! One request's own wish for R or W.
//!
//! Place: pure; comes with a request, resolved against the bucket's [`Quorums`](super::Quorums).
//! Invariants: 1. the result is between 1 and N.

/// How many nodes one request wants to hear from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// What the bucket says.
    #[default]
    Default,
    /// The first answer is enough.
    One,
    /// A majority of the N copies.
    Quorum,
    /// Every copy.
    All,
    /// Exactly this many.
    Exactly(u8),
}

/// What: a request for more answers than there are copies, or for none.
/// Mend: ask for 1 to `replicas_n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a quorum of {asked} is out of range: this bucket keeps {replicas_n} copies")]
pub struct ConsistencyError {
    /// The given number.
    pub asked: u8,
    /// The bucket's N.
    pub replicas_n: u8,
}

impl Consistency {
    /// The number of nodes, given the bucket's N and its own number for this kind of request.
    ///
    /// # Errors
    /// [`ConsistencyError`] when an exact number is not between 1 and N.
    pub const fn resolve(self, replicas_n: u8, default: u8) -> Result<u8, ConsistencyError> {
        match self {
            Consistency::Default => Ok(default),
            Consistency::One => Ok(1),
            Consistency::Quorum => Ok(replicas_n / 2 + 1),
            Consistency::All => Ok(replicas_n),
            Consistency::Exactly(asked) if asked == 0 || asked > replicas_n => {
                Err(ConsistencyError { asked, replicas_n })
            }
            Consistency::Exactly(asked) => Ok(asked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_within_one_and_n() {
        let check = |wish: Consistency, n, expected| assert_eq!(wish.resolve(n, 2), expected);
        check(Consistency::Default, 3, Ok(2));
        check(Consistency::One, 3, Ok(1));
        check(Consistency::Quorum, 3, Ok(2));
        check(Consistency::Quorum, 4, Ok(3));
        check(Consistency::All, 5, Ok(5));
        check(Consistency::Exactly(3), 3, Ok(3));
        check(
            Consistency::Exactly(4),
            3,
            Err(ConsistencyError {
                asked: 4,
                replicas_n: 3,
            }),
        );
        check(
            Consistency::Exactly(0),
            3,
            Err(ConsistencyError {
                asked: 0,
                replicas_n: 3,
            }),
        );
    }
}

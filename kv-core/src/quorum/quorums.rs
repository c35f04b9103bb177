//! A bucket's numbers: how many copies, how many answers make a read, how many make a write.
//!
//! Place: pure; part of a bucket's configuration.
//! Source: DeCandia et al., Dynamo, SOSP 2007, §4.5.
//! Invariants: 1. 1 ≤ R ≤ N ≤ 7, 1 ≤ W ≤ N. 2. 1 ≤ floor ≤ W.
//! Not here: one request's wish (`Consistency`).

/// The most copies a bucket may ask for.
pub const REPLICAS_N_MAX: u8 = 7;

/// N, R, W and the floor of a bucket. R + W > N makes reads see the latest write while no fallback was needed;
/// less is allowed, for buckets that prefer speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quorums {
    replicas_n: u8,
    read_quorum: u8,
    write_quorum: u8,
    write_floor: Option<u8>,
}

/// Numbers that cannot work together. Mend: change the bucket's configuration as the message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuorumsError {
    /// N out of range.
    #[error("replicas_n is {replicas_n}: choose 1 to {REPLICAS_N_MAX} copies")]
    ReplicasN {
        /// The given N.
        replicas_n: u8,
    },
    /// R out of range.
    #[error("read_quorum is {read_quorum}: choose 1 to replicas_n, which is {replicas_n}")]
    ReadQuorum {
        /// The given R.
        read_quorum: u8,
        /// The given N.
        replicas_n: u8,
    },
    /// W out of range.
    #[error("write_quorum is {write_quorum}: choose 1 to replicas_n, which is {replicas_n}")]
    WriteQuorum {
        /// The given W.
        write_quorum: u8,
        /// The given N.
        replicas_n: u8,
    },
    /// The floor out of range.
    #[error(
        "write_floor is {write_floor}: choose 1 to write_quorum, which is {write_quorum}, or leave it out"
    )]
    WriteFloor {
        /// The given floor.
        write_floor: u8,
        /// The given W.
        write_quorum: u8,
    },
}

impl Quorums {
    /// Checks the numbers of a bucket.
    ///
    /// # Errors
    /// [`QuorumsError`] names the number that is out of range, and its range.
    pub const fn new(
        replicas_n: u8,
        read_quorum: u8,
        write_quorum: u8,
        write_floor: Option<u8>,
    ) -> Result<Quorums, QuorumsError> {
        if replicas_n == 0 || replicas_n > REPLICAS_N_MAX {
            return Err(QuorumsError::ReplicasN { replicas_n });
        }
        if read_quorum == 0 || read_quorum > replicas_n {
            return Err(QuorumsError::ReadQuorum {
                read_quorum,
                replicas_n,
            });
        }
        if write_quorum == 0 || write_quorum > replicas_n {
            return Err(QuorumsError::WriteQuorum {
                write_quorum,
                replicas_n,
            });
        }
        if let Some(write_floor) = write_floor
            && (write_floor == 0 || write_floor > write_quorum)
        {
            return Err(QuorumsError::WriteFloor {
                write_floor,
                write_quorum,
            });
        }
        Ok(Quorums {
            replicas_n,
            read_quorum,
            write_quorum,
            write_floor,
        })
    }

    /// N: how many copies the bucket keeps.
    #[must_use]
    pub const fn replicas_n(&self) -> u8 {
        self.replicas_n
    }

    /// R: how many answers make a read, unless the request says otherwise.
    #[must_use]
    pub const fn read_quorum(&self) -> u8 {
        self.read_quorum
    }

    /// W: how many copies make a write, unless the request says otherwise.
    #[must_use]
    pub const fn write_quorum(&self) -> u8 {
        self.write_quorum
    }

    /// How many copies still make a (degraded) write when W cannot be reached; `None` refuses instead.
    #[must_use]
    pub const fn write_floor(&self) -> Option<u8> {
        self.write_floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_exactly_the_ranges() {
        for (n, r, w, floor) in every_choice_below(9) {
            let lawful = (1..=7).contains(&n)
                && (1..=n).contains(&r)
                && (1..=n).contains(&w)
                && floor.is_none_or(|floor| (1..=w).contains(&floor));
            assert_eq!(
                Quorums::new(n, r, w, floor).is_ok(),
                lawful,
                "{n} {r} {w} {floor:?}"
            );
        }
    }

    fn every_choice_below(below: u8) -> impl Iterator<Item = (u8, u8, u8, Option<u8>)> {
        let floors = move || std::iter::once(None).chain((0..below).map(Some));
        (0..below).flat_map(move |n| {
            (0..below).flat_map(move |r| {
                (0..below).flat_map(move |w| floors().map(move |floor| (n, r, w, floor)))
            })
        })
    }

    #[test]
    fn the_message_names_the_number_and_its_range() {
        let error = Quorums::new(3, 2, 2, Some(3)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "write_floor is 3: choose 1 to write_quorum, which is 2, or leave it out"
        );
    }
}

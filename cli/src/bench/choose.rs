//! Chooses what one client does next.
//!
//! Place: pure; chance comes from a seed.
//! Source: YCSB's scrambled Zipf distribution with constant 0.99: ranks are hashed, so that popular keys
//! lie anywhere in the key space.

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use rand_distr::{Distribution as _, Zipf};

use super::Workload;

/// How uneven the popularity of keys is.
const ZIPF_EXPONENT: f64 = 0.99;

/// One operation on keys by their index, `0..keys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read one key.
    Read(u32),
    /// Write one key.
    Write(u32),
    /// Write distinct keys together.
    WriteMany(Vec<u32>),
    /// Compare-and-set of one row that no other client writes.
    Cas(u32),
    /// Increment the one row that all clients write.
    CasHot,
    /// Reserve one unit of the article that all clients want.
    Reserve,
}

/// The next steps of one client.
#[derive(Debug)]
pub(crate) struct Chooser {
    workload: Workload,
    keys: u32,
    client: u32,
    clients: u32,
    batch: u32,
    popularity: Zipf<f64>,
    random: SmallRng,
}

impl Chooser {
    /// For client `number` of so many; each needs a key of its own if the workload divides them.
    pub(crate) fn new(
        workload: Workload,
        keys: u32,
        (number, clients): (u32, u32),
        batch: u32,
        seed: u64,
    ) -> Self {
        let popularity = Zipf::new(f64::from(keys), ZIPF_EXPONENT);
        Self {
            workload,
            keys,
            client: number,
            clients,
            batch,
            popularity: popularity
                .expect("there is at least one key, and the exponent is positive"),
            random: SmallRng::seed_from_u64(seed ^ (u64::from(number) << 32)),
        }
    }

    /// What to do next.
    pub(crate) fn step(&mut self) -> Step {
        match self.workload {
            Workload::Get => Step::Read(self.random.random_range(0..self.keys)),
            Workload::Put => Step::Write(self.own()),
            Workload::PutBatch => Step::WriteMany(self.own_run()),
            Workload::YcsbA => self.read_or_write(0.5),
            Workload::YcsbB => self.read_or_write(0.95),
            Workload::CasSpread => Step::Cas(self.own()),
            Workload::CasHot => Step::CasHot,
            Workload::ReserveHot => Step::Reserve,
        }
    }

    fn read_or_write(&mut self, reads: f64) -> Step {
        let rank = self.popularity.sample(&mut self.random) as u64;
        let index = u32::try_from(fnv(rank) % u64::from(self.keys))
            .expect("a remainder is below its u32 divisor");
        if self.random.random_bool(reads) {
            Step::Read(index)
        } else {
            Step::Write(index)
        }
    }

    /// Keys of this client: `client`, `client + clients`, and so on.
    fn own_count(&self) -> u32 {
        (self.keys - self.client).div_ceil(self.clients)
    }

    fn own(&mut self) -> u32 {
        let nth = self.random.random_range(0..self.own_count());
        self.client + nth * self.clients
    }

    fn own_run(&mut self) -> Vec<u32> {
        let count = self.own_count();
        let first = self.random.random_range(0..count);
        let nths = (0..self.batch.min(count)).map(|step| (first + step) % count);
        nths.map(|nth| self.client + nth * self.clients).collect()
    }
}

/// FNV-1a over the bytes of a rank, as YCSB scrambles.
fn fnv(rank: u64) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    rank.to_le_bytes()
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Clients of a dividing workload never share a key, and together reach only keys that exist.
        #[test]
        fn divided_keys_have_one_client(keys in 1_u32..500, clients in 1_u32..40, batch in 1_u32..50, seed: u64) {
            prop_assume!(clients <= keys);
            let mut owners: BTreeMap<u32, u32> = BTreeMap::new();
            for number in 0..clients {
                for workload in [Workload::Put, Workload::PutBatch, Workload::CasSpread] {
                    let mut chooser = Chooser::new(workload, keys, (number, clients), batch, seed);
                    for _ in 0..20 {
                        let indexes = match chooser.step() {
                            Step::Write(index) | Step::Cas(index) => vec![index],
                            Step::WriteMany(indexes) => indexes,
                            other => panic!("{workload:?} does not divide its keys into {other:?}"),
                        };
                        let distinct: BTreeSet<u32> = indexes.iter().copied().collect();
                        prop_assert_eq!(distinct.len(), indexes.len());
                        for index in indexes {
                            prop_assert!(index < keys);
                            prop_assert_eq!(*owners.entry(index).or_insert(number), number);
                        }
                    }
                }
            }
        }
    }

    fn shares(workload: Workload) -> (f64, f64) {
        const STEPS: u32 = 20_000;
        let mut chooser = Chooser::new(workload, 1000, (0, 1), 1, 7);
        let mut hits: BTreeMap<u32, u32> = BTreeMap::new();
        let mut reads = 0;
        for _ in 0..STEPS {
            let index = match chooser.step() {
                Step::Read(index) => {
                    reads += 1;
                    index
                }
                Step::Write(index) => index,
                other => panic!("{workload:?} should not choose {other:?}"),
            };
            *hits.entry(index).or_default() += 1;
        }
        let most = hits.values().max().copied().unwrap_or_default();
        (
            f64::from(reads) / f64::from(STEPS),
            f64::from(most) / f64::from(STEPS),
        )
    }

    #[test]
    fn ycsb_reads_in_its_proportion_and_prefers_some_keys() {
        let (reads, most) = shares(Workload::YcsbA);
        assert!((0.48..0.52).contains(&reads), "{reads}");
        // The most popular of 1000 keys has a share of 1 / (sum of 1 / k^0.99) = 0.13.
        assert!((0.11..0.17).contains(&most), "{most}");
        let (reads, _) = shares(Workload::YcsbB);
        assert!((0.94..0.96).contains(&reads), "{reads}");
    }

    #[test]
    fn get_prefers_no_key() {
        let (reads, most) = shares(Workload::Get);
        assert_eq!(reads, 1.0);
        assert!(most < 0.003, "{most}");
    }

    #[test]
    fn a_seed_repeats_its_steps() {
        let steps = |seed| {
            let mut chooser = Chooser::new(Workload::YcsbA, 1000, (3, 8), 1, seed);
            (0..50).map(|_| chooser.step()).collect::<Vec<_>>()
        };
        assert_eq!(steps(1), steps(1));
        assert_ne!(steps(1), steps(2));
    }
}

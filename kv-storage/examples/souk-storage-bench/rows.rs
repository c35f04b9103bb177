//! The rows: keys spread like hashed ones, values about as compressible as small documents.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use souk_kv_storage::{Keyspace, Store, WriteBatch};

use crate::Outcome;

const LOAD_BATCH: u64 = 500;

pub(crate) fn row_key(row: u64) -> Vec<u8> {
    // Spread like hashed keys, so that neighbours in time are none in order.
    row.wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .to_be_bytes()
        .to_vec()
}

/// Half noise, half repetition.
pub(crate) fn value(row: u64, bytes: usize) -> Vec<u8> {
    let mut value = vec![b'.'; bytes];
    SmallRng::seed_from_u64(row).fill(&mut value[..bytes / 2]);
    value
}

pub(crate) fn random_rows(rows: u64) -> impl Iterator<Item = u64> {
    let mut random = SmallRng::seed_from_u64(9);
    (0..rows).map(move |_| random.random_range(0..rows))
}

/// Writes every row once, many in a batch.
pub(crate) async fn load(store: &Store, rows: u64, value_bytes: usize) -> Outcome<()> {
    for first in (0..rows).step_by(LOAD_BATCH as usize) {
        let mut batch = WriteBatch::new();
        for row in first..(first + LOAD_BATCH).min(rows) {
            batch.put(Keyspace::Records, row_key(row), value(row, value_bytes));
        }
        store.commit(batch).await?;
    }
    Ok(())
}

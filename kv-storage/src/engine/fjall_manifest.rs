//! Checks the small files that decide which of fjall's tables count, because fjall does not.
//!
//! Each keyspace has a file `vN` that lists its tables and a file `current` that names `vN` and
//! carries its checksum. lsm-tree 3.1 writes that checksum and never compares it (`src/version/
//! recovery.rs` says so), and removes tables that the list does not name: one flipped bit makes a
//! table vanish without an error. After an orderly close our own note would tell; after any other
//! stop this is what tells.
//!
//! Place: called once by [`super::FjallEngine`] before the database opens.
//! Source: lsm-tree 3.1 `src/version/persist.rs`: `current` is the version u64, the checksum of
//! `vN` u128 (little endian), and a byte 0 that stands for XXH3-128.
//! Invariants: nothing is changed here.
//! Not here: tables and journals (`super::fjall_journal`).

use std::fs;
use std::io;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

const XXH3: u8 = 0;
/// Version, checksum, kind of checksum.
const CURRENT_BYTES: usize = 8 + 16 + 1;

/// Compares every list of tables below `path` with its checksum. `Some(why)` if one differs.
pub(super) fn inspect(path: &Path) -> Result<Option<String>, String> {
    let folder = path.join("keyspaces");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", folder.display())),
    };
    let mut keyspaces = Vec::new();
    for entry in entries {
        keyspaces.push(entry.map_err(|error| error.to_string())?.path());
    }
    keyspaces.sort();
    let damaged = keyspaces.iter().filter_map(|keyspace| damage(keyspace));
    let mut suspicion = None;
    for why in damaged {
        tracing::error!(%why, "a list of tables is damaged");
        suspicion.get_or_insert(why);
    }
    Ok(suspicion)
}

/// What is wrong with the list of tables of one keyspace. Files that are missing or too short are
/// left to fjall, which does not open without them.
fn damage(keyspace: &Path) -> Option<String> {
    let current = fs::read(keyspace.join("current")).ok()?;
    let (version, rest) = current.split_first_chunk::<8>()?;
    let (expected, kind) = rest.split_first_chunk::<16>()?;
    let list = keyspace.join(format!("v{}", u64::from_le_bytes(*version)));
    if current.len() != CURRENT_BYTES || kind != [XXH3] {
        let file = keyspace.join("current");
        return Some(format!("{} is damaged", file.display()));
    }
    let found = xxh3_128(&fs::read(&list).ok()?);
    (found != u128::from_le_bytes(*expected)).then(|| {
        format!(
            "{} does not fit its checksum: tables of this keyspace may be gone",
            list.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fjall::{Database, KeyspaceCreateOptions};

    #[test]
    fn a_flipped_bit_in_any_byte_of_a_list_or_its_checksum_is_seen() {
        let folder = tempfile::tempdir().expect("folder");
        {
            let database = Database::builder(folder.path()).open().expect("open");
            let tree = database
                .keyspace("t", KeyspaceCreateOptions::default)
                .expect("keyspace");
            for value in ["a", "b"] {
                tree.insert("key", value).expect("insert");
                tree.rotate_memtable_and_wait().expect("a table");
            }
        }
        assert_eq!(inspect(folder.path()), Ok(None));
        let keyspaces: Vec<_> = fs::read_dir(folder.path().join("keyspaces"))
            .expect("list")
            .map(|entry| entry.expect("entry").path())
            .collect();
        assert!(keyspaces.len() >= 2, "fjall's own and ours: {keyspaces:?}");
        for keyspace in keyspaces {
            let current = fs::read(keyspace.join("current")).expect("read");
            let version = u64::from_le_bytes(*current.first_chunk().expect("a version"));
            // A flipped version names a list that is not there, which fjall tells itself.
            for (name, from) in [("current".to_owned(), 8), (format!("v{version}"), 0)] {
                let file = keyspace.join(name);
                let good = fs::read(&file).expect("read");
                for at in from..good.len() {
                    let mut bad = good.clone();
                    bad[at] ^= 1 << (at % 8);
                    fs::write(&file, bad).expect("write");
                    let found = inspect(folder.path()).expect("inspect");
                    assert!(found.is_some(), "{}, byte {at}", file.display());
                }
                fs::write(&file, good).expect("restore");
            }
        }
        assert_eq!(inspect(folder.path()), Ok(None));
    }
}

//! Disks that are full, fail or lie: what is detected, and what the user sees.
//!
//! Tests that mount file systems need root; elsewhere they say that they were skipped.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use souk_kv_storage::{
    CorruptGap, CorruptRow, EngineKind, Keyspace, MemoryDisk, NotWritten, OpenError, Recovery,
    Scan, StorageError, Store, StoreOptions, Unknown, WriteBatch, WriteOutcome,
};

const DURABLE: [EngineKind; 2] = [EngineKind::Fjall, EngineKind::Sled];

fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("runtime").block_on(test)
}

/// Bytes that cannot be compressed, so that they take the space that they claim.
fn noise(number: u32, bytes: usize) -> Bytes {
    let mut state = number.wrapping_mul(2_654_435_761).max(1);
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    });
    noise.take(bytes).collect()
}

fn row(number: u32, bytes: usize) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(
        Keyspace::Records,
        number.to_be_bytes().to_vec(),
        noise(number, bytes),
    );
    batch
}

/// A mounted file system that goes away with its folder.
struct Mount {
    folder: tempfile::TempDir,
    mounted: Vec<PathBuf>,
}

impl Mount {
    /// A tmpfs of `mib` MiB, or a loud word on why there is none.
    fn tmpfs(mib: u32) -> Option<Self> {
        let folder = tempfile::tempdir().expect("folder");
        let mut mount = Self {
            folder,
            mounted: Vec::new(),
        };
        let path = mount.path("tmpfs");
        let size = format!("size={mib}m");
        mount
            .mount(&path, &["-t", "tmpfs", "-o", &size, "souk-test"])
            .then_some(mount)
    }

    /// An ext4 that believes it has `mib` MiB, on an image in a tmpfs that has less: writing back
    /// fails with EIO when the tmpfs is full.
    fn overcommitted(self, mib: u32) -> Option<Self> {
        let mut mount = self;
        let image = mount.path("tmpfs").join("image");
        let file = fs::File::create(&image).expect("image");
        file.set_len(u64::from(mib) << 20).expect("sparse");
        let image = image.display().to_string();
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F", &image])
            .status();
        if !made.is_ok_and(|status| status.success()) {
            skipped("mkfs.ext4 failed");
            return None;
        }
        let path = mount.path("ext4");
        mount.mount(&path, &["-o", "loop", &image]).then_some(mount)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn mount(&mut self, path: &Path, arguments: &[&str]) -> bool {
        fs::create_dir_all(path).expect("mount point");
        let status = Command::new("mount").args(arguments).arg(path).status();
        let mounted = status.is_ok_and(|status| status.success());
        if mounted {
            self.mounted.push(path.to_owned());
        } else {
            skipped("mount failed: it needs root");
        }
        mounted
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        for path in self.mounted.iter().rev() {
            // Lazily: an engine whose disk failed may still hold files.
            let _ = Command::new("umount").arg("-l").arg(path).status();
        }
    }
}

fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room_again() {
    for engine in DURABLE {
        let Some(mount) = Mount::tmpfs(192) else {
            return;
        };
        let disk = mount.path("tmpfs");
        let mut options = StoreOptions::directory(disk.join("data"), engine);
        options.disk_reserve_bytes = 64 << 20;
        options.bounds.memtable_bytes = 4 << 20;
        block_on(async {
            let store = Store::open(options).expect("open");
            // Something else on the machine takes the space.
            let ballast = disk.join("ballast");
            fs::write(&ballast, vec![1; 100 << 20]).expect("ballast");
            let mut kept = 0;
            let refusal = loop {
                match store.commit(row(kept, 64 << 10)).await {
                    Ok(()) => kept += 1,
                    Err(error) => break error,
                }
                assert!(kept < 5_000, "{engine}: the disk never fills");
            };
            assert!(
                matches!(
                    refusal,
                    StorageError::NotWritten(NotWritten::DiskFull { .. })
                ),
                "{engine}: {refusal}"
            );
            assert_eq!(refusal.outcome(), Some(WriteOutcome::NotApplied));
            assert!(refusal.is_retryable());
            // Reads and deletes go on, and so does work that frees space.
            assert!(kept > 2, "{engine}: something fitted before");
            let first = 0_u32.to_be_bytes();
            assert!(store.get(Keyspace::Records, &first).expect("get").is_some());
            let mut delete = WriteBatch::new();
            delete.delete(Keyspace::Records, first.to_vec());
            store.commit(delete).await.expect("a delete");
            let mut tombstone = WriteBatch::new().using_reserve();
            tombstone.put(Keyspace::Records, 1_u32.to_be_bytes().to_vec(), "gone");
            store.commit(tombstone).await.expect("a tombstone");
            // Ordinary writes are still refused, at the latest when they have used up what the engine's
            // own compaction gave back meanwhile.
            let mut fitted = 0;
            while store.commit(row(10_000 + fitted, 64 << 10)).await.is_ok() {
                fitted += 1;
                assert!(fitted < 5_000, "{engine}: the disk never fills again");
            }
            // Room returns; nobody restarts anything.
            fs::remove_file(&ballast).expect("remove");
            store
                .commit(row(9_999, 64 << 10))
                .await
                .expect("writes resumed");
            store.close().await.expect("close");
        });
    }
}

#[test]
fn an_io_error_stops_all_writing_and_leaves_reading() {
    for engine in DURABLE {
        let Some(mount) = Mount::tmpfs(90) else {
            return;
        };
        let Some(mount) = mount.overcommitted(600) else {
            return;
        };
        let mut options = StoreOptions::directory(mount.path("ext4").join("data"), engine);
        options.disk_reserve_bytes = 0;
        block_on(async {
            let store = Store::open(options).expect("open");
            store
                .commit(row(0, 1_000))
                .await
                .expect("the first row fits");
            let mut number = 1;
            let error = loop {
                match store.commit(row(number, 256 << 10)).await {
                    Ok(()) => number += 1,
                    Err(error) => break error,
                }
                assert!(number < 2_000, "{engine}: the disk never fails");
            };
            assert!(
                matches!(error, StorageError::Unknown(Unknown::EngineFailed { .. })),
                "{engine}: {error}"
            );
            assert_eq!(error.outcome(), Some(WriteOutcome::Unknown));
            for _ in 0..3 {
                let later = store
                    .commit(row(number + 1, 10))
                    .await
                    .expect_err("poisoned");
                assert!(
                    matches!(later, StorageError::NotWritten(NotWritten::Poisoned { .. })),
                    "{engine}: {later}"
                );
                assert!(!later.is_retryable());
            }
            assert!(store.stats().expect("stats").refusal.is_some());
            assert!(
                store
                    .get(Keyspace::Records, &0_u32.to_be_bytes())
                    .expect("get")
                    .is_some()
            );
            assert!(
                store.close().await.is_err(),
                "{engine}: the close tells it again"
            );
        });
    }
}

#[test]
fn a_failed_sync_on_the_twin_poisons_it_and_hides_the_write() {
    let disk = MemoryDisk::new();
    block_on(async {
        let store = Store::open(StoreOptions::memory(disk.clone())).expect("open");
        store.commit(row(0, 10)).await.expect("commit");
        disk.fail_next_sync();
        let together = [store.submit(row(1, 10)), store.submit(row(2, 10))];
        for commit in together {
            let error = commit.await.expect_err("the sync failed");
            assert_eq!(error.outcome(), Some(WriteOutcome::Unknown), "{error}");
        }
        let later = store.commit(row(3, 10)).await.expect_err("poisoned");
        assert_eq!(later.outcome(), Some(WriteOutcome::NotApplied), "{later}");
        assert_eq!(
            store
                .scan(&Scan::all(Keyspace::Records))
                .expect("scan")
                .rows
                .len(),
            1
        );
        store.close().await.expect_err("it was poisoned");
        // Not closed in order, so the next opening does not trust it blindly.
        let store = Store::open(StoreOptions::memory(disk.clone())).expect("open");
        assert_eq!(store.recovery(), &Recovery::Unclean);
        store
            .commit(row(3, 10))
            .await
            .expect("mended by the restart");
    });
}

#[test]
fn a_full_twin_refuses_and_resumes() {
    let disk = MemoryDisk::new();
    block_on(async {
        let store = Store::open(StoreOptions::memory(disk.clone())).expect("open");
        store.commit(row(0, 1_000)).await.expect("commit");
        disk.set_capacity_bytes(Some(1_500));
        let error = store.commit(row(1, 1_000)).await.expect_err("full");
        assert!(
            matches!(error, StorageError::NotWritten(NotWritten::DiskFull { .. })),
            "{error}"
        );
        disk.set_capacity_bytes(None);
        store.commit(row(1, 1_000)).await.expect("resumed");
    });
}

#[test]
fn a_ghost_of_an_earlier_life_writes_nothing() {
    let disk = MemoryDisk::new();
    block_on(async {
        let ghost = Store::open(StoreOptions::memory(disk.clone())).expect("open");
        ghost.commit(row(0, 10)).await.expect("commit");
        disk.crash(0);
        let store = Store::open(StoreOptions::memory(disk.clone())).expect("open");
        let error = ghost.commit(row(1, 10)).await.expect_err("a ghost");
        assert_eq!(error.outcome(), Some(WriteOutcome::NotApplied), "{error}");
        assert_eq!(
            store
                .scan(&Scan::all(Keyspace::Records))
                .expect("scan")
                .rows
                .len(),
            1
        );
    });
}

#[test]
fn a_flipped_bit_on_the_twin_is_never_served() {
    let mut noticed = 0;
    for seed in 0..100 {
        let disk = MemoryDisk::new();
        noticed += u32::from(block_on(async {
            let store = Store::open(StoreOptions::memory(disk.clone())).expect("open");
            for number in 0..20 {
                store.commit(row(number, 300)).await.expect("commit");
            }
            store.close().await.expect("close");
            assert!(disk.flip_bit(seed));
            let store = Store::open(StoreOptions::memory(disk.clone())).expect("open");
            let suspect = matches!(store.recovery(), Recovery::Suspect { .. });
            suspect | check_rows(&store, 20, 300).1
        }));
    }
    assert_eq!(noticed, 100, "after an orderly close every flip is noticed");
}

/// Reads every row: each is intact, missing, or named as damaged, and never wrong. Returns how
/// many are intact and whether damage was named.
fn check_rows(store: &Store, count: u32, bytes: usize) -> (u32, bool) {
    let (mut intact, mut named) = (0, false);
    for number in 0..count {
        let expected = noise(number, bytes);
        match store.get(Keyspace::Records, &number.to_be_bytes()) {
            Ok(Some(value)) => {
                assert!(value == expected, "row {number} is wrong");
                intact += 1;
            }
            Ok(None) => {}
            Err(StorageError::Corrupt { .. } | StorageError::Read { .. }) => named = true,
            Err(other) => panic!("row {number}: {other}"),
        }
    }
    (intact, named)
}

/// Every file of a directory, with its path relative to it.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("list") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if fs::metadata(&path).expect("metadata").len() > 0 {
            found.push(path);
        }
    }
}

const ROWS: u32 = 600;
const ROW_BYTES: usize = 3_000;

/// A closed store with tables and journals, made once per engine and copied for each flip.
fn filled(engine: EngineKind) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    block_on(async {
        let store = Store::open(options(folder.path(), engine)).expect("open");
        for number in 0..ROWS {
            let commit = store.submit(row(number, ROW_BYTES));
            if number % 50 == 49 {
                commit.await.expect("commit");
            }
        }
        store.close().await.expect("close");
    });
    folder
}

fn options(folder: &Path, engine: EngineKind) -> StoreOptions {
    let mut options = StoreOptions::directory(folder.join("data"), engine);
    options.bounds.memtable_bytes = 1 << 20;
    options.disk_reserve_bytes = 0;
    options
}

/// What one flipped bit led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    RefusedToOpen,
    Suspect,
    NamedOnRead,
    /// Every row is intact and so is the verdict: the bit did not matter.
    Harmless,
    /// Rows are missing and nothing said so.
    Silent,
}

/// A copy of a closed store with one bit of one file flipped.
fn damaged_copy(source: &Path, file: &Path, at: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    let copied = Command::new("cp")
        .arg("-r")
        .arg("--sparse=always")
        .arg(source.join("data"))
        .arg(folder.path())
        .status();
    assert!(copied.expect("cp").success());
    let target = folder
        .path()
        .join(file.strip_prefix(source).expect("inside"));
    flip(&target, at);
    folder
}

fn flip_and_look(source: &Path, file: &Path, at: u64, engine: EngineKind) -> Seen {
    let folder = damaged_copy(source, file, at);
    let opened = std::panic::catch_unwind(|| Store::open(options(folder.path(), engine)));
    let store = match opened {
        Ok(Ok(store)) => store,
        Ok(Err(StorageError::Open(error))) => {
            assert!(!matches!(*error, OpenError::Locked { .. }));
            return Seen::RefusedToOpen;
        }
        Ok(Err(other)) => panic!("{other}"),
        Err(_) => panic!("{}, byte {at}: the opening panicked", file.display()),
    };
    let suspect = matches!(store.recovery(), Recovery::Suspect { .. });
    let clean = store.recovery() == &Recovery::Clean;
    let (intact, named) = check_rows(&store, ROWS, ROW_BYTES);
    let _ = block_on(store.close());
    match (suspect, named, intact) {
        (true, ..) => Seen::Suspect,
        (false, true, _) => Seen::NamedOnRead,
        (false, false, ROWS) => Seen::Harmless,
        (false, false, _) if !clean => Seen::Suspect,
        (false, false, _) => Seen::Silent,
    }
}

fn flip(file: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let open = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(file)
        .expect("open");
    let mut byte = [0];
    open.read_exact_at(&mut byte, at).expect("read");
    open.write_all_at(&[byte[0] ^ 0x10], at).expect("write");
}

/// The last file of each kind: names without their numbers, in the folder of the records.
fn kinds(source: &Path, engine: EngineKind) -> Vec<PathBuf> {
    let mut list = Vec::new();
    files(source, &mut list);
    list.retain(|file| {
        let text = file.to_string_lossy();
        !text.contains("/keyspaces/") || text.contains("/keyspaces/3/")
    });
    let number = |file: &PathBuf| -> u64 {
        let name = file
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let digits: String = name.chars().filter(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    };
    list.sort_by_key(number);
    let kind = |file: &PathBuf| {
        file.to_string_lossy()
            .replace(|c: char| c.is_ascii_digit(), "")
    };
    let by_kind: BTreeMap<_, _> = list.into_iter().map(|file| (kind(&file), file)).collect();
    assert!(by_kind.len() >= 4, "{engine}: {by_kind:?}");
    by_kind.into_values().collect()
}

/// Damage at rest, after an orderly close, in every kind of file: it is refused, suspected or
/// named, or it does not matter; wrong bytes are never served and rows never vanish in silence.
fn flips(engine: EngineKind) {
    const SAMPLES: u64 = 4;
    let source = filled(engine);
    let mut noticed = 0;
    for file in kinds(source.path(), engine) {
        let bytes = fs::read(&file).expect("read");
        // Not in the space that is reserved and empty.
        let used = bytes
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(1, |last| last as u64 + 1);
        for sample in 0..SAMPLES {
            let at = (used * sample / SAMPLES + 7 * sample) % used;
            let seen = flip_and_look(source.path(), &file, at, engine);
            let name = file.strip_prefix(source.path()).expect("inside").display();
            assert_ne!(seen, Seen::Silent, "{name}, byte {at}");
            noticed += u32::from(seen != Seen::Harmless);
        }
    }
    assert!(noticed > 6, "{engine}: only {noticed} flips were noticed");
}

/// The files that decide which of fjall's tables count are checked after any stop, with or without
/// the note of an orderly close.
#[test]
fn a_damaged_list_of_tables_is_noticed_after_a_sudden_stop() {
    let source = filled(EngineKind::Fjall);
    fs::remove_file(source.path().join("data/CLEAN")).expect("the stop was not orderly");
    let records = source.path().join("data/fjall/keyspaces/3");
    let current = fs::read(records.join("current")).expect("read");
    let version = u64::from_le_bytes(*current.first_chunk().expect("a version"));
    for file in [records.join("current"), records.join(format!("v{version}"))] {
        let bytes = fs::metadata(&file).expect("metadata").len();
        for sample in 0..6 {
            let at = bytes * sample / 6;
            let folder = damaged_copy(source.path(), &file, at);
            // Refused is noticed as well.
            if let Ok(store) = Store::open(options(folder.path(), EngineKind::Fjall)) {
                let is_suspect = matches!(store.recovery(), Recovery::Suspect { .. });
                assert!(is_suspect, "{}, byte {at}", file.display());
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_any_file_of_fjall_is_noticed_or_harmless() {
    flips(EngineKind::Fjall);
}

#[test]
fn a_flipped_bit_in_any_file_of_sled_is_noticed_or_harmless() {
    flips(EngineKind::Sled);
}

/// Walks everything, a few rows at a time. Returns the keys that were checked and not named as
/// corrupt, counted, and the pages' findings.
fn verify(store: &Store, limit: usize) -> (usize, Vec<CorruptRow>, Vec<CorruptGap>) {
    let (mut good, mut corrupt, mut gaps) = (0, Vec::new(), Vec::new());
    let mut after: Option<Bytes> = None;
    for _ in 0..10_000 {
        let page = store.verify_page(Keyspace::Records, after.as_deref(), limit, &mut |_, _| {
            Ok(())
        });
        let page = page.expect("the store is open");
        good += page.checked - page.corrupt.len();
        corrupt.extend(page.corrupt);
        gaps.extend(page.gaps);
        let Some(next) = page.next else {
            return (good, corrupt, gaps);
        };
        assert!(after.as_ref().is_none_or(|after| *after < next), "onwards");
        after = Some(next);
    }
    panic!("the walk does not end");
}

#[test]
fn a_verify_walk_names_each_damaged_row_of_the_twin() {
    for limit in [1, 7, 1_000] {
        let disk = MemoryDisk::new();
        block_on(async {
            let store = Store::open(StoreOptions::memory(disk.clone())).expect("open");
            for number in 0..50 {
                store.commit(row(number, 300)).await.expect("commit");
            }
            assert_eq!(verify(&store, limit), (50, vec![], vec![]));
            disk.damage_row(Keyspace::Records, &7_u32.to_be_bytes());
            let (good, corrupt, gaps) = verify(&store, limit);
            assert_eq!((good, gaps), (49, vec![]));
            assert_eq!(corrupt.len(), 1);
            assert_eq!(corrupt[0].key[..], 7_u32.to_be_bytes());
            assert!(check_rows(&store, 50, 300) == (49, true));
            store.commit(row(7, 300)).await.expect("writing it again");
            assert_eq!(verify(&store, limit), (50, vec![], vec![]));
        });
    }
}

/// Damage inside a table of fjall: the walk names the block's keys and reads everything else, and a
/// scan stops at the gap, says so, and can go on behind it.
#[test]
fn a_verify_walk_goes_on_behind_a_bad_block() {
    let source = filled(EngineKind::Fjall);
    let mut list = Vec::new();
    files(source.path(), &mut list);
    let is_table = |file: &&PathBuf| file.to_string_lossy().contains("/keyspaces/3/tables/");
    let table = list.iter().find(is_table).expect("a table of the records");
    let middle = fs::metadata(table).expect("metadata").len() / 2;
    flip(table, middle);
    let store = Store::open(options(source.path(), EngineKind::Fjall)).expect("open");
    for limit in [1, 7, 1_000] {
        let (good, corrupt, gaps) = verify(&store, limit);
        assert_eq!((corrupt.len(), gaps.len()), (0, 1), "limit {limit}");
        assert!(good > ROWS as usize / 2 && good < ROWS as usize, "{good}");
        let lost = ROWS as usize - good;
        assert!(lost < 20, "a block is small: {lost}");
    }
    let (mut seen, mut gaps, mut scan) = (0, 0, Scan::all(Keyspace::Records));
    loop {
        match store.scan(&scan) {
            Ok(page) => {
                seen += page.rows.len();
                if !page.more {
                    break;
                }
                let last = page.rows.last().expect("rows follow, so there are some");
                scan = scan.after(&last.key);
            }
            Err(StorageError::Gap { gap, .. }) => {
                gaps += 1;
                let behind = gap.before.expect("the rest is good");
                scan = Scan::range(Keyspace::Records, behind..);
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((seen, gaps), (verify(&store, 100).0, 1));
    // From above there is no way on, and no silence either.
    let reverse = Scan::all(Keyspace::Records).reversed();
    let page = store.scan(&reverse).expect("the upper rows");
    assert!(page.more && page.rows.len() < seen);
    let last = page.rows.last().expect("rows");
    let error = store.scan(&reverse.after(&last.key)).expect_err("the gap");
    assert!(matches!(error, StorageError::Gap { .. }), "{error}");
}

/// fjall reads a damaged block again when it merges the block's table with others. It cannot leave a part of a
/// table behind, so it stops writing for good, also after a restart; what is good stays readable.
#[test]
fn a_bad_block_that_compaction_meets_stops_writing_and_leaves_reading() {
    let source = filled(EngineKind::Fjall);
    let mut list = Vec::new();
    files(source.path(), &mut list);
    let is_table = |file: &&PathBuf| file.to_string_lossy().contains("/keyspaces/3/tables/");
    let table = list.iter().find(is_table).expect("a table of the records");
    flip(table, fs::metadata(table).expect("metadata").len() / 2);
    for start in 1..=2 {
        let store = Store::open(options(source.path(), EngineKind::Fjall)).expect("open");
        block_on(async {
            let mut written = 0;
            let refusal = loop {
                match store.commit(row(written % ROWS, ROW_BYTES)).await {
                    Ok(()) => written += 1,
                    Err(error) => break error,
                }
                assert!(
                    written < 100_000,
                    "start {start}: nothing is ever compacted"
                );
            };
            assert!(
                matches!(
                    refusal,
                    StorageError::NotWritten(NotWritten::Poisoned { .. })
                ),
                "start {start}: {refusal}"
            );
            assert_eq!(refusal.outcome(), Some(WriteOutcome::NotApplied));
            assert!(store.stats().expect("stats").refusal.is_some());
            let (good, named) = check_rows(&store, ROWS, ROW_BYTES);
            assert!(good > ROWS / 2, "start {start}: {good} rows are left");
            assert_eq!(good == ROWS, !named, "what cannot be read is named");
            assert!(
                store.close().await.is_err(),
                "start {start}: the close tells it"
            );
        });
    }
}

//! Reads fjall's journals before fjall does, because fjall forgets silently.
//!
//! At recovery fjall replays a journal up to the first batch that it cannot parse, cuts the file
//! there and goes on, whether that batch was torn by a crash or damaged years after its sync, and
//! whether or not good batches follow (fjall-rs/fjall issue 311). A torn last batch is normal: it
//! was never acknowledged. Whole batches *behind* a bad one were acknowledged, so a hole before
//! them means that the store has lost something it promised.
//!
//! A torn batch needs care too: fjall reads its zeros as lengths, and where a hole lies inside a
//! value it finds a wrong checksum and refuses to open at all. So we cut that off ourselves.
//!
//! Place: called once by [`super::FjallEngine`] before the database opens.
//! Source: fjall 3.1 `src/journal/entry.rs`: start (tag 1, count u32, sequence u64), items (tag 2)
//! or clears (tag 4), end (tag 3, xxh3 of the item bytes, `FJL\x03`); little endian; zeros behind.
//! Invariants: 1. a suspect file is cut only after a copy of it was kept beside it. 2. a journal
//! that a killed process left behind is never suspected: its writes are a prefix.
//! 3. sequence numbers rise from batch to batch and from journal to journal. fjall's checksum does
//! not cover them, and a wrong one makes an old batch win or a batch count as flushed already.
//! Limits: damage inside the very last batch, trailer included, looks like a torn one; a number
//! that became smaller is not seen in the first batch of the oldest journal, nor one that became
//! a little larger in the last batch, where it does no harm.
//! Not here: table files, which carry their own checksums and fail loudly.

use std::fs;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

const TRAILER: &[u8; 4] = b"FJL\x03";
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// Tag, checksum, trailer.
const END_BYTES: usize = 1 + 8 + TRAILER.len();
/// Pieces in which the rest behind the last good batch is searched; empty ones are skipped.
const PIECE_BYTES: usize = 4 << 10;

/// How far a sequence number may be ahead of the one before it. fjall also numbers a few things
/// that are in no journal, but never this many.
const SEQUENCE_STEP_MAX: u64 = 1 << 32;

/// Looks through every journal in `path` and cuts each behind its last good batch, so that the
/// database opens. `Some(why)` if an acknowledged batch seems lost; the journal as it was is then
/// kept as `N.jnl.damaged`.
pub(super) fn inspect(path: &Path) -> Result<Option<String>, String> {
    let journals = journals(path).map_err(|error| error.to_string())?;
    let mut suspicion = None;
    let mut sequence = None;
    for (position, journal) in journals.iter().enumerate() {
        let sealed = position + 1 < journals.len();
        let state =
            read_journal(journal, sequence).map_err(|e| format!("{}: {e}", journal.display()))?;
        sequence = state.sequence;
        if let Some(why) = state.suspicion(sealed) {
            let why = format!("{}: {why}", journal.display());
            tracing::error!(%why, "a journal is damaged; a copy is kept beside it");
            keep_copy(journal).map_err(|e| format!("{}: {e}", journal.display()))?;
            suspicion.get_or_insert(why);
        }
        if state.rest {
            cut(journal, state.good_bytes).map_err(|e| format!("{}: {e}", journal.display()))?;
        }
    }
    Ok(suspicion)
}

/// Journal files, oldest first.
fn journals(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let file = entry?.path();
        let number = file
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        if let (Some(number), Some("jnl")) = (number, file.extension().and_then(|e| e.to_str())) {
            found.push((number, file));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, file)| file).collect())
}

fn keep_copy(journal: &Path) -> io::Result<()> {
    let mut copy = journal.as_os_str().to_owned();
    copy.push(".damaged");
    fs::copy(journal, &copy)?;
    fs::File::open(&copy)?.sync_all()
}

fn cut(journal: &Path, good_bytes: u64) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(journal)?;
    file.set_len(good_bytes)?;
    file.sync_all()
}

/// What a journal holds.
#[derive(Debug, PartialEq, Eq)]
struct JournalState {
    /// Where the last good batch ends.
    good_bytes: u64,
    /// The number of the last good batch, or of the one before this journal.
    sequence: Option<u64>,
    /// Whether anything but zeros follows.
    rest: bool,
    /// Where a whole batch seems to end behind that.
    trailer_at: Option<u64>,
}

impl JournalState {
    fn suspicion(&self, sealed: bool) -> Option<String> {
        let from = self.good_bytes;
        if let Some(at) = self.trailer_at {
            Some(format!(
                "damaged from byte {from} on, and a whole batch ends at byte {at}"
            ))
        } else if sealed && self.rest {
            Some(format!(
                "damaged from byte {from} on, although newer journals follow it"
            ))
        } else {
            None
        }
    }
}

fn read_journal(journal: &Path, mut sequence: Option<u64>) -> io::Result<JournalState> {
    let mut reader = Counted {
        inner: BufReader::new(fs::File::open(journal)?),
        at: 0,
    };
    let mut good_bytes = 0;
    while let Some(number) = read_batch(&mut reader)?.filter(|number| follows(sequence, *number)) {
        sequence = Some(number);
        good_bytes = reader.at;
    }
    let mut rest = BufReader::new(fs::File::open(journal)?);
    io::Seek::seek(&mut rest, io::SeekFrom::Start(good_bytes))?;
    let (rest, trailer_at) = search(rest, good_bytes)?;
    Ok(JournalState {
        good_bytes,
        sequence,
        rest,
        trailer_at,
    })
}

/// Whether a batch may have this number behind that one.
fn follows(previous: Option<u64>, number: u64) -> bool {
    // The first batch that is left may have any number but an absurd one.
    previous.map_or(number < u64::MAX >> 2, |previous| {
        number > previous && number - previous < SEQUENCE_STEP_MAX
    })
}

/// Reads one whole batch and returns its number; `None` where there is no good one.
fn read_batch(reader: &mut impl Read) -> io::Result<Option<u64>> {
    match try_read_batch(reader) {
        Ok(number) => Ok(number),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn try_read_batch(reader: &mut impl Read) -> io::Result<Option<u64>> {
    let [tag] = take(reader)?;
    if tag != START {
        return Ok(None);
    }
    let count = u32::from_le_bytes(take(reader)?);
    let number = u64::from_le_bytes(take(reader)?);
    let mut sum = Xxh3::default();
    for _ in 0..count {
        if !read_item(reader, &mut sum)? {
            return Ok(None);
        }
    }
    let [tag] = take(reader)?;
    let expected = u64::from_le_bytes(take(reader)?);
    let trailer: [u8; 4] = take(reader)?;
    let good = tag == END && &trailer == TRAILER && sum.digest() == expected;
    Ok(good.then_some(number))
}

/// Reads one item of a batch into its checksum; `false` if it is none.
fn read_item(reader: &mut impl Read, sum: &mut Xxh3) -> io::Result<bool> {
    let [tag] = take(reader)?;
    sum.update(&[tag]);
    match tag {
        CLEAR => {
            let keyspace: [u8; 8] = take(reader)?;
            sum.update(&keyspace);
            Ok(true)
        }
        ITEM => {
            // Value type, compression, keyspace, key length, value length, stored length.
            let head: [u8; 20] = take(reader)?;
            sum.update(&head);
            let key_len = u64::from(u16::from_le_bytes([head[10], head[11]]));
            let stored_len =
                u64::from(u32::from_le_bytes([head[16], head[17], head[18], head[19]]));
            sum_bytes(reader, key_len + stored_len, sum)
        }
        _ => Ok(false),
    }
}

/// Feeds `len` bytes to the checksum in pieces: a damaged length must not become an allocation.
fn sum_bytes(reader: &mut impl Read, len: u64, sum: &mut Xxh3) -> io::Result<bool> {
    let mut left = len;
    let mut piece = [0; 4096];
    while left > 0 {
        let want = left.min(piece.len() as u64) as usize;
        reader.read_exact(&mut piece[..want])?;
        sum.update(&piece[..want]);
        left -= want as u64;
    }
    Ok(true)
}

fn take<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Whether anything but zeros is in the rest of a file that starts at `base`, and where the first
/// thing ends that looks like the end of a batch.
fn search(mut rest: impl Read, base: u64) -> io::Result<(bool, Option<u64>)> {
    const NOTHING: [u8; PIECE_BYTES] = [0; PIECE_BYTES];
    // What could be the beginning of an end that the next piece completes.
    let mut window: Vec<u8> = Vec::new();
    let mut read_bytes = 0;
    let mut any = false;
    loop {
        let carried = window.len();
        let read = rest
            .by_ref()
            .take(PIECE_BYTES as u64)
            .read_to_end(&mut window)?;
        read_bytes += read as u64;
        if read == 0 {
            return Ok((any, None));
        }
        // Journals are mostly reserved space; comparing whole pieces keeps a start quick.
        if window[carried..] == NOTHING[..read] && window[..carried].iter().all(|&b| b == 0) {
            window.clear();
            continue;
        }
        any = true;
        // The end tag in its place makes a value that merely contains the trailer unlikely; if
        // one does occur, the store is suspected without need, which is safe.
        let hit = window
            .windows(END_BYTES)
            .position(|end| end[0] == END && &end[END_BYTES - TRAILER.len()..] == TRAILER);
        if let Some(hit) = hit {
            let window_at = base + read_bytes - window.len() as u64;
            return Ok((true, Some(window_at + (hit + END_BYTES) as u64)));
        }
        let keep = window.len().min(END_BYTES - 1);
        window.drain(..window.len() - keep);
    }
}

/// A reader that knows how far it has come.
struct Counted<R> {
    inner: R,
    at: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fjall::{Database, KeyspaceCreateOptions, PersistMode};
    use proptest::prelude::*;
    use std::os::unix::fs::FileExt;

    const BATCHES: u8 = 6;
    /// Where the number is in a batch.
    const SEQUENCE_AT: std::ops::Range<u64> = 5..13;

    /// A journal of [`BATCHES`] batches as fjall writes it, and where each ends.
    fn journal(folder: &Path) -> (PathBuf, Vec<u64>) {
        let mut ends = Vec::new();
        {
            let database = Database::builder(folder).open().expect("open");
            let tree = database
                .keyspace("t", KeyspaceCreateOptions::default)
                .expect("keyspace");
            for number in 0..BATCHES {
                let mut batch = database.batch().durability(Some(PersistMode::SyncData));
                batch.insert(&tree, [number], vec![number; 300]);
                batch.remove(&tree, [number + 100]);
                batch.commit().expect("commit");
                let state = read_journal(&folder.join("0.jnl"), None).expect("read");
                ends.push(state.good_bytes);
            }
        }
        (folder.join("0.jnl"), ends)
    }

    #[test]
    fn a_whole_journal_is_trusted_to_its_last_byte() {
        let folder = tempfile::tempdir().expect("folder");
        let (_, ends) = journal(folder.path());
        assert!(
            ends.windows(2).all(|pair| pair[0] < pair[1]),
            "every batch was read: {ends:?}"
        );
        assert_eq!(inspect(folder.path()), Ok(None));
    }

    /// fjall's checksum leaves the number out, so its order has to tell.
    #[test]
    fn any_flipped_bit_in_the_number_of_a_middle_batch_is_seen() {
        let folder = tempfile::tempdir().expect("folder");
        let (file, ends) = journal(folder.path());
        let open = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&file)
            .expect("open");
        for bit in 0..64 {
            let at = ends[1] + SEQUENCE_AT.start + bit / 8;
            let mut byte = [0];
            open.read_exact_at(&mut byte, at).expect("read");
            open.write_all_at(&[byte[0] ^ 1 << (bit % 8)], at)
                .expect("write");
            let state = read_journal(&file, None).expect("read");
            assert!(state.suspicion(false).is_some(), "bit {bit}: {state:?}");
            open.write_all_at(&byte, at).expect("restore");
        }
        assert_eq!(inspect(folder.path()), Ok(None));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

        #[test]
        fn a_torn_tail_is_normal_and_a_hole_is_suspect(
            batch in 0..usize::from(BATCHES), offset in 1u64..300, bit in 0u8..8, tear: bool,
        ) {
            let folder = tempfile::tempdir().expect("folder");
            let (file, ends) = journal(folder.path());
            let begin = if batch == 0 { 0 } else { ends[batch - 1] };
            let at = begin + offset;
            let open = fs::OpenOptions::new().read(true).write(true).open(&file).expect("open");
            if tear {
                let len = open.metadata().expect("metadata").len();
                open.set_len(at).expect("cut");
                open.set_len(len).expect("zeros");
            } else {
                let mut byte = [0];
                open.read_exact_at(&mut byte, at).expect("read");
                open.write_all_at(&[byte[0] ^ 1 << bit], at).expect("write");
            }
            let found = inspect(folder.path()).expect("inspect");
            prop_assert_eq!(folder.path().join("0.jnl.damaged").exists(), found.is_some());
            let database = Database::builder(folder.path()).open().expect("open");
            let tree = database.keyspace("t", KeyspaceCreateOptions::default).expect("keyspace");
            let rows = tree.len().expect("len");
            if !tear && SEQUENCE_AT.contains(&offset) {
                // A number that still fits its neighbours does no harm; one that does not costs
                // its own batch or the next one.
                let cut = batch..=batch + 1;
                let fits = if found.is_some() { cut.contains(&rows) } else { rows == BATCHES.into() };
                prop_assert!(fits, "{} rows, {:?}", rows, found);
            } else {
                prop_assert_eq!(found.is_some(), !tear, "{:?}", found);
                // Either way the database opens with exactly the batches before the damage.
                prop_assert_eq!(rows, batch);
            }
        }
    }
}

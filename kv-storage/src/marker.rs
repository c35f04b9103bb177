//! The note a store leaves when it closes in order: "I am done, and this is what I had".
//!
//! Place: written after the engine's last sync, when its threads have ended; taken away, durably,
//! before the next opening writes anything. This is the one module that speaks bincode.
//! Shape: CRC-32 (little endian) of the rest, then the bincode form of [`CloseNote`].
//! Why it lists files: an engine's manifests are small files that decide which large ones count,
//! and a bit flipped in one can make whole tables vanish without an error. Large files are listed
//! by length alone; their contents have checksums of their own. The exception is sled's log: damage in
//! its middle can make sled drop rows without an error, so the whole of it is summed.
//! Invariants: a note that is missing, damaged or of another form counts as no note: the stop was
//! not orderly. Nothing else depends on it, so its form may change between versions.
//! Not here: what follows from an unclean stop (`crate::recovery`).

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Files up to this size are remembered by their content.
const CONTENT_BYTES_MAX: u64 = 64 << 10;
/// A large file that is remembered by its content all the same: sled's log. Summing it reads it once at
/// each orderly close and at the opening behind it.
const SUMMED_WHOLE: &str = "db";

/// What was there at an orderly close.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CloseNote {
    /// The number of the last group that was committed.
    pub(crate) last_group: u64,
    /// The engine's files by their path within its folder.
    pub(crate) files: BTreeMap<String, FileNote>,
}

/// How a file looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileNote {
    bytes: u64,
    /// CRC-32 of the content, where it is remembered.
    content: Option<u32>,
}

impl CloseNote {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let body = bincode::serde::encode_to_vec(self, bincode::config::standard())
            .expect("numbers, strings and maps of them always have a bincode form");
        let mut note = crc32fast::hash(&body).to_le_bytes().to_vec();
        note.extend(body);
        note
    }

    pub(crate) fn decode(note: &[u8]) -> Option<Self> {
        let (sum, body) = note.split_first_chunk::<4>()?;
        if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
            return None;
        }
        let decoded = bincode::serde::decode_from_slice(body, bincode::config::standard());
        let (note, read) = decoded.ok()?;
        (read == body.len()).then_some(note)
    }

    /// The first file that is gone or differs from the note.
    pub(crate) fn first_difference(&self, now: &BTreeMap<String, FileNote>) -> Option<&str> {
        let differs = |(path, note): &(&String, &FileNote)| now.get(*path) != Some(*note);
        self.files
            .iter()
            .find(differs)
            .map(|(path, _)| path.as_str())
    }
}

/// Looks at every file below `folder`.
///
/// # Errors
/// What the file system says.
pub(crate) fn look_at_files(folder: &Path) -> io::Result<BTreeMap<String, FileNote>> {
    let mut files = BTreeMap::new();
    look_below(folder, "", &mut files)?;
    Ok(files)
}

fn look_below(
    folder: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, FileNote>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            look_below(&entry.path(), &format!("{path}/"), files)?;
            continue;
        }
        let by_content = metadata.len() <= CONTENT_BYTES_MAX || path == SUMMED_WHOLE;
        let content = if by_content {
            Some(sum(&entry.path())?)
        } else {
            None
        };
        files.insert(
            path,
            FileNote {
                bytes: metadata.len(),
                content,
            },
        );
    }
    Ok(())
}

fn sum(path: &Path) -> io::Result<u32> {
    let mut file = fs::File::open(path)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_note_is_read_back_and_a_damaged_one_is_none(
            last_group: u64, bytes: u64, at: prop::sample::Index, bit in 0u8..8,
        ) {
            let file = FileNote { bytes, content: Some(7) };
            let note = CloseNote { last_group, files: [("a/b".to_owned(), file)].into() };
            let mut encoded = note.encode();
            prop_assert_eq!(CloseNote::decode(&encoded), Some(note));
            let at = at.index(encoded.len());
            encoded[at] ^= 1 << bit;
            prop_assert_eq!(CloseNote::decode(&encoded), None);
        }
    }

    #[test]
    fn changed_and_missing_files_are_named_and_new_ones_are_not() {
        fn check(change: impl Fn(&Path), expected: Option<&str>) {
            let folder = tempfile::tempdir().expect("folder");
            fs::create_dir(folder.path().join("k")).expect("create");
            fs::write(folder.path().join("k/manifest"), "tables 1 2 3").expect("write");
            fs::write(folder.path().join("table"), vec![1; 100_000]).expect("write");
            let files = look_at_files(folder.path()).expect("look");
            change(folder.path());
            let note = CloseNote {
                last_group: 0,
                files,
            };
            let now = look_at_files(folder.path()).expect("look");
            assert_eq!(note.first_difference(&now), expected);
        }
        let write = |name: &'static str, bytes: Vec<u8>| {
            move |folder: &Path| fs::write(folder.join(name), &bytes).expect("write")
        };
        check(|_| (), None);
        check(write("more", vec![1]), None);
        check(
            write("k/manifest", b"tables 1 2 4".to_vec()),
            Some("k/manifest"),
        );
        check(write("table", vec![1; 99_999]), Some("table"));
        check(
            |folder| fs::remove_file(folder.join("table")).expect("remove"),
            Some("table"),
        );
    }
}

//! The first page of a data directory: what it is, how new it is, and what was fixed when it was made.
//!
//! Place: pure; read and written by `crate::directory` as the file `FORMAT`.
//! Shape: text, one `name = value` a line, closed by a CRC-32 of everything above it.
//! Invariants: 1. data of a newer version or of another engine is never touched. 2. older data is
//! brought up one version at a time, by the steps below, each of which is a pure change of this page;
//! a step that has to rewrite data does so before the page says that it did. 3. any flipped bit is
//! seen.
//! Not here: formats of single values (`crate::frame`), of the engines' files (theirs).

use std::collections::BTreeMap;
use std::path::Path;

use crate::EngineKind;
use crate::error::OpenError;

/// The newest version that this build knows, and writes.
pub(crate) const VERSION: u32 = 2;
const TITLE: &str = "souk storage";

/// From version 1 on, what leads to the next one. The position is the version less one.
const STEPS: [fn(&mut Fields); VERSION as usize - 1] = [name_the_memtable];

type Fields = BTreeMap<String, String>;

/// What a data directory says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) engine: EngineKind,
    /// The bound of a memtable, which fjall fixes when it makes a keyspace.
    pub(crate) memtable_bytes: u64,
}

/// A page that was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReadFormat {
    pub(crate) format: Format,
    /// The version that was found; lower than [`VERSION`] if the page has to be written again.
    pub(crate) version: u32,
}

/// Version 1 had one size of memtables, and did not say so.
fn name_the_memtable(fields: &mut Fields) {
    let usual = (32_u64 << 20).to_string();
    fields.insert("memtable_bytes".to_owned(), usual);
}

impl Format {
    /// The page, in the newest version.
    pub(crate) fn encode(&self) -> String {
        let Self {
            engine,
            memtable_bytes,
        } = self;
        seal(&format!(
            "{TITLE}\nversion = {VERSION}\nengine = {engine}\nmemtable_bytes = {memtable_bytes}\n"
        ))
    }

    /// Reads a page of this or an older version for a caller who expects `asked`. `path` is the data
    /// directory, for messages.
    pub(crate) fn decode(
        path: &Path,
        text: &[u8],
        asked: EngineKind,
    ) -> Result<ReadFormat, OpenError> {
        let bad = |detail: &str| OpenError::Format {
            path: path.join("FORMAT"),
            detail: detail.to_owned(),
        };
        let text = std::str::from_utf8(text).map_err(|_| bad("it is not text"))?;
        let (body, _) = text
            .rsplit_once("crc32 = ")
            .ok_or_else(|| bad("no checksum"))?;
        if seal(body) != text {
            return Err(bad("the checksum differs"));
        }
        let lines = body.lines().filter_map(|line| line.split_once(" = "));
        let mut fields: Fields = lines
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let version: u32 = field(&fields, "version").ok_or_else(|| bad("no version"))?;
        if version > VERSION {
            return Err(OpenError::Newer {
                path: path.to_owned(),
                found: version,
                known: VERSION,
            });
        }
        let done = version.checked_sub(1).ok_or_else(|| bad("no version"))?;
        for step in &STEPS[done as usize..] {
            step(&mut fields);
        }
        let found: EngineKind = field(&fields, "engine").ok_or_else(|| bad("no engine"))?;
        if found != asked {
            return Err(OpenError::OtherEngine {
                path: path.to_owned(),
                found,
                asked,
            });
        }
        let memtable_bytes = field(&fields, "memtable_bytes");
        Ok(ReadFormat {
            format: Self {
                engine: found,
                memtable_bytes: memtable_bytes.ok_or_else(|| bad("no memtable_bytes"))?,
            },
            version,
        })
    }
}

fn field<T: std::str::FromStr>(fields: &Fields, name: &str) -> Option<T> {
    fields.get(name)?.parse().ok()
}

fn seal(body: &str) -> String {
    let sum = crc32fast::hash(body.as_bytes());
    format!("{body}crc32 = {sum:08x}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> Result<ReadFormat, OpenError> {
        Format::decode(Path::new("data"), text.as_bytes(), EngineKind::Fjall)
    }

    fn made(memtable_bytes: u64) -> Format {
        Format {
            engine: EngineKind::Fjall,
            memtable_bytes,
        }
    }

    #[test]
    fn a_page_is_read_back_and_any_flipped_bit_is_seen() {
        let format = made(1 << 20);
        let text = format.encode().into_bytes();
        let read = Format::decode(Path::new(""), &text, EngineKind::Fjall).expect("intact");
        assert_eq!((read.format, read.version), (format, VERSION));
        for bit in 0..text.len() * 8 {
            let mut damaged = text.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let read = Format::decode(Path::new(""), &damaged, EngineKind::Fjall);
            assert!(read.is_err(), "bit {bit}");
        }
    }

    /// Byte for byte what the first version wrote.
    #[test]
    fn the_first_version_is_brought_up() {
        let text = "souk storage\nversion = 1\nengine = fjall\ncrc32 = 33e30014\n";
        let read = decode(text).expect("an older version");
        assert_eq!((read.format, read.version), (made(32 << 20), 1));
    }

    #[test]
    fn newer_other_and_incomplete_pages_are_refused() {
        fn check(body: &str, fits: impl Fn(&OpenError) -> bool) {
            let error = decode(&seal(body)).expect_err("refused");
            assert!(fits(&error), "{error}");
        }
        let newer = VERSION + 1;
        check(
            &format!("souk storage\nversion = {newer}\nengine = fjall\n"),
            |error| matches!(error, OpenError::Newer { found, .. } if *found == VERSION + 1),
        );
        check("souk storage\nversion = 1\nengine = sled\n", |error| {
            let sled = EngineKind::Sled;
            matches!(error, OpenError::OtherEngine { found, .. } if *found == sled)
        });
        let is_format = |error: &OpenError| matches!(error, OpenError::Format { .. });
        check("souk storage\nversion = 0\nengine = fjall\n", is_format);
        check("souk storage\nversion = 2\nengine = fjall\n", is_format);
        check("souk storage\nengine = fjall\n", is_format);
    }
}

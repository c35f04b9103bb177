//! Fills the shop before it opens: the catalogue, and the baskets to learn from.
//!
//! What was loaded is written down in the data directory, so that the same file is not loaded again at
//! the next start. A file counts as the same while its path, length and time of change are.
//!
//! Invariants: 1. a file is written down only after all of it was loaded. 2. an import is idempotent,
//! so a crash in between, or a lost note, costs time and nothing else.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use souk_commerce_api::import::ImportError;
use souk_kv_client::{BearerFiles, Client, ClientError, ClientOptions};

use crate::import::{self, CatalogOptions, Kind};
use crate::show;

/// Notes of what was loaded, below the data directory.
const NOTES_FILE: &str = "loaded.json";
/// Products of the generated catalogue.
const SAMPLE_PRODUCTS: usize = 300;
/// Fixed, so that the sample is the same on every machine.
const SAMPLE_SEED: u64 = 1;

/// Why the shop could not be filled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// A file of the data directory cannot be written, or a file to load cannot be looked at.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The nodes that were just started do not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The import itself failed.
    #[error(transparent)]
    Import(#[from] ImportError),
}

/// What the command line names.
#[derive(Debug, Clone)]
pub(crate) struct Load<'a> {
    /// Products.
    pub(crate) catalog: Option<&'a Path>,
    /// Past baskets.
    pub(crate) baskets: Option<&'a Path>,
    /// Who loads, in a cluster that asks for certificates.
    pub(crate) operator: Option<BearerFiles>,
}

impl Load<'_> {
    /// Loads what is named and was not loaded before; without a catalogue ever, the sample.
    ///
    /// # Errors
    /// When a file cannot be read or the store refuses.
    pub(crate) async fn run(&self, endpoints: &[String], home: &Path) -> Result<(), LoadError> {
        let mut notes = Notes::open(&home.join(NOTES_FILE));
        let mut wanted = Vec::new();
        match self.catalog {
            Some(file) => wanted.push((Note::of(Kind::Catalog, file)?, Source::File(file))),
            None if notes.has_any(Kind::Catalog) => {}
            None => wanted.push((Note::of_sample(), Source::Sample)),
        }
        if let Some(file) = self.baskets {
            wanted.push((Note::of(Kind::Baskets, file)?, Source::File(file)));
        }
        let is_new = |(note, _): &(Note, Source<'_>)| !notes.list.contains(note);
        let (wanted, before): (Vec<_>, Vec<_>) = wanted.into_iter().partition(is_new);
        for (note, _) in before {
            show::note(format_args!("{} was loaded before", note.path.display()));
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let client = Client::connect(ClientOptions {
            certificates: self.operator.clone(),
            ..ClientOptions::new(endpoints)
        });
        let client = client.await?;
        for (note, source) in wanted {
            source.load(note.kind, &client).await?;
            notes.add(note)?;
        }
        Ok(())
    }
}

/// Where something to load comes from.
enum Source<'a> {
    File(&'a Path),
    Sample,
}

impl Source<'_> {
    async fn load(&self, kind: Kind, client: &Client) -> Result<(), ImportError> {
        let options = CatalogOptions::default();
        match self {
            Self::File(file) => import::load(kind, file, client, &options).await?,
            Self::Sample => {
                import::load_sample(SAMPLE_SEED, SAMPLE_PRODUCTS, client, &options).await?
            }
        };
        Ok(())
    }
}

/// One file that was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    kind: Kind,
    path: PathBuf,
    file_bytes: u64,
    changed_unix_ms: u64,
}

impl Note {
    fn of_sample() -> Self {
        let path = format!("sample of {SAMPLE_PRODUCTS} products").into();
        Self {
            kind: Kind::Catalog,
            path,
            file_bytes: 0,
            changed_unix_ms: 0,
        }
    }

    fn of(kind: Kind, file: &Path) -> Result<Self, LoadError> {
        let look = || -> std::io::Result<Self> {
            let metadata = std::fs::metadata(file)?;
            let changed = metadata
                .modified()?
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            Ok(Self {
                kind,
                path: file.canonicalize()?,
                file_bytes: metadata.len(),
                changed_unix_ms: u64::try_from(changed.as_millis()).unwrap_or(u64::MAX),
            })
        };
        look().map_err(|source| LoadError::File {
            path: file.to_owned(),
            source,
        })
    }
}

/// All files that were loaded into the cluster of one data directory.
#[derive(Debug)]
struct Notes {
    path: PathBuf,
    list: Vec<Note>,
}

impl Notes {
    /// Notes that are missing or unreadable count as none, which only costs time.
    fn open(path: &Path) -> Self {
        let text = std::fs::read(path).unwrap_or_default();
        Self {
            path: path.to_owned(),
            list: serde_json::from_slice(&text).unwrap_or_default(),
        }
    }

    fn has_any(&self, kind: Kind) -> bool {
        self.list.iter().any(|note| note.kind == kind)
    }

    fn add(&mut self, note: Note) -> Result<(), LoadError> {
        self.list.push(note);
        let text = serde_json::to_vec_pretty(&self.list).map_err(std::io::Error::from);
        let written = text.and_then(|text| std::fs::write(&self.path, text));
        written.map_err(|source| LoadError::File {
            path: self.path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_counts_as_loaded_until_it_changes() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("products.jsonl");
        std::fs::write(&file, "{}\n").unwrap();
        let notes = home.path().join(NOTES_FILE);
        Notes::open(&notes)
            .add(Note::of(Kind::Catalog, &file).unwrap())
            .unwrap();

        let opened = Notes::open(&notes);
        assert!(opened.has_any(Kind::Catalog) && !opened.has_any(Kind::Baskets));
        assert!(
            opened
                .list
                .contains(&Note::of(Kind::Catalog, &file).unwrap())
        );
        assert!(
            !opened
                .list
                .contains(&Note::of(Kind::Baskets, &file).unwrap())
        );
        std::fs::write(&file, "{}\n{}\n").unwrap();
        assert!(
            !opened
                .list
                .contains(&Note::of(Kind::Catalog, &file).unwrap())
        );
    }

    #[test]
    fn damaged_notes_count_as_none() {
        let home = tempfile::tempdir().unwrap();
        let notes = home.path().join(NOTES_FILE);
        std::fs::write(&notes, "[{").unwrap();
        assert!(!Notes::open(&notes).has_any(Kind::Catalog));
    }
}

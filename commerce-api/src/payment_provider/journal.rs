//! Keeps the book on disk: one JSON object a line, appended and synced before anything is answered.
//!
//! Shape: every line is a whole payment; the last line of an id counts.
//! Invariants: 1. what [`Journal::append`] returned from survives a crash. 2. a torn last line, the mark of a crash
//! while appending, is cut off; a broken line elsewhere is an error, because something else went wrong.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use super::book::{Book, Payment};

/// The open file.
pub(super) struct Journal {
    file: File,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// What: the file system refuses. Mend: check the path, its permissions and the free space.
    #[error("cannot use {path}; check the path, its permissions and the free space")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What: a line in the middle is no payment. Mend: restore the file from a copy, or remove that line.
    #[error(
        "line {line} of {path} is no payment; restore the file from a copy or remove that line"
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
}

impl Journal {
    /// Opens or makes the file, and reads every payment in it.
    pub(super) fn open(path: &Path) -> Result<(Self, Book), JournalError> {
        let fail = |source| JournalError::File {
            path: path.to_owned(),
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(fail)?;
        let (book, whole_bytes) = read_all(&file, path)?;
        file.set_len(whole_bytes).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        // The file's name is durable only when its directory is.
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            File::open(parent)
                .and_then(|directory| directory.sync_all())
                .map_err(fail)?;
        }
        Ok((Self { file }, book))
    }

    /// Appends one payment and syncs it.
    pub(super) fn append(&mut self, payment: &Payment) -> io::Result<()> {
        let mut line = serde_json::to_vec(payment)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.file.sync_data()
    }
}

/// Every payment, and how many bytes the whole lines have.
fn read_all(file: &File, path: &Path) -> Result<(Book, u64), JournalError> {
    let mut reader = BufReader::new(file);
    let mut book = Book::default();
    let (mut whole_bytes, mut number) = (0, 0);
    loop {
        let mut line = Vec::new();
        let read = reader
            .read_until(b'\n', &mut line)
            .map_err(|source| JournalError::File {
                path: path.to_owned(),
                source,
            })?;
        // A line without its end was never answered for: the crash came first.
        if read == 0 || line.last() != Some(&b'\n') {
            return Ok((book, whole_bytes));
        }
        number += 1;
        let payment = serde_json::from_slice(&line).map_err(|_| JournalError::Broken {
            path: path.to_owned(),
            line: number,
        })?;
        book.restore(payment);
        whole_bytes += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::money::{Currency, Money};

    fn payment(number: u128) -> Payment {
        Book::default()
            .authorise(
                Uuid::from_u128(number),
                &number.to_string(),
                Money::new(5, Currency::USD),
                "tok_ok",
            )
            .unwrap()
    }

    #[test]
    fn remembers_across_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("payments.jsonl");
        let (mut journal, mut book) = Journal::open(&path).unwrap();
        for number in 1..=3 {
            journal.append(&payment(number)).unwrap();
        }
        book.restore(payment(2));
        let captured = book.capture(Uuid::from_u128(2)).unwrap();
        journal.append(&captured).unwrap();
        drop(journal);
        let (_, book) = Journal::open(&path).unwrap();
        assert_eq!(book.all().count(), 3);
        assert_eq!(book.get(Uuid::from_u128(2)).unwrap(), &captured);
    }

    #[test]
    fn cuts_off_a_torn_line_and_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("payments.jsonl");
        Journal::open(&path).unwrap().0.append(&payment(1)).unwrap();
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"id\":\"tor")
            .unwrap();
        let (mut journal, book) = Journal::open(&path).unwrap();
        assert_eq!(book.all().count(), 1);
        journal.append(&payment(2)).unwrap();
        assert_eq!(Journal::open(&path).unwrap().1.all().count(), 2);
    }

    #[test]
    fn refuses_a_broken_line_in_the_middle() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("payments.jsonl");
        std::fs::write(&path, b"rubbish\n").unwrap();
        assert!(matches!(
            Journal::open(&path),
            Err(JournalError::Broken { line: 1, .. })
        ));
    }
}

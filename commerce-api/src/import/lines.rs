//! Opens a file for reading line by line, gzip or plain.
//!
//! Shape: gzip is known by its first two bytes, never by the file's name.
//! Invariants: 1. a line longer than [`LINE_BYTES_MAX`] is an error for that line, not memory without bound.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::report::ImportError;

/// The longest line, in bytes: half of what the store takes as one value, so that a product made of it fits.
pub(super) const LINE_BYTES_MAX: usize = 1 << 19;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The bytes of the file, unpacked.
pub(super) fn open(path: &Path) -> Result<Box<dyn BufRead + Send>, ImportError> {
    let unreadable = |source| ImportError::File {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut file = BufReader::new(file);
    let is_gzip = file
        .fill_buf()
        .map_err(unreadable)?
        .starts_with(&GZIP_MAGIC);
    Ok(if is_gzip {
        Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(file)))
    } else {
        Box::new(file)
    })
}

/// The next line without its end, `None` at the end of the file; a line that is too long or no UTF-8 is an
/// `Err` text, and reading goes on after it.
pub(super) fn next_line(
    reader: &mut (dyn BufRead + Send),
) -> io::Result<Option<Result<String, String>>> {
    let mut bytes = Vec::new();
    let read = reader
        .take(LINE_BYTES_MAX as u64 + 1)
        .read_until(b'\n', &mut bytes)?;
    if read == 0 {
        return Ok(None);
    }
    if bytes.last() != Some(&b'\n') && read > LINE_BYTES_MAX {
        skip_rest_of_line(reader)?;
        return Ok(Some(Err(format!(
            "the line is longer than {LINE_BYTES_MAX} bytes"
        ))));
    }
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(Some(
        String::from_utf8(bytes).map_err(|_| "the line is not UTF-8".to_owned()),
    ))
}

fn skip_rest_of_line(reader: &mut (dyn BufRead + Send)) -> io::Result<()> {
    loop {
        let available = reader.fill_buf()?;
        if available.is_empty() {
            return Ok(());
        }
        match available.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                reader.consume(end + 1);
                return Ok(());
            }
            None => {
                let length = available.len();
                reader.consume(length);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;

    fn all(bytes: &[u8]) -> Vec<Result<String, String>> {
        let mut reader = Cursor::new(bytes.to_vec());
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut reader).unwrap() {
            lines.push(line);
        }
        lines
    }

    #[test]
    fn reads_lines_with_either_end() {
        assert_eq!(
            all(b"a\r\nb\n\nc"),
            ["a", "b", "", "c"].map(|line| Ok(line.to_owned()))
        );
    }

    #[test]
    fn goes_on_after_a_bad_line() {
        let mut bytes = vec![b'x'; LINE_BYTES_MAX + 5];
        bytes.extend(b"\n\xff\xfe\nfine\n");
        let lines = all(&bytes);
        assert!(lines[0].as_ref().unwrap_err().contains("longer than"));
        assert!(lines[1].as_ref().unwrap_err().contains("UTF-8"));
        assert_eq!(lines[2], Ok("fine".to_owned()));
    }

    #[test]
    fn knows_gzip_by_its_bytes() {
        let directory = tempfile::tempdir().unwrap();
        for (name, packed) in [("plain.gz", false), ("packed.txt", true)] {
            let path = directory.path().join(name);
            let mut bytes = b"hello\n".to_vec();
            if packed {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
                encoder.write_all(&bytes).unwrap();
                bytes = encoder.finish().unwrap();
            }
            std::fs::write(&path, bytes).unwrap();
            let mut text = String::new();
            open(&path).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "hello\n", "{name}");
        }
    }
}

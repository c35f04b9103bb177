//! Tools of the system, run to their ends.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::HarnessError;

/// Searched behind `PATH`, which for some users lacks them.
const MORE_FOLDERS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Where a program lies, if it does.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(MORE_FOLDERS.iter().map(PathBuf::from));
    folders
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Runs a command line, split at spaces; returns what it printed.
pub(super) fn run(line: &str) -> Result<String, HarnessError> {
    let words: Vec<&str> = line.split_whitespace().collect();
    run_words(&words, "")
}

/// Runs words as they are, with something to read.
pub(super) fn run_words(words: &[&str], input: &str) -> Result<String, HarnessError> {
    let failed = |output: String| HarnessError::Tool {
        command: words.join(" "),
        output,
    };
    let Some((program, arguments)) = words.split_first() else {
        return Err(failed("it names no program".to_owned()));
    };
    let found = find(program).ok_or_else(|| failed(format!("there is no `{program}`")))?;
    let io = |problem: std::io::Error| failed(problem.to_string());
    let mut child = Command::new(found)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(io)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read what it is given says by its status what it thinks of it.
        stdin.write_all(input.as_bytes()).ok();
    }
    let output = child.wait_with_output().map_err(io)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("{} {}", output.status, said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A file of the system, as text.
pub(super) fn read(path: &Path) -> Result<String, HarnessError> {
    std::fs::read_to_string(path).map_err(HarnessError::file(path))
}

/// Writes a file of the system, such as one of a control group.
pub(super) fn write(path: &Path, text: &str) -> Result<(), HarnessError> {
    std::fs::write(path, text).map_err(HarnessError::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tool_says_is_told() {
        assert_eq!(run("echo two words").unwrap(), "two words\n");
        assert_eq!(run_words(&["cat"], "given").unwrap(), "given");
        let missing = run("no-such-tool-at-all").unwrap_err().to_string();
        assert!(missing.contains("no-such-tool-at-all"), "{missing}");
        let failed = run("ls /no/such/folder").unwrap_err().to_string();
        assert!(failed.contains("/no/such/folder"), "{failed}");
    }
}

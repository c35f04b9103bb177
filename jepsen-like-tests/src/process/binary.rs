//! Finds the `souk` binary that belongs to the running test, building it first.
//!
//! A test lies in `target/PROFILE/deps`, a binary in `target/PROFILE`; the `souk` of the same build lies
//! beside them. One that is older than any source file is built anew, so that a test never judges
//! yesterday's store; one that the same `cargo test --workspace` has just built is taken as it is, because
//! building one package alone unites other features and would build most of the workspace again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

use super::HarnessError;

/// Names the binary to use, instead of building one.
const BINARY_VARIABLE: &str = "SOUK_BINARY";

/// The `souk` binary; built once per process.
///
/// # Errors
/// When it cannot be built or found.
pub fn souk_binary() -> Result<PathBuf, HarnessError> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| match std::env::var_os(BINARY_VARIABLE) {
        Some(named) => existing(PathBuf::from(named)),
        None => build(),
    });
    found
        .clone()
        .map_err(|what| HarnessError::NoBinary { what })
}

fn existing(path: PathBuf) -> Result<PathBuf, String> {
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("{} is no file", path.display()))
    }
}

fn build() -> Result<PathBuf, String> {
    let test = std::env::current_exe().map_err(|problem| problem.to_string())?;
    let (target, profile) =
        build_of(&test).ok_or_else(|| format!("{} is in no target folder", test.display()))?;
    let binary = target.join(&profile).join("souk");
    if is_newer_than_sources(&binary) {
        return Ok(binary);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--package", "souk-cli", "--bin", "souk"])
        .args(["--profile", profile_name(&profile), "--target-dir"])
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .map_err(|problem| format!("cargo does not run: {problem}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("building it failed:\n{said}"));
    }
    existing(binary)
}

/// Whether a file was made after every source file of the workspace; false when that cannot be told.
fn is_newer_than_sources(binary: &Path) -> bool {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let made = binary.metadata().and_then(|found| found.modified());
    match (workspace, made) {
        (Some(workspace), Ok(made)) => newest_source(workspace).is_some_and(|newest| newest < made),
        _ => false,
    }
}

/// When the newest source file below a folder was changed.
fn newest_source(folder: &Path) -> Option<SystemTime> {
    let mut newest = None;
    for entry in folder.read_dir().ok()?.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        let found = if path.is_dir() {
            // Only the workspace's own folders: what was built lies in `target`.
            (!is_hidden && name != "target")
                .then(|| newest_source(&path))
                .flatten()
        } else {
            let is_source = path.extension().is_some_and(|ending| {
                ["rs", "toml", "lock", "proto"]
                    .iter()
                    .any(|source| ending == *source)
            });
            is_source
                .then(|| entry.metadata().ok()?.modified().ok())
                .flatten()
        };
        newest = newest.max(found);
    }
    newest
}

/// The target folder and the profile's folder in it.
fn build_of(test: &Path) -> Option<(PathBuf, String)> {
    let folder = test.parent()?;
    let folder = if folder.ends_with("deps") {
        folder.parent()?
    } else {
        folder
    };
    let profile = folder.file_name()?.to_str()?.to_owned();
    Some((folder.parent()?.to_owned(), profile))
}

fn profile_name(folder: &str) -> &str {
    if folder == "debug" { "dev" } else { folder }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_counts_as_current_only_behind_every_source() {
        let workspace = tempfile::tempdir().unwrap();
        let at = |path: &str, age_s: u64| {
            let path = workspace.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = std::fs::File::create(path).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 - age_s);
            file.set_modified(time).unwrap();
            time
        };
        let source = at("room/src/lib.rs", 50);
        at("room/notes.txt", 10);
        at("target/debug/build/made.rs", 5);
        at(".git/hook.rs", 5);
        assert_eq!(newest_source(workspace.path()), Some(source));
        let newer = at("room/proto/kv.proto", 20);
        assert_eq!(newest_source(workspace.path()), Some(newer));
    }

    #[test]
    fn the_build_of_a_test_is_found() {
        let check = |path: &str, target: &str, profile: &str| {
            let found = build_of(Path::new(path)).unwrap();
            assert_eq!(found, (PathBuf::from(target), profile.to_owned()));
        };
        check("/t/debug/deps/chaos-1", "/t", "debug");
        check("/t/release/souk-jepsen", "/t", "release");
        assert_eq!(profile_name("debug"), "dev");
        assert_eq!(profile_name("release"), "release");
    }
}

//! Finds the `souk` binary that belongs to the running test, building it first.
//!
//! A test lies in `target/PROFILE/deps`, a binary in `target/PROFILE`; the `souk` of the same build lies
//! beside them. It is built anew each time, so that a test never judges yesterday's store.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

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
    existing(target.join(profile).join("souk"))
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

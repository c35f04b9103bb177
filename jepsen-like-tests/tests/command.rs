//! The `souk-jepsen` command: what it judges, how it says so, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const VALID: i32 = 0;
const INVALID: i32 = 1;
const FAILED: i32 = 2;
const UNKNOWN: i32 = 3;

fn souk_jepsen(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_souk-jepsen"));
    command
        .args(arguments)
        .env_remove("SOUK_SEED")
        .output()
        .unwrap()
}

fn file(lines: &[&str]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for line in lines {
        writeln!(file, "{line}").unwrap();
    }
    file
}

/// Judges lines; returns what was printed, on both streams.
fn check(model: &str, lines: &[&str], expected: i32) -> String {
    let file = file(lines);
    let path = file.path().to_str().unwrap();
    let output = souk_jepsen(&["check", "--model", model, path]);
    let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
    printed.push_str(&String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(expected), "{printed}");
    printed
}

const WRITE: [&str; 2] = [
    r#"{"process":0,"type":"invoke","f":"write","value":1,"time":1,"index":0}"#,
    r#"{"process":0,"type":"ok","f":"write","value":1,"time":2,"index":1}"#,
];
const ASK: &str = r#"{"process":1,"type":"invoke","f":"read","value":null,"time":3,"index":2}"#;

#[test]
fn histories_are_judged_by_exit_code() {
    let read =
        |value: &str| format!(r#"{{"process":1,"type":"ok","f":"read","value":{value},"time":4}}"#);
    check(
        "cas-register",
        &[WRITE[0], WRITE[1], ASK, &read("1")],
        VALID,
    );
    let printed = check(
        "cas-register",
        &[WRITE[0], WRITE[1], ASK, &read("2")],
        INVALID,
    );
    assert!(
        printed.contains("process 1: read null -> ok 2"),
        "{printed}"
    );
    check("cas-register", &[], UNKNOWN);
    check("stock", &[], UNKNOWN);
    // A model that does not know the operations judges nothing.
    let printed = check("orders", &WRITE, UNKNOWN);
    assert!(printed.contains("expected"), "{printed}");
}

#[test]
fn what_is_no_history_is_refused() {
    let printed = check("set", &[WRITE[0], "{}"], FAILED);
    assert!(printed.contains("line 2"), "{printed}");
    let printed = check("set", &[WRITE[1]], FAILED);
    assert!(printed.contains("did not ask"), "{printed}");
    let output = souk_jepsen(&["check", "--model", "set", "/nowhere/at/all"]);
    assert_eq!(output.status.code(), Some(FAILED));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/at/all"));
}

#[test]
fn results_are_json_when_asked() {
    let file = file(&WRITE);
    let path = file.path().to_str().unwrap();
    let output = souk_jepsen(&["check", "--model", "cas-register", "--json", path]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["valid"], true, "{report}");
    assert_eq!(report["counts"]["ok"], 1, "{report}");
}

#[test]
fn everything_there_is_is_listed() {
    let printed = souk_jepsen(&["list"]).stdout;
    let printed = String::from_utf8(printed).unwrap();
    for name in [
        "register",
        "shop-cart",
        "kill-majority",
        "pause-one",
        "versioned-map",
    ] {
        assert!(printed.contains(name), "{name} is not in {printed}");
    }
    let all: Value = serde_json::from_slice(&souk_jepsen(&["list", "--json"]).stdout).unwrap();
    assert!(all["workloads"].as_array().unwrap().len() >= 5, "{all}");
}

#[test]
fn a_run_that_cannot_be_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let refuse = |more: &[&str], out: &Path, expected: &str| {
        let mut arguments = vec!["run", "--out", out.to_str().unwrap()];
        arguments.extend(more);
        let output = souk_jepsen(&arguments);
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(FAILED), "{printed}");
        assert!(printed.contains(expected), "{printed}");
    };
    let cart = ["--workload", "cart"];
    refuse(&[cart[0], cart[1]], &out, "--real");
    refuse(
        &["--real", "--workload", "meteor"],
        &out,
        "the workloads are register, register-hot",
    );
    refuse(
        &["--real", cart[0], cart[1], "--fault", "meteor"],
        &out,
        "the faults are none, kill-one",
    );
    refuse(
        &["--real", cart[0], cart[1], "--time", "0"],
        &out,
        "--time 0",
    );
    refuse(
        &["--real", cart[0], cart[1]],
        folder.path().parent().unwrap(),
        "is not empty",
    );
}

#[test]
fn every_command_has_an_example() {
    for command in [
        "run", "replay", "shrink", "matrix", "ci-full", "nightly", "churn", "mutants", "check",
        "list",
    ] {
        let printed = souk_jepsen(&[command, "--help"]).stdout;
        let printed = String::from_utf8(printed).unwrap();
        assert!(printed.contains("Example:"), "{printed}");
    }
}

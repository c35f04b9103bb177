//! Help, configuration errors and exit codes: everything that needs no running cluster.

#![allow(
    clippy::unwrap_used,
    reason = "a helper that fails here fails its test"
)]

mod support;

use std::net::TcpListener;

use support::{Place, run, souk};

/// Every command that does something, found by walking the help itself.
fn commands() -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut open = vec![Vec::new()];
    while let Some(command) = open.pop() {
        let help = help(&command);
        let listed = help
            .split_once("\nCommands:\n")
            .map_or("", |(_, rest)| rest);
        for line in listed.lines().take_while(|line| !line.is_empty()) {
            let name = line.split_whitespace().next().unwrap();
            if line.starts_with("  ") && !line.starts_with("   ") && name != "help" {
                open.push([&command[..], &[name.to_owned()]].concat());
            }
        }
        found.push(command);
    }
    found
}

fn help(command: &[String]) -> String {
    let output = souk().args(command).arg("--help").output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_help_has_an_example_and_says_what_the_command_is_for() {
    let commands = commands();
    let names: Vec<String> = commands.iter().map(|command| command.join(" ")).collect();
    for wanted in [
        "up",
        "node",
        "shop",
        "payment-provider",
        "kv get",
        "kv put",
        "kv delete",
        "kv scan",
        "kv cas",
        "admin status",
        "admin bucket create",
        "admin bucket list",
        "admin bucket show",
        "admin endpoints",
        "admin hints",
        "admin register show",
        "import catalog",
        "import baskets",
        "bench",
        "config check",
    ] {
        assert!(
            names.iter().any(|name| name == wanted),
            "{wanted} is not among {names:?}"
        );
    }
    for command in &commands {
        let help = help(command);
        let name = format!("souk {}", command.join(" "));
        let example = help
            .split_once("Example:")
            .map_or("", |(_, example)| example);
        assert!(
            example.contains(name.trim_end()),
            "no example of `{name}` in\n{help}"
        );
        assert!(
            help.lines().next().is_some_and(|about| about.len() > 10),
            "{name} does not say what it is for"
        );
    }
}

#[test]
fn exit_codes_are_documented() {
    run(&["--help"]).holds(
        0,
        &[
            "0  done",
            "1  failed",
            "2  wrong usage",
            "3  the outcome",
            "4  not found",
            "5  a condition",
        ],
    );
}

fn check_config(text: &str, parts: &[&str]) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("cluster.toml");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    for command in [
        &["config", "check", file][..],
        &["up", "--ephemeral", "--config", file],
        &["node", "--name", "n1", "--config", file],
    ] {
        run(command).holds(2, parts);
    }
}

const NODE: &str = "[[node]]\nname = \"n1\"\ngrpc = \"127.0.0.1:1\"\nhttp = \"127.0.0.1:2\"\n";

#[test]
fn a_bad_cluster_file_is_shown_with_line_key_and_mend() {
    check_config(
        &format!("{NODE}[limits]\nrequest_timout_ms = 5\n"),
        &[
            "line 6",
            "limits.request_timout_ms",
            "did you mean `request_timeout_ms`?",
        ],
    );
    check_config(&format!("{NODE}[limits\n"), &["line 5", "not valid TOML"]);
    check_config(
        &format!("{NODE}[limits]\nvalue_bytes_max = \"1 MiB\"\n"),
        &["line 6", "limits.value_bytes_max", "a whole number"],
    );
    check_config("", &["no node is named", "[[node]]"]);
}

#[test]
fn an_address_that_others_can_reach_is_refused() {
    let open = NODE.replace("127.0.0.1:1", "0.0.0.0:1");
    check_config(
        &open,
        &["line 3", "node.grpc", "souk cert", "insecure = true"],
    );
}

#[test]
fn a_file_that_is_missing_is_named() {
    run(&["config", "check", "/nowhere/cluster.toml"]).holds(2, &["/nowhere/cluster.toml"]);
    run(&["import", "catalog"]).holds(2, &["<FILE>"]);
}

#[test]
fn the_builtin_cluster_can_be_shown_and_checked() {
    let home = tempfile::tempdir().unwrap();
    let shown = souk()
        .args(["config", "show"])
        .current_dir(home.path())
        .output()
        .unwrap();
    let file = home.path().join("cluster.toml");
    std::fs::write(&file, &shown.stdout).unwrap();
    let checked = run(&["config", "check", "--json", file.to_str().unwrap()]);
    assert_eq!(checked.holds(0, &[]).json()["nodes"][2]["name"], "n3");
}

#[test]
fn an_unknown_node_is_told_the_known_ones() {
    let place = Place::new(2);
    place
        .run(&["node", "--name", "n7"])
        .holds(2, &["n7", "n1, n2"]);
}

#[test]
fn more_nodes_than_the_file_names_are_refused() {
    let place = Place::new(2);
    place
        .run(&["up", "--ephemeral", "--nodes", "3"])
        .holds(2, &["names 2 nodes, 3 were asked for", "[[node]]"]);
}

#[test]
fn a_port_in_use_names_who_needs_it_and_the_key() {
    let place = Place::new(2);
    let taken = TcpListener::bind(("127.0.0.1", place.http[1])).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = place.run(&["up", "--ephemeral", "--no-shop"]);
    said.holds(
        1,
        &[
            &address,
            "in use",
            "n2 needs it",
            "`http of n2`",
            place.file.to_str().unwrap(),
        ],
    );
}

#[test]
fn nobody_answering_is_a_failure_with_a_hint() {
    let place = Place::new(1);
    place
        .run(&["kv", "get", "notes", "greeting"])
        .holds(1, &["127.0.0.1", "check the addresses"]);
}

#[test]
fn a_version_that_is_no_base64_is_refused_before_anybody_is_asked() {
    let place = Place::new(1);
    place
        .run(&[
            "kv",
            "cas",
            "seats",
            "12A",
            "--if-version",
            "!",
            "--value",
            "x",
        ])
        .holds(2, &["not a version"]);
    place
        .run(&["kv", "cas", "seats", "12A", "--value", "x"])
        .holds(2, &["--if-version"]);
    place
        .run(&["kv", "put", "notes", "0g", "--hex", "--value", "00"])
        .holds(2, &["not hexadecimal"]);
    place
        .run(&["kv", "put", "notes", "a"])
        .holds(2, &["--value", "--file"]);
    place
        .run(&[
            "bench",
            "--workload",
            "put",
            "--keys",
            "3",
            "--clients",
            "4",
        ])
        .holds(2, &["3 keys are too few"]);
}

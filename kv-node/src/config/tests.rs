use std::path::Path;

use proptest::prelude::*;

use super::*;

const NODE: &str = "[[node]]\nname = \"n1\"\ngrpc = \"127.0.0.1:1\"\nhttp = \"127.0.0.1:2\"\n";

fn parse(text: &str) -> Result<ClusterFile, ConfigError> {
    ClusterFile::parse(Path::new("cluster.toml"), text)
}

fn problems(text: &str) -> Vec<Problem> {
    match parse(text) {
        Err(ConfigError::Invalid(invalid)) => invalid.problems,
        other => panic!("expected problems, got {other:?}"),
    }
}

/// One problem: `line, key, what; mend`.
fn check(text: &str, expected: &str) {
    let problems = problems(text);
    let shown: Vec<String> = problems
        .iter()
        .map(|problem| format!("{problem}; {}", problem.fault.mend()))
        .collect();
    assert_eq!(shown.len(), 1, "{shown:#?}");
    assert!(
        shown[0].starts_with(expected),
        "{}\n does not begin with\n{expected}",
        shown[0]
    );
}

/// One problem in a line below a good node (so, line 6).
fn check_line(section: &str, line: &str, expected: &str) {
    check(&format!("{NODE}[{section}]\n{line}\n"), expected);
}

#[test]
fn the_committed_file_says_what_the_keys_say() {
    assert_eq!(ClusterFile::builtin_text(), ClusterFile::builtin().render());
}

#[test]
fn a_file_of_one_node_takes_every_default() {
    let file = parse(NODE).unwrap();
    let builtin = ClusterFile::builtin_with(1);
    assert_eq!(
        file,
        ClusterFile {
            nodes: file.nodes.clone(),
            ..builtin
        }
    );
    assert_eq!(
        (file.nodes[0].zone.as_str(), file.nodes[0].weight),
        ("a", 1)
    );
}

#[test]
fn more_nodes_than_the_file_names_go_on_with_the_ports() {
    let five = ClusterFile::builtin_with(5);
    let shown: Vec<String> = five
        .nodes
        .iter()
        .map(|node| format!("{} {} {}", node.name, node.grpc, node.http))
        .collect();
    assert_eq!(shown[4], "n5 127.0.0.1:7105 127.0.0.1:7205");
    assert_eq!(parse(&five.render()).unwrap(), five);
    assert_eq!(ClusterFile::builtin_with(2).nodes, five.nodes[..2]);
    assert_eq!(
        parse(&ClusterFile::builtin_with(99).render())
            .unwrap()
            .nodes
            .len(),
        99
    );
}

#[test]
fn names_of_keys_are_unique_and_stand_in_the_committed_file() {
    for (index, key) in keys::ALL.iter().enumerate() {
        let twin = keys::ALL[..index]
            .iter()
            .find(|other| (other.section(), other.name()) == (key.section(), key.name()));
        assert!(
            twin.is_none(),
            "{}.{} stands twice",
            key.section(),
            key.name()
        );
        let line = format!(
            "
{} = ",
            key.name()
        )
        .replace(
            "
engine", "engine",
        )
        .replace(
            "
certificates",
            "certificates",
        );
        assert!(ClusterFile::builtin_text().contains(&line), "{line}");
    }
}

#[test]
fn a_slip_in_a_key_is_shown_with_the_right_one() {
    check_line(
        "limits",
        "request_timout_ms = 5",
        "line 6, key limits.request_timout_ms: there is no key `request_timout_ms` in [limits]; did you mean `request_timeout_ms`?",
    );
    check_line(
        "limit",
        "x = 5",
        "line 5, key limit: there is no section [limit]; did you mean [limits]?",
    );
    check_line(
        "shop",
        "zzz = 5",
        "line 6, key shop.zzz: there is no key `zzz` in [shop]; the keys are listen, payment_provider, checkout_hold_ms, cart_hold_ms",
    );
    check_line(
        "storage",
        "engine = \"fjal\"",
        "line 6, key storage.engine: `fjal` is not known; did you mean \"fjall\"?",
    );
}

#[test]
fn values_outside_their_range_are_refused() {
    check_line(
        "limits",
        "request_timeout_ms = 9",
        "line 6, key limits.request_timeout_ms: 9 is out of range; write 10 to 60000 ms, for example the default 2000",
    );
    check_line(
        "limits",
        "request_timeout_ms = -1",
        "line 6, key limits.request_timeout_ms: -1 is out of range",
    );
    check_line(
        "limits",
        "request_timeout_ms = 99999999999999999999",
        "line 6, key limits.request_timeout_ms: 99999999999999999999 is out of range",
    );
    check_line(
        "cluster",
        "partitions_count = 100",
        "line 6, key cluster.partitions_count: 100 is out of range; write 1 to 65536 partitions, a power of two",
    );
    check_line(
        "failure_detection",
        "phi_threshold = 16.5",
        "line 6, key failure_detection.phi_threshold: 16.5 is out of range",
    );
    check_line(
        "failure_detection",
        "phi_threshold = nan",
        "line 6, key failure_detection.phi_threshold: nan is out of range",
    );
    check_line(
        "cluster",
        "id = \"Souk Dev\"",
        "line 6, key cluster.id: `Souk Dev` is not a name",
    );
}

#[test]
fn values_of_another_kind_are_refused() {
    check_line(
        "limits",
        "request_timeout_ms = \"2s\"",
        "line 6, key limits.request_timeout_ms: expected a whole number, found string",
    );
    check_line(
        "security",
        "insecure = 1",
        "line 6, key security.insecure: expected true or false, found integer",
    );
    check(
        "node = 3",
        "line 1, key node: expected a section in double brackets",
    );
    check(
        &format!("limits = 3\n{NODE}"),
        "line 1, key limits: expected a section with keys, found integer",
    );
}

#[test]
fn text_that_is_not_toml_names_its_line() {
    check(
        &format!("{NODE}[limits]\nrequest_timeout_ms 2000\n"),
        "line 6: not valid TOML: ",
    );
    check(
        &format!("{NODE}[limits]\nclock_skew_max_ms = 1\nclock_skew_max_ms = 2\n"),
        "line 7: not valid TOML: duplicate key",
    );
}

#[test]
fn nodes_are_complete_and_unique() {
    check(
        "",
        "line 1, key node: no node is named; add at least one [[node]]",
    );
    check(
        "[[node]]\nname = \"n1\"\ngrpc = \"127.0.0.1:1\"\n",
        "line 1, key node.http: `http` is missing; add a line such as `http = ",
    );
    let twin = NODE.replace(":1", ":3").replace(":2", ":4");
    check(
        &format!("{NODE}{twin}"),
        "line 6, key node.name: the name `n1` is taken by the node on line 2",
    );
    let other = NODE.replace("n1", "n2").replace(":2", ":4");
    check(
        &format!("{NODE}{other}"),
        "line 7, key node.grpc: the address 127.0.0.1:1 is taken by node.grpc on line 3",
    );
    let listens_as_node = format!("{NODE}[shop]\nlisten = \"127.0.0.1:2\"\n");
    check(
        &listens_as_node,
        "line 6, key shop.listen: the address 127.0.0.1:2 is taken by node.http on line 4",
    );
}

#[test]
fn reachable_addresses_need_a_word_of_consent() {
    let open = NODE.replace("127.0.0.1:1", "0.0.0.0:1");
    check(
        &open,
        "line 3, key node.grpc: 0.0.0.0:1 is not a loopback address, and no certificates are named; make certificates with `souk cert`",
    );
    let with_certificates = format!("{open}[security]\ncertificates = \"certs\"\n");
    let file = parse(&with_certificates).unwrap();
    assert_eq!(
        file.security.certificates.as_deref(),
        Some(Path::new("certs"))
    );
    check(
        &format!("{with_certificates}[shop]\npayment_provider = \"0.0.0.0:9\"\n"),
        "line 8, key shop.payment_provider: 0.0.0.0:9 is not a loopback address, and the simulated payment provider",
    );
    assert!(parse(&format!("{open}[security]\ninsecure = true\n")).is_ok());
}

#[test]
fn bounds_that_contradict_each_other_are_refused() {
    check_line(
        "limits",
        "value_bytes_max = 2_000_000\npeer_in_flight_bytes_max = 1_048_576",
        "line 7, key limits.peer_in_flight_bytes_max: 1048576 is less than limits.value_bytes_max (2000000); raise it to 2000000 or more",
    );
    check_line(
        "failure_detection",
        "heartbeat_ms = 2000",
        "line 5, key failure_detection.acceptable_pause_ms: 1000 is less than failure_detection.heartbeat_ms (2000)",
    );
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_lines() {
    let text =
        format!("{NODE}[limits]\nvalue_bytes_max = 0\n[shop]\nlisten = \"nowhere\"\n[storag]\n");
    let lines: Vec<usize> = problems(&text).iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [6, 8, 9]);
    let shown = parse(&text).unwrap_err().to_string();
    assert!(
        shown.starts_with("cluster.toml: 3 problems\n  line 6, key limits.value_bytes_max"),
        "{shown}"
    );
}

#[test]
fn spans_point_at_the_value() {
    let text = format!("{NODE}[limits]\nvalue_bytes_max = 0 # ä\n");
    let problem = &problems(&text)[0];
    assert_eq!(&text[problem.span.clone()], "0");
    assert_eq!((problem.line, problem.column), (6, 19));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = ClusterFile::load(Path::new("/nowhere/cluster.toml")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the cluster file /nowhere/cluster.toml"
    );
}

proptest! {
    #[test]
    fn what_was_rendered_reads_back_the_same(
        nodes_count in 1_u8..=99,
        timeout_ms in 10_u64..=60_000,
        phi in 1.0_f64..=16.0,
        insecure: bool,
        certificates in prop::option::of("[a-z/\"\\\\ .ä]{1,20}"),
        engine in prop::option::of(prop::sample::select(vec![EngineName::Fjall, EngineName::Sled, EngineName::Memory])),
    ) {
        let mut file = ClusterFile::builtin_with(nodes_count);
        file.limits.request_timeout = std::time::Duration::from_millis(timeout_ms);
        file.failure_detection.phi_threshold = phi;
        file.security.insecure = insecure;
        file.security.certificates = certificates.map(Into::into);
        file.nodes[0].engine = engine;
        prop_assert_eq!(parse(&file.render()).unwrap(), file);
    }

    /// Whatever the bytes, there is a file or a list of problems inside the text, and never a panic.
    #[test]
    fn no_text_makes_it_panic(noise in "[\\[\\]a-z=\"\\n0-9.# ä]{0,200}", cut in 0_usize..4000) {
        let text = ClusterFile::builtin_text();
        let cut = (0..=cut.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        for text in [noise.clone(), format!("{}{noise}{}", &text[..cut], &text[cut..])] {
            if let Err(ConfigError::Invalid(invalid)) = parse(&text) {
                prop_assert!(!invalid.problems.is_empty());
                prop_assert!(invalid.problems.iter().all(|problem| problem.span.end <= text.len()));
            }
        }
    }
}

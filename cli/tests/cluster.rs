//! Real nodes, started and asked through the command line.

#![allow(
    clippy::unwrap_used,
    reason = "a helper that fails here fails its test"
)]

mod support;

use support::{PATIENCE, Place, Running, http_get, pid_in, signal, wait_gone};

/// Starts the nodes of a cluster.
fn up_until_ready(place: &Place, more: &[&str]) -> Running {
    until_ready(place, &[&["up", "--no-shop"], more].concat())
}

/// `souk up` prints the word `ready` on a line of its own, after its table.
fn until_ready(place: &Place, arguments: &[&str]) -> Running {
    let mut running = place.start(arguments, "ready");
    while !running.before.lines().any(|line| line == "ready") {
        let more = running.read_until("ready");
        running.before += &more;
    }
    running
}

#[test]
fn values_survive_a_restart() {
    let place = Place::new(3);
    let data = place.data();
    let data = ["--data", data.to_str().unwrap()];
    let running = up_until_ready(&place, &data);

    place
        .run(&["admin", "bucket", "create", "notes"])
        .holds(0, &["notes created"]);
    place
        .run(&["admin", "bucket", "create", "notes"])
        .holds(0, &["was there already"]);
    place
        .run(&["admin", "bucket", "create", "notes", "--mode", "lww"])
        .holds(1, &["notes"]);
    place
        .run(&["kv", "put", "notes", "greeting", "--value", "hello"])
        .holds(0, &["copies", "context"]);
    place
        .run(&["kv", "get", "notes", "greeting"])
        .holds(0, &["hello", "text/plain"]);

    let (code, last) = running.terminate();
    assert_eq!(code, Some(0), "{last}");
    assert!(
        last.contains("n1 stopped") && last.contains("n3 stopped"),
        "{last}"
    );

    let running = up_until_ready(&place, &data);
    let said = place.run(&["kv", "get", "notes", "greeting", "--raw"]);
    assert_eq!((said.code, said.out.as_str()), (0, "hello"));
    assert_eq!(running.terminate().0, Some(0));
}

#[test]
fn replicas_are_compared_and_data_is_read_on_demand() {
    let place = Place::new(3);
    let running = up_until_ready(&place, &["--ephemeral"]);
    place
        .run(&["admin", "bucket", "create", "notes"])
        .holds(0, &[]);
    place
        .run(&["kv", "put", "notes", "greeting", "--value", "hello"])
        .holds(0, &["copies"]);
    place
        .run(&["admin", "repair"])
        .holds(0, &["partitions compared", "records sent"]);
    let compared = place
        .run(&["admin", "repair", "--bucket", "notes", "--json"])
        .json();
    // Three pairs of nodes, each once, in 16 partitions.
    assert_eq!(compared["vnodes_done"], 48);
    assert_eq!(compared["trees_differing"], 0);
    let read = place
        .run(&["admin", "scrub", "--node", "n2", "--json"])
        .json();
    assert_eq!(read["nodes"][0]["damaged"], 0);
    assert!(read["nodes"][0]["rows"].as_u64() > Some(0));
    place
        .run(&["admin", "repair", "--bucket", "nowhere"])
        .holds(1, &["souk admin bucket create nowhere"]);
    place
        .run(&["admin", "scrub", "--node", "n9"])
        .holds(1, &["there is no node `n9`"]);
    drop(running);
}

#[test]
fn siblings_contexts_rows_and_conditions_through_the_command_line() {
    let place = Place::new(3);
    let running = up_until_ready(&place, &["--ephemeral"]);

    place
        .run(&["admin", "bucket", "create", "notes"])
        .holds(0, &[]);
    place
        .run(&["kv", "get", "notes", "nothing"])
        .holds(4, &["notes/nothing was not found"]);
    place
        .run(&["kv", "get", "nowhere", "x"])
        .holds(4, &["souk admin bucket create nowhere"]);

    // Two writes that follow no read stand side by side, until one follows a read of both.
    place
        .run(&["kv", "put", "notes", "a", "--value", "one"])
        .holds(0, &[]);
    place
        .run(&["kv", "put", "notes", "a", "--value", "two"])
        .holds(0, &[]);
    let both = place.run(&["kv", "get", "notes", "a", "--json"]).json();
    assert_eq!(both["values"].as_array().unwrap().len(), 2, "{both}");
    place
        .run(&["kv", "get", "notes", "a", "--raw"])
        .holds(1, &["2 concurrent values"]);
    let context = both["context"].as_str().unwrap();
    place
        .run(&[
            "kv",
            "put",
            "notes",
            "a",
            "--value",
            "three",
            "--context",
            context,
        ])
        .holds(0, &[]);
    place
        .run(&["kv", "put", "notes", "a", "--value", "four", "--replace"])
        .holds(0, &[]);
    assert_eq!(place.run(&["kv", "get", "notes", "a", "--raw"]).out, "four");
    place.run(&["kv", "delete", "notes", "a"]).holds(0, &[]);
    place.run(&["kv", "get", "notes", "a"]).holds(4, &[]);

    for row in ["3", "1", "2"] {
        place
            .run(&[
                "kv",
                "put",
                "notes",
                "diary",
                row,
                "--value",
                &format!("day {row}"),
            ])
            .holds(0, &[]);
    }
    assert_eq!(
        place.run(&["kv", "scan", "notes", "diary"]).out,
        "1\tday 1\n2\tday 2\n3\tday 3\n"
    );
    place
        .run(&["kv", "scan", "notes", "diary", "--reverse", "--limit", "1"])
        .holds(0, &["3\tday 3", "there are more"]);
    place
        .run(&["kv", "put", "notes", "00ff", "--hex", "--value", "fe00"])
        .holds(0, &[]);
    place
        .run(&["kv", "get", "notes", "00ff", "--hex"])
        .holds(0, &["fe00"]);

    place
        .run(&["admin", "bucket", "create", "seats", "--mode", "register"])
        .holds(0, &[]);
    let first = place
        .run(&[
            "kv",
            "cas",
            "seats",
            "12A",
            "--if-absent",
            "--value",
            "alice",
            "--json",
        ])
        .json();
    assert_eq!(first["applied"], true);
    place
        .run(&["kv", "cas", "seats", "12A", "--if-absent", "--value", "bob"])
        .holds(5, &["alice", "did not hold"]);
    let version = first["version"].as_str().unwrap();
    place
        .run(&[
            "kv",
            "cas",
            "seats",
            "12A",
            "--if-version",
            version,
            "--value",
            "carol",
        ])
        .holds(0, &["applied"]);
    place
        .run(&[
            "kv",
            "cas",
            "seats",
            "12A",
            "--if-version",
            version,
            "--delete",
        ])
        .holds(5, &["carol"]);
    place
        .run(&["kv", "put", "seats", "12A", "--value", "x"])
        .holds(2, &["register"]);

    admin_shows_the_cluster(&place);
    bench_counts_what_it_does(&place);
    assert_eq!(running.terminate().0, Some(0));
}

fn admin_shows_the_cluster(place: &Place) {
    let status = place.run(&["admin", "status", "--json"]).json();
    assert_eq!(
        (&status["cluster"], &status["ready"]),
        (&"test".into(), &true.into())
    );
    assert_eq!(status["nodes"].as_array().unwrap().len(), 3);
    place
        .run(&["admin", "status", "--node", "n2"])
        .holds(0, &["as seen by n2", "ready"]);
    place
        .run(&["admin", "status", "--node", "n9"])
        .holds(2, &["n9"]);
    place
        .run(&["admin", "bucket", "list"])
        .holds(0, &["notes  ", "siblings", "seats", "register"]);
    place
        .run(&["admin", "bucket", "show", "seats"])
        .holds(0, &["replicas_n", "register"]);
    place
        .run(&["admin", "bucket", "show", "nowhere"])
        .holds(4, &["bucket nowhere"]);
    let endpoints = place
        .run(&["admin", "endpoints", "notes", "a", "--json"])
        .json();
    assert_eq!(endpoints["primaries"].as_array().unwrap().len(), 3);
    place.run(&["admin", "hints"]).holds(0, &["no hints"]);
    let group = place
        .run(&["admin", "register", "show", "seats", "12A", "--json"])
        .json();
    assert_eq!(group["acceptors"].as_array().unwrap().len(), 3);
}

fn bench_counts_what_it_does(place: &Place) {
    for workload in [
        "get",
        "put",
        "put-batch",
        "ycsb-a",
        "ycsb-b",
        "cas-spread",
        "cas-hot",
        "reserve-hot",
    ] {
        let short = [
            "--time",
            "1",
            "--warm-up",
            "0",
            "--clients",
            "4",
            "--keys",
            "40",
        ];
        let arguments = [&["bench", workload, "--json"], &short[..]].concat();
        let report = place.run(&arguments).json();
        assert_eq!(
            (&report["workload"], &report["clients"]),
            (&workload.into(), &4.into())
        );
        assert!(report["ops"].as_u64().unwrap() > 0, "{report}");
        assert_eq!(
            (&report["errors"], &report["unknown"]),
            (&0.into(), &0.into()),
            "{report}"
        );
    }
    place
        .run(&[
            "bench",
            "--workload",
            "get",
            "--time",
            "1",
            "--warm-up",
            "0",
        ])
        .holds(0, &["ops/s", "p99.9 ms", "unknown"]);
    // More reservations than units: the stocks are sold out one after another, and counted.
    place
        .run(&[
            "bench",
            "reserve-hot",
            "--units",
            "3",
            "--holds",
            "20",
            "--clients",
            "8",
            "--time",
            "1",
            "--warm-up",
            "0",
        ])
        .holds(0, &["reserve-hot", "with the next stock"]);
}

#[test]
fn a_node_that_dies_is_told_and_can_be_started_again() {
    let place = Place::new(3);
    let data = place.data();
    let data = data.to_str().unwrap();
    let mut running = up_until_ready(&place, &["--data", data]);
    place
        .run(&["admin", "bucket", "create", "notes"])
        .holds(0, &[]);

    signal("-KILL", &pid_in(&running.before, "n2"));
    let told = running.read_until("n2 ended");
    assert!(
        told.contains("souk node") && told.contains("--name n2"),
        "{told}"
    );
    place
        .run(&["kv", "put", "notes", "a", "--value", "while n2 was away"])
        .holds(0, &[]);

    let again = place.start(
        &[
            "node",
            "--name",
            "n2",
            "--data",
            data,
            "--stop-on-stdin-close",
        ],
        "",
    );
    let began = std::time::Instant::now();
    while place
        .run(&["admin", "status", "--node", "n2", "--json"])
        .code
        != 0
    {
        assert!(began.elapsed() < PATIENCE, "n2 does not come back");
    }
    place
        .run(&["kv", "get", "notes", "a", "--raw"])
        .holds(0, &["while n2 was away"]);

    // Closing its standard input stops it in order.
    let mut again = again;
    drop(again.stdin.take());
    assert_eq!(again.wait(), Some(0));
    assert_eq!(running.terminate().0, Some(0));
}

#[test]
fn no_child_outlives_a_parent_that_was_killed() {
    let place = Place::new(3);
    let running = up_until_ready(&place, &["--ephemeral"]);
    let pids = ["n1", "n2", "n3"].map(|name| pid_in(&running.before, name));
    running.kill();
    pids.iter().for_each(|pid| wait_gone(pid));
}

#[test]
fn nodes_answer_health_questions() {
    let place = Place::new(1);
    let running = up_until_ready(&place, &["--ephemeral"]);
    for path in ["/healthz", "/readyz", "/metrics"] {
        let answer = http_get(place.http[0], path);
        assert!(answer.contains(" 200 "), "{path}: {answer}");
    }
    assert_eq!(running.terminate().0, Some(0));
}

#[test]
fn data_of_another_node_is_refused() {
    let place = Place::new(3);
    let data = place.data();
    let text = data.to_str().unwrap();
    let running = up_until_ready(&place, &["--data", text]);
    assert_eq!(running.terminate().0, Some(0));
    std::fs::rename(data.join("n1"), data.join("kept")).unwrap();
    std::fs::rename(data.join("n2"), data.join("n1")).unwrap();
    place
        .run(&["node", "--name", "n1", "--data", text])
        .holds(1, &["n2"]);
    // The one that starts all of them shows why, from the log of the one that died.
    place
        .run(&["up", "--no-shop", "--data", text])
        .holds(1, &["n1 ended with", "before it was ready", "n1.log", "n2"]);
}

#[test]
fn the_shop_opens_with_a_sample_and_does_not_load_it_twice() {
    let place = Place::new(3);
    let data = place.data();
    let arguments = ["up", "--data", data.to_str().unwrap()];
    let running = until_ready(&place, &arguments);
    assert!(
        running
            .before
            .contains("loading a sample of 300 products: 300 read, 300 stored"),
        "{}",
        running.before
    );
    assert!(
        running.before.contains("payment-provider") && running.before.contains("shop"),
        "{}",
        running.before
    );
    products_are_found(&place, 300);

    let file = place.home.path().join("more.jsonl");
    std::fs::write(
        &file,
        "{\"id\":\"P1\",\"name\":\"Brass kettle\",\"price_minor\":1900}\nnot a product\n",
    )
    .unwrap();
    let report = place
        .run(&["import", "catalog", file.to_str().unwrap(), "--json"])
        .json();
    assert_eq!(
        (&report["imported"], &report["skipped"]),
        (&1.into(), &1.into()),
        "{report}"
    );
    place
        .run(&["import", "catalog", "/nowhere.jsonl"])
        .holds(1, &["/nowhere.jsonl"]);
    assert_eq!(running.terminate().0, Some(0));

    let running = until_ready(&place, &arguments);
    assert!(!running.before.contains("loading"), "{}", running.before);
    products_are_found(&place, 301);
    assert_eq!(running.terminate().0, Some(0));
}

fn products_are_found(place: &Place, expected: usize) {
    let answer = http_get(place.shop, "/api/v1/products/search?q=&size=1");
    assert!(
        answer.contains(&format!("\"total\":{expected},")),
        "{answer}"
    );
}

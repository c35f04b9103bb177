use super::*;

#[test]
fn takes_one_to_63_plain_characters() {
    let check = |text: &str, allowed: bool| {
        assert_eq!(text.parse::<Name>().is_ok(), allowed, "{text:?}");
    };
    check("a", true);
    check("node-1", true);
    check("0193e7a2-7c1b-7000-8000-000000000000", true);
    check(&"z".repeat(63), true);
    check(&"z".repeat(64), false);
    check("", false);
    check("Node", false);
    check("node_1", false);
    check("node 1", false);
    check("nöde", false);
    check("a\0", false);
}

#[test]
fn errors_name_the_fault() {
    let check = |text: &str, part: &str| {
        let message = text.parse::<Name>().unwrap_err().to_string();
        assert!(
            message.contains(part),
            "{message:?} should mention {part:?}"
        );
    };
    check("", "empty");
    check("Node", "'N'");
    check("Node", "use only a-z, 0-9 and -");
    check(&"z".repeat(70), "70 characters");
}

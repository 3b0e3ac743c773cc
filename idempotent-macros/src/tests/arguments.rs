//! The rules of the arguments.

use quote::quote;

use super::expand;
use crate::args::ARGUMENTS;
use crate::words::did_you_mean;

#[test]
fn every_argument_accepts_its_own_example() {
    for spec in ARGUMENTS {
        let name = spec.name;
        let companion = if name == "wait" {
            "in_flight = \"wait\", "
        } else {
            ""
        };
        let args = format!("{companion}{}", spec.example());
        assert_eq!(mistakes(&args), 0, "{args}");
        assert_eq!(
            mistakes(&format!("{args}, {}", spec.example())),
            1,
            "twice: {args}"
        );
        assert!(
            mistakes(&format!("{companion}{name}")) > 0,
            "no value: {name}"
        );
        assert!(
            mistakes(&format!("{companion}{name} =")) > 0,
            "no value: {name} ="
        );
        assert!(
            mistakes(&format!("{companion}{name} = b'x'")) > 0,
            "a byte: {name}"
        );
    }
}

#[test]
fn every_argument_is_documented() {
    let documentation = include_str!("../lib.rs");
    let table: String = documentation
        .lines()
        .filter(|line| line.starts_with("/// | `"))
        .collect();
    for name in ARGUMENTS.iter().map(|spec| spec.name) {
        assert!(
            table.contains(&format!("`{name}`")) || table.contains(&format!("`{name} =")),
            "{name}"
        );
    }
}

#[test]
fn values_have_limits() {
    let good = [
        "ttl_hours = 87840",
        "ttl_minutes = 1",
        "ttl_secs = 1_000",
        "ttl = \"1ms\"",
        "ttl = \"3660d\"",
        "lease = \"10ms\"",
        "lease = \"24h\"",
        "ttl = \"5s\"",
        "ttl = \"1m\", lease = \"1m\"",
        "max_response_bytes = 0",
        "max_response_bytes = 1073741824",
        "header = \"X_Key.2\"",
        "fingerprint = (body)",
        "fingerprint_headers = [\"X-Api-Version\", \"accept\"]",
        "fingerprint_headers = [\"a\",]",
        "on_abandoned = self::retry",
        "key = id, required = false",
        "scope = f::<A, B>(x)",
    ];
    for args in good {
        assert_eq!(mistakes(args), 0, "{args}");
    }
    let bad = [
        "ttl_hours = 87841",
        "ttl_hours = 0",
        "ttl_hours = -1",
        "ttl_hours = 24u64",
        "ttl_hours = 2.5",
        "ttl_hours = \"24\"",
        "ttl_hours = 99999999999999999999999",
        "ttl_hours = HOURS",
        "ttl = 24",
        "ttl = 24h",
        "ttl = \"24\"",
        "ttl = \"h\"",
        "ttl = \"1h30m\"",
        "ttl = \"24 h\"",
        "ttl = \"-1h\"",
        "ttl = \"0s\"",
        "ttl = \"99999999999999999999s\"",
        "lease = \"9ms\"",
        "lease = \"25h\"",
        "ttl = \"0ms\"",
        "ttl_hours = 0",
        "ttl_minutes = 0",
        "ttl_secs = 0",
        "ttl = \"3661d\"",
        "ttl_hours = 87841",
        "ttl_minutes = 5270401",
        "ttl_secs = 316224001",
        "lease = \"0s\"",
        "lease = \"3661d\"",
        "in_flight = \"wait\", wait = \"3661d\"",
        "in_flight = \"wait\", wait = \"0ms\"",
        "in_flight = \"wait\", wait = \"2h\"",
        "wait = \"1s\"",
        "in_flight = \"reject\", wait = \"1s\"",
        "in_flight = \"queue\"",
        "in_flight = wait",
        "header = \"\"",
        "header = \"a b\"",
        "header = \"a:\"",
        "name = \"\"",
        "name = \"pay ments\"",
        "name = \"zahlung-\u{fc}\"",
        "on_abandoned = retry",
        "on_abandoned = \"crash\"",
        "on_abandoned = f()",
        "replay_errors = \"5xx\"",
        "required = 1",
        "required = yes",
        "fingerprint = \"body\"",
        "scope = \"user\"",
        "key = \"id\"",
        "key = id, header = \"X-Key\"",
        "fingerprint_headers = \"accept\"",
        "fingerprint_headers = [accept]",
        "fingerprint_headers = []",
        "fingerprint_headers = [\"a b\"]",
        "fingerprint_headers = [\"\"]",
        "fingerprint_headers = [\"a\", \"A\"]",
        "fingerprint_headers = [\"a\", 1]",
        "max_response_bytes = 1073741825",
        "crate = \"api\"",
        "ttl_hours(24)",
        "ttl_hours: 24",
        "\"24h\"",
        "ttl_hours = 1 required = true",
        "= 24",
        ",",
        "scope = a b",
    ];
    for args in bad {
        assert_eq!(mistakes(args), 1, "{args}");
    }
    let name = format!("name = \"{}\"", "n".repeat(256));
    assert_eq!(mistakes(&name), 1);
}

#[test]
fn reading_goes_on_after_a_broken_argument() {
    assert_eq!(
        mistakes("scope = (a b), ttl_hours = 0, lease 3, required = 7"),
        4
    );
    assert_eq!(mistakes("scope = , ttl_hours = 0"), 2);
    assert_eq!(mistakes("fingerprint_headers = [a, \"b\", \"b\", 1]"), 3);
}

#[test]
fn the_nearest_word_is_found_and_a_far_one_is_not() {
    let nearest = |word| did_you_mean(word, ARGUMENTS.iter().map(|spec| spec.name));
    for (word, known) in [
        ("ttl_hour", "ttl_hours"),
        ("ttl_seconds", "ttl_secs"),
        ("on_abandon", "on_abandoned"),
        ("require", "required"),
        ("wiat", "wait"),
        ("crat", "crate"),
        ("inflight", "in_flight"),
    ] {
        assert_eq!(
            nearest(word),
            format!(" (did you mean `{known}`?)"),
            "{word}"
        );
    }
    assert_eq!(nearest("encryption"), "");
    assert_eq!(nearest("x"), "");
}

/// How many `compile_error!`s the arguments cause on a good handler.
fn mistakes(args: &str) -> usize {
    let args = args.parse().unwrap();
    expand(
        args,
        quote!(
            async fn handler() {}
        ),
    )
    .matches("compile_error")
    .count()
}

/// The argument tables in the README and in the attribute's documentation name all arguments and
/// no other.
#[test]
fn the_documentation_knows_every_argument() {
    let tables = [
        include_str!("../../../README.md").to_owned(),
        include_str!("../lib.rs")
            .lines()
            .map(|line| line.trim_start_matches("/// "))
            .collect::<Vec<_>>()
            .join("\n"),
    ];
    for table in tables {
        let (_, table) = table
            .split_once("| argument | default | meaning |")
            .unwrap();
        let rows = table
            .lines()
            .skip(2)
            .take_while(|line| line.starts_with('|'));
        let first_cells = rows.map(|row| row.split(" | ").next().unwrap());
        let documented: std::collections::BTreeSet<_> = first_cells
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
            .filter_map(argument)
            .collect();
        let known: std::collections::BTreeSet<_> = ARGUMENTS.iter().map(|spec| spec.name).collect();
        assert_eq!(documented, known);
    }
}

/// The name in `name = value`, or a name alone; a mere value has neither `=` nor a letter first.
fn argument(code: &str) -> Option<&str> {
    let name = code.split(' ').next().unwrap_or_default();
    let is_alone_or_assigned = name == code || code.contains(" = ");
    (is_alone_or_assigned
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name != "json"
        && name != "expr")
        .then_some(name)
}

//! The README against the code.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use support::rows;

const README: &str = include_str!("../README.md");
const MANIFEST: &str = include_str!("../Cargo.toml");

#[test]
fn readme_names_every_feature_and_which_are_on() {
    let features = MANIFEST
        .split("[features]")
        .nth(1)
        .unwrap()
        .split("\n[")
        .next()
        .unwrap();
    let features: Vec<(&str, &str)> = features
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .collect();
    let on = features
        .iter()
        .find(|(name, _)| *name == "default")
        .unwrap()
        .1;
    assert!(features.len() > 3);
    for (name, _) in features.iter().filter(|(name, _)| *name != "default") {
        let default = if on.contains(&format!("\"{name}\"")) {
            "yes"
        } else {
            "no"
        };
        assert!(
            README.contains(&format!("\n| `{name}` | {default} |")),
            "{name}"
        );
    }
}

#[test]
fn readme_names_every_reason_of_the_table() {
    let (_, errors) = README.split_once("| error | `reason` |").unwrap();
    let (errors, _) = errors.split_once("\n\n").unwrap();
    for (_, rows) in rows::tables() {
        for row in rows {
            let Some(reason) = row.then.reason() else {
                continue;
            };
            let is_other_redirect = reason.starts_with('3') && reason.len() == 3;
            let name = if is_other_redirect { "301" } else { &reason };
            let error = if row.then.next == "refuse" {
                "Refused"
            } else {
                "Undecided"
            };
            let rows: Vec<&str> = errors
                .lines()
                .filter(|line| line.contains(&format!("`{error}`")))
                .collect();
            assert!(
                rows.iter().any(|row| row.contains(&format!("`{name}`"))),
                "{error} {reason}"
            );
        }
    }
}

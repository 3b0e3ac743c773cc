//! What the documents say is what the code does.

use std::collections::BTreeSet;

use idempotent_runtime::ProblemCode;

const README: &str = include_str!("../README.md");
const ANSWERS: &str = include_str!("../idempotent-runtime/src/answers.rs");
const CRATE: &str = include_str!("../idempotent-runtime/src/lib.rs");
const PUBLISHED: [&str; 2] = [
    include_str!("../idempotent-runtime/README.md"),
    include_str!("../idempotent-macros/README.md"),
];
const MANIFEST: &str = include_str!("../idempotent-runtime/Cargo.toml");

/// The rows of the table with this head, each a list of its cells.
fn table<'a>(text: &'a str, head: &str) -> Vec<Vec<&'a str>> {
    let (_, rows) = text
        .split_once(head)
        .unwrap_or_else(|| panic!("no table {head}"));
    let rows = rows
        .lines()
        .skip(1)
        .map(|line| line.trim_start_matches("//!").trim());
    let rows = rows.skip_while(|line| line.starts_with("| ---"));
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

fn code(cell: &str) -> Option<&str> {
    cell.split('`').nth(1)
}

#[test]
fn the_feature_tables_list_the_features_of_the_manifest() {
    let (_, features) = MANIFEST.split_once("[features]").unwrap();
    let features = features.split("\n[").next().unwrap();
    let features = features.lines().filter_map(|line| line.split_once(" = "));
    let features: BTreeSet<_> = features
        .map(|(name, _)| name)
        // A name that begins so is no part of the API.
        .filter(|name| *name != "default" && !name.starts_with("__"))
        .collect();
    // The README names the stores' features in the table of stores.
    let stores = table(README, "| URL | feature | durable |");
    let stores: BTreeSet<_> = stores.iter().filter_map(|row| code(row[1])).collect();
    assert!(stores.is_subset(&features));
    for (text, head, elsewhere) in [
        (README, "| other feature | default |", stores),
        (CRATE, "| feature | default |", BTreeSet::new()),
    ] {
        let rows = table(text, head);
        let named = rows.iter().flat_map(|row| row[0].split(", "));
        let documented: BTreeSet<_> = named.filter_map(code).chain(elsewhere).collect();
        assert_eq!(documented, features);
        for row in rows {
            let is_default =
                MANIFEST.contains(&format!("default = [\"{}\"]", code(row[0]).unwrap()));
            assert_eq!(row[1], if is_default { "yes" } else { "no" }, "{row:?}");
        }
    }
}

#[test]
fn the_answer_tables_list_every_problem_with_its_status() {
    let readme = table(README, "| case | answer |");
    let answers = table(ANSWERS, "| code | status | retry with the same key? |");
    for problem in ProblemCode::ALL {
        let name = format!("`{problem}`");
        let status = problem.status().as_u16().to_string();
        let row = readme.iter().find(|row| row[1].contains(&name));
        let row = row.unwrap_or_else(|| panic!("{name} is not in the README"));
        let guide = answers.iter().find(|row| row[0].contains(&name));
        let guide = guide.unwrap_or_else(|| panic!("{name} is not in the guide"));
        assert!(
            ANSWERS.contains(&format!("//! ## {problem}\n")),
            "{name} has no section"
        );
        if *problem != ProblemCode::ResponseNotRetained {
            assert!(row[1].starts_with(&status), "{row:?}");
            assert_eq!(guide[1], status, "{guide:?}");
        }
    }
    assert_eq!(answers.len(), ProblemCode::ALL.len());
}

#[test]
fn the_readme_names_the_two_commands() {
    assert!(README.contains("\ncargo run --example payments "));
    assert!(README.contains("\ncargo xtask test "));
}

/// A registry shows them without the files of this repository.
#[test]
fn the_readmes_of_the_published_crates_link_to_nothing_in_the_repository() {
    for readme in PUBLISHED {
        for link in readme.split("](").skip(1) {
            assert!(link.starts_with("https://"), "{}", &link[..40]);
        }
    }
}

#[test]
fn both_readmes_have_the_same_first_example() {
    let example = |readme: &'static str| readme.split("```").nth(1).expect("an example");
    assert_eq!(example(PUBLISHED[0]), example(README));
}

/// Each metric that an alert rule or a panel names is one that the documentation lists, with the labels that it has.
#[test]
fn alert_rules_and_dashboard_name_metrics_and_labels_that_there_are() {
    const METRICS: &str = include_str!("../idempotent-runtime/src/metrics.rs");
    let rows = table(METRICS, "//! | metric | | labels | |");
    let names: BTreeSet<_> = rows.iter().filter_map(|row| code(row[0])).collect();
    let labels: BTreeSet<_> = rows
        .iter()
        .flat_map(|row| row[2].split(", ").filter_map(code))
        .chain(["le"])
        .collect();
    let rules = include_str!("../metrics/alerts.yml");
    let dashboard = include_str!("../metrics/dashboard.json");
    serde_json::from_str::<serde_json::Value>(dashboard).unwrap();
    let mut named = BTreeSet::new();
    for text in [rules, dashboard] {
        let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
        for word in words.filter(|word| word.starts_with("idempotency_")) {
            let name = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|suffix| word.strip_suffix(suffix))
                .unwrap_or(word);
            assert!(names.contains(name), "{word} is no metric: {names:?}");
            named.insert(name);
        }
        for by in text.split("by (").skip(1) {
            let by = by.split(')').next().unwrap();
            for label in by.split(", ") {
                assert!(labels.contains(label), "{label} is no label: {labels:?}");
            }
        }
    }
    assert_eq!(named, names, "each has a panel or a rule");
}

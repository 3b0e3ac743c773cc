//! The invariants of ARCHITECTURE.md that can be read off the sources.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "architecture/imports.rs"]
mod imports;

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join(folder),
        &mut found,
    );
    assert!(!found.is_empty(), "{folder} has no sources");
    found
}

/// The code of a file, without its comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//"))
}

#[track_caller]
fn assert_absent(folder: &str, except: &[&str], words: &[&str]) {
    for (path, text) in sources(folder) {
        if except
            .iter()
            .any(|except| path.to_string_lossy().contains(except))
        {
            continue;
        }
        for line in code(&text) {
            let word = words.iter().find(|word| line.contains(**word));
            assert!(word.is_none(), "{} has {word:?}: {line}", path.display());
        }
    }
}

#[test]
fn the_engine_knows_no_http() {
    assert_absent(
        "idempotent-runtime/src/engine",
        &[],
        &["axum", "http::", "StatusCode", "HeaderMap"],
    );
}

/// It is a second user of the engine, which knows none of the two.
#[test]
fn functions_without_http_know_no_request_and_the_engine_does_not_know_them() {
    assert_absent(
        "idempotent-runtime/src/execute",
        &[],
        &["axum", "StatusCode", "HeaderMap", "crate::http"],
    );
    assert_absent(
        "idempotent-runtime/src/engine",
        &[],
        &["crate::execute", "Execution"],
    );
}

#[test]
fn a_store_knows_neither_http_nor_policy() {
    let except = ["/conformance/", "/tests.rs"];
    assert_absent(
        "idempotent-runtime/src/store",
        &except,
        &["axum", "http::", "crate::policy", "Policy::"],
    );
}

/// A task that is spawned in a poll that goes on into a handler which blocks its thread would wait for that. Nothing waits for the
/// comparison of secrets.
#[test]
fn the_engine_spawns_no_task_that_a_handler_can_hold_up() {
    assert_absent(
        "idempotent-runtime/src/engine",
        &["/secrets.rs", "/tests.rs"],
        &["runtime.spawn(", "runtime().spawn(", "tokio::spawn("],
    );
}

#[test]
fn the_handle_knows_none_of_its_users() {
    assert_absent(
        "idempotent-runtime/src/handle",
        &[],
        &["crate::http", "crate::execute"],
    );
}

/// Besides, a problem is rendered as a response of axum, by the application if it wants to, and the page for operators
/// is a router of axum.
#[test]
fn only_http_and_private_name_axum() {
    assert_absent(
        "idempotent-runtime/src",
        &[
            "/src/http/",
            "/src/admin/",
            "/src/lib.rs",
            "/src/handle/problem.rs",
            "/src/handle/builder.rs",
        ],
        &["axum"],
    );
}

/// It asks the handle, as an application's own page would, and nothing below the handle knows of it.
#[test]
fn the_page_for_operators_uses_the_public_api_alone() {
    assert_absent(
        "idempotent-runtime/src/admin",
        &[],
        &[
            "crate::engine",
            "crate::http",
            "crate::execute",
            "crate::record::",
            "crate::handle::",
        ],
    );
    assert_absent(
        "idempotent-runtime/src",
        &["/src/admin/", "/src/lib.rs"],
        &["crate::admin"],
    );
}

#[test]
fn the_attribute_knows_no_semantics() {
    let words = ["Idempotency-Key\"", "409", "422", "sha2", "tokio", "axum::"];
    assert_absent(
        "idempotent-macros/src",
        &["/tests", "/args.rs", "/above.rs"],
        &words,
    );
}

#[test]
fn there_is_no_unsafe_code() {
    let manifest = include_str!("../Cargo.toml");
    assert!(manifest.contains("unsafe_code = \"forbid\""));
    for member in [
        "idempotent-cli",
        "idempotent-macros",
        "idempotent-runtime",
        "tests/edition_2021",
        "xtask",
        "benches",
        "clients/suite",
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(member)
            .join("Cargo.toml");
        let manifest = fs::read_to_string(path).expect("a manifest");
        assert!(manifest.contains("[lints]\nworkspace = true"), "{member}");
    }
}

/// What two files share is in a third one, which both import.
#[test]
fn no_file_imports_one_that_imports_it() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("idempotent-runtime/src");
    for folder in [
        "admin",
        "execute",
        "http",
        "store/conformance",
        "openapi",
        "testing",
        "store/memory",
        "store/mysql",
        "store/postgres",
        "store/redis",
        "store/sql",
        "store/sqlite",
    ] {
        let circle = imports::circle(&sources, folder);
        assert_eq!(circle, None, "{folder} has a circle of imports");
    }
}

/// A file is read at a sitting.
#[test]
fn no_source_file_is_longer_than_400_lines() {
    for folder in [
        "idempotent-runtime/src",
        "idempotent-macros/src",
        "idempotent-client/src",
        "idempotent-cli/src",
        "xtask/src",
    ] {
        for (path, text) in sources(folder) {
            let lines = text.lines().count();
            let is_of_tests = path.ends_with("tests.rs");
            assert!(
                is_of_tests || lines <= 400,
                "{}: {lines} lines",
                path.display()
            );
        }
    }
}

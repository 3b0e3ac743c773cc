//! Developer tasks: `cargo xtask test`.

use std::process::{Command, ExitCode};
use std::time::Instant;

const HELP: &str = "\
Usage: cargo xtask <task>

  test    run every test: unit, property, conformance, behaviour, compile and documentation tests,
          and the examples as processes. Needs nothing but Rust: the one store of this version is
          in the process.
";

/// What `test` runs, in order: a title, and the arguments for cargo.
const STEPS: &[(&str, &[&str])] = &[
    (
        "unit, property, conformance, behaviour and compile tests",
        &[
            "test",
            "--workspace",
            "--all-features",
            "--lib",
            "--tests",
            "--examples",
        ],
    ),
    (
        "documentation tests, the README's among them",
        &["test", "--workspace", "--all-features", "--doc"],
    ),
    (
        "without the default features",
        &[
            "test",
            "--package",
            "idempotent-runtime",
            "--no-default-features",
            "--lib",
        ],
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["test"] => test(),
        ["help" | "--help" | "-h"] => {
            say(HELP);
            ExitCode::SUCCESS
        }
        _ => {
            complain(HELP);
            ExitCode::from(2)
        }
    }
}

/// Runs all the steps, also after one that failed, and says which did.
fn test() -> ExitCode {
    let begun = Instant::now();
    let failed: Vec<&str> = STEPS
        .iter()
        .filter(|(title, arguments)| !cargo(title, arguments))
        .map(|(title, _)| *title)
        .collect();
    say(&format!(
        "\n{} of {} steps passed in {} s",
        STEPS.len() - failed.len(),
        STEPS.len(),
        begun.elapsed().as_secs()
    ));
    for title in &failed {
        complain(&format!("failed: {title}"));
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn cargo(title: &str, arguments: &[&str]) -> bool {
    say(&format!("\n== {title}\n   cargo {}", arguments.join(" ")));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    match Command::new(cargo).args(arguments).status() {
        Ok(status) => status.success(),
        Err(error) => {
            complain(&format!("cannot run cargo: {error}"));
            false
        }
    }
}

#[expect(clippy::print_stdout, reason = "a command line tool talks to its user")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "a command line tool talks to its user")]
fn complain(text: &str) {
    eprintln!("{text}");
}

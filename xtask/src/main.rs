//! Developer tasks: `cargo xtask test`, `cargo xtask client-suite`, `cargo xtask simulate`, `cargo xtask bench`,
//! `cargo xtask dependencies`.

use std::process::{Command, ExitCode};
use std::time::Instant;

use servers::Server;

mod bench;
mod client_suite;
mod clients;
mod dependencies;
mod free_port;
mod guard;
mod openapi;
mod servers;
mod simulate;

const HELP: &str = "\
Usage: cargo xtask <task>

  test    run every test: unit, property, conformance, behaviour, fault, compile and documentation
          tests, the examples as processes, both clients, the checkout page and the page for
          operators in Chromium, the quick part of the client suite, the OpenAPI example by
          schemathesis, 1,000 simulated histories, and the count of a request's instructions where
          valgrind is installed.

          Redis, PostgreSQL and MariaDB are started for it, on free ports and in temporary folders;
          what is not installed (Node, npm and Chromium too) is installed with apt-get, if this is root
          on a Debian; playwright-core, which drives Chromium, is installed with npm, and schemathesis
          with pip, into a folder of its own. What cannot be
          had is named, and its tests are skipped; with CI=true that is a failure. To use a server of
          your own, set IDEMPOTENT_TEST_REDIS_URL, IDEMPOTENT_TEST_POSTGRES_URL or
          IDEMPOTENT_TEST_MYSQL_URL: tests make tables and keys of their own there, and remove them.

          However it ends, by a signal too, it leaves no process and no temporary folder behind.

  dependencies
          check bans, licenses and sources of all dependencies as deny.toml says, offline.

";

/// What `test` runs, in order: a title, and the arguments for cargo.
const STEPS: &[(&str, &[&str])] = &[
    (
        "the examples, which tests run as processes",
        &["build", "--all-features", "--examples"],
    ),
    (
        "unit, property, conformance, behaviour, fault and compile tests",
        &[
            "test",
            "--workspace",
            "--exclude",
            "idempotent-benches",
            "--exclude",
            "idempotent-client-suite",
            "--exclude",
            "idempotent-cli",
            "--all-features",
            "--no-fail-fast",
            "--lib",
            "--tests",
        ],
    ),
    (
        "the operator's tool, by itself: it turns TLS on in the stores",
        &[
            "test",
            "--package",
            "idempotent-cli",
            "--all-features",
            "--no-fail-fast",
        ],
    ),
    (
        "documentation tests, the README's among them",
        &[
            "test",
            "--workspace",
            "--exclude",
            "idempotent-benches",
            "--exclude",
            "idempotent-client-suite",
            "--exclude",
            "idempotent-cli",
            "--all-features",
            "--doc",
        ],
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
    (
        "the client without its transports",
        &[
            "test",
            "--package",
            "idempotent-client",
            "--no-default-features",
            "--lib",
            "--tests",
        ],
    ),
];

const SIMULATED_SEEDS: u64 = 1000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["test"] => test(),
        ["dependencies"] => dependencies::check(),
        ["simulate", ref rest @ ..] => simulate::run(rest),
        ["bench", ref rest @ ..] => bench::run(rest),
        ["client-suite", ref rest @ ..] => client_suite::main(rest),
        ["help" | "--help" | "-h"] => {
            say(HELP);
            say(client_suite::HELP);
            say(simulate::HELP);
            say(bench::HELP);
            ExitCode::SUCCESS
        }
        _ => {
            complain(HELP);
            complain(client_suite::HELP);
            complain(simulate::HELP);
            complain(bench::HELP);
            ExitCode::from(2)
        }
    }
}

/// Runs all the steps, also after one that failed, and says which did.
fn test() -> ExitCode {
    let begun = Instant::now();
    let (servers, mut failed) = start_servers();
    for (title, arguments) in STEPS {
        if !cargo(title, arguments, &servers) {
            failed.push((*title).to_owned());
        }
    }
    let mut steps = STEPS.len() + 1;
    let suites = clients::SUITES.into_iter().chain([openapi::SUITE]);
    for clients::Suite { title, run } in suites {
        say(&format!("\n== {title}"));
        match run() {
            Ok(status) if status.success() => steps += 1,
            Ok(_) => failed.push(title.to_owned()),
            Err(cause) => {
                let missing = format!("{title} is not tested: {cause}");
                complain(&missing);
                if is_ci() {
                    failed.push(missing);
                }
            }
        }
    }
    say("\n== instructions of a request, beside the recorded ones");
    match bench::guard_if_installed() {
        None => say("   not counted: valgrind is not installed"),
        Some(Ok(())) => steps += 1,
        Some(Err(cause)) => {
            complain(&cause);
            failed.push("instructions of a request".to_owned());
        }
    }
    say(&format!("\n== {SIMULATED_SEEDS} simulated histories"));
    if !simulate::histories(0, SIMULATED_SEEDS) {
        failed.push("simulated histories".to_owned());
    }
    let seconds = begun.elapsed().as_secs();
    if failed.is_empty() {
        say(&format!("\nall {steps} steps passed in {seconds} s"));
        return ExitCode::SUCCESS;
    }
    for what in &failed {
        complain(&format!("failed: {what}"));
    }
    complain(&format!("not all steps passed, in {seconds} s"));
    ExitCode::FAILURE
}

/// Starts what is not given, and says what could not be started: in CI, that is a failure.
fn start_servers() -> (Vec<(&'static str, Server)>, Vec<String>) {
    say("== servers");
    let (mut servers, mut failed) = (Vec::new(), Vec::new());
    for kind in servers::KINDS {
        if std::env::var_os(kind.variable).is_some() {
            say(&format!("   {}: as {} says", kind.name, kind.variable));
            continue;
        }
        match kind.start() {
            Ok(server) => {
                say(&format!("   {}: {}", kind.name, server.url));
                servers.push((kind.variable, server));
            }
            Err(cause) => {
                let missing = format!("no {}, its tests are skipped: {cause}", kind.name);
                complain(&missing);
                if is_ci() {
                    failed.push(missing);
                }
            }
        }
    }
    (servers, failed)
}

/// What cannot be had is a failure there.
fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|ci| ci == "true")
}

fn cargo(title: &str, arguments: &[&str], servers: &[(&str, Server)]) -> bool {
    say(&format!("\n== {title}\n   cargo {}", arguments.join(" ")));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let urls = servers
        .iter()
        .map(|(variable, server)| (variable, &server.url));
    let mut command = Command::new(cargo);
    let running = guard::spawn(command.args(arguments).envs(urls));
    match running.and_then(|mut running| running.0.wait()) {
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

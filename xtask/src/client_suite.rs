//! `cargo xtask client-suite`: both clients pay through a network and on a server that fail. The program is the crate
//! `idempotent-client-suite`; here are the build, Node, its packages and Chromium.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use crate::clients::{find_node, run};
use crate::servers::found_or_installed;
use crate::{complain, is_ci, say};

pub(crate) const HELP: &str = "\
  client-suite
          pay 10,000 intents with each client, on a server that is killed and through a network that loses, cuts,
          delays, repeats and refuses; then check that each intent was charged once, under one key, and that no
          retry came before `Retry-After`. The same with ky, axios-retry and reqwest-retry and a UUID for each
          call, whose duplicates are counted. Node, npm and Chromium as for `test`; what cannot be had is named.
            --quick              300 intents, no peers
            --seed N             other faults; 1 unless said otherwise
            --intents N          10000 unless said otherwise
            --pages N            how many of them in Chromium, 50 unless said otherwise
            --client NAME        only this one: rust, javascript, page, reqwest-retry, ky, axios-retry (repeatable)
            --no-peers
";

const SUITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/suite");

const QUICK: [&str; 5] = ["--intents", "300", "--pages", "16", "--no-peers"];

pub(crate) fn main(arguments: &[&str]) -> ExitCode {
    let is_quick = arguments.contains(&"--quick");
    let rest = arguments.iter().filter(|argument| **argument != "--quick");
    let quick: &[&str] = if is_quick { &QUICK } else { &[] };
    let arguments: Vec<&str> = quick.iter().chain(rest).copied().collect();
    match start(&arguments) {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(cause) => {
            complain(&cause);
            ExitCode::FAILURE
        }
    }
}

/// The part that `cargo xtask test` runs.
pub(crate) fn quick() -> Result<ExitStatus, String> {
    start(&QUICK)
}

fn start(arguments: &[&str]) -> Result<ExitStatus, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    say("   cargo build --package idempotent-client-suite");
    let built = run(Command::new(cargo).args(["build", "--package", "idempotent-client-suite"]))?;
    if !built.success() {
        return Ok(built);
    }
    let (program, folder) = places()?;
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let mut suite = Command::new(program);
    // Short paths: that of a socket has at most 107 bytes.
    suite
        .current_dir(&folder)
        .args(["run", "--folder", "."])
        .args(arguments);
    match find_node() {
        Ok(node) => {
            suite.arg("--node").arg(node);
            add_packages(&mut suite)?;
        }
        Err(cause) => note_missing("the clients in JavaScript", &cause)?,
    }
    run(&mut suite)
}

/// What the page and the peers in JavaScript need.
fn add_packages(suite: &mut Command) -> Result<(), String> {
    if let Err(cause) = install() {
        return note_missing("the page and the peers in JavaScript", &cause);
    }
    suite.arg("--packages");
    match found_or_installed("chromium", "chromium") {
        Ok(chromium) => {
            suite.arg("--chromium").arg(chromium);
            Ok(())
        }
        Err(cause) => note_missing("the page", &cause),
    }
}

fn install() -> Result<(), String> {
    let npm = found_or_installed("npm", "npm")?;
    say("   npm ci, in clients/suite");
    let installed = run(Command::new(npm)
        .args(["ci", "--no-audit", "--no-fund"])
        .current_dir(SUITE))?;
    let failed = || "npm ci failed in clients/suite".to_owned();
    installed.success().then_some(()).ok_or_else(failed)
}

/// In CI, what cannot be had is a failure.
fn note_missing(what: &str, cause: &str) -> Result<(), String> {
    let missing = format!("{what}: not run, {cause}");
    if is_ci() {
        return Err(missing);
    }
    complain(&missing);
    Ok(())
}

/// Cargo puts the program beside this one; the logs go to the same target directory.
fn places() -> Result<(PathBuf, PathBuf), String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = this.ancestors().nth(2).unwrap_or(Path::new("."));
    Ok((
        this.with_file_name("client-suite"),
        target.join("client-suite"),
    ))
}

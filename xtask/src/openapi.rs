//! The service that documents itself, asked by schemathesis: every answer is one that its documentation has.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::clients::{Suite, path_to_example, run};
use crate::servers::{found_or_installed, install};
use crate::{guard, say};

pub(crate) const SUITE: Suite = Suite {
    title: "the OpenAPI example, by schemathesis",
    run: check,
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/openapi");

/// Kept between runs, as what cargo builds is.
const ENVIRONMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/schemathesis");

fn check() -> Result<ExitStatus, String> {
    let python = schemathesis()?;
    say("   cargo build --all-features --example openapi");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    let built = run(build.args(["build", "--all-features", "--example", "openapi"]))?;
    if !built.success() {
        return Ok(built);
    }
    let mut example = Command::new(path_to_example("openapi")?);
    example.args(["--addr", "127.0.0.1:0", "--faults"]);
    // Its handlers panic because they are asked to.
    let started = guard::spawn(example.stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut example = started.map_err(|error| format!("cannot start the example: {error}"))?;
    let url = url(&mut example.0).ok_or("the example has no URL")?;
    say("   python check.py, in tests/openapi");
    let mut check = Command::new(python);
    run(check.args(["check.py", &url]).current_dir(FOLDER))
}

/// The line that the example prints.
fn url(example: &mut Child) -> Option<String> {
    let mut line = String::new();
    BufReader::new(example.stdout.take()?)
        .read_line(&mut line)
        .ok()?;
    let url = line.trim();
    url.starts_with("http://").then(|| url.to_owned())
}

/// A Python that has schemathesis, in an environment of its own.
fn schemathesis() -> Result<PathBuf, String> {
    let python = Path::new(ENVIRONMENT).join("bin/python");
    if !python.exists() {
        make_environment()?;
    }
    let requirements = format!("{FOLDER}/requirements.txt");
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    match run(pip.args(["--requirement", &requirements]))?.success() {
        true => Ok(python),
        false => Err("pip cannot install schemathesis".to_owned()),
    }
}

fn make_environment() -> Result<(), String> {
    let python = found_or_installed("python3", "python3")?;
    let make = || {
        let mut make = Command::new(&python);
        run(make.args(["-m", "venv", "--clear", ENVIRONMENT]))
    };
    if make()?.success() {
        return Ok(());
    }
    // Debian's Python comes without the half of it that installs.
    install("python3 -m venv", "python3-venv")?;
    match make()?.success() {
        true => Ok(()),
        false => Err("`python3 -m venv` fails".to_owned()),
    }
}

//! The client in JavaScript: its tests need Node 20 or newer, and npm. The page that shows it needs Chromium too, and so
//! does the page for operators.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use crate::servers::found_or_installed;
use crate::{client_suite, guard, say};

/// What is tested with other tools than cargo, or an error that says why it could not be.
pub(crate) struct Suite {
    pub(crate) title: &'static str,
    pub(crate) run: fn() -> Result<ExitStatus, String>,
}

pub(crate) const SUITES: [Suite; 4] = [
    Suite {
        title: "the JavaScript client",
        run: test_javascript,
    },
    Suite {
        title: "the checkout page, in Chromium",
        run: test_checkout,
    },
    Suite {
        title: "the page for operators, in Chromium",
        run: test_admin,
    },
    Suite {
        title: "both clients, while server and network fail",
        run: client_suite::quick,
    },
];

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/javascript");

/// What drives the browser, for both pages.
const PAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/checkout/test");

/// The first version whose test runner and `AbortSignal.any` the package uses.
const OLDEST: (u32, u32) = (20, 3);

fn test_javascript() -> Result<ExitStatus, String> {
    let npm = find_npm()?;
    say("   npm test, in clients/javascript");
    run(Command::new(npm).arg("test").current_dir(CLIENT))
}

fn test_checkout() -> Result<ExitStatus, String> {
    test_in_chromium("checkout", "test")
}

fn test_admin() -> Result<ExitStatus, String> {
    test_in_chromium("admin", "test:admin")
}

/// Builds the example, installs what drives the browser, and runs the tests of the page.
fn test_in_chromium(example: &str, script: &str) -> Result<ExitStatus, String> {
    let npm = find_npm()?;
    let chromium = found_or_installed("chromium", "chromium")?;
    say(&format!(
        "   cargo build --all-features --example {example}"
    ));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    let built = run(build.args(["build", "--all-features", "--example", example]))?;
    if !built.success() {
        return Ok(built);
    }
    say(&format!(
        "   npm ci and npm run {script}, in examples/checkout/test"
    ));
    let installed = run(Command::new(&npm).arg("ci").current_dir(PAGES))?;
    if !installed.success() {
        return Err("npm ci failed in examples/checkout/test".to_owned());
    }
    // The browser's profiles: they are removed also if the browser is killed.
    let folder = guard::temporary_folder("chromium").map_err(|error| error.to_string())?;
    let mut test = Command::new(npm);
    test.args(["run", script])
        .current_dir(PAGES)
        .env("CHECKOUT_EXAMPLES", path_to_examples()?)
        .env("CHECKOUT_CHROMIUM", chromium)
        .env("TMPDIR", &folder);
    let tested = run(&mut test);
    let _ = std::fs::remove_dir_all(folder);
    tested
}

/// Cargo puts examples beside this program, in a folder of their own.
pub(crate) fn path_to_example(name: &str) -> Result<PathBuf, String> {
    Ok(path_to_examples()?.join(name))
}

fn path_to_examples() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    Ok(this.with_file_name("examples"))
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus, String> {
    let running = guard::spawn(command);
    let ended = running.and_then(|mut running| running.0.wait());
    ended.map_err(|error| format!("cannot run {}: {error}", command.get_program().display()))
}

fn find_npm() -> Result<PathBuf, String> {
    find_node()?;
    found_or_installed("npm", "npm")
}

/// Node, if it is new enough.
pub(crate) fn find_node() -> Result<PathBuf, String> {
    let node = found_or_installed("node", "nodejs")?;
    let version = Command::new(&node)
        .arg("--version")
        .output()
        .map_err(|error| format!("cannot run node: {error}"))?;
    let version = String::from_utf8_lossy(&version.stdout);
    let version = version.trim();
    let (oldest_major, oldest_minor) = OLDEST;
    if parse_version(version).is_none_or(|found| found < OLDEST) {
        return Err(format!(
            "node is {version}, and the tests need v{oldest_major}.{oldest_minor} or newer"
        ));
    }
    Ok(node)
}

/// `v20.19.2` is (20, 19).
fn parse_version(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.strip_prefix('v')?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn versions_of_node_are_read() {
        assert_eq!(parse_version("v20.19.2"), Some((20, 19)));
        assert_eq!(parse_version("v18.20.4-nightly"), Some((18, 20)));
        assert_eq!(parse_version("20.1"), None);
        assert_eq!(parse_version(""), None);
    }
}

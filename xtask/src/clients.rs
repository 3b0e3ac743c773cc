//! The client in JavaScript: its tests need Node 20 or newer, and npm.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use crate::servers::found_or_installed;
use crate::{guard, say};

pub(crate) const TITLE: &str = "the JavaScript client";

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/javascript");

/// The first version whose test runner and `AbortSignal.any` the package uses.
const OLDEST: (u32, u32) = (20, 3);

/// Runs `npm test` in the package; an error says why it could not be run.
pub(crate) fn test_javascript() -> Result<ExitStatus, String> {
    let npm = find_npm()?;
    say(&format!("\n== {TITLE}\n   npm test, in clients/javascript"));
    let mut command = Command::new(npm);
    command.arg("test").current_dir(FOLDER);
    let running = guard::spawn(&mut command);
    let ended = running.and_then(|mut running| running.0.wait());
    ended.map_err(|error| format!("cannot run npm: {error}"))
}

fn find_npm() -> Result<PathBuf, String> {
    let node = found_or_installed("node", "nodejs")?;
    let version = Command::new(node)
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
    found_or_installed("npm", "npm")
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

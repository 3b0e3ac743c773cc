//! `cargo xtask bench instructions` and `cargo xtask bench guard`: instructions of a request, counted by valgrind's
//! callgrind.
//!
//! They do not depend on what else the machine does, so that small steps can be told from noise.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::options::Options;
use super::{document, measurer};
use crate::{complain, say, servers};

/// The difference of two runs leaves out what comes before the first request.
const REQUESTS: [u64; 2] = [1000, 3000];

/// What is not guarded, but compared to.
const BARE: &str = "bare";

/// The paths of `benches/instructions`, and what a reader is told.
const PATHS: &[(&str, &str)] = &[
    (BARE, "axum alone"),
    ("keyless", "without a key"),
    ("first", "first request"),
    ("first-metrics", "first request, with `MetricsObserver`"),
    ("replay", "replay"),
    ("mismatch", "another body with the same key: 422"),
    ("execute", "`Idempotency::execute`, without HTTP"),
];

/// By how much a count may differ from the recorded one, in percent.
const TOLERANCE: u64 = 2;

/// The counts that were recorded, one a line.
const RECORDED: &str = "../benches/instructions/recorded.txt";

struct Counter {
    valgrind: PathBuf,
    program: PathBuf,
}

impl Counter {
    fn new(valgrind: PathBuf) -> Result<Self, String> {
        let program = measurer::build("idempotent-instructions")?;
        Ok(Self { valgrind, program })
    }

    /// Instructions of one request on each path.
    fn counts(&self) -> Result<Vec<(&'static str, u64)>, String> {
        let each = |(path, _): &(&'static str, _)| {
            let [few, many] = REQUESTS.map(|requests| self.count(path, requests));
            let each = (many? - few?) / (REQUESTS[1] - REQUESTS[0]);
            complain(&format!("   {path:14} {each:6}"));
            Ok((*path, each))
        };
        PATHS.iter().map(each).collect()
    }

    fn count(&self, path: &str, requests: u64) -> Result<u64, String> {
        let counted = Command::new(&self.valgrind)
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(&self.program)
            .args([path, &requests.to_string()])
            .output()
            .map_err(|error| format!("cannot run valgrind: {error}"))?;
        let said = String::from_utf8_lossy(&counted.stderr);
        let collected = said
            .lines()
            .find_map(|line| line.split_once("Collected : "));
        let collected = collected.and_then(|(_, number)| number.trim().parse().ok());
        collected
            .filter(|_| counted.status.success())
            .ok_or_else(|| format!("callgrind counted nothing: {said}"))
    }
}

/// The table of PERFORMANCE.md.
pub(super) fn run(options: &Options) -> Result<(), String> {
    let counter = Counter::new(servers::found_or_installed("valgrind", "valgrind")?)?;
    let counts = counter.counts()?;
    let bare = of(&counts, BARE).unwrap_or_default();
    let mut table = "| | instructions | more than axum alone |\n| --- | --: | --: |".to_owned();
    for ((_, what), (_, count)) in PATHS.iter().zip(&counts) {
        let more = i128::from(*count) - i128::from(bare);
        let _ = write!(table, "\n| {what} | {count} | {more} |");
    }
    document::publish(options, "instructions", &table)
}

/// Compares with what is recorded, or records.
pub(super) fn guard(options: &Options) -> Result<(), String> {
    let valgrind = servers::found_or_installed("valgrind", "valgrind")?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(RECORDED);
    if !options.write {
        return check(valgrind, &file);
    }
    let mut lines = format!(
        "# Written by `cargo xtask bench guard --write`, with {}.\n",
        rustc()
    );
    for (path, count) in Counter::new(valgrind)?.counts()? {
        let _ = writeln!(lines, "{path} {count}");
    }
    std::fs::write(&file, lines).map_err(|error| format!("cannot write {RECORDED}: {error}"))
}

/// A step of `cargo xtask test`: `None` where valgrind is not installed.
pub(crate) fn guard_if_installed() -> Option<Result<(), String>> {
    let valgrind = servers::find("valgrind")?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(RECORDED);
    Some(check(valgrind, &file))
}

fn check(valgrind: PathBuf, file: &Path) -> Result<(), String> {
    let recorded = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let counts = Counter::new(valgrind)?.counts()?;
    match compared(&recorded, &counts)? {
        Some(not_comparable) => say(&format!("   not compared: {not_comparable}")),
        None => say(&format!("   no count differs by more than {TOLERANCE} %")),
    }
    Ok(())
}

/// # Errors
///
/// What differs by more than the tolerance.
///
/// `Some` if the counts cannot be compared: axum alone, in which nothing is ours, differs too. So the compiler, the
/// C library, the processor or a dependency is another one.
fn compared(recorded: &str, counts: &[(&str, u64)]) -> Result<Option<String>, String> {
    let lines = recorded.lines().filter(|line| !line.starts_with('#'));
    let recorded: Vec<(&str, u64)> = lines
        .map(|line| {
            let (path, count) = line.split_once(' ')?;
            Some((path, count.parse().ok()?))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| format!("{RECORDED} has a line that is not a path and a number"))?;
    let mut differing = Vec::new();
    for (path, count) in counts {
        let expected = of(&recorded, path)
            .ok_or_else(|| format!("{RECORDED} does not have the path `{path}`"))?;
        if count.abs_diff(expected) * 100 <= expected * TOLERANCE {
            continue;
        }
        let difference = format!("{path}: {count} instructions, {expected} recorded");
        if *path == BARE {
            return Ok(Some(format!("{difference}, and nothing of this is ours")));
        }
        differing.push(difference);
    }
    if differing.is_empty() {
        return Ok(None);
    }
    Err(format!(
        "{}\nIf that is intended, record it: `cargo xtask bench guard --write`",
        differing.join("\n")
    ))
}

fn of(counts: &[(&str, u64)], path: &str) -> Option<u64> {
    let found = counts.iter().find(|(known, _)| *known == path);
    found.map(|(_, count)| *count)
}

fn rustc() -> String {
    let said = Command::new("rustc").arg("--version").output();
    let version = said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
    version.unwrap_or_else(|_| "an unknown rustc".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# comment\nbare 1000\nfirst 2000\n";

    #[test]
    fn what_is_within_the_tolerance_passes() {
        for counts in [
            [(BARE, 1000), ("first", 2000)],
            [(BARE, 1020), ("first", 2040)],
            [(BARE, 980), ("first", 1960)],
        ] {
            assert_eq!(compared(FILE, &counts), Ok(None));
        }
    }

    #[test]
    fn slower_and_faster_are_failures_and_say_what_to_do() {
        for count in [2041, 1959] {
            let failure = compared(FILE, &[(BARE, 1000), ("first", count)]).unwrap_err();
            let expected = format!("first: {count} instructions, 2000 recorded");
            assert!(failure.starts_with(&expected), "{failure}");
            assert!(failure.contains("guard --write"), "{failure}");
        }
    }

    #[test]
    fn another_machine_is_not_compared() {
        let said = compared(FILE, &[(BARE, 1100), ("first", 9000)]).unwrap();
        assert!(said.unwrap().contains("bare: 1100 instructions"));
    }

    #[test]
    fn what_is_not_recorded_or_damaged_is_told() {
        let unknown = compared(FILE, &[(BARE, 1000), ("replay", 1)]).unwrap_err();
        assert!(unknown.contains("`replay`"), "{unknown}");
        assert!(compared("bare\n", &[(BARE, 1)]).is_err());
    }
}

//! Faults that were put back, one at a time, into a copy of the sources.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Finding, build, spread};
use crate::{complain, say};

const FOLDER: &str = "tests/simulation/faults";

/// How many histories are run in any case, to see how often a fault shows.
const SAMPLE: u64 = 1000;

/// What became of one fault.
struct Row {
    fault: String,
    found: Vec<Finding>,
    sample: u64,
}

/// Says whether each fault was found.
pub(super) fn run(name: &str, from: u64, seeds: u64) -> bool {
    match measure_all(name, from, seeds) {
        Ok(rows) => {
            say(&table(&rows, from));
            rows.iter().all(|row| !row.found.is_empty())
        }
        Err(error) => {
            complain(&format!("cannot measure: {error}"));
            false
        }
    }
}

fn measure_all(name: &str, from: u64, seeds: u64) -> io::Result<Vec<Row>> {
    let mut patches: Vec<PathBuf> = fs::read_dir(FOLDER)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    let is_wanted = |path: &PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.ends_with(".patch") && file.contains(name)
    };
    patches.retain(is_wanted);
    patches.sort();
    let mut rows = Vec::new();
    for patch in patches {
        let fault = patch.file_stem().unwrap_or_default();
        let fault = fault.to_string_lossy().into_owned();
        say(&format!("== {fault}"));
        let (found, sample) = measure(&patch, from, seeds)?;
        match found.first() {
            Some(first) => say(&format!("   {first}")),
            None => complain(&format!("   not found in {sample} histories")),
        }
        rows.push(Row {
            fault,
            found,
            sample,
        });
    }
    Ok(rows)
}

/// Returns what was found in how many histories.
fn measure(patch: &Path, from: u64, seeds: u64) -> io::Result<(Vec<Finding>, u64)> {
    let folder = Path::new("target/simulation-faults");
    let tree = folder.join("tree");
    copy_sources(&tree)?;
    apply(&patch.canonicalize()?, &tree)?;
    // Not the usual one: there the copy would take the place of the tree that it is a copy of.
    let program = build(&tree, &std::path::absolute(folder.join("target"))?)?;
    let sample = SAMPLE.min(seeds);
    let mut found = spread(&program, from, sample, false)?;
    let mut ran = sample;
    while found.is_empty() && ran < seeds {
        let more = (seeds - ran).min(2 * SAMPLE);
        found = spread(&program, from + ran, more, true)?;
        ran += more;
    }
    Ok((found, ran))
}

/// Copies what git knows or would know. Files that are equal are left alone, so that little is built.
fn copy_sources(tree: &Path) -> io::Result<()> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for file in listed.split('\0').filter(|file| !file.is_empty()) {
        let Ok(content) = fs::read(file) else {
            // It was removed, or is a folder.
            continue;
        };
        let copy = tree.join(file);
        if fs::read(&copy).is_ok_and(|copied| copied == content) {
            continue;
        }
        if let Some(folder) = copy.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&copy, content)?;
    }
    Ok(())
}

fn apply(patch: &Path, tree: &Path) -> io::Result<()> {
    let applied = Command::new("git")
        .current_dir(tree)
        // Not the repository that the copy happens to be in.
        .env(
            "GIT_CEILING_DIRECTORIES",
            std::path::absolute(tree)?.parent().unwrap_or(tree),
        )
        .arg("apply")
        .arg(patch)
        .status()?;
    if applied.success() {
        return Ok(());
    }
    let message = format!("{} does not apply", patch.display());
    Err(io::Error::other(message))
}

fn table(rows: &[Row], from: u64) -> String {
    let mut text = String::from(
        "\n| fault | seeds until it was found | found by, of the first 1,000 | invariants |\n| --- | --- | --- | --- |\n",
    );
    for row in rows {
        let Some(first) = row.found.first() else {
            text += &format!("| {} | not in {} | 0 | |\n", row.fault, row.sample);
            continue;
        };
        let seeds = first.seed - from + 1;
        let sampled = row
            .found
            .iter()
            .filter(|it| it.seed < from + SAMPLE)
            .count();
        let invariants: BTreeSet<&str> = row.found.iter().map(|it| invariant(&it.what)).collect();
        let invariants: Vec<&str> = invariants.into_iter().collect();
        text += &format!(
            "| {} | {seeds} | {sampled} | {} |\n",
            row.fault,
            invariants.join(", ")
        );
    }
    text
}

fn invariant(what: &str) -> &str {
    if what.starts_with("the process ended") {
        return "aborts";
    }
    what.split(':').next().unwrap_or(what)
}

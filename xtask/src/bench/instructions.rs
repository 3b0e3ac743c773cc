//! `cargo xtask bench instructions`: instructions of a request, counted by valgrind's callgrind.
//!
//! They do not depend on what else the machine does, so that small steps can be told from noise.

use std::path::Path;
use std::process::Command;

use super::options::Options;
use super::{document, measurer};
use crate::{complain, servers};

/// The difference of two runs leaves out what comes before the first request.
const REQUESTS: [u64; 2] = [1000, 3000];

const ROWS: &[(&str, &str, &str)] = &[
    ("bare axum", "bare", "keyless"),
    ("ours, memory", "memory", "keyless"),
    ("ours, memory", "memory", "first"),
    ("ours, memory", "memory", "replay"),
];

pub(super) fn run(options: &Options) -> Result<(), String> {
    let valgrind = servers::found_or_installed("valgrind", "valgrind")?;
    let benches = measurer::build()?;
    let mut table =
        "| | request | instructions | more than bare axum |\n| --- | --- | --: | --: |".to_owned();
    let mut bare = None;
    for (title, name, mode) in ROWS {
        complain(&format!("== {title}, {mode}"));
        let [few, many] = REQUESTS.map(|requests| count(&valgrind, &benches, name, mode, requests));
        let each = (many? - few?) / (REQUESTS[1] - REQUESTS[0]);
        let more = each.saturating_sub(*bare.get_or_insert(each));
        table.push_str(&format!("\n| {title} | {mode} | {each} | {more} |"));
    }
    document::publish(options, "instructions", &table)
}

fn count(
    valgrind: &Path,
    benches: &Path,
    name: &str,
    mode: &str,
    requests: u64,
) -> Result<u64, String> {
    let counted = Command::new(valgrind)
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(benches)
        .args(["instructions", "--impl", name, "--mode", mode, "--requests"])
        .arg(requests.to_string())
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

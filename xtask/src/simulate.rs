//! `cargo xtask simulate`: histories of the simulation, on all processors, and how many it takes to find
//! a fault that was put back.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Instant;

use crate::{complain, guard, say};

mod faults;

pub(crate) const HELP: &str = "\
  simulate [--seeds N] [--from S] [--faults [NAME]]

          run N simulated histories (default 1,000) of the seeds from S on (default 0), and say which
          broke an invariant. A single seed shows its whole history. tests/simulation/README.md says
          what is simulated.

          With --faults, each patch of tests/simulation/faults (or those whose name contains NAME) is
          applied to a copy of the sources, and histories are run until one finds it, N at most
          (default 60,000).

";

/// How many seeds a fault gets by default.
const FAULT_SEEDS: u64 = 60_000;

#[derive(Debug, Default)]
struct Options {
    seeds: Option<u64>,
    from: u64,
    /// With a part of their names.
    faults: Option<String>,
}

pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    let options = match parse(arguments) {
        Ok(options) => options,
        Err(error) => {
            complain(&format!("{error}\n\n{HELP}"));
            return ExitCode::from(2);
        }
    };
    let is_fine = match options.faults {
        Some(name) => {
            let seeds = options.seeds.unwrap_or(FAULT_SEEDS);
            faults::run(&name, options.from, seeds)
        }
        None => histories(options.from, options.seeds.unwrap_or(1000)),
    };
    if is_fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn parse(arguments: &[&str]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut arguments = arguments.iter().peekable();
    while let Some(argument) = arguments.next() {
        let mut number = || -> Result<u64, String> {
            let value = arguments.next().map(|value| value.replace([',', '_'], ""));
            let value = value.and_then(|value| value.parse().ok());
            value.ok_or_else(|| format!("{argument} wants a number"))
        };
        match *argument {
            "--seeds" => options.seeds = Some(number()?),
            "--from" => options.from = number()?,
            "--faults" => {
                let name = arguments.next_if(|next| !next.starts_with("--"));
                options.faults = Some(name.copied().unwrap_or_default().to_owned());
            }
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(options)
}

/// Runs histories of this tree, and says whether all were as they should be.
pub(crate) fn histories(from: u64, seeds: u64) -> bool {
    let begun = Instant::now();
    let here = Path::new(".");
    let ran = build(here, &here.join("target")).and_then(|program| {
        if seeds == 1 {
            return show(&program, from).map(|is_fine| (is_fine, 0));
        }
        let found = spread(&program, from, seeds, false)?;
        for finding in &found {
            say(&finding.to_string());
        }
        Ok((found.is_empty(), found.len()))
    });
    match ran {
        Ok((is_fine, found)) => {
            let seconds = begun.elapsed().as_secs();
            say(&format!(
                "   {seeds} histories from seed {from}: {found} findings, {seconds} s"
            ));
            is_fine
        }
        Err(error) => {
            complain(&format!("cannot simulate: {error}"));
            false
        }
    }
}

/// A seed that broke an invariant.
#[derive(Clone, Debug)]
struct Finding {
    seed: u64,
    /// The invariant, and how it was broken.
    what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, what } = self;
        write!(
            f,
            "seed {seed}: {what}\n  replay: cargo xtask simulate --seeds 1 --from {seed}"
        )
    }
}

/// Builds the simulation of a tree, and says where it is.
fn build(tree: &Path, target: &Path) -> io::Result<PathBuf> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(tree)
        .args(["test", "--profile", "simulation", "--test", "simulation"])
        .args([
            "--no-run",
            "--quiet",
            "--message-format=json-render-diagnostics",
        ])
        .arg("--target-dir")
        .arg(target.canonicalize().unwrap_or_else(|_| target.to_owned()))
        .stdout(Stdio::piped());
    let mut running = guard::spawn(&mut command)?;
    let mut program = None;
    if let Some(output) = running.0.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            if let Some((_, rest)) = line.split_once(r#""executable":""#) {
                program = rest.split('"').next().map(PathBuf::from).or(program);
            }
        }
    }
    let status = running.0.wait()?;
    program
        .filter(|_| status.success())
        .ok_or_else(|| io::Error::other("the simulation does not build"))
}

fn command(program: &Path, from: u64, seeds: u64) -> Command {
    let mut command = Command::new(program);
    command
        .args(["histories_of_random_seeds", "--nocapture"])
        .env("SIMULATION_FROM", from.to_string())
        .env("SIMULATION_SEEDS", seeds.to_string())
        .env("RUST_BACKTRACE", "0");
    command
}

/// Shows one history.
fn show(program: &Path, seed: u64) -> io::Result<bool> {
    let mut running = guard::spawn(&mut command(program, seed, 1))?;
    Ok(running.0.wait()?.success())
}

/// Runs seeds on all processors. With `first` each of them stops at the first finding.
fn spread(program: &Path, from: u64, seeds: u64, first: bool) -> io::Result<Vec<Finding>> {
    let jobs = thread::available_parallelism()?.get() as u64;
    let each = seeds.div_ceil(jobs).max(1);
    let parts = (0..jobs).map(|job| {
        (
            from + job * each,
            each.min(seeds.saturating_sub(job * each)),
        )
    });
    let parts: Vec<_> = parts.filter(|(_, seeds)| *seeds > 0).collect();
    let folder = guard::temporary_folder("simulation")?;
    let found = thread::scope(|scope| {
        let parts = parts.iter().map(|(from, seeds)| {
            let progress = folder.join(from.to_string());
            scope.spawn(move || part(program, *from, *seeds, first, &progress))
        });
        let parts: Vec<_> = parts.collect();
        let mut found = Vec::new();
        for part in parts {
            let panicked = || io::Error::other("a part panicked");
            found.extend(part.join().map_err(|_| panicked())??);
        }
        io::Result::Ok(found)
    });
    fs::remove_dir_all(&folder)?;
    let mut found = found?;
    found.sort_by_key(|finding| finding.seed);
    Ok(found)
}

fn part(
    program: &Path,
    from: u64,
    seeds: u64,
    first: bool,
    progress: &Path,
) -> io::Result<Vec<Finding>> {
    let mut command = command(program, from, seeds);
    command
        .env("SIMULATION_PROGRESS", progress)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if first {
        command.env("SIMULATION_FIRST", "1");
    }
    let mut running = guard::spawn(&mut command)?;
    let stderr = running.0.stderr.take();
    let said = thread::spawn(move || stderr.map(io::read_to_string));
    let mut found = Vec::new();
    if let Some(output) = running.0.stdout.take() {
        for line in BufReader::new(output).lines() {
            found.extend(finding(&line?));
        }
    }
    let status = running.0.wait()?;
    let said = said.join().ok().flatten().transpose()?.unwrap_or_default();
    if !status.success() && found.is_empty() {
        // It was not an invariant: the process is gone, or a test has panicked.
        let seed = fs::read_to_string(progress).unwrap_or_default();
        let mut what = format!("the process ended: {status}");
        if let Some(line) = said
            .lines()
            .rfind(|line| line.contains("fatal") || line.contains("panicked"))
        {
            let _ = write!(what, ", {}", line.trim());
        }
        found.push(Finding {
            seed: seed.trim().parse().unwrap_or(from),
            what,
        });
    }
    Ok(found)
}

/// `seed 7: I1: ...`
fn finding(line: &str) -> Option<Finding> {
    let (seed, what) = line.strip_prefix("seed ")?.split_once(": ")?;
    Some(Finding {
        seed: seed.parse().ok()?,
        what: what.to_owned(),
    })
}

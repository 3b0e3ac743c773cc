//! `cargo xtask bench stores`, `cargo xtask bench scale` and `cargo xtask bench workers`: load without HTTP, by
//! `idempotent-benches`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::options::{self, Options, includes};
use super::{document, machine, measurer};
use crate::{complain, say, servers};

/// A store, the server that it needs, and the numbers of records that it is filled with.
struct Kind {
    name: &'static str,
    server: Option<&'static str>,
    sizes: &'static [u32],
}

const fn kind(name: &'static str, server: Option<&'static str>, sizes: &'static [u32]) -> Kind {
    Kind {
        name,
        server,
        sizes,
    }
}

/// `redis` keeps nothing on its disk; `redis-aof` has each write there before it is answered, which is
/// what money asks for.
const STORES: &[Kind] = &[
    kind("memory", None, &[10_000, 100_000, 1_000_000, 10_000_000]),
    kind(
        "redis",
        Some("Redis"),
        &[10_000, 100_000, 1_000_000, 10_000_000],
    ),
    kind("redis-aof", Some("Redis"), &[]),
    kind(
        "postgres",
        Some("PostgreSQL"),
        &[10_000, 100_000, 1_000_000, 10_000_000],
    ),
    kind("sqlite", None, &[10_000, 100_000, 1_000_000, 10_000_000]),
    // Ten million take an hour to be filled in.
    kind("mysql", Some("MariaDB"), &[10_000, 100_000, 1_000_000]),
];

/// The largest number of records with `--quick`.
const QUICK: u32 = 10_000;

/// What a record in memory is expected to take at the most, in bytes, while it is
/// measured whether it does.
const EXPECTED_BYTES: u64 = 1500;

pub(super) fn stores(options: &Options) -> Result<(), String> {
    let known = || STORES.iter().filter(|kind| kind.name != "memory");
    options::check(&options.stores, known().map(|kind| kind.name))?;
    let pgbench = servers::found_or_installed("pgbench", "postgresql")?;
    let mut report = Report::new(options, "stores")?;
    for kind in known().filter(|kind| includes(&options.stores, kind.name)) {
        report.measure(kind, |command| {
            command.args(["--rounds", &options.rounds().to_string()]);
            command.args(["--seconds", &options.seconds().to_string()]);
            command.arg("--pgbench").arg(&pgbench);
        });
    }
    let how = format!("{} rounds of {} s. ", options.rounds(), options.seconds());
    report.publish(&how)
}

pub(super) fn scale(options: &Options) -> Result<(), String> {
    let known = || STORES.iter().filter(|kind| !kind.sizes.is_empty());
    options::check(&options.stores, known().map(|kind| kind.name))?;
    let sizes = STORES.iter().flat_map(|kind| kind.sizes);
    let sizes: Vec<_> = sizes.map(u32::to_string).collect();
    options::check(&options.records, sizes.iter().map(String::as_str))?;
    let mut report = Report::new(options, "scale")?;
    for kind in known().filter(|kind| includes(&options.stores, kind.name)) {
        for size in kind.sizes {
            let is_wanted = includes(&options.records, &size.to_string());
            if !is_wanted || (options.quick && *size > QUICK) {
                continue;
            }
            let needed = u64::from(*size) * EXPECTED_BYTES;
            let name = kind.name;
            if matches!(name, "memory" | "redis") && machine::available_bytes()? < needed {
                report.skip(&format!(
                    "{name}, {size} records: might need {needed} bytes"
                ));
                continue;
            }
            report.measure(kind, |command| {
                command.args(["--records", &size.to_string()]);
            });
        }
    }
    report.publish("")
}

pub(super) fn workers(options: &Options) -> Result<(), String> {
    let program = measurer::build("idempotent-benches")?;
    let (rounds, seconds) = (options.rounds(), options.seconds());
    let mut command = Command::new(program);
    command.args(["workers", "--rounds", &rounds.to_string()]);
    command.args(["--seconds", &seconds.to_string()]);
    if options.json {
        command.arg("--json");
    }
    let rows = output(&mut command)?;
    if options.json {
        say(rows.trim_end());
    }
    let how = machine::description();
    let text = format!("{rows}\n{rounds} rounds of {seconds} s. {how}\n");
    document::publish(options, "workers", &text)
}

/// The table as it grows: a process of `idempotent-benches` prints its head, others a part of it each.
struct Report<'a> {
    options: &'a Options,
    task: &'static str,
    program: std::path::PathBuf,
    description: String,
    table: String,
    notes: Vec<String>,
    failures: Vec<String>,
}

impl<'a> Report<'a> {
    fn new(options: &'a Options, task: &'static str) -> Result<Self, String> {
        let mut report = Self {
            options,
            task,
            program: measurer::build("idempotent-benches")?,
            description: machine::description(),
            table: String::new(),
            notes: Vec::new(),
            failures: Vec::new(),
        };
        if !options.json {
            report.table = output(Command::new(&report.program).args([task, "--head"]))?;
        }
        Ok(report)
    }

    fn measure(&mut self, kind: &Kind, arguments: impl FnOnce(&mut Command)) {
        match self.rows(kind, arguments) {
            Ok(rows) if self.options.json => say(rows.trim_end()),
            Ok(rows) => self.table += &rows,
            Err(cause) => self.failures.push(format!("{}: {cause}", kind.name)),
        }
    }

    /// On a server, or in a file, that is its own and gone afterwards.
    fn rows(&self, kind: &Kind, arguments: impl FnOnce(&mut Command)) -> Result<String, String> {
        complain(&format!("== {} {}", self.task, kind.name));
        let folder = crate::guard::temporary_folder("bench").map_err(|error| error.to_string())?;
        let server = kind.server.map(servers::start).transpose()?;
        let url = match (&server, kind.name) {
            (Some(server), _) => server.url.clone(),
            (None, "memory") => "memory:".to_owned(),
            (None, _) => format!("sqlite:{}", folder.join("records.db").display()),
        };
        let mut command = Command::new(&self.program);
        command.args([self.task, "--store", &format!("{}={url}", kind.name)]);
        arguments(&mut command);
        if self.options.json {
            command.arg("--json");
        }
        let rows = output(&mut command);
        drop(server);
        remove(&folder);
        rows
    }

    fn skip(&mut self, what: &str) {
        complain(&format!("== skipped: {what}"));
        self.notes
            .push(format!("Skipped for want of memory: {what}."));
    }

    fn publish(self, how: &str) -> Result<(), String> {
        let mut text = format!("{}\n{how}{}\n", self.table, self.description);
        for note in &self.notes {
            text += &format!("\n{note}\n");
        }
        document::publish(self.options, self.task, &text)?;
        match self.failures.as_slice() {
            [] => Ok(()),
            failures => Err(format!(
                "not everything was measured:\n{}",
                failures.join("\n")
            )),
        }
    }
}

fn output(command: &mut Command) -> Result<String, String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run idempotent-benches: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err("idempotent-benches failed".to_owned())
    }
}

fn remove(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
}

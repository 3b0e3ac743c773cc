//! This machine: its cores, what they and processes are doing, what it is called.

use std::fs;
use std::process::{Command, Stdio};

/// A tick of `/proc`, on every Linux that there is.
const TICK_MICROS: f64 = 10_000.0;

/// Which core does what. The stores share the load generator's if there is no third one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cores {
    pub(super) server: usize,
    pub(super) load: usize,
    pub(super) stores: usize,
}

impl Cores {
    pub(super) fn of_this_machine() -> Result<Self, String> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if cores < 2 {
            return Err(
                "a server and a load generator need a core each, and there is one".to_owned(),
            );
        }
        Ok(Self {
            server: 0,
            load: 1,
            stores: if cores > 2 { 2 } else { 1 },
        })
    }
}

/// Puts this process on a core, and with it what it starts from now on.
pub(super) fn move_to(core: usize) -> Result<(), String> {
    let moved = Command::new("taskset")
        .args(["--all-tasks", "--pid", "--cpu-list", &core.to_string()])
        .arg(std::process::id().to_string())
        .stdout(Stdio::null())
        .status();
    match moved {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("taskset failed: {status}")),
        Err(error) => Err(format!("cannot run taskset: {error}")),
    }
}

/// How much of its time a core has been busy, since the system was started.
#[derive(Clone, Copy, Debug)]
pub(super) struct CoreTime {
    busy: f64,
    total: f64,
}

impl CoreTime {
    pub(super) fn read(core: usize) -> Result<Self, String> {
        let stat = read("/proc/stat")?;
        let name = format!("cpu{core} ");
        let line = stat.lines().find_map(|line| line.strip_prefix(&name));
        let line = line.ok_or_else(|| format!("/proc/stat has no core {core}"))?;
        // user nice system idle iowait irq softirq steal; guests are in user already.
        let fields: Vec<f64> = line
            .split_whitespace()
            .take(8)
            .flat_map(str::parse)
            .collect();
        let total: f64 = fields.iter().sum();
        let idle: f64 = fields.iter().skip(3).take(2).sum();
        Ok(Self {
            busy: total - idle,
            total,
        })
    }

    /// From 0 to 1.
    pub(super) fn busy_since(self, earlier: Self) -> f64 {
        let total = self.total - earlier.total;
        if total > 0.0 {
            (self.busy - earlier.busy) / total
        } else {
            0.0
        }
    }
}

/// The processor time that a process has used, in microseconds.
pub(super) fn process_micros(pid: u32) -> Result<f64, String> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    // Its name may have spaces, and ends with the last parenthesis.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let times = fields.split_whitespace().skip(11).take(2);
    let ticks: f64 = times.flat_map(str::parse::<f64>).sum();
    Ok(ticks * TICK_MICROS)
}

/// How much memory a process has, in megabytes of 10^6 bytes.
pub(super) fn resident_mb(pid: u32) -> Result<f64, String> {
    let status = read(&format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    let kib = kib.ok_or_else(|| format!("/proc/{pid}/status does not say how large it is"))?;
    Ok(kib * 1024.0 / 1e6)
}

/// How much memory processes could have without anything being swapped out.
pub(super) fn available_bytes() -> Result<u64, String> {
    let info = read("/proc/meminfo")?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let kib = kib.ok_or("/proc/meminfo does not say how much memory is available")?;
    Ok(kib * 1024)
}

/// What a table needs to be worth something later: the machine, the toolchain, the commit, the day.
pub(super) fn description() -> String {
    let cpu = read("/proc/cpuinfo").ok().and_then(|info| {
        let line = info.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(": ")?.1.to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo").ok().and_then(|info| {
        let kib: f64 = info.split_whitespace().nth(1)?.parse().ok()?;
        Some(format!("{:.0} GiB", kib / 1024.0 / 1024.0))
    });
    let unknown = || "unknown".to_owned();
    let changed = output("git", &["status", "--porcelain", "--untracked-files=no"]);
    format!(
        "{}, {cores} cores, {}; Linux {}; {}; commit {}{}; {}",
        cpu.unwrap_or_else(unknown),
        memory.unwrap_or_else(unknown),
        output("uname", &["--kernel-release"]),
        output("rustc", &["--version"]),
        output("git", &["rev-parse", "--short=10", "HEAD"]),
        if changed.is_empty() {
            ""
        } else {
            " with changes"
        },
        output("date", &["--utc", "--iso-8601"]),
    )
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))
}

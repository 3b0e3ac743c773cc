//! `cargo xtask bench http`: servers one after the other, in rounds, each on one core, with the load
//! generator on another.
//!
//! What else the machine does changes from minute to minute, so a number is compared only to that of
//! bare axum from the same round, and the median of those ratios is what counts.

use std::path::Path;

use self::backends::Backends;
use self::implementations::{ALL, BARE, Implementation};
use self::sample::{Row, Sample};
use self::server::Server;
use self::wrk::{Body, KEYS, Load, Wrk};
use super::machine::{self, Cores};
use super::options::{self, Options, includes};
use super::{document, measurer};
use crate::{complain, servers};

mod backends;
mod chart;
mod implementations;
mod sample;
mod server;
mod tables;
mod wrk;

/// `first`: each request has a key of its own. `replay`: all have the same. `replays`: each has one of 10,000.
/// `keyless`: none has one.
const MODES: [&str; 4] = ["first", "replay", "replays", "keyless"];

const BODIES: [u32; 2] = [200, 64 * 1024];

/// Not measured: ten thousand large responses say no more than small ones, and take 640 MiB.
const LARGE_REPLAYS: (&str, u32) = ("replays", 64 * 1024);

/// How long a server is under load before it counts, in seconds.
const WARM_UP: u32 = 1;

/// Everything that a sample is taken with.
struct Laboratory<'a> {
    program: &'a Path,
    folder: &'a Path,
    cores: Cores,
    wrk: Wrk,
    backends: Backends,
    seconds: u32,
    /// Makes the keys of each load its own.
    loads: u32,
    failures: Vec<String>,
}

pub(super) fn run(options: &Options) -> Result<(), String> {
    let bodies = BODIES.map(|bytes| bytes.to_string());
    options::check(&options.implementations, ALL.iter().map(|it| it.name))?;
    options::check(&options.modes, MODES.into_iter())?;
    options::check(&options.bodies, bodies.iter().map(String::as_str))?;
    let wanted: Vec<_> = ALL
        .iter()
        .filter(|it| it.name == BARE || includes(&options.implementations, it.name))
        .collect();

    let cores = Cores::of_this_machine()?;
    let program = measurer::build("idempotent-benches")?;
    let description = machine::description();
    let folder = crate::guard::temporary_folder("bench").map_err(|error| error.to_string())?;
    let wrk = Wrk::new(servers::found_or_installed("wrk", "wrk")?, &folder)?;
    machine::move_to(cores.stores)?;
    let backends = Backends::start(&wanted, &folder)?;
    machine::move_to(cores.load)?;
    let mut laboratory = Laboratory {
        program: &program,
        folder: &folder,
        cores,
        wrk,
        backends,
        seconds: options.seconds(),
        loads: 0,
        failures: Vec::new(),
    };

    let mut rows = Vec::new();
    for body_bytes in BODIES {
        for mode in MODES {
            let is_wanted = includes(&options.modes, mode)
                && includes(&options.bodies, &body_bytes.to_string());
            if is_wanted && (mode, body_bytes) != LARGE_REPLAYS {
                rows.extend(laboratory.rows(&wanted, mode, body_bytes, options.rounds()));
            }
        }
    }
    let failures = std::mem::take(&mut laboratory.failures);
    drop(laboratory);
    let _ = std::fs::remove_dir_all(&folder);

    if options.json {
        tables::json(&rows);
    }
    let how = format!(
        "{} rounds of {} s. {description}",
        options.rounds(),
        options.seconds()
    );
    let (cost, hot): (Vec<_>, Vec<_>) =
        rows.iter().partition(|row| !row.mode.starts_with("replay"));
    for (place, rows) in [("cost", cost), ("hot", hot)] {
        document::publish(options, place, &tables::markdown(&rows, &how))?;
    }
    if let Some(file) = &options.chart {
        let drawn = chart::draw(&rows, &how);
        std::fs::write(file, drawn).map_err(|error| format!("cannot write the chart: {error}"))?;
    }
    match failures.as_slice() {
        [] => Ok(()),
        failures => Err(format!(
            "not everything was measured:\n{}",
            failures.join("\n")
        )),
    }
}

impl Laboratory<'_> {
    /// All implementations in one mode with one size of body, one after the other in each round.
    fn rows(
        &mut self,
        wanted: &[&'static Implementation],
        mode: &'static str,
        body_bytes: u32,
        rounds: u32,
    ) -> Vec<Row> {
        complain(&format!("== {mode}, {body_bytes} bytes"));
        let is_fit = |it: &&&Implementation| !it.unfit.contains(&(mode, body_bytes));
        let wanted: Vec<_> = wanted.iter().filter(is_fit).copied().collect();
        let mut pairs = vec![Vec::new(); wanted.len()];
        for round in 0..rounds {
            let samples = self.round(&wanted, mode, body_bytes, round);
            let of_bare = wanted.iter().position(|it| it.name == BARE);
            let Some(bare) = of_bare.and_then(|at| samples.get(at).copied().flatten()) else {
                continue;
            };
            for (pairs, sample) in pairs.iter_mut().zip(&samples) {
                pairs.extend(sample.map(|own| (own, bare)));
            }
        }
        // Who has failed once has no row: what is left of it is not what was asked for.
        let whole = wanted.iter().zip(&pairs);
        whole
            .filter(|(_, pairs)| pairs.len() == rounds as usize)
            .filter_map(|(it, pairs)| Row::new(it, mode, body_bytes, pairs))
            .collect()
    }

    /// One sample of each, in the order of `wanted`. They are taken in an order that begins elsewhere in
    /// each round, so that none always follows the same other.
    fn round(
        &mut self,
        wanted: &[&'static Implementation],
        mode: &'static str,
        body_bytes: u32,
        round: u32,
    ) -> Vec<Option<Sample>> {
        let mut samples = vec![None; wanted.len()];
        for step in 0..wanted.len() {
            let at = (step + round as usize) % wanted.len();
            let (Some(implementation), Some(slot)) = (wanted.get(at), samples.get_mut(at)) else {
                continue;
            };
            match self.sample(implementation, mode, body_bytes) {
                Ok(sample) => {
                    complain(&format!(
                        "   {:18} {:9.0} /s",
                        implementation.name, sample.rps
                    ));
                    *slot = Some(sample);
                }
                Err(cause) => {
                    let failure = format!("{}, {mode}, {body_bytes}: {cause}", implementation.name);
                    complain(&format!("   {failure}"));
                    self.failures.push(failure);
                }
            }
        }
        samples
    }

    fn sample(
        &mut self,
        implementation: &Implementation,
        mode: &str,
        body_bytes: u32,
    ) -> Result<Sample, String> {
        let body = Body::new(body_bytes, self.folder)?;
        let store = self.backends.emptied(implementation.backend)?;
        let core = self.cores.server;
        let server = Server::start(self.program, core, implementation.name, store.as_deref())?;
        self.loads += 1;
        let prefix = |part: u32| format!("{:07x}{part:x}", self.loads);
        let (warm_up, measured) = match mode {
            "first" => (prefix(0), prefix(1)),
            _ => (prefix(0), prefix(0)),
        };
        let load = Load {
            mode,
            body: &body,
            prefix: &warm_up,
            with_session: implementation.wants_session,
            seconds: WARM_UP,
        };
        if mode == "replay" {
            let answer = server.ask(&load.first_of_replays())?;
            if !answer.starts_with("HTTP/1.1 201 ") {
                return Err(format!("the first request is answered {answer}"));
            }
        }
        self.wrk.run(server.address, &load)?;
        // Until each key has run once.
        while mode == "replays" && server.executions()? < f64::from(KEYS) {
            self.wrk.run(server.address, &load)?;
        }
        let load = Load {
            prefix: &measured,
            seconds: self.seconds,
            ..load
        };
        Sample::take(&server, self.cores, &self.wrk, &load)
    }
}

//! One store with more and more records: what a claim, a replay and a sweep cost, and the room it takes.

use std::time::Duration;

use crate::Failure;
use crate::numbers::Latencies;
use crate::report::{Line, say};

mod load;
mod memory;
mod room;
mod server;

/// How many records one purge is asked for, as the sweeping task does it.
const BATCH: usize = 1000;

struct Options {
    name: String,
    url: String,
    records: u64,
    json: bool,
}

/// What many callers at once get.
#[derive(Clone, Copy)]
struct Rate {
    per_s: f64,
    p99_us: Option<f64>,
}

/// What was found, in microseconds and bytes.
#[derive(Default)]
struct Findings {
    claim_us: Option<f64>,
    longest_claim_us: Option<f64>,
    replay_us: Option<f64>,
    /// Under load.
    pairs: Option<Rate>,
    replays: Option<Rate>,
    bytes_per_record: Option<f64>,
    sweep_per_record_us: Option<f64>,
    purge_p99_us: Option<f64>,
    longest_purge_us: Option<f64>,
    /// The longest look-up by another thread while nothing is swept, and while something is.
    longest_look_up_us: Option<f64>,
    longest_look_up_sweeping_us: Option<f64>,
    /// The longest time for which that thread came to nothing meanwhile, though it asked for nothing.
    longest_pause_sweeping_us: Option<f64>,
}

pub(crate) fn run(arguments: lexopt::Parser) -> Result<(), Failure> {
    let Some(options) = parse(arguments)? else {
        say(
            "| store | records | claim | longest while filling | replay | claim + complete, 64 callers | p99 | replay, 64 callers | p99 | bytes a record | sweep, a record | purge of 1000, p99 | longest | longest look-up by another thread | while sweeping | its longest pause |",
        );
        say(
            "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
        );
        return Ok(());
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let findings = match options.name.as_str() {
        "memory" => runtime.block_on(memory::measure(options.records))?,
        _ => runtime.block_on(server::measure(&options))?,
    };
    findings.print(&options);
    Ok(())
}

fn parse(mut arguments: lexopt::Parser) -> Result<Option<Options>, Failure> {
    use lexopt::prelude::*;
    let (mut store, mut records, mut json) = (None, 0, false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("head") => return Ok(None),
            Long("store") => store = Some(arguments.value()?.string()?),
            Long("records") => records = arguments.value()?.parse()?,
            Long("json") => json = true,
            _ => return Err(argument.unexpected().into()),
        }
    }
    let store = store.ok_or("which --store?")?;
    let (name, url) = store.split_once('=').ok_or("a store is NAME=URL")?;
    if records == 0 {
        return Err("how many --records?".into());
    }
    Ok(Some(Options {
        name: name.to_owned(),
        url: url.to_owned(),
        records,
        json,
    }))
}

impl Findings {
    fn swept(&mut self, mut purges: Latencies, swept: u64, took: Duration) {
        self.sweep_per_record_us = Some(took.as_secs_f64() * 1e6 / swept as f64);
        self.purge_p99_us = purges.quantile(0.99);
        self.longest_purge_us = purges.quantile(1.0);
    }

    fn print(&self, options: &Options) {
        let columns = [
            ("claim_us", self.claim_us),
            ("longest_claim_us", self.longest_claim_us),
            ("replay_us", self.replay_us),
            ("pairs_per_s", self.pairs.map(|pairs| pairs.per_s)),
            ("pairs_p99_us", self.pairs.and_then(|pairs| pairs.p99_us)),
            ("replays_per_s", self.replays.map(|replays| replays.per_s)),
            (
                "replays_p99_us",
                self.replays.and_then(|replays| replays.p99_us),
            ),
            ("bytes_per_record", self.bytes_per_record),
            ("sweep_per_record_us", self.sweep_per_record_us),
            ("purge_p99_us", self.purge_p99_us),
            ("longest_purge_us", self.longest_purge_us),
            ("longest_look_up_us", self.longest_look_up_us),
            (
                "longest_look_up_sweeping_us",
                self.longest_look_up_sweeping_us,
            ),
            ("longest_pause_sweeping_us", self.longest_pause_sweeping_us),
        ];
        if options.json {
            let line = Line::default()
                .with("store", options.name.as_str())
                .with("records", options.records);
            let line = columns
                .into_iter()
                .fold(line, |line, (name, value)| line.number(name, value));
            line.say();
            return;
        }
        let cells = columns.map(|(name, value)| match value {
            None => String::new(),
            Some(bytes) if name == "bytes_per_record" => format!("{bytes:.0}"),
            Some(rate) if name.ends_with("_per_s") => format!("{rate:.0}/s"),
            Some(micros) if micros >= 1000.0 => format!("{:.1} ms", micros / 1000.0),
            Some(micros) => format!("{micros:.2} µs"),
        });
        say(&format!(
            "| {} | {} | {} |",
            options.name,
            options.records,
            cells.join(" | ")
        ));
    }
}

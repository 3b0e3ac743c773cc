//! Load on one store, without HTTP: throughput, latency, and what the server counts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use idempotent_runtime::store::Store;

use self::load::{Operation, Run};
use self::meter::{Meter, Reading};
use crate::Failure;
use crate::numbers::{median, response, series};
use crate::report::{Line, say};

mod ceiling;
pub(crate) mod connect;
pub(crate) mod load;
mod meter;

/// How many ask at the same time.
const CALLERS: [u32; 3] = [1, 16, 64];

/// With as many callers as the ceiling is measured.
const CEILING_CALLERS: u32 = 16;

struct Options {
    name: String,
    url: String,
    rounds: u32,
    length: Duration,
    pgbench: Option<PathBuf>,
    json: bool,
}

/// One operation with one number of callers, once.
struct Sample {
    rate: f64,
    p50_us: f64,
    p99_us: f64,
    spent: Reading,
}

pub(crate) fn run(arguments: lexopt::Parser) -> Result<(), Failure> {
    let Some(options) = parse(arguments)? else {
        say(
            "| store | operation | callers | operations/s | p50 | p99 | round trips | commits | bytes of log | of the ceiling |",
        );
        say("| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: |");
        return Ok(());
    };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(measure(&options))
}

fn parse(mut arguments: lexopt::Parser) -> Result<Option<Options>, Failure> {
    use lexopt::prelude::*;
    let (mut store, mut rounds, mut seconds) = (None, 1, 1);
    let (mut pgbench, mut json) = (None, false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("head") => return Ok(None),
            Long("store") => store = Some(arguments.value()?.string()?),
            Long("rounds") => rounds = arguments.value()?.parse()?,
            Long("seconds") => seconds = arguments.value()?.parse()?,
            Long("pgbench") => pgbench = Some(arguments.value()?.into()),
            Long("json") => json = true,
            _ => return Err(argument.unexpected().into()),
        }
    }
    let store = store.ok_or("which --store?")?;
    let (name, url) = store.split_once('=').ok_or("a store is NAME=URL")?;
    Ok(Some(Options {
        name: name.to_owned(),
        url: url.to_owned(),
        rounds,
        length: Duration::from_secs(seconds),
        pgbench,
        json,
    }))
}

async fn measure(options: &Options) -> Result<(), Failure> {
    let store = connect::store(&options.name, &options.url).await?;
    let mut meter = Meter::new(&options.name, &options.url).await?;
    let mut run = Run::new(Arc::clone(&store), response(), series()?);
    run.warm_up(CALLERS).await?;

    let cells = Operation::ALL.map(|operation| CALLERS.map(|callers| (operation, callers)));
    let cells = cells.as_flattened();
    let mut samples: Vec<Vec<Sample>> = cells.iter().map(|_| Vec::new()).collect();
    let (mut ceilings, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        for ((operation, callers), samples) in cells.iter().zip(&mut samples) {
            let sample = sample(
                &mut run,
                &mut meter,
                &*store,
                *operation,
                *callers,
                options.length,
            )
            .await?;
            let is_ceiled = *operation == Operation::Pair && *callers == CEILING_CALLERS;
            if let (true, "postgres", Some(pgbench)) =
                (is_ceiled, options.name.as_str(), &options.pgbench)
            {
                let ceiling = ceiling::pairs_per_second(
                    pgbench,
                    &options.url,
                    CEILING_CALLERS,
                    options.length,
                )
                .await?;
                ratios.push(sample.rate / ceiling);
                ceilings.push(ceiling);
            }
            samples.push(sample);
        }
    }
    for ((operation, callers), samples) in cells.iter().zip(&samples) {
        let is_ceiled = *operation == Operation::Pair && *callers == CEILING_CALLERS;
        let ratio = if is_ceiled {
            median(ratios.clone())
        } else {
            None
        };
        print(options, operation.name(), *callers, samples, ratio);
    }
    if let Some(ceiling) = median(ceilings) {
        print_ceiling(options, ceiling);
    }
    Ok(())
}

async fn sample(
    run: &mut Run,
    meter: &mut Meter,
    store: &dyn Store,
    operation: Operation,
    callers: u32,
    length: Duration,
) -> Result<Sample, Failure> {
    let before = meter.read(store).await?;
    let mut loaded = run.load(operation, callers, length).await?;
    let after = meter.read(store).await?;
    let count = loaded.latencies.count() as f64;
    Ok(Sample {
        rate: count / loaded.took.as_secs_f64(),
        p50_us: loaded
            .latencies
            .quantile(0.5)
            .ok_or("nothing was measured")?,
        p99_us: loaded
            .latencies
            .quantile(0.99)
            .ok_or("nothing was measured")?,
        spent: after.since(before).per(count),
    })
}

fn print(options: &Options, operation: &str, callers: u32, samples: &[Sample], ratio: Option<f64>) {
    let of = |value: fn(&Sample) -> Option<f64>| median(samples.iter().filter_map(value).collect());
    let rate = of(|sample| Some(sample.rate));
    let (p50, p99) = (
        of(|sample| Some(sample.p50_us)),
        of(|sample| Some(sample.p99_us)),
    );
    let round_trips = of(|sample| sample.spent.round_trips);
    let commits = of(|sample| sample.spent.commits);
    let log_bytes = of(|sample| sample.spent.log_bytes);
    if options.json {
        Line::default()
            .with("store", options.name.as_str())
            .with("operation", operation)
            .with("callers", callers)
            .number("rps", rate)
            .number("p50_us", p50)
            .number("p99_us", p99)
            .number("round_trips", round_trips)
            .number("commits", commits)
            .number("log_bytes", log_bytes)
            .number("of_ceiling", ratio)
            .say();
        return;
    }
    let show = |value: Option<f64>, digits: usize| {
        value.map_or_else(String::new, |value| format!("{value:.digits$}"))
    };
    say(&format!(
        "| {} | {operation} | {callers} | {} | {} µs | {} µs | {} | {} | {} | {} |",
        options.name,
        show(rate, 0),
        show(p50, 0),
        show(p99, 0),
        show(round_trips, 2),
        show(commits, 2),
        show(log_bytes, 0),
        show(ratio, 2),
    ));
}

fn print_ceiling(options: &Options, rate: f64) {
    let operation = "the same two statements in pgbench";
    if options.json {
        Line::default()
            .with("store", options.name.as_str())
            .with("operation", operation)
            .with("callers", CEILING_CALLERS)
            .number("rps", Some(rate))
            .say();
    } else {
        say(&format!(
            "| {} | {operation} | {CEILING_CALLERS} | {rate:.0} | | | | | | 1 |",
            options.name
        ));
    }
}

//! Load on one store, without HTTP: throughput, latency, and what the server counts.

use std::path::PathBuf;
use std::time::Duration;

use self::load::{Driver, Operation, Run};
use self::meter::{Meter, Reading};
use crate::Failure;
use crate::numbers::{median, response, series};
use crate::report::{Line, say};

mod ceiling;
pub(crate) mod connect;
mod insert;
mod insert_by_tokio_postgres;
pub(crate) mod load;
mod meter;

/// How many ask at the same time.
const CALLERS: [u32; 4] = [1, 16, 64, 256];

/// With as many callers as the ceiling is measured.
const CEILING_CALLERS: u32 = 16;

/// How many pay at the same time: one, and as many as there are connections.
const PAYERS: [u32; 2] = [1, connect::CONNECTIONS];

struct Options {
    name: String,
    url: String,
    rounds: u32,
    length: Duration,
    pgbench: Option<PathBuf>,
    /// What the names of the operations that are measured begin with.
    only: String,
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
            "| store | operation | callers | operations/s | p50 | p99 | round trips | commits | bytes of log | of the ceiling, or of the same insert alone |",
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
    let (mut pgbench, mut only, mut json) = (None, String::new(), false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("head") => return Ok(None),
            Long("store") => store = Some(arguments.value()?.string()?),
            Long("rounds") => rounds = arguments.value()?.parse()?,
            Long("seconds") => seconds = arguments.value()?.parse()?,
            Long("pgbench") => pgbench = Some(arguments.value()?.into()),
            Long("only") => only = arguments.value()?.string()?,
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
        only,
        json,
    }))
}

async fn measure(options: &Options) -> Result<(), Failure> {
    let store = connect::store(&options.name, &options.url).await?;
    let inserts = insert::inserts(&options.name, &options.url).await?;
    let mut meter = Meter::new(&options.name, &options.url).await?;
    let mut cells = cells(inserts.iter().map(|inserts| inserts.driver));
    cells.retain(|(operation, _)| operation.name().starts_with(&options.only));
    let mut run = Run::new(store, response(), inserts, series()?);
    run.warm_up(&cells).await?;

    let mut samples: Vec<Vec<Sample>> = cells.iter().map(|_| Vec::new()).collect();
    let (mut ceilings, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        for ((operation, callers), samples) in cells.iter().zip(&mut samples) {
            let sample = sample(options, &mut run, &mut meter, *operation, *callers).await?;
            let is_ceiled = *operation == Operation::Pair && *callers == CEILING_CALLERS;
            if is_ceiled && let Some(ceiling) = ceiling(options).await? {
                ratios.push(sample.rate / ceiling);
                ceilings.push(ceiling);
            }
            samples.push(sample);
        }
    }
    let mut alone: &[Sample] = &[];
    for ((operation, callers), samples) in cells.iter().zip(&samples) {
        let ratios = match operation {
            Operation::Pair if *callers == CEILING_CALLERS => ratios.clone(),
            Operation::InsertByHand | Operation::InsertWithRecord(_) => ratios_of(samples, alone),
            _ => Vec::new(),
        };
        print(options, *operation, *callers, samples, median(ratios));
        if matches!(operation, Operation::Insert(_)) {
            alone = samples;
        }
    }
    if let Some(ceiling) = median(ceilings) {
        print_ceiling(options, ceiling);
    }
    Ok(())
}

/// Pairs a second without this crate.
async fn ceiling(options: &Options) -> Result<Option<f64>, Failure> {
    let (url, length) = (options.url.as_str(), options.length);
    Ok(match (options.name.as_str(), &options.pgbench) {
        ("postgres", Some(pgbench)) => {
            Some(ceiling::of_postgres(pgbench, url, CEILING_CALLERS, length).await?)
        }
        ("mysql", _) => Some(ceiling::of_mysql(url, CEILING_CALLERS, length).await?),
        _ => None,
    })
}

/// What is measured in each round, in this order: inserts that are compared one after the other.
fn cells(drivers: impl Iterator<Item = Driver>) -> Vec<(Operation, u32)> {
    let claims = Operation::ALL.map(|operation| CALLERS.map(|callers| (operation, callers)));
    let inserts = drivers.flat_map(|driver| {
        let inserts = Operation::inserts(driver);
        PAYERS.map(|payers| inserts.iter().map(move |operation| (*operation, payers)))
    });
    let claims = claims.as_flattened().iter().copied();
    claims.chain(inserts.flatten()).collect()
}

/// Of the same round each.
fn ratios_of(samples: &[Sample], others: &[Sample]) -> Vec<f64> {
    let pairs = samples.iter().zip(others);
    pairs
        .map(|(sample, other)| sample.rate / other.rate)
        .collect()
}

async fn sample(
    options: &Options,
    run: &mut Run,
    meter: &mut Meter,
    operation: Operation,
    callers: u32,
) -> Result<Sample, Failure> {
    let store = run.store_of(operation);
    let before = meter.read(&*store).await?;
    let mut loaded = run.load(operation, callers, options.length).await?;
    let after = meter.read(&*store).await?;
    let count = loaded.latencies.count() as f64;
    let mut spent = after.since(before).per(count);
    if options.name == "postgres" && operation.driver().is_some() {
        // It counts no statements within a transaction, a savepoint has an id of its own, and the connections of the
        // application's pool say what they have committed only when they are used again.
        (spent.commits, spent.round_trips) = (None, None);
    }
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
        spent,
    })
}

fn print(
    options: &Options,
    operation: Operation,
    callers: u32,
    samples: &[Sample],
    ratio: Option<f64>,
) {
    let of = |value: fn(&Sample) -> Option<f64>| median(samples.iter().filter_map(value).collect());
    let rate = of(|sample| Some(sample.rate));
    let (p50, p99) = (
        of(|sample| Some(sample.p50_us)),
        of(|sample| Some(sample.p99_us)),
    );
    let round_trips = of(|sample| sample.spent.round_trips);
    let commits = of(|sample| sample.spent.commits);
    let log_bytes = of(|sample| sample.spent.log_bytes);
    let name = operation.name();
    if options.json {
        let is_insert = operation.driver().is_some();
        Line::default()
            .with("store", options.name.as_str())
            .with("operation", name)
            .with("callers", callers)
            .number("rps", rate)
            .number("p50_us", p50)
            .number("p99_us", p99)
            .number("round_trips", round_trips)
            .number("commits", commits)
            .number("log_bytes", log_bytes)
            .number("of_ceiling", ratio.filter(|_| !is_insert))
            .number("of_insert", ratio.filter(|_| is_insert))
            .say();
        return;
    }
    let show = |value: Option<f64>, digits: usize| {
        value.map_or_else(String::new, |value| format!("{value:.digits$}"))
    };
    say(&format!(
        "| {} | {name} | {callers} | {} | {} µs | {} µs | {} | {} | {} | {} |",
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
    let operation = "claim + complete, hand-written";
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

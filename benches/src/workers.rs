//! One worker, and two: what handlers on several cores wait for each other.
//!
//! Requests go through the router in this process, so that both cores are the application's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::numbers::median;
use crate::report::{Line, say};
use crate::till::Till;
use crate::{Failure, impls};

/// What keeps its records in this process: a name, and what a reader is told.
const IMPLEMENTATIONS: [(&str, &str); 4] = [
    ("bare", "axum alone"),
    ("by-hand-map", "hand-written, `Mutex<HashMap>`"),
    ("idempotent", "idempotent 2.0.0, memory"),
    ("memory", "**ours, memory**"),
];

/// 200 bytes.
const PAYMENT: &str = r#"{"amount":4200,"currency":"EUR","order_id":"order-0123456789","note":"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"}"#;

/// Replays are of so many keys, in turn.
const KEYS: u64 = 10_000;

/// A worker lets others run after so many requests.
const SLICE: u64 = 64;

struct Options {
    rounds: u32,
    seconds: u32,
    json: bool,
}

pub(crate) fn run(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    use lexopt::prelude::*;
    let mut options = Options {
        rounds: 5,
        seconds: 2,
        json: false,
    };
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("rounds") => options.rounds = arguments.value()?.parse()?,
            Long("seconds") => options.seconds = arguments.value()?.parse()?,
            Long("json") => options.json = true,
            _ => return Err(argument.unexpected().into()),
        }
    }
    if !options.json {
        say("| | requests | one worker, requests/s | two workers, requests/s | two of one |");
        say("| --- | --- | --: | --: | --: |");
    }
    for is_replay in [false, true] {
        measure(&options, is_replay)?;
    }
    Ok(())
}

/// One round after the other, and in each of them all.
fn measure(options: &Options, is_replay: bool) -> Result<(), Failure> {
    let mut found = vec![(Vec::new(), Vec::new(), Vec::new()); IMPLEMENTATIONS.len()];
    for _ in 0..options.rounds {
        for ((name, _), (one, two, ratio)) in IMPLEMENTATIONS.iter().zip(&mut found) {
            let [of_one, of_two] =
                [1, 2].map(|workers| rate(name, workers, is_replay, options.seconds));
            let (of_one, of_two) = (of_one?, of_two?);
            one.push(of_one);
            two.push(of_two);
            ratio.push(of_two / of_one);
        }
    }
    let mode = if is_replay { "replays" } else { "first" };
    for ((name, what), (one, two, ratio)) in IMPLEMENTATIONS.iter().zip(found) {
        let (one, two, ratio) = (median(one), median(two), median(ratio));
        if options.json {
            Line::default()
                .with("impl", *name)
                .with("mode", mode)
                .number("one_worker_per_s", one)
                .number("two_workers_per_s", two)
                .number("ratio", ratio)
                .say();
            continue;
        }
        let cell = Option::unwrap_or_default;
        say(&format!(
            "| {what} | {mode} | {:.0} | {:.0} | {:.2} |",
            cell(one),
            cell(two),
            cell(ratio)
        ));
    }
    Ok(())
}

/// Requests a second, on a runtime and a router of their own.
fn rate(name: &str, workers: usize, is_replay: bool, seconds: u32) -> Result<f64, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()?;
    let app = runtime.block_on(impls::router(name, Till::default(), None))?;
    let next = Arc::new(AtomicU64::new(0));
    if is_replay {
        for number in 0..KEYS {
            runtime.block_on(pay(&app, number))?;
        }
    }
    load(
        &runtime,
        &app,
        &next,
        workers,
        is_replay,
        Duration::from_millis(500),
    )?;
    let before = next.load(Ordering::Relaxed);
    let length = Duration::from_secs(seconds.into());
    let took = load(&runtime, &app, &next, workers, is_replay, length)?;
    let requests = next.load(Ordering::Relaxed) - before;
    Ok(requests as f64 / took.as_secs_f64())
}

fn load(
    runtime: &Runtime,
    app: &Router,
    next: &Arc<AtomicU64>,
    workers: usize,
    is_replay: bool,
    length: Duration,
) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let (app, next) = (app.clone(), Arc::clone(next));
        let work = async move {
            while begun.elapsed() < length {
                let first = next.fetch_add(SLICE, Ordering::Relaxed);
                for number in first..first + SLICE {
                    let number = if is_replay { number % KEYS } else { number };
                    pay(&app, number).await?;
                }
                tokio::task::yield_now().await;
            }
            Ok::<_, Failure>(())
        };
        tasks.spawn_on(work, runtime.handle());
    }
    runtime.block_on(async {
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok::<_, Failure>(())
    })?;
    Ok(begun.elapsed())
}

async fn pay(app: &Router, number: u64) -> Result<(), Failure> {
    let request = Request::post("/payments")
        .header(header::CONTENT_TYPE, "application/json")
        .header(
            "idempotency-key",
            format!("00000000-0000-4000-8000-{number:012}"),
        )
        .body(Body::from(PAYMENT))?;
    let response = app.clone().oneshot(request).await?;
    if !response.status().is_success() {
        return Err(format!("answered with {}", response.status()).into());
    }
    to_bytes(response.into_body(), usize::MAX).await?;
    Ok(())
}

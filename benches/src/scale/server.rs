//! Stores with a server or a file, on the real clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use idempotent_runtime::store::{Claim, Store};
use tokio::task::JoinSet;

use super::room::Room;
use super::{BATCH, Findings, Options, load};
use crate::Failure;
use crate::numbers::{Latencies, claim, response, series};
use crate::stores::connect;
use crate::stores::load::{first_claim, pair, replay};

const CALLERS: u32 = 64;

/// How many claims and replays are timed, one after the other.
const TIMED: u64 = 1000;

/// How many expired records are swept, beside those that live.
const EXPIRED: u64 = 10_000;

pub(super) async fn measure(options: &Options) -> Result<Findings, Failure> {
    let store = connect::store(&options.name, &options.url).await?;
    let mut room = Room::new(&options.name, &options.url).await?;
    let first = series()?;
    // One, so that all that is made once is there.
    pair(&*store, first - 1, &response()).await?;
    let mut findings = Findings::default();

    let before = room.bytes().await?;
    let filling = connect::quick_filler(&options.name, &options.url).await?;
    let filler = filling.as_ref().unwrap_or(&store);
    fill(filler, first..first + options.records).await?;
    findings.bytes_per_record = Some((room.bytes().await? - before) / options.records as f64);

    let timed = TIMED.min(options.records);
    let mut latencies = Latencies::default();
    for number in 0..timed {
        let chosen = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % options.records;
        let begun = Instant::now();
        replay(&*store, first + chosen, number + 1).await?;
        latencies.add(begun.elapsed());
    }
    findings.replay_us = latencies.mean();
    let mut latencies = Latencies::default();
    for number in 0..timed {
        let begun = Instant::now();
        first_claim(&*store, first + options.records + number).await?;
        latencies.add(begun.elapsed());
    }
    findings.claim_us = latencies.mean();
    let next = first + options.records + timed;
    load::measure(&store, (first, options.records), next, &mut findings).await?;
    if options.name != "redis" {
        sweep(&store, filler, first, &mut findings).await?;
    }
    Ok(findings)
}

/// Many at a time, or it would take all day.
async fn fill(store: &Arc<dyn Store>, numbers: std::ops::Range<u64>) -> Result<(), Failure> {
    let next = Arc::new(AtomicU64::new(numbers.start));
    let mut tasks = JoinSet::new();
    for _ in 0..CALLERS {
        let (store, next, end) = (Arc::clone(store), Arc::clone(&next), numbers.end);
        tasks.spawn(async move {
            let answer = response();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return Ok::<_, Failure>(());
                }
                pair(&*store, number, &answer).await?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

async fn sweep(
    store: &Arc<dyn Store>,
    filler: &Arc<dyn Store>,
    first: u64,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let mut tasks = JoinSet::new();
    for caller in 0..u64::from(CALLERS) {
        let (filler, answer) = (Arc::clone(filler), response());
        tasks.spawn(async move {
            for number in (caller..EXPIRED).step_by(CALLERS as usize) {
                let request = claim(first - 2 - number, 0);
                let claimed = filler.claim(&request).await?;
                if !matches!(claimed, Claim::Acquired { .. }) {
                    return Err(format!("a first claim was answered {claimed:?}").into());
                }
                let ttl = Duration::from_millis(1);
                filler.complete(&request.owner, &answer, ttl).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let (mut purges, mut swept, begun) = (Latencies::default(), 0, Instant::now());
    while swept < EXPIRED {
        let asked = Instant::now();
        let freed = store.purge_expired(BATCH).await?.records;
        purges.add(asked.elapsed());
        if freed == 0 {
            return Err(format!("of {EXPIRED} expired records, {swept} were swept").into());
        }
        swept += freed as u64;
    }
    findings.swept(purges, swept, begun.elapsed());
    Ok(())
}

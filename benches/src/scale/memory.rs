//! The memory store, on a clock that is moved manually: so a day passes at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use idempotent_runtime::ManualClock;
use idempotent_runtime::store::Store;
use idempotent_runtime::store::memory::MemoryStore;
use tokio::runtime::Handle;

use super::room::resident_bytes;
use super::{BATCH, Findings, load};
use crate::Failure;
use crate::numbers::{Latencies, RETENTION, TTL, claim, response};
use crate::stores::load::{first_claim, pair, replay};

/// The clock moves by a second after so many records, which would be a busy service.
const A_SECOND: u64 = 10_000;

/// How many claims and replays are timed.
const TIMED: u64 = 100_000;

/// Records that outlive the sweep, and are looked up while it goes on.
const SURVIVORS: u64 = 256;

pub(super) async fn measure(records: u64) -> Result<Findings, Failure> {
    let clock = Arc::new(ManualClock::new());
    let store: Arc<dyn Store> = Arc::new(
        MemoryStore::builder()
            .max_records(usize::MAX)
            .max_bytes(usize::MAX)
            .clock(Arc::clone(&clock) as Arc<_>)
            .build(),
    );
    let mut findings = Findings::default();
    let answer = response();

    let before = resident_bytes()?;
    let mut filling = Duration::ZERO;
    for number in 0..records {
        if number % A_SECOND == 0 {
            clock.advance(Duration::from_secs(1));
        }
        let begun = Instant::now();
        pair(&*store, number, &answer).await?;
        filling = filling.max(begun.elapsed());
    }
    let bytes = resident_bytes()?.saturating_sub(before);
    findings.longest_claim_us = Some(filling.as_secs_f64() * 1e6);
    findings.bytes_per_record = Some(bytes as f64 / records as f64);

    let timed = TIMED.min(records);
    let begun = Instant::now();
    for number in 0..timed {
        // In an order that has nothing to do with the one that they were made in.
        let chosen = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % records;
        replay(&*store, chosen, number + 1).await?;
    }
    findings.replay_us = Some(begun.elapsed().as_secs_f64() * 1e6 / timed as f64);
    let begun = Instant::now();
    for number in records..records + timed {
        first_claim(&*store, number).await?;
    }
    findings.claim_us = Some(begun.elapsed().as_secs_f64() * 1e6 / timed as f64);

    let next = records + timed;
    let made = load::measure(&store, (0, records), next, &mut findings).await?;

    sweep(&store, &clock, next + made, &mut findings).await?;
    Ok(findings)
}

async fn sweep(
    store: &Arc<dyn Store>,
    clock: &ManualClock,
    records: u64,
    findings: &mut Findings,
) -> Result<(), Failure> {
    for number in u64::MAX - SURVIVORS..u64::MAX {
        let request = claim(number, 0);
        store.claim(&request).await?;
        store
            .complete(&request.owner, &response(), TTL * 365)
            .await?;
    }
    let quiet = Prober::start(store);
    tokio::time::sleep(Duration::from_secs(1)).await;
    findings.longest_look_up_us = Some(micros(quiet.stop()?.look_up));

    // Those that were not completed have gone by then, too.
    clock.advance(TTL * 2 + RETENTION);
    let prober = Prober::start(store);
    let (mut purges, mut swept, begun) = (Latencies::default(), 0, Instant::now());
    loop {
        let asked = Instant::now();
        let freed = store.purge_expired(BATCH).await?.records;
        purges.add(asked.elapsed());
        swept += freed as u64;
        if freed == 0 {
            break;
        }
    }
    let took = begun.elapsed();
    let longest = prober.stop()?;
    findings.longest_look_up_sweeping_us = Some(micros(longest.look_up));
    findings.longest_pause_sweeping_us = Some(micros(longest.pause));
    if swept != records {
        return Err(format!("of {records} records, {swept} were swept").into());
    }
    findings.swept(purges, swept, took);
    Ok(())
}

/// Another thread, which looks survivors up and remembers the longest time that one took. (A claim would
/// sweep a few records itself.)
///
/// For half of its time it only reads the clock. What holds it up then is the machine and not the
/// store, and must be expected to hold up look-ups as long.
struct Prober {
    is_stopped: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<Longest, Failure>>,
}

#[derive(Default)]
struct Longest {
    look_up: Duration,
    /// Between two looks at the clock.
    pause: Duration,
}

impl Prober {
    fn start(store: &Arc<dyn Store>) -> Self {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (store, stopped) = (Arc::clone(store), Arc::clone(&is_stopped));
        let handle = Handle::current();
        let thread = thread::spawn(move || {
            let (mut longest, mut number) = (Longest::default(), 0);
            while !stopped.load(Ordering::Relaxed) {
                number += 1;
                let begun = Instant::now();
                let survivor = u64::MAX - 1 - number % SURVIVORS;
                let record = handle.block_on(store.get(&claim(survivor, 0).owner.key))?;
                let took = begun.elapsed();
                longest.look_up = longest.look_up.max(took);
                record.ok_or("a record went before its time")?;
                longest.pause = longest.pause.max(pause_within(took));
            }
            Ok(longest)
        });
        Self { is_stopped, thread }
    }

    fn stop(self) -> Result<Longest, Failure> {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the prober panicked")?
    }
}

/// Reads the clock for so long, and tells the longest time between two readings.
fn pause_within(length: Duration) -> Duration {
    let begun = Instant::now();
    let (mut last, mut longest) = (begun, Duration::ZERO);
    while last - begun < length {
        let now = Instant::now();
        longest = longest.max(now - last);
        last = now;
    }
    longest
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

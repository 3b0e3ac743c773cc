//! Many callers at once, on a store that has records.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use idempotent_runtime::store::Store;
use tokio::task::JoinSet;

use super::{Findings, Rate};
use crate::Failure;
use crate::numbers::{Latencies, response};
use crate::stores::load::{pair, replay};

const CALLERS: u32 = 64;

const LENGTH: Duration = Duration::from_secs(2);

/// Replays any of the records from `first` on, in an order that has nothing to do with the one that they were made in; and
/// makes new ones from `next` on. Says how many.
pub(super) async fn measure(
    store: &Arc<dyn Store>,
    (first, records): (u64, u64),
    next: u64,
    findings: &mut Findings,
) -> Result<u64, Failure> {
    let (rate, _) = load(store, move |store, number| async move {
        let chosen = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % records;
        replay(&*store, first + chosen, number + 1).await
    })
    .await?;
    findings.replays = Some(rate);
    let (rate, made) = load(store, move |store, number| async move {
        pair(&*store, next + number, &response()).await
    })
    .await?;
    findings.pairs = Some(rate);
    Ok(made)
}

async fn load<F>(
    store: &Arc<dyn Store>,
    operation: impl Fn(Arc<dyn Store>, u64) -> F + Copy + Send + 'static,
) -> Result<(Rate, u64), Failure>
where
    F: Future<Output = Result<(), Failure>> + Send,
{
    let (begun, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for _ in 0..CALLERS {
        let (store, next) = (Arc::clone(store), Arc::clone(&next));
        tasks.spawn(async move {
            let mut latencies = Latencies::default();
            while begun.elapsed() < LENGTH {
                let started = Instant::now();
                operation(Arc::clone(&store), next.fetch_add(1, Ordering::Relaxed)).await?;
                latencies.add(started.elapsed());
            }
            Ok::<_, Failure>(latencies)
        });
    }
    let mut latencies = Latencies::default();
    while let Some(done) = tasks.join_next().await {
        latencies.append(done??);
    }
    let rate = Rate {
        per_s: latencies.count() as f64 / begun.elapsed().as_secs_f64(),
        p99_us: latencies.quantile(0.99),
    };
    Ok((rate, next.load(Ordering::Relaxed)))
}

//! The Redis store on real servers.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may"
)]

use std::time::Duration;

use std::sync::Arc;

use idempotent_runtime::store::redis::RedisStore;
use idempotent_runtime::store::{
    ClaimRequest, Completion, Progress, Release, Renewal, Renewed, Store, StoreError,
};
use idempotent_runtime::{Owner, RecordKey, StoredResponse, Token};

use support::{fingerprint, random};

#[path = "redis/cluster.rs"]
mod cluster;
#[path = "redis/cluster_tries.rs"]
mod cluster_tries;
#[path = "redis/configuration.rs"]
mod configuration;
#[path = "redis/damage.rs"]
mod damage;
#[path = "redis/errors.rs"]
mod errors;
#[path = "redis/failover.rs"]
mod failover;
#[path = "../../xtask/src/free_port.rs"]
mod free_port;
#[path = "support/insistent.rs"]
mod insistent;
#[path = "redis/kit.rs"]
mod kit;
#[allow(unreachable_pub, reason = "shared with tests of the workspace")]
#[path = "../../tests/behaviour/support/logged.rs"]
mod logged;
#[path = "redis/notifications.rs"]
mod notifications;
#[path = "redis/proxies.rs"]
mod proxies;
#[path = "support/redis_proxy.rs"]
mod proxy;
#[path = "redis/records.rs"]
mod records;
#[path = "redis/refusals.rs"]
mod refusals;
#[path = "redis/round_trips.rs"]
mod round_trips;
#[path = "redis/silence.rs"]
mod silence;
#[path = "support/redis.rs"]
mod support;
#[path = "redis/together.rs"]
mod together;

const LONG: Duration = Duration::from_secs(60);

const TTL: Duration = Duration::from_secs(120);

fn request(owner: Owner) -> ClaimRequest<'static> {
    ClaimRequest {
        owner,
        fingerprint: fingerprint(),
        operation: "POST /payments/{}",
        label: None,
        lease: LONG,
        retention: LONG,
        progress: &[],
        take_over: None,
    }
}

/// A renewal for as long as [`request`] claims.
fn renewal(owner: Owner) -> Renewal {
    Renewal {
        owner,
        lease: LONG,
        retention: LONG,
    }
}

async fn complete(
    store: &impl Store,
    owner: Owner,
    response: &Arc<StoredResponse>,
) -> Result<Completion, StoreError> {
    store.complete(&owner, response, TTL).await
}

/// The only result of a batch of one.
fn only<T: std::fmt::Debug>(results: Vec<Result<T, StoreError>>) -> Result<T, StoreError> {
    let [result] = results.try_into().unwrap();
    result
}

async fn renew(store: &impl Store, renewal: Renewal) -> Result<Renewed, StoreError> {
    only(store.renew(&[renewal]).await)
}

async fn release(store: &impl Store, owner: Owner) -> Result<Release, StoreError> {
    only(store.release(&[owner]).await)
}

async fn abandon(store: &impl Store, owner: Owner) -> Result<Release, StoreError> {
    only(store.abandon(&[owner]).await)
}

/// Saves the beginning of a progress.
async fn save(store: &impl Store, owner: Owner) -> Result<Progress, StoreError> {
    store.save_progress(&owner, 0, &b"half"[..].into()).await
}

fn another(owner: Owner) -> Owner {
    Owner {
        token: Token::from_bytes(random()),
        ..owner
    }
}

/// Asks until it is done, and says after how long. Recovery must not take longer than that after the
/// moment in which a fresh connection would work.
async fn recovers<T, F>(call: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, StoreError>>,
{
    const RECOVERY: Duration = Duration::from_secs(5);
    let began = std::time::Instant::now();
    loop {
        match call().await {
            Ok(done) => {
                assert!(began.elapsed() < RECOVERY, "{:?}", began.elapsed());
                return done;
            }
            Err(error) => assert!(began.elapsed() < RECOVERY, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The key of a record, as a store with the default prefix names it.
fn name(key: &RecordKey) -> String {
    let digits = key.as_bytes().iter().map(|byte| format!("{byte:02x}"));
    RedisStore::DEFAULT_PREFIX.to_owned() + &digits.collect::<String>()
}

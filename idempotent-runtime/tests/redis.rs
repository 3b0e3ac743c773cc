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

use idempotent_runtime::store::ClaimRequest;
use idempotent_runtime::store::redis::RedisStore;
use idempotent_runtime::{Owner, RecordKey, Token};

use support::{fingerprint, random};

#[path = "redis/audit.rs"]
mod audit;
#[path = "redis/cluster.rs"]
mod cluster;
#[path = "redis/damage.rs"]
mod damage;
#[path = "redis/errors.rs"]
mod errors;
#[path = "redis/hints.rs"]
mod hints;
#[path = "support/insistent.rs"]
mod insistent;
#[path = "redis/kit.rs"]
mod kit;
#[path = "redis/records.rs"]
mod records;
#[path = "redis/round_trips.rs"]
mod round_trips;
#[path = "support/redis.rs"]
mod support;

const LONG: Duration = Duration::from_secs(60);

fn request(owner: Owner) -> ClaimRequest {
    ClaimRequest {
        owner,
        fingerprint: fingerprint(),
        lease: LONG,
        ttl: LONG * 2,
        take_over: None,
    }
}

fn another(owner: Owner) -> Owner {
    Owner {
        token: Token::from_bytes(random()),
        ..owner
    }
}

/// The key of a record, as a store with the default prefix names it.
fn name(key: &RecordKey) -> String {
    let digits = key.as_bytes().iter().map(|byte| format!("{byte:02x}"));
    RedisStore::DEFAULT_PREFIX.to_owned() + &digits.collect::<String>()
}

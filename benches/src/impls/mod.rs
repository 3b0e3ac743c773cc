//! What is compared: ours, peers at their best settings, what applications write themselves, and nothing at all.
//!
//! Each is the same handler at `POST /payments`. To add one, add a line here and one to the table in
//! `xtask/src/bench/http/implementations.rs`.

use axum::Router;
use idempotent_runtime::{Digest, Idempotency};

use crate::Failure;
use crate::till::Till;

mod bare;
mod batched;
mod handwritten;
mod ours;
mod peers;

pub(crate) async fn router(name: &str, till: Till, store: Option<&str>) -> Result<Router, Failure> {
    let store = || store.ok_or("which --store?");
    Ok(match name {
        "bare" => bare::bare(till),
        "bare-sha256" => bare::sha256(till),
        "noop" => bare::noop(till),
        "by-hand-map" => handwritten::map(till),
        "by-hand-redis" => handwritten::redis(till, store()?).await?,
        "by-hand-redis-batched" => handwritten::redis_batched(till, store()?).await?,
        "axum-idempotent" => peers::axum_idempotent_by_header(till),
        "axum-idempotent-hash" => peers::axum_idempotent_by_hash(till),
        "idempotent" => peers::idempotent_memory(till)?,
        "idempotent-valkey" => peers::idempotent_valkey(till, store()?).await?,
        "memory" => ours::router(till, Idempotency::builder(ours::memory())),
        "memory-metrics" => ours::router(till, ours::with_metrics()?),
        "memory-blake3" => {
            let builder = Idempotency::builder(ours::memory());
            ours::router(till, builder.digest(Digest::Blake3))
        }
        "redis" => {
            let builder = ours::connected(store()?).await?;
            ours::router(till, builder.replay_cache(None))
        }
        "redis-cached" | "postgres" | "sqlite" => {
            ours::router(till, ours::connected(store()?).await?)
        }
        _ => return Err(format!("there is no implementation `{name}`").into()),
    })
}

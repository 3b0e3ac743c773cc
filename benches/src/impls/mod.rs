//! What is compared: ours, peers at their best settings, what people write by hand, and nothing at all.
//!
//! Each is the same handler at `POST /payments`. To add one, add a line here and one to the table in
//! `xtask/src/bench/http/implementations.rs`.

use axum::Router;

use crate::Failure;
use crate::till::Till;

mod bare;
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
        "axum-idempotent" => peers::axum_idempotent_by_header(till),
        "axum-idempotent-hash" => peers::axum_idempotent_by_hash(till),
        "idempotent" => peers::idempotent_memory(till)?,
        "idempotent-valkey" => peers::idempotent_valkey(till, store()?).await?,
        "memory" => ours::router(till, ours::memory()),
        "redis" | "postgres" | "sqlite" => ours::router(till, ours::connect(store()?).await?),
        _ => return Err(format!("there is no implementation `{name}`").into()),
    })
}

//! Other crates for the same thing, each with the settings that make it fastest.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_idempotent::{IdempotentLayer, IdempotentOptions};
use idempotent::memory::MemoryStore;
use idempotent::middleware::IdempotencyLayer;
use idempotent::valkey::ValkeyStore;
use ruts::store::moka::MokaStore;
use ruts::{CookieOptions, SessionLayer};
use tower_cookies::CookieManagerLayer;

use super::bare::bare;
use crate::Failure;
use crate::till::Till;

const TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Keyed by the header, which it calls its fastest mode: nothing is hashed, and nothing compared.
pub(super) fn axum_idempotent_by_header(till: Till) -> Router {
    let options = IdempotentOptions::default();
    axum_idempotent(
        till,
        options.use_idempotency_key_header(Some("idempotency-key"), false),
    )
}

/// Keyed by a BLAKE3 of the request, its key among it: that mode compares requests.
pub(super) fn axum_idempotent_by_hash(till: Till) -> Router {
    axum_idempotent(till, IdempotentOptions::default())
}

/// It keeps answers in a session, and to put one away goes through all of its session's answers. So the
/// load generator makes a session for each key, and the sessions are not bounded.
fn axum_idempotent(till: Till, options: IdempotentOptions) -> Router {
    let options = options.expire_after(24 * 60 * 60);
    let sessions = MokaStore::builder().max_capacity(u64::MAX).build();
    bare(till)
        .layer(IdempotentLayer::<MokaStore>::new(options))
        .layer(
            SessionLayer::new(Arc::new(sessions))
                .with_cookie_options(CookieOptions::build().name("session")),
        )
        .layer(CookieManagerLayer::new())
}

/// Fingerprints with xxHash3, which is its default and fast, and no defence against a client that looks for
/// a collision. The queue to its store is longer than there are connections, so that no request waits
/// for room in it.
pub(super) fn idempotent_memory(till: Till) -> Result<Router, Failure> {
    let store = MemoryStore::builder().buffer(1024).try_build()?;
    Ok(bare(till).layer(IdempotencyLayer::new(store).completed_ttl(TTL)))
}

/// The same on Redis: one script to claim, one to complete.
pub(super) async fn idempotent_valkey(till: Till, url: &str) -> Result<Router, Failure> {
    let store = ValkeyStore::with_url(url)
        .prefix("peer")
        .try_build()
        .await?;
    Ok(bare(till).layer(IdempotencyLayer::new(store).completed_ttl(TTL)))
}

//! Tools for the tests of an application: retries, crashes, a failing store, time.
//!
//! [`testing_your_handlers`](crate::testing_your_handlers) shows how to use them. Enable the cargo feature `test-util`
//! in `[dev-dependencies]` only.
//!
//! ```
//! use axum::{Router, body::Body, http::Request, routing::post};
//! use idempotent_runtime::{Idempotency, idempotent, store::memory::MemoryStore, testing::retry};
//!
//! #[idempotent(ttl_hours = 24)]
//! async fn create_payment(amount: String) -> String {
//!     format!("charged {amount}")
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let app = Router::new()
//!     .route("/payments", post(create_payment))
//!     .with_state(Idempotency::new(MemoryStore::new()));
//! let request = Request::post("/payments")
//!     .header("Idempotency-Key", "8e03978e")
//!     .body(Body::from("1000"))
//!     .unwrap();
//! retry(&app, request).twice().concurrently(16).assert_ran(1).await;
//! # }
//! ```

mod answers;
mod app;
mod crash;
mod faulty;
mod retry;
#[cfg(feature = "sqlite")]
mod sqlite;
mod time;

use std::time::Duration;

pub use self::answers::Answers;
pub use self::app::App;
pub use self::crash::{crash_after_handler, crash_before_handler, leave_abandoned};
pub use self::faulty::{FaultyStore, Operation};
pub use self::retry::{Retry, retry};
#[cfg(feature = "sqlite")]
pub use self::sqlite::TemporarySqlite;
#[cfg(feature = "memory")]
pub use self::time::memory_on_manual_clock;
pub use self::time::{HeldTime, hold_time};
use crate::handle::{Idempotency, IdempotencyBuilder};
use crate::store::Store;

/// A builder for tests that place faults at single store calls. It has no [replay
/// cache](IdempotencyBuilder::replay_cache), so that every retry reaches the store, and makes no store calls outside of
/// requests (no [check of the secret](IdempotencyBuilder::secret_check), no
/// [purge](IdempotencyBuilder::purge_interval)), which would run into the faults.
pub fn builder(store: impl Store) -> IdempotencyBuilder {
    Idempotency::builder(store)
        .replay_cache(None)
        .secret_check(false)
        .purge_interval(Duration::ZERO)
}

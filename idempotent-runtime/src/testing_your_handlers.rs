//! Testing your handlers: a retry must not charge twice, not even after a crash or with a failing store. This module
//! contains documentation only.
//!
//! The tools are in [`testing`](crate::testing). Enable the feature for tests only:
//!
//! ```toml
//! [dev-dependencies] # with the `path` or `git` of your `[dependencies]`, if there is one
//! idempotent-runtime = { version = "0.1", features = ["test-util"] }
//! tokio = { version = "1", features = ["macros", "rt", "test-util"] }
//! ```
//!
//! # Retries
//!
//! [`retry`] sends copies of one request to a router, without a socket. It asserts how often the handler ran, and that
//! all replays are equal byte for byte:
//!
//! ```
//! use axum::{Router, body::Body, http::{Request, StatusCode}, routing::post};
//! use idempotent_runtime::testing::{crash_before_handler, retry};
//! use idempotent_runtime::{Idempotency, idempotent, store::memory::MemoryStore};
//! use std::time::Duration;
//!
//! #[idempotent(ttl_hours = 24)]
//! async fn create_payment(amount: String) -> (StatusCode, String) {
//!     (StatusCode::CREATED, format!("charged {amount}"))
//! }
//!
//! fn app() -> Router {
//!     Router::new()
//!         .route("/payments", post(create_payment))
//!         .with_state(Idempotency::new(MemoryStore::new()))
//! }
//!
//! fn payment(key: &str) -> Request<Body> {
//!     let request = Request::post("/payments").header("Idempotency-Key", key);
//!     request.body(Body::from("1000")).unwrap()
//! }
//!
//! // #[tokio::test(start_paused = true)]
//! async fn a_payment_is_charged_once_a_day() {
//!     let app = app();
//!     retry(&app, payment("8e03978e")).twice().concurrently(16).assert_ran(1).await;
//!     tokio::time::advance(Duration::from_secs(24 * 60 * 60)).await;
//!     retry(&app, payment("8e03978e")).twice().assert_ran(1).await;
//! }
//! #
//! # fn main() {
//! #     let runtime = tokio::runtime::Builder::new_current_thread()
//! #         .enable_all()
//! #         .start_paused(true)
//! #         .build()
//! #         .unwrap();
//! #     runtime.block_on(async {
//! #         a_payment_is_charged_once_a_day().await;
//! #         a_crashed_payment_is_not_repeated().await;
//! #     });
//! # }
//!
//! // #[tokio::test]
//! async fn a_crashed_payment_is_not_repeated() {
//!     let app = app();
//!     crash_before_handler(&app, payment("8e03978e")).await;
//!     let answers = retry(&app, payment("8e03978e")).assert_ran(0).await;
//!     assert_eq!(answers.responses()[0].status(), StatusCode::CONFLICT);
//! }
//! ```
//!
//! Runs are counted where the attribute calls the handler. So an answer without a run, such as an extractor's 400, is
//! not counted, and a handler without the attribute fails the test.
//!
//! # Time
//!
//! | the store | how a test lets a day pass |
//! | --- | --- |
//! | memory, tokio's time paused (`start_paused = true`) | `tokio::time::advance`: the memory store uses tokio's time |
//! | memory, in real time | [`memory_on_manual_clock`], and [`ManualClock::advance`](crate::ManualClock::advance) |
//! | a database | impossible: its own clock decides. Test with a short TTL, or test expiry on the memory store |
//!
//! While time is paused and every task waits, tokio moves its clock to the next timer. It does not know that a task
//! waits for a database, so pools time out at once. [`hold_time`] stops the clock.
//!
//! # Crashes
//!
//! | to test | make the record with |
//! | --- | --- |
//! | a retry, or a recovery function, if the effect did **not** take place | [`crash_before_handler`] |
//! | the same, if the effect **did** take place and the client got no answer | [`crash_after_handler`] |
//! | a tool for operators, with a [`Locator`](crate::Locator) | [`leave_abandoned`] |
//!
//! After [`crash_after_handler`] the record has the handler's finished steps, and the next attempt continues after
//! them. A handler with `#[tx]` leaves nothing behind when it crashes, so there is nothing to test.
//!
//! # A store that fails
//!
//! [`FaultyStore`] wraps any store. [`builder`] makes a handle without a replay cache, so that all requests reach the
//! store:
//!
//! ```
//! # use axum::{Router, body::Body, http::Request, routing::post};
//! use idempotent_runtime::store::memory::MemoryStore;
//! use idempotent_runtime::testing::{self, FaultyStore, Operation, retry};
//! # use idempotent_runtime::idempotent;
//! # #[idempotent(ttl_hours = 24)]
//! # async fn create_payment(amount: String) -> String {
//! #     format!("charged {amount}")
//! # }
//! # fn payment(key: &str) -> Request<Body> {
//! #     let request = Request::post("/payments").header("Idempotency-Key", key);
//! #     request.body(Body::from("1000")).unwrap()
//! # }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let store = FaultyStore::new(MemoryStore::new());
//! let app = Router::new()
//!     .route("/payments", post(create_payment))
//!     .with_state(testing::builder(store.clone()).build());
//! // The response is stored, but the service does not learn of it.
//! store.lose_replies(Operation::Complete, 1);
//! retry(&app, payment("8e03978e")).twice().assert_ran(1).await;
//! // Without a store nothing runs: 503, until the store is back.
//! store.refuse_everything();
//! let answers = retry(&app, payment("63b1c4a0")).assert_ran(0).await;
//! assert_eq!(answers.responses()[0].status(), 503);
//! store.recover();
//! retry(&app, payment("63b1c4a0")).twice().assert_ran(1).await;
//! # }
//! ```
//!
//! # `#[tx]`
//!
//! A handler with `#[tx]` needs a database with transactions, and `sqlite::memory:` has none, because a database in
//! memory belongs to one connection. `TemporarySqlite` (feature `sqlite`) is a database file for one test:
//!
//! ```
//! # #[cfg(feature = "sqlite")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, body::Body, http::Request, routing::post};
//! use idempotent_runtime::testing::{TemporarySqlite, retry};
//! use idempotent_runtime::{Idempotency, idempotent};
//! use sqlx::{SqliteConnection, SqlitePool};
//!
//! #[idempotent(ttl_hours = 24)]
//! async fn create_payment(#[tx] tx: &mut SqliteConnection, amount: String) -> Result<String, String> {
//!     let insert = sqlx::query("INSERT INTO payments (amount) VALUES (?)").bind(&amount);
//!     insert.execute(&mut *tx).await.map_err(|_| "not inserted")?;
//!     Ok(format!("charged {amount}"))
//! }
//!
//! let database = TemporarySqlite::new()?;
//! let pool = SqlitePool::connect(database.url()).await?;
//! sqlx::query("CREATE TABLE payments (amount TEXT)").execute(&pool).await?;
//! let idempotency = Idempotency::connect(database.url()).await?;
//! let app = Router::new()
//!     .route("/payments", post(create_payment))
//!     .with_state(idempotency.transactions::<SqliteConnection>().await?);
//!
//! let request = Request::post("/payments").header("Idempotency-Key", "8e03978e");
//! let request = request.body(Body::from("1000"))?;
//! retry(&app, request).concurrently(16).twice().assert_ran(1).await;
//! let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM payments").fetch_one(&pool).await?;
//! assert_eq!(rows, 1);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "sqlite"))]
//! # fn main() {}
//! ```

#[cfg(doc)]
use crate::testing::{
    FaultyStore, builder, crash_after_handler, crash_before_handler, hold_time, leave_abandoned,
    memory_on_manual_clock, retry,
};

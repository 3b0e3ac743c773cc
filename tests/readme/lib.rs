//! The README of this repository, as documentation tests, and what has to be one: the tests of `tests/ui` are built
//! without the features of this package.

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// An application that gives `#[tx]` its `Transactions` compiles.
///
/// ```
/// use axum::{Router, extract::FromRef, routing::post};
/// use idempotent_runtime::{Idempotency, Transactions, idempotent};
/// use sqlx::SqliteConnection;
///
/// #[derive(Clone)]
/// struct App(Idempotency, Transactions<SqliteConnection>);
///
/// impl FromRef<App> for Idempotency {
///     fn from_ref(app: &App) -> Self { app.0.clone() }
/// }
/// impl FromRef<App> for Transactions<SqliteConnection> {
///     fn from_ref(app: &App) -> Self { app.1.clone() }
/// }
///
/// #[idempotent]
/// async fn create_order(#[tx] _tx: &mut SqliteConnection, body: String) -> String { body }
///
/// let _: Router<App> = Router::new().route("/orders", post(create_order));
/// ```
#[cfg(all(doctest, feature = "sqlite"))]
struct WithTransactions;

/// The same application without them does not.
///
/// ```compile_fail,E0277
/// use axum::{Router, extract::FromRef, routing::post};
/// use idempotent_runtime::{Idempotency, Transactions, idempotent};
/// use sqlx::SqliteConnection;
///
/// #[derive(Clone)]
/// struct App(Idempotency, Transactions<SqliteConnection>);
///
/// impl FromRef<App> for Idempotency {
///     fn from_ref(app: &App) -> Self { app.0.clone() }
/// }
///
/// #[idempotent]
/// async fn create_order(#[tx] _tx: &mut SqliteConnection, body: String) -> String { body }
///
/// let _: Router<App> = Router::new().route("/orders", post(create_order));
/// ```
#[cfg(all(doctest, feature = "sqlite"))]
struct WithoutTransactions;

//! What the attribute expands to has the edition of the crate that it is in.
#![deny(warnings)]

use axum::extract::{FromRef, Path, State};
use axum::routing::post;
use axum::{Json, Router};
use idempotent_runtime::{idempotent, ExecuteError, Idempotency, Transactions};
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

/// The state of an application.
#[derive(Clone, Debug)]
pub struct App {
    idempotency: Idempotency,
    transactions: Transactions<SqliteConnection>,
}

impl FromRef<App> for Idempotency {
    fn from_ref(app: &App) -> Self {
        app.idempotency.clone()
    }
}

impl FromRef<App> for Transactions<SqliteConnection> {
    fn from_ref(app: &App) -> Self {
        app.transactions.clone()
    }
}

/// What is ordered.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    id: u64,
}

#[idempotent(ttl_hours = 24, scope = tenant, fingerprint = order.id, in_flight = "wait")]
async fn handler(
    Path(tenant): Path<u64>,
    State(_app): State<App>,
    Json(order): Json<Order>,
) -> Result<Json<Order>, String> {
    Ok(Json(order))
}

#[idempotent]
async fn transaction(#[tx] tx: &mut SqliteConnection, Json(order): Json<Order>) -> Json<Order> {
    let _: &mut SqliteConnection = tx;
    Json(order)
}

#[idempotent]
async fn generic<T: Default + Serialize + Send + 'static>(Json(_): Json<Order>) -> Json<T> {
    Json(T::default())
}

/// A function without HTTP.
///
/// # Errors
///
/// None of its own.
#[idempotent(name = "orders.settle", key = order.id)]
pub async fn settle(idempotency: &Idempotency, order: Order) -> Result<u64, ExecuteError> {
    Ok(order.id)
}

/// All of them.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/{tenant}/handler", post(handler))
        .route("/transaction", post(transaction))
        .route("/generic", post(generic::<u8>))
}

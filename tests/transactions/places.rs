//! The connection stands where the user likes, beside any other arguments.

use axum::extract::{FromRef, Path, State};
use axum::http::{Method, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Json, Router};
use idempotent_runtime::{Attempt, Idempotency, Transactions, idempotent};
use sqlx::{MySqlConnection, PgConnection, SqliteConnection};

#[derive(Clone, FromRef)]
struct App {
    idempotency: Idempotency,
    payments: Transactions<PgConnection>,
    notes: Transactions<SqliteConnection>,
    orders: Transactions<MySqlConnection>,
    greeting: &'static str,
}

#[idempotent]
async fn alone(#[tx] tx: &mut PgConnection) -> StatusCode {
    let _: &mut PgConnection = tx;
    StatusCode::CREATED
}

#[idempotent(ttl_hours = 24, scope = greeting, fingerprint = (amount, id))]
async fn first(
    #[tx] tx: &mut PgConnection,
    State(greeting): State<&'static str>,
    Path(id): Path<u32>,
    Json(amount): Json<i64>,
) -> Result<(StatusCode, String), StatusCode> {
    sqlx::query("INSERT INTO payments VALUES ($1)")
        .bind(amount)
        .execute(&mut *tx)
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok((StatusCode::CREATED, format!("{greeting} {id}")))
}

#[idempotent(in_flight = "wait", replay_errors = "4xx", max_response_bytes = 100)]
async fn between(attempt: Attempt, #[tx] _tx: &mut SqliteConnection, body: String) -> String {
    format!("{} {body}", attempt.number())
}

#[idempotent(required = false)]
async fn last(method: Method, body: String, #[tx] _: &mut MySqlConnection) -> String {
    format!("{method} {body}")
}

struct Orders;

impl Orders {
    #[idempotent]
    async fn associated(#[tx] tx: &mut sqlx::SqliteConnection, body: String) -> Json<String> {
        Self::of(tx, body)
    }

    fn of(_: &mut SqliteConnection, body: String) -> Json<String> {
        Json(body)
    }
}

/// What is not named in the return type may borrow the connection, for all that the compiler is told.
#[idempotent]
async fn unnamed(#[tx] tx: &mut PgConnection, body: String) -> impl IntoResponse {
    let _: &mut PgConnection = tx;
    body
}

#[idempotent]
async fn fallible(#[tx] tx: &mut PgConnection) -> Result<impl IntoResponse, StatusCode> {
    let paid = sqlx::query("INSERT INTO payments VALUES (1)");
    paid.execute(tx).await.map_err(|_| StatusCode::CONFLICT)?;
    Ok(Json(1))
}

#[idempotent]
async fn without(body: String) -> String {
    body
}

/// It compiles, which is what this shows.
#[test]
fn every_place_among_the_arguments_compiles() {
    let _: Router<App> = Router::new()
        .route("/alone", post(alone))
        .route("/first/{id}", post(first))
        .route("/between", post(between))
        .route("/last", post(last))
        .route("/associated", post(Orders::associated))
        .route("/unnamed", post(unnamed))
        .route("/fallible", post(fallible))
        .route("/without", post(without));
    // One that needs nothing else.
    let _: Router<Transactions<PgConnection>> = Router::new()
        .route("/alone", post(alone))
        .route("/without", post(without));
}

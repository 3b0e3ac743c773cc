//! A payment service that cannot charge twice.
//!
//! ```text
//! cargo run --example payments [-- --addr 127.0.0.1:3000] [--store memory:]
//! ```
//!
//! `IDEMPOTENCY_URL` also selects the store. Every store except `memory:` needs its feature, as in
//! `cargo run --features redis --example payments -- --store redis://127.0.0.1`.
//!
//! The example prints three `curl` commands to paste: pay, retry, and the same key with another amount.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{FromRef, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use idempotent_runtime::{Idempotency, Release, idempotent};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

#[derive(Clone, FromRef)]
struct AppState {
    ledger: Ledger,
    idempotency: Idempotency,
}

#[derive(Deserialize)]
struct PaymentRequest {
    /// In the currency's smallest unit: money is never a float.
    amount: u64,
    currency: String,
    order_id: String,
    /// What the fake card network does: `approve` (the default), `slow`, `decline`, `unreachable`.
    #[serde(default)]
    network: Network,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Network {
    #[default]
    Approve,
    Slow,
    Decline,
    Unreachable,
}

#[derive(Clone, Serialize)]
struct Payment {
    id: usize,
    order_id: String,
    amount: u64,
    currency: String,
}

#[derive(Deserialize)]
struct OrderRequest {
    item: String,
    quantity: u32,
}

#[derive(Clone, Serialize)]
struct Order {
    id: usize,
    item: String,
    quantity: u32,
}

/// This is all that a handler needs for idempotency. A retry with the same `Idempotency-Key` gets
/// the first response, and the card network is called once.
#[idempotent(ttl_hours = 24, key_age = "ttl")]
async fn create_payment(
    State(ledger): State<Ledger>,
    Json(payment): Json<PaymentRequest>,
) -> Result<(StatusCode, Json<Payment>), PaymentError> {
    let payment = ledger.charge(payment).await?;
    Ok((StatusCode::CREATED, Json(payment)))
}

/// Duplicates of a running order wait for its response instead of getting a 409.
#[idempotent(
    ttl_hours = 24,
    key_age = "ttl",
    in_flight = "wait",
    fingerprint = json
)]
async fn create_order(
    State(ledger): State<Ledger>,
    Json(order): Json<OrderRequest>,
) -> (StatusCode, Json<Order>) {
    (StatusCode::CREATED, Json(ledger.order(order)))
}

async fn list_payments(State(ledger): State<Ledger>) -> Json<Vec<Payment>> {
    Json(ledger.payments())
}

enum PaymentError {
    /// The network has declined, and would decline the same card again: stored and replayed.
    Declined,
    /// The network was never reached, so nothing happened: not stored, and a retry runs again.
    Unreachable,
}

impl IntoResponse for PaymentError {
    fn into_response(self) -> Response {
        let answer = |status, error| (status, Json(serde_json::json!({ "error": error })));
        match self {
            Self::Declined => answer(StatusCode::PAYMENT_REQUIRED, "card declined").into_response(),
            Self::Unreachable => Release(answer(
                StatusCode::SERVICE_UNAVAILABLE,
                "card network unreachable",
            ))
            .into_response(),
        }
    }
}

/// A fake card network, with a ledger of what it was asked to do.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    payments: Vec<Payment>,
    orders: Vec<Order>,
}

impl Ledger {
    async fn charge(&self, request: PaymentRequest) -> Result<Payment, PaymentError> {
        if let Network::Unreachable = request.network {
            return Err(PaymentError::Unreachable);
        }
        tokio::time::sleep(match request.network {
            Network::Slow => Duration::from_secs(10),
            _ => Duration::from_millis(300),
        })
        .await;
        if let Network::Decline = request.network {
            return Err(PaymentError::Declined);
        }
        let PaymentRequest {
            amount,
            currency,
            order_id,
            ..
        } = request;
        let mut book = self.book();
        let payment = Payment {
            id: book.payments.len() + 1,
            order_id,
            amount,
            currency,
        };
        book.payments.push(payment.clone());
        tracing::info!(id = payment.id, amount, "charged the card");
        Ok(payment)
    }

    fn order(&self, request: OrderRequest) -> Order {
        let OrderRequest { item, quantity } = request;
        let mut book = self.book();
        let order = Order {
            id: book.orders.len() + 1,
            item,
            quantity,
        };
        book.orders.push(order.clone());
        order
    }

    fn payments(&self) -> Vec<Payment> {
        self.book().payments.clone()
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let Options { addr, store } = Options::parse()?;

    let idempotency = Idempotency::connect(&store).await?;
    let state = AppState {
        ledger: Ledger::default(),
        idempotency: idempotency.clone(),
    };
    let app = Router::new()
        .route("/api/payments", post(create_payment).get(list_payments))
        .route("/api/orders", post(create_order))
        .route("/health", get(|| async { "ok" }))
        .with_state(state);

    let listener = TcpListener::bind(&addr)
        .await
        .map_err(|error| format!("{addr}: {error}"))?;
    print_guide(&format!("http://{}", listener.local_addr()?));
    axum::serve(listener, app)
        .with_graceful_shutdown(stop())
        .await?;

    // Handlers whose clients disconnected may still be running: wait until they are recorded.
    match idempotency.shutdown(Duration::from_secs(30)).await {
        0 => Ok(()),
        unfinished => Err(format!("{unfinished} requests were not recorded in time").into()),
    }
}

/// Ctrl-C, or the signal that a service manager sends.
async fn stop() {
    #[cfg(unix)]
    let terminate = async {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate => {}
    }
}

#[expect(clippy::print_stdout, reason = "this is what the example has to say")]
fn print_guide(url: &str) {
    println!(
        r#"Listening on {url}

1. Pay:
   curl -i {url}/api/payments -H 'Idempotency-Key: order-1-payment' -H 'content-type: application/json' -d '{{"amount":1000,"currency":"USD","order_id":"order-1"}}'

2. Retry, as a client does that lost the answer: the same answer, marked `idempotent-replayed: true`, and no second charge:
   curl -i {url}/api/payments -H 'Idempotency-Key: order-1-payment' -H 'content-type: application/json' -d '{{"amount":1000,"currency":"USD","order_id":"order-1"}}'

3. The same key with another amount: 422:
   curl -i {url}/api/payments -H 'Idempotency-Key: order-1-payment' -H 'content-type: application/json' -d '{{"amount":2000,"currency":"USD","order_id":"order-1"}}'

What was charged by this process: curl {url}/api/payments
With a store that lasts, a key that was used before is used up: take another one.
Other outcomes, with a new key each: add "network":"decline" or "network":"unreachable" to the payment. Or "network":"slow",
press Ctrl-C on the client before it has answered, and retry: 409 while it runs, then the answer, and one charge.
"#
    );
}

const USAGE: &str = "usage: payments [--addr 127.0.0.1:3000] [--store memory:]";

struct Options {
    addr: String,
    store: String,
}

impl Options {
    fn parse() -> Result<Self, lexopt::Error> {
        use lexopt::prelude::*;
        let mut options = Self {
            addr: "127.0.0.1:3000".to_owned(),
            store: std::env::var("IDEMPOTENCY_URL").unwrap_or_else(|_| "memory:".to_owned()),
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("addr") => options.addr = arguments.value()?.string()?,
                Long("store") => options.store = arguments.value()?.string()?,
                Long("help") => return Err(USAGE.into()),
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(options)
    }
}

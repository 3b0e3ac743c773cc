//! A payment service that documents itself: `/openapi.json` describes its key, its problems and its replays.
//!
//! ```text
//! cargo run --example openapi [-- --addr 127.0.0.1:3000]
//! ```
//!
//! With `--faults`, the store is unavailable for a request with `X-Fault: store`, so that a test can see a 503.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{FromRef, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use idempotent_runtime::openapi::{IdempotencyKeyHeader, IdempotencyResponses};
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::testing::{FaultyStore, Operation};
use idempotent_runtime::{Idempotency, idempotent};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use utoipa::{IntoResponses, OpenApi, ToSchema};

#[derive(Clone, FromRef)]
struct AppState {
    ledger: Ledger,
    idempotency: Idempotency,
}

#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Vec<Payment>>>);

#[derive(Deserialize, ToSchema)]
struct PaymentRequest {
    /// In the currency's smallest unit: money is never a float.
    #[schema(maximum = 1_000_000)]
    amount: u64,
    /// What the fake card network does.
    #[serde(default)]
    network: Network,
}

#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Network {
    #[default]
    Approve,
    Slow,
    Decline,
    Crash,
}

#[derive(Clone, Serialize, ToSchema)]
struct Payment {
    id: usize,
    amount: u64,
}

#[derive(Serialize, ToSchema)]
struct Declined {
    reason: &'static str,
}

/// What the handler and its extractors answer. Where a problem has the same status, `IdempotencyResponses` says that it can be either.
#[derive(IntoResponses)]
enum PaymentResponses {
    /// Paid.
    #[response(status = 201)]
    Paid(Payment),
    /// The network has declined.
    #[response(status = 402)]
    Declined(Declined),
    /// The body is not JSON.
    #[response(status = 400, content_type = "text/plain")]
    #[expect(dead_code, reason = "axum answers this")]
    Syntax(String),
    /// The body is too large.
    #[response(status = 413, content_type = "text/plain")]
    #[expect(dead_code, reason = "axum answers this")]
    TooLarge(String),
    /// The body has another media type.
    #[response(status = 415, content_type = "text/plain")]
    #[expect(dead_code, reason = "axum answers this")]
    NotJson(String),
    /// The body is JSON, and no payment.
    #[response(status = 422, content_type = "text/plain")]
    #[expect(dead_code, reason = "axum answers this")]
    NoPayment(String),
}

impl IntoResponse for PaymentResponses {
    fn into_response(self) -> Response {
        match self {
            Self::Paid(payment) => (StatusCode::CREATED, Json(payment)).into_response(),
            Self::Declined(why) => (StatusCode::PAYMENT_REQUIRED, Json(why)).into_response(),
            Self::Syntax(text) => (StatusCode::BAD_REQUEST, text).into_response(),
            Self::TooLarge(text) => (StatusCode::PAYLOAD_TOO_LARGE, text).into_response(),
            Self::NotJson(text) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response(),
            Self::NoPayment(text) => (StatusCode::UNPROCESSABLE_ENTITY, text).into_response(),
        }
    }
}

/// Charges a card, once for each key.
#[utoipa::path(
    post,
    path = "/payments",
    params(IdempotencyKeyHeader),
    request_body = PaymentRequest,
    responses(IdempotencyResponses<PaymentResponses>),
)]
#[idempotent(ttl_hours = 24)]
async fn create_payment(
    State(ledger): State<Ledger>,
    Json(payment): Json<PaymentRequest>,
) -> PaymentResponses {
    match payment.network {
        Network::Approve => {}
        Network::Slow => tokio::time::sleep(Duration::from_millis(500)).await,
        Network::Decline => {
            let reason = "the network has declined";
            return PaymentResponses::Declined(Declined { reason });
        }
        Network::Crash => panic!("the client of the network has a bug"),
    }
    PaymentResponses::Paid(ledger.charge(payment.amount))
}

/// What was charged.
#[utoipa::path(get, path = "/payments", responses((status = 200, body = Vec<Payment>)))]
async fn list_payments(State(ledger): State<Ledger>) -> Json<Vec<Payment>> {
    Json(ledger.payments())
}

impl Ledger {
    fn charge(&self, amount: u64) -> Payment {
        let mut payments = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = payments.len() + 1;
        let payment = Payment { id, amount };
        payments.push(payment.clone());
        payment
    }

    fn payments(&self) -> Vec<Payment> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Payments", version = "1.0.0"),
    paths(create_payment, list_payments)
)]
struct Api;

/// Makes the store fail for a request that asks for it.
async fn fail(State(store): State<FaultyStore>, request: Request, next: Next) -> Response {
    if request.headers().contains_key("x-fault") {
        store.refuse(Operation::Claim, 1);
    }
    next.run(request).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse()?;
    let store = FaultyStore::new(MemoryStore::new());
    let idempotency = match options.has_faults {
        true => idempotent_runtime::testing::builder(store.clone()).build(),
        false => Idempotency::new(MemoryStore::new()),
    };
    let mut app: Router<AppState> = Router::new()
        .route("/payments", get(list_payments).post(create_payment))
        .route("/openapi.json", get(async || Json(Api::openapi())));
    if options.has_faults {
        app = app.layer(from_fn_with_state(store, fail));
    }
    let ledger = Ledger::default();
    let app = app.with_state(AppState {
        ledger,
        idempotency: idempotency.clone(),
    });
    let listener = TcpListener::bind(&options.addr).await?;
    println!("http://{}/openapi.json", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) })
        .await?;
    idempotency.shutdown(Duration::from_secs(30)).await;
    Ok(())
}

const USAGE: &str = "usage: openapi [--addr 127.0.0.1:3000] [--faults]";

struct Options {
    addr: String,
    has_faults: bool,
}

impl Options {
    fn parse() -> Result<Self, lexopt::Error> {
        use lexopt::prelude::*;
        let mut options = Self {
            addr: "127.0.0.1:3000".to_owned(),
            has_faults: false,
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("addr") => options.addr = arguments.value()?.string()?,
                Long("faults") => options.has_faults = true,
                Long("help") => return Err(USAGE.into()),
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(options)
    }
}

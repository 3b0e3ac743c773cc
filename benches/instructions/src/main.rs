//! Requests in this process, without a socket, for a tool that counts instructions: `PATH REQUESTS`.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRef, Json};
use axum::http::{Request, StatusCode, header};
use axum::routing::post;
use axum::{Router, response::Response};
use idempotent_runtime::metrics::MetricsObserver;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{ExecuteError, Execution, Idempotency, Policy, idempotent};
use serde::{Deserialize, Serialize};
use tower::ServiceExt as _;

type Failure = Box<dyn Error + Send + Sync>;

/// 80 bytes.
const PAYMENT: &str = r#"{"amount":4200,"currency":"EUR","order_id":"order-0123456789","note":""}"#;
const OTHER: &str = r#"{"amount":4201,"currency":"EUR","order_id":"order-0123456789","note":""}"#;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&format!("idempotent-instructions: {failure}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(requests)) = (arguments.next(), arguments.next()) else {
        return Err("usage: idempotent-instructions PATH REQUESTS".into());
    };
    let requests = requests.parse()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(send(&path, requests))
}

#[derive(Deserialize)]
struct PaymentRequest {
    amount: u64,
    currency: String,
    order_id: String,
    note: String,
}

#[derive(Serialize)]
struct Payment {
    id: &'static str,
    order_id: String,
    amount: u64,
    currency: String,
    status: &'static str,
    description: &'static str,
    note_bytes: usize,
}

fn pay(request: PaymentRequest) -> (StatusCode, Json<Payment>) {
    let payment = Payment {
        id: "pay_000000000001",
        order_id: request.order_id,
        amount: request.amount,
        currency: request.currency,
        status: "succeeded",
        description: "a payment that was made for the sake of the measurement",
        note_bytes: request.note.len(),
    };
    (StatusCode::CREATED, Json(payment))
}

async fn bare(Json(request): Json<PaymentRequest>) -> (StatusCode, Json<Payment>) {
    pay(request)
}

/// The key is not required, so that requests without one can be counted too.
#[idempotent(ttl_hours = 24, required = false)]
async fn protected(Json(request): Json<PaymentRequest>) -> (StatusCode, Json<Payment>) {
    pay(request)
}

#[derive(Clone)]
struct Service(Idempotency);

impl FromRef<Service> for Idempotency {
    fn from_ref(service: &Service) -> Self {
        service.0.clone()
    }
}

/// No claim is refused, however many are counted.
fn idempotency(path: &str) -> Idempotency {
    let store = MemoryStore::builder()
        .max_records(usize::MAX)
        .max_bytes(usize::MAX);
    let builder = Idempotency::builder(Arc::new(store.build()));
    match path {
        // Without an exporter: what the observer does by itself.
        "first-metrics" => builder.observer(MetricsObserver::new()).build(),
        _ => builder.build(),
    }
}

async fn send(path: &str, requests: u64) -> Result<(), Failure> {
    if path == "execute" {
        return execute(&idempotency(path), requests).await;
    }
    let app: Router = match path {
        "bare" => Router::new().route("/payments", post(bare)),
        _ => Router::new()
            .route("/payments", post(protected))
            .with_state(Service(idempotency(path))),
    };
    for number in 0..requests {
        let (key, body, status) = match path {
            "bare" | "keyless" => (None, PAYMENT, StatusCode::CREATED),
            "first" | "first-metrics" => (
                Some(format!("key-{number:016}")),
                PAYMENT,
                StatusCode::CREATED,
            ),
            "replay" => (Some(same()), PAYMENT, StatusCode::CREATED),
            "mismatch" if number == 0 => (Some(same()), PAYMENT, StatusCode::CREATED),
            "mismatch" => (Some(same()), OTHER, StatusCode::UNPROCESSABLE_ENTITY),
            _ => return Err(format!("there is no path `{path}`").into()),
        };
        let response = one(&app, key, body).await?;
        if response.status() != status {
            return Err(format!("answered with {}", response.status()).into());
        }
        to_bytes(response.into_body(), usize::MAX).await?;
    }
    Ok(())
}

static SETTLE: Policy = Policy::new();

/// What is not HTTP: a message is handled, each with an id of its own.
async fn execute(idempotency: &Idempotency, calls: u64) -> Result<(), Failure> {
    for number in 0..calls {
        let key = format!("key-{number:016}");
        let settled = idempotency
            .execute(&SETTLE, "settle", (), &key, PAYMENT, move || async move {
                Ok::<_, ExecuteError>(number)
            })
            .await?;
        if settled != Execution::Executed(number) {
            return Err("it was not executed".into());
        }
    }
    Ok(())
}

fn same() -> String {
    "key-0000000000000000".to_owned()
}

async fn one(app: &Router, key: Option<String>, body: &'static str) -> Result<Response, Failure> {
    let request = Request::post("/payments").header(header::CONTENT_TYPE, "application/json");
    let request = match key {
        Some(key) => request.header("idempotency-key", key),
        None => request,
    };
    Ok(app.clone().oneshot(request.body(Body::from(body))?).await?)
}

#[expect(clippy::print_stderr, reason = "a command line tool talks to its user")]
fn complain(text: &str) {
    eprintln!("{text}");
}

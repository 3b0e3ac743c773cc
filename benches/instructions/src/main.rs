//! Requests in this process, without a socket, for a tool that counts instructions: `PATH REQUESTS`.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRef, State};
use axum::http::{Request, StatusCode, header};
use axum::routing::post;
use axum::{Router, response::Response};
use idempotent_runtime::metrics::MetricsObserver;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{ExecuteError, Execution, Idempotency, Policy, idempotent};
use tower::ServiceExt as _;

use till::{Payment, PaymentRequest, Till, pay};

#[allow(dead_code, reason = "other benchmarks ask how often a handler ran")]
#[path = "../../src/till.rs"]
mod till;

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

/// The key is not required, so that requests without one can be counted too.
#[idempotent(ttl_hours = 24, required = false)]
async fn protected(
    State(till): State<Till>,
    Json(request): Json<PaymentRequest>,
) -> (StatusCode, Json<Payment>) {
    till.pay(request)
}

#[derive(Clone)]
struct Service {
    idempotency: Idempotency,
    till: Till,
}

impl FromRef<Service> for Idempotency {
    fn from_ref(service: &Service) -> Self {
        service.idempotency.clone()
    }
}

impl FromRef<Service> for Till {
    fn from_ref(service: &Service) -> Self {
        service.till.clone()
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
    let till = Till::default();
    let app: Router = match path {
        "bare" => Router::new().route("/payments", post(pay)).with_state(till),
        _ => {
            let idempotency = idempotency(path);
            Router::new()
                .route("/payments", post(protected))
                .with_state(Service { idempotency, till })
        }
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

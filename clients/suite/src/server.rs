//! The payments server: one protected handler, on a durable store. It may be killed at any moment.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{FromRef, State};
use axum::routing::post;
use http::{HeaderMap, HeaderName, StatusCode};
use idempotent_runtime::{Attempt, Idempotency, browsers, idempotent, store};
use serde::{Deserialize, Serialize};
use tower_http::cors::{Any, CorsLayer};

use crate::Result;
use crate::ledger::{Charge, Ledger};
use crate::options::Serve;
use crate::till::LIFE;

/// By which the network asks the handler to take its time: `before=200` or `after=200`, milliseconds before or after the
/// charge.
pub(crate) const HOLD: &str = "suite-hold";

#[derive(Clone, FromRef)]
struct Shop {
    ledger: Arc<Ledger>,
    idempotency: Idempotency,
}

#[derive(Deserialize)]
struct Payment {
    intent: String,
    amount: u64,
}

#[derive(Serialize)]
struct Receipt {
    charge: u64,
    intent: String,
    amount: u64,
}

pub(crate) async fn serve(options: &Serve) -> Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let ledger = Arc::new(Ledger::open(&options.folder.join("ledger.jsonl"))?);
    let records = options.folder.join("records.sqlite");
    let store = store::connect(&format!("sqlite:{}", records.display())).await?;
    let idempotency = Idempotency::builder(store).status_header(true).build();
    // The page is one of another origin.
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_headers(browsers::request_headers([HeaderName::from_static(LIFE)]))
        .expose_headers(browsers::response_headers([]));
    let app = Router::new()
        .route("/payments", post(create_payment))
        .layer(cors)
        .with_state(Shop {
            ledger,
            idempotency,
        });
    // A socket with a name: no other process can have taken it while the server was dead.
    let socket = options.folder.join("server.sock");
    if socket.exists() {
        std::fs::remove_file(&socket)?;
    }
    let listener = tokio::net::UnixListener::bind(socket)?;
    axum::serve(listener, app).await?;
    Ok(ExitCode::SUCCESS)
}

/// The lease is how long a killed server blocks a key: short, because this server is often killed. The retry of what it had
/// begun runs, and calls the bank with the same key.
#[idempotent(ttl_hours = 24, key_age = "ttl", lease = "1s", on_abandoned = "retry")]
async fn create_payment(
    attempt: Attempt,
    State(ledger): State<Arc<Ledger>>,
    headers: HeaderMap,
    Json(payment): Json<Payment>,
) -> std::result::Result<(StatusCode, Json<Receipt>), StatusCode> {
    let key = attempt.derived_key("charge");
    let hold = headers.get(HOLD).and_then(|value| value.to_str().ok());
    hold_on(hold, "before=").await;
    let charge = ledger
        .charge(key, attempt.number(), payment.intent, payment.amount)
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    hold_on(hold, "after=").await;
    Ok((StatusCode::CREATED, Json(receipt(charge))))
}

async fn hold_on(hold: Option<&str>, when: &str) {
    let millis = hold.and_then(|hold| hold.strip_prefix(when)?.parse().ok());
    if let Some(millis) = millis {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
}

fn receipt(charge: Charge) -> Receipt {
    Receipt {
        charge: charge.id,
        intent: charge.intent,
        amount: charge.amount,
    }
}

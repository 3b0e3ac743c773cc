//! The payments server: one protected handler, on a durable store. It may be killed at any moment.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{FromRef, State};
use axum::response::Html;
use axum::routing::{get, post};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use idempotent_runtime::{Attempt, Idempotency, idempotent, store};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::ledger::{Charge, Ledger};
use crate::options::Serve;

/// By which the network asks the handler to take its time: `before=200` or `after=200`, milliseconds before or after the
/// charge.
pub(crate) const HOLD: &str = "suite-hold";

const PAGE: &str = include_str!("../js/page.html");

/// The package as it is: what the page imports is what npm ships.
const CLIENT: &str = include_str!("../../javascript/index.js");

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
    let idempotency = Idempotency::new(store);
    let app = Router::new()
        .route("/", get(async || Html(PAGE)))
        .route("/client/index.js", get(client))
        .route("/payments", post(create_payment))
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

async fn client() -> ([(http::HeaderName, &'static str); 1], &'static str) {
    ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], CLIENT)
}

/// The lease is how long a killed server blocks a key: short, because this server is often killed. The retry of what it had
/// begun runs, and calls the bank with the same key.
#[idempotent(ttl_hours = 24, lease = "1s", on_abandoned = "retry")]
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
        .charge(key, payment.intent, payment.amount)
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

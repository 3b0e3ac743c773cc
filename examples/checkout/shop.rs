//! The shop: one protected handler, and the books of the bank that it charges.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use axum::Json;
use axum::extract::{FromRef, Path, State};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use idempotent_runtime::{
    Abandoned, Attempt, Idempotency, RecordKey, Recovery, StoredResponse, idempotent,
};
use serde::{Deserialize, Serialize};

use crate::network::Fault;

/// How long the bank takes: long enough to click twice.
const CHARGING: Duration = Duration::from_millis(500);

#[derive(Clone, FromRef)]
pub(crate) struct Shop {
    pub(crate) ledger: Ledger,
    pub(crate) idempotency: Idempotency,
    /// Ends this server at once.
    pub(crate) crash: mpsc::Sender<()>,
}

#[derive(Deserialize)]
pub(crate) struct Order {
    id: String,
    /// In cents: money is never a float.
    amount: u64,
}

/// Pays an order. The lease is how long a crash blocks its key: short, so that no customer has to wait for it.
#[idempotent(
    ttl_hours = 24,
    key_age = "ttl",
    lease = "1s",
    on_abandoned = recover
)]
pub(crate) async fn create_payment(
    attempt: Attempt,
    State(ledger): State<Ledger>,
    State(crash): State<mpsc::Sender<()>>,
    headers: HeaderMap,
    Json(order): Json<Order>,
) -> (StatusCode, Json<Charge>) {
    let charge = ledger.charge(order, attempt.record_key()).await;
    if Fault::of(&headers) == Some(Fault::Crash) && crash.send(()).is_ok() {
        std::future::pending::<()>().await;
    }
    (StatusCode::CREATED, Json(charge))
}

/// The server died. Did it charge? The bank knows, and then this is the answer of the one that died.
async fn recover(abandoned: Abandoned) -> Recovery {
    let Some(ledger) = abandoned.extension::<Ledger>() else {
        return Recovery::Unknown;
    };
    let Some(charge) = ledger.find(abandoned.record_key()) else {
        return Recovery::Retry;
    };
    let Ok(body) = serde_json::to_vec(&charge) else {
        return Recovery::Unknown;
    };
    let json = HeaderValue::from_static("application/json");
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, json)]);
    Recovery::Replay(StoredResponse::new(StatusCode::CREATED, headers, body))
}

/// The bank's side of an order, for everybody to see.
pub(crate) async fn show_order(
    State(ledger): State<Ledger>,
    Path(order_id): Path<String>,
) -> Json<Vec<Charge>> {
    Json(ledger.of_order(&order_id))
}

#[derive(Clone, Serialize)]
pub(crate) struct Charge {
    id: u64,
    order_id: String,
    amount: u64,
    /// What the shop wrote beside the charge, to find it by.
    #[serde(skip)]
    reference: Option<RecordKey>,
}

/// The books of the bank. They outlive the server.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    last_id: u64,
    charges: VecDeque<Charge>,
}

impl Ledger {
    /// More than anybody clicks.
    const MOST: usize = 10_000;

    async fn charge(&self, order: Order, reference: Option<RecordKey>) -> Charge {
        tokio::time::sleep(CHARGING).await;
        let mut book = self.book();
        book.last_id += 1;
        let charge = Charge {
            id: book.last_id,
            order_id: order.id,
            amount: order.amount,
            reference,
        };
        if book.charges.len() == Self::MOST {
            book.charges.pop_front();
        }
        book.charges.push_back(charge.clone());
        tracing::info!(id = charge.id, amount = charge.amount, "charged the card");
        charge
    }

    fn find(&self, reference: RecordKey) -> Option<Charge> {
        let book = self.book();
        let mut charges = book.charges.iter();
        charges
            .find(|charge| charge.reference == Some(reference))
            .cloned()
    }

    fn of_order(&self, order_id: &str) -> Vec<Charge> {
        let book = self.book();
        let charges = book.charges.iter();
        charges
            .filter(|charge| charge.order_id == order_id)
            .cloned()
            .collect()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The application that everything is put around: it takes a payment and answers with about 200 bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

/// Counts how often a handler ran.
#[derive(Clone, Debug, Default)]
pub(crate) struct Till(Arc<AtomicU64>);

/// 200 bytes or 64 KiB of JSON, the difference being the length of `note`.
#[derive(Deserialize)]
pub(crate) struct PaymentRequest {
    pub(crate) amount: u64,
    currency: String,
    pub(crate) order_id: String,
    note: String,
}

/// 200 bytes of JSON.
#[derive(Serialize)]
pub(crate) struct Payment {
    id: String,
    order_id: String,
    amount: u64,
    currency: String,
    status: &'static str,
    description: &'static str,
    note_bytes: usize,
}

impl Till {
    pub(crate) fn pay(&self, request: PaymentRequest) -> (StatusCode, Json<Payment>) {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        let payment = Payment {
            id: format!("pay_{number:012}"),
            order_id: request.order_id,
            amount: request.amount,
            currency: request.currency,
            status: "succeeded",
            description: "a payment that was made for the sake of the measurement",
            note_bytes: request.note.len(),
        };
        (StatusCode::CREATED, Json(payment))
    }

    pub(crate) fn executions(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The handler as one writes it without idempotency.
pub(crate) async fn pay(
    State(till): State<Till>,
    Json(request): Json<PaymentRequest>,
) -> (StatusCode, Json<Payment>) {
    till.pay(request)
}

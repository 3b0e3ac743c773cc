//! The application of the README: a state of several parts, and a body.
#![deny(warnings)]

use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use idempotent_runtime::{Idempotency, idempotent};
use serde::{Deserialize, Serialize};

#[derive(Clone)]
struct AppState {
    ledger: Ledger,
    idempotency: Idempotency,
}

impl FromRef<AppState> for Ledger {
    fn from_ref(state: &AppState) -> Self {
        state.ledger.clone()
    }
}

impl FromRef<AppState> for Idempotency {
    fn from_ref(state: &AppState) -> Self {
        state.idempotency.clone()
    }
}

#[derive(Clone)]
struct Ledger;

#[derive(Deserialize)]
struct PaymentRequest {
    amount: u64,
}

#[derive(Serialize)]
struct Payment {
    amount: u64,
}

impl Ledger {
    async fn charge(
        &self,
        payment: PaymentRequest,
    ) -> Result<(StatusCode, Json<Payment>), StatusCode> {
        Ok((
            StatusCode::CREATED,
            Json(Payment {
                amount: payment.amount,
            }),
        ))
    }
}

#[idempotent(ttl_hours = 24)]
async fn create_payment(
    State(ledger): State<Ledger>,
    Json(payment): Json<PaymentRequest>,
) -> Result<(StatusCode, Json<Payment>), StatusCode> {
    ledger.charge(payment).await
}

fn main() {
    let _: Router<AppState> = Router::new().route("/payments", post(create_payment));
}

//! Without idempotency: what the others are compared to.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use sha2::{Digest as _, Sha256};

use crate::till::{Till, pay};

pub(super) fn bare(till: Till) -> Router {
    Router::new().route("/payments", post(pay)).with_state(till)
}

/// A middleware that does nothing: what being a middleware costs.
pub(super) fn noop(till: Till) -> Router {
    let pass = |request: Request, next: Next| next.run(request);
    bare(till).layer(from_fn(pass))
}

/// The handler, and a digest of the body as a fingerprint needs it: what any implementation that
/// compares requests with SHA-256 must cost at the least.
pub(super) fn sha256(till: Till) -> Router {
    Router::new()
        .route("/payments", post(digest_and_pay))
        .with_state(till)
}

async fn digest_and_pay(State(till): State<Till>, body: Bytes) -> Response {
    std::hint::black_box(Sha256::digest(&body));
    match serde_json::from_slice(&body) {
        Ok(request) => till.pay(request).into_response(),
        Err(_) => StatusCode::UNPROCESSABLE_ENTITY.into_response(),
    }
}

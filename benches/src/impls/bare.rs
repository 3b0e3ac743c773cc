//! Without idempotency: what the others are compared to.

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest as _, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use sha2::{Digest as _, Sha256};

use crate::till::{Till, pay};

/// As large as the default limit of axum's own extractors.
const LARGEST: usize = 2 * 1024 * 1024;

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

/// Reads the body twice, as what digests and then extracts must.
async fn digest_and_pay(State(till): State<Till>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    std::hint::black_box(Sha256::digest(&body));
    let request = Request::from_parts(parts, Body::from(body));
    match Json::from_request(request, &()).await {
        Ok(Json(request)) => till.pay(request).into_response(),
        Err(rejection) => rejection.into_response(),
    }
}

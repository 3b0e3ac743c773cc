//! What is stored of a response.

use axum::response::Response;
use http::HeaderMap;

use crate::handle::Idempotency;
use crate::record::{CompactResponse, StoredResponse};

/// What is stored of a response: without a body it is a tombstone. It is a copy, because it can be
/// kept for long, and what the handler has made can share its memory with much more.
pub(super) fn stored(
    idempotency: &Idempotency,
    response: &Response,
    body: Option<&[u8]>,
) -> StoredResponse {
    compact(idempotency, response, body).response()
}

/// What is stored of trailers, by the same rules as for headers; a copy likewise.
pub(super) fn stored_trailers(
    idempotency: &Idempotency,
    trailers: Option<&HeaderMap>,
) -> HeaderMap {
    let Some(trailers) = trailers else {
        return HeaderMap::new();
    };
    let trailers = idempotency.stored_headers().stored(trailers);
    CompactResponse::new(0, trailers, None).response().headers
}

pub(super) fn compact(
    idempotency: &Idempotency,
    response: &Response,
    body: Option<&[u8]>,
) -> CompactResponse {
    let headers = idempotency.stored_headers().stored(response.headers());
    CompactResponse::new(response.status().as_u16(), headers, body)
}

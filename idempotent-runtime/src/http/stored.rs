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
    let is_stored = idempotency.stored_headers().is_stored(trailers);
    let stored = CompactResponse::new(0, trailers, is_stored, None);
    stored.response().headers
}

pub(super) fn compact(
    idempotency: &Idempotency,
    response: &Response,
    body: Option<&[u8]>,
) -> CompactResponse {
    let headers = response.headers();
    let is_stored = idempotency.stored_headers().is_stored(headers);
    CompactResponse::new(response.status().as_u16(), headers, is_stored, body)
}

//! The middleware that people write: look the key up, run, put the answer away.
//!
//! Fast, and wrong in the usual ways: two requests at once both run, another body under the same key
//! gets the first one's answer, and a client that hangs up leaves a charge without a record. It is here
//! because it is what one would otherwise have.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use redis::aio::ConnectionLike;
use redis::{AsyncCommands as _, ExistenceCheck, SetExpiry, SetOptions};
use serde::{Deserialize, Serialize};

use super::bare::bare;
use super::batched::Batched;
use crate::Failure;
use crate::till::Till;

/// As large as the default limit of axum's own extractors.
const LARGEST: usize = 2 * 1024 * 1024;

const TTL_SECS: u64 = 24 * 60 * 60;

type Answers = Arc<Mutex<HashMap<String, (StatusCode, HeaderMap, Bytes)>>>;

pub(super) fn map(till: Till) -> Router {
    bare(till).layer(from_fn_with_state(Answers::default(), through_map))
}

async fn through_map(State(answers): State<Answers>, request: Request, next: Next) -> Response {
    let Some(key) = key_of(&request) else {
        return next.run(request).await;
    };
    let found = lock(&answers).get(&key).cloned();
    if let Some((status, mut headers, body)) = found {
        read_to_its_end(request).await;
        headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
        return (status, headers, body).into_response();
    }
    let (parts, body) = next.run(request).await.into_parts();
    let Ok(body) = to_bytes(body, LARGEST).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let answer = (parts.status, parts.headers.clone(), body.clone());
    lock(&answers).insert(key, answer);
    Response::from_parts(parts, Body::from(body))
}

fn lock(
    answers: &Answers,
) -> std::sync::MutexGuard<'_, HashMap<String, (StatusCode, HeaderMap, Bytes)>> {
    answers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Serialize, Deserialize)]
struct Stored {
    status: u16,
    content_type: String,
    body: String,
}

pub(super) async fn redis(till: Till, url: &str) -> Result<Router, Failure> {
    let connection = redis::Client::open(url)?.get_connection_manager().await?;
    Ok(on_redis(till, connection))
}

/// The same, and the commands of many requests go out together.
pub(super) async fn redis_batched(till: Till, url: &str) -> Result<Router, Failure> {
    let connection = redis::Client::open(url)?.get_connection_manager().await?;
    Ok(on_redis(till, Batched::new(connection)))
}

fn on_redis<C>(till: Till, connection: C) -> Router
where
    C: ConnectionLike + Clone + Send + Sync + 'static,
{
    bare(till).layer(from_fn_with_state(connection, through_redis::<C>))
}

async fn through_redis<C>(State(mut connection): State<C>, request: Request, next: Next) -> Response
where
    C: ConnectionLike + Clone + Send + Sync + 'static,
{
    let Some(key) = key_of(&request) else {
        return next.run(request).await;
    };
    let unavailable = || StatusCode::SERVICE_UNAVAILABLE.into_response();
    match connection.get::<_, Option<Vec<u8>>>(&key).await {
        Ok(Some(stored)) => {
            read_to_its_end(request).await;
            return replay(&stored).unwrap_or_else(unavailable);
        }
        Ok(None) => {}
        Err(_) => return unavailable(),
    }
    let (parts, body) = next.run(request).await.into_parts();
    let Ok(body) = to_bytes(body, LARGEST).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let content_type = parts.headers.get(header::CONTENT_TYPE);
    let stored = Stored {
        status: parts.status.as_u16(),
        content_type: content_type
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let Ok(stored) = serde_json::to_vec(&stored) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let once = SetOptions::default()
        .conditional_set(ExistenceCheck::NX)
        .with_expiration(SetExpiry::EX(TTL_SECS));
    match connection.set_options::<_, _, ()>(&key, stored, once).await {
        Ok(()) => Response::from_parts(parts, Body::from(body)),
        Err(_) => unavailable(),
    }
}

fn replay(stored: &[u8]) -> Option<Response> {
    let stored: Stored = serde_json::from_slice(stored).ok()?;
    let status = StatusCode::from_u16(stored.status).ok()?;
    let headers = [
        (header::CONTENT_TYPE.as_str(), stored.content_type.as_str()),
        ("idempotent-replayed", "true"),
    ];
    Some((status, headers, stored.body).into_response())
}

/// Or the connection is closed, with the rest of a large body on its way.
async fn read_to_its_end(request: Request) {
    let _ = to_bytes(request.into_body(), LARGEST).await;
}

fn key_of(request: &Request) -> Option<String> {
    let key = request.headers().get("idempotency-key")?;
    key.to_str().ok().map(str::to_owned)
}

//! Routes for a black-box test suite in any language.
//!
//! ```text
//! cargo run --example conformance_server [-- --addr 127.0.0.1:3001] [--store memory:] [--ttl-ms N]
//! ```
//!
//! | route | response |
//! | --- | --- |
//! | `POST /echo` | 201, the request's body and content type |
//! | `POST /status/{code}` | that status, `status:{code}` |
//! | `POST /slow?ms=N` | after N ms: 200, `slept:N`; a duplicate meanwhile: 409 |
//! | `POST /wait?ms=N` | after N ms: 200, `slept:N`; a duplicate meanwhile: the same response |
//! | `POST /large?bytes=N` | 200, `x` repeated N times |
//! | `POST /binary` | 200, `application/octet-stream`, the bytes 0 to 255 |
//! | `POST /headers` | 200, two `Set-Cookie`, two `X-Multi`, a non-UTF-8 `X-Bytes`, `Location` |
//! | `POST /panic` | panics |
//! | `GET /counter` | `{"count": n}`: the number of times a handler has run |
//! | `POST /reset` | 204, the counter is 0 (not idempotent, needs no key) |
//!
//! `IDEMPOTENCY_URL` also selects the store. Every store except `memory:` needs its feature, as in
//! `cargo run --features redis --example conformance_server -- --store redis://127.0.0.1`.
//!
//! All `POST` routes except `/reset` require an `Idempotency-Key`. `--ttl-ms` sets how long a completed response
//! is replayed, in milliseconds (default 24 h); leases are 30 s.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRef, Path, Query, State};
use axum::response::{AppendHeaders, IntoResponse};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::{CONTENT_TYPE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use idempotent_runtime::store::connect;
use idempotent_runtime::{Idempotency, idempotent};
use serde::Deserialize;
use tokio::net::TcpListener;

#[derive(Clone, FromRef)]
struct AppState {
    counter: Counter,
    idempotency: Idempotency,
}

#[derive(Clone, Default)]
struct Counter(Arc<AtomicU64>);

impl Counter {
    fn count(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Deserialize)]
struct Millis {
    ms: u64,
}

#[derive(Deserialize)]
struct Size {
    bytes: usize,
}

#[idempotent]
async fn echo(
    State(counter): State<Counter>,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    counter.count();
    let unknown = HeaderValue::from_static("application/octet-stream");
    let content_type = headers.get(CONTENT_TYPE).cloned().unwrap_or(unknown);
    (StatusCode::CREATED, [(CONTENT_TYPE, content_type)], body)
}

#[idempotent]
async fn status(
    State(counter): State<Counter>,
    Path(code): Path<u16>,
) -> Result<(StatusCode, String), (StatusCode, &'static str)> {
    counter.count();
    let status = StatusCode::from_u16(code)
        .ok()
        .filter(|status| !status.is_informational())
        .ok_or((StatusCode::BAD_REQUEST, "status must be 200 to 999"))?;
    Ok((status, format!("status:{code}")))
}

#[idempotent]
async fn slow(State(counter): State<Counter>, Query(Millis { ms }): Query<Millis>) -> String {
    sleep(&counter, ms).await
}

#[idempotent(in_flight = "wait", wait = "1m")]
async fn wait(State(counter): State<Counter>, Query(Millis { ms }): Query<Millis>) -> String {
    sleep(&counter, ms).await
}

async fn sleep(counter: &Counter, ms: u64) -> String {
    counter.count();
    tokio::time::sleep(Duration::from_millis(ms)).await;
    format!("slept:{ms}")
}

#[idempotent]
async fn large(State(counter): State<Counter>, Query(Size { bytes }): Query<Size>) -> Vec<u8> {
    counter.count();
    vec![b'x'; bytes]
}

#[idempotent]
async fn binary(State(counter): State<Counter>) -> Vec<u8> {
    counter.count();
    (0..=255).collect()
}

#[idempotent]
async fn headers(State(counter): State<Counter>) -> impl IntoResponse {
    counter.count();
    let multi = HeaderName::from_static("x-multi");
    let bytes = HeaderValue::from_bytes(b"caf\xe9").unwrap_or(HeaderValue::from_static("cafe"));
    AppendHeaders([
        (SET_COOKIE, HeaderValue::from_static("session=1; HttpOnly")),
        (SET_COOKIE, HeaderValue::from_static("theme=dark")),
        (multi.clone(), HeaderValue::from_static("one")),
        (multi, HeaderValue::from_static("two")),
        (HeaderName::from_static("x-bytes"), bytes),
        (LOCATION, HeaderValue::from_static("/echo/1")),
    ])
}

#[idempotent]
#[expect(clippy::panic, reason = "what the route is for")]
async fn panics(State(counter): State<Counter>) -> StatusCode {
    counter.count();
    panic!("asked to");
}

async fn counter(State(counter): State<Counter>) -> Json<serde_json::Value> {
    Json(serde_json::json!({ "count": counter.0.load(Ordering::SeqCst) }))
}

async fn reset(State(counter): State<Counter>) -> StatusCode {
    counter.0.store(0, Ordering::SeqCst);
    StatusCode::NO_CONTENT
}

#[tokio::main]
#[expect(
    clippy::print_stdout,
    reason = "a suite reads the address from the first line"
)]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let Options { addr, store, ttl } = Options::parse()?;

    let idempotency = Idempotency::builder(connect(&store).await?);
    let idempotency = match ttl {
        Some(ttl) => idempotency.ttl(ttl).build(),
        None => idempotency.build(),
    };
    let app = Router::new()
        .route("/echo", post(echo))
        .route("/status/{code}", post(status))
        .route("/slow", post(slow))
        .route("/wait", post(wait))
        .route("/large", post(large))
        .route("/binary", post(binary))
        .route("/headers", post(headers))
        .route("/panic", post(panics))
        .route("/counter", get(counter))
        .route("/reset", post(reset))
        .layer(DefaultBodyLimit::max(2 * 1024 * 1024))
        .with_state(AppState {
            counter: Counter::default(),
            idempotency: idempotency.clone(),
        });

    let listener = TcpListener::bind(&addr)
        .await
        .map_err(|error| format!("{addr}: {error}"))?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(stop())
        .await?;
    idempotency.shutdown(Duration::from_secs(10)).await;
    Ok(())
}

/// Ctrl-C, or the signal that a service manager sends.
async fn stop() {
    #[cfg(unix)]
    let terminate = async {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate => {}
    }
}

struct Options {
    addr: String,
    store: String,
    ttl: Option<Duration>,
}

impl Options {
    fn parse() -> Result<Self, lexopt::Error> {
        use lexopt::prelude::*;
        let mut options = Self {
            addr: "127.0.0.1:3001".to_owned(),
            store: std::env::var("IDEMPOTENCY_URL").unwrap_or_else(|_| "memory:".to_owned()),
            ttl: None,
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("addr") => options.addr = arguments.value()?.string()?,
                Long("store") => options.store = arguments.value()?.string()?,
                Long("ttl-ms") => match arguments.value()?.parse()? {
                    0 => return Err("--ttl-ms must be at least 1".into()),
                    millis => options.ttl = Some(Duration::from_millis(millis)),
                },
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(options)
    }
}

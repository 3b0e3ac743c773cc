//! A checkout page that shows what an `Idempotency-Key` is good for.
//!
//! ```text
//! cargo run --example checkout [-- --addr 127.0.0.1:3000] [--store memory:]
//! ```
//!
//! Open the address that it prints. The page pays with the JavaScript client of this repository, or
//! without it; the faults that it offers really happen. `IDEMPOTENCY_URL` also selects the store. Every
//! store except `memory:` needs its feature.

mod network;
mod shop;

use std::error::Error;
use std::sync::{Arc, mpsc};

use axum::Router;
use axum::middleware::{from_fn, map_response};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use http::HeaderValue;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use idempotent_runtime::Idempotency;
use idempotent_runtime::store::{self, Store};

use network::Listener;
use shop::{Ledger, Shop};

const PAGE: &str = include_str!("index.html");

/// The package as it is: what the page imports is what npm ships.
const CLIENT: &str = include_str!("../../clients/javascript/index.js");

/// Nothing but this server, and no script but the page's own.
const POLICY: &str = "default-src 'none'; script-src 'self' 'nonce-NONCE'; style-src 'nonce-NONCE'; \
     img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let Options { addr, store } = Options::parse()?;

    // What outlives a crash of the server: the records, and the bank's books.
    let outside = tokio::runtime::Runtime::new()?;
    let store = outside.block_on(store::connect(&store))?;
    let ledger = Ledger::default();

    let listener =
        std::net::TcpListener::bind(&addr).map_err(|error| format!("{addr}: {error}"))?;
    listener.set_nonblocking(true)?;
    print_guide(&format!("http://{}", listener.local_addr()?));

    // Each round is a server process: it ends in the middle of whatever it is doing, and the next one begins.
    loop {
        let (crash, crashed) = mpsc::channel();
        let process = tokio::runtime::Runtime::new()?;
        let app = app(Arc::clone(&store), &ledger, crash);
        let listener = listener.try_clone()?;
        process.spawn(async move {
            let app = app.into_make_service_with_connect_info::<network::Connection>();
            axum::serve(Listener::from_std(listener)?, app).await
        });
        crashed.recv()?;
        process.shutdown_background();
        tracing::warn!("the server crashed, and starts again");
    }
}

fn app(store: Arc<dyn Store>, ledger: &Ledger, crash: mpsc::Sender<()>) -> Router {
    let idempotency = Idempotency::builder(store)
        .extension(ledger.clone())
        .build();
    let payments = post(shop::create_payment).layer(from_fn(network::misbehave));
    Router::new()
        .route("/", get(page))
        .route("/client/index.js", get(client))
        .route("/api/payments", payments)
        .route("/api/orders/{order_id}", get(shop::show_order))
        .layer(map_response(one_request_per_connection))
        .with_state(Shop {
            ledger: ledger.clone(),
            idempotency,
            crash,
        })
}

async fn page() -> Response {
    let nonce = format!("{:032x}", random());
    let policy = HeaderValue::try_from(POLICY.replace("NONCE", &nonce));
    let mut response = Html(PAGE.replace("NONCE", &nonce)).into_response();
    let headers = response.headers_mut();
    if let Ok(policy) = policy {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// From the operating system, by way of the seed of the standard library's hash maps.
fn random() -> u128 {
    use std::hash::{BuildHasher as _, RandomState};
    let half = || u128::from(RandomState::new().hash_one(0));
    half() << 64 | half()
}

async fn client() -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, CLIENT)
}

/// A browser sends a request again by itself if a connection that it reuses is closed. Without reuse, each
/// try is one that the page has made.
async fn one_request_per_connection(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[expect(clippy::print_stdout, reason = "this is what the example has to say")]
fn print_guide(url: &str) {
    println!(
        "The checkout is open: {url}\n\n\
         Choose what goes wrong, and pay. The number of charges stays at 1.\n\
         Then turn on \"Without this library\", and pay again."
    );
}

const USAGE: &str = "usage: checkout [--addr 127.0.0.1:3000] [--store memory:]";

struct Options {
    addr: String,
    store: String,
}

impl Options {
    fn parse() -> Result<Self, lexopt::Error> {
        use lexopt::prelude::*;
        let mut options = Self {
            addr: "127.0.0.1:3000".to_owned(),
            store: std::env::var("IDEMPOTENCY_URL").unwrap_or_else(|_| "memory:".to_owned()),
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("addr") => options.addr = arguments.value()?.string()?,
                Long("store") => options.store = arguments.value()?.string()?,
                Long("help") => return Err(USAGE.into()),
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(options)
    }
}

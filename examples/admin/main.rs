//! The page for operators, with records to look at, and a payment that can crash.
//!
//! ```text
//! cargo run --features admin --example admin [-- --addr 127.0.0.1:3000] [--abandoned 12]
//! ```
//!
//! Open the address that it prints, with any name and the password that it prints (or that `ADMIN_PASSWORD` sets). The
//! records are in memory. Then crash a payment with the `curl` command that it prints too, and resolve it on the page:
//! the retry gets your answer.

mod seed;

use std::error::Error;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use axum::extract::{FromRef, Query, State};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderName, StatusCode};
use idempotent_runtime::store::Store;
use idempotent_runtime::{Attempt, Idempotency, StepError, admin, idempotent};
use serde::{Deserialize, Serialize};

#[derive(Clone, FromRef)]
struct Shop {
    idempotency: Idempotency,
    /// Ends this server at once.
    crash: mpsc::Sender<()>,
}

#[derive(Deserialize)]
struct Order {
    id: String,
    amount: u64,
}

#[derive(Deserialize, Serialize)]
struct Charge {
    id: u64,
    amount: u64,
}

#[derive(Deserialize)]
struct Faults {
    #[serde(default)]
    crash: bool,
}

/// Charges, and crashes before it answers if the request asks for it. Until the lease ends, the crash looks like a slow
/// payment.
#[idempotent(lease = "1s", label = order.id)]
async fn create_payment(
    attempt: Attempt,
    State(crash): State<mpsc::Sender<()>>,
    Query(faults): Query<Faults>,
    Json(order): Json<Order>,
) -> Result<(StatusCode, Json<Charge>), StepError<StatusCode>> {
    let charge = attempt
        .step("charge the card", charge(order.amount))
        .await?;
    if faults.crash && crash.send(()).is_ok() {
        std::future::pending::<()>().await;
    }
    Ok((StatusCode::CREATED, Json(charge)))
}

/// The card network, which is fake.
async fn charge(amount: u64) -> Result<Charge, StatusCode> {
    tokio::time::sleep(Duration::from_millis(200)).await;
    Ok(Charge { id: 1, amount })
}

fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let Options { addr, abandoned } = Options::parse()?;
    let password = std::env::var("ADMIN_PASSWORD").unwrap_or_else(|_| random());

    // What outlives a crash of the server.
    let outside = tokio::runtime::Runtime::new()?;
    let store: Arc<dyn Store> = Arc::new(outside.block_on(seed::store(abandoned))?);

    let listener =
        std::net::TcpListener::bind(&addr).map_err(|error| format!("{addr}: {error}"))?;
    listener.set_nonblocking(true)?;
    print_guide(&format!("http://{}", listener.local_addr()?), &password);

    // Each round is a server process: it ends in the middle of whatever it is doing, and the next one begins.
    loop {
        let (crash, crashed) = mpsc::channel();
        let process = tokio::runtime::Runtime::new()?;
        let app = app(Idempotency::new(Arc::clone(&store)), &password, crash);
        let listener = listener.try_clone()?;
        process.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, app).await
        });
        crashed.recv()?;
        process.shutdown_background();
        tracing::warn!("the server crashed, and starts again");
    }
}

fn app(idempotency: Idempotency, password: &str, crash: mpsc::Sender<()>) -> Router {
    let password = password.to_owned();
    let authorise = move |parts: &Parts| operator(parts, &password).ok_or_else(challenge);
    Router::new()
        .nest(
            "/admin/idempotency",
            admin::router(idempotency.clone(), authorise),
        )
        .route("/api/payments", post(create_payment))
        .with_state(Shop { idempotency, crash })
}

/// The name of the operator who has the password. An application asks its own sessions instead.
fn operator(parts: &Parts, password: &str) -> Option<String> {
    let header = parts.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let credentials = BASE64_STANDARD
        .decode(header.strip_prefix("Basic ")?)
        .ok()?;
    let credentials = String::from_utf8(credentials).ok()?;
    let (name, given) = credentials.split_once(':')?;
    is_equal(given.as_bytes(), password.as_bytes()).then(|| name.to_owned())
}

/// In a time that does not say where they differ.
fn is_equal(given: &[u8], expected: &[u8]) -> bool {
    let pairs = given.iter().zip(expected);
    given.len() == expected.len() && pairs.fold(0, |bits, (one, other)| bits | (one ^ other)) == 0
}

type Challenge = (StatusCode, [(HeaderName, &'static str); 1], &'static str);

fn challenge() -> Challenge {
    let basic = "Basic realm=\"admin\", charset=\"UTF-8\"";
    let headers = [(WWW_AUTHENTICATE, basic)];
    (StatusCode::UNAUTHORIZED, headers, "a name and a password\n")
}

/// From the operating system, by way of the seed of the standard library's hash maps.
fn random() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    format!("{:016x}", RandomState::new().hash_one(0))
}

#[expect(clippy::print_stdout, reason = "this is what the example has to say")]
fn print_guide(url: &str, password: &str) {
    let pay = format!(
        "curl -i '{url}/api/payments' -H 'Idempotency-Key: my-order' --json '{{\"id\":\"order 4711\",\"amount\":1000}}'"
    );
    println!(
        "The page for operators is open: {url}/admin/idempotency\n\
         any name, and the password: {password}\n\n\
         Crash a payment:\n  {crash}\n\
         Resolve it on the page (\"order 4711\", after a second), and retry:\n  {crash}",
        crash = pay.replace("/api/payments", "/api/payments?crash=true")
    );
}

const USAGE: &str = "usage: admin [--addr 127.0.0.1:3000] [--abandoned 12]";

struct Options {
    addr: String,
    /// How many abandoned records to begin with.
    abandoned: u32,
}

impl Options {
    fn parse() -> Result<Self, lexopt::Error> {
        use lexopt::prelude::*;
        let mut options = Self {
            addr: "127.0.0.1:3000".to_owned(),
            abandoned: 12,
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("addr") => options.addr = arguments.value()?.string()?,
                Long("abandoned") => options.abandoned = arguments.value()?.parse()?,
                Long("help") => return Err(USAGE.into()),
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(options)
    }
}

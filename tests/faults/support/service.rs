//! The application under test, as it runs in its own process.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRef, State};
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use idempotent_runtime::{
    Abandoned, Attempt, Idempotency, IdempotencyBuilder, Recovery, StepError, StoredResponse,
    idempotent,
};
use tokio::net::TcpListener;

use super::BOUND;
use super::crashing::{Crashing, Point};
use super::ledger::Ledger;
use super::shop;

/// What an application is told by its environment.
pub mod variable {
    pub const STORE: &str = "FAULTS_STORE";
    pub const LEDGER: &str = "FAULTS_LEDGER";
    /// The file that the application writes its address to.
    pub const ADDRESS: &str = "FAULTS_ADDRESS";
    /// The name of a [`Point`](super::Point).
    pub const CRASH: &str = "FAULTS_CRASH";
    /// A folder of [gates](super::gate).
    pub const GATES: &str = "FAULTS_GATES";
    /// The namespace, where it is not the default one.
    pub const NAMESPACE: &str = "FAULTS_NAMESPACE";
    /// The secrets, separated by commas, the current one last; an empty one first is a time without.
    pub const SECRETS: &str = "FAULTS_SECRETS";
    /// Whether store calls may take as long as they like.
    pub const PATIENT: &str = "FAULTS_PATIENT";
    /// Whether it has a [shop](super::shop), whose handlers write in transactions.
    pub const SHOP: &str = "FAULTS_SHOP";
    /// Whether the shop is on a pool of deadpool-postgres.
    pub const DEADPOOL: &str = "FAULTS_DEADPOOL";
}

/// The two files of a gate, of which each process has its own: the handler makes the first when it stands before it, the test makes
/// the second to let it through.
pub fn gate(folder: &Path, key: &str, pid: u32) -> [PathBuf; 2] {
    ["reached", "open"].map(|what| folder.join(format!("{what}-{key}-{pid}")))
}

#[derive(Clone, FromRef)]
struct Service {
    idempotency: Idempotency,
    till: Till,
}

/// What the handlers do.
#[derive(Clone)]
pub struct Till {
    ledger: Ledger,
    crash: Option<Point>,
    gates: Option<PathBuf>,
}

impl Till {
    /// Dies here, if this is where.
    pub fn reaches(&self, point: Point) {
        point.reached(self.crash);
    }

    /// The effect: a line in the ledger, which is also the answer.
    async fn charge(&self, headers: &HeaderMap, attempt: &Attempt) -> (StatusCode, String) {
        let key = headers["idempotency-key"]
            .to_str()
            .expect("ASCII")
            .to_owned();
        let line = format!(
            "{key} attempt {} in process {}",
            attempt.number(),
            std::process::id()
        );
        Point::BeforeEffect.reached(self.crash);
        let (ledger, effect) = (self.ledger.clone(), line.clone());
        let written = tokio::task::spawn_blocking(move || ledger.write(&effect));
        written.await.expect("a ledger");
        Point::AfterEffect.reached(self.crash);
        self.pass_gate(&key).await;
        (StatusCode::CREATED, line)
    }

    pub async fn pass_gate(&self, key: &str) {
        let Some(gates) = self.gates.as_deref().filter(|_| key.contains("gated")) else {
            return;
        };
        let [reached, open] = gate(gates, key, std::process::id());
        std::fs::write(reached, "").expect("a gate");
        while !open.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[idempotent(lease = "1s")]
async fn reject(
    State(till): State<Till>,
    headers: HeaderMap,
    attempt: Attempt,
) -> (StatusCode, String) {
    till.charge(&headers, &attempt).await
}

#[idempotent(lease = "1s", on_abandoned = "retry")]
async fn retry(
    State(till): State<Till>,
    headers: HeaderMap,
    attempt: Attempt,
) -> (StatusCode, String) {
    till.charge(&headers, &attempt).await
}

#[idempotent(lease = "1s", on_abandoned = look)]
async fn recover(
    State(till): State<Till>,
    headers: HeaderMap,
    attempt: Attempt,
) -> (StatusCode, String) {
    till.charge(&headers, &attempt).await
}

/// Three effects, a step each, which are the answer's three lines.
#[idempotent(lease = "1s", on_abandoned = "retry")]
async fn steps(
    State(till): State<Till>,
    headers: HeaderMap,
    attempt: Attempt,
) -> Result<(StatusCode, String), StepError<String>> {
    let key = headers["idempotency-key"].to_str().expect("ASCII");
    let mut done = Vec::new();
    for (number, point) in (1..).zip(Point::IN_STEPS) {
        let line = format!("{key} step {number} by attempt {}", attempt.number());
        let effect = async {
            let (ledger, effect) = (till.ledger.clone(), line.clone());
            let written = tokio::task::spawn_blocking(move || ledger.write(&effect));
            written.await.map_err(|error| error.to_string())?;
            Ok(line)
        };
        done.push(attempt.step(&format!("step {number}"), effect).await?);
        point.reached(till.crash);
    }
    Ok((StatusCode::CREATED, done.join("\n")))
}

/// For tests in which no lease is to end.
#[idempotent(lease = "5m")]
async fn steady(
    State(till): State<Till>,
    headers: HeaderMap,
    attempt: Attempt,
) -> (StatusCode, String) {
    till.charge(&headers, &attempt).await
}

/// For requests that wait for another one's answer.
#[idempotent(lease = "5m", in_flight = "wait", wait = "15s")]
async fn wait(
    State(till): State<Till>,
    headers: HeaderMap,
    attempt: Attempt,
) -> (StatusCode, String) {
    till.charge(&headers, &attempt).await
}

/// Answers with what it was sent.
#[idempotent(lease = "5m")]
async fn echo(body: Bytes) -> Bytes {
    body
}

async fn look(abandoned: Abandoned) -> Recovery {
    let ledger: &Ledger = abandoned.extension().expect("a ledger");
    match ledger.effects(abandoned.key().as_str()).pop() {
        Some(effect) => Recovery::Replay(StoredResponse::new(
            StatusCode::CREATED,
            HeaderMap::new(),
            effect,
        )),
        None => Recovery::Retry,
    }
}

/// Serves until its parent is gone; returns at once where nothing is asked of it.
pub fn serve() {
    let Ok(store) = std::env::var(variable::STORE) else {
        return;
    };
    let value = |name| std::env::var(name).ok();
    let till = Till {
        ledger: Ledger::new(value(variable::LEDGER).expect("a ledger").into()),
        crash: value(variable::CRASH).map(|name| name.parse().expect("a point")),
        gates: value(variable::GATES).map(PathBuf::from),
    };
    let address = PathBuf::from(value(variable::ADDRESS).expect("a file for the address"));
    tracing_subscriber::fmt().with_ansi(false).init();
    std::thread::spawn(|| {
        // The other end is held by the test: it ends when the test does.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(run(&store, till, &address));
}

fn with_secrets(mut builder: IdempotencyBuilder, secrets: &str) -> IdempotencyBuilder {
    let mut secrets: Vec<&str> = secrets.split(',').collect();
    let current = secrets.pop().expect("a current secret");
    if secrets.first() == Some(&"") {
        secrets.remove(0);
        builder = builder.previously_without_secret();
    }
    builder.previous_secrets(secrets).secret(current)
}

async fn run(store: &str, till: Till, announce: &Path) {
    let is_deadpool = std::env::var_os(variable::DEADPOOL).is_some();
    let inner = match is_deadpool {
        true => shop::on_deadpool(store).await,
        false => idempotent_runtime::store::connect(store).await,
    };
    let store = Crashing {
        inner: inner.expect("a store"),
        at: till.crash,
    };
    let mut idempotency = Idempotency::builder(store)
        .extension(till.ledger.clone())
        // Its calls would be counted, and its claim one to die after.
        .secret_check(std::env::var_os(variable::SECRETS).is_some());
    if std::env::var_os(variable::PATIENT).is_some() {
        idempotency = idempotency.store_timeout(BOUND);
    }
    if let Ok(namespace) = std::env::var(variable::NAMESPACE) {
        idempotency = idempotency.namespace(namespace);
    }
    if let Ok(secrets) = std::env::var(variable::SECRETS) {
        idempotency = with_secrets(idempotency, &secrets);
    }
    let idempotency = idempotency.build();
    let shop = match std::env::var_os(variable::SHOP) {
        Some(_) => shop::routes(&idempotency, till.clone(), is_deadpool).await,
        None => Router::new(),
    };
    let app = Router::new()
        .route("/reject", post(reject))
        .route("/retry", post(retry))
        .route("/recover", post(recover))
        .route("/steps", post(steps))
        .route("/steady", post(steady))
        .route("/wait", post(wait))
        .route("/echo", post(echo))
        .with_state(Service { idempotency, till })
        .merge(shop);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let draft = announce.with_extension("draft");
    std::fs::write(&draft, address).expect("a file");
    std::fs::rename(draft, announce).expect("a file");
    axum::serve(listener, app).await.expect("a server");
}

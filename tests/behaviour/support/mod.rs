//! What the tests share: an application on a socket or without one, clients, gates, and a store that
//! fails where it is told to.

mod crash;
mod faulty;
mod local;
mod logged;
mod raw;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::FromRef;
use idempotent_runtime::store::Store;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Idempotency, IdempotencyBuilder, ManualClock};
use reqwest::{Method, RequestBuilder};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use crash::{Crashes, LEASE, Stopped, take_over};
pub use faulty::{Fault, FaultyStore, Operation};
pub use local::Local;
pub use logged::Log;
pub use raw::{raw, raw_stream};

/// A UUIDv7 that was made then.
pub fn uuid_v7(made_at: SystemTime) -> String {
    let millis = made_at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let time = format!("{:012x}", millis.as_millis());
    format!("{}-{}-7cc3-98c4-dc0c0c07398f", &time[..8], &time[8..])
}

/// The state of every test application.
#[derive(Clone, FromRef)]
pub struct App {
    pub idempotency: Idempotency,
    pub probe: Probe,
}

/// What a handler reports, and what it waits for.
#[derive(Clone, Default)]
pub struct Probe(Arc<Inner>);

#[derive(Default)]
struct Inner {
    runs: AtomicUsize,
    finished: AtomicUsize,
    started: Gate,
    open: Gate,
}

struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Gate {
    async fn pass(&self) {
        self.0
            .acquire()
            .await
            .expect("gates are never closed")
            .forget();
    }
}

impl Probe {
    /// Called first thing by a handler; returns which run it is: 1, 2, ...
    pub fn run(&self) -> usize {
        let run = self.0.runs.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.started.0.add_permits(1);
        run
    }

    /// As [`run`](Self::run), and then waits to be let through.
    pub async fn run_gated(&self) -> usize {
        let run = self.run();
        self.0.open.pass().await;
        self.0.finished.fetch_add(1, Ordering::SeqCst);
        run
    }

    /// Waits until one more handler has begun.
    pub async fn started(&self) {
        self.0.started.pass().await;
    }

    /// Lets one handler through.
    pub fn open(&self) {
        self.0.open.0.add_permits(1);
    }

    pub fn runs(&self) -> usize {
        self.0.runs.load(Ordering::SeqCst)
    }

    pub fn finished(&self) -> usize {
        self.0.finished.load(Ordering::SeqCst)
    }
}

/// A running application.
pub struct Server {
    pub address: std::net::SocketAddr,
    pub probe: Probe,
    pub idempotency: Idempotency,
    memory: Option<Arc<MemoryStore>>,
    client: reqwest::Client,
}

/// Serves routes on the default memory store.
pub async fn serve(routes: Router<App>) -> Server {
    let memory = Arc::new(MemoryStore::new());
    let server = serve_on(Arc::clone(&memory), routes).await;
    Server {
        memory: Some(memory),
        ..server
    }
}

/// A handle without the calls that are not about a request, which would be counted and meet a test's faults; and without
/// a replay cache, so that each request reaches the store.
pub fn builder_on(store: impl Store) -> IdempotencyBuilder {
    Idempotency::builder(store)
        .secret_check(false)
        .replay_cache(None)
}

/// Serves routes on a store, with the settings of [`builder_on`].
pub async fn serve_on(store: impl Store, routes: Router<App>) -> Server {
    serve_with(builder_on(store), routes).await
}

/// Serves routes on a memory store whose clock stands still.
pub async fn serve_on_manual_clock(routes: Router<App>) -> (Server, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let store = FaultyStore::certain(&clock);
    (serve_on(store, routes).await, clock)
}

/// Serves routes with the builder's settings.
pub async fn serve_with(builder: IdempotencyBuilder, routes: Router<App>) -> Server {
    let Local {
        router,
        probe,
        idempotency,
    } = Local::with(builder, routes);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    Server {
        address,
        probe,
        idempotency,
        memory: None,
        client: reqwest::Client::new(),
    }
}

impl Server {
    /// A request with this key.
    pub fn request(&self, method: Method, path: &str, key: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        self.client
            .request(method, url)
            .header("Idempotency-Key", key)
    }

    /// A `POST` with this key and body.
    pub fn post(&self, path: &str, key: &str, body: impl Into<String>) -> RequestBuilder {
        self.request(Method::POST, path, key).body(body.into())
    }

    /// A `POST` without a key.
    pub fn post_without_key(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("http://{}{path}", self.address))
    }

    /// Whether there is no record at all, for servers made by [`serve`].
    pub fn stored_nothing(&self) -> bool {
        self.memory
            .as_ref()
            .expect("a server on the default store")
            .is_empty()
    }

    /// Sends it in a task of its own.
    pub fn spawn(&self, request: RequestBuilder) -> tokio::task::JoinHandle<Reply> {
        tokio::spawn(reply(request))
    }

    /// Waits until this much goes on: a wait for an event, with a generous bound.
    pub async fn pending(&self, count: usize) {
        pending(&self.idempotency, count).await;
    }

    /// Retries until the answer is not "in flight": a wait for an event, with a generous bound.
    pub async fn settled(&self, request: RequestBuilder) -> Reply {
        for _ in 0..2_000 {
            let reply = reply(request.try_clone().expect("a plain body")).await;
            if reply.code() != Some("in-flight") {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("still in flight after ten seconds");
    }
}

/// Waits until this much goes on: a wait for an event, with a generous bound.
pub async fn pending(idempotency: &Idempotency, count: usize) {
    for _ in 0..2_000 {
        if idempotency.pending() == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!(
        "{} pending after ten seconds, not {count}",
        idempotency.pending()
    );
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: bytes::Bytes,
}

/// Sends a request and reads the whole answer.
pub async fn reply(request: RequestBuilder) -> Reply {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Reply {
        status,
        headers,
        body: response.bytes().await.expect("a whole body"),
    }
}

impl Reply {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|value| value.to_str().expect("an ASCII header"))
    }

    pub fn is_replay(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }

    /// The `code` of a problem.
    pub fn code(&self) -> Option<&'static str> {
        if self.header("content-type") != Some("application/problem+json") {
            return None;
        }
        let problem: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
        let code = problem["code"].as_str().expect("a code");
        idempotent_runtime::ProblemCode::ALL
            .iter()
            .map(|known| known.as_str())
            .find(|known| *known == code)
    }

    /// Asserts a problem by status and code.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code()), (status, Some(code)), "{self:?}");
    }

    /// Asserts the stored answer of an earlier run.
    #[track_caller]
    pub fn assert_replay_of(&self, first: &Reply) {
        assert!(self.is_replay(), "not a replay: {self:?}");
        assert!(!first.is_replay(), "the first answer is marked: {first:?}");
        assert_eq!((self.status, &self.body), (first.status, &first.body));
    }
}

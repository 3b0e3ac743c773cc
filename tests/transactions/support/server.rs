//! An application on a socket, and its clients.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRef, State};
use axum::response::Response;
use axum::routing::post;
use http::HeaderMap;
use idempotent_runtime::{Attempt, Idempotency, Transactions, idempotent};
use reqwest::{Method, RequestBuilder};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::database::Database;
use super::scene::Tables;
use super::stage::Stage;

/// The state of a test application.
pub struct App<C: Database> {
    transactions: Transactions<C>,
    stage: Stage,
}

/// Not derived: a connection cannot be cloned.
impl<C: Database> Clone for App<C> {
    fn clone(&self) -> Self {
        Self {
            transactions: self.transactions.clone(),
            stage: self.stage.clone(),
        }
    }
}

impl<C: Database> FromRef<App<C>> for Transactions<C> {
    fn from_ref(app: &App<C>) -> Self {
        app.transactions.clone()
    }
}

impl<C: Database> FromRef<App<C>> for Idempotency {
    fn from_ref(app: &App<C>) -> Self {
        app.transactions.idempotency().clone()
    }
}

impl<C: Database> FromRef<App<C>> for Stage {
    fn from_ref(app: &App<C>) -> Self {
        app.stage.clone()
    }
}

/// Handlers that differ in their policy only.
macro_rules! handlers {
    ($($name:ident($($argument:ident = $value:expr),*);)+) => {$(
        #[idempotent($($argument = $value),*)]
        async fn $name<C: Database>(
            State(stage): State<Stage>,
            headers: HeaderMap,
            attempt: Attempt,
            #[tx] tx: &mut C,
            steps: String,
        ) -> Response {
            stage.play(tx, &headers, &attempt, &steps).await
        }
    )+};
}

handlers! {
    all();
    client(replay_errors = "4xx");
    none(replay_errors = "none");
    patient(in_flight = "wait", wait = "1h");
    impatient(in_flight = "wait", wait = "20ms");
    small(max_response_bytes = 10);
    optional(required = false);
    aged(key_age = "ttl");
}

/// The same operation as [`all`] at the same path, without a transaction.
#[idempotent]
async fn plain(State(stage): State<Stage>, headers: HeaderMap) -> String {
    let key = headers["idempotency-key"].to_str().expect("ASCII");
    stage.stand_at("plain").await;
    format!("{key}: without a transaction")
}

/// A running application.
pub struct Server<C: Database> {
    pub address: SocketAddr,
    pub stage: Stage,
    pub idempotency: Idempotency,
    pub router: Router,
    client: reqwest::Client,
    transactions: Transactions<C>,
}

impl<C: Database> Server<C> {
    pub async fn start(idempotency: Idempotency, tables: &Tables) -> Self {
        let transactions = idempotency.transactions::<C>().await;
        let transactions = transactions.expect("transactions");
        let routes = Router::new()
            .route("/all", post(all::<C>))
            .route("/client", post(client::<C>))
            .route("/none", post(none::<C>))
            .route("/patient", post(patient::<C>))
            .route("/impatient", post(impatient::<C>))
            .route("/small", post(small::<C>))
            .route("/aged", post(aged::<C>))
            .route("/optional", post(optional::<C>).get(optional::<C>));
        Self::serve(transactions, Stage::new(tables.clone()), routes).await
    }

    /// One that serves `/all` without transactions, from the same store.
    pub async fn plain(&self, tables: &Tables) -> Self {
        let routes = Router::new().route("/all", post(plain));
        Self::serve(
            self.transactions.clone(),
            Stage::new(tables.clone()),
            routes,
        )
        .await
    }

    async fn serve(transactions: Transactions<C>, stage: Stage, routes: Router<App<C>>) -> Self {
        let idempotency = transactions.idempotency().clone();
        let app = App {
            transactions: transactions.clone(),
            stage: stage.clone(),
        };
        let router = routes.with_state(app);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let serving = router.clone();
        tokio::spawn(async move { axum::serve(listener, serving).await });
        Self {
            address,
            stage,
            idempotency,
            router,
            client: reqwest::Client::new(),
            transactions,
        }
    }

    pub fn request(&self, path: &str, key: &str, steps: &str) -> RequestBuilder {
        self.keyless(Method::POST, path, steps)
            .header("idempotency-key", key)
    }

    pub fn keyless(&self, method: Method, path: &str, steps: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        self.client.request(method, url).body(steps.to_owned())
    }

    pub async fn post(&self, path: &str, key: &str, steps: &str) -> Reply {
        reply(self.request(path, key, steps)).await
    }

    /// In a task of its own.
    pub fn spawn(&self, path: &str, key: &str, steps: &str) -> JoinHandle<Reply> {
        tokio::spawn(reply(self.request(path, key, steps)))
    }

    /// Retries, as a client does, until there is a final answer.
    pub async fn settled(&self, path: &str, key: &str, steps: &str) -> Reply {
        for _ in 0..4_000 {
            let reply = self.post(path, key, steps).await;
            if reply.status != 503 && reply.code() != Some("in-flight") {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{path} {key}: no final answer");
    }

    /// Retries while the key is in flight: a server tells of a failed commit before it has given up its locks.
    pub async fn once_free(&self, path: &str, key: &str, steps: &str) -> Reply {
        for _ in 0..4_000 {
            let reply = self.post(path, key, steps).await;
            if reply.code() != Some("in-flight") {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{path} {key}: it stays in flight");
    }

    /// Waits until this much goes on, handlers that run and tasks in the background.
    pub async fn pending(&self, count: usize) {
        for _ in 0..4_000 {
            if self.idempotency.pending() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} pending, not {count}", self.idempotency.pending());
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: bytes::Bytes,
}

/// Longer than anything here takes: what is stuck fails instead of standing still.
const BOUND: Duration = Duration::from_secs(120);

pub async fn reply(request: RequestBuilder) -> Reply {
    let response = request.timeout(BOUND).send().await.expect("an answer");
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

    pub fn is_replay(&self) -> bool {
        self.headers.contains_key("idempotent-replayed")
    }

    /// The `code` of a problem.
    pub fn code(&self) -> Option<&str> {
        let problem = self.text().split_once(r#""code":""#)?.1;
        problem.split('"').next()
    }

    #[track_caller]
    pub fn assert_code(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code()), (status, Some(code)), "{self:?}");
    }

    /// The handler's own answer, of this status.
    #[track_caller]
    pub fn assert_own(&self, status: u16) {
        assert_eq!((self.status, self.is_replay()), (status, false), "{self:?}");
    }

    /// Nothing is stored, and a retry is invited.
    #[track_caller]
    pub fn assert_refused(&self) {
        self.assert_code(503, "store-unavailable");
        assert_eq!(self.headers["retry-after"], "1", "{self:?}");
    }

    /// Equal but for the mark, the date and the length, byte for byte.
    #[track_caller]
    pub fn assert_replay_of(&self, first: &Self) {
        assert!(self.is_replay(), "not a replay: {self:?}");
        assert_eq!((self.status, &self.body), (first.status, &first.body));
        let stable = |reply: &Self| {
            let mut headers = reply.headers.clone();
            headers.remove("idempotent-replayed");
            headers.remove("date");
            headers
        };
        assert_eq!(stable(self), stable(first));
    }
}

//! A router on a memory store by tokio's clock, which tests pause.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::request::{Builder, Parts};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::store::{Claim, ClaimRequest, Store};
use idempotent_runtime::{
    Fingerprint, Idempotency, Locator, Owner, RecordKey, RecordState, StoredResponse, Token, admin,
};
use serde_json::Value;
use tower::ServiceExt;

pub const LEASE: Duration = Duration::from_secs(30);
pub const RETENTION: Duration = Duration::from_hours(30 * 24);

/// Where the page is mounted, unless a test is about that.
pub const PREFIX: &str = "/ops/idempotency";

pub struct Admin {
    pub store: Arc<MemoryStore>,
    pub idempotency: Idempotency,
    pub router: Router,
}

pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{}", self.text))
    }
}

/// The operator that a header names. An application would look at a session.
pub fn authorise(parts: &Parts) -> Option<String> {
    let name = parts.headers.get("x-operator")?;
    Some(name.to_str().ok()?.to_owned())
}

impl Admin {
    pub fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let idempotency = Idempotency::new(Arc::clone(&store) as Arc<dyn Store>);
        let page = admin::router(idempotency.clone(), authorise);
        Self {
            store,
            idempotency,
            router: Router::new().nest(PREFIX, page),
        }
    }

    /// A record in flight.
    pub async fn claim(&self, number: u64, operation: &str, label: Option<&str>) -> Owner {
        let mut request = ClaimRequest::new(
            owner(number),
            Fingerprint::from_bytes([1; 32]),
            operation,
            LEASE,
            RETENTION,
        );
        request.label = label;
        let claim = self.store.claim(&request).await.unwrap();
        assert!(matches!(claim, Claim::Acquired(_)), "{claim:?}");
        request.owner
    }

    /// A record whose owner has said that it ends without an answer.
    pub async fn abandon(&self, number: u64, operation: &str, label: Option<&str>) -> RecordKey {
        let owner = self.claim(number, operation, label).await;
        let abandoned = self.store.abandon(&[owner]).await;
        assert!(abandoned.iter().all(Result::is_ok));
        owner.key
    }

    pub async fn complete(
        &self,
        number: u64,
        operation: &str,
        response: StoredResponse,
    ) -> RecordKey {
        let owner = self.claim(number, operation, None).await;
        let response = Arc::new(response);
        let ttl = Duration::from_hours(24);
        self.store.complete(&owner, &response, ttl).await.unwrap();
        owner.key
    }

    pub async fn state(&self, key: RecordKey) -> Option<RecordState> {
        let found = self.idempotency.inspect(&Locator::by_record_key(key)).await;
        found.unwrap().map(|found| found.state)
    }

    /// As the page's forms have it.
    pub async fn seen(&self, key: RecordKey) -> String {
        let found = self.idempotency.inspect(&Locator::by_record_key(key)).await;
        let found = found.unwrap().map(|found| found.seen().to_string());
        found.unwrap_or_else(|| "1@1".to_owned())
    }

    pub async fn is_abandoned(&self, key: RecordKey) -> bool {
        matches!(self.state(key).await, Some(RecordState::Abandoned))
    }

    pub async fn send(&self, request: Request<Body>) -> Reply {
        send(&self.router, request).await
    }

    /// As the operator anna, in a browser.
    pub async fn get(&self, path: &str) -> Reply {
        let request = of_anna(Method::GET, path).header("accept", "text/html,*/*;q=0.8");
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// As the operator anna, for a program.
    pub async fn get_json(&self, path: &str) -> Reply {
        let request = of_anna(Method::GET, path).header("accept", "application/json");
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// A form of the page's own, sent by anna's browser.
    pub async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let request = of_anna(Method::POST, path)
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/x-www-form-urlencoded");
        let body = form(fields);
        self.send(request.body(body.into()).unwrap()).await
    }

    /// A decision of a program that anna has started.
    pub async fn post_json(&self, path: &str, body: &Value) -> Reply {
        let request = of_anna(Method::POST, path).header("content-type", "application/json");
        self.send(request.body(body.to_string().into()).unwrap())
            .await
    }
}

pub fn of_anna(method: Method, path: &str) -> Builder {
    Request::builder()
        .method(method)
        .uri(format!("{PREFIX}{path}"))
        .header("host", "pay.example.com")
        .header("x-operator", "anna")
}

pub async fn send(router: &Router, request: Request<Body>) -> Reply {
    let response = router.clone().oneshot(request).await.expect("an answer");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    Reply {
        status: head.status,
        headers: head.headers,
        text: String::from_utf8(body.to_vec()).expect("text"),
    }
}

pub fn form(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| {
        text.bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect::<String>()
    };
    let fields = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)));
    fields.collect::<Vec<_>>().join("&")
}

/// The keys of records are digests, so these are spread as well.
pub fn owner(number: u64) -> Owner {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let mut key = [7; 32];
    key[..8].copy_from_slice(&spread);
    key[24..].copy_from_slice(&number.to_be_bytes());
    Owner {
        key: RecordKey::from_bytes(key),
        token: Token::random().expect("randomness"),
    }
}

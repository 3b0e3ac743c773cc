//! What is particular to the middleware; `played` has every row of the table.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use http::Extensions;
use idempotent_client::{Error, Intent, IntentExt, IntentMiddleware, Policy, Reason, ResponseExt};
use reqwest::{Request, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};
use support::{FakeClock, Play, Server};

/// Fails at its first call, and counts its calls.
#[derive(Default)]
struct Flaky(AtomicU32);

#[async_trait::async_trait]
impl Middleware for Flaky {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        if self.0.fetch_add(1, Ordering::SeqCst) == 0 {
            let error = std::io::Error::other("no token yet");
            return Err(reqwest_middleware::Error::middleware(error));
        }
        assert_eq!(request.body().unwrap().as_bytes(), Some(&b"order"[..]));
        next.run(request, extensions).await
    }
}

fn client(inner: &Arc<Flaky>) -> ClientWithMiddleware {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let clock = FakeClock::new(SystemTime::now(), 0.5);
    ClientBuilder::new(client.build().unwrap())
        .with(IntentMiddleware::new(Policy::new()).clock(clock))
        .with_arc(inner.clone())
        .build()
}

#[tokio::test]
async fn other_middlewares_run_at_each_try_and_their_failures_are_retried() {
    let server = Server::playing([Play::status(503), Play::marked(201)]).await;
    let inner = Arc::new(Flaky::default());
    let intent = Intent::new();
    let response = client(&inner)
        .post(server.url())
        .intent(&intent)
        .body("order")
        .send()
        .await
        .unwrap();
    assert!(response.is_replay());
    assert_eq!(response.url().as_str(), server.url());
    assert_eq!(inner.0.load(Ordering::SeqCst), 3);
    let key = format!("\"{}\"", intent.key());
    assert!(server.seen().iter().all(|seen| seen.key() == Some(&key)));
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn request_without_an_intent_is_left_alone() {
    let server = Server::playing([Play::status(503)]).await;
    let inner = Arc::new(Flaky(AtomicU32::new(1)));
    let response = client(&inner)
        .post(server.url())
        .body("order")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(server.seen().len(), 1);
    assert_eq!(server.seen()[0].key(), None);
}

#[tokio::test]
async fn policy_of_the_request_goes_before_that_of_the_middleware() {
    let server = Server::playing([Play::status(503)]).await;
    let inner = Arc::new(Flaky(AtomicU32::new(1)));
    let request = client(&inner)
        .post(server.url())
        .intent(&Intent::new())
        .body("order");
    let error = request
        .with_extension(Policy::new().attempts(2))
        .send()
        .await
        .unwrap_err();
    let error = Error::of_middleware(&error).unwrap();
    assert!(error.is_undecided());
    assert_eq!(error.reason(), Some(Reason::Attempts));
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn redirect_that_the_client_followed_is_refused() {
    let elsewhere = Server::playing([Play::status(200)]).await;
    for status in [302, 307] {
        let server = Server::playing([Play::redirect(status, &elsewhere.url())]).await;
        let client = ClientBuilder::new(reqwest::Client::new())
            .with(IntentMiddleware::new(Policy::new()))
            .build();
        let error = client
            .post(server.url())
            .intent(&Intent::new())
            .body("order")
            .send()
            .await
            .unwrap_err();
        let error = Error::of_middleware(&error).unwrap();
        assert!(
            matches!(
                error,
                Error::Refused {
                    reason: Reason::Redirected,
                    ..
                }
            ),
            "{error:?}"
        );
    }
}

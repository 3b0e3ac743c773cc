//! Attempts of requests that a handler without protection sends on.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::future::join_all;
use http_body_util::BodyExt;
use idempotent_runtime::{Attempt, ExecuteError, idempotent};
use tower::ServiceExt;

use crate::support::{App, Probe, reply, serve, serve_on};

#[idempotent(name = "charge")]
async fn charge(State(probe): State<Probe>, attempt: Attempt, _: String) -> String {
    let run = attempt
        .step("charge", async {
            tokio::task::yield_now().await;
            Ok::<_, ExecuteError>(probe.run())
        })
        .await
        .map_err(|error| error.to_string());
    format!("{} {run:?}\n", attempt.derived_key("charge"))
}

/// Two charges, of which the provider sees one key: it takes the second for the first.
#[tokio::test]
async fn requests_of_an_unprotected_batch_have_attempts_of_their_own() {
    #[idempotent(name = "batch", required = false)]
    async fn batch(app: State<App>, own: Attempt, request: Request) -> Response {
        plain_batch(app, own, request).await
    }

    async fn plain_batch(State(app): State<App>, _own: Attempt, request: Request) -> Response {
        let inner: Router = Router::new().route("/charge", post(charge)).with_state(app);
        let (parts, _) = request.into_parts();
        let asked = ["one", "two"].map(|key| {
            let mut parts = parts.clone();
            parts.uri = "/charge".parse().unwrap();
            parts
                .headers
                .insert("idempotency-key", key.parse().unwrap());
            let inner = inner.clone();
            async move {
                let request = Request::from_parts(parts, Body::from(key));
                let answer = inner.oneshot(request).await.unwrap();
                let body = answer.into_body().collect().await.unwrap().to_bytes();
                String::from_utf8(body.to_vec()).unwrap()
            }
        });
        join_all(asked).await.concat().into_response()
    }
    for handler in [post(batch), post(plain_batch)] {
        // Any store but the one in this process: its claims take a while.
        let store = idempotent_runtime::store::connect("sqlite::memory:");
        let routes = Router::new().route("/", handler);
        let server = serve_on(store.await.unwrap(), routes).await;
        let answer = reply(server.post_without_key("/")).await;
        let answer = answer.text();
        let keys: Vec<_> = answer
            .lines()
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        assert_eq!(keys.len(), 2, "{answer}");
        assert_ne!(keys[0], keys[1], "{answer}");
    }
}

/// One after the other: what the outer one derives is its own all the time.
#[tokio::test]
async fn an_unprotected_handler_keeps_its_own_derived_keys() {
    #[idempotent(name = "outer", required = false)]
    async fn outer(State(app): State<App>, own: Attempt, request: Request) -> Response {
        let inner: Router = Router::new().route("/charge", post(charge)).with_state(app);
        let (mut parts, _) = request.into_parts();
        parts.uri = "/charge".parse().unwrap();
        parts
            .headers
            .insert("idempotency-key", "one".parse().unwrap());
        let before = own.derived_key("charge");
        let answer = inner
            .oneshot(Request::from_parts(parts, Body::empty()))
            .await
            .unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let inner = String::from_utf8(body.to_vec()).unwrap();
        let after = own.derived_key("charge");
        format!("{before} {after} {}", inner.split(' ').next().unwrap()).into_response()
    }
    let server = serve(Router::new().route("/", post(outer))).await;
    let answer = reply(server.post_without_key("/")).await;
    let answer = answer.text();
    let keys: Vec<_> = answer.split(' ').collect();
    assert_eq!(
        keys[0], keys[1],
        "the outer one's key has changed: {answer}"
    );
    assert_ne!(keys[1], keys[2], "two charges have one key: {answer}");
}

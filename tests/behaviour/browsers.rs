//! What browsers do: a preflight before a request of another origin, and keys that they make by themselves.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::{HeaderValue, Method};
use idempotent_runtime::{browsers, idempotent};
use tower_http::cors::CorsLayer;

use crate::support::{App, Probe, reply, serve};

const ORIGIN: &str = "https://shop.example.com";

#[idempotent]
async fn pay(State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

fn routes() -> Router<App> {
    let cors = CorsLayer::new()
        .allow_origin(HeaderValue::from_static(ORIGIN))
        .allow_methods([Method::POST])
        .allow_headers(browsers::request_headers([]))
        .expose_headers(browsers::response_headers([]));
    Router::new().route("/pay", post(pay)).layer(cors)
}

/// A list in a header, as a browser reads it.
fn list(reply: &crate::support::Reply, name: &str) -> Vec<String> {
    let names = reply.header(name).unwrap_or_default().split(',');
    names.map(|name| name.trim().to_ascii_lowercase()).collect()
}

#[tokio::test]
async fn a_preflight_allows_the_key_and_runs_nothing() {
    let server = serve(routes()).await;
    let preflight = server
        .request(Method::OPTIONS, "/pay", "")
        .header("origin", ORIGIN)
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "content-type,idempotency-key",
        );
    let allowed = reply(preflight).await;
    assert_eq!(allowed.header("access-control-allow-origin"), Some(ORIGIN));
    let headers = list(&allowed, "access-control-allow-headers");
    for name in ["idempotency-key", "content-type"] {
        assert!(headers.iter().any(|allowed| allowed == name), "{headers:?}");
    }
    assert_eq!(server.probe.runs(), 0);
    assert!(server.stored_nothing());
}

#[tokio::test]
async fn the_page_can_read_what_a_client_needs_on_replays_too() {
    let server = serve(routes()).await;
    for _ in 0..2 {
        let answer = reply(server.post("/pay", "key", "").header("origin", ORIGIN)).await;
        let exposed = list(&answer, "access-control-expose-headers");
        for name in [
            "idempotent-replayed",
            "idempotency-status",
            "retry-after",
            "date",
        ] {
            assert!(exposed.iter().any(|exposed| exposed == name), "{exposed:?}");
        }
        assert_eq!(
            answer
                .headers
                .get_all("access-control-allow-origin")
                .iter()
                .count(),
            1
        );
    }
    assert_eq!(server.probe.runs(), 1);
}

/// With `network.http.idempotencyKey.enabled`: 64 bits as a decimal number, in quotes.
#[tokio::test]
async fn the_key_that_firefox_makes_by_itself_is_a_key() {
    let server = serve(routes()).await;
    let first = reply(server.post("/pay", "\"18446744073709551615\"", "")).await;
    let again = reply(server.post("/pay", "\"18446744073709551615\"", "")).await;
    again.assert_replay_of(&first);
    let other = reply(server.post("/pay", "\"9350738474783268121\"", "")).await;
    assert_eq!((other.status, other.text()), (200, "2"));
}

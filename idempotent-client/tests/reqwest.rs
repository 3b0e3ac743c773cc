//! `client.post(url).intent(&intent)`, against a server on loopback.
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
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use idempotent_client::{
    Code, Conclusion, Error, Intent, IntentExt, IntentRequest, Policy, Reason, ResponseExt,
};
use reqwest::Client;
use serde::{Serialize, Serializer};
use support::{FakeClock, Play, Server};
use tokio::sync::Notify;

const HOUR: Duration = Duration::from_secs(3600);

fn client() -> Client {
    let builder = Client::builder().redirect(reqwest::redirect::Policy::none());
    builder.build().unwrap()
}

fn clock() -> Arc<FakeClock> {
    FakeClock::new(SystemTime::now(), 0.5)
}

fn post(server: &Server, intent: &Intent) -> IntentRequest {
    client()
        .post(server.url())
        .intent(intent)
        .clock(clock())
        .body("order")
}

fn keys(server: &Server) -> Vec<String> {
    server
        .seen()
        .iter()
        .map(|seen| seen.key().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn saved_intent_is_sent_under_the_same_key_after_a_restart() {
    let server = Server::playing([Play::ResetBeforeAnswer, Play::marked(201)]).await;
    let intent = Intent::new();
    let saved = serde_json::to_string(&intent).unwrap();
    let once = Policy::new().attempts(1);
    let error = post(&server, &intent)
        .policy(once)
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Some(Reason::Attempts));
    assert!(std::error::Error::source(&error).is_some(), "{error:?}");
    drop((intent, error));

    let intent: Intent = serde_json::from_str(&saved).unwrap();
    let response = post(&server, &intent).send().await.unwrap();
    assert!(response.is_replay());
    let key = format!("\"{}\"", intent.key());
    assert_eq!(keys(&server), [key.clone(), key]);
}

#[tokio::test]
async fn answer_is_handed_over_as_it_came() {
    let server = Server::start(|_, _| {
        let response = http::Response::builder()
            .status(201)
            .header("x-receipt", "7");
        Play::Answer(response.body(b"receipt".to_vec()).unwrap())
    })
    .await;
    let response = post(&server, &Intent::new()).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(response.headers()["x-receipt"], "7");
    assert_eq!(response.url().as_str(), server.url());
    assert_eq!(response.remote_addr(), Some(server.address));
    assert_eq!(response.conclusion(), Some(Conclusion::Answered));
    assert!(!response.is_replay());
    assert_eq!(response.text().await.unwrap(), "receipt");
}

/// Serializes to another number each time.
struct Changing(AtomicU32);

impl Serialize for Changing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

#[tokio::test]
async fn value_is_serialized_once_and_sent_as_the_same_bytes() {
    let server = Server::playing([
        Play::status(503),
        Play::ResetBeforeAnswer,
        Play::status(201),
    ])
    .await;
    let value = Changing(AtomicU32::new(5));
    post(&server, &Intent::new())
        .json(&value)
        .send()
        .await
        .unwrap();
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    for request in seen {
        assert_eq!(request.body.as_deref(), Some(&b"5"[..]));
        assert_eq!(request.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn content_type_of_the_application_is_kept() {
    let server = Server::playing([Play::status(201)]).await;
    let merge = HeaderValue::from_static("application/merge-patch+json");
    let request = post(&server, &Intent::new()).header(CONTENT_TYPE, merge);
    request.json(&1).send().await.unwrap();
    assert_eq!(
        server.seen()[0].header("content-type"),
        Some("application/merge-patch+json")
    );
}

#[tokio::test]
async fn key_cannot_be_overwritten_by_a_header_and_may_have_another_header() {
    let server = Server::playing([Play::status(201)]).await;
    let intent = Intent::with_key("order-1").unwrap();
    let name = HeaderName::from_static("idempotency-key");
    let request = post(&server, &intent).header(name.clone(), HeaderValue::from_static("mine"));
    request
        .header(name, HeaderValue::from_static("yours"))
        .send()
        .await
        .unwrap();
    assert_eq!(keys(&server), ["\"order-1\""]);
    let other = HeaderName::from_static("x-request-key");
    post(&server, &intent)
        .key_header(other)
        .send()
        .await
        .unwrap();
    assert_eq!(
        server.seen()[1].header("x-request-key"),
        Some("\"order-1\"")
    );
}

#[tokio::test]
async fn request_without_a_body_is_sent() {
    let server = Server::playing([Play::status(503), Play::status(204)]).await;
    let intent = Intent::new();
    let request = client().delete(server.url()).intent(&intent).clock(clock());
    assert_eq!(
        request.send().await.unwrap().status(),
        StatusCode::NO_CONTENT
    );
    assert_eq!(server.seen().len(), 2);
    assert_eq!(server.seen()[1].method, "DELETE");
}

#[tokio::test]
async fn other_features_of_the_builder_are_kept_at_every_try() {
    let server = Server::playing([Play::status(503), Play::status(201)]).await;
    let request = client()
        .post(server.url())
        .bearer_auth("token")
        .body("order")
        .intent(&Intent::new());
    request
        .clock(clock())
        .map(|builder| builder.version(http::Version::HTTP_11))
        .send()
        .await
        .unwrap();
    for seen in server.seen() {
        assert_eq!(seen.header("authorization"), Some("Bearer token"));
        assert_eq!(seen.body.as_deref(), Some(&b"order"[..]));
    }
}

#[tokio::test]
async fn unauthorized_at_the_second_send_is_undecided() {
    let server = Server::playing([Play::status(503), Play::status(401)]).await;
    let intent = Intent::new();
    let once = Policy::new().attempts(1);
    post(&server, &intent)
        .policy(once.clone())
        .send()
        .await
        .unwrap_err();
    let error = post(&server, &intent)
        .policy(once)
        .send()
        .await
        .unwrap_err();
    assert!(error.is_undecided());
    assert_eq!(
        error.reason(),
        Some(Reason::Status(StatusCode::UNAUTHORIZED))
    );
    assert_eq!(error.intent().key(), intent.key());
}

#[tokio::test]
async fn unauthorized_at_the_first_try_while_another_task_has_sent_is_undecided() {
    let arrived = Arc::new(Notify::new());
    let notify = Arc::clone(&arrived);
    let server = Server::start(move |count, _| match count {
        1 => {
            notify.notify_one();
            Play::Silence
        }
        _ => Play::status(401),
    })
    .await;
    let intent = Intent::new();
    let first = tokio::spawn(post(&server, &intent.clone()).send());
    arrived.notified().await;
    let error = post(&server, &intent).send().await.unwrap_err();
    assert!(error.is_undecided(), "{error:?}");
    first.abort();
}

#[tokio::test]
async fn conclusive_4xx_is_an_answer_and_not_an_error() {
    let server = Server::playing([Play::status(402)]).await;
    let response = post(&server, &Intent::new()).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!(response.conclusion(), Some(Conclusion::Closed));
}

#[tokio::test]
async fn problem_is_in_the_error_with_its_code_and_its_body() {
    let server = Server::playing([Play::problem(409, "outcome-unknown")]).await;
    let error = post(&server, &Intent::new()).send().await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::Code(Code::OutcomeUnknown)));
    assert_eq!(error.code(), Some(Code::OutcomeUnknown));
    assert!(error.answer().unwrap().body().starts_with(b"{\"type\""));
    assert_eq!(
        error.to_string(),
        "undecided (outcome-unknown): it is unknown whether the operation ran; the key is kept"
    );
}

#[tokio::test]
async fn code_of_the_last_answer_is_known_where_the_limit_decided() {
    let server = Server::playing([Play::problem(409, "in-flight")]).await;
    let error = post(&server, &Intent::new()).send().await.unwrap_err();
    assert_eq!(
        (error.reason(), error.code()),
        (Some(Reason::Attempts), Some(Code::InFlight))
    );
    assert_eq!(server.seen().len(), 6);
}

#[tokio::test]
async fn clock_that_jumps_during_a_wait_stops_before_the_next_try() {
    let server = Server::playing([Play::status(503)]).await;
    let clock = clock();
    clock.jump_per_wait(48 * HOUR);
    let error = post(&server, &Intent::new())
        .clock(clock)
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Some(Reason::Lifetime));
    assert_eq!(
        error.answer().unwrap().status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn key_whose_life_is_over_is_not_sent() {
    let server = Server::playing([Play::status(201)]).await;
    let old = Intent::restore("order-1", SystemTime::now() - 24 * HOUR).unwrap();
    let error = post(&server, &old).send().await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::Lifetime));
    assert_eq!(server.seen().len(), 0);
    post(&server, &old.with_lifetime(48 * HOUR))
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn dropping_the_future_stops_the_tries_and_not_the_intent() {
    let server = Server::playing([Play::status(503), Play::status(201)]).await;
    let intent = Intent::new();
    let clock = clock();
    clock.hang();
    {
        let sending = std::pin::pin!(post(&server, &intent).clock(clock.clone()).send());
        let waiting = std::pin::pin!(clock.until_waiting());
        tokio::select! {
            result = sending => panic!("{result:?}"),
            () = waiting => {}
        }
    }
    assert_eq!(server.seen().len(), 1);
    assert!(intent.was_sent());
    post(&server, &intent).send().await.unwrap();
    let key = format!("\"{}\"", intent.key());
    assert_eq!(keys(&server), [key.clone(), key]);
}

#[tokio::test]
async fn intent_that_is_closed_during_a_wait_is_not_sent_again() {
    let intent = Intent::new();
    let closing = intent.clone();
    let server = Server::start(move |_, _| {
        closing.close();
        Play::status(503)
    })
    .await;
    for _ in 0..2 {
        let error = post(&server, &intent).send().await.unwrap_err();
        assert!(error.is_undecided());
        assert_eq!(error.reason(), Some(Reason::Closed));
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn intent_that_is_not_stored_any_more_is_not_sent_again() {
    let server = Server::playing([Play::status(503)]).await;
    let intent = Intent::with_key("order-1").unwrap();
    let request = post(&server, &intent).open_while(|intent| {
        assert_eq!(intent.key(), "order-1");
        std::future::ready(!intent.was_sent())
    });
    let error = request.send().await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::Closed));
    assert_eq!(
        error.answer().unwrap().status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn each_try_is_limited_by_the_policy() {
    let server = Server::playing([Play::status(503), Play::status(201)]).await;
    let clock = clock();
    let policy = Policy::new().timeout(Duration::from_secs(7));
    post(&server, &Intent::new())
        .clock(clock.clone())
        .policy(policy)
        .send()
        .await
        .unwrap();
    assert_eq!(clock.timeouts(), [Duration::from_secs(7); 2]);
}

#[tokio::test]
async fn what_cannot_be_built_is_invalid_and_does_not_count_as_sent() {
    let intent = Intent::new();
    let error = client()
        .post("nowhere")
        .intent(&intent)
        .send()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    let map = std::collections::BTreeMap::from([((1, 2), 3)]);
    let error = client()
        .post("http://127.0.0.1:1")
        .intent(&intent)
        .json(&map)
        .send()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    assert!(
        std::error::Error::source(&error)
            .unwrap()
            .to_string()
            .contains("key must be a string")
    );
    assert!(!intent.was_sent());
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let elsewhere = Server::playing([Play::status(200)]).await;
    let target = elsewhere.url();
    for status in [301, 302, 303, 307, 308] {
        let server = Server::playing([Play::redirect(status, &target)]).await;
        let error = post(&server, &Intent::new()).send().await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error:?}");
        assert_eq!(error.reason().unwrap().to_string(), status.to_string());
        assert_eq!(error.answer().unwrap().headers()["location"], target);
    }
    assert_eq!(elsewhere.seen().len(), 0);
}

#[tokio::test]
async fn client_that_follows_redirects_never_sends_the_body_to_another_address() {
    for (status, reason) in [
        (301, "redirected"),
        (302, "redirected"),
        (303, "redirected"),
        (307, "307"),
        (308, "308"),
    ] {
        let elsewhere = Server::playing([Play::status(200)]).await;
        let server = Server::playing([Play::redirect(status, &elsewhere.url())]).await;
        let request = Client::new()
            .post(server.url())
            .intent(&Intent::new())
            .clock(clock())
            .body("order");
        let error = request.send().await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error:?}");
        assert_eq!(error.reason().unwrap().to_string(), reason);
        for seen in elsewhere.seen() {
            assert_eq!(
                (seen.method.as_str(), seen.body.as_deref()),
                ("GET", Some(&b""[..]))
            );
        }
    }
}

#[tokio::test]
async fn client_that_retries_by_itself_sends_nothing_that_is_not_counted() {
    let retries = reqwest::retry::for_host("127.0.0.1").classify_fn(|tried| match tried.status() {
        Some(StatusCode::SERVICE_UNAVAILABLE) => tried.retryable(),
        _ => tried.success(),
    });
    let client = Client::builder().retry(retries).build().unwrap();
    for body in [None, Some("order")] {
        // The first one has charged, and a gate turns the second one away.
        let server = Server::playing([Play::status(503), Play::status(404)]).await;
        let intent = Intent::new();
        let request = client.post(server.url()).intent(&intent).clock(clock());
        let request = request.map(|builder| match body {
            Some(body) => builder.body(body),
            None => builder,
        });
        let ended = request.policy(Policy::new().attempts(1)).send().await;
        assert!(!intent.is_closed(), "{body:?}: {ended:?}");
        assert_eq!(server.seen().len(), 1, "{body:?}");
    }
}

#[tokio::test]
async fn page_of_a_gateway_is_no_answer_to_a_grpc_call() {
    let page = http::Response::builder().header("content-type", "text/html");
    let page = Play::Answer(page.body(b"please sign in".to_vec()).unwrap());
    let paid = http::Response::builder().header("content-type", "application/grpc-web+proto");
    let end = b"\x80\0\0\0\x0fgrpc-status:0\r\n".to_vec();
    let server = Server::playing([page, Play::Answer(paid.body(end).unwrap())]).await;
    let kind = HeaderValue::from_static("application/grpc-web+proto");
    let request = post(&server, &Intent::new()).header(CONTENT_TYPE, kind);
    let response = request.send().await.unwrap();
    assert_eq!(
        response.headers()[CONTENT_TYPE],
        "application/grpc-web+proto"
    );
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn fragment_of_the_url_is_not_a_redirect() {
    let server = Server::playing([Play::status(201)]).await;
    let url = format!("{}?a=1#part", server.url());
    client()
        .post(url)
        .intent(&Intent::new())
        .clock(clock())
        .send()
        .await
        .unwrap();
}

#[test]
fn debug_output_of_a_request_and_of_an_error_has_no_key() {
    let intent = Intent::with_key("secret-order").unwrap();
    let request = client().post("http://127.0.0.1:1").intent(&intent);
    assert!(!format!("{request:?}").contains("secret-order"));
}

/// What `ForgottenRoutesLayer::refuse` answers: the request was carried out, and each retry carries it out again.
#[tokio::test]
async fn unprotected_route_is_not_sent_again() {
    let server = Server::start(|_, _| Play::problem(501, "unprotected-route")).await;
    let result = post(&server, &Intent::new()).send().await;
    assert_eq!(
        server.seen().len(),
        1,
        "the handler has run so often: {result:?}"
    );
    assert!(result.unwrap_err().is_undecided());
}

//! One intent, sent by several tasks and processes at once: "nothing has happened" is said only where it is known.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use idempotent_client::{
    BoxError, Conclusion, Error, Intent, IntentLayer, Policy, Reason, ResponseExt,
};
use support::FakeClock;
use tokio::sync::Notify;
use tower::{Layer, Service, ServiceExt};

type Body = Full<Bytes>;
type Answer = Result<Response<Body>, std::io::Error>;

fn request(intent: &Intent) -> Request<Body> {
    let mut request = Request::post("http://shop/payments")
        .body(Body::from("order"))
        .unwrap();
    request.extensions_mut().insert(intent.clone());
    request
}

fn answer(status: u16) -> Answer {
    let response = Response::builder().status(status);
    Ok(response.body(Body::from("x")).unwrap())
}

fn marked(status: u16, name: &str, value: &str) -> Answer {
    let response = Response::builder().status(status).header(name, value);
    Ok(response.body(Body::from("x")).unwrap())
}

/// What a call with one try concludes.
async fn send<S>(service: S, intent: &Intent) -> Result<Option<Conclusion>, Error>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    let clock = FakeClock::new(SystemTime::now(), 0.5);
    let service = IntentLayer::new(Policy::new().attempts(1))
        .clock(clock)
        .layer(service);
    match service.oneshot(request(intent)).await {
        Ok(response) => Ok(response.conclusion()),
        Err(error) => Err(*error.downcast::<Error>().unwrap()),
    }
}

/// What one try concludes that is answered so.
async fn once(
    intent: &Intent,
    answer: impl Fn() -> Answer + Clone + Send + 'static,
) -> Result<Option<Conclusion>, Error> {
    let service = tower::service_fn(move |_: Request<Body>| std::future::ready(answer()));
    send(service, intent).await
}

fn saved(intent: &Intent) -> String {
    serde_json::to_string(intent).unwrap()
}

/// What the first try is answered with while another sender, which has what `share` makes of the intent, has paid.
async fn first_try_while_another_pays(
    intent: &Intent,
    share: impl FnOnce() -> Intent,
    late: impl Fn() -> Answer + Clone + Send + 'static,
) -> Result<Option<Conclusion>, Error> {
    let (arrived, may_answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let other = share();
    let first = tokio::spawn({
        let (arrived, may_answer) = (Arc::clone(&arrived), Arc::clone(&may_answer));
        let intent = intent.clone();
        let gate = tower::service_fn(move |_: Request<Body>| {
            let (arrived, may_answer) = (Arc::clone(&arrived), Arc::clone(&may_answer));
            let late = late.clone();
            async move {
                arrived.notify_one();
                may_answer.notified().await;
                late()
            }
        });
        async move { send(gate, &intent).await }
    });
    arrived.notified().await;
    let paid = once(&other, || answer(201)).await.unwrap();
    assert_eq!(paid, Some(Conclusion::Answered));
    may_answer.notify_one();
    first.await.unwrap()
}

#[tokio::test]
async fn first_try_that_is_turned_away_while_another_process_has_paid_is_not_nothing() {
    let intent = Intent::new();
    let load = || serde_json::from_str(&saved(&intent)).unwrap();
    let error = first_try_while_another_pays(&intent, load, || answer(401)).await;
    let error = error.unwrap_err();
    assert!(error.is_undecided(), "{error:?}");
    let unauthorized = Reason::Status(StatusCode::UNAUTHORIZED);
    assert_eq!(error.reason(), Some(unauthorized));
    assert!(!intent.is_closed());
}

#[tokio::test]
async fn first_4xx_of_a_gate_while_another_process_has_paid_closes_nothing() {
    for status in [400, 402, 404, 413, 422] {
        let intent = Intent::new();
        let load = || serde_json::from_str(&saved(&intent)).unwrap();
        let conclusion = first_try_while_another_pays(&intent, load, move || answer(status)).await;
        assert_eq!(conclusion.unwrap(), Some(Conclusion::Rejected), "{status}");
        assert!(!intent.is_closed());
    }
}

#[tokio::test]
async fn another_process_that_has_only_the_key_is_another_sender_too() {
    let intent = Intent::new();
    let restore = || Intent::restore(intent.key(), intent.created()).unwrap();
    let conclusion = first_try_while_another_pays(&intent, restore, || answer(402)).await;
    assert_eq!(conclusion.unwrap(), Some(Conclusion::Rejected));

    let intent = Intent::with_key("order-1").unwrap();
    let same_key = || Intent::with_key("order-1").unwrap();
    let conclusion = first_try_while_another_pays(&intent, same_key, || answer(402)).await;
    assert_eq!(conclusion.unwrap(), Some(Conclusion::Rejected));
}

#[tokio::test]
async fn first_try_while_another_task_has_paid_is_not_nothing() {
    let intent = Intent::new();
    let error = first_try_while_another_pays(&intent, || intent.clone(), || answer(402)).await;
    assert_eq!(error.unwrap_err().reason(), Some(Reason::Attempts));
}

#[tokio::test]
async fn first_4xx_of_an_intent_that_nobody_else_has_closes_it_for_all_clones() {
    for status in [401, 402] {
        let intent = Intent::new();
        let clone = intent.clone();
        let conclusion = once(&intent, move || answer(status)).await.unwrap();
        assert_eq!(conclusion, Some(Conclusion::Closed));
        // A task that was about to send it does not: the application has been told that nothing will happen.
        let error = once(&clone, || answer(201)).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::Closed));
    }
}

#[tokio::test]
async fn what_the_server_marks_as_stored_is_so_for_every_sender() {
    for (name, value) in [
        ("idempotent-replayed", "true"),
        ("idempotency-status", "stored; lifetime=86400"),
    ] {
        let intent = Intent::new();
        saved(&intent);
        let conclusion = once(&intent, move || marked(402, name, value)).await;
        assert_eq!(conclusion.unwrap(), Some(Conclusion::Closed));
        assert!(intent.is_closed());
    }
    for (name, value) in [
        ("idempotent-replayed", "false"),
        ("idempotency-status", "not-stored; lifetime=86400"),
        ("idempotency-status", "pending; lifetime=86400"),
    ] {
        let intent = Intent::new();
        saved(&intent);
        let conclusion = once(&intent, move || marked(402, name, value)).await;
        assert_eq!(conclusion.unwrap(), Some(Conclusion::Rejected));
    }
}

#[tokio::test]
async fn rejected_intent_that_is_sent_again_is_closed_by_the_replay() {
    let intent = Intent::new();
    saved(&intent);
    let conclusion = once(&intent, || answer(402)).await.unwrap();
    assert_eq!(conclusion, Some(Conclusion::Rejected));
    let conclusion = once(&intent, || marked(402, "idempotent-replayed", "true")).await;
    assert_eq!(conclusion.unwrap(), Some(Conclusion::Closed));
}

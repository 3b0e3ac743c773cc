//! What a try may still say, and until when tries begin and last.
#![cfg(feature = "tower")]
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

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use idempotent_client::{Conclusion, Error, Intent, IntentLayer, Policy, ResponseExt};
use support::FakeClock;
use tower::{Layer, ServiceExt};

type Body = Full<Bytes>;

/// What a call ends with, and how often it was sent.
async fn play(
    content_type: &str,
    make: impl Fn(u32) -> Response<Body> + Clone + Send + Sync + 'static,
) -> (Result<Option<Conclusion>, Error>, u32) {
    let sent = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&sent);
    let service = tower::service_fn(move |_: Request<Body>| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        std::future::ready(Ok::<_, std::io::Error>(make(number)))
    });
    let service = IntentLayer::new(Policy::new())
        .clock(FakeClock::new(SystemTime::now(), 0.5))
        .layer(service);
    let mut request = Request::post("http://shop/payments")
        .header("content-type", content_type)
        .body(Body::from("order"))
        .unwrap();
    request.extensions_mut().insert(Intent::new());
    let ended = match service.oneshot(request).await {
        Ok(response) => {
            let conclusion = response.conclusion();
            let _ = response.into_body().collect().await;
            Ok(conclusion)
        }
        Err(error) => Err(*error.downcast::<Error>().unwrap()),
    };
    (ended, sent.load(Ordering::SeqCst))
}

/// `OnStoreFailure::FailOpen`: the handler has run without a record, has charged, and has failed afterwards.
#[tokio::test]
async fn what_has_run_without_protection_is_not_run_again() {
    let (ended, charges) = play("application/json", |_| {
        Response::builder()
            .status(500)
            .header("idempotency-degraded", "true")
            .header("idempotency-status", "unprotected; lifetime=86400")
            .body(Body::from("the mail server is down"))
            .unwrap()
    })
    .await;
    assert_eq!(charges, 1, "charged {charges} times: {ended:?}");
}

/// gRPC-Web: an answer without messages has its status among the headers, as in gRPC; others in the last frame of the body.
#[tokio::test]
async fn unavailable_of_grpc_web_is_not_an_answer() {
    fn of_headers() -> http::response::Builder {
        Response::builder().header("content-type", "application/grpc-web+proto")
    }
    let (in_headers, _) = play("application/grpc-web+proto", |_| {
        let answer = of_headers().header("grpc-status", "14");
        answer.body(Body::default()).unwrap()
    })
    .await;
    let (in_body, _) = play("application/grpc-web+proto", |_| {
        let trailers = b"grpc-status:14\r\ngrpc-message:in flight\r\n";
        let length = u32::try_from(trailers.len()).unwrap().to_be_bytes();
        let body = [&[0x80][..], &length, trailers].concat();
        of_headers().body(Body::from(body)).unwrap()
    })
    .await;
    for ended in [in_headers, in_body] {
        assert!(
            ended.is_err(),
            "turned away, and said to have run: {ended:?}"
        );
    }
}

/// .NET and others write a byte order mark; a browser's client reads the code behind it.
#[tokio::test]
async fn code_behind_a_byte_order_mark_is_read() {
    let (ended, runs) = play("application/json", |_| {
        Response::builder()
            .status(501)
            .header("content-type", "application/problem+json")
            .body(Body::from("\u{feff}{\"code\":\"unprotected-route\"}"))
            .unwrap()
    })
    .await;
    assert_eq!(runs, 1, "the handler has run {runs} times: {ended:?}");
}

/// "No try of one call begins later than this after the first." The wait (or `open_while`) takes longer than it was asked to.
#[tokio::test]
async fn no_try_begins_after_the_budget() {
    use std::sync::Mutex;
    use std::time::Duration;

    let clock = FakeClock::new(SystemTime::now(), 0.5);
    let begins = Arc::new(Mutex::new(Vec::new()));
    let (seen, of_service) = (Arc::clone(&begins), Arc::clone(&clock));
    let begun = idempotent_client::Clock::instant(&*clock);
    let service = tower::service_fn(move |_: Request<Body>| {
        let since = idempotent_client::Clock::instant(&*of_service) - begun;
        seen.lock().unwrap().push(since);
        let busy = Response::builder().status(503).body(Body::default());
        std::future::ready(Ok::<_, std::io::Error>(busy.unwrap()))
    });
    let asked = AtomicU32::new(0);
    let of_check = Arc::clone(&clock);
    let service = IntentLayer::new(Policy::new())
        .clock(clock.clone())
        .open_while(move |_| {
            if asked.fetch_add(1, Ordering::SeqCst) == 1 {
                // The machine sleeps for two hours, or the application's database hangs.
                let hours = Duration::from_secs(2 * 3600);
                of_check.set(SystemTime::now() + hours, hours);
            }
            std::future::ready(true)
        })
        .layer(service);
    let mut request = Request::post("http://shop/payments")
        .body(Body::from("order"))
        .unwrap();
    request.extensions_mut().insert(Intent::new());
    let error = service.oneshot(request).await.unwrap_err();
    let begins = begins.lock().unwrap().clone();
    assert!(
        begins.iter().all(|it| *it <= Duration::from_secs(120)),
        "tries began after {begins:?}: {error}"
    );
}

/// The server keeps a key for 60 s from its first answer, and says so. The last try begins before that, and arrives after it.
#[tokio::test]
async fn a_try_does_not_outlive_the_life_that_the_server_has_told() {
    use std::sync::Mutex;
    use std::time::Duration;

    let noon = SystemTime::now();
    let clock = FakeClock::new(noon, 0.0);
    let second = Duration::from_secs(1);
    // When the request arrives, since the key was made; and until when it is known that it was paid.
    let server = Arc::new(Mutex::new((0_u32, Duration::ZERO)));
    let tries = Arc::new(AtomicU32::new(0));
    let (of_service, state) = (Arc::clone(&clock), Arc::clone(&server));
    let service = tower::service_fn(move |_: Request<Body>| {
        let number = tries.fetch_add(1, Ordering::SeqCst);
        // The second wait is 45 s. The third connection takes 20 s, or as long as the try may.
        let (begins, connects) = [(0, 1), (1, 1), (47, 20)][number as usize];
        let (begins, connects) = (begins * second, connects * second);
        let limit = *of_service.timeouts().last().unwrap();
        let arrives = begins + connects.min(limit);
        of_service.set(noon + arrives, arrives);
        if connects > limit {
            return std::future::ready(Err(std::io::Error::other("no connection in time")));
        }
        let mut state = state.lock().unwrap();
        std::future::ready(if arrives >= state.1 {
            *state = (state.0 + 1, arrives + 60 * second);
            Err(std::io::Error::other("the answer is lost"))
        } else {
            let in_flight = Response::builder()
                .status(409)
                .header("retry-after", "45")
                .header("idempotency-status", "in-flight; lifetime=60");
            Ok(in_flight.body(Body::default()).unwrap())
        })
    });
    let of_check = Arc::clone(&clock);
    let checks = AtomicU32::new(0);
    let service = IntentLayer::new(Policy::new().attempts(3))
        .clock(clock.clone())
        .open_while(move |_| {
            // The fake clock does not go on by itself while it waits.
            if checks.fetch_add(1, Ordering::SeqCst) == 2 {
                of_check.set(noon + 47 * second, 47 * second);
            }
            std::future::ready(true)
        })
        .layer(service);
    let mut request = Request::post("http://shop/payments")
        .body(Body::from("order"))
        .unwrap();
    request.extensions_mut().insert(Intent::new_at(noon));
    let error = service.oneshot(request).await.unwrap_err();
    let (charges, _) = *server.lock().unwrap();
    assert_eq!(charges, 1, "charged {charges} times: {error}");
    // Nine tenths of 60 s, of which 47 s have passed.
    assert_eq!(clock.timeouts(), [30 * second, 30 * second, 7 * second]);
}

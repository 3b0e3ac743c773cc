//! Every row of `clients/vectors`, played by a server on loopback to each transport. Only waits and clocks are fake.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::StatusCode;
use idempotent_client::{Conclusion, Error, Intent, IntentExt, Policy, ResponseExt};
use support::rows::{self, Row, When};
use support::server::Seen;
use support::{FakeClock, Play, Server};

const BODY: &str = r#"{"order":"order-1","amount":10}"#;

/// What one call needs.
struct Call {
    address: SocketAddr,
    intent: Intent,
    policy: Policy,
    clock: Arc<FakeClock>,
    body: Vec<u8>,
    is_stream: bool,
    /// The try that finds no listener.
    dead_try: Option<u32>,
}

type Ending = Result<(StatusCode, Option<Conclusion>, bool), Error>;

/// Addresses by try: at the dead one nothing listens on the port.
struct Addresses {
    dead_try: Option<u32>,
    tries: AtomicU32,
}

impl Addresses {
    fn next(&self) -> [u8; 4] {
        let number = self.tries.fetch_add(1, Ordering::SeqCst) + 1;
        let is_dead = self.dead_try == Some(number);
        [127, 0, 0, if is_dead { 2 } else { 1 }]
    }
}

impl reqwest::dns::Resolve for Addresses {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let address = SocketAddr::from((self.next(), 0));
        Box::pin(async move { Ok(Box::new(std::iter::once(address)) as reqwest::dns::Addrs) })
    }
}

fn client(call: &Call) -> reqwest::Client {
    let addresses = Addresses {
        dead_try: call.dead_try,
        tries: AtomicU32::new(0),
    };
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Arc::new(addresses))
        .build()
        .unwrap()
}

fn url(call: &Call) -> String {
    format!("http://payments.test:{}/payments", call.address.port())
}

fn body(call: &Call) -> reqwest::Body {
    if call.is_stream {
        reqwest::Body::wrap(http_body_util::Full::new(bytes::Bytes::from(
            call.body.clone(),
        )))
    } else {
        call.body.clone().into()
    }
}

async fn by_reqwest(call: Call) -> Ending {
    let request = client(&call)
        .post(url(&call))
        .intent(&call.intent)
        .body(body(&call));
    let response = request.policy(call.policy).clock(call.clock).send().await?;
    let ending = (
        response.status(),
        response.conclusion(),
        response.is_replay(),
    );
    response.bytes().await.unwrap();
    Ok(ending)
}

#[cfg(feature = "reqwest-middleware")]
async fn by_middleware(call: Call) -> Ending {
    use idempotent_client::IntentMiddleware;

    let middleware = IntentMiddleware::new(call.policy.clone()).clock(call.clock.clone());
    let client = reqwest_middleware::ClientBuilder::new(client(&call))
        .with(middleware)
        .build();
    let response = client
        .post(url(&call))
        .intent(&call.intent)
        .body(body(&call))
        .send()
        .await;
    let response = response.map_err(|error| match error {
        reqwest_middleware::Error::Middleware(error) => error.downcast::<Error>().unwrap(),
        reqwest_middleware::Error::Reqwest(error) => panic!("{error:?}"),
    })?;
    Ok((
        response.status(),
        response.conclusion(),
        response.is_replay(),
    ))
}

#[cfg(feature = "tower")]
async fn by_hyper(call: Call) -> Ending {
    use http_body_util::{BodyExt, Full};
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;
    use idempotent_client::IntentLayer;
    use tower::{ServiceBuilder, ServiceExt};

    let addresses = Arc::new(Addresses {
        dead_try: call.dead_try,
        tries: AtomicU32::new(0),
    });
    let port = call.address.port();
    let service = ServiceBuilder::new()
        .layer(IntentLayer::new(call.policy.clone()).clock(call.clock.clone()))
        .map_request(move |mut request: http::Request<Full<bytes::Bytes>>| {
            let [a, b, c, d] = addresses.next();
            *request.uri_mut() = format!("http://{a}.{b}.{c}.{d}:{port}/payments")
                .parse()
                .unwrap();
            request
        })
        .service(Client::builder(TokioExecutor::new()).build_http());
    let mut request = http::Request::post(url(&call))
        .body(Full::from(call.body))
        .unwrap();
    request.extensions_mut().insert(call.intent);
    let response = service
        .oneshot(request)
        .await
        .map_err(|error| *error.downcast::<Error>().unwrap())?;
    let ending = (
        response.status(),
        response.conclusion(),
        response.is_replay(),
    );
    response.into_body().collect().await.unwrap();
    Ok(ending)
}

/// The server's part of a row: earlier tries are answered "not now", later ones with the stored answer.
fn script(
    when: &'static When,
    clock: Arc<FakeClock>,
) -> impl FnMut(usize, &Seen) -> Play + Send + 'static {
    let attempt = usize::try_from(when.attempt()).unwrap();
    move |count, _| {
        // A try that finds no listener does not get here.
        let number = if when.failure.as_deref() == Some("refused") {
            count + 1
        } else {
            count
        };
        if number < attempt {
            return Play::status(503);
        }
        if number > attempt {
            return Play::marked(201);
        }
        clock.set(rows::now(), Duration::from_millis(when.elapsed_ms));
        let answer = || when.answer.as_ref().unwrap().to_response();
        match when.failure.as_deref() {
            None => Play::Answer(answer()),
            Some("reset-while-sending") => Play::ResetWhileSending,
            Some("reset-before-answer") => Play::ResetBeforeAnswer,
            Some("reset-in-body") => Play::CutInBody(answer()),
            Some("timeout") => {
                clock.fire_timeout();
                Play::Silence
            }
            Some(other) => panic!("{other}"),
        }
    }
}

async fn play<F: Future<Output = Ending>>(row: &'static Row, random: f64, send: fn(Call) -> F) {
    let Row {
        name, when, then, ..
    } = row;
    let (attempt, elapsed) = (when.attempt(), Duration::from_millis(when.elapsed_ms));
    let created = when.created(rows::now());
    let intent = if when.sent && attempt == 1 {
        Intent::restore("order-1", created).unwrap()
    } else {
        Intent::new_at(created)
    };
    let begun = when
        .latest(rows::now())
        .unwrap_or((rows::now() - elapsed).max(created));
    let clock = FakeClock::new(begun, random);
    let is_refused = when.failure.as_deref() == Some("refused");
    if is_refused {
        clock.set(rows::now(), elapsed);
    }
    let server = Server::start(script(when, Arc::clone(&clock))).await;
    let is_large = when.failure.as_deref() == Some("reset-while-sending");
    let body = if is_large {
        vec![b'x'; 8 << 20]
    } else {
        BODY.as_bytes().to_vec()
    };
    let call = Call {
        address: server.address,
        intent: intent.clone(),
        policy: when.policy(),
        clock: Arc::clone(&clock),
        body: body.clone(),
        is_stream: when.body.is_some(),
        dead_try: is_refused.then_some(attempt),
    };
    let ending = send(call).await;

    let seen = server.seen();
    let is_retry = then.next == "retry";
    let tries = if when.body.is_some() {
        0
    } else {
        attempt + u32::from(is_retry)
    };
    assert_eq!(
        seen.len(),
        usize::try_from(tries - u32::from(is_refused)).unwrap(),
        "{name}"
    );
    match (then.next.as_str(), &ending) {
        ("retry", Ok((status, _, is_replay))) => {
            assert_eq!((status.as_u16(), is_replay), (201, &true), "{name}");
            let wait = clock.waits()[usize::try_from(attempt - 1).unwrap()];
            let bound = then.wait_ms.unwrap()[usize::from(random > 0.5)];
            assert_eq!(wait, Duration::from_millis(bound), "{name}");
        }
        ("conclude", Ok((status, conclusion, _))) => {
            assert_eq!(
                status.as_u16(),
                when.answer.as_ref().unwrap().status,
                "{name}"
            );
            // Nothing but this try has sent the intent, so what is rejected is closed.
            let closed = if matches!(then.intent.as_str(), "closed" | "rejected") {
                Conclusion::Closed
            } else {
                Conclusion::Answered
            };
            assert_eq!(*conclusion, Some(closed), "{name}");
        }
        (
            "refuse",
            Err(Error::Refused {
                reason,
                intent: kept,
                ..
            }),
        )
        | (
            "undecided",
            Err(Error::Undecided {
                reason,
                intent: kept,
                ..
            }),
        ) => {
            assert_eq!(Some(reason.to_string()), then.reason(), "{name}");
            assert_eq!(kept.key(), intent.key(), "{name}");
            let answer = ending.as_ref().unwrap_err().answer();
            let status = answer.map(|answer| answer.status().as_u16());
            let expected = when.answer.as_ref().filter(|_| when.failure.is_none());
            assert_eq!(status, expected.map(|answer| answer.status), "{name}");
        }
        (_, ending) => panic!("{name}: {ending:?}"),
    }
    let key = if when.is_stripe() {
        intent.key().to_owned()
    } else {
        format!("\"{}\"", intent.key())
    };
    for request in &seen {
        assert_eq!(
            (request.method.as_str(), request.path.as_str()),
            ("POST", "/payments"),
            "{name}"
        );
        assert_eq!(request.key(), Some(key.as_str()), "{name}");
        assert!(
            request.body.as_ref().is_none_or(|seen| *seen == body),
            "{name}"
        );
    }
}

async fn play_all<F: Future<Output = Ending>>(send: fn(Call) -> F, streams: bool) {
    static TABLES: LazyLock<Vec<(String, Vec<Row>)>> = LazyLock::new(rows::tables);
    for row in TABLES.iter().flat_map(|(_, rows)| rows) {
        if row.when.body.is_some() && !streams {
            continue;
        }
        play(row, 0.0, send).await;
        if row.then.next == "retry" {
            play(row, 1.0, send).await;
        }
    }
}

#[tokio::test]
async fn every_row_to_reqwest() {
    play_all(by_reqwest, true).await;
}

#[cfg(feature = "reqwest-middleware")]
#[tokio::test]
async fn every_row_to_the_middleware() {
    play_all(by_middleware, true).await;
}

/// A stream is not `Clone`, and does not compile.
#[cfg(feature = "tower")]
#[tokio::test]
async fn every_row_to_hyper() {
    play_all(by_hyper, false).await;
}

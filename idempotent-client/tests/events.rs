//! Every try is an event. Alone in its process, because others would decide which events are made.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use idempotent_client::{Intent, IntentExt, IntentRequest, Policy};
use support::{FakeClock, Play, Server};

fn post(server: &Server, intent: &Intent) -> IntentRequest {
    let clock = FakeClock::new(SystemTime::now(), 0.5);
    let client = reqwest::Client::new();
    client
        .post(server.url())
        .intent(intent)
        .clock(clock)
        .body("order")
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn every_try_is_an_event_and_none_has_the_key() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let server = Server::playing([
        Play::ResetBeforeAnswer,
        Play::problem(409, "in-flight"),
        Play::marked(201),
    ])
    .await;
    let intent = Intent::with_key("secret-order").unwrap();
    post(&server, &intent).send().await.unwrap();
    post(&server, &intent)
        .policy(Policy::new().lifetime(Duration::ZERO))
        .send()
        .await
        .unwrap_err();

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let ours = |text: &str| {
        log.lines()
            .filter(|line| line.contains("idempotent_client") && line.contains(text))
            .count()
    };
    assert_eq!(ours("no answer"), 1, "{log}");
    assert_eq!(ours("code=in-flight"), 1, "{log}");
    assert_eq!(ours("attempt=3 status=201 replayed=true"), 1, "{log}");
    assert_eq!(ours("waiting before the next try"), 2, "{log}");
    assert_eq!(ours("WARN"), 1, "{log}");
    let digest = format!("{intent:?}");
    let digest = digest.split('#').nth(1).unwrap().split(',').next().unwrap();
    assert_eq!(ours(&format!("key={digest}")), ours(""), "{log}");
    let own: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("idempotent_client"))
        .collect();
    assert!(
        !own.iter().any(|line| line.contains("secret-order")),
        "{log}"
    );
}

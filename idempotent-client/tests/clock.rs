//! The age of a key is counted by a clock that can be set. What it has shown is kept with the intent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use idempotent_client::{BoxError, Error, Intent, IntentLayer, Policy, Reason};
use support::FakeClock;
use tower::{Layer, ServiceExt};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn noon() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_268_800)
}

/// A network that loses every answer, and counts the requests.
#[derive(Clone, Default)]
struct Network(Arc<AtomicUsize>);

impl Network {
    fn tries(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Why one try at this time is undecided.
    async fn send(&self, intent: &Intent, now: SystemTime) -> Reason {
        let tries = Arc::clone(&self.0);
        let service = tower::service_fn(move |_: Request<Full<Bytes>>| {
            tries.fetch_add(1, Ordering::SeqCst);
            async { Err::<Response<Full<Bytes>>, BoxError>("lost".into()) }
        });
        let layer = IntentLayer::new(Policy::new().attempts(1)).clock(FakeClock::new(now, 0.5));
        let mut request = Request::new(Full::from("order"));
        request.extensions_mut().insert(intent.clone());
        let error = layer.layer(service).oneshot(request).await.unwrap_err();
        let error = error.downcast::<Error>().unwrap();
        assert!(error.is_undecided());
        error.reason().unwrap()
    }

    async fn refuses(&self, intent: &Intent) {
        let tries = self.tries();
        for hours in [0, 1, 3, 23, 25, 26] {
            let reason = self.send(intent, noon() + hours * HOUR).await;
            assert_eq!(reason, Reason::Lifetime, "{hours}");
        }
        assert_eq!(self.tries(), tries);
    }
}

fn saved_and_loaded(intent: &Intent) -> Intent {
    serde_json::from_str(&serde_json::to_string(intent).unwrap()).unwrap()
}

/// Two hours fast when the key was made, then set right. 25 hours later the server has forgotten the key.
#[tokio::test]
async fn clock_that_was_set_back_is_not_believed_later() {
    let network = Network::default();
    let intent = Intent::with_key_at("order-1", noon() + 2 * HOUR).unwrap();
    assert_eq!(network.send(&intent, noon()).await, Reason::Lifetime);
    let late = network.send(&intent, noon() + 25 * HOUR).await;
    assert_eq!(late, Reason::Lifetime);
    network.refuses(&intent).await;
    network.refuses(&saved_and_loaded(&intent)).await;
    assert_eq!(network.tries(), 0);
}

#[tokio::test]
async fn clock_that_was_set_back_is_not_believed_later_for_an_intent_that_an_earlier_version_has_saved()
 {
    let created = noon() + 2 * HOUR;
    let created_ms = created.duration_since(UNIX_EPOCH).unwrap().as_millis();
    let saved = format!(r#"{{"version":1,"key":"order-1","created_ms":{created_ms}}}"#);
    let intent: Intent = serde_json::from_str(&saved).unwrap();
    let network = Network::default();
    assert_eq!(network.send(&intent, noon()).await, Reason::Lifetime);
    network.refuses(&intent).await;
    network.refuses(&saved_and_loaded(&intent)).await;
}

#[tokio::test]
async fn clock_that_is_set_back_to_after_the_making_of_the_key_is_noticed() {
    let network = Network::default();
    let intent = Intent::new_at(noon());
    let reason = network.send(&intent, noon() + 20 * HOUR).await;
    assert_eq!(reason, Reason::Attempts);
    for intent in [saved_and_loaded(&intent), intent] {
        let reason = network.send(&intent, noon() + 17 * HOUR).await;
        assert_eq!(reason, Reason::Lifetime);
        network.refuses(&intent).await;
    }
}

#[tokio::test]
async fn key_that_was_too_old_is_not_young_again_when_the_clock_is_set_back() {
    let network = Network::default();
    let intent = Intent::new_at(noon());
    for minutes in [24 * 60 - 2, 24 * 60 - 6] {
        let reason = network.send(&intent, noon() + minutes * MINUTE).await;
        assert_eq!(reason, Reason::Lifetime);
    }
    assert_eq!(network.tries(), 0);
}

#[tokio::test]
async fn small_corrections_do_not_make_the_age_unknown() {
    let network = Network::default();
    let intent = Intent::new_at(noon() + 5 * MINUTE);
    for minutes in [0, 5, 60, 55, 23 * 60 + 54, 23 * 60 + 50] {
        let reason = network.send(&intent, noon() + minutes * MINUTE).await;
        assert_eq!(reason, Reason::Attempts, "{minutes}");
    }
}

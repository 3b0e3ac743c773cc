//! While a secret is rotated a request has several records. What is copied from one to another lives as long as what it
//! was copied from.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use idempotent_runtime::store::{ListFilter, RecordStatus, StoreErrorKind};
use idempotent_runtime::{Locator, Recovery, Resolution, StoredResponse, idempotent};

use crate::support::{App, Crashes, Fault, LEASE, Local, Operation, Probe};

const HOUR: Duration = Duration::from_secs(3600);

#[idempotent(ttl = "24h")]
async fn pay(State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

#[idempotent(ttl = "24h")]
async fn gated(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent(ttl = "24h", on_abandoned = "retry")]
async fn gated_retry(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent(ttl = "1s", name = "brief")]
async fn brief(State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

#[idempotent(name = "brief")]
async fn brief_and_slow(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

fn routes() -> Router<App> {
    Router::new()
        .route("/pay", post(pay))
        .route("/gated", post(gated))
        .route("/gated-retry", post(gated_retry))
        .route("/brief", post(brief))
        .route("/brief-and-slow", post(brief_and_slow))
}

fn old(crashes: &Crashes) -> Local {
    Local::with(crashes.builder().secret("old"), routes())
}

fn both(crashes: &Crashes) -> Local {
    let builder = crashes.builder().secret("new").previous_secrets(["old"]);
    Local::with(builder, routes())
}

fn new(crashes: &Crashes) -> Local {
    Local::with(crashes.builder().secret("new"), routes())
}

/// Each replay gave the response a new TTL, in one record after the other.
#[tokio::test]
async fn key_that_is_replayed_again_and_again_is_free_after_its_ttl() {
    for of_older in [true, false] {
        let crashes = Crashes::new();
        let first = if of_older {
            old(&crashes)
        } else {
            new(&crashes)
        };
        assert_eq!(first.post("/pay", "key").await.text(), "1");
        let both = both(&crashes);
        let mut hours_of_replays = Vec::new();
        for hours in (7..=70).step_by(7) {
            crashes.clock.advance(7 * HOUR);
            if both.post("/pay", "key").await.is_replay() {
                hours_of_replays.push(hours);
            }
        }
        // It runs once more after 28 hours, and after 56.
        let expected = [7, 14, 21, 35, 42, 49, 63, 70];
        assert_eq!(hours_of_replays, expected, "of an older one: {of_older}");
        assert_eq!(both.probe.runs(), 2);
    }
}

#[tokio::test]
async fn another_request_may_use_a_key_after_the_ttl_of_a_response_that_was_copied() {
    let crashes = Crashes::new();
    old(&crashes).post("/pay", "key").await;
    let both = both(&crashes);
    crashes.clock.advance(23 * HOUR);
    assert!(both.post("/pay", "key").await.is_replay());
    crashes.clock.advance(2 * HOUR);
    let other = both.post("/pay?other", "key").await;
    assert_eq!((other.status, other.code()), (200, None));
}

/// Two records, copied to and fro, would make each other live on.
#[tokio::test]
async fn response_that_is_about_to_expire_is_not_copied() {
    let crashes = Crashes::new();
    old(&crashes).post("/pay", "key").await;
    crashes
        .clock
        .advance(24 * HOUR - Duration::from_millis(500));
    assert!(both(&crashes).post("/pay", "key").await.is_replay());
    assert_eq!(crashes.store.calls(Operation::Complete), 1);
    assert!(!new(&crashes).post("/pay", "key").await.is_replay());
}

/// It is not known how long it may live there. The next replay finds out.
#[tokio::test]
async fn response_is_copied_at_the_next_replay_if_its_record_cannot_be_read() {
    // What has claimed the older record tries twice.
    for (of_older, reads) in [(true, 1), (false, 2)] {
        let crashes = Crashes::new();
        let first = if of_older {
            old(&crashes)
        } else {
            new(&crashes)
        };
        first.post("/pay", "key").await;
        let both = both(&crashes);
        let refused = Fault::Refused(StoreErrorKind::Unavailable);
        crashes.store.script_times(reads, Operation::Get, refused);
        for completed in [1, 2, 2] {
            assert!(both.post("/pay", "key").await.is_replay());
            assert_eq!(crashes.store.calls(Operation::Complete), completed);
        }
    }
}

/// An operator has said that it was done, by the record that a listing shows. The key was free a day later, although what was
/// decided is in force for 30 days.
#[tokio::test]
async fn what_an_operator_has_decided_is_in_force_as_long_under_each_secret() {
    let crashes = Crashes::new();
    let crashed = both(&crashes);
    let cut_off = crashed.spawn("/gated", "key");
    crashed.probe.started().await;
    crashes.clock.advance(LEASE);
    let operator = both(&crashes);
    let locator = Locator::new("POST /gated", "key");
    let first = operator.idempotency.inspect(&locator).await;
    let first = first.unwrap().unwrap();
    let abandoned = ListFilter::new().status(RecordStatus::Abandoned);
    let listed = operator.idempotency.list(&abandoned, None, 10).await;
    assert_eq!(listed.unwrap().records.len(), 2);
    let receipt = StoredResponse::new(StatusCode::OK, HeaderMap::new(), "charged");
    let by_record = Locator::by_record_key(first.record_key);
    let decision = Recovery::Replay(receipt);
    let resolved = operator.idempotency.resolve(&by_record, decision).await;
    assert!(matches!(resolved, Ok(Resolution::Resolved)), "{resolved:?}");
    for _ in 0..2 {
        let replay = operator.post("/gated", "key").await;
        assert_eq!((replay.text(), replay.is_replay()), ("charged", true));
        crashes.clock.advance(48 * HOUR);
    }
    let after = new(&crashes);
    after.probe.open();
    let replay = after.post("/gated", "key").await;
    assert_eq!((replay.text(), after.probe.runs()), ("charged", 0));
    drop(cut_off);
}

/// The attempt finds it when it is done, in one of its two records, and puts it into the other.
#[tokio::test(start_paused = true)]
async fn answer_that_an_attempt_finds_lives_as_long_in_its_other_record() {
    for of_older in [true, false] {
        let crashes = Crashes::new();
        let slow = both(&crashes);
        let late = slow.spawn("/gated-retry", "key");
        slow.probe.started().await;
        crashes.clock.advance(LEASE);
        let instances = [old(&crashes), new(&crashes)];
        let [second, other] = match of_older {
            true => instances,
            false => {
                let [old, new] = instances;
                [new, old]
            }
        };
        second.probe.open();
        let first = second.post("/gated-retry", "key").await;
        crashes.clock.advance(23 * HOUR);
        slow.probe.open();
        late.await.unwrap().assert_replay_of(&first);
        crashes.clock.advance(HOUR / 2);
        let replay = other.post("/gated-retry", "key").await;
        replay.assert_replay_of(&first);
        crashes.clock.advance(HOUR);
        other.probe.open();
        let again = other.post("/gated-retry", "key").await;
        assert!(!again.is_replay(), "of an older one: {of_older}");
    }
}

/// Its response is stored under the old secret, which it is not told, and has expired when another request has that record. Under the new
/// one the request was left abandoned, although it was answered.
#[tokio::test]
async fn request_whose_record_is_anothers_by_now_is_done_under_the_other_secret() {
    let crashes = Crashes::new();
    let store = &crashes.store;
    store.script(Operation::Complete, Fault::ReplyLost);
    let unavailable = Fault::Refused(StoreErrorKind::Unavailable);
    store.script_times(10_000, Operation::Complete, unavailable);
    let both = both(&crashes);
    let first = both.post("/brief", "key").await;
    assert_eq!(first.text(), "1");
    crashes.clock.advance(Duration::from_secs(2));
    let old = old(&crashes);
    // By its path it is another request with the same key.
    let _other = old.spawn("/brief-and-slow", "key");
    old.probe.started().await;
    store.unscript(Operation::Complete);
    both.pending(0).await;
    let replay = new(&crashes).post("/brief", "key").await;
    replay.assert_replay_of(&first);
}

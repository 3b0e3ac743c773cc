//! The grey zone between "up" and "down": refusals, slow and lost replies, late questions. A process
//! that never died charges once, and no key is stuck for which nothing ran.
//!
//! On tokio's paused clock, which the engine and the store follow.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::Store;
use idempotent_runtime::store::StoreErrorKind;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Idempotency, OnStoreFailure, RecordState, Release, idempotent};
use tokio::time::sleep;

use crate::support::{
    App, Crashes, Fault, FaultyStore, LEASE, Local, Operation, Probe, builder_on,
};

const HOUR: Duration = Duration::from_hours(1);

#[idempotent(on_abandoned = "retry")]
async fn pay(State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

#[idempotent(on_abandoned = "retry", lease = "30s")]
async fn long(State(probe): State<Probe>) -> String {
    let run = probe.run();
    sleep(10 * LEASE).await;
    run.to_string()
}

#[idempotent(on_abandoned = "retry", lease = "500ms")]
async fn short_lease(State(probe): State<Probe>) -> String {
    let run = probe.run();
    sleep(Duration::from_secs(5)).await;
    run.to_string()
}

#[idempotent(on_abandoned = "retry", lease = "4s")]
async fn longer_lease(State(probe): State<Probe>) -> String {
    let run = probe.run();
    sleep(Duration::from_secs(10)).await;
    run.to_string()
}

#[idempotent(ttl_secs = 1)]
async fn outlasts_its_ttl(State(probe): State<Probe>) -> String {
    let run = probe.run();
    sleep(Duration::from_secs(5)).await;
    run.to_string()
}

#[idempotent(ttl_secs = 1)]
async fn gated(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent]
async fn gated_for_a_day(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent]
async fn refuse(State(probe): State<Probe>) -> Release<String> {
    Release(probe.run_gated().await.to_string())
}

fn routes() -> Router<App> {
    Router::new()
        .route("/pay", post(pay))
        .route("/long", post(long))
        .route("/short-lease", post(short_lease))
        .route("/longer-lease", post(longer_lease))
        .route("/outlasts-its-ttl", post(outlasts_its_ttl))
        .route("/gated", post(gated))
        .route("/gated-for-a-day", post(gated_for_a_day))
        .route("/refuse", post(refuse))
}

fn local() -> (Local, FaultyStore) {
    let store = FaultyStore::new(MemoryStore::new());
    (Local::new(store.clone(), routes()), store)
}

const TRANSIENT: [StoreErrorKind; 5] = [
    StoreErrorKind::Unavailable,
    StoreErrorKind::TimedOut,
    StoreErrorKind::Refused,
    StoreErrorKind::Busy,
    StoreErrorKind::Full,
];

/// A refusal was taken as final: the body was dropped, and the next refusal ended the storing.
#[tokio::test(start_paused = true)]
async fn transient_refusals_neither_drop_a_response_nor_end_its_storing() {
    for kind in TRANSIENT {
        let (local, store) = local();
        store.script_times(40, Operation::Complete, Fault::Refused(kind));
        let first = local.post("/pay", "key").await;
        assert_eq!((first.status, first.text()), (200, "1"));
        // Far longer than the lease, which is renewed meanwhile: no other attempt takes it over.
        for _ in 0..3 {
            sleep(LEASE).await;
            let duplicate = local.post("/pay", "key").await;
            duplicate.assert_problem(409, "in-flight");
        }
        sleep(10 * LEASE).await;
        local.post("/pay", "key").await.assert_replay_of(&first);
        assert_eq!(local.probe.runs(), 1, "{kind:?}");
    }
}

/// All renewals were one statement and one result.
#[tokio::test(start_paused = true)]
async fn locked_record_does_not_take_the_leases_of_others_with_it() {
    let (local, store) = local();
    let locked = local.spawn("/long", "locked");
    local.probe.started().await;
    store.lock(store.claimed());
    let others = ["one", "two", "three"];
    let mut running = Vec::new();
    for key in others {
        running.push(local.spawn("/long", key));
        local.probe.started().await;
    }
    for _ in 0..9 {
        sleep(LEASE).await;
        for key in others {
            let duplicate = local.post("/long", key).await;
            duplicate.assert_problem(409, "in-flight");
        }
    }
    for handler in running {
        assert_eq!(handler.await.unwrap().status, 200);
    }
    locked.await.unwrap();
    assert_eq!(local.probe.runs(), 4);
}

/// The limit of a whole batch was a sixth of its shortest lease.
#[tokio::test(start_paused = true)]
async fn short_lease_on_a_slow_store_ends_no_other_lease() {
    let store = FaultyStore::new(MemoryStore::new()).slow(Duration::from_millis(150));
    let local = Local::new(store, routes());
    let running = ["/short-lease", "/longer-lease"].map(|path| (path, local.spawn(path, "key")));
    local.probe.started().await;
    local.probe.started().await;
    for (path, handler) in running {
        while !handler.is_finished() {
            sleep(Duration::from_millis(300)).await;
            let duplicate = local.post(path, "key").await;
            assert!(
                duplicate.code() == Some("in-flight") || duplicate.is_replay(),
                "{duplicate:?}"
            );
        }
        assert_eq!(handler.await.unwrap().status, 200);
    }
    assert_eq!(local.probe.runs(), 2);
}

/// The replies to renewals may take longer than a third of the lease.
#[tokio::test(start_paused = true)]
async fn lease_is_kept_on_a_store_that_takes_longer_than_a_third_of_it() {
    let store = FaultyStore::new(MemoryStore::new()).slow(Duration::from_millis(400));
    let local = Local::new(store, routes());
    let handler = local.spawn("/short-lease", "key");
    local.probe.started().await;
    while !handler.is_finished() {
        let duplicate = local.post("/short-lease", "key").await;
        assert!(
            duplicate.code() == Some("in-flight") || duplicate.is_replay(),
            "{duplicate:?}"
        );
    }
    assert_eq!(local.probe.runs(), 1);
}

/// A handler that had outlasted its TTL got no second try to store.
#[tokio::test(start_paused = true)]
async fn response_is_stored_however_long_its_handler_ran() {
    let (local, store) = local();
    store.script_times(
        3,
        Operation::Complete,
        Fault::Refused(StoreErrorKind::Unavailable),
    );
    let first = local.post("/outlasts-its-ttl", "key").await;
    let early = local.post("/outlasts-its-ttl", "key").await;
    early.assert_problem(409, "in-flight");
    while store.calls(Operation::Complete) < 4 {
        sleep(Duration::from_millis(10)).await;
    }
    // The TTL counts from the completion.
    let replay = local.post("/outlasts-its-ttl", "key").await;
    replay.assert_replay_of(&first);
    assert_eq!(local.probe.runs(), 1);
}

/// With a TTL of no more than the lease, a crash left a free key.
#[tokio::test]
async fn crash_is_not_forgotten_at_the_end_of_the_ttl() {
    let crashes = Crashes::new();
    let _stopped = crashes.stop_at(routes(), "/gated").await;
    let other = Local::new(crashes.store.clone(), routes());
    for _ in 0..30 {
        let retry = other.post("/gated", "key").await;
        retry.assert_problem(409, "outcome-unknown");
        crashes.clock.advance(24 * HOUR - LEASE / 15);
    }
    assert_eq!(other.probe.runs(), 0);
    crashes.clock.advance(LEASE + HOUR);
    other.probe.open();
    assert_eq!(
        other.post("/gated", "key").await.text(),
        "1",
        "its retention is over"
    );
}

/// One client fills the store, and everybody else's retries would run twice.
#[tokio::test]
async fn full_store_is_not_an_unavailable_one() {
    let store = FaultyStore::new(MemoryStore::new());
    let builder = Idempotency::builder(store.clone());
    let builder = builder.on_store_failure(OnStoreFailure::FailOpen);
    let local = Local::with(builder, routes());
    for _ in 0..2 {
        store.script(Operation::Claim, Fault::Refused(StoreErrorKind::Full));
        let refused = local.post("/pay", "key").await;
        refused.assert_problem(503, "store-unavailable");
    }
    assert_eq!(local.probe.runs(), 0);
}

/// All got 503, and a third of their keys were `outcome-unknown` for a day, though no handler ran.
#[tokio::test(start_paused = true)]
async fn brown_out_leaves_no_key_behind_and_is_not_amplified() {
    const REQUESTS: usize = 6_000;
    let (local, store) = local();
    store.script_times(2 * REQUESTS, Operation::Claim, Fault::Hangs);
    let requests = (0..REQUESTS).map(|number| {
        let local = local.clone();
        tokio::spawn(async move { local.post("/pay", &format!("key-{number}")).await })
    });
    for request in requests.collect::<Vec<_>>() {
        let refused = request.await.unwrap();
        refused.assert_problem(503, "store-unavailable");
    }
    sleep(Duration::from_secs(5)).await;
    assert_eq!(local.idempotency.pending(), 0);
    let calls = [
        Operation::Claim,
        Operation::Release,
        Operation::Abandon,
        Operation::Get,
    ];
    let calls: usize = calls.map(|operation| store.calls(operation)).iter().sum();
    assert!(
        calls <= 3 * REQUESTS,
        "{calls} calls for {REQUESTS} requests that failed"
    );
    assert_eq!(local.probe.runs(), 0);
    for number in 0..REQUESTS {
        let retry = local.post("/pay", &format!("key-{number}")).await;
        assert_eq!((retry.status, retry.is_replay()), (200, false), "{retry:?}");
    }
    assert_eq!(local.probe.runs(), REQUESTS);
}

/// For ten minutes each of them was looked for by itself, more than thirty times.
#[tokio::test(start_paused = true)]
async fn questions_without_a_reply_are_looked_for_together() {
    const REQUESTS: u32 = 600;
    let (local, store) = local();
    store.script_times(2 * REQUESTS as usize, Operation::Claim, Fault::Hangs);
    let requests = (0..REQUESTS).map(|number| {
        let local = local.clone();
        tokio::spawn(async move {
            sleep(number * Duration::from_millis(100)).await;
            local.post("/pay", &format!("key-{number}")).await
        })
    });
    for request in requests.collect::<Vec<_>>() {
        let refused = request.await.unwrap();
        refused.assert_problem(503, "store-unavailable");
    }
    sleep(Duration::from_secs(11 * 60)).await;
    let looks = store.calls(Operation::Release);
    // With the two claims of each, at most three calls for a request that failed.
    assert!(
        looks <= REQUESTS as usize,
        "{looks} calls to give {REQUESTS} claims up"
    );
}

/// The first question got no reply, the second one was answered that another attempt runs. The first one
/// arrives after that one has released the key, and held it for no caller.
#[tokio::test(start_paused = true)]
async fn question_that_arrives_after_everything_is_over_does_not_hold_the_key() {
    let (local, store) = local();
    let running = local.spawn("/refuse", "key");
    local.probe.started().await;
    store.script(Operation::Claim, Fault::Late);
    let duplicate = local.post("/refuse", "key").await;
    duplicate.assert_problem(409, "in-flight");
    local.probe.open();
    assert_eq!(running.await.unwrap().text(), "1");
    // Long after the duplicate was answered.
    sleep(3 * LEASE).await;
    store.proceed();
    sleep(Duration::from_millis(1)).await;
    local
        .post("/refuse", "key")
        .await
        .assert_problem(409, "in-flight");
    sleep(LEASE + Duration::from_secs(5)).await;
    local.probe.open();
    let next = local.post("/refuse", "key").await;
    assert_eq!((next.status, next.text()), (200, "2"));
}

/// A server that waits for its standby holds all claims up. The first of them was forgotten after ten minutes, arrived with the
/// others, and left its key abandoned.
#[tokio::test(start_paused = true)]
async fn question_is_looked_for_until_ten_minutes_after_the_last_one_without_a_reply() {
    const NINE_MINUTES: Duration = Duration::from_secs(9 * 60);
    let (local, store) = local();
    store.script(Operation::Claim, Fault::Late);
    store.script_times(3, Operation::Claim, Fault::Swallowed);
    for key in ["key", "other"] {
        let held_up = local.post("/refuse", key).await;
        held_up.assert_problem(503, "store-unavailable");
        sleep(NINE_MINUTES).await;
    }
    store.proceed();
    sleep(LEASE + Duration::from_secs(5)).await;
    local.probe.open();
    let next = local.post("/refuse", "key").await;
    assert_eq!((next.status, next.text()), (200, "1"));
}

/// The answer of the first attempt was thrown away, and no attempt would ever say more.
#[tokio::test]
async fn finished_answer_stands_when_the_later_attempt_was_abandoned() {
    let crashes = Crashes::new();
    let stopped = crashes.stop_at(routes(), "/gated").await;
    crashes.leave_progress(crashes.store.claimed(), b"").await;
    stopped.process.probe.open();
    let late = stopped.reply.await.unwrap();
    assert_eq!((late.status, late.text()), (200, "1"));
    let other = Local::new(crashes.store.clone(), routes());
    other.post("/gated", "key").await.assert_replay_of(&late);
}

/// While a later attempt runs, what the earlier one has to say is kept.
#[tokio::test(start_paused = true)]
async fn finished_answer_waits_for_the_later_attempt() {
    let store = FaultyStore::new(MemoryStore::new());
    let local = Local::new(store.clone(), routes());
    let first = local.spawn("/gated-for-a-day", "key");
    local.probe.started().await;
    // Renewals do not arrive, so another process takes the claim over.
    store.script_times(
        1_000,
        Operation::Renew,
        Fault::Refused(StoreErrorKind::Unavailable),
    );
    sleep(LEASE + Duration::from_secs(1)).await;
    let record = store.claimed();
    let later = crate::support::take_over(&store, record).await;
    local.probe.open();
    first.await.unwrap().assert_problem(409, "in-flight");
    // It dies as well.
    sleep(2 * LEASE).await;
    let replay = local.post("/gated-for-a-day", "key").await;
    assert_eq!(
        (replay.text(), replay.is_replay()),
        ("1", true),
        "{later:?}"
    );
    assert_eq!(local.probe.runs(), 1);
}

/// A store that was out for longer than the lease: at its recovery the attempt that lives comes first, and
/// not a duplicate that takes it for crashed.
#[tokio::test(start_paused = true)]
async fn outage_longer_than_the_lease_is_no_crash() {
    let store = FaultyStore::new(MemoryStore::new());
    let (owner, other) = (
        Local::new(store.clone(), routes()),
        Local::new(store.clone(), routes()),
    );
    let running = owner.spawn("/long", "key");
    owner.probe.started().await;
    let record = store.claimed();
    // As long as anything is asked for.
    let out = Fault::Refused(StoreErrorKind::Refused);
    store.script_times(100, Operation::Renew, out);
    store.script_times(100, Operation::Claim, out);
    store.script_times(100, Operation::GiveGrace, out);
    while store.calls(Operation::Claim) < 60 {
        let refused = other.post("/long", "key").await;
        refused.assert_problem(503, "store-unavailable");
        sleep(Duration::from_secs(1)).await;
    }
    store.unscript(Operation::Claim);
    let found = store.get(&record).await.unwrap().unwrap();
    assert!(
        matches!(found.state, RecordState::Abandoned),
        "the lease has ended: {found:?}"
    );
    let early = other.post("/long", "key").await;
    early.assert_problem(503, "store-unavailable");
    store.unscript(Operation::GiveGrace);
    store.unscript(Operation::Renew);
    while !running.is_finished() {
        let duplicate = other.post("/long", "key").await;
        assert!(
            duplicate.code() == Some("in-flight") || duplicate.is_replay(),
            "{duplicate:?}"
        );
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(running.await.unwrap().text(), "1");
    assert_eq!(other.probe.runs(), 0);
}

#[idempotent]
async fn with_header(body: String) -> ([(&'static str, String); 1], String) {
    ([("x-receipt", body.clone())], body)
}

/// What waits to be stored is bounded: first the body is given up, and headers that have no room either.
#[tokio::test(start_paused = true)]
async fn responses_that_wait_are_bounded_with_their_headers() {
    const BOUND: usize = 4000;
    for (length, keeps_headers) in [(2500, true), (5000, false)] {
        let store = FaultyStore::new(MemoryStore::new());
        let builder = Idempotency::builder(store.clone()).max_pending_bytes(BOUND);
        let routes = Router::new().route("/with_header", post(with_header));
        let local = Local::with(builder.secret_check(false), routes);
        let away = Fault::Refused(StoreErrorKind::Unavailable);
        store.script_times(3, Operation::Complete, away);
        let request = http::Request::post("/with_header").header("idempotency-key", "key");
        let request = request.body("x".repeat(length).into()).unwrap();
        assert_eq!(local.send(request).await.text().len(), length);
        local.pending(0).await;
        let record = store.get(&store.claimed()).await.unwrap().unwrap();
        let RecordState::Completed(stored) = record.state else {
            panic!("{record:?}");
        };
        assert_eq!(stored.body, None);
        assert_eq!(stored.headers.contains_key("x-receipt"), keeps_headers);
        assert!(stored.size_bytes() <= BOUND);
    }
}

/// Answers with a header that is larger than the store.
#[idempotent(name = "large-header")]
async fn large_header(State(probe): State<Probe>) -> ([(&'static str, String); 1], String) {
    let run = probe.run();
    ([("x-large", "x".repeat(16 * 1024))], run.to_string())
}

/// "A response that alone takes more is refused (`TooLarge`), and a tombstone is stored": not if its headers alone do. The
/// key is in flight for as long as the process lives, and a shutdown waits for it in vain.
#[tokio::test(start_paused = true)]
async fn response_whose_headers_the_store_cannot_hold_leaves_no_key_in_flight() {
    let store = MemoryStore::builder().max_bytes(8 * 1024).build();
    let routes: Router<App> = Router::new().route("/large", post(large_header));
    let local = Local::with(builder_on(store), routes);
    let first = local.post("/large", "key").await;
    assert_eq!(first.status, 200);
    // Far more than its lease and the grace, on a store that works.
    sleep(Duration::from_secs(60 * 60)).await;
    let again = local.post("/large", "key").await;
    assert_eq!(local.probe.runs(), 1);
    assert_eq!(local.idempotency.pending(), 0, "still being stored");
    assert_eq!(again.status, 200, "{again:?}");
}

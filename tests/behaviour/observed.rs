//! Observers: each request has one outcome, and nothing tells a key, a scope or a body.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use futures_util::stream;
use http::{Request, StatusCode};
use idempotent_runtime::observer::{Event, Observer};
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::store::{ListFilter, Store, StoreErrorKind};
use idempotent_runtime::{
    AuditLine, ExecuteError, Execution, IdempotencyBuilder, Locator, OnStoreFailure, Policy,
    Recovery, Release, StoredResponse, idempotent,
};

use crate::support::{
    App, Crashes, Fault, FaultyStore, LEASE, Local, Operation, Probe, builder_on,
};

/// Everything that was observed, as text and as counts.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<Mutex<Everything>>);

#[derive(Debug, Default)]
struct Everything {
    outcomes: BTreeMap<(String, &'static str), usize>,
    lines: Vec<String>,
    in_flight: isize,
    abandoned: BTreeMap<String, usize>,
    calls: BTreeMap<(&'static str, bool), usize>,
    background: Vec<isize>,
    pending: Vec<isize>,
    left_undecided: usize,
    lost: usize,
}

impl Observer for Seen {
    fn observe(&self, event: &Event<'_>) {
        let mut seen = self.0.lock().unwrap();
        seen.lines.push(format!("{event:?}"));
        match *event {
            Event::Request {
                operation, outcome, ..
            } => {
                let counted = (operation.to_owned(), outcome.as_str());
                *seen.outcomes.entry(counted).or_default() += 1;
            }
            Event::Claimed { .. } => seen.in_flight += 1,
            Event::ClaimEnded { .. } => seen.in_flight -= 1,
            Event::AbandonedRecords {
                operation, records, ..
            } => {
                seen.abandoned.insert(operation.to_owned(), records);
            }
            Event::StoreCall { call, error, .. } => {
                let counted = (call.as_str(), error.is_some());
                *seen.calls.entry(counted).or_default() += 1;
            }
            Event::BackgroundBegan => seen.background.push(1),
            Event::BackgroundEnded => seen.background.push(-1),
            Event::PendingBegan { .. } => seen.pending.push(1),
            Event::PendingEnded { .. } => seen.pending.push(-1),
            Event::Abandoned { .. } => seen.left_undecided += 1,
            Event::ClaimLost { .. } => seen.lost += 1,
            _ => {}
        }
    }
}

impl Seen {
    fn outcomes(&self) -> Vec<(String, &'static str, usize)> {
        let seen = self.0.lock().unwrap();
        let outcomes = seen.outcomes.iter();
        outcomes
            .map(|((operation, outcome), count)| (operation.clone(), *outcome, *count))
            .collect()
    }

    fn count(&self, outcome: &str) -> usize {
        let outcomes = self.outcomes();
        let of_it = outcomes.iter().filter(|(_, named, _)| *named == outcome);
        of_it.map(|(_, _, count)| count).sum()
    }

    fn has(&self, text: &str) -> bool {
        let seen = self.0.lock().unwrap();
        seen.lines.iter().any(|line| line.contains(text))
    }

    fn with<T>(&self, look: impl FnOnce(&Everything) -> T) -> T {
        look(&self.0.lock().unwrap())
    }
}

const SCOPE: &str = "CANARY-SCOPE";
const LABEL: &str = "order-1";

#[idempotent(scope = SCOPE, label = LABEL)]
async fn pay(State(probe): State<Probe>, body: String) -> String {
    probe.run();
    format!("paid {body}")
}

#[idempotent]
async fn wait(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent]
async fn refuse() -> Release<&'static str> {
    Release("nothing happened")
}

#[idempotent]
async fn panics() -> &'static str {
    panic!("as a test")
}

#[idempotent]
async fn streamed() -> Response {
    let chunks = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"chunk"))]);
    Response::new(Body::from_stream(chunks))
}

#[idempotent(required = false)]
async fn optional() -> &'static str {
    "done"
}

#[idempotent]
async fn echo(body: String) -> String {
    body
}

#[idempotent(key_age = "ttl")]
async fn aged() -> &'static str {
    "done"
}

struct Unserializable;

impl serde::Serialize for Unserializable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("as a test"))
    }
}

#[idempotent(scope = &Unserializable)]
async fn unusable() -> &'static str {
    "done"
}

#[idempotent(on_abandoned = "retry")]
async fn retried(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/pay", post(pay))
        .route("/wait", post(wait).get(wait))
        .route("/refuse", post(refuse))
        .route("/panics", post(panics))
        .route("/streamed", post(streamed))
        .route("/optional", post(optional))
        .route("/echo", post(echo))
        .route("/aged", post(aged))
        .route("/unusable", post(unusable))
        .route("/retried", post(retried))
}

pub(super) fn request(path: &str, key: &str, body: &'static str) -> Request<Body> {
    let request = Request::post(path).header("idempotency-key", key);
    request.body(Body::from(body)).unwrap()
}

fn observed(store: impl Store) -> (IdempotencyBuilder, Seen) {
    let seen = Seen::default();
    let builder = builder_on(store).observer(seen.clone());
    (builder.abandoned_check_interval(Duration::ZERO), seen)
}

#[tokio::test]
async fn every_outcome_is_counted_and_the_counts_are_the_requests() {
    let crashes = Crashes::new();
    let (builder, seen) = observed(crashes.store.clone());
    let builder = builder
        .max_background_handlers(1)
        .on_store_failure(OnStoreFailure::FailOpen);
    let local = Local::with(builder, routes());
    let mut sent = 0;
    let mut send = async |request| {
        sent += 1;
        local.send(request).await.status
    };
    assert_eq!(
        send(request("/pay", "CANARY-KEY", "CANARY-BODY")).await,
        200
    );
    assert_eq!(
        send(request("/pay", "CANARY-KEY", "CANARY-BODY")).await,
        200
    );
    assert_eq!(send(request("/pay", "CANARY-KEY", "another")).await, 422);
    assert_eq!(send(request("/pay", "bad key", "")).await, 400);
    let keyless = Request::post("/pay").body(Body::empty()).unwrap();
    assert_eq!(send(keyless).await, 400);
    let old = "01890a5d-ac96-774b-bcce-b302099a8057";
    assert_eq!(send(request("/aged", old, "")).await, 400);
    assert_eq!(send(request("/refuse", "key", "")).await, 200);
    assert_eq!(send(request("/panics", "key", "")).await, 500);
    assert_eq!(send(request("/streamed", "key", "")).await, 200);
    let keyless = Request::post("/optional").body(Body::empty()).unwrap();
    assert_eq!(send(keyless).await, 200);
    assert_eq!(send(request("/unusable", "key", "")).await, 500);
    local.probe.open();
    let safe = Request::get("/wait").body(Body::empty()).unwrap();
    assert_eq!(send(safe).await, 200);

    let refused = Fault::Refused(StoreErrorKind::Refused);
    crashes.store.script(Operation::Claim, refused);
    assert_eq!(send(request("/pay", "degraded", "")).await, 200);
    crashes
        .store
        .script(Operation::Claim, Fault::Refused(StoreErrorKind::Full));
    assert_eq!(send(request("/pay", "full", "")).await, 503);

    // A client that goes away, whose handler runs on in the background: then there is no room for another.
    let runs = local.probe.runs();
    let leaves = local.spawn("/wait", "slow");
    while local.probe.runs() == runs {
        tokio::task::yield_now().await;
    }
    assert_eq!(send(request("/wait", "slow", "")).await, 409);
    leaves.abort();
    assert!(leaves.await.is_err());
    assert_eq!(send(request("/pay", "no-room", "")).await, 503);
    local.probe.open();
    local.pending(0).await;

    // Another process crashes.
    let crashed = crashes.stop_at(routes(), "/wait").await;
    assert_eq!(send(request("/wait", "key", "")).await, 409);
    drop(crashed);

    local.idempotency.shutdown(Duration::ZERO).await;
    assert_eq!(send(request("/pay", "closing", "")).await, 503);

    let expected = [
        ("stored", 1),
        ("replayed", 1),
        ("key-reused", 1),
        ("invalid-key", 1),
        ("missing-key", 1),
        ("key-expired", 1),
        ("not-stored", 1),
        ("handler-failed", 1),
        ("pending", 1),
        ("unprotected", 1),
        ("unusable-input", 1),
        ("safe", 1),
        ("degraded", 1),
        ("store-unavailable", 1),
        ("in-flight", 1),
        ("disconnected", 1),
        ("overloaded", 1),
        ("outcome-unknown", 1),
        ("shutting-down", 1),
    ];
    let all = seen.outcomes();
    for (outcome, count) in expected {
        assert_eq!(seen.count(outcome), count, "{outcome}: {all:?}");
    }
    // Every request but that of the client that left was sent by `send`.
    let total: usize = all.iter().map(|(_, _, count)| count).sum();
    assert_eq!(total, sent + 1, "{all:?}");
    assert!(
        all.iter().any(|(operation, ..)| operation == "POST /pay"),
        "{all:?}"
    );
    for canary in ["CANARY", "order-1"] {
        assert!(
            !seen.has(canary),
            "{canary}: {:?}",
            seen.with(|it| it.lines.clone())
        );
    }
    assert_eq!(seen.with(|it| it.in_flight), 0);
    assert_eq!(seen.with(|it| it.background.clone()), [1, -1]);
    assert!(seen.with(|it| it.calls[&("claim", true)]) >= 2);
    assert!(seen.with(|it| it.calls[&("complete", false)]) >= 2);
}

/// What a client could make up without a bound is not told: a path of a fallback handler, a method.
#[tokio::test]
async fn operations_of_observers_are_bounded() {
    let (builder, seen) = observed(MemoryStore::new());
    let local = Local::with(
        builder,
        Router::new()
            .route("/any", axum::routing::any(pay))
            .fallback(pay),
    );
    for path in ["/users/CANARY", "/users/others"] {
        local.post(path, "key").await;
    }
    let odd = Request::builder().method("CANARY").uri("/any");
    let odd = odd.header("idempotency-key", "key").body(Body::empty());
    local.send(odd.unwrap()).await;
    let outcomes = seen.outcomes();
    let names: Vec<_> = outcomes.iter().map(|(name, ..)| &**name).collect();
    assert_eq!(names, ["POST (fallback)", "_OTHER /any"]);
    assert!(!seen.has("CANARY"));
    // Nor is it kept.
    let page = local.idempotency.list(&ListFilter::new(), None, 100).await;
    let kept: BTreeSet<_> = page
        .unwrap()
        .records
        .into_iter()
        .map(|it| it.operation)
        .collect();
    let kept: Vec<_> = kept.iter().map(|it| &**it).collect();
    assert_eq!(kept, names);
}

/// The store of this process is asked by plain calls, which are told too.
#[tokio::test]
async fn calls_of_the_memory_store_and_cached_replays_are_told() {
    let (builder, seen) = observed(MemoryStore::new());
    let local = Local::with(builder, routes());
    for _ in 0..2 {
        local.post("/echo", "key").await;
    }
    assert_eq!(seen.with(|it| it.calls[&("claim", false)]), 1);
    assert_eq!(seen.with(|it| it.calls[&("complete", false)]), 1);
    assert!(seen.has("CacheHit"));
}

#[tokio::test]
async fn functions_without_http_have_outcomes_too() {
    let (builder, seen) = observed(MemoryStore::new());
    let idempotency = builder.build();
    let policy = Policy::new();
    let run = |key: &'static str, ok: bool| {
        idempotency.execute(&policy, "settle", (), key, &1, move || async move {
            if ok { Ok(1) } else { Err(Failed) }
        })
    };
    assert_eq!(run("a", true).await.unwrap(), Execution::Executed(1));
    assert_eq!(run("a", true).await.unwrap(), Execution::Replayed(1));
    run("b", false).await.unwrap_err();
    run("", true).await.unwrap_err();
    let other = idempotency.execute(&policy, "settle", (), "a", &2, || async {
        Ok::<_, Failed>(1)
    });
    assert_eq!(other.await.unwrap(), Execution::Mismatch);
    let mut dropped = Box::pin(
        idempotency.execute(&policy, "settle", (), "c", &1, || async {
            std::future::pending::<()>().await;
            Ok::<_, Failed>(1)
        }),
    );
    assert!(futures_util::poll!(&mut dropped).is_pending());
    drop(dropped);
    for outcome in [
        "stored",
        "replayed",
        "not-stored",
        "invalid-key",
        "key-reused",
        "disconnected",
    ] {
        assert_eq!(seen.count(outcome), 1, "{outcome}: {:?}", seen.outcomes());
    }
    assert!(seen.outcomes().iter().all(|(name, ..)| name == "settle"));
}

#[derive(Debug)]
struct Failed;

impl From<ExecuteError> for Failed {
    fn from(_: ExecuteError) -> Self {
        Self
    }
}

#[tokio::test]
async fn take_over_abandonment_and_pending_responses_are_told() {
    let crashes = Crashes::new();
    let crashed = crashes.stop_at(routes(), "/retried").await;
    let (builder, seen) = observed(crashes.store.clone());
    let local = Local::with(builder, routes());
    local.probe.open();
    assert_eq!(local.post("/retried", "key").await.status, 200);
    assert!(
        seen.has("attempt: 2"),
        "{:?}",
        seen.with(|it| it.lines.clone())
    );

    let unavailable = Fault::Refused(StoreErrorKind::Unavailable);
    crashes.store.script(Operation::Complete, unavailable);
    assert_eq!(local.post("/pay", "other").await.status, 200);
    local.pending(0).await;
    assert_eq!(seen.count("pending"), 1);
    assert_eq!(seen.with(|it| it.pending.clone()), [1, -1]);
    drop(crashed);
}

/// A record that becomes abandoned is told of although no client comes back, and no longer when it is resolved.
#[tokio::test(start_paused = true)]
async fn abandoned_records_of_other_processes_are_counted() {
    let crashes = Crashes::new();
    let crashed = crashes.stop_at(routes(), "/wait").await;
    let seen = Seen::default();
    let watching = builder_on(crashes.store.clone())
        .observer(seen.clone())
        .build();
    let told = |count: usize| {
        let seen = seen.clone();
        async move {
            let is_told = || seen.with(|it| it.abandoned.get("POST /wait") == Some(&count));
            while !is_told() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    };
    let limit = Duration::from_secs(10);
    tokio::time::timeout(limit, told(1))
        .await
        .expect("one is abandoned");
    let paid = StoredResponse::new(StatusCode::CREATED, Default::default(), "paid");
    let audit = AuditLine::new("anna@example.com", "the bank says so");
    let locator = Locator::new("POST /wait", "key");
    let resolved = watching
        .resolve_as(&locator, Recovery::Replay(paid), &audit)
        .await;
    resolved.unwrap();
    tokio::time::timeout(limit, told(0))
        .await
        .expect("none is abandoned");
    drop(crashed);
}

/// Panics at each event, and has a lock that is poisoned then.
#[derive(Debug, Default)]
struct Broken(Mutex<()>);

impl Observer for Broken {
    fn observe(&self, _: &Event<'_>) {
        let _locked = self.0.lock().unwrap();
        panic!("as a test");
    }
}

/// It ended the renewal of all leases, and lost claims and responses.
#[tokio::test(start_paused = true)]
async fn observer_that_panics_changes_nothing_about_a_request() {
    let crashes = Crashes::new();
    let builder = builder_on(crashes.store.clone()).observer(Broken::default());
    let local = Local::with(builder, routes());
    let slow = local.spawn("/wait", "slow");
    local.probe.started().await;
    // Its lease is renewed.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(crashes.store.calls(Operation::Renew) >= 4);
    local.probe.open();
    assert_eq!(slow.await.unwrap().status, 200);
    let unavailable = Fault::Refused(StoreErrorKind::Unavailable);
    crashes.store.script(Operation::Complete, unavailable);
    assert_eq!(local.post("/echo", "key").await.status, 200);
    local.pending(0).await;
    assert_eq!(
        local
            .post("/echo", "key")
            .await
            .header("idempotent-replayed"),
        Some("true")
    );
    assert_eq!(local.post("/panics", "key").await.status, 500);
}

/// A key that an attempt leaves undecided is told, one under which nothing ran is not.
#[tokio::test(start_paused = true)]
async fn only_an_attempt_that_ran_is_told_as_abandoned() {
    let store = FaultyStore::new(MemoryStore::new());
    let unreachable = Local::new(store.clone(), routes());
    let refused = Fault::Refused(StoreErrorKind::Unavailable);
    store.script_times(1000, Operation::Renew, refused);
    let hangs = unreachable.spawn("/retried", "key");
    unreachable.probe.started().await;
    tokio::time::sleep(2 * LEASE).await;
    let (builder, seen) = observed(store.clone());
    let local = Local::with(builder, routes());
    // An impatient client, whose place a marker takes.
    let impatient = local.spawn("/retried", "key");
    while store.calls(Operation::GiveGrace) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    impatient.abort();
    assert!(impatient.await.is_err());
    local.pending(0).await;
    assert_eq!(store.calls(Operation::Abandon), 1);
    assert_eq!(seen.with(|it| it.left_undecided), 0);
    drop(hangs);

    let error = local
        .idempotency
        .execute(&Policy::new(), "settle", (), "a", &1, || async {
            panic!("as a test");
            #[expect(unreachable_code, reason = "its type is inferred from it")]
            Ok::<u8, Failed>(1)
        });
    assert!(tokio::spawn(error).await.unwrap_err().is_panic());
    assert_eq!(seen.with(|it| it.left_undecided), 1);
    assert_eq!(seen.count("handler-failed"), 1, "{:?}", seen.outcomes());
}

/// It was told at each try to store the response.
#[tokio::test(start_paused = true)]
async fn a_claim_is_lost_once() {
    let crashes = Crashes::new();
    let (builder, seen) = observed(crashes.store.clone());
    let local = Local::with(builder, routes());
    let slow = local.spawn("/retried", "key");
    local.probe.started().await;
    crashes.clock.advance(LEASE);
    let owner = crashes.take_over(crashes.store.claimed()).await;
    local.probe.open();
    assert_eq!(slow.await.unwrap().status, 409);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(seen.with(|it| it.lost), 1);
    crashes.store.release(&[owner]).await;
    local.pending(0).await;
}

/// The client of a safe request got 200 and no body, where the application renders problems.
#[tokio::test]
async fn problem_of_a_safe_request_is_rendered() {
    // Without `#[tx]` no safe request has a problem: the transactions' tests have the rest.
    let builder = builder_on(MemoryStore::new()).render_problems(|problem| {
        let mut response = problem.default_response();
        response
            .headers_mut()
            .insert("x-own", problem.status().as_u16().into());
        response
    });
    let local = Local::with(builder, routes());
    local.idempotency.shutdown(Duration::ZERO).await;
    let reply = local.post("/pay", "key").await;
    reply.assert_problem(503, "shutting-down");
    assert_eq!(reply.header("x-own"), Some("503"));
}

#[idempotent]
async fn panics_anywhere(State(_): State<Probe>) -> String {
    panic!("as the test wants")
}

/// As for observers and in the record, where it is `POST (fallback)`.
#[tokio::test]
async fn path_of_a_fallback_handler_is_not_logged() {
    let (log, _guard) = crate::support::Log::begin(tracing::Level::WARN);
    let local = Local::new(MemoryStore::new(), Router::new().fallback(panics_anywhere));
    let answer = local.post("/reset-password/CANARY", "key").await;
    assert_eq!(answer.status, 500);
    let lines = log.lines();
    assert!(
        lines.iter().any(|line| line.contains("panicked")),
        "{lines:?}"
    );
    assert!(
        !lines.iter().any(|line| line.contains("CANARY")),
        "{lines:?}"
    );
}

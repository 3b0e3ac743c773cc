//! `in_flight = "wait"`: duplicates get the first answer when it comes.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::post;
use http::Request;
use http_body_util::BodyExt;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Idempotency, Release, idempotent};
use tower::ServiceExt;

use crate::support::{App, Fault, FaultyStore, Operation, Probe, reply, serve, serve_on};

#[idempotent(in_flight = "wait", wait = "1h")]
async fn patient(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent(in_flight = "wait", wait = "20ms")]
async fn impatient(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent(in_flight = "wait", wait = "1h")]
async fn released(State(probe): State<Probe>) -> Result<String, Release<String>> {
    match probe.run_gated().await {
        1 => Err(Release("nothing happened".to_owned())),
        run => Ok(run.to_string()),
    }
}

fn routes() -> Router<App> {
    Router::new()
        .route("/patient", post(patient))
        .route("/impatient", post(impatient))
        .route("/released", post(released))
}

/// Requests without sockets, so that there can be more of them than a process has descriptors.
async fn in_process(app: Router, path: &'static str) -> (u16, bool, bytes::Bytes) {
    let request = Request::post(path)
        .header("idempotency-key", "key")
        .body(Body::empty())
        .unwrap();
    let answer = app.oneshot(request).await.unwrap();
    let replayed = answer.headers().contains_key("idempotent-replayed");
    let status = answer.status().as_u16();
    (
        status,
        replayed,
        answer.into_body().collect().await.unwrap().to_bytes(),
    )
}

fn app(probe: &Probe) -> Router {
    let idempotency = Idempotency::new(MemoryStore::new());
    routes().with_state(App {
        idempotency,
        probe: probe.clone(),
    })
}

#[tokio::test]
async fn a_waiter_gets_the_first_answer() {
    let server = serve(routes()).await;
    let first = server.spawn(server.post("/patient", "key", ""));
    server.probe.started().await;
    let waiter = server.spawn(server.post("/patient", "key", ""));
    // The answer is the same whether the waiter is there before or after the gate opens.
    server.probe.open();
    waiter
        .await
        .unwrap()
        .assert_replay_of(&first.await.unwrap());
    assert_eq!(server.probe.runs(), 1);
}

#[tokio::test(flavor = "current_thread")]
async fn ten_thousand_waiters_on_one_key_get_one_answer() {
    let probe = Probe::default();
    let app = app(&probe);
    let first = tokio::spawn(in_process(app.clone(), "/patient"));
    probe.started().await;
    let waiters: Vec<_> = (0..10_000)
        .map(|_| tokio::spawn(in_process(app.clone(), "/patient")))
        .collect();
    // On one thread, this lets every waiter run until it waits.
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
    probe.open();
    let (status, replayed, body) = first.await.unwrap();
    assert_eq!((status, replayed), (200, false));
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), (200, true, body.clone()));
    }
    assert_eq!(probe.runs(), 1);
}

#[tokio::test]
async fn a_waiter_that_gives_up_gets_409_and_does_not_disturb_the_owner() {
    let server = serve(routes()).await;
    let first = server.spawn(server.post("/impatient", "key", ""));
    server.probe.started().await;
    let waiter = reply(server.post("/impatient", "key", "")).await;
    waiter.assert_problem(409, "in-flight");
    assert!(waiter.header("retry-after").is_some());
    server.probe.open();
    let first = first.await.unwrap();
    assert_eq!((first.status, first.text()), (200, "1"));
    reply(server.post("/impatient", "key", ""))
        .await
        .assert_replay_of(&first);
}

#[tokio::test(flavor = "current_thread")]
async fn a_waiter_that_hangs_up_does_not_disturb_the_owner_or_the_others() {
    let probe = Probe::default();
    let app = app(&probe);
    let first = tokio::spawn(in_process(app.clone(), "/patient"));
    probe.started().await;
    let leaver = tokio::spawn(in_process(app.clone(), "/patient"));
    let stayer = tokio::spawn(in_process(app, "/patient"));
    tokio::task::yield_now().await;
    leaver.abort();
    assert!(leaver.await.unwrap_err().is_cancelled());
    probe.open();
    assert_eq!(first.await.unwrap().2, stayer.await.unwrap().2);
    assert_eq!(probe.runs(), 1);
}

#[tokio::test(flavor = "current_thread")]
async fn when_the_owner_releases_one_waiter_runs() {
    let probe = Probe::default();
    let app = app(&probe);
    let first = tokio::spawn(in_process(app.clone(), "/released"));
    probe.started().await;
    let waiters: Vec<_> = (0..20)
        .map(|_| tokio::spawn(in_process(app.clone(), "/released")))
        .collect();
    tokio::task::yield_now().await;
    probe.open();
    assert_eq!(first.await.unwrap().2, "nothing happened");
    probe.started().await;
    probe.open();
    let mut own = 0;
    for waiter in waiters {
        let (status, replayed, body) = waiter.await.unwrap();
        assert_eq!((status, &*body), (200, &b"2"[..]));
        own += usize::from(!replayed);
    }
    assert_eq!((own, probe.runs()), (1, 2));
}

#[tokio::test]
async fn a_waiter_is_refused_when_the_store_goes_away_and_the_owner_is_not() {
    let store = FaultyStore::new(MemoryStore::new());
    let server = serve_on(store.clone(), routes()).await;
    let first = server.spawn(server.post("/patient", "key", ""));
    server.probe.started().await;
    let away = Fault::Refused(idempotent_runtime::store::StoreErrorKind::Unavailable);
    store.script(Operation::Claim, Fault::Works);
    store.script(Operation::Claim, away);
    store.script(Operation::Claim, away);
    reply(server.post("/patient", "key", ""))
        .await
        .assert_problem(503, "store-unavailable");
    server.probe.open();
    assert_eq!(first.await.unwrap().status, 200);
}

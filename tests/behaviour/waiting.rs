//! `in_flight = "wait"`: duplicates get the first answer when it comes.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Release, idempotent};
use tokio::time::{Duration, sleep};

use crate::support::{App, Fault, FaultyStore, Local, Operation, Probe, reply, serve, serve_on};

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
    let local = Local::new(MemoryStore::new(), routes());
    let first = local.spawn("/patient", "key");
    local.probe.started().await;
    let waiters: Vec<_> = (0..10_000)
        .map(|_| local.spawn("/patient", "key"))
        .collect();
    // On one thread, this lets every waiter run until it waits.
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
    local.probe.open();
    let first = first.await.unwrap();
    assert_eq!((first.status, first.text()), (200, "1"));
    for waiter in waiters {
        waiter.await.unwrap().assert_replay_of(&first);
    }
    assert_eq!(local.probe.runs(), 1);
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
    let local = Local::new(MemoryStore::new(), routes());
    let first = local.spawn("/patient", "key");
    local.probe.started().await;
    let leaver = local.spawn("/patient", "key");
    let stayer = local.spawn("/patient", "key");
    tokio::task::yield_now().await;
    leaver.abort();
    assert!(leaver.await.unwrap_err().is_cancelled());
    local.probe.open();
    let stayer = stayer.await.unwrap();
    stayer.assert_replay_of(&first.await.unwrap());
    assert_eq!(local.probe.runs(), 1);
}

#[tokio::test(flavor = "current_thread")]
async fn when_the_owner_releases_one_waiter_runs() {
    let local = Local::new(MemoryStore::new(), routes());
    let first = local.spawn("/released", "key");
    local.probe.started().await;
    let waiters: Vec<_> = (0..20).map(|_| local.spawn("/released", "key")).collect();
    tokio::task::yield_now().await;
    local.probe.open();
    assert_eq!(first.await.unwrap().text(), "nothing happened");
    local.probe.started().await;
    local.probe.open();
    let mut own = 0;
    for waiter in waiters {
        let waiter = waiter.await.unwrap();
        assert_eq!((waiter.status, waiter.text()), (200, "2"));
        own += usize::from(!waiter.is_replay());
    }
    assert_eq!((own, local.probe.runs()), (1, 2));
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

/// On tokio's paused clock: what counts is how often the store is asked, not how fast it answers.
#[tokio::test(start_paused = true)]
async fn waiters_on_a_store_without_notifications_look_together() {
    let store = FaultyStore::new(MemoryStore::new()).without_notifications();
    let local = Local::new(store.clone(), routes());
    let first = local.spawn("/patient", "key");
    local.probe.started().await;
    let waiters: Vec<_> = (0..100).map(|_| local.spawn("/patient", "key")).collect();
    sleep(Duration::from_secs(10)).await;
    let (claims, looks) = (store.calls(Operation::Claim), store.calls(Operation::Get));
    // Each came, subscribed and looked again. All the looks after that are one task's, which pauses
    // for half a second at least once it has got slow.
    assert_eq!(claims, 1 + 2 * 100);
    assert!((5..30).contains(&looks), "{looks} looks in ten seconds");

    local.probe.open();
    let first = first.await.unwrap();
    for waiter in waiters {
        waiter.await.unwrap().assert_replay_of(&first);
    }
    // Woken once, and answered.
    assert_eq!(store.calls(Operation::Claim), claims + 100);
}

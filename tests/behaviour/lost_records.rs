//! A store that loses the record of a running handler, as one does that restarts without its data:
//! the answer puts the record back, whatever else fails on the way.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::store::{
    Acquired, Claim, ClaimRequest, Release as Released, Store, StoreErrorKind,
};
use idempotent_runtime::{
    Fingerprint, Owner, Record, RecordKey, RecordState, StoredResponse, Token, idempotent,
};
use tokio::time::sleep;

use crate::support::{Fault, FaultyStore, LEASE, Local, Operation, Probe, Reply, reply, serve_on};

#[idempotent]
async fn pay(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

const AWAY: Fault = Fault::Refused(StoreErrorKind::Unavailable);

/// Loses the record while the handler runs, lets its answer meet these faults, sees that a retry gets
/// the answer all the same, and returns what the first client got.
async fn put_back_despite(faults: &[(Operation, Fault)]) -> Reply {
    let store = FaultyStore::new(MemoryStore::new());
    let server = serve_on(store.clone(), Router::new().route("/", post(pay))).await;
    let running = server.spawn(server.post("/", "key", ""));
    server.probe.started().await;
    store.forget_claimed().await;
    for (operation, fault) in faults {
        store.script(*operation, *fault);
    }
    // Once for the handler, and once more for one that should not run.
    server.probe.open();
    server.probe.open();
    let first = running.await.unwrap();
    server.pending(0).await;
    let retry = reply(server.post("/", "key", "")).await;
    assert_eq!(
        (retry.status, retry.text(), retry.is_replay()),
        (200, "1", true)
    );
    assert_eq!(server.probe.runs(), 1);
    first
}

#[track_caller]
fn assert_own(first: &Reply) {
    assert_eq!(
        (first.status, first.text(), first.is_replay()),
        (200, "1", false)
    );
}

#[tokio::test]
async fn a_lost_record_is_put_back_with_its_answer() {
    assert_own(&put_back_despite(&[]).await);
}

#[tokio::test]
async fn a_lost_record_is_put_back_when_the_store_is_there_again() {
    assert_own(&put_back_despite(&[(Operation::Complete, AWAY)]).await);
}

/// The claim is known to be lost then, and not to whom: the answer has to wait for the store.
#[tokio::test]
async fn a_lost_record_is_put_back_even_if_the_store_goes_away_in_between() {
    for faults in [
        &[(Operation::Claim, AWAY)][..],
        &[(Operation::Claim, Fault::ReplyLost)],
        &[
            (Operation::Complete, Fault::Works),
            (Operation::Complete, AWAY),
        ],
    ] {
        put_back_despite(faults)
            .await
            .assert_problem(409, "in-flight");
    }
}

/// Claims a key of which the store has forgotten this record.
async fn claim_forgotten(
    store: &FaultyStore,
    key: RecordKey,
    record: &Record,
    fingerprint: Fingerprint,
) -> Owner {
    let owner = Owner {
        key,
        token: Token::from_bytes([9; 16]),
    };
    let claim = ClaimRequest {
        owner,
        fingerprint,
        operation: &record.operation,
        label: None,
        lease: LEASE,
        retention: record.expires_in,
        progress: &[],
        take_over: None,
    };
    let claimed = store.claim(&claim).await.unwrap();
    assert!(matches!(
        claimed,
        Claim::Acquired(Acquired { attempt: 1, .. })
    ));
    owner
}

/// A duplicate claimed the record before its owner did, and released it. The owner had given up.
#[tokio::test(start_paused = true)]
async fn a_lost_record_is_claimed_again_when_a_duplicate_has_released_it() {
    let store = FaultyStore::new(MemoryStore::new());
    let local = Local::new(store.clone(), Router::new().route("/", post(pay)));
    let running = local.spawn("/", "key");
    local.probe.started().await;
    let key = store.claimed();
    let record = store.get(&key).await.unwrap().unwrap();
    store.forget_claimed().await;
    let duplicate = claim_forgotten(&store, key, &record, record.fingerprint).await;
    sleep(LEASE / 2).await;
    let mut released = store.release(&[duplicate]).await;
    assert_eq!(released.pop().unwrap().unwrap(), Released::Released);
    sleep(2 * LEASE).await;
    let record = store.get(&key).await.unwrap().expect("the record");
    assert!(
        matches!(record.state, RecordState::Running { .. }),
        "{record:?}"
    );
    local.probe.open();
    assert_own(&running.await.unwrap());
}

#[idempotent(replay_errors = "4xx")]
async fn fails(State(probe): State<Probe>) -> http::StatusCode {
    probe.run_gated().await;
    http::StatusCode::INTERNAL_SERVER_ERROR
}

/// The store has forgotten the record, and another request has completed one under the same key: the first
/// one, which gives its claim up, is not shown that answer.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_gives_up_is_not_shown_another_requests_answer() {
    let store = FaultyStore::new(MemoryStore::new());
    let local = Local::new(store.clone(), Router::new().route("/", post(fails)));
    let running = local.spawn("/", "key");
    local.probe.started().await;
    let key = store.claimed();
    let record = store.get(&key).await.unwrap().unwrap();
    store.forget_claimed().await;
    let another_request = Fingerprint::from_bytes([9; 32]);
    let other = claim_forgotten(&store, key, &record, another_request).await;
    let answer = StoredResponse::new(
        http::StatusCode::CREATED,
        http::HeaderMap::new(),
        "another answer",
    );
    let answer = std::sync::Arc::new(answer);
    store.complete(&other, &answer, LEASE).await.unwrap();
    local.probe.open();
    let reply = running.await.unwrap();
    assert_ne!(reply.text(), "another answer");
    reply.assert_problem(409, "outcome-unknown");
}

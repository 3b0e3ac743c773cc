//! What an operator can see and do, by operation, scope and the client's key.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::routing::post;
use axum::{Extension, Router};
use http::{HeaderMap, Request, StatusCode};
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::store::{ListFilter, RecordStatus};
use idempotent_runtime::{
    Abandoned, Attempt, ErrorKind, ExecuteError, Idempotency, IdempotencyBuilder, KeySyntax,
    Locator, Policy, RecordKey, RecordState, Recovery, Resolution, StepError, StoredResponse,
    idempotent,
};
use serde::{Deserialize, Serialize};

use crate::steps::World;
use crate::support::{App, Crashes, LEASE, Local, Probe, Reply, reply, serve_on, serve_with};

mod locators;

#[idempotent(on_abandoned = "retry")]
async fn pay(
    attempt: Attempt,
    State(probe): State<Probe>,
    Extension(world): Extension<World>,
) -> Result<(StatusCode, String), StepError<String>> {
    attempt.step("hold", world.does("hold", 1_u64)).await?;
    attempt.step("charge", world.does("charge", 7_u64)).await?;
    world.after("charge", &probe).await;
    let answer = format!("paid by attempt {}", attempt.number());
    Ok((StatusCode::CREATED, answer))
}

fn routes(world: &World) -> Router<App> {
    Router::new()
        .route("/pay", post(pay))
        .layer(Extension(world.clone()))
}

/// A payment that was cut off behind its charge.
async fn cut_off() -> (Crashes, World) {
    let (crashes, world) = (Crashes::new(), World::default());
    let stops = world.stopping_after("charge");
    crashes.stop_at(routes(&stops), "/pay").await;
    (crashes, world)
}

#[idempotent(label = number)]
async fn order(State(probe): State<Probe>, number: String) -> String {
    probe.run();
    number
}

async fn post_text(local: &Local, path: &str, key: &str, text: &str) -> Reply {
    let request = Request::post(path).header("idempotency-key", key);
    local
        .send(request.body(text.to_owned().into()).unwrap())
        .await
}

fn orders() -> Router<App> {
    Router::new().route("/orders/{id}", post(order))
}

#[tokio::test]
async fn records_are_listed_with_operation_and_label_and_resolved_by_record_key() {
    let (crashes, world) = (Crashes::new(), World::default());
    let stops = world.stopping_after("charge");
    crashes.stop_at(routes(&stops), "/pay").await;
    let idempotency = crashes.builder().build();
    let abandoned = ListFilter::new().status(RecordStatus::Abandoned);
    let page = idempotency.list(&abandoned, None, 10).await.unwrap();
    let [record] = &page.records[..] else {
        panic!("{page:?}");
    };
    assert_eq!((&*record.operation, record.attempt), ("POST /pay", 1));
    assert_eq!(record.age, LEASE);

    let by_key = Locator::by_record_key(record.key.to_hex().parse().unwrap());
    let found = idempotency.inspect(&by_key).await.unwrap().unwrap();
    assert_eq!(found.record_key, record.key);
    let error = idempotency.resolve_with(&by_key, |_| async { Recovery::Retry });
    assert_eq!(error.await.unwrap_err().kind(), ErrorKind::InvalidLocator);
    let resolution = idempotency.resolve(&by_key, Recovery::Replay(paid())).await;
    assert!(matches!(resolution.unwrap(), Resolution::Resolved));
    let found = idempotency.inspect(&payment()).await.unwrap().unwrap();
    assert!(
        matches!(found.state, RecordState::Completed(_)),
        "{found:?}"
    );
    assert!(idempotency.forget(&by_key).await.unwrap());
    assert!(idempotency.inspect(&payment()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_label_is_stored_in_clear_and_names_nothing() {
    let local = Local::new(MemoryStore::new(), orders());
    let idempotency = &local.idempotency;
    post_text(&local, "/orders/1", "one", "order 4711").await;
    post_text(&local, "/orders/1", "two", "").await;
    let filter = ListFilter::new().operation("POST /orders/{number}");
    let page = idempotency.list(&filter, None, 10).await.unwrap();
    let mut labels: Vec<_> = page.records.iter().map(|it| it.label.as_deref()).collect();
    labels.sort_unstable();
    assert_eq!(labels, [None, Some("order 4711")]);
    let filter = ListFilter::new().label("order 4711");
    let page = idempotency.list(&filter, None, 10).await.unwrap();
    assert_eq!(page.records.len(), 1);
}

#[tokio::test]
async fn a_label_that_is_too_long_is_refused_before_anything_runs() {
    let local = Local::new(MemoryStore::new(), orders());
    let long = "x".repeat(65);
    let answer = post_text(&local, "/orders/1", "key", &long).await;
    answer.assert_problem(500, "unusable-input");
    assert_eq!(local.probe.runs(), 0);
    let answer = post_text(&local, "/orders/1", "key", &long[1..]).await;
    assert_eq!(answer.status, 200);
}

#[test]
fn a_record_key_is_read_from_all_of_its_digits() {
    let key = RecordKey::from_bytes(std::array::from_fn(|at| at as u8 * 7));
    assert_eq!(key.to_hex().parse::<RecordKey>().unwrap(), key);
    assert_eq!(
        key.to_hex().to_uppercase().parse::<RecordKey>().unwrap(),
        key
    );
    let digits = key.to_hex();
    for wrong in [
        "",
        &key.to_string(),
        &digits[1..],
        &format!("{digits}00"),
        &digits.replace('0', "g"),
    ] {
        assert_eq!(
            wrong.parse::<RecordKey>().unwrap_err().kind(),
            ErrorKind::InvalidLocator,
            "{wrong}"
        );
    }
}

fn payment() -> Locator {
    Locator::new("POST /pay", "key")
}

fn paid() -> StoredResponse {
    StoredResponse::new(StatusCode::CREATED, HeaderMap::new(), "paid, says the bank")
}

#[tokio::test]
async fn inspect_shows_each_state() {
    let (crashes, world) = (Crashes::new(), World::default());
    let idempotency = crashes.builder().build();
    assert!(idempotency.inspect(&payment()).await.unwrap().is_none());

    let stops = world.stopping_after("charge");
    let stopped = crashes.stop_at(routes(&stops), "/pay").await;
    let found = idempotency.inspect(&payment()).await.unwrap().unwrap();
    assert!(matches!(found.state, RecordState::Abandoned), "{found:?}");
    assert_eq!(found.record_key, crashes.store.claimed());
    assert_eq!((found.attempt, found.age), (1, LEASE));
    assert_eq!(
        found.expires_in,
        Duration::from_hours(30 * 24),
        "its retention"
    );
    assert_eq!(found.steps().unwrap(), ["hold", "charge"]);

    crashes.take_over(found.record_key).await;
    crashes.clock.advance(LEASE / 3);
    let found = idempotency.inspect(&payment()).await.unwrap().unwrap();
    assert!(
        matches!(found.state, RecordState::Running { lease_left } if lease_left == LEASE * 2 / 3),
        "{found:?}"
    );
    assert_eq!((found.attempt, found.age), (2, LEASE + LEASE / 3));
    assert_eq!(found.steps().unwrap(), ["hold", "charge"]);

    crashes.clock.advance(LEASE);
    stopped.reply.abort();
    let server = serve_on(crashes.store.clone(), routes(&world)).await;
    let answer = reply(server.post("/pay", "key", "")).await;
    let found = idempotency.inspect(&payment()).await.unwrap().unwrap();
    let RecordState::Completed(stored) = &found.state else {
        panic!("{found:?}");
    };
    assert_eq!(stored.status, 201);
    assert_eq!(stored.body.as_ref(), Some(&answer.body));
    assert_eq!((found.attempt, found.steps().unwrap().len()), (3, 0));
}

#[tokio::test]
async fn steps_that_cannot_be_read_do_not_hide_the_rest() {
    let (crashes, _) = cut_off().await;
    let key = crashes.store.claimed();
    let newer = b"\x09 what the next release of this crate writes";
    crashes.leave_progress(key, newer).await;
    let idempotency = crashes.builder().build();
    let found = idempotency.inspect(&payment()).await.unwrap().unwrap();
    assert!(matches!(found.state, RecordState::Abandoned));
    assert_eq!(found.steps().unwrap_err().kind(), ErrorKind::Store);

    // A function cannot be told, but who has looked elsewhere can decide.
    let never = async |_: Abandoned| unreachable!("nothing to tell");
    let asked = idempotency.resolve_with(&payment(), never).await;
    assert_eq!(asked.unwrap_err().kind(), ErrorKind::Store);
    let settled = idempotency
        .resolve(&payment(), Recovery::Replay(paid()))
        .await;
    assert!(matches!(settled, Ok(Resolution::Resolved)), "{settled:?}");
}

#[tokio::test]
async fn a_decision_that_it_was_done_is_what_is_replayed() {
    let (crashes, world) = cut_off().await;
    let idempotency = crashes.builder().build();
    let outcome = idempotency
        .resolve(&payment(), Recovery::Replay(paid()))
        .await;
    assert!(matches!(outcome, Ok(Resolution::Resolved)), "{outcome:?}");
    let server = serve_on(crashes.store.clone(), routes(&world)).await;
    let answer = reply(server.post("/pay", "key", "")).await;
    assert_eq!((answer.status, answer.text()), (201, "paid, says the bank"));
    assert!(answer.is_replay());
    assert_eq!(world.effects(), ["hold", "charge"]);

    // It is settled: another decision changes nothing.
    let outcome = idempotency.resolve(&payment(), Recovery::Retry).await;
    let Ok(Resolution::Completed(stored)) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(*stored, paid());
}

/// The operation's TTL may be longer than the handle's, which an operator's tool does not know.
#[tokio::test]
async fn a_decision_lives_no_shorter_than_the_record_would_have() {
    let (crashes, world) = cut_off().await;
    let idempotency = crashes.builder().ttl(Duration::from_secs(1)).build();
    let resolved = idempotency
        .resolve(&payment(), Recovery::Replay(paid()))
        .await;
    assert!(matches!(resolved.unwrap(), Resolution::Resolved));
    // What is abandoned lives for 30 days.
    crashes.clock.advance(Duration::from_secs(29 * 24 * 3600));
    let server = serve_on(crashes.store.clone(), routes(&world)).await;
    let answer = reply(server.post("/pay", "key", "")).await;
    assert_eq!(answer.text(), "paid, says the bank");
}

#[tokio::test]
async fn a_decision_that_it_was_not_done_frees_the_key() {
    let (crashes, world) = cut_off().await;
    let idempotency = crashes.builder().build();
    let outcome = idempotency.resolve(&payment(), Recovery::Retry).await;
    assert!(matches!(outcome, Ok(Resolution::Resolved)), "{outcome:?}");
    let outcome = idempotency.resolve(&payment(), Recovery::Retry).await;
    assert!(matches!(outcome, Ok(Resolution::NotFound)), "{outcome:?}");
    let server = serve_on(crashes.store.clone(), routes(&world)).await;
    // As if it had never been: with another request, too.
    let answer = reply(server.post("/pay", "key", "another")).await;
    assert_eq!(answer.text(), "paid by attempt 1");
    assert_eq!(world.effects(), ["hold", "charge", "hold", "charge"]);
}

#[tokio::test]
async fn no_decision_changes_nothing() {
    let (crashes, _) = cut_off().await;
    let idempotency = crashes.builder().build();
    let outcome = idempotency.resolve(&payment(), Recovery::Unknown).await;
    assert!(matches!(outcome, Ok(Resolution::Undecided)), "{outcome:?}");
    let found = idempotency.inspect(&payment()).await.unwrap().unwrap();
    assert!(matches!(found.state, RecordState::Abandoned));
    assert_eq!((found.attempt, found.age), (1, LEASE));
}

#[tokio::test]
async fn a_key_that_is_running_is_not_for_an_operator_to_decide() {
    let (crashes, _) = cut_off().await;
    crashes.take_over(crashes.store.claimed()).await;
    let idempotency = crashes.builder().build();
    for recovery in [Recovery::Replay(paid()), Recovery::Retry] {
        let outcome = idempotency.resolve(&payment(), recovery).await;
        let Ok(Resolution::Running { lease_left }) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(lease_left, LEASE);
    }
    let found = idempotency.inspect(&payment()).await.unwrap().unwrap();
    assert_eq!(found.attempt, 2);
}

/// As it is written for `on_abandoned = look`.
async fn look(abandoned: Abandoned) -> Recovery {
    let bank: &&str = abandoned.extension().unwrap();
    assert_eq!(
        (abandoned.operation(), abandoned.key().as_str()),
        ("POST /pay", "key")
    );
    assert_eq!((abandoned.attempt(), abandoned.age()), (1, LEASE));
    assert_eq!(abandoned.scope(), None);
    match abandoned.step::<u64>("charge").unwrap() {
        Some(charge) => Recovery::Replay(StoredResponse::new(
            StatusCode::OK,
            HeaderMap::new(),
            format!("charge {charge}, says the {bank}"),
        )),
        None => Recovery::Retry,
    }
}

#[tokio::test]
async fn an_operator_can_run_the_recovery_function() {
    let (crashes, world) = cut_off().await;
    let idempotency = crashes.builder().extension("bank").build();
    let outcome = idempotency.resolve_with(&payment(), look).await;
    assert!(matches!(outcome, Ok(Resolution::Resolved)), "{outcome:?}");
    let server = serve_on(crashes.store.clone(), routes(&world)).await;
    let answer = reply(server.post("/pay", "key", "")).await;
    assert_eq!(answer.text(), "charge 7, says the bank");

    // Not about what is settled, nor about what is not there.
    let never = async |_: Abandoned| unreachable!("nothing to recover");
    let outcome = idempotency.resolve_with(&payment(), never).await;
    assert!(
        matches!(outcome, Ok(Resolution::Completed(_))),
        "{outcome:?}"
    );
    let other = Locator::new("POST /pay", "other");
    let outcome = idempotency.resolve_with(&other, never).await;
    assert!(matches!(outcome, Ok(Resolution::NotFound)), "{outcome:?}");
}

/// Written for `on_abandoned`, where the next attempt goes on after the charge: the key was freed, and charged again.
#[tokio::test]
async fn retry_of_a_recovery_function_discards_no_finished_steps() {
    let (crashes, world) = cut_off().await;
    let idempotency = crashes.builder().build();
    let go_on = async |abandoned: Abandoned| match abandoned.step::<u64>("charge") {
        Ok(Some(_charge)) => Recovery::Retry,
        Ok(None) | Err(_) => Recovery::Unknown,
    };
    let outcome = idempotency.resolve_with(&payment(), go_on).await;
    assert!(matches!(outcome, Ok(Resolution::Undecided)), "{outcome:?}");
    let server = serve_on(crashes.store.clone(), routes(&world)).await;
    let answer = reply(server.post("/pay", "key", "")).await;
    assert_eq!(answer.text(), "paid by attempt 2");
    assert_eq!(world.effects(), ["hold", "charge"]);
}

#[tokio::test]
async fn forget_removes_whatever_there_is() {
    let (crashes, world) = cut_off().await;
    let idempotency = crashes.builder().build();
    let server = serve_on(crashes.store.clone(), routes(&world)).await;
    // Abandoned, running, completed.
    assert!(idempotency.forget(&payment()).await.unwrap());
    assert!(!idempotency.forget(&payment()).await.unwrap());
    assert!(idempotency.inspect(&payment()).await.unwrap().is_none());

    let stops = world.stopping_after("charge");
    crashes.stop_at(routes(&stops), "/pay").await;
    crashes.take_over(crashes.store.claimed()).await;
    assert!(idempotency.forget(&payment()).await.unwrap());
    assert_eq!(reply(server.post("/pay", "key", "")).await.status, 201);
    assert!(idempotency.forget(&payment()).await.unwrap());
    let again = reply(server.post("/pay", "key", "")).await;
    assert_eq!((again.status, again.is_replay()), (201, false));
}

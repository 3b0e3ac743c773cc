//! An operator decides about one attempt, and about nothing that comes in between.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use idempotent_runtime::store::{Store, StoreErrorKind};
use idempotent_runtime::{
    Attempt, ErrorKind, Idempotency, Locator, RecordState, Recovery, Resolution, StoredResponse,
    idempotent,
};

use tokio::time::sleep;

use crate::support::{
    App, Crashes, Fault, LEASE, Local, Operation, Probe, Stopped, reply, serve_on,
};

const AWAY: Fault = Fault::Refused(StoreErrorKind::Unavailable);

#[idempotent(on_abandoned = "retry")]
async fn pay(attempt: Attempt, State(probe): State<Probe>) -> String {
    if attempt.number() == 1 {
        probe.run_gated().await;
    }
    format!("paid by attempt {}", attempt.number())
}

fn routes() -> Router<App> {
    Router::new().route("/pay", post(pay))
}

async fn cut_off() -> (Crashes, Stopped, Idempotency) {
    let crashes = Crashes::new();
    let stopped = crashes.stop_at(routes(), "/pay").await;
    let idempotency = crashes.builder().build();
    (crashes, stopped, idempotency)
}

fn payment() -> Locator {
    Locator::new("POST /pay", "key")
}

/// Both decisions that change something.
fn decisions() -> [Recovery; 2] {
    let paid = StoredResponse::new(StatusCode::CREATED, HeaderMap::new(), "found");
    [Recovery::Replay(paid), Recovery::Retry]
}

async fn state(idempotency: &Idempotency) -> Option<RecordState> {
    let found = idempotency.inspect(&payment()).await.unwrap();
    found.map(|found| found.state)
}

#[tokio::test]
async fn an_attempt_that_was_taken_over_meanwhile_is_left_alone() {
    for decision in decisions() {
        let (crashes, _, idempotency) = cut_off().await;
        let outcome = idempotency
            .resolve_with(&payment(), async |abandoned| {
                crashes.take_over(abandoned.record_key()).await;
                decision
            })
            .await;
        assert!(
            matches!(outcome, Ok(Resolution::Running { .. })),
            "{outcome:?}"
        );

        // And what has crashed again is another attempt.
        crashes.clock.advance(LEASE);
        let [decision, _] = decisions();
        let outcome = idempotency
            .resolve_with(&payment(), async |abandoned| {
                crashes.take_over(abandoned.record_key()).await;
                crashes.clock.advance(LEASE);
                decision
            })
            .await;
        assert!(matches!(outcome, Ok(Resolution::Changed)), "{outcome:?}");
        assert!(matches!(
            state(&idempotency).await,
            Some(RecordState::Abandoned)
        ));
    }
}

#[tokio::test]
async fn an_attempt_that_was_only_slow_wins_if_it_is_done_first() {
    for decision in decisions() {
        let (_, stopped, idempotency) = cut_off().await;
        let (process, slow) = (stopped.process, stopped.reply);
        let (send, answer) = tokio::sync::oneshot::channel();
        let outcome = idempotency
            .resolve_with(&payment(), async |_| {
                process.probe.open();
                send.send(slow.await.unwrap()).unwrap();
                decision
            })
            .await;
        let Ok(Resolution::Completed(stored)) = outcome else {
            panic!("{outcome:?}");
        };
        let answer = answer.await.unwrap();
        assert_eq!(answer.text(), "paid by attempt 1");
        assert_eq!(stored.body.as_ref(), Some(&answer.body));
    }
}

#[tokio::test]
async fn an_attempt_that_was_only_slow_finds_the_decision() {
    let [done, not_done] = decisions();
    let (_, stopped, idempotency) = cut_off().await;
    let outcome = idempotency.resolve(&payment(), done).await;
    assert!(matches!(outcome, Ok(Resolution::Resolved)), "{outcome:?}");
    stopped.process.probe.open();
    let late = stopped.reply.await.unwrap();
    assert_eq!((late.text(), late.is_replay()), ("found", true));

    // The key was free, and who comes with it next is the one who has it.
    let (crashes, stopped, idempotency) = cut_off().await;
    let outcome = idempotency.resolve(&payment(), not_done).await;
    assert!(matches!(outcome, Ok(Resolution::Resolved)), "{outcome:?}");
    let server = serve_on(crashes.store.clone(), routes()).await;
    server.probe.open();
    let next = reply(server.post("/pay", "key", "")).await;
    assert_eq!(
        (next.text(), next.is_replay()),
        ("paid by attempt 1", false)
    );
    stopped.process.probe.open();
    stopped.reply.await.unwrap().assert_replay_of(&next);
}

#[tokio::test]
async fn a_record_that_is_gone_meanwhile_does_not_come_back() {
    for decision in decisions() {
        let (crashes, _, idempotency) = cut_off().await;
        let outcome = idempotency
            .resolve_with(&payment(), async |abandoned| {
                crashes.store.remove(&abandoned.record_key()).await.unwrap();
                decision
            })
            .await;
        assert!(matches!(outcome, Ok(Resolution::Changed)), "{outcome:?}");
        assert_eq!(idempotency.shutdown(Duration::from_secs(10)).await, 0);
        assert!(state(&idempotency).await.is_none());
    }
}

#[tokio::test]
async fn a_key_that_another_request_has_meanwhile_is_left_alone() {
    for decision in decisions() {
        let (crashes, _, idempotency) = cut_off().await;
        let server = serve_on(crashes.store.clone(), routes()).await;
        server.probe.open();
        let outcome = idempotency
            .resolve_with(&payment(), async |abandoned| {
                crashes.store.remove(&abandoned.record_key()).await.unwrap();
                reply(server.post("/pay", "key", "another")).await;
                decision
            })
            .await;
        assert!(matches!(outcome, Ok(Resolution::Changed)), "{outcome:?}");
        let found = state(&idempotency).await;
        assert!(
            matches!(found, Some(RecordState::Completed(_))),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn a_take_over_whose_reply_is_lost_is_asked_for_again() {
    for decision in decisions() {
        let (crashes, _, idempotency) = cut_off().await;
        crashes.store.script(Operation::Claim, Fault::ReplyLost);
        let outcome = idempotency.resolve(&payment(), decision).await;
        assert!(matches!(outcome, Ok(Resolution::Resolved)), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_an_error_and_the_key_stays_abandoned() {
    for (times, operation) in [
        (1, Operation::Get),
        (2, Operation::Claim),
        (1, Operation::Complete),
    ] {
        let (crashes, _, idempotency) = cut_off().await;
        crashes.store.script_times(times, operation, AWAY);
        let [decision, _] = decisions();
        let error = idempotency.resolve(&payment(), decision).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store, "{operation:?}");
        assert!(std::error::Error::source(&error).is_some());
        assert_eq!(idempotency.shutdown(Duration::from_secs(10)).await, 0);
        let found = state(&idempotency).await;
        assert!(
            matches!(found, Some(RecordState::Abandoned)),
            "{operation:?}: {found:?}"
        );
        let [decision, _] = decisions();
        let outcome = idempotency.resolve(&payment(), decision).await;
        assert!(matches!(outcome, Ok(Resolution::Resolved)), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_release_that_fails_leaves_the_key_abandoned() {
    let (crashes, _, idempotency) = cut_off().await;
    crashes.store.script(Operation::Release, AWAY);
    let [_, decision] = decisions();
    let error = idempotency.resolve(&payment(), decision).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert_eq!(idempotency.shutdown(Duration::from_secs(10)).await, 0);
    let found = state(&idempotency).await;
    assert!(matches!(found, Some(RecordState::Abandoned)), "{found:?}");
}

#[tokio::test]
async fn an_operator_who_goes_away_in_the_middle_has_decided_all_the_same() {
    for decision in decisions() {
        let (crashes, _, idempotency) = cut_off().await;
        crashes.store.script(Operation::Claim, Fault::Waits);
        let is_done = matches!(decision, Recovery::Replay(_));
        let operator = idempotency.clone();
        let resolve = tokio::spawn(async move { operator.resolve(&payment(), decision).await });
        crashes.store.waiting().await;
        resolve.abort();
        assert!(resolve.await.unwrap_err().is_cancelled());
        crashes.store.proceed();
        assert_eq!(idempotency.shutdown(Duration::from_secs(10)).await, 0);
        match state(&idempotency).await {
            Some(RecordState::Completed(_)) => assert!(is_done),
            found => assert!(found.is_none() && !is_done, "{found:?}"),
        }
    }
}

#[idempotent(ttl = "1s", name = "short-lived")]
async fn short_lived(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

/// What is left of the 30 days of an abandoned record then is a second.
const LATE: Duration = Duration::from_secs(30 * 24 * 3600 - 1);

/// The take-over was asked for twice, and the first question arrives when the response has expired: it made a new
/// record, which held the key for no attempt.
#[tokio::test(start_paused = true)]
async fn a_late_question_of_a_decision_holds_no_key() {
    for decision in decisions() {
        let routes = || Router::new().route("/short-lived", post(short_lived));
        let crashes = Crashes::new();
        crashes.crash_at(routes(), "/short-lived");
        crashes.clock.advance(LATE);
        let operator = crashes.builder().ttl(Duration::from_secs(1)).build();
        let payment = Locator::new("short-lived", "key");
        crashes.store.script(Operation::Claim, Fault::Late);
        let outcome = operator.resolve(&payment, decision).await;
        assert!(matches!(outcome, Ok(Resolution::Resolved)), "{outcome:?}");
        crashes.clock.advance(Duration::from_secs(3));
        assert!(operator.inspect(&payment).await.unwrap().is_none());
        crashes.store.proceed();
        sleep(LEASE + Duration::from_secs(5)).await;
        let local = Local::with(crashes.builder(), routes());
        local.probe.open();
        let next = local.post("/short-lived", "key").await;
        assert_eq!((next.status, next.text()), (200, "1"));
    }
}

//! Saving steps: a store that fails, claims that are lost, steps that run at the same time.

use axum::extract::State;
use axum::routing::post;
use axum::{Extension, Router};
use futures_util::future::join_all;
use idempotent_runtime::store::StoreErrorKind;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Attempt, Idempotency, Policy, StepError, idempotent};

use crate::steps::World;
use crate::support::{
    App, Crashes, Fault, FaultyStore, Local, Operation, Probe, Server, reply, serve_on,
};

const AWAY: Fault = Fault::Refused(StoreErrorKind::Unavailable);

#[idempotent(on_abandoned = "retry")]
async fn pay(
    attempt: Attempt,
    State(probe): State<Probe>,
    Extension(world): Extension<World>,
) -> Result<String, StepError<String>> {
    attempt.step("hold", world.does("hold", 1_u64)).await?;
    world.after("hold", &probe).await;
    let charge = attempt.step("charge", world.does("charge", 7_u64)).await?;
    world.after("charge", &probe).await;
    Ok(format!("charge {charge} by attempt {}", attempt.number()))
}

fn routes(world: &World) -> Router<App> {
    Router::new()
        .route("/pay", post(pay))
        .route("/lines", post(lines))
        .route("/hasty", post(hasty))
        .route("/gated", post(gated))
        .route("/gives-up", post(gives_up))
        .layer(Extension(world.clone()))
}

async fn next_process(crashes: &Crashes, world: &World) -> Server {
    serve_on(crashes.store.clone(), routes(world)).await
}

#[tokio::test]
async fn a_save_that_fails_is_tried_again() {
    for fault in [AWAY, Fault::ReplyLost] {
        let (crashes, world) = (Crashes::new(), World::default());
        crashes.store.script(Operation::SaveProgress, fault);
        let stops = world.stopping_after("hold");
        crashes.stop_at(routes(&stops), "/pay").await;
        assert_eq!(crashes.store.calls(Operation::SaveProgress), 2);
        let server = next_process(&crashes, &world).await;
        let retry = reply(server.post("/pay", "key", "")).await;
        assert_eq!(retry.text(), "charge 7 by attempt 2");
        assert_eq!(world.effects(), ["hold", "charge"]);
    }
}

#[tokio::test]
async fn a_step_that_could_not_be_saved_is_carried_by_the_next() {
    let (crashes, world) = (Crashes::new(), World::default());
    crashes.store.script_times(2, Operation::SaveProgress, AWAY);
    let stops = world.stopping_after("charge");
    crashes.stop_at(routes(&stops), "/pay").await;
    assert_eq!(crashes.store.calls(Operation::SaveProgress), 3);
    let server = next_process(&crashes, &world).await;
    let retry = reply(server.post("/pay", "key", "")).await;
    assert_eq!(retry.text(), "charge 7 by attempt 2");
    assert_eq!(world.effects(), ["hold", "charge"]);
}

#[tokio::test]
async fn while_the_store_is_away_the_handler_goes_on() {
    let (crashes, world) = (Crashes::new(), World::default());
    let server = next_process(&crashes, &world).await;
    crashes.store.script_times(4, Operation::SaveProgress, AWAY);
    let first = reply(server.post("/pay", "key", "")).await;
    assert_eq!((first.status, first.text()), (200, "charge 7 by attempt 1"));
    reply(server.post("/pay", "key", ""))
        .await
        .assert_replay_of(&first);
}

#[idempotent(on_abandoned = "retry", replay_errors = "none")]
async fn gives_up(
    attempt: Attempt,
    Extension(world): Extension<World>,
) -> Result<String, StepError<http::StatusCode>> {
    let hold = attempt.step("hold", async {
        Ok(world.does("hold", 1_u64).await.unwrap())
    });
    hold.await?;
    if attempt.number() == 1 {
        return Err(StepError::Step(http::StatusCode::BAD_GATEWAY));
    }
    Ok(format!("attempt {}", attempt.number()))
}

#[tokio::test]
async fn a_step_that_could_not_be_saved_is_carried_when_the_handler_gives_up() {
    let (crashes, world) = (Crashes::new(), World::default());
    let server = next_process(&crashes, &world).await;
    crashes.store.script_times(2, Operation::SaveProgress, AWAY);
    assert_eq!(reply(server.post("/gives-up", "key", "")).await.status, 502);
    let retry = reply(server.post("/gives-up", "key", "")).await;
    assert_eq!(retry.text(), "attempt 2");
    assert_eq!(world.effects(), ["hold"]);
}

#[tokio::test]
async fn nothing_runs_while_what_was_finished_cannot_be_read() {
    let (crashes, world) = (Crashes::new(), World::default());
    let stops = world.stopping_after("hold");
    crashes.stop_at(routes(&stops), "/pay").await;
    let server = next_process(&crashes, &world).await;
    crashes.store.script(Operation::Get, AWAY);
    let refused = reply(server.post("/pay", "key", "")).await;
    // By this attempt nothing was done: it has not begun.
    refused.assert_problem(503, "store-unavailable");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(world.effects(), ["hold"]);
    let retry = reply(server.post("/pay", "key", "")).await;
    assert_eq!(retry.text(), "charge 7 by attempt 3");
    assert_eq!(world.effects(), ["hold", "charge"]);
}

#[tokio::test]
async fn what_no_release_or_a_newer_one_has_written_is_never_taken_for_no_steps() {
    for progress in [&b"\x01\x04hold"[..], &b"\x09 of the next release"[..]] {
        let (crashes, world) = (Crashes::new(), World::default());
        let stopped = crashes
            .stop_at(routes(&world.stopping_after("hold")), "/pay")
            .await;
        stopped.reply.abort();
        // Progress only grows.
        let longer = [progress, b"                  "].concat().leak();
        crashes
            .leave_progress(crashes.store.claimed(), longer)
            .await;
        let server = next_process(&crashes, &world).await;
        for _ in 0..2 {
            let refused = reply(server.post("/pay", "key", "")).await;
            refused.assert_problem(503, "store-unavailable");
        }
        assert_eq!(world.effects(), ["hold"]);
    }
}

#[idempotent(on_abandoned = "retry")]
async fn gated(
    attempt: Attempt,
    State(probe): State<Probe>,
    Extension(world): Extension<World>,
) -> Result<String, StepError<String>> {
    let number = attempt.number();
    let charge = attempt.step("charge", async {
        if number == 1 {
            probe.run_gated().await;
        }
        world.does(&format!("charge by {number}"), number).await
    });
    let charge = charge.await?;
    let receipt = format!("receipt by {number}");
    attempt.step("receipt", world.does(&receipt, ())).await?;
    Ok(format!("charge {charge}"))
}

#[tokio::test]
async fn who_finds_its_claim_lost_stops_and_answers_with_what_is_stored() {
    let (crashes, world) = (Crashes::new(), World::default());
    let stale = crashes.stop_at(routes(&world), "/gated").await;
    let server = next_process(&crashes, &world).await;
    let second = reply(server.post("/gated", "key", "")).await;
    assert_eq!(second.text(), "charge 2");
    stale.process.probe.open();
    stale.reply.await.unwrap().assert_replay_of(&second);
    // A process that was taken for dead cannot be held back from the step it is in; from the next
    // one it is.
    assert_eq!(
        world.effects(),
        ["charge by 2", "receipt by 2", "charge by 1"]
    );
}

#[tokio::test]
async fn who_finds_its_claim_lost_to_somebody_who_still_runs_stops_too() {
    let (crashes, world) = (Crashes::new(), World::default());
    let stale = crashes.stop_at(routes(&world), "/gated").await;
    crashes.take_over(crashes.store.claimed()).await;
    stale.process.probe.open();
    stale.reply.await.unwrap().assert_problem(409, "in-flight");
    assert_eq!(world.effects(), ["charge by 1"]);
}

#[tokio::test]
async fn a_record_that_the_store_has_lost_is_put_back_with_its_steps() {
    let (crashes, world) = (Crashes::new(), World::default());
    let stops = world.stopping_after("hold");
    let process = Local::new(crashes.store.clone(), routes(&stops));
    let first = process.spawn("/pay", "key");
    process.probe.started().await;
    crashes.store.forget_claimed().await;
    process.probe.open();
    let first = first.await.unwrap();
    assert_eq!((first.status, first.text()), (200, "charge 7 by attempt 1"));

    // The same, and cut off.
    let (crashes, world) = (Crashes::new(), World::default());
    let stops = world.stopping_after("charge");
    crashes.store.script(Operation::SaveProgress, Fault::Waits);
    let process = Local::new(crashes.store.clone(), routes(&stops));
    drop(process.spawn("/pay", "key"));
    crashes.store.waiting().await;
    crashes.store.forget_claimed().await;
    crashes.store.proceed();
    process.probe.started().await;
    crashes.clock.advance(crate::support::LEASE);
    let server = next_process(&crashes, &world).await;
    let retry = reply(server.post("/pay", "key", "")).await;
    assert_eq!(retry.text(), "charge 7 by attempt 2");
    assert_eq!(world.effects(), ["hold", "charge"]);
}

const LINES: usize = 8;

#[idempotent(on_abandoned = "retry")]
async fn lines(
    attempt: Attempt,
    State(probe): State<Probe>,
    Extension(world): Extension<World>,
) -> Result<String, StepError<String>> {
    let labels: Vec<String> = (0..LINES).map(|line| format!("line {line}")).collect();
    let steps = labels.iter().enumerate().map(|(at, label)| {
        let line = world.does(label, at);
        attempt.step(label, line)
    });
    let mut sum = 0;
    for line in join_all(steps).await {
        sum += line?;
    }
    world.after("lines", &probe).await;
    Ok(format!("{sum} by attempt {}", attempt.number()))
}

#[tokio::test]
async fn steps_that_run_at_the_same_time_are_saved_one_after_the_other_and_all_kept() {
    let (crashes, world) = (Crashes::new(), World::default());
    let store: &FaultyStore = &crashes.store;
    store.script(Operation::SaveProgress, Fault::Waits);
    let stops = world.stopping_after("lines");
    let process = Local::new(store.clone(), routes(&stops));
    drop(process.spawn("/lines", "key"));
    store.waiting().await;
    // All are done by now, and one save is on its way.
    assert_eq!(world.effects().len(), LINES);
    assert_eq!(store.calls(Operation::SaveProgress), 1);
    store.proceed();
    process.probe.started().await;
    // The second one has carried all the others.
    assert_eq!(store.calls(Operation::SaveProgress), 2);

    crashes.clock.advance(crate::support::LEASE);
    let server = next_process(&crashes, &world).await;
    let retry = reply(server.post("/lines", "key", "")).await;
    assert_eq!(retry.text(), "28 by attempt 2");
    assert_eq!(world.effects().len(), LINES);
    // Read once for all of them.
    assert_eq!(store.calls(Operation::Get), 1);
}

/// Does not wait for what it has begun.
#[idempotent(on_abandoned = "retry")]
async fn hasty(
    attempt: Attempt,
    State(probe): State<Probe>,
    Extension(world): Extension<World>,
) -> Result<String, StepError<String>> {
    if attempt.number() == 1 {
        tokio::select! {
            biased;
            _ = attempt.step("hold", world.does("hold", 1_u64)) => unreachable!("its save hangs"),
            () = std::future::ready(()) => {}
        }
        // It was finished, though the handler has not waited for it: this is its result.
        let hold = attempt.step("hold", world.does("hold", 2_u64)).await?;
        assert_eq!(hold, 1);
        let again = attempt.step("hold", world.does("hold", 3_u64)).await;
        assert!(matches!(again, Err(StepError::Repeated(_))), "{again:?}");
    } else {
        let hold = attempt.step("hold", world.does("hold", 4_u64)).await?;
        assert_eq!(hold, 1);
    }
    attempt.step("charge", world.does("charge", 7_u64)).await?;
    world.after("charge", &probe).await;
    Ok(format!("attempt {}", attempt.number()))
}

#[tokio::test]
async fn a_step_that_is_dropped_while_it_is_saved_can_be_asked_for_again() {
    let (crashes, world) = (Crashes::new(), World::default());
    crashes
        .store
        .script(Operation::SaveProgress, Fault::Swallowed);
    let stops = world.stopping_after("charge");
    crashes.stop_at(routes(&stops), "/hasty").await;
    let server = next_process(&crashes, &world).await;
    let retry = reply(server.post("/hasty", "key", "")).await;
    assert_eq!((retry.status, retry.text()), (200, "attempt 2"));
    assert_eq!(world.effects(), ["hold", "charge"]);
}

/// Each save wrote all steps before it once more: 1,000 of them were 10 MB.
#[tokio::test]
async fn a_save_carries_what_is_new_and_nothing_else() {
    const STEPS: u64 = 1_000;
    let store = FaultyStore::new(MemoryStore::new());
    let idempotency = Idempotency::new(store.clone());
    let run = async |attempt: Attempt| {
        let mut sum = 0;
        for step in 0..STEPS {
            let label = format!("step {step}");
            let done = attempt.step(&label, async { Ok::<_, String>(step) });
            sum += done.await.unwrap();
        }
        Ok::<_, idempotent_runtime::ExecuteError>(sum)
    };
    let done = idempotency.execute_attempt(&Policy::new(), "op", (), "key", "", run);
    let done = done.await.unwrap().into_result().unwrap();
    assert_eq!(done, STEPS * (STEPS - 1) / 2);
    assert_eq!(store.calls(Operation::SaveProgress), 1_000);
    let (bytes, most_of_a_step) = (store.progress_bytes(), 22);
    assert!(bytes < most_of_a_step * 1_000, "{bytes}");
}

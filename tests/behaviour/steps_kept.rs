//! What is kept of a step, and what of it can be given back.

use axum::extract::State;
use axum::routing::{MethodRouter, post};
use axum::{Extension, Router};
use http::StatusCode;
use idempotent_runtime::{Attempt, Release, StepError, idempotent};
use serde::{Deserialize, Serialize, Serializer};

use crate::steps::{Charge, World};
use crate::support::{App, Crashes, Probe, Reply, reply, serve_on};

/// One step, as different releases of the application have it.
macro_rules! release {
    ($name:ident, $result:expr) => {
        #[idempotent(name = "pay", on_abandoned = "retry")]
        async fn $name(
            attempt: Attempt,
            State(probe): State<Probe>,
            Extension(world): Extension<World>,
        ) -> Result<String, StepError<String>> {
            let result = attempt
                .step("charge", world.does("charge", $result))
                .await?;
            world.after("charge", &probe).await;
            Ok(format!("{result:?}"))
        }
    };
}

mod moved {
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    pub(super) struct Charge {
        pub(super) id: u64,
    }
}

mod changed {
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    pub(super) struct Charge {
        pub(super) number: u64,
    }
}

/// Says that it is nothing that JSON has.
#[derive(Debug, Deserialize)]
struct Opaque;

impl Serialize for Opaque {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
}

const MIB: usize = 1024 * 1024;

release!(first, Charge { id: 7 });
release!(moved, moved::Charge { id: 8 });
release!(changed, changed::Charge { number: 8 });
release!(renamed, 8_u64);
release!(too_large, "x".repeat(MIB));
release!(opaque, Opaque);

fn routes(handler: MethodRouter<App>, world: &World) -> Router<App> {
    Router::new()
        .route("/pay", handler)
        .layer(Extension(world.clone()))
}

/// What a retry is answered by the second release, after the first one was cut off behind the step.
async fn after_release(
    crashes: &Crashes,
    world: &World,
    [first, second]: [MethodRouter<App>; 2],
) -> Reply {
    let stops = world.stopping_after("charge");
    crashes.stop_at(routes(first, &stops), "/pay").await;
    let server = serve_on(crashes.store.clone(), routes(second, world)).await;
    reply(server.post("/pay", "key", "")).await
}

#[tokio::test]
async fn a_step_whose_type_has_changed_is_an_error_and_never_runs_again() {
    for second in [post(changed), post(renamed)] {
        let (crashes, world) = (Crashes::new(), World::default());
        let releases = [post(first), second.clone()];
        let refused = after_release(&crashes, &world, releases).await;
        refused.assert_problem(500, "handler-failed");
        assert_eq!(world.effects(), ["charge"]);

        // It was not stored: once the first release is back, the key gets on.
        let server = serve_on(crashes.store.clone(), routes(post(first), &world)).await;
        let answer = reply(server.post("/pay", "key", "")).await;
        assert_eq!((answer.status, answer.text()), (200, "Charge { id: 7 }"));
        assert_eq!(world.effects(), ["charge"]);
    }
}

#[tokio::test]
async fn a_type_may_move_to_another_module() {
    let (crashes, world) = (Crashes::new(), World::default());
    let answer = after_release(&crashes, &world, [post(first), post(moved)]).await;
    assert_eq!((answer.status, answer.text()), (200, "Charge { id: 7 }"));
    assert_eq!(world.effects(), ["charge"]);
}

#[tokio::test]
async fn a_result_that_cannot_be_kept_is_returned_and_its_step_never_runs_again() {
    for handler in [post(too_large), post(opaque)] {
        let (crashes, world) = (Crashes::new(), World::default());
        let stops = world.stopping_after("charge");
        let stopped = crashes
            .stop_at(routes(handler.clone(), &stops), "/pay")
            .await;
        let server = serve_on(crashes.store.clone(), routes(handler, &world)).await;
        let second = reply(server.post("/pay", "key", "")).await;
        second.assert_problem(500, "handler-failed");
        assert_eq!(world.effects(), ["charge"]);

        // The attempt that has run it has the result. It was taken over meanwhile, but the later
        // attempt is abandoned: this answer is the best there is.
        stopped.process.probe.open();
        let late = stopped.reply.await.unwrap();
        assert_eq!((late.status, late.is_replay()), (200, false));
        let retry = reply(server.post("/pay", "key", "")).await;
        assert_eq!((retry.status, retry.is_replay()), (200, true));
        assert_eq!(world.effects(), ["charge"]);
    }
}

#[tokio::test]
async fn who_has_run_a_step_gets_its_result_even_if_it_cannot_be_kept() {
    for (handler, length) in [(post(too_large), MIB + 2), (post(opaque), "Opaque".len())] {
        let (crashes, world) = (Crashes::new(), World::default());
        let server = serve_on(crashes.store.clone(), routes(handler, &world)).await;
        let answer = reply(server.post("/pay", "key", "")).await;
        assert_eq!((answer.status, answer.body.len()), (200, length));
    }
}

#[idempotent(on_abandoned = "retry")]
async fn long_labels(
    attempt: Attempt,
    Extension(world): Extension<World>,
) -> Result<(), StepError<String>> {
    for letter in ["a", "b"] {
        let label = letter.repeat(MIB * 2 / 3);
        attempt.step(&label, world.does(letter, ())).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_step_for_whose_label_there_is_no_room_does_not_begin() {
    let (crashes, world) = (Crashes::new(), World::default());
    let routes = routes(post(long_labels), &world);
    let server = serve_on(crashes.store.clone(), routes).await;
    let answer = reply(server.post("/pay", "key", "")).await;
    answer.assert_problem(500, "handler-failed");
    assert_eq!(world.effects(), ["a"]);
}

#[idempotent(on_abandoned = "retry", replay_errors = "4xx")]
async fn unreachable_at_first(
    attempt: Attempt,
    Extension(world): Extension<World>,
) -> Result<String, StatusCode> {
    let away = |_| StatusCode::BAD_GATEWAY;
    let charge = attempt.step("charge", world.does("charge", 7_u64));
    let charge = charge.await.map_err(away)?;
    if attempt.number() == 1 {
        let receipt = attempt.step("receipt", world.fails("receipt"));
        receipt.await.map_err(away)?;
    }
    Ok(format!("charge {charge} by attempt {}", attempt.number()))
}

#[tokio::test]
async fn an_error_that_is_not_stored_does_not_free_the_key_after_a_finished_step() {
    let (crashes, world) = (Crashes::new(), World::default());
    let routes = routes(post(unreachable_at_first), &world);
    let server = serve_on(crashes.store.clone(), routes).await;
    assert_eq!(reply(server.post("/pay", "key", "")).await.status, 502);
    let retry = reply(server.post("/pay", "key", "")).await;
    assert_eq!(retry.text(), "charge 7 by attempt 2");
    assert_eq!(world.effects(), ["charge", "receipt failed"]);
    reply(server.post("/pay", "key", ""))
        .await
        .assert_replay_of(&retry);
}

#[idempotent]
async fn undone(
    attempt: Attempt,
    Extension(world): Extension<World>,
) -> Result<String, Release<&'static str>> {
    let hold = attempt.step("hold", world.does("hold", 1_u64)).await;
    let _ = (hold, world.does("undo", ()).await);
    Err(Release("sold out"))
}

#[tokio::test]
async fn a_release_forgets_the_steps_since_their_effects_were_undone() {
    let (crashes, world) = (Crashes::new(), World::default());
    let server = serve_on(crashes.store.clone(), routes(post(undone), &world)).await;
    for _ in 0..2 {
        assert_eq!(
            reply(server.post("/pay", "key", "")).await.text(),
            "sold out"
        );
    }
    assert_eq!(world.effects(), ["hold", "undo", "hold", "undo"]);
}

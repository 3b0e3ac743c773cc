//! A handler that works in steps gets on where the attempt before it was cut off.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::post;
use axum::{Extension, Router};
use idempotent_runtime::{Attempt, StepError, idempotent};
use serde::{Deserialize, Serialize};

use crate::support::{App, Crashes, Operation, Probe, reply, serve, serve_on};

/// Where effects happen, and where handlers stop.
#[derive(Clone, Default)]
pub struct World {
    effects: Arc<Mutex<Vec<String>>>,
    stops_after: Option<&'static str>,
}

impl World {
    /// The same world, as a process sees it whose handlers stop behind this step.
    pub fn stopping_after(&self, step: &'static str) -> Self {
        Self {
            effects: Arc::clone(&self.effects),
            stops_after: Some(step),
        }
    }

    /// The effect of a step.
    pub async fn does<T>(&self, step: &str, result: T) -> Result<T, String> {
        self.effects.lock().unwrap().push(step.to_owned());
        Ok(result)
    }

    pub async fn fails(&self, step: &str) -> Result<u64, String> {
        self.effects.lock().unwrap().push(format!("{step} failed"));
        Err("the network is down".to_owned())
    }

    /// Where the handler is between two steps.
    pub async fn after(&self, step: &str, probe: &Probe) {
        if self.stops_after == Some(step) {
            probe.run_gated().await;
        }
    }

    pub fn effects(&self) -> Vec<String> {
        self.effects.lock().unwrap().clone()
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Charge {
    pub id: u64,
}

#[idempotent(on_abandoned = "retry")]
async fn pay(
    attempt: Attempt,
    State(probe): State<Probe>,
    Extension(world): Extension<World>,
) -> Result<String, StepError<String>> {
    let hold: String = attempt
        .step("hold", world.does("hold", "hold 1".to_owned()))
        .await?;
    world.after("hold", &probe).await;
    let charge = attempt
        .step("charge", world.does("charge", Charge { id: 7 }))
        .await?;
    world.after("charge", &probe).await;
    attempt.step("receipt", world.does("receipt", ())).await?;
    world.after("receipt", &probe).await;
    Ok(format!(
        "{hold}, charge {}, attempt {}",
        charge.id,
        attempt.number()
    ))
}

fn routes(world: &World) -> Router<App> {
    Router::new()
        .route("/pay", post(pay))
        .layer(Extension(world.clone()))
}

const STEPS: [&str; 3] = ["hold", "charge", "receipt"];

#[tokio::test]
async fn each_step_has_its_effect_once_wherever_the_handler_is_cut_off() {
    for last in STEPS {
        let (crashes, world) = (Crashes::new(), World::default());
        crashes
            .stop_at(routes(&world.stopping_after(last)), "/pay")
            .await;
        let server = serve_on(crashes.store.clone(), routes(&world)).await;
        let second = reply(server.post("/pay", "key", "")).await;
        assert_eq!(
            (second.text(), second.is_replay()),
            ("hold 1, charge 7, attempt 2", false)
        );
        assert_eq!(world.effects(), STEPS, "cut off after {last}");
        reply(server.post("/pay", "key", ""))
            .await
            .assert_replay_of(&second);
    }
}

#[tokio::test]
async fn a_handler_that_is_cut_off_again_and_again_gets_on() {
    let (crashes, world) = (Crashes::new(), World::default());
    for (done, last) in STEPS.into_iter().enumerate() {
        crashes
            .stop_at(routes(&world.stopping_after(last)), "/pay")
            .await;
        assert_eq!(world.effects(), STEPS[..=done]);
    }
    let server = serve_on(crashes.store.clone(), routes(&world)).await;
    let last = reply(server.post("/pay", "key", "")).await;
    assert_eq!(last.text(), "hold 1, charge 7, attempt 4");
    assert_eq!(world.effects(), STEPS);
}

#[tokio::test]
async fn a_first_attempt_reads_nothing_and_a_later_one_reads_once() {
    let (crashes, world) = (Crashes::new(), World::default());
    let store = &crashes.store;
    crashes
        .stop_at(routes(&world.stopping_after("charge")), "/pay")
        .await;
    assert_eq!(store.calls(Operation::Get), 0);
    assert_eq!(store.calls(Operation::SaveProgress), 2);
    let server = serve_on(store.clone(), routes(&world)).await;
    reply(server.post("/pay", "key", "")).await;
    assert_eq!(store.calls(Operation::Get), 1);
    assert_eq!(store.calls(Operation::SaveProgress), 3);
    // A handler that keeps no steps asks for none.
    let routes = Router::new().route("/", post(no_steps));
    let server = serve_on(store.clone(), routes).await;
    reply(server.post("/", "key", "")).await;
    assert_eq!(store.calls(Operation::Get), 1);
}

#[idempotent]
async fn no_steps(attempt: Attempt) -> String {
    attempt.number().to_string()
}

#[idempotent(on_abandoned = "retry")]
async fn fails_at_first(
    attempt: Attempt,
    State(probe): State<Probe>,
    Extension(world): Extension<World>,
) -> Result<String, StepError<String>> {
    attempt.step("hold", world.does("hold", 1_u64)).await?;
    if attempt.number() == 1 {
        // Tried twice: the label of a step that failed is free.
        for _ in 0..2 {
            let failed = attempt.step("charge", world.fails("charge")).await;
            assert!(matches!(failed, Err(StepError::Step(_))), "{failed:?}");
        }
        world.after("charge", &probe).await;
    }
    let charge = attempt.step("charge", world.does("charge", 7_u64)).await?;
    Ok(format!("charge {charge}"))
}

#[tokio::test]
async fn a_failed_step_is_not_kept_and_may_be_tried_again() {
    let (crashes, world) = (Crashes::new(), World::default());
    let routes = |world: &World| {
        Router::new()
            .route("/", post(fails_at_first))
            .layer(Extension(world.clone()))
    };
    crashes
        .stop_at(routes(&world.stopping_after("charge")), "/")
        .await;
    let server = serve_on(crashes.store.clone(), routes(&world)).await;
    let second = reply(server.post("/", "key", "")).await;
    assert_eq!((second.status, second.text()), (200, "charge 7"));
    assert_eq!(
        world.effects(),
        ["hold", "charge failed", "charge failed", "charge"]
    );
}

#[idempotent]
async fn twice(
    attempt: Attempt,
    Extension(world): Extension<World>,
) -> Result<(), StepError<String>> {
    for _ in 0..2 {
        attempt.step("line", world.does("line", ())).await?;
    }
    Ok(())
}

#[idempotent]
async fn a_label_each(
    attempt: Attempt,
    Extension(world): Extension<World>,
) -> Result<(), StepError<String>> {
    for line in 1..=2 {
        let label = format!("line {line}");
        attempt.step(&label, world.does(&label, ())).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_label_that_is_used_twice_is_an_error() {
    let world = World::default();
    let routes = Router::new()
        .route("/twice", post(twice))
        .route("/each", post(a_label_each))
        .layer(Extension(world.clone()));
    let server = serve(routes).await;
    let first = reply(server.post("/twice", "key", "")).await;
    first.assert_problem(500, "handler-failed");
    assert_eq!(world.effects(), ["line"]);
    // The first one has happened, so this is the answer.
    reply(server.post("/twice", "key", ""))
        .await
        .assert_replay_of(&first);

    let each = reply(server.post("/each", "key", "")).await;
    assert_eq!(each.status, 200);
    assert_eq!(world.effects(), ["line", "line 1", "line 2"]);
}

#[idempotent(required = false)]
async fn optional(
    attempt: Attempt,
    Extension(world): Extension<World>,
) -> Result<String, StepError<String>> {
    let run = attempt.step("a", world.does("a", 1_u64)).await?;
    Ok(format!("{run} {}", attempt.is_protected()))
}

#[tokio::test]
async fn without_protection_a_step_just_runs() {
    let world = World::default();
    let routes = Router::new()
        .route("/", post(optional))
        .layer(Extension(world.clone()));
    let server = serve(routes).await;
    for _ in 0..2 {
        let answer = reply(server.post_without_key("/")).await;
        assert_eq!(answer.text(), "1 false");
    }
    assert_eq!(world.effects(), ["a", "a"]);
    assert!(server.stored_nothing());
}

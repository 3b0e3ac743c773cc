//! A recovery function knows how far the attempt got that it is asked about.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::post;
use axum::{Extension, Router};
use idempotent_runtime::store::StoreErrorKind;
use idempotent_runtime::{
    Abandoned, Attempt, OnStoreFailure, Recovery, StepError, StoredResponse, idempotent,
};

use crate::steps::{Charge, World};
use crate::support::{
    App, Crashes, Fault, Operation, Probe, Server, builder_on, reply, serve_with,
};

/// What recovery functions were told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

#[idempotent(on_abandoned = look)]
async fn pay(
    attempt: Attempt,
    State(probe): State<Probe>,
    Extension(world): Extension<World>,
) -> Result<String, StepError<String>> {
    attempt.step("hold", world.does("hold", 1_u64)).await?;
    world.after("hold", &probe).await;
    let charge = attempt
        .step("charge", world.does("charge", Charge { id: 7 }))
        .await?;
    world.after("charge", &probe).await;
    Ok(format!(
        "charge {} by attempt {}",
        charge.id,
        attempt.number()
    ))
}

/// A charge is an answer; a hold alone is not, and the rest is to be done.
async fn look(abandoned: Abandoned) -> Recovery {
    let told: &Told = abandoned.extension().unwrap();
    let steps: Vec<&str> = abandoned.steps().collect();
    let wrong = abandoned.step::<String>("hold").unwrap_err();
    told.0
        .lock()
        .unwrap()
        .push(format!("{steps:?}, {}: {wrong}", abandoned.attempt()));
    assert_eq!(abandoned.step("hold").unwrap(), Some(1_u64));
    match abandoned.step::<Charge>("charge").unwrap() {
        Some(charge) => Recovery::Replay(StoredResponse::new(
            http::StatusCode::CREATED,
            http::HeaderMap::new(),
            format!("found charge {}", charge.id),
        )),
        None => Recovery::Retry,
    }
}

fn routes(world: &World) -> Router<App> {
    Router::new()
        .route("/pay", post(pay))
        .layer(Extension(world.clone()))
}

async fn next_process(crashes: &Crashes, world: &World, choice: OnStoreFailure) -> (Server, Told) {
    let told = Told::default();
    let builder = builder_on(crashes.store.clone())
        .on_store_failure(choice)
        .extension(told.clone());
    (serve_with(builder, routes(world)).await, told)
}

#[tokio::test]
async fn a_recovery_function_sees_the_finished_steps() {
    let wrong = "step `hold` has a stored result of type `u64`, but `String` was requested";
    for (last, steps, status, answer) in [
        ("hold", r#"["hold"]"#, 200, "charge 7 by attempt 2"),
        ("charge", r#"["hold", "charge"]"#, 201, "found charge 7"),
    ] {
        let (crashes, world) = (Crashes::new(), World::default());
        let stops = world.stopping_after(last);
        crashes.stop_at(routes(&stops), "/pay").await;
        let (server, told) = next_process(&crashes, &world, OnStoreFailure::FailClosed).await;
        let found = reply(server.post("/pay", "key", "")).await;
        assert_eq!((found.status, found.text()), (status, answer));
        assert_eq!(*told.0.lock().unwrap(), [format!("{steps}, 1: {wrong}")]);
        assert_eq!(world.effects(), ["hold", "charge"]);
    }
}

#[tokio::test]
async fn a_recovery_function_is_not_asked_while_the_steps_cannot_be_read() {
    for choice in [OnStoreFailure::FailClosed, OnStoreFailure::FailOpen] {
        for kind in [StoreErrorKind::Unavailable, StoreErrorKind::Corrupt] {
            let (crashes, world) = (Crashes::new(), World::default());
            let stops = world.stopping_after("hold");
            crashes.stop_at(routes(&stops), "/pay").await;
            let (server, told) = next_process(&crashes, &world, choice).await;
            crashes.store.script(Operation::Get, Fault::Refused(kind));
            let refused = reply(server.post("/pay", "key", "")).await;
            refused.assert_problem(503, "store-unavailable");
            assert!(told.0.lock().unwrap().is_empty());
            assert_eq!(world.effects(), ["hold"]);
            let found = reply(server.post("/pay", "key", "")).await;
            assert_eq!(found.text(), "charge 7 by attempt 2");
        }
    }
}

#[tokio::test]
async fn a_recovery_function_is_not_asked_about_steps_of_a_newer_release() {
    let (crashes, world) = (Crashes::new(), World::default());
    let stops = world.stopping_after("hold");
    let stopped = crashes.stop_at(routes(&stops), "/pay").await;
    stopped.reply.abort();
    let key = crashes.store.claimed();
    crashes
        .leave_progress(key, b"\x09 what the next release writes")
        .await;
    let (server, told) = next_process(&crashes, &world, OnStoreFailure::FailClosed).await;
    let refused = reply(server.post("/pay", "key", "")).await;
    refused.assert_problem(503, "store-unavailable");
    assert!(told.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn who_was_taken_over_before_the_steps_were_read_is_looked_at_again() {
    let (crashes, world) = (Crashes::new(), World::default());
    let stops = world.stopping_after("hold");
    crashes.stop_at(routes(&stops), "/pay").await;
    let (server, told) = next_process(&crashes, &world, OnStoreFailure::FailClosed).await;
    crashes.store.script(Operation::Get, Fault::Waits);
    let asking = server.spawn(server.post("/pay", "key", ""));
    crashes.store.waiting().await;
    crashes.take_over(crashes.store.claimed()).await;
    crashes.store.proceed();
    asking.await.unwrap().assert_problem(409, "in-flight");
    assert!(told.0.lock().unwrap().is_empty());
}

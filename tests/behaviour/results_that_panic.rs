//! A result of a step or a function that panics when it is serialized: its effect has happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{
    Attempt, ExecuteError, ExecuteErrorKind, Idempotency, OnAbandoned, Policy, idempotent,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::support::{Probe, reply, serve};

#[derive(Debug)]
struct Receipt;

impl Serialize for Receipt {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("a receipt that panics")
    }
}

impl<'de> Deserialize<'de> for Receipt {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

/// The control: what cannot be serialized.
#[derive(Debug)]
struct Unserializable;

impl Serialize for Unserializable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("no"))
    }
}

impl<'de> Deserialize<'de> for Unserializable {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

static RETRY: Policy = Policy::new().on_abandoned(OnAbandoned::Retry);

async fn charges_of<T: Serialize + serde::de::DeserializeOwned + Send + 'static>(
    receipt: fn() -> T,
) -> usize {
    let idempotency = Idempotency::builder(MemoryStore::new()).build();
    let charges = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let (idempotency, charges) = (idempotency.clone(), Arc::clone(&charges));
        let run = tokio::spawn(async move {
            let run = move |attempt: Attempt| async move {
                let charge = async {
                    charges.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, ExecuteError>(receipt())
                };
                let step = attempt.step("charge", charge).await;
                assert!(step.is_ok(), "it crashes here, for a retry");
                assert!(attempt.number() > 2, "it crashes here, for a retry");
                Ok::<_, ExecuteError>(1)
            };
            let done = idempotency.execute_attempt(&RETRY, "pay", (), "key", &1, run);
            done.await
                .map_err(|error| ExecuteError::kind(&error) == ExecuteErrorKind::InvalidKey)
        });
        drop(run.await);
    }
    charges.load(Ordering::SeqCst)
}

/// "What cannot be kept leaves that the step was finished: a later attempt must not run it."
#[tokio::test]
async fn a_step_whose_result_panics_is_not_run_again_by_a_retry() {
    assert_eq!(charges_of(|| Unserializable).await, 1, "the control");
    assert_eq!(charges_of(|| Receipt).await, 1);
}

#[idempotent(replay_errors = "4xx")]
async fn pay(attempt: Attempt, State(probe): State<Probe>) -> String {
    let charge = async {
        probe.run();
        Ok::<_, ExecuteError>(Receipt)
    };
    attempt.step("charge", charge).await.unwrap();
    "paid".to_owned()
}

#[idempotent(replay_errors = "4xx")]
async fn pay_and_panic(attempt: Attempt, State(probe): State<Probe>) -> String {
    let charge = async {
        probe.run();
        Ok::<_, ExecuteError>(1)
    };
    attempt.step("charge", charge).await.unwrap();
    panic!("after the step")
}

/// A finished step says that something happened: the key is not free.
#[tokio::test]
async fn a_handler_that_panics_with_its_steps_result_does_not_free_the_key() {
    let routes = Router::new()
        .route("/pay", post(pay))
        .route("/control", post(pay_and_panic));
    let server = serve(routes).await;
    for _ in 0..3 {
        reply(server.post("/control", "control", "")).await;
    }
    assert_eq!(server.probe.runs(), 1, "the control");
    for _ in 0..3 {
        reply(server.post("/pay", "key", "")).await;
    }
    assert_eq!(server.probe.runs(), 2);
}

async fn runs_of<T: Serialize + serde::de::DeserializeOwned + Send + 'static>(
    receipt: fn() -> T,
) -> usize {
    let idempotency = Idempotency::builder(MemoryStore::new()).build();
    let runs = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let (idempotency, runs) = (idempotency.clone(), Arc::clone(&runs));
        let run = tokio::spawn(async move {
            let run = move || async move {
                runs.fetch_add(1, Ordering::SeqCst);
                Ok::<_, ExecuteError>(receipt())
            };
            let done = idempotency.execute(&RETRY, "pay", (), "key", &1, run);
            done.await.map(drop)
        });
        drop(run.await);
    }
    runs.load(Ordering::SeqCst)
}

/// The function has returned `Ok`: nothing has crashed.
#[tokio::test]
async fn a_function_whose_result_panics_is_not_run_again() {
    assert_eq!(runs_of(|| Unserializable).await, 1, "the control");
    assert_eq!(runs_of(|| Receipt).await, 1);
}

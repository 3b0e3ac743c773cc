//! Waiters for responses that live for less than the longest pause between two looks at a record.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::idempotent;
use idempotent_runtime::store::memory::MemoryStore;
use tokio::time::{sleep, timeout};

use crate::support::{App, FaultyStore, Local, Probe, builder_on};

#[idempotent(name = "soon", ttl = "300ms", in_flight = "wait", wait = "1h")]
async fn soon_gone(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

/// A store without notifications is looked at each second. What a duplicate has waited for is gone by then, and it runs.
#[tokio::test(start_paused = true)]
async fn waiter_for_an_answer_of_a_short_life_does_not_run() {
    let store = FaultyStore::new(MemoryStore::new()).without_notifications();
    let routes = || -> Router<App> { Router::new().route("/soon", post(soon_gone)) };
    let (owner, other) = (
        Local::with(builder_on(store.clone()), routes()),
        Local::with(builder_on(store.clone()), routes()),
    );
    let mut runs = 0;
    for key in ["1", "2", "3", "4", "5", "6", "7", "8"] {
        let first = owner.spawn("/soon", key);
        owner.probe.started().await;
        let waiter = other.spawn("/soon", key);
        sleep(Duration::from_secs(10)).await;
        owner.probe.open();
        let _first = first.await.unwrap();
        other.probe.open();
        let _second = timeout(Duration::from_secs(60), waiter)
            .await
            .unwrap()
            .unwrap();
        runs = other.probe.runs();
    }
    assert_eq!(runs, 0, "second charges, of 8 keys");
}

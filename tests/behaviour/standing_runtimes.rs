//! A runtime that is there, and stands still.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::StoreErrorKind;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{ExecuteError, Execution, Idempotency, ManualClock, Policy, idempotent};
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use crate::support::{Fault, FaultyStore, Local, Operation, Probe};

static POLICY: Policy = Policy::new().ttl(Duration::from_secs(1));

async fn once(idempotency: &Idempotency, key: &str) {
    let run = || async { Ok::<_, ExecuteError>(1) };
    let executed = idempotency.execute(&POLICY, "job", (), key, &1, run).await;
    assert_eq!(executed.unwrap(), Execution::Executed(1));
}

fn runtime(is_paused: bool) -> Runtime {
    let mut runtime = Builder::new_current_thread();
    runtime.enable_all().start_paused(is_paused);
    runtime.build().unwrap()
}

/// As one is that a call at startup blocks on. What is done periodically was left to it.
#[test]
fn another_runtime_looks_out_for_one_that_stands_still() {
    let standing = runtime(false);
    let clock = Arc::new(ManualClock::new());
    let store = FaultyStore::certain(&clock);
    let idempotency = Idempotency::builder(store.clone())
        .abandoned_check_interval(Duration::from_secs(1))
        .build();
    standing.block_on(once(&idempotency, "at startup"));
    clock.advance(Duration::from_secs(60 * 60));
    runtime(true).block_on(async {
        for n in 0..200 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            clock.advance(Duration::from_secs(1));
            once(&idempotency, &format!("key-{n}")).await;
        }
    });
    // A minute and a half after the runtime has stood still at the latest, and then each second.
    let looks = store.calls(Operation::List);
    assert!(looks > 100, "{looks}");
    drop(standing);
}

/// A claim that it has to give up, because a call at startup was refused.
#[test]
fn another_runtime_gives_up_what_is_left_to_one_that_stands_still() {
    let standing = runtime(false);
    let store = FaultyStore::new(MemoryStore::new());
    let idempotency = Idempotency::builder(store.clone())
        .secret_check(false)
        .build();
    store.script_times(2, Operation::Claim, Fault::ReplyLost);
    let unavailable = Fault::Refused(StoreErrorKind::Unavailable);
    store.script(Operation::Release, unavailable);
    standing.block_on(async {
        let run = || async { Ok::<_, ExecuteError>(1) };
        let executed = idempotency.execute(&POLICY, "job", (), "at startup", &1, run);
        assert!(executed.await.is_err());
        while store.calls(Operation::Release) == 0 {
            tokio::task::yield_now().await;
        }
        // The call has ended, too.
        tokio::task::yield_now().await;
    });
    runtime(true).block_on(async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        once(&idempotency, "another").await;
        let released = async {
            while store.calls(Operation::Release) == 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            once(&idempotency, "at startup").await;
        };
        let released = tokio::time::timeout(Duration::from_secs(60), released);
        released.await.expect("it is given up");
    });
    drop(standing);
}

#[idempotent(ttl = "5s", in_flight = "wait", wait = "1h")]
async fn pay(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

/// One runtime looked at the record for the waiters of all. They would have looked when the lease had ended, and found no record any
/// more: they ran.
#[test]
fn waiter_does_not_depend_on_a_runtime_that_stands_still() {
    let clock = Arc::new(ManualClock::new());
    let store = FaultyStore::certain(&clock).without_notifications();
    let local = Local::new(store.clone(), Router::new().route("/", post(pay)));
    let (standing, moving) = (runtime(true), runtime(true));
    let first = {
        let _entered = moving.enter();
        local.spawn("/", "key")
    };
    moving.block_on(local.probe.started());
    standing.block_on(async {
        local.spawn("/", "key");
        // Until the record is looked at for it.
        while store.calls(Operation::Get) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    });
    moving.block_on(async {
        let waiter = local.spawn("/", "key");
        sleep(Duration::from_secs(3)).await;
        local.probe.open();
        let first = first.await.unwrap();
        sleep(Duration::from_secs(4)).await;
        clock.advance(Duration::from_secs(6));
        local.probe.open();
        waiter.await.unwrap().assert_replay_of(&first);
    });
    assert_eq!(local.probe.runs(), 1);
}

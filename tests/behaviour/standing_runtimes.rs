//! A runtime that is there, and stands still.

use std::sync::Arc;
use std::time::Duration;

use idempotent_runtime::{ExecuteError, Execution, Idempotency, ManualClock, Policy};

use tokio::runtime::{Builder, Runtime};

use crate::support::{FaultyStore, Operation};

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

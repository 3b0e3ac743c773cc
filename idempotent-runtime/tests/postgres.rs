//! The PostgreSQL store on a real server.

#![expect(
    clippy::unwrap_used,
    reason = "in the helpers too, which clippy does not take for tests"
)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idempotent_runtime::RecordKey;
use idempotent_runtime::store::conformance::{self, RecordLock, TestBed, Timing};
use idempotent_runtime::store::{Acquired, Claim, ReplayCache, Store};
use sqlx::{AssertSqlSafe, Postgres, Transaction};
use tokio::sync::Barrier;

use insistent::InsistentStore;
use support::{Scratch, pool, request, rival};

#[path = "support/postgres_calls.rs"]
mod calls;
#[path = "postgres/commits.rs"]
mod commits;
#[path = "postgres/cost.rs"]
mod cost;
#[path = "postgres/faults.rs"]
mod faults;
#[path = "support/postgres_freezer.rs"]
mod freezer;
#[path = "postgres/group_faults.rs"]
mod group_faults;
#[path = "postgres/groups.rs"]
mod groups;
#[path = "postgres/hints.rs"]
mod hints;
#[path = "support/insistent.rs"]
mod insistent;
#[path = "postgres/interleavings.rs"]
mod interleavings;
#[path = "postgres/lanes.rs"]
mod lanes;
#[path = "postgres/marks.rs"]
mod marks;
#[path = "support/postgres_own_server.rs"]
mod own_server;
#[path = "postgres/pgbouncer.rs"]
mod pgbouncer;
#[path = "support/postgres_proxy.rs"]
mod proxy;
#[path = "support/records.rs"]
mod records;
#[path = "postgres/refusals.rs"]
mod refusals;
#[path = "postgres/schema.rs"]
mod schema;
#[path = "postgres/sessions.rs"]
mod sessions;
#[path = "postgres/silence.rs"]
mod silence;
#[path = "support/postgres.rs"]
mod support;
#[path = "support/postgres_till.rs"]
mod till;
#[path = "postgres/waiting.rs"]
mod waiting;
#[path = "support/watched.rs"]
mod watched;

struct Bed<'a> {
    store: Arc<dyn Store>,
    scratch: &'a Scratch,
}

/// A transaction of another client.
struct Lock(Transaction<'static, Postgres>);

#[async_trait]
impl RecordLock for Lock {
    async fn unlock(self: Box<Self>) {
        self.0.rollback().await.unwrap();
    }
}

#[async_trait]
impl TestBed for Bed<'_> {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }

    async fn lock_record(&self, key: &RecordKey) -> Option<Box<dyn RecordLock>> {
        let mut transaction = self.scratch.admin.begin().await.unwrap();
        let lock = format!(
            r#"SELECT 1 FROM "{}" WHERE key = $1 FOR UPDATE"#,
            self.scratch.table
        );
        sqlx::query(AssertSqlSafe(lock))
            .bind(&key.as_bytes()[..])
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        Some(Box::new(Lock(transaction)))
    }

    fn timing(&self) -> Timing {
        Timing::real(Duration::from_millis(300))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_store_is_conformant() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    // With the store's own limits.
    let store = Arc::new(scratch.store_on(pool(&scratch.server, 16)));
    let bed = Bed {
        store,
        scratch: &scratch,
    };
    let report = conformance::run(&bed).await;
    scratch.clean_up().await;
    report.assert_conformant();
    assert!(report.cases().len() > 40, "{report}");
}

/// Where every replay that the kit sees is one from the cache.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_store_behind_a_replay_cache_is_conformant() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store_on(pool(&scratch.server, 16));
    let store = Arc::new(InsistentStore(ReplayCache::new().in_front_of(store)));
    let bed = Bed {
        store,
        scratch: &scratch,
    };
    let report = conformance::run(&bed).await;
    scratch.clean_up().await;
    report.assert_conformant();
}

const PROCESSES: u32 = 16;
const ROUNDS: usize = 25;

/// Each with a pool of its own, as processes have.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_sixteen_processes_acquires() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let stores: Vec<_> = (0..PROCESSES).map(|_| Arc::new(scratch.store(1))).collect();
    for _ in 0..ROUNDS {
        let first = request();
        let start = Arc::new(Barrier::new(stores.len()));
        let claims = stores.iter().map(|store| {
            let (store, start, request) = (Arc::clone(store), Arc::clone(&start), rival(&first));
            tokio::spawn(async move {
                start.wait().await;
                store.claim(&request).await.unwrap()
            })
        });
        let mut acquired = 0;
        for claim in claims.collect::<Vec<_>>() {
            match claim.await.unwrap() {
                Claim::Acquired(Acquired { attempt: 1, .. }) => acquired += 1,
                Claim::InFlight { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(acquired, 1);
    }
    scratch.clean_up().await;
}

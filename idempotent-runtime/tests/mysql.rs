//! The MySQL store on a real server.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "in the helpers too, which clippy does not take for tests"
)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idempotent_runtime::RecordKey;
use idempotent_runtime::store::conformance::{self, RecordLock, TestBed, Timing};
use idempotent_runtime::store::{Acquired, Claim, Store};
use sqlx::{MySql, Transaction};
use tokio::sync::Barrier;

use support::{Scratch, request, rival};

#[path = "mysql/commits.rs"]
mod commits;
#[path = "mysql/cost.rs"]
mod cost;
#[path = "mysql/faults.rs"]
mod faults;
#[path = "mysql/lanes.rs"]
mod lanes;
#[path = "mysql/locks.rs"]
mod locks;
#[path = "support/mysql_own_server.rs"]
mod own_server;
#[path = "support/mysql_proxy.rs"]
mod proxy;
#[path = "support/records.rs"]
mod records;
#[path = "mysql/refusals.rs"]
mod refusals;
#[path = "mysql/schema.rs"]
mod schema;
#[path = "support/mysql.rs"]
mod support;
#[path = "mysql/transactions.rs"]
mod transactions;

struct Bed<'a> {
    store: Arc<dyn Store>,
    scratch: &'a Scratch,
}

/// An open transaction that has locked a row.
struct Lock(Transaction<'static, MySql>);

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
        let lock = format!(
            "SELECT 1 FROM {{table}} WHERE record_key = X'{}' FOR UPDATE",
            key.to_hex()
        );
        Some(Box::new(Lock(self.scratch.hold(&lock).await)))
    }

    fn timing(&self) -> Timing {
        Timing::real(Duration::from_millis(400))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mysql_store_is_conformant() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = Arc::new(scratch.store(16));
    let bed = Bed {
        store,
        scratch: &scratch,
    };
    let report = conformance::run(&bed).await;
    scratch.clean_up().await;
    report.assert_conformant();
    assert!(report.cases().len() > 40, "{report}");
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

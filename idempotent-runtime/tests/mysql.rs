//! The MySQL store on a real server.

#![expect(
    clippy::unwrap_used,
    reason = "in the helpers too, which clippy does not take for tests"
)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idempotent_runtime::store::conformance::{self, TestBed, Timing};
use idempotent_runtime::store::{Claim, Store};
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

struct Bed(Arc<dyn Store>);

#[async_trait]
impl TestBed for Bed {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.0)
    }

    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
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
    let report = conformance::run(&Bed(Arc::new(scratch.store(16)))).await;
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
                Claim::Acquired { attempt: 1, .. } => acquired += 1,
                Claim::InFlight { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(acquired, 1);
    }
    scratch.clean_up().await;
}

//! The MySQL store on a real server.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "in the helpers too, which clippy does not take for tests"
)]

use std::sync::Arc;
use std::time::Duration;

use idempotent_runtime::store::conformance;

use sql::{Bed, sql_store_tests};
use support::Scratch;

#[path = "mysql/checks.rs"]
mod checks;
#[path = "support/claims.rs"]
mod claims;
#[path = "mysql/commits.rs"]
mod commits;
#[path = "mysql/cost.rs"]
mod cost;
#[path = "mysql/faults.rs"]
mod faults;
#[path = "../../xtask/src/free_port.rs"]
mod free_port;
#[path = "mysql/handler_sessions.rs"]
mod handler_sessions;
#[path = "mysql/lanes.rs"]
mod lanes;
#[path = "mysql/locks.rs"]
mod locks;
#[path = "support/mysql_own_server.rs"]
mod own_server;
#[path = "support/mysql_proxy.rs"]
mod proxy;
#[path = "mysql/refusals.rs"]
mod refusals;
#[path = "mysql/runtimes.rs"]
mod runtimes;
#[path = "mysql/schema.rs"]
mod schema;
#[path = "support/servers.rs"]
mod servers;
#[path = "mysql/sessions.rs"]
mod sessions;
#[path = "support/sql.rs"]
mod sql;
#[path = "support/mysql.rs"]
mod support;
#[path = "mysql/transactions.rs"]
mod transactions;

/// In real time.
const LEASE: Duration = Duration::from_millis(400);

sql_store_tests!(Scratch: one_of_sixteen_processes_acquires);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mysql_store_is_conformant() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = Arc::new(scratch.store(16));
    let bed = Bed {
        store,
        locker: Some(&scratch),
        lease: LEASE,
    };
    let report = conformance::run(&bed).await;
    scratch.clean_up().await;
    report.assert_conformant();
    assert!(report.cases().len() > 40, "{report}");
}

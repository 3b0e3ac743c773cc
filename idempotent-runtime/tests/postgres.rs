//! The PostgreSQL store on a real server.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "in the helpers too, which clippy does not take for tests"
)]

use std::sync::Arc;
use std::time::Duration;

use idempotent_runtime::store::{ReplayCache, conformance};

use insistent::InsistentStore;
use sql::{Bed, sql_store_tests};
use support::{Scratch, pool};

#[path = "support/postgres_calls.rs"]
mod calls;
#[path = "postgres/checks.rs"]
mod checks;
#[path = "support/claims.rs"]
mod claims;
#[path = "postgres/commits.rs"]
mod commits;
#[path = "postgres/cost.rs"]
mod cost;
#[path = "postgres/faults.rs"]
mod faults;
#[path = "../../xtask/src/free_port.rs"]
mod free_port;
#[path = "support/postgres_freezer.rs"]
mod freezer;
#[path = "postgres/group_faults.rs"]
mod group_faults;
#[path = "postgres/groups.rs"]
mod groups;
#[path = "support/insistent.rs"]
mod insistent;
#[path = "postgres/interleavings.rs"]
mod interleavings;
#[path = "postgres/lanes.rs"]
mod lanes;
#[path = "support/postgres_losses.rs"]
mod losses;
#[path = "postgres/lost_replies.rs"]
mod lost_replies;
#[path = "postgres/marks.rs"]
mod marks;
#[path = "postgres/notifications.rs"]
mod notifications;
#[path = "support/postgres_own_server.rs"]
mod own_server;
#[path = "postgres/paths.rs"]
mod paths;
#[path = "postgres/pgbouncer.rs"]
mod pgbouncer;
#[path = "support/postgres_proxy.rs"]
mod proxy;
#[path = "postgres/refusals.rs"]
mod refusals;
#[path = "postgres/runtimes.rs"]
mod runtimes;
#[path = "postgres/schema.rs"]
mod schema;
#[path = "support/servers.rs"]
mod servers;
#[path = "postgres/sessions.rs"]
mod sessions;
#[path = "postgres/silence.rs"]
mod silence;
#[path = "support/sql.rs"]
mod sql;
#[path = "support/postgres.rs"]
mod support;
#[path = "support/postgres_till.rs"]
mod till;
#[path = "postgres/waiting.rs"]
mod waiting;
#[path = "support/watched.rs"]
mod watched;

/// In real time.
const LEASE: Duration = Duration::from_millis(300);

sql_store_tests!(Scratch: one_of_sixteen_processes_acquires);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_store_is_conformant() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    // With the store's own limits.
    let store = Arc::new(scratch.store_on(pool(&scratch.server, 16)));
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
        locker: Some(&scratch),
        lease: LEASE,
    };
    let report = conformance::run(&bed).await;
    scratch.clean_up().await;
    report.assert_conformant();
}

//! What happens to keys when something dies: applications, stores, the network between them.
//!
//! Everything is real here. Applications are processes, started from this very binary
//! ([`child_process`]); stores are servers on free ports with temporary data; effects are lines in a
//! file that knows nothing of keys. Processes die of SIGKILL, at a chosen point.

mod support;

mod crash_points;
mod frozen;
mod killed_under_load;
mod network;
mod processes;
mod redis_failover;
mod secrets;
mod steps;
mod store_crashes;
mod terminated;
mod transaction_chaos;
mod transaction_crashes;
mod transaction_network;

/// Not a test: the application under test, when the environment says so.
#[test]
fn child_process() {
    support::service::serve();
}

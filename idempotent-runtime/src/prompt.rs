//! Tasks that must not wait for the poll in which they begin or are woken.
//!
//! A worker of tokio's multi-threaded runtime runs the task that it has woken last as its next one, from a slot of which no
//! other worker takes it. Where the poll goes on into a handler that blocks its thread, that task waits for as long as the handler
//! blocks, with idle workers beside it: leases end that nothing renews. The next task that is woken displaces it into the queue that
//! other workers take from, and wakes one of them. So one follows that has nothing to do.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinHandle;

/// Spawns a task that others depend on, from a poll that may go on into a handler.
pub(crate) fn spawn<F>(runtime: &Handle, task: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let task = runtime.spawn(task);
    displace(runtime);
    task
}

/// Lets any worker run the task that was woken or spawned last. For what happens rarely: this spawns a task.
pub(crate) fn displace(runtime: &Handle) {
    // With one thread there is no other worker.
    if runtime.runtime_flavor() != RuntimeFlavor::CurrentThread {
        runtime.spawn(async {});
    }
}

//! The first call of a runtime that is ending.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use idempotent_runtime::RecordKey;
use idempotent_runtime::store::Store;
use tokio::runtime::{Builder, Runtime};

use crate::support::Scratch;

fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// Whether another runtime's call comes back, with whatever.
fn is_alive(store: &Arc<dyn Store>) -> bool {
    let (sender, receiver) = channel();
    let store = Arc::clone(store);
    std::thread::spawn(move || {
        let other = Builder::new_current_thread().enable_all().build().unwrap();
        let got = other.block_on(store.get(&RecordKey::from_bytes([7; 32])));
        let _ = sender.send(got.is_ok());
    });
    receiver.recv_timeout(Duration::from_secs(10)).is_ok()
}

async fn store() -> Option<(Scratch, Arc<dyn Store>)> {
    let scratch = Scratch::migrated().await?;
    let store: Arc<dyn Store> = Arc::new(scratch.store(4));
    Some((scratch, store))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_on_a_runtime_that_is_being_shut_down_stops_no_other_runtime() {
    let Some((_scratch, store)) = store().await else {
        return;
    };
    assert!(is_alive(&store), "the control");
    let ending = runtime();
    let called = Arc::clone(&store);
    let ((begun, has_begun), (told, is_told)) = (channel(), channel());
    let (sender, receiver) = channel::<()>();
    ending.spawn(async move {
        begun.send(()).unwrap();
        // Code that blocks, while the runtime is told to end.
        is_told.recv().unwrap();
        // Dropped with the runtime, or answered, or an error.
        drop(called.get(&RecordKey::from_bytes([7; 32])).await);
        drop(sender);
    });
    has_begun.recv().unwrap();
    ending.shutdown_background();
    told.send(()).unwrap();
    let _ = receiver.recv_timeout(Duration::from_secs(3));
    assert!(
        is_alive(&store),
        "all calls of this process hang, on all runtimes"
    );
}

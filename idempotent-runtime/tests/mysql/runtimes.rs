//! Several runtimes of one process.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use idempotent_runtime::store::mysql::MySqlStore;
use idempotent_runtime::store::{Claim, Renewed, Store};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::locks::renewal;
use crate::support::{Scratch, claimed, request};

/// The limit of a store call, as the engine has it by default.
const LIMIT: Duration = Duration::from_secs(2);

/// A runtime that stands still, because something blocks its only thread, while calls of it wait for their replies.
struct Standing {
    go_on: Sender<()>,
    thread: JoinHandle<()>,
}

impl Standing {
    /// With so many renewals and claims.
    async fn with(store: &Arc<MySqlStore>, renewals: usize, claims: usize) -> Self {
        let store = Arc::clone(store);
        let owner = claimed(&*store).await;
        let (go_on, told) = channel::<()>();
        let (stands, standing) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let mut context = Context::from_waker(Waker::noop());
                let (renewal, request) = ([renewal(&owner)], request());
                let mut renewals: Vec<_> = (0..renewals).map(|_| store.renew(&renewal)).collect();
                let mut claims: Vec<_> = (0..claims).map(|_| store.claim(&request)).collect();
                for call in &mut renewals {
                    assert!(call.as_mut().poll(&mut context).is_pending());
                }
                for call in &mut claims {
                    assert!(call.as_mut().poll(&mut context).is_pending());
                }
                stands.send(()).unwrap();
                let _ = told.recv();
            });
        });
        standing.await.unwrap();
        Self { go_on, thread }
    }

    fn end(self) {
        drop(self.go_on);
        self.thread.join().unwrap();
    }
}

/// The leases of the other runtime ended, for as long as this one stood still.
#[tokio::test]
async fn renewals_do_not_wait_for_a_runtime_that_stands_still() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = Arc::new(scratch.store(4));
    let owner = claimed(&*store).await;
    let standing = Standing::with(&store, 2, 0).await;
    let renewals = [renewal(&owner)];
    let renewed = timeout(LIMIT, store.renew(&renewals)).await.unwrap();
    assert!(matches!(renewed[..], [Ok(Renewed::Renewed)]), "{renewed:?}");
    standing.end();
    scratch.clean_up().await;
}

#[tokio::test]
async fn claims_do_not_wait_for_a_runtime_that_stands_still() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = Arc::new(scratch.store(4));
    let standing = Standing::with(&store, 0, 4).await;
    let request = request();
    let claim = timeout(LIMIT, store.claim(&request)).await.unwrap();
    assert!(matches!(claim, Ok(Claim::Acquired(_))), "{claim:?}");
    standing.end();
    scratch.clean_up().await;
}

//! Steps of a task that outlives its handler, at the end of the run: whatever the handler answers, a step that has begun, or is done, frees
//! no key.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Attempt, idempotent};
use tokio::time::timeout;

use crate::support::{App, Fault, FaultyStore, Local, Operation, Probe, builder_on};

/// A step of a task that the handler has left behind begins at the moment at which its key is freed.
mod beginning {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};

    use http::StatusCode;
    use tokio::runtime::Handle;

    use super::*;

    static ARRIVED: AtomicUsize = AtomicUsize::new(0);
    static LATE: AtomicUsize = AtomicUsize::new(0);
    static IS_RETRY: AtomicBool = AtomicBool::new(false);
    static IS_ANSWERED: AtomicBool = AtomicBool::new(false);
    static CHARGES: AtomicUsize = AtomicUsize::new(0);
    static BESIDE: Mutex<Option<Sender<Attempt>>> = Mutex::new(None);

    fn arrive() {
        ARRIVED.fetch_add(1, Ordering::SeqCst);
        while ARRIVED.load(Ordering::SeqCst) < 2 {
            std::hint::spin_loop();
        }
    }

    /// The step goes on until the first answer is given: its end has nothing to do with it.
    async fn charge(attempt: Attempt) -> bool {
        let charge = async {
            CHARGES.fetch_add(1, Ordering::SeqCst);
            while !IS_ANSWERED.load(Ordering::SeqCst) {
                tokio::task::yield_now().await;
            }
            Ok::<_, String>(1)
        };
        attempt.step("charge", charge).await.is_ok()
    }

    /// Its own error is not stored: nothing is known to have happened.
    #[idempotent(name = "left-behind", replay_errors = "none")]
    async fn leaves_a_task_behind(attempt: Attempt) -> StatusCode {
        if IS_RETRY.load(Ordering::SeqCst) {
            charge(attempt).await;
            return StatusCode::OK;
        }
        BESIDE
            .lock()
            .unwrap()
            .as_ref()
            .unwrap()
            .send(attempt)
            .unwrap();
        arrive();
        for _ in 0..LATE.load(Ordering::SeqCst) {
            std::hint::spin_loop();
        }
        StatusCode::INTERNAL_SERVER_ERROR
    }

    fn beside(runtime: &Handle, attempts: &Receiver<Attempt>, done: &Sender<bool>) {
        while let Ok(attempt) = attempts.recv() {
            arrive();
            let is_done = runtime.block_on(charge(attempt));
            if done.send(is_done).is_err() {
                return;
            }
        }
    }

    /// "A step does not begin once the run is over", and one that began says that something may have happened.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn step_that_begins_as_the_run_ends_is_not_run_again() {
        let routes: Router<App> = Router::new().route("/", post(leaves_a_task_behind));
        let local = Local::with(builder_on(MemoryStore::new()), routes);
        let ((to, attempts), (done, ended)) = (channel(), channel());
        *BESIDE.lock().unwrap() = Some(to);
        let runtime = Handle::current();
        std::thread::spawn(move || beside(&runtime, &attempts, &done));
        for number in 0..5_000 {
            for started in [&IS_RETRY, &IS_ANSWERED] {
                started.store(false, Ordering::SeqCst);
            }
            CHARGES.store(0, Ordering::SeqCst);
            LATE.store(number % 200, Ordering::SeqCst);
            ARRIVED.store(0, Ordering::SeqCst);
            let key = number.to_string();
            let first = local.post("/", &key).await;
            assert_eq!(first.status, 500);
            IS_ANSWERED.store(true, Ordering::SeqCst);
            ended.recv().unwrap();
            IS_RETRY.store(true, Ordering::SeqCst);
            let again = local.post("/", &key).await;
            let charges = CHARGES.load(Ordering::SeqCst);
            assert!(
                charges < 2,
                "key {number} was charged {charges} times: {again:?}"
            );
        }
    }
}

/// A step of a task that the handler has left behind is done, and its result is being written down, when the key is freed.
mod being_kept {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use http::StatusCode;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use tokio::sync::oneshot;

    use super::*;

    static IS_ANSWERED: AtomicBool = AtomicBool::new(false);
    static CHARGES: AtomicUsize = AtomicUsize::new(0);

    /// Takes its time to serialize, as a large one does.
    struct Receipt(Mutex<Option<oneshot::Sender<()>>>);

    impl Serialize for Receipt {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if let Some(begun) = self.0.lock().unwrap().take() {
                begun.send(()).unwrap();
            }
            while !IS_ANSWERED.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            serializer.serialize_u64(1)
        }
    }

    impl<'de> Deserialize<'de> for Receipt {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Ok(Self(Mutex::default()))
        }
    }

    /// It gives up, and its own error is not stored.
    #[idempotent(name = "being-kept", replay_errors = "none")]
    async fn gives_up(attempt: Attempt, State(probe): State<Probe>) -> StatusCode {
        probe.run();
        let (begun, begins) = oneshot::channel();
        tokio::spawn(async move {
            let charge = async {
                CHARGES.fetch_add(1, Ordering::SeqCst);
                Ok::<_, String>(Receipt(Mutex::new(Some(begun))))
            };
            drop(attempt.step("charge", charge).await);
        });
        begins.await.unwrap();
        StatusCode::GATEWAY_TIMEOUT
    }

    /// "Steps that are finished say that something happened [..]. So an error answer that is not stored does not free the key then."
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn step_whose_result_is_being_serialized_does_not_free_the_key() {
        let routes: Router<App> = Router::new().route("/", post(gives_up));
        let local = Local::with(builder_on(MemoryStore::new()), routes);
        let first = local.post("/", "key").await;
        assert_eq!(first.status, 504);
        IS_ANSWERED.store(true, Ordering::SeqCst);
        let again = local.post("/", "key").await;
        let charges = CHARGES.load(Ordering::SeqCst);
        assert_eq!(charges, 1, "charges: {again:?}");
    }
}

/// A step that is kept for later on a runtime of its own, and an error that is not stored.
#[idempotent(name = "kept-for-later", lease = "1s", replay_errors = "none")]
async fn kept_for_later(attempt: Attempt, State(probe): State<Probe>) -> http::StatusCode {
    let own = attempt.clone();
    let later = tokio::task::spawn_blocking(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        let mut mail = Box::pin(async move {
            drop(own.step("mail", async { Ok::<_, String>(1) }).await);
        });
        runtime.block_on(async {
            drop(timeout(Duration::from_millis(50), &mut mail).await);
        });
        (runtime, mail)
    });
    // As in a static: it is driven the next time.
    Box::leak(Box::new(later.await.unwrap()));
    probe.run();
    http::StatusCode::INTERNAL_SERVER_ERROR
}

/// What is saved before a key is abandoned waits for that step, and the lease is renewed for as long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn step_that_is_kept_for_later_keeps_no_key_in_flight() {
    let store = FaultyStore::new(MemoryStore::new());
    let routes: Router<App> = Router::new().route("/", post(kept_for_later));
    let local = Local::with(builder_on(store.clone()), routes);
    store.script(Operation::SaveProgress, Fault::Waits);
    let first = local.spawn("/", "key");
    store.waiting().await;
    local.probe.started().await;
    store.proceed();
    let first = timeout(Duration::from_secs(10), first).await;
    let again = local.post("/", "key").await;
    assert_eq!(
        again.code(),
        Some("outcome-unknown"),
        "ten leases after the handler has ended; the first: {first:?}"
    );
}

//! A secret can be set, and changed, while keys are alive and old and new instances run side by side.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::StoreErrorKind;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{
    Attempt, ExecuteError, Execution, Idempotency, IdempotencyBuilder, Locator, Policy,
    RecordState, Release, idempotent,
};

use tokio::time::sleep;

use crate::support::{App, Crashes, Fault, FaultyStore, LEASE, Local, Operation, Probe, Reply};

#[idempotent]
async fn pay(State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

#[idempotent]
async fn gated(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent(on_abandoned = "retry")]
async fn gated_retry(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent]
async fn refuse(State(probe): State<Probe>) -> Release<String> {
    Release(probe.run().to_string())
}

#[idempotent]
async fn derive(attempt: Attempt) -> String {
    attempt.derived_key("charge")
}

/// Its first attempt is cut off after the step.
#[idempotent(on_abandoned = "retry", lease = "30s")]
async fn stepped(attempt: Attempt, State(probe): State<Probe>) -> String {
    let charge = async { Ok::<_, ExecuteError>(probe.run()) };
    let run = attempt.step("charge", charge).await.unwrap();
    if attempt.number() == 1 {
        std::future::pending::<()>().await;
    }
    format!("charged in run {run}")
}

fn routes() -> Router<App> {
    Router::new()
        .route("/pay", post(pay))
        .route("/gated", post(gated))
        .route("/gated-retry", post(gated_retry))
        .route("/refuse", post(refuse))
        .route("/derive", post(derive))
        .route("/stepped", post(stepped))
}

/// The instances of a rotation: before it, during it, and after it.
struct Rotation {
    store: Arc<FaultyStore>,
    old: Local,
    both: Local,
    new: Local,
}

type Setting = fn(IdempotencyBuilder) -> IdempotencyBuilder;

impl Rotation {
    fn new(old: Setting, both: Setting, new: Setting) -> Self {
        let store: Arc<FaultyStore> = Arc::new(FaultyStore::new(MemoryStore::new()));
        let instance = |setting: Setting| {
            let builder = Idempotency::builder(Arc::clone(&store));
            Local::with(setting(builder), routes())
        };
        Self {
            old: instance(old),
            both: instance(both),
            new: instance(new),
            store,
        }
    }

    /// From one secret to another.
    fn changed() -> Self {
        Self::new(
            |builder| builder.secret("old"),
            |builder| builder.secret("new").previous_secrets(["old"]),
            |builder| builder.secret("new"),
        )
    }

    /// From no secret to one.
    fn introduced() -> Self {
        Self::new(
            |builder| builder,
            |builder| builder.secret("new").previously_without_secret(),
            |builder| builder.secret("new"),
        )
    }

    /// Those that can meet in a rolling deploy.
    fn pairs(&self) -> [(&Local, &Local); 4] {
        [
            (&self.old, &self.both),
            (&self.both, &self.old),
            (&self.both, &self.new),
            (&self.new, &self.both),
        ]
    }
}

fn rotations() -> [Rotation; 2] {
    [Rotation::changed(), Rotation::introduced()]
}

#[tokio::test]
async fn completed_request_is_replayed_by_any_instance_that_can_meet_it() {
    for rotation in rotations() {
        for (number, (first, second)) in rotation.pairs().into_iter().enumerate() {
            let key = format!("key-{number}");
            let own = first.post("/pay", &key).await;
            second.post("/pay", &key).await.assert_replay_of(&own);
        }
    }
}

/// An instance that knows only one of the two records finds the step in that one.
#[tokio::test(start_paused = true)]
async fn finished_step_is_known_to_any_instance_that_can_meet_it() {
    for rotation in rotations() {
        for (key, second) in [("a", &rotation.old), ("b", &rotation.new)] {
            let attempt = rotation.both.spawn("/stepped", key);
            // On the paused clock: the step is finished and saved by then.
            sleep(Duration::from_secs(1)).await;
            // It has crashed, as far as the store can know.
            rotation
                .store
                .script_times(1000, Operation::Renew, Fault::Swallowed);
            sleep(Duration::from_secs(31)).await;
            let answer = second.post("/stepped", key).await;
            assert!(
                answer.text().starts_with("charged in run "),
                "{}",
                answer.text()
            );
            assert_eq!(second.probe.runs(), 0);
            rotation.store.unscript(Operation::Renew);
            drop(attempt);
        }
    }
}

#[tokio::test]
async fn running_request_is_in_flight_for_any_instance_that_can_meet_it() {
    for rotation in rotations() {
        for (key, (first, second)) in ["a", "b", "c", "d"].into_iter().zip(rotation.pairs()) {
            let running = first.spawn("/gated", key);
            first.probe.started().await;
            let duplicate = second.post("/gated", key).await;
            duplicate.assert_problem(409, "in-flight");
            first.probe.open();
            let own = running.await.unwrap();
            second.post("/gated", key).await.assert_replay_of(&own);
        }
    }
}

#[tokio::test]
async fn release_frees_the_key_for_all() {
    for rotation in rotations() {
        for (number, (first, second)) in rotation.pairs().into_iter().enumerate() {
            let key = format!("key-{number}");
            for local in [first, second, first] {
                let own = local.post("/refuse", &key).await;
                assert_eq!((own.status, own.is_replay()), (200, false));
            }
        }
    }
}

/// What was done by an instance with the new secret alone reaches one with the old secret alone through
/// one that knows both.
#[tokio::test]
async fn instance_with_both_secrets_passes_on_what_it_learns() {
    for rotation in rotations() {
        let own = rotation.new.post("/pay", "key").await;
        rotation
            .both
            .post("/pay", "key")
            .await
            .assert_replay_of(&own);
        rotation
            .old
            .post("/pay", "key")
            .await
            .assert_replay_of(&own);
    }
}

/// A provider that has the key of before would charge again under another one.
#[tokio::test]
async fn derived_keys_stay_the_same_while_the_older_secret_is_known() {
    for rotation in rotations() {
        let derived = async |local: &Local, key| -> Reply { local.post("/derive", key).await };
        let old = derived(&rotation.old, "key").await;
        let both = Rotation::pairs(&rotation)[0].1;
        let release = Locator::new("POST /derive", "key");
        assert!(rotation.old.idempotency.forget(&release).await.unwrap());
        let again = derived(both, "key").await;
        assert!(!again.is_replay());
        assert_eq!(again.text(), old.text());
    }
}

#[tokio::test]
async fn execute_and_operators_know_all_secrets() {
    static POLICY: Policy = Policy::new();
    for rotation in rotations() {
        for (number, (first, second)) in rotation.pairs().into_iter().enumerate() {
            let key = format!("message {number}");
            let run = |local: &Local, value: u32| {
                let idempotency = local.idempotency.clone();
                let key = key.clone();
                async move {
                    let run = async move || Ok::<_, idempotent_runtime::ExecuteError>(value);
                    let executed = idempotency.execute(&POLICY, "settle", (), &key, &1, run);
                    executed.await.unwrap()
                }
            };
            assert_eq!(run(first, 1).await, Execution::Executed(1));
            assert_eq!(run(second, 2).await, Execution::Replayed(1));

            let path = format!("key-{number}");
            first.post("/pay", &path).await;
            let identity = Locator::new("POST /pay", &path);
            let found = second
                .idempotency
                .inspect(&identity)
                .await
                .unwrap()
                .unwrap();
            assert!(
                matches!(found.state, RecordState::Completed(_)),
                "{found:?}"
            );
            assert!(rotation.both.idempotency.forget(&identity).await.unwrap());
            for local in [first, second] {
                let found = local.idempotency.inspect(&identity).await.unwrap();
                assert!(found.is_none(), "{found:?}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "an empty secret protects nothing")]
fn empty_secret_is_refused() {
    drop(Idempotency::builder(MemoryStore::new()).secret(""));
}

#[test]
#[should_panic(expected = "an empty secret protects nothing")]
fn empty_previous_secret_is_refused() {
    let secrets = ["old", ""];
    drop(Idempotency::builder(MemoryStore::new()).previous_secrets(secrets));
}

/// One of two instances, and its check of the secret that it shares with the other.
fn checked(store: &Arc<FaultyStore>) -> Idempotency {
    let builder = Idempotency::builder(Arc::clone(store)).secret("secret");
    builder.replay_cache(None).build()
}

async fn pay_with(idempotency: &Idempotency, key: &str) {
    let probe = Probe::default();
    let app = App {
        idempotency: idempotency.clone(),
        probe: probe.clone(),
    };
    let local = Local {
        router: routes().with_state(app),
        probe,
        idempotency: idempotency.clone(),
    };
    assert_eq!(local.post("/pay", key).await.status, 200);
}

/// Until secrets were compared so many times.
async fn compared(store: &FaultyStore, times: usize) {
    while store.calls(Operation::Get) < times {
        sleep(Duration::from_millis(1)).await;
    }
}

/// As in `let idempotency = Runtime::new()?.block_on(Idempotency::connect(url))?`.
#[test]
fn comparison_of_secrets_that_a_runtime_has_cut_off_is_done_by_the_next_one() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let store = Arc::new(FaultyStore::new(MemoryStore::new()));
    let idempotency = runtime().block_on(async { checked(&store) });
    assert_eq!(store.calls(Operation::Get), 0, "its runtime has ended");
    runtime().block_on(async {
        pay_with(&idempotency, "key").await;
        compared(&store, 1).await;
    });
}

#[tokio::test(start_paused = true)]
async fn comparison_of_secrets_that_has_failed_is_done_again_after_a_while() {
    let store = Arc::new(FaultyStore::new(MemoryStore::new()));
    let away = Fault::Refused(StoreErrorKind::Unavailable);
    store.script(Operation::Get, away);
    let idempotency = checked(&store);
    compared(&store, 1).await;
    for key in ["a", "b", "c"] {
        pay_with(&idempotency, key).await;
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(store.calls(Operation::Get), 1, "not at each claim");
    sleep(Duration::from_secs(60)).await;
    pay_with(&idempotency, "d").await;
    compared(&store, 2).await;
    sleep(Duration::from_secs(60)).await;
    pay_with(&idempotency, "e").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(store.calls(Operation::Get), 2, "it is done");
}

/// An attempt that was taken over put its own answer into the record that it alone held, while the answer in the other one
/// was still to come.
#[tokio::test(start_paused = true)]
async fn all_answers_are_equal_when_an_older_instance_has_taken_over() {
    let crashes = Crashes::new();
    let old = Local::with(crashes.builder().secret("old"), routes());
    let during = || crashes.builder().secret("new").previous_secrets(["old"]);
    let both = Local::with(during(), routes());
    // So that its answer is another one.
    both.probe.run();
    both.probe.started().await;
    let slow = both.spawn("/gated-retry", "key");
    both.probe.started().await;
    crashes.clock.advance(LEASE);
    let taken_over = old.spawn("/gated-retry", "key");
    old.probe.started().await;
    both.probe.open();
    slow.await.unwrap().assert_problem(409, "in-flight");
    sleep(Duration::from_secs(1)).await;
    old.probe.open();
    let first = taken_over.await.unwrap();
    assert_eq!((first.status, first.text()), (200, "1"));
    both.pending(0).await;
    let after = crashes.builder().secret("new");
    for builder in [during(), after] {
        let instance = Local::with(builder, routes());
        instance.probe.open();
        let replay = instance.post("/gated-retry", "key").await;
        replay.assert_replay_of(&first);
    }
}

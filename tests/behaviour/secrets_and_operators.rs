//! While a secret is rotated a key may have several records. An operator decides about all of them, and is told about the key.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::store::{ListFilter, RecordStatus, Store};
use idempotent_runtime::{
    AuditLine, Idempotency, IdempotencyBuilder, Inspection, Locator, Recovery, Resolution, Seen,
    StoredResponse, idempotent,
};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::support::{
    App, Fault, FaultyStore, LEASE, Local, Log, Operation, Probe, Reply, builder_on,
};

#[idempotent(lease = "30s")]
async fn rejects(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent(lease = "30s", on_abandoned = "retry")]
async fn retries(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

fn routes() -> Router<App> {
    Router::new()
        .route("/rejects", post(rejects))
        .route("/retries", post(retries))
}

/// Processes on one store, in the middle of a rotation. What has crashed in one of them stands still in its handler.
struct Rotation {
    store: Arc<FaultyStore>,
    crashed: Vec<JoinHandle<Reply>>,
}

impl Rotation {
    fn new() -> Self {
        Self {
            store: Arc::new(FaultyStore::new(MemoryStore::new())),
            crashed: Vec::new(),
        }
    }

    fn with(&self, setting: fn(IdempotencyBuilder) -> IdempotencyBuilder) -> Local {
        Local::with(setting(builder_on(Arc::clone(&self.store))), routes())
    }

    fn of_old_secret(&self) -> Local {
        self.with(|it| it.secret("old"))
    }

    fn of_both_secrets(&self) -> Local {
        self.with(|it| it.secret("new").previous_secrets(["old"]))
    }

    /// A request that a process begins and does not finish. None of its leases is renewed.
    async fn crash(&mut self, process: &Local, path: &'static str) {
        self.crashed.push(process.spawn(path, "key"));
        process.probe.started().await;
        self.store
            .script_times(1000, Operation::Renew, Fault::Swallowed);
        sleep(LEASE + Duration::from_secs(1)).await;
    }

    /// One with both secrets has crashed with a request: each record is abandoned.
    async fn crashed(path: &'static str) -> (Self, Idempotency) {
        let mut rotation = Self::new();
        let process = rotation.of_both_secrets();
        rotation.crash(&process, path).await;
        let operator = rotation.of_both_secrets().idempotency;
        (rotation, operator)
    }
}

impl Drop for Rotation {
    fn drop(&mut self) {
        self.crashed.iter().for_each(JoinHandle::abort);
    }
}

fn locator(path: &str) -> Locator {
    Locator::new(format!("POST {path}"), "key")
}

fn found() -> Recovery {
    Recovery::Replay(StoredResponse::new(
        StatusCode::CREATED,
        HeaderMap::new(),
        "found",
    ))
}

fn audit() -> AuditLine {
    AuditLine::new("anna", "the bank says so")
}

async fn inspect(operator: &Idempotency, path: &str) -> Option<Inspection> {
    operator.inspect(&locator(path)).await.unwrap()
}

/// Each way to decide.
async fn resolve(operator: &Idempotency, way: usize, recovery: Recovery) -> Resolution {
    let locator = locator("/rejects");
    let resolved = match way {
        0 => operator.resolve(&locator, recovery).await,
        1 => operator.resolve_with(&locator, async |_| recovery).await,
        _ => operator.resolve_as(&locator, recovery, &audit()).await,
    };
    resolved.unwrap()
}

/// The client's retries come between the two records, and copy the decision to the second one.
#[tokio::test(start_paused = true)]
async fn a_decision_that_was_carried_out_is_called_resolved() {
    for way in 0..3 {
        let (rotation, operator) = Rotation::crashed("/rejects").await;
        let client = rotation.of_both_secrets();
        let abandoned = client.post("/rejects", "key").await;
        abandoned.assert_problem(409, "outcome-unknown");
        let deciding = tokio::spawn(async move { resolve(&operator, way, found()).await });
        while !deciding.is_finished() {
            sleep(Duration::from_millis(500)).await;
            client.post("/rejects", "key").await;
        }
        let resolution = deciding.await.unwrap();
        assert!(
            matches!(resolution, Resolution::Resolved),
            "{way}: {resolution:?}"
        );
        let retry = client.post("/rejects", "key").await;
        assert_eq!((retry.status, retry.text()), (201, "found"));
    }
}

/// The first record is free, and the client's retry takes over the second one, which the decision then finds in flight.
#[tokio::test(start_paused = true)]
async fn nothing_was_changed_is_said_only_if_nothing_was() {
    let (rotation, operator) = Rotation::crashed("/retries").await;
    let shown = inspect(&operator, "/retries").await.unwrap().record_key;
    let store = &rotation.store;
    store.script(Operation::GiveGrace, Fault::Works);
    store.script(Operation::GiveGrace, Fault::Waits);
    let deciding = tokio::spawn(async move {
        let locator = locator("/retries");
        operator
            .resolve_as(&locator, Recovery::Retry, &audit())
            .await
    });
    store.waiting().await;
    assert!(store.get(&shown).await.unwrap().is_none());
    let client = rotation.of_both_secrets();
    let retry = client.spawn("/retries", "key");
    while store.calls(Operation::GiveGrace) < 3 {
        sleep(Duration::from_millis(10)).await;
    }
    store.proceed();
    let resolution = deciding.await.unwrap();
    assert!(
        matches!(resolution, Ok(Resolution::Resolved)),
        "{resolution:?}"
    );
    client.probe.open();
    assert_eq!(retry.await.unwrap().text(), "1");
}

/// One line for each record that the decision was carried out in, and none for one that it was only copied to.
#[tokio::test(start_paused = true)]
async fn each_record_that_was_resolved_is_logged() {
    for is_retried in [false, true] {
        let (rotation, operator) = Rotation::crashed("/rejects").await;
        let client = rotation.of_both_secrets();
        let (log, _guard) = Log::begin(tracing::Level::WARN);
        let deciding = tokio::spawn(async move { resolve(&operator, 2, found()).await });
        while !deciding.is_finished() {
            sleep(Duration::from_millis(500)).await;
            if is_retried {
                client.post("/rejects", "key").await;
            }
        }
        let resolution = deciding.await.unwrap();
        assert!(matches!(resolution, Resolution::Resolved), "{resolution:?}");
        let lines = log.lines();
        let told = lines
            .iter()
            .filter(|it| it.contains("an operator resolved") && it.contains("anna"));
        assert_eq!(told.count(), if is_retried { 1 } else { 2 }, "{lines:?}");
    }
}

/// The operator's tool gives up after a second, in the grace period of the first record.
#[tokio::test(start_paused = true)]
async fn a_decision_that_was_begun_is_finished_in_every_record() {
    for way in 0..3 {
        let (rotation, operator) = Rotation::crashed("/rejects").await;
        let deciding = resolve(&operator, way, Recovery::Retry);
        let second = Duration::from_secs(1);
        assert!(timeout(second, deciding).await.is_err());
        assert_eq!(operator.shutdown(LEASE).await, 0);
        let left = inspect(&operator, "/rejects").await;
        assert!(left.is_none(), "{way}: {left:?}");
        let client = rotation.of_both_secrets();
        client.probe.open();
        let retry = client.post("/rejects", "key").await;
        assert_eq!((retry.status, retry.text()), (200, "1"));
    }
}

/// Before the rotation the key's first attempt has crashed, and in it a second one, which is the first attempt of the other record.
async fn crashed_before_and_in_the_rotation() -> (Rotation, Idempotency, Seen) {
    let mut rotation = Rotation::new();
    let before = rotation.of_old_secret();
    rotation.crash(&before, "/retries").await;
    let seen = inspect(&before.idempotency, "/retries").await;
    let within = rotation.of_both_secrets();
    rotation.crash(&within, "/retries").await;
    let operator = rotation.of_both_secrets().idempotency;
    (rotation, operator, seen.unwrap().seen())
}

/// Each way to decide about what was seen, and nothing else.
async fn decide(operator: &Idempotency, way: usize, seen: Seen) -> Resolution {
    let locator = locator("/retries").seen(seen);
    let resolved = match way {
        0 => operator.resolve(&locator, found()).await,
        1 => operator.resolve_as(&locator, found(), &audit()).await,
        _ => operator.forget_as(&locator, &audit()).await,
    };
    resolved.unwrap()
}

/// It is the record that was shown, from which the other one differs.
#[tokio::test(start_paused = true)]
async fn what_was_seen_can_be_decided_about() {
    for way in 0..3 {
        let (_rotation, operator, seen_before) = crashed_before_and_in_the_rotation().await;
        let refused = decide(&operator, way, seen_before).await;
        assert!(matches!(refused, Resolution::Changed), "{way}: {refused:?}");
        let shown = inspect(&operator, "/retries").await.unwrap();
        assert_eq!(shown.attempt, 2);
        let resolution = decide(&operator, way, shown.seen()).await;
        assert!(
            matches!(resolution, Resolution::Resolved),
            "{way}: {resolution:?}"
        );
    }
}

/// An instance that knows the new secret alone has taken over its record meanwhile, and crashed too: of that nothing was seen.
#[tokio::test(start_paused = true)]
async fn an_attempt_under_another_secret_that_was_not_seen_is_not_decided_about() {
    for way in 0..3 {
        let (mut rotation, operator) = Rotation::crashed("/retries").await;
        let shown = inspect(&operator, "/retries").await.unwrap();
        assert!(shown.seen().to_string().ends_with("+1"), "{shown:?}");
        let newer = rotation.with(|it| it.secret("new"));
        rotation.crash(&newer, "/retries").await;
        assert_eq!(newer.probe.runs(), 1);
        let again = inspect(&operator, "/retries").await.unwrap();
        let same = |it: &Inspection| (it.record_key, it.attempt);
        assert_eq!(same(&again), same(&shown));
        // As it was shown: the paused clock is not the one by which records began.
        let seen = again.seen().to_string().replace("+2", "+1");
        let refused = decide(&operator, way, seen.parse().unwrap()).await;
        assert!(matches!(refused, Resolution::Changed), "{way}: {refused:?}");
        let resolution = decide(&operator, way, again.seen()).await;
        assert!(
            matches!(resolution, Resolution::Resolved),
            "{way}: {resolution:?}"
        );
    }
}

/// A record key names one record of several.
#[tokio::test(start_paused = true)]
async fn key_is_free_when_each_of_its_records_is() {
    let (rotation, operator) = Rotation::crashed("/rejects").await;
    let both = rotation.of_both_secrets();
    both.probe.open();
    for is_last in [false, true] {
        let abandoned = ListFilter::new().status(RecordStatus::Abandoned);
        let listed = operator.list(&abandoned, None, 10).await.unwrap().records;
        let one = Locator::by_record_key(listed[0].key);
        let resolved = operator.resolve(&one, Recovery::Retry).await.unwrap();
        assert!(matches!(resolved, Resolution::Resolved), "{resolved:?}");
        let retry = both.post("/rejects", "key").await;
        match is_last {
            false => retry.assert_problem(409, "outcome-unknown"),
            true => assert_eq!(retry.status, 200),
        }
    }
}

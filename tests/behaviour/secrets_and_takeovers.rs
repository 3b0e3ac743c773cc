//! While a secret is rotated a request has several records. An attempt that was taken over in one of them, by an instance
//! that knows no other, has lost its claim.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::StoreErrorKind;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Attempt, ExecuteError, Release, idempotent};
use tokio::time::sleep;

use crate::support::{
    App, Crashes, Fault, FaultyStore, LEASE, Local, Operation, Probe, builder_on,
};

#[idempotent(on_abandoned = "retry")]
async fn gated(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent(on_abandoned = "retry")]
async fn gated_release(State(probe): State<Probe>) -> Release<String> {
    Release(probe.run_gated().await.to_string())
}

/// The charges of one test.
#[derive(Clone, Default)]
struct Charges(Arc<AtomicUsize>);

impl Charges {
    async fn charge(&self, attempt: &Attempt) -> String {
        let charge = async { Ok::<_, ExecuteError>(self.0.fetch_add(1, Ordering::SeqCst) + 1) };
        match attempt.step("charge", charge).await {
            Ok(number) => format!("charge {number}"),
            Err(error) => error.to_string(),
        }
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// `/before` charges before it is let through, `/after` afterwards.
    fn routes(&self) -> Router<App> {
        #[idempotent(on_abandoned = "retry", lease = "30s")]
        async fn before(
            attempt: Attempt,
            axum::Extension(charges): axum::Extension<Charges>,
            State(probe): State<Probe>,
        ) -> String {
            let charged = charges.charge(&attempt).await;
            probe.run_gated().await;
            charged
        }
        #[idempotent(on_abandoned = "retry", lease = "30s")]
        async fn after(
            attempt: Attempt,
            axum::Extension(charges): axum::Extension<Charges>,
            State(probe): State<Probe>,
        ) -> String {
            probe.run_gated().await;
            charges.charge(&attempt).await
        }
        Router::new()
            .route("/before", post(before))
            .route("/after", post(after))
            .layer(axum::Extension(self.clone()))
    }
}

/// Instances of a rotation on one store.
struct Rotation {
    store: Arc<FaultyStore>,
    charges: Charges,
    old: Local,
    both: Local,
    new: Local,
}

impl Rotation {
    fn new() -> Self {
        let store: Arc<FaultyStore> = Arc::new(FaultyStore::new(MemoryStore::new()));
        let charges = Charges::default();
        let builder = || builder_on(Arc::clone(&store));
        Self {
            old: Local::with(builder().secret("old"), charges.routes()),
            both: Local::with(
                builder().secret("new").previous_secrets(["old"]),
                charges.routes(),
            ),
            new: Local::with(builder().secret("new"), charges.routes()),
            store,
            charges,
        }
    }

    /// No lease is renewed until it has ended.
    async fn freeze(&self) {
        self.store
            .script_times(1000, Operation::Renew, Fault::Swallowed);
        sleep(LEASE + Duration::from_secs(1)).await;
    }
}

/// A process stood still for longer than its lease, and went on to charge a second time.
#[tokio::test(start_paused = true)]
async fn step_does_not_begin_when_the_record_of_one_secret_was_taken_over() {
    for by_newer in [true, false] {
        let rotation = Rotation::new();
        let both = &rotation.both;
        let second = if by_newer {
            &rotation.new
        } else {
            &rotation.old
        };
        let attempt = both.spawn("/after", "key");
        both.probe.started().await;
        rotation.freeze().await;
        second.probe.open();
        let taken_over = second.post("/after", "key").await;
        assert_eq!(taken_over.text(), "charge 1");
        rotation.store.unscript(Operation::Renew);
        both.probe.open();
        let late = attempt.await.unwrap();
        assert_eq!(rotation.charges.count(), 1, "{}", late.text());
        for answer in [late, both.post("/after", "key").await] {
            answer.assert_replay_of(&taken_over);
        }
    }
}

/// The lease under one secret lasts, and the claim under the other was lost.
#[tokio::test(start_paused = true)]
async fn step_does_not_begin_when_the_lease_of_one_secret_alone_has_ended() {
    let rotation = Rotation::new();
    let both = &rotation.both;
    let attempt = both.spawn("/after", "key");
    both.probe.started().await;
    // That of the newer secret, which is claimed last.
    let newer = rotation.store.claimed();
    rotation.store.lock(newer);
    sleep(2 * LEASE).await;
    rotation.new.probe.open();
    let taken_over = rotation.new.post("/after", "key").await;
    assert_eq!(taken_over.text(), "charge 1");
    both.probe.open();
    // The call hangs that asks whether the claim is held.
    let late = attempt.await.unwrap();
    assert_eq!(rotation.charges.count(), 1, "{}", late.text());
}

/// The save under the newer secret failed once, and was not tried again: an instance that knows no other secret charged again.
#[tokio::test(start_paused = true)]
async fn step_whose_save_fails_once_is_known_under_each_secret() {
    for (by_newer, faults) in [(true, [true, false]), (false, [false, true])] {
        let rotation = Rotation::new();
        let second = if by_newer {
            &rotation.new
        } else {
            &rotation.old
        };
        for fails in faults {
            let fault = match fails {
                true => Fault::Refused(StoreErrorKind::Unavailable),
                false => Fault::Works,
            };
            rotation.store.script(Operation::SaveProgress, fault);
        }
        let attempt = rotation.both.spawn("/before", "key");
        rotation.both.probe.started().await;
        rotation.freeze().await;
        second.probe.open();
        let answer = second.post("/before", "key").await;
        assert_eq!(answer.text(), "charge 1");
        assert_eq!(rotation.charges.count(), 1);
        drop(attempt);
    }
}

/// As `secrets::all_answers_are_equal_when_an_older_instance_has_taken_over`, but that it is a newer one.
#[tokio::test(start_paused = true)]
async fn all_answers_are_equal_when_a_newer_instance_has_taken_over() {
    for is_done_before in [true, false] {
        let crashes = Crashes::new();
        let (both, new) = instances(&crashes).await;
        let slow = both.spawn("/gated", "key");
        both.probe.started().await;
        crashes.clock.advance(LEASE);
        let taken_over = new.spawn("/gated", "key");
        new.probe.started().await;
        if is_done_before {
            new.probe.open();
            sleep(Duration::from_secs(1)).await;
        }
        both.probe.open();
        let late = slow.await.unwrap();
        new.probe.open();
        let first = taken_over.await.unwrap();
        assert_eq!((first.status, first.text()), (200, "1"));
        match is_done_before {
            true => late.assert_replay_of(&first),
            false => late.assert_problem(409, "in-flight"),
        }
        both.pending(0).await;
        let old = Local::with(crashes.builder().secret("old"), routes());
        for instance in [both, new, old] {
            let replay = instance.post("/gated", "key").await;
            replay.assert_replay_of(&first);
        }
    }
}

/// Nothing happened under this attempt. What did happen is in the other record.
#[tokio::test(start_paused = true)]
async fn release_is_answered_by_the_attempt_that_has_taken_over_under_another_secret() {
    let crashes = Crashes::new();
    let (both, new) = instances(&crashes).await;
    let slow = both.spawn("/gated-release", "key");
    both.probe.started().await;
    crashes.clock.advance(LEASE);
    let taken_over = new.spawn("/gated-release", "key");
    new.probe.started().await;
    both.probe.open();
    slow.await.unwrap().assert_problem(409, "in-flight");
    drop(taken_over);
}

/// The later attempt has crashed as well, and no other answer will come.
#[tokio::test(start_paused = true)]
async fn answer_is_stored_under_each_secret_when_what_has_taken_over_has_crashed() {
    let crashes = Crashes::new();
    let (both, new) = instances(&crashes).await;
    let slow = both.spawn("/gated", "key");
    both.probe.started().await;
    crashes.clock.advance(LEASE);
    let crashed = new.spawn("/gated", "key");
    new.probe.started().await;
    crashes.clock.advance(LEASE);
    both.probe.open();
    let first = slow.await.unwrap();
    assert_eq!((first.status, first.text()), (200, "2"));
    let after = Local::with(crashes.builder().secret("new"), routes());
    after.post("/gated", "key").await.assert_replay_of(&first);
    drop(crashed);
}

/// What the store has forgotten is no take-over.
#[tokio::test(start_paused = true)]
async fn answer_is_stored_under_each_secret_when_the_store_has_lost_one_record() {
    let crashes = Crashes::new();
    let (both, new) = instances(&crashes).await;
    let slow = both.spawn("/gated", "key");
    both.probe.started().await;
    crashes.store.forget_claimed().await;
    both.probe.open();
    let first = slow.await.unwrap();
    assert_eq!((first.status, first.text()), (200, "2"));
    new.post("/gated", "key").await.assert_replay_of(&first);
}

/// One record cannot be read any more. The other one is completed, with all of the response.
#[tokio::test(start_paused = true)]
async fn record_that_is_damaged_under_one_secret_does_not_keep_the_other_from_being_completed() {
    let crashes = Crashes::new();
    let (both, _) = instances(&crashes).await;
    let slow = both.spawn("/gated", "key");
    both.probe.started().await;
    let damaged = Fault::Refused(StoreErrorKind::Corrupt);
    crashes.store.script(Operation::Renew, damaged);
    both.probe.open();
    let first = slow.await.unwrap();
    both.post("/gated", "key").await.assert_replay_of(&first);
    assert_eq!(both.probe.runs(), 2);
}

/// Whether the claim is held under the other secret is not known, so neither record is completed yet.
#[tokio::test(start_paused = true)]
async fn response_is_stored_later_when_the_store_does_not_say_whether_the_claim_is_held() {
    let crashes = Crashes::new();
    let (both, new) = instances(&crashes).await;
    let slow = both.spawn("/gated", "key");
    both.probe.started().await;
    let away = Fault::Refused(StoreErrorKind::Unavailable);
    crashes.store.script(Operation::Renew, away);
    both.probe.open();
    let first = slow.await.unwrap();
    assert_eq!((first.status, first.text()), (200, "2"));
    assert_eq!(crashes.store.calls(Operation::Complete), 0);
    both.pending(0).await;
    new.post("/gated", "key").await.assert_replay_of(&first);
}

/// A request with one record pays nothing for this.
#[tokio::test(start_paused = true)]
async fn no_more_is_asked_of_the_store_when_no_secret_is_rotated() {
    let crashes = Crashes::new();
    let (_, new) = instances(&crashes).await;
    new.probe.open();
    assert_eq!(new.post("/gated", "key").await.status, 200);
    let renewals = crashes.store.calls(Operation::Renew);
    let reads = crashes.store.calls(Operation::Get);
    assert_eq!((renewals, reads), (0, 0));
}

fn routes() -> Router<App> {
    Router::new()
        .route("/gated", post(gated))
        .route("/gated-release", post(gated_release))
}

/// One with both secrets, whose first run is not the first, so that its answer is one of its own; and one with the newer secret alone.
async fn instances(crashes: &Crashes) -> (Local, Local) {
    let builder = crashes.builder().secret("new").previous_secrets(["old"]);
    let both = Local::with(builder, routes());
    both.probe.run();
    both.probe.started().await;
    let new = Local::with(crashes.builder().secret("new"), routes());
    (both, new)
}

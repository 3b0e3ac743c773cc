//! What a handler and an operator derive from a record key stays the same while a secret is rotated, whichever of the
//! request's records an attempt finds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use axum::{Extension, Router};
use http::{HeaderMap, StatusCode};
use idempotent_runtime::store::StoreErrorKind;
use idempotent_runtime::{
    Abandoned, Attempt, Idempotency, IdempotencyBuilder, Locator, Recovery, Resolution,
    StoredResponse, idempotent,
};

use crate::support::{App, Crashes, Fault, LEASE, Local, Operation, Probe};

/// It does one charge for each key that it is sent.
#[derive(Clone, Default)]
struct Provider(Arc<Mutex<HashMap<String, usize>>>);

impl Provider {
    fn charge(&self, key: &str) -> usize {
        let mut charges = self.0.lock().unwrap();
        let next = charges.len() + 1;
        *charges.entry(key.to_owned()).or_insert(next)
    }

    fn find(&self, key: &str) -> Option<usize> {
        self.0.lock().unwrap().get(key).copied()
    }

    fn charges(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

#[idempotent(on_abandoned = "retry", lease = "30s")]
async fn by_derived_key(
    attempt: Attempt,
    Extension(provider): Extension<Provider>,
    State(probe): State<Probe>,
) -> String {
    let charge = provider.charge(&attempt.derived_key("charge"));
    if attempt.number() == 1 {
        probe.run_gated().await;
    }
    format!("charge {charge}")
}

#[idempotent(on_abandoned = look, lease = "30s")]
async fn by_record_key(
    attempt: Attempt,
    Extension(provider): Extension<Provider>,
    State(probe): State<Probe>,
) -> String {
    let charge = provider.charge(&attempt.record_key().unwrap().to_hex());
    if attempt.number() == 1 {
        probe.run_gated().await;
    }
    format!("charge {charge}")
}

async fn look(abandoned: Abandoned) -> Recovery {
    let provider = abandoned.extension::<Provider>().unwrap();
    match provider.find(&abandoned.record_key().to_hex()) {
        Some(charge) => {
            let body = format!("charge {charge}");
            Recovery::Replay(StoredResponse::new(StatusCode::OK, HeaderMap::new(), body))
        }
        None => Recovery::Retry,
    }
}

/// An attempt after the first one asks what that has done.
#[idempotent(on_abandoned = "retry", lease = "30s")]
async fn by_number(
    attempt: Attempt,
    Extension(provider): Extension<Provider>,
    State(probe): State<Probe>,
) -> String {
    if attempt.number() > 1 {
        return format!("charge {}", provider.charges());
    }
    let charge = provider.charge(&format!("run {}", probe.run_gated().await));
    format!("charge {charge}")
}

/// Its charge is a step.
#[idempotent(on_abandoned = "retry", lease = "30s")]
async fn by_step(
    attempt: Attempt,
    Extension(provider): Extension<Provider>,
    State(probe): State<Probe>,
) -> String {
    let charge = async { Ok::<_, String>(provider.charge(&attempt.derived_key("charge"))) };
    let charge = attempt.step("charge", charge).await.unwrap();
    if attempt.number() == 1 {
        probe.run_gated().await;
    }
    format!("charge {charge}")
}

/// Its recovery function goes by the steps.
#[idempotent(on_abandoned = by_steps, lease = "30s")]
async fn recovers_by_steps(
    attempt: Attempt,
    Extension(provider): Extension<Provider>,
    State(probe): State<Probe>,
) -> String {
    let charge = async { Ok::<_, String>(provider.charge("charge")) };
    let charge = attempt.step("charge", charge).await.unwrap();
    probe.run_gated().await;
    format!("charge {charge}")
}

async fn by_steps(abandoned: Abandoned) -> Recovery {
    let body = match abandoned.step::<usize>("charge").unwrap() {
        Some(charge) => format!("charge {charge}"),
        None => "not charged".to_owned(),
    };
    Recovery::Replay(StoredResponse::new(StatusCode::OK, HeaderMap::new(), body))
}

const PATHS: [&str; 4] = ["/derived", "/record", "/number", "/step"];

fn routes(provider: &Provider) -> Router<App> {
    Router::new()
        .route("/derived", post(by_derived_key))
        .route("/record", post(by_record_key))
        .route("/number", post(by_number))
        .route("/step", post(by_step))
        .route("/steps", post(recovers_by_steps))
        .layer(Extension(provider.clone()))
}

type Setting = fn(IdempotencyBuilder) -> IdempotencyBuilder;

const BEFORE: Setting = |it| it.secret("old");
const STEP_1: Setting = |it| it.secret("new").previous_secrets(["old"]);
const STEP_2: Setting = |it| it.secret("new");

/// A process that begins a request and dies, with its runtime.
fn crash(crashes: &Crashes, provider: &Provider, setting: Setting, path: &'static str) {
    std::thread::scope(|threads| {
        let process = threads.spawn(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(async {
                let builder = setting(crashes.builder()).extension(provider.clone());
                let process = Local::with(builder, routes(provider));
                let _reply = process.spawn(path, "key");
                process.probe.started().await;
                if path == "/number" {
                    provider.charge("run 1");
                }
                crashes.clock.advance(LEASE);
            });
        });
        process.join().unwrap();
    });
}

/// The instances that a request's attempts reach, one after the other: all but the last one crash.
async fn attempts(settings: &[Setting], path: &'static str) -> (usize, String) {
    let (crashes, provider) = (Crashes::new(), Provider::default());
    let (last, crashing) = settings.split_last().unwrap();
    let [first, others @ ..] = crashing else {
        unreachable!("one crashes");
    };
    crash(&crashes, &provider, *first, path);
    assert_eq!(provider.charges(), 1);
    for setting in others {
        take_over_and_crash(&crashes, *setting, path);
    }
    let builder = last(crashes.builder()).extension(provider.clone());
    let instance = Local::with(builder, routes(&provider));
    instance.probe.open();
    let answer = instance.post(path, "key").await;
    (provider.charges(), answer.text().to_owned())
}

/// Another attempt, which dies before it has done anything.
fn take_over_and_crash(crashes: &Crashes, setting: Setting, path: &'static str) {
    #[idempotent(on_abandoned = "retry", lease = "30s")]
    async fn stops(attempt: Attempt, State(probe): State<Probe>) -> String {
        format!("{} in run {}", attempt.number(), probe.run_gated().await)
    }
    std::thread::scope(|threads| {
        let process = threads.spawn(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(async {
                let routes = Router::new().route(path, post(stops));
                let process = Local::with(setting(crashes.builder()), routes);
                let _reply = process.spawn(path, "key");
                process.probe.started().await;
                crashes.clock.advance(LEASE);
            });
        });
        process.join().unwrap();
    });
}

#[tokio::test]
async fn attempts_on_instances_of_both_steps_do_one_charge() {
    let ways: [&[Setting]; 8] = [
        &[STEP_1, STEP_1],
        &[STEP_1, STEP_2],
        &[STEP_2, STEP_1],
        &[BEFORE, STEP_1],
        &[STEP_1, BEFORE],
        &[STEP_1, STEP_2, STEP_1],
        &[STEP_2, STEP_1, STEP_2],
        &[STEP_2, STEP_1, STEP_1],
    ];
    for (number, settings) in ways.into_iter().enumerate() {
        for path in PATHS {
            let (charges, answer) = attempts(settings, path).await;
            assert_eq!(charges, 1, "{path}, way {number}: {answer}");
            assert_eq!(answer, "charge 1", "{path}, way {number}");
        }
    }
}

/// By which an operator finds the effect, and a recovery function that an operator passes.
#[tokio::test]
async fn operator_is_shown_the_record_key_that_the_handler_was_told() {
    for (first, second) in [
        (STEP_1, STEP_1),
        (STEP_1, STEP_2),
        (STEP_2, STEP_1),
        (STEP_2, STEP_2),
    ] {
        let (crashes, provider) = (Crashes::new(), Provider::default());
        crash(&crashes, &provider, first, "/record");
        let operator: Idempotency = second(crashes.builder()).build();
        let locator = Locator::new("POST /record", "key");
        let found = operator.inspect(&locator).await.unwrap().unwrap();
        let shown = found.handler_record_key().to_hex();
        assert!(provider.find(&shown).is_some(), "{found:?}");
        let of_request = async |abandoned: Abandoned| {
            assert_eq!(abandoned.record_key().to_hex(), shown);
            Recovery::Unknown
        };
        operator.resolve_with(&locator, of_request).await.unwrap();
    }
}

/// Nothing has happened while that is not kept: another attempt would not find it.
#[tokio::test(start_paused = true)]
async fn handler_that_asks_for_its_attempt_does_not_run_before_it_is_known_by_all_records() {
    use crate::support::{Fault, FaultyStore, Operation, builder_on};
    use idempotent_runtime::store::memory::MemoryStore;

    let store = FaultyStore::new(MemoryStore::new());
    let provider = Provider::default();
    let local = Local::with(STEP_1(builder_on(store.clone())), routes(&provider));
    local.probe.open();
    let away = Fault::Refused(StoreErrorKind::Unavailable);
    store.script_times(100, Operation::SaveProgress, away);
    let refused = local.post("/derived", "key").await;
    refused.assert_problem(503, "store-unavailable");
    assert_eq!(provider.charges(), 0);
    store.unscript(Operation::SaveProgress);
    let retry = local.post("/derived", "key").await;
    assert_eq!((retry.status, retry.text()), (200, "charge 1"));
}

/// The claim is given back slowly, and no caller waits for that.
#[tokio::test(start_paused = true)]
async fn caller_that_leaves_while_its_claim_is_given_back_leaves_a_free_key() {
    use crate::support::{Fault, FaultyStore, Operation, builder_on};
    use idempotent_runtime::store::memory::MemoryStore;

    let store = FaultyStore::new(MemoryStore::new());
    let provider = Provider::default();
    let local = Local::with(STEP_1(builder_on(store.clone())), routes(&provider));
    local.probe.open();
    let away = Fault::Refused(StoreErrorKind::Unavailable);
    store.script_times(8, Operation::SaveProgress, away);
    store.script(Operation::Release, Fault::Swallowed);
    let request = local.spawn("/derived", "key");
    tokio::time::sleep(Duration::from_millis(500)).await;
    request.abort();
    drop(request.await);
    assert_eq!(provider.charges(), 0);
    store.unscript(Operation::SaveProgress);
    store.unscript(Operation::Release);
    // Well within its lease.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let retry = local.post("/derived", "key").await;
    assert_eq!((retry.status, retry.text()), (200, "charge 1"));
}

/// It has nothing to be told.
#[tokio::test]
async fn function_that_is_not_told_its_attempt_costs_no_save() {
    use crate::support::{FaultyStore, Operation, builder_on};
    use idempotent_runtime::store::memory::MemoryStore;
    use idempotent_runtime::{ExecuteError, Execution, Policy};

    const POLICY: Policy = Policy::new();
    let store = FaultyStore::new(MemoryStore::new());
    let handle = STEP_1(builder_on(store.clone())).build();
    let function = async || Ok::<u32, ExecuteError>(7);
    let executed = handle.execute(&POLICY, "pay", (), "key", &1, function);
    assert_eq!(executed.await.unwrap(), Execution::Executed(7));
    assert_eq!(store.calls(Operation::SaveProgress), 0);
    let told = async |_: Attempt| Ok::<u32, ExecuteError>(7);
    let executed = handle.execute_attempt(&POLICY, "pay", (), "other", &1, told);
    assert_eq!(executed.await.unwrap(), Execution::Executed(7));
    assert_eq!(store.calls(Operation::SaveProgress), 2);
}

/// A process with both secrets that dies between its claims, after that many of the old record: it has that one, and has begun nothing.
fn die_between_claims(crashes: &Crashes, provider: &Provider, path: &'static str, claims: usize) {
    std::thread::scope(|threads| {
        let process = threads.spawn(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(async {
                let before = crashes.store.calls(Operation::Claim);
                let works = Fault::Works;
                crashes.store.script_times(claims, Operation::Claim, works);
                crashes.store.script(Operation::Claim, Fault::Swallowed);
                let process = Local::with(STEP_1(crashes.builder()), routes(provider));
                let _reply = process.spawn(path, "key");
                while crashes.store.calls(Operation::Claim) < before + claims + 1 {
                    tokio::task::yield_now().await;
                }
            });
        });
        process.join().unwrap();
    });
}

/// A request that has run under the new secret alone, and beside it the record of a process in which nothing has run.
fn charge_under_the_new_secret_alone(path: &'static str) -> (Crashes, Provider) {
    let (crashes, provider) = (Crashes::new(), Provider::default());
    crash(&crashes, &provider, STEP_2, path);
    die_between_claims(&crashes, &provider, path, 1);
    crashes.clock.advance(LEASE);
    (crashes, provider)
}

/// A process with both secrets that gives its claims back before it has begun, and dies before the store has heard of one of
/// them: that of the new secret.
fn leave_the_record_of_the_new_secret(crashes: &Crashes, provider: &Provider, path: &'static str) {
    let unavailable = Fault::Refused(StoreErrorKind::Unavailable);
    std::thread::scope(|threads| {
        let process = threads.spawn(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(async {
                let store = &crashes.store;
                let before = store.calls(Operation::Release);
                store.script_times(100, Operation::SaveProgress, unavailable);
                store.script(Operation::Release, unavailable);
                store.script(Operation::Release, Fault::Works);
                store.script_times(100, Operation::Release, unavailable);
                let process = Local::with(STEP_1(crashes.builder()), routes(provider));
                let _reply = process.spawn(path, "key");
                while store.calls(Operation::Release) < before + 2 {
                    tokio::task::yield_now().await;
                }
            });
        });
        process.join().unwrap();
    });
    crashes.store.unscript(Operation::SaveProgress);
    crashes.store.unscript(Operation::Release);
}

/// What an instance with both secrets makes of it.
async fn must_be_charged_once(crashes: &Crashes, provider: &Provider, path: &str, what: &str) {
    let operator = STEP_1(crashes.builder()).build();
    let locator = Locator::new(format!("POST {path}"), "key");
    let found = operator.inspect(&locator).await.unwrap().unwrap();
    if path == "/record" {
        let shown = found.handler_record_key().to_hex();
        assert!(provider.find(&shown).is_some(), "{what}: {found:?}");
    }
    let builder = STEP_1(crashes.builder()).extension(provider.clone());
    let instance = Local::with(builder, routes(provider));
    instance.probe.open();
    let answer = instance.post(path, "key").await;
    let seen = (provider.charges(), answer.text());
    assert_eq!(seen, (1, "charge 1"), "{what}, {path}");
}

#[tokio::test]
async fn record_under_which_nothing_has_run_names_no_charge() {
    for path in PATHS {
        let (crashes, provider) = charge_under_the_new_secret_alone(path);
        must_be_charged_once(&crashes, &provider, path, "one death").await;
    }
    // It has had more attempts than the one that has run.
    for path in ["/derived", "/number", "/step"] {
        let (crashes, provider) = charge_under_the_new_secret_alone(path);
        die_between_claims(&crashes, &provider, path, 2);
        crashes.clock.advance(LEASE);
        must_be_charged_once(&crashes, &provider, path, "two deaths").await;
    }
}

#[tokio::test]
async fn record_that_was_given_back_in_vain_names_no_charge() {
    for path in PATHS {
        let (crashes, provider) = (Crashes::new(), Provider::default());
        leave_the_record_of_the_new_secret(&crashes, &provider, path);
        crash(&crashes, &provider, BEFORE, path);
        must_be_charged_once(&crashes, &provider, path, "given back in vain").await;
    }
}

/// An operator's recovery function looks the charge up, and so may an operator.
#[tokio::test]
async fn operator_finds_the_charge_beside_a_record_under_which_nothing_has_run() {
    let (crashes, provider) = charge_under_the_new_secret_alone("/record");
    let operator = STEP_1(crashes.builder().extension(provider.clone())).build();
    let locator = Locator::new("POST /record", "key");
    let found = operator.inspect(&locator).await.unwrap().unwrap();
    let shown = found.handler_record_key().to_hex();
    assert!(provider.find(&shown).is_some(), "{found:?}");
    let since_the_charge = async |abandoned: Abandoned| {
        assert_eq!(abandoned.age(), 2 * LEASE);
        Recovery::Unknown
    };
    operator
        .resolve_with(&locator, since_the_charge)
        .await
        .unwrap();
    let resolved = operator.resolve_with(&locator, look).await.unwrap();
    assert!(matches!(resolved, Resolution::Resolved), "{resolved:?}");
    let instance = Local::with(STEP_1(crashes.builder()), routes(&provider));
    let retry = instance.post("/record", "key").await;
    assert_eq!((provider.charges(), retry.text()), (1, "charge 1"));
}

#[tokio::test]
async fn operator_is_shown_the_steps_of_each_record() {
    let (crashes, _provider) = charge_under_the_new_secret_alone("/step");
    let operator = STEP_1(crashes.builder()).build();
    let found = operator.inspect(&Locator::new("POST /step", "key")).await;
    assert_eq!(found.unwrap().unwrap().steps().unwrap(), ["charge"]);
}

#[tokio::test]
async fn recovery_function_is_told_the_steps_of_each_record() {
    let (crashes, provider) = charge_under_the_new_secret_alone("/steps");
    let instance = Local::with(STEP_1(crashes.builder()), routes(&provider));
    let retry = instance.post("/steps", "key").await;
    assert_eq!((retry.status, retry.text()), (200, "charge 1"));
}

//! The service that is simulated: handlers under the attribute, functions under `execute`, and a
//! recovery function that looks at the ledger.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRef, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use idempotent_runtime::store::{ReplayCache, Store};
use idempotent_runtime::{
    Abandoned as AbandonedAttempt, Attempt, ExecuteError, Execution, Idempotency, InFlight,
    OnAbandoned, Policy, Recovery, Release, StepError, StoredResponse, idempotent,
};
use tokio::time::{Instant, sleep};

use crate::client::{Answer, Said};
use crate::ledger::{End, Ledger, Retry, Run};
use crate::link::{self, Link};
use crate::plan::{Abandoned, BRIEF_TTL, HandlerOutcome, IntentPlan, Millis, Plan, Secrets};
use crate::process::ProcessId;

/// What must never be in a log: the beginnings of keys, scopes and bodies.
pub const SECRETS: [&str; 3] = ["KEY~", "SCOPE~", "BODY~"];

#[derive(Clone)]
pub struct App {
    process: ProcessId,
    ledger: Ledger,
    started_at: Millis,
    start: Instant,
}

#[derive(Clone, FromRef)]
struct AppState {
    idempotency: Idempotency,
    app: App,
}

/// The key that an intent's clients send.
pub fn key_of(plan: &IntentPlan, intent: usize) -> String {
    if plan.key >= 100 {
        format!("KEY~{intent}")
    } else {
        format!("KEY~shared-{}", plan.key)
    }
}

pub fn scope_of(plan: &IntentPlan) -> String {
    format!("SCOPE~{}", plan.scope)
}

/// What a client sends: which intent, and which of the bodies that it may have.
pub fn body_of(intent: usize, variant: u8) -> String {
    format!("BODY~intent={intent};variant={variant}")
}

fn parse(body: &str) -> (usize, u8) {
    let field = |name: &str| {
        let (_, rest) = body.split_once(name).expect("a field");
        rest.split(';').next().expect("a value").to_owned()
    };
    let intent = field("intent=").parse().expect("an intent");
    (intent, field("variant=").parse().expect("a variant"))
}

/// What a run answers, in a form that says where it comes from.
pub fn answer_of(run: usize, intent: usize, variant: u8, padding: usize) -> String {
    format!(
        "run={run};intent={intent};variant={variant};BODY~{}",
        "x".repeat(padding)
    )
}

pub fn handle(
    plan: &Plan,
    id: ProcessId,
    link: &Link,
    ledger: &Ledger,
    now: Millis,
) -> Idempotency {
    let app = App {
        process: id,
        ledger: ledger.clone(),
        started_at: now,
        start: Instant::now(),
    };
    let store: Arc<dyn Store> = Arc::new(link.clone());
    let builder = Idempotency::builder(store)
        .namespace("simulation")
        .scope(|parts| {
            let scope = parts.headers.get("x-scope")?;
            Some(scope.to_str().ok()?.to_owned())
        })
        .store_timeout(Duration::from_millis(plan.store_timeout))
        .abandoned_retention(Duration::from_millis(plan.retention))
        .max_pending_bytes(plan.max_pending_bytes)
        .replay_cache(plan.replay_cache.then(ReplayCache::new))
        .ttl(Duration::from_millis(BRIEF_TTL))
        .extension(app);
    let is_first = id.slot == 0;
    let builder = match plan.secrets {
        Secrets::Same => builder,
        Secrets::OldAndBoth if is_first => builder.secret("old"),
        Secrets::BothAndNew if !is_first => builder.secret("new"),
        Secrets::OldAndBoth | Secrets::BothAndNew => {
            builder.secret("new").previous_secrets(["old"])
        }
        Secrets::NoneAndBoth if is_first => builder,
        Secrets::NoneAndBoth => builder.secret("new").previously_without_secret(),
    };
    builder.build()
}

pub fn router(
    id: ProcessId,
    idempotency: &Idempotency,
    ledger: &Ledger,
    now: Millis,
    start: Instant,
) -> Router {
    let state = AppState {
        idempotency: idempotency.clone(),
        app: App {
            process: id,
            ledger: ledger.clone(),
            started_at: now,
            start,
        },
    };
    Router::new()
        .route("/0", post(reject))
        .route("/1", post(reject_short))
        .route("/2", post(retry))
        .route("/3", post(retry_short))
        .route("/4", post(reject_brief))
        .route("/5", post(recovered))
        .route("/6", post(retry_brief))
        .route("/7", post(retry_long))
        .with_state(state)
}

macro_rules! routes {
    ($($name:ident ($($argument:tt)*);)*) => {$(
        #[idempotent($($argument)*)]
        async fn $name(attempt: Attempt, State(app): State<App>, body: Bytes) -> Response {
            app.http(attempt, body).await
        }
    )*};
}

// As `plan::ROUTES` says. Those without a TTL have the handle's.
routes! {
    reject(lease = "30s", ttl = "24h");
    reject_short(lease = "500ms", ttl = "24h", in_flight = "wait", wait = "3s");
    retry(lease = "4s", ttl = "24h", on_abandoned = "retry");
    retry_short(lease = "500ms", ttl = "24h", on_abandoned = "retry");
    reject_brief(lease = "2s");
    recovered(lease = "6s", ttl = "24h", on_abandoned = recover_http);
    retry_brief(lease = "30s", on_abandoned = "retry", in_flight = "wait", wait = "10s");
    retry_long(lease = "12s", ttl = "1h", on_abandoned = "retry", in_flight = "wait", wait = "1s");
}

async fn recover_http(abandoned: AbandonedAttempt) -> Recovery {
    recover(&abandoned, |answer| {
        Ok(StoredResponse::new(
            StatusCode::CREATED,
            Default::default(),
            answer,
        ))
    })
    .await
}

fn recover_value(abandoned: AbandonedAttempt) -> Pin<Box<dyn Future<Output = Recovery> + Send>> {
    Box::pin(async move { recover(&abandoned, |answer| StoredResponse::of_value(&answer)).await })
}

/// Looks what has happened, and says so some time later.
async fn recover(
    abandoned: &AbandonedAttempt,
    response: impl FnOnce(String) -> Result<StoredResponse, serde_json::Error>,
) -> Recovery {
    let app: &App = abandoned.extension().expect("the application");
    let found = app.find(abandoned, response);
    let takes = app.ledger.lock().recovery_takes;
    if takes > 0 {
        sleep(Duration::from_millis(takes)).await;
    }
    found
}

#[derive(Debug)]
struct Nothing;

impl IntoResponse for Nothing {
    fn into_response(self) -> Response {
        Release((StatusCode::SERVICE_UNAVAILABLE, "nothing")).into_response()
    }
}

impl App {
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub fn now(&self) -> Millis {
        self.started_at + self.start.elapsed().as_millis() as Millis
    }

    /// Looks whether the effect of any run under the record is there.
    fn find(
        &self,
        abandoned: &AbandonedAttempt,
        response: impl FnOnce(String) -> Result<StoredResponse, serde_json::Error>,
    ) -> Recovery {
        let mut ledger = self.ledger.lock();
        let record = Some(abandoned.record_key());
        // Not those of an earlier life of the record, which has expired.
        let since = self
            .now()
            .saturating_sub(abandoned.age().as_millis() as Millis);
        let runs = ledger.runs.iter().enumerate().rev();
        let mut runs = runs.filter(|(_, run)| run.record == record && run.begun_at >= since);
        let done = runs
            .find(|(_, run)| !run.effects.is_empty() && run.attempt <= abandoned.attempt())
            .map(|(number, run)| answer_of(number, run.intent, run.variant, 0));
        match done {
            Some(answer) => response(answer).map_or(Recovery::Unknown, Recovery::Replay),
            None if ledger.chance(70) => {
                ledger.retries.push(Retry {
                    record: abandoned.record_key(),
                    attempt: abandoned.attempt(),
                    at: self.now(),
                });
                Recovery::Retry
            }
            None => Recovery::Unknown,
        }
    }

    fn begin(&self, attempt: &Attempt, intent: usize, variant: u8) -> usize {
        self.ledger.begin(Run {
            request: link::current_request(),
            intent,
            variant,
            record: attempt.record_key(),
            attempt: attempt.number(),
            process: self.process,
            begun_at: self.now(),
            effects: Vec::new(),
            ended: None,
        })
    }

    /// What is the same in handlers and functions: waits, takes effect, waits.
    async fn work(
        &self,
        attempt: &Attempt,
        run: usize,
        plan: &IntentPlan,
    ) -> Result<(), StepError<Nothing>> {
        sleep(Duration::from_millis(plan.before)).await;
        match plan.outcome {
            HandlerOutcome::NothingHappened => {
                self.ledger.end(run, End::NothingHappened);
                return Err(StepError::Step(Nothing));
            }
            HandlerOutcome::Steps => {
                for label in ["charge", "receipt"] {
                    let step = attempt.step(label, async {
                        sleep(Duration::from_millis(plan.before)).await;
                        self.ledger.effect(run, label, self.now());
                        Ok::<_, Nothing>(run)
                    });
                    if let Err(error) = step.await {
                        self.ledger.end(run, End::CutOff);
                        return Err(error);
                    }
                }
            }
            HandlerOutcome::Done | HandlerOutcome::Stream { .. } | HandlerOutcome::Panics => {
                self.ledger.effect(run, "done", self.now());
            }
        }
        sleep(Duration::from_millis(plan.after)).await;
        if plan.outcome == HandlerOutcome::Panics {
            self.ledger.end(run, End::Panicked);
            std::panic::resume_unwind(Box::new("simulated"));
        }
        self.ledger.end(run, End::Answered);
        Ok(())
    }

    async fn http(self, attempt: Attempt, body: Bytes) -> Response {
        let (intent, variant) = parse(std::str::from_utf8(&body).expect("text"));
        let plan = self.ledger.intent(intent);
        let run = self.begin(&attempt, intent, variant);
        if let Err(error) = self.work(&attempt, run, &plan).await {
            return error.into_response();
        }
        let answer = answer_of(run, intent, variant, plan.body_bytes);
        let HandlerOutcome::Stream { chunks, pause } = plan.outcome else {
            return (StatusCode::CREATED, answer).into_response();
        };
        let size = answer.len().div_ceil(chunks as usize).max(1);
        let pieces: Vec<Bytes> = answer
            .as_bytes()
            .chunks(size)
            .map(Bytes::copy_from_slice)
            .collect();
        let pieces = stream::unfold(pieces.into_iter(), move |mut pieces| async move {
            sleep(Duration::from_millis(pause)).await;
            let piece = pieces.next()?;
            Some((Ok::<_, std::io::Error>(piece), pieces))
        });
        (StatusCode::CREATED, Body::from_stream(pieces)).into_response()
    }

    async fn function(
        self,
        attempt: Attempt,
        plan: IntentPlan,
        intent: usize,
        variant: u8,
    ) -> Result<String, NotDone> {
        let run = self.begin(&attempt, intent, variant);
        let worked = self.work(&attempt, run, &plan).await;
        worked.map_err(|_| NotDone::Nothing)?;
        Ok(answer_of(run, intent, variant, plan.body_bytes))
    }
}

enum NotDone {
    /// The function says that nothing happened.
    Nothing,
    Error(ExecuteError),
}

impl From<ExecuteError> for NotDone {
    fn from(error: ExecuteError) -> Self {
        Self::Error(error)
    }
}

/// Calls `execute_attempt` for an intent.
pub async fn execute(
    idempotency: Idempotency,
    app: App,
    plan: IntentPlan,
    intent: usize,
    variant: u8,
) -> Answer {
    let policy = Policy::new()
        .lease(Duration::from_millis(plan.lease))
        .ttl(Duration::from_millis(plan.ttl))
        .in_flight(if plan.waits {
            InFlight::Wait
        } else {
            InFlight::Reject
        })
        .wait(Duration::from_secs(3))
        .on_abandoned(match plan.on_abandoned {
            Abandoned::Reject => OnAbandoned::Reject,
            Abandoned::Retry => OnAbandoned::Retry,
            Abandoned::Recover => OnAbandoned::Recover(recover_value),
        });
    let input = body_of(intent, variant);
    let key = key_of(&plan, intent);
    let operation = format!("settle-{}-{}", plan.lease, plan.ttl);
    let done = idempotency
        .execute_attempt(&policy, &operation, scope_of(&plan), &key, &input, {
            move |attempt| app.function(attempt, plan, intent, variant)
        })
        .await;
    match done {
        Ok(Execution::Executed(value)) => Answer::of_value(value, false),
        Ok(Execution::Replayed(value)) => Answer::of_value(value, true),
        Ok(Execution::InFlight { .. }) => Answer::of(Said::InFlight),
        Ok(Execution::OutcomeUnknown) => Answer::of(Said::Unknown),
        Ok(Execution::Mismatch) => Answer::of(Said::Reused),
        Ok(Execution::NotRetained) => Answer::of(Said::NotRetained),
        Ok(other) => Answer::of(Said::Other(format!("{other:?}"))),
        Err(NotDone::Nothing) => Answer::of(Said::Nothing),
        Err(NotDone::Error(reason)) => of_reason(&reason),
    }
}

fn of_reason(reason: &ExecuteError) -> Answer {
    use idempotent_runtime::ExecuteErrorKind as Kind;
    Answer::of(match reason.kind() {
        Kind::Store | Kind::ShuttingDown => Said::Unavailable,
        kind => Said::Other(format!("{kind:?}")),
    })
}

impl crate::process::Process {
    pub fn app(&self, ledger: &Ledger) -> App {
        App {
            process: self.id,
            ledger: ledger.clone(),
            started_at: self.app_started_at(),
            start: self.app_start(),
        }
    }
}

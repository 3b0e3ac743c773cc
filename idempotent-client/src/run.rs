//! The loop of tries: the only place that sends, waits and gives up.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::clock::{Clock, Pause, SystemClock};
use crate::decision::{Conclusion, Decision, Reason};
use crate::error::{Answer, BoxError, Error};
use crate::intent::Intent;
use crate::open::OpenCheck;
use crate::outcome::{Outcome, problem_code};
use crate::policy::{Policy, State};
use crate::{grpc, profile::Profile};
use http::HeaderName;
use http::header::HeaderMap;

/// How intents are sent, beside the transport.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) policy: Policy,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) header: HeaderName,
    pub(crate) open_check: Option<OpenCheck>,
}

impl Settings {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy,
            clock: Arc::new(SystemClock),
            header: HeaderName::from_static("idempotency-key"),
            open_check: None,
        }
    }

    async fn is_open(&self, intent: &Intent) -> bool {
        if intent.is_closed() {
            return false;
        }
        match &self.open_check {
            Some(check) => check.is_open(intent).await,
            None => true,
        }
    }

    /// The policy among the extensions of a request, if there is one, goes before the own.
    #[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
    pub(crate) fn with_policy_of(&self, extensions: &http::Extensions) -> Self {
        let mut settings = self.clone();
        if let Some(policy) = extensions.get::<Policy>() {
            settings.policy = policy.clone();
        }
        settings
    }

    pub(crate) fn profile(&self) -> Profile {
        self.policy.server()
    }

    /// Sets the key, and replaces what the application may have set.
    pub(crate) fn set_key(&self, headers: &mut HeaderMap, intent: &Intent) {
        let value = intent.valid_key().header_value(self.profile());
        headers.insert(self.header.clone(), value);
    }
}

/// Sends one try: the same bytes each time.
pub(crate) trait Transport: Send {
    fn send(&mut self) -> Pin<Box<dyn Future<Output = Result<Whole, Failure>> + Send + '_>>;
}

/// An answer whose body has arrived to its end.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) answer: Answer,
    pub(crate) trailers: Option<HeaderMap>,
    /// The request is a gRPC call.
    pub(crate) is_grpc: bool,
}

impl Whole {
    fn outcome(&self) -> Outcome<'_> {
        grpc::outcome(&self.answer, self.trailers.as_ref(), self.is_grpc)
            .unwrap_or_else(|| Outcome::answer(&self.answer))
    }

    /// As an error carries it: trailers among the headers, as in a gRPC answer without messages.
    fn into_answer(self) -> Box<Answer> {
        let mut answer = self.answer;
        answer
            .headers_mut()
            .extend(self.trailers.unwrap_or_default());
        Box::new(answer)
    }
}

/// Why a try brought no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    Lost(BoxError),
    #[cfg(feature = "reqwest")]
    Redirected,
    #[cfg(feature = "reqwest")]
    Invalid(BoxError),
}

/// What the last try brought: an answer, or why it brought none. Neither: a redirect was followed.
#[derive(Default)]
struct Last {
    whole: Option<Whole>,
    source: Option<BoxError>,
}

impl Last {
    fn outcome(&self) -> Outcome<'_> {
        match (&self.whole, &self.source) {
            (Some(whole), _) => whole.outcome(),
            (None, Some(_)) => Outcome::Lost,
            (None, None) => Outcome::Redirected,
        }
    }

    fn concluded(mut self, intent: &Intent, conclusion: Conclusion) -> Result<Whole, Error> {
        match self.whole.take() {
            Some(mut whole) => {
                whole.answer.extensions_mut().insert(conclusion);
                Ok(whole)
            }
            // Unreachable: only an answer is conclusive.
            None => Err(self.undecided(intent, Reason::Attempts)),
        }
    }

    fn undecided(self, intent: &Intent, reason: Reason) -> Error {
        tracing::warn!(key = %intent.valid_key().digest(), %reason, "intent undecided");
        Error::Undecided {
            intent: intent.clone(),
            reason,
            answer: self.whole.map(Whole::into_answer),
            source: self.source,
        }
    }

    fn refused(self, intent: &Intent, reason: Reason) -> Error {
        refused(intent, reason, self.whole.map(Whole::into_answer))
    }
}

pub(crate) fn refused(intent: &Intent, reason: Reason, answer: Option<Box<Answer>>) -> Error {
    tracing::warn!(key = %intent.valid_key().digest(), %reason, "intent refused");
    Error::Refused {
        intent: intent.clone(),
        reason,
        answer,
    }
}

/// Sends the intent until there is a conclusive answer, or until no other try is allowed. Dropping it stops the tries.
pub(crate) async fn run(
    intent: &Intent,
    settings: &Settings,
    transport: &mut dyn Transport,
) -> Result<Whole, Error> {
    let Settings { policy, clock, .. } = settings;
    let mut begun = None;
    let mut last = Last::default();
    let mut attempt = 0_u32;
    // The shortest life of the key that an answer has told of.
    let mut told = None;
    loop {
        attempt = attempt.saturating_add(1);
        if !settings.is_open(intent).await {
            return Err(last.undecided(intent, Reason::Closed));
        }
        // Again before each try: a wait may have been longer than it was asked to be, and the clock may have been set.
        let age = intent.age(clock.now(), policy);
        let usable = policy.usable(intent.lifetime(), told);
        let entered = intent.known().enter(age, usable);
        if let Err(reason) = entered {
            return Err(last.undecided(intent, reason));
        }
        let begun = *begun.get_or_insert_with(|| clock.instant());
        if policy.is_over(clock.instant().saturating_duration_since(begun)) {
            return Err(last.undecided(intent, Reason::Budget));
        }
        let limit = policy.try_timeout(age.unwrap_or_default(), intent.lifetime(), told);
        last = send_once(intent, settings, transport, attempt, limit).await?;
        told = told.into_iter().chain(last.outcome().lifetime()).min();
        let (now, random) = (clock.now(), clock.random());
        let (age, lifetime) = (intent.age(now, policy), intent.lifetime());
        let elapsed = clock.instant().saturating_duration_since(begun);
        let decision = intent.known().leave(|sent| {
            let state = State {
                attempt,
                sent,
                elapsed,
                age,
                lifetime,
                told,
            };
            policy.decide(&last.outcome(), &state, now, random)
        });
        match decision {
            Decision::Conclude(conclusion) => return last.concluded(intent, conclusion),
            Decision::Refuse(reason) => return Err(last.refused(intent, reason)),
            Decision::Undecided(reason) => return Err(last.undecided(intent, reason)),
            Decision::Retry { wait } => {
                let key = intent.valid_key().digest();
                tracing::debug!(%key, attempt, ?wait, "waiting before the next try");
                clock.sleep(wait, Pause::BackOff).await;
            }
        }
    }
}

async fn send_once(
    intent: &Intent,
    settings: &Settings,
    transport: &mut dyn Transport,
    attempt: u32,
    limit: Duration,
) -> Result<Last, Error> {
    let key = intent.valid_key().digest();
    let limit = settings.clock.sleep(limit, Pause::Timeout);
    match or_timeout(transport.send(), limit).await {
        Ok(mut whole) => {
            let status = whole.answer.status().as_u16();
            if let Some(code) = problem_code(whole.answer.headers(), whole.answer.body()) {
                whole.answer.extensions_mut().insert(code);
                tracing::debug!(%key, attempt, status, %code, "answer");
            } else {
                let replayed = crate::outcome::is_replay(whole.answer.headers());
                tracing::debug!(%key, attempt, status, replayed, "answer");
            }
            Ok(Last {
                whole: Some(whole),
                source: None,
            })
        }
        Err(Failure::Lost(source)) => {
            tracing::debug!(%key, attempt, error = %source, "no answer");
            Ok(Last {
                whole: None,
                source: Some(source),
            })
        }
        #[cfg(feature = "reqwest")]
        Err(Failure::Redirected) => {
            tracing::debug!(%key, attempt, "a redirect was followed");
            Ok(Last::default())
        }
        #[cfg(feature = "reqwest")]
        Err(Failure::Invalid(source)) => Err(Error::Invalid {
            intent: intent.clone(),
            source,
        }),
    }
}

async fn or_timeout(
    sending: impl Future<Output = Result<Whole, Failure>>,
    limit: impl Future<Output = ()>,
) -> Result<Whole, Failure> {
    let (mut sending, mut limit) = (pin!(sending), pin!(limit));
    poll_fn(|context| match sending.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => limit
            .as_mut()
            .poll(context)
            .map(|()| Err(Failure::Lost(Box::new(TimedOut)))),
    })
    .await
}

/// A try took longer than `Policy::timeout`.
#[derive(Debug)]
struct TimedOut;

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no response in time")
    }
}

impl std::error::Error for TimedOut {}

//! What holds for every policy and every server, however it answers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use idempotent_client::{
    BoxError, Conclusion, Decision, Error, Intent, IntentLayer, Outcome, Policy, Profile,
    ResponseExt, Sent, State,
};
use proptest::prelude::*;
use support::FakeClock;
use tower::{Layer, ServiceExt};

const NOW: Duration = Duration::from_secs(1_767_225_600);

/// An answer of the operation, or of anything between.
#[derive(Debug, Clone)]
struct Answer {
    status: u16,
    is_marked: bool,
    retry_after: Option<u64>,
    code: Option<&'static str>,
    advice: Option<&'static str>,
}

impl Answer {
    fn to_response(&self) -> Response<Full<Bytes>> {
        let mut response = Response::builder().status(self.status);
        if self.is_marked {
            response = response.header("idempotent-replayed", "true");
        }
        if let Some(seconds) = self.retry_after {
            response = response.header("retry-after", seconds);
        }
        if let Some(advice) = self.advice {
            response = response.header("stripe-should-retry", advice);
        }
        let Some(code) = self.code else {
            return response.body(Full::from("x")).unwrap();
        };
        let body = format!(r#"{{"code":"{code}"}}"#);
        let response = response.header("content-type", "application/problem+json");
        response.body(Full::from(body)).unwrap()
    }
}

fn answers() -> impl Strategy<Value = Answer> {
    let statuses = prop_oneof![
        2 => 200_u16..600,
        3 => prop::sample::select(vec![201, 302, 400, 401, 402, 408, 409, 422, 425, 429, 500, 502, 503]),
    ];
    let codes = [
        "in-flight",
        "outcome-unknown",
        "key-reused",
        "store-unavailable",
        "of-the-future",
    ];
    let retry_after = prop_oneof![0_u64..40, Just(1_000_000_000)];
    (
        statuses,
        prop::bool::weighted(0.1),
        prop::option::of(retry_after),
        prop::option::of(prop::sample::select(codes.to_vec())),
        prop::option::of(prop::sample::select(vec!["true", "false"])),
    )
        .prop_map(|(status, is_marked, retry_after, code, advice)| Answer {
            status,
            is_marked,
            retry_after,
            code,
            advice,
        })
}

fn millis(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

fn policies() -> impl Strategy<Value = Policy> {
    let times = (millis(0..200_000), millis(0..5_000), millis(0..60_000));
    let life = (millis(0..90_000_000), millis(0..400_000));
    (0_u32..10, times, life, any::<bool>()).prop_map(
        |(attempts, (budget, base, cap), (lifetime, margin), stripe)| {
            let profile = if stripe {
                Profile::Stripe
            } else {
                Profile::Draft
            };
            Policy::new()
                .attempts(attempts)
                .budget(budget)
                .base(base)
                .cap(cap)
                .lifetime(lifetime)
                .margin(margin)
                .profile(profile)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn wait_is_never_shorter_than_retry_after_and_ends_before_budget_and_life(
        answer in answers(),
        policy in policies(),
        (attempt, sent) in (1_u32..12, prop::sample::select(vec![Sent::Never, Sent::Perhaps, Sent::Before])),
        elapsed in millis(0..250_000),
        age in millis(0..100_000_000),
        random in prop_oneof![Just(1.0), 0.0_f64..0.999],
    ) {
        let now = UNIX_EPOCH + NOW;
        let state = State { attempt, sent, elapsed, age: Some(age), lifetime: None, told: None };
        let response = answer.to_response().map(|_| "");
        let decision = policy.decide(&Outcome::answer(&response), &state, now, random);
        if let Decision::Retry { wait, .. } = decision {
            prop_assert!(wait >= Duration::from_secs(answer.retry_after.unwrap_or(0)));
            // Asked again after that wait, the budget and the life of the key are not over.
            let after = State { elapsed: elapsed + wait, age: Some(age + wait), attempt: 1, sent: Sent::Before, ..state };
            if random < 1.0 && wait > Duration::ZERO {
                let again = policy.clone().attempts(2).decide(&Outcome::Lost, &after, now + wait, 0.0);
                prop_assert!(matches!(again, Decision::Retry { .. }), "{again:?}");
            }
        }
        let may_be_gates = !answer.is_marked && !(200..300).contains(&answer.status);
        if may_be_gates && answer.advice.is_none() {
            let expected = match sent {
                _ if attempt > 1 => None,
                Sent::Never => Some(Conclusion::Closed),
                Sent::Perhaps => Some(Conclusion::Rejected),
                Sent::Before => None,
            };
            if let Decision::Conclude(conclusion) = decision {
                prop_assert_eq!(Some(conclusion), expected);
            }
        }
    }

    #[test]
    fn lost_answer_is_never_conclusive_and_never_refused(policy in policies(), attempt in 1_u32..12) {
        let created = UNIX_EPOCH + NOW;
        let age = Some(Duration::ZERO);
        let state = State { attempt, sent: Sent::Never, elapsed: Duration::ZERO, age, lifetime: None, told: None };
        let decision = policy.decide(&Outcome::Lost, &state, created, 0.5);
        prop_assert!(matches!(decision, Decision::Retry { .. } | Decision::Undecided(_)), "{decision:?}");
    }

    #[test]
    fn every_try_has_the_same_key_and_what_is_handed_over_is_the_last_answer(
        script in prop::collection::vec(prop::option::of(answers()), 1..8),
        policy in policies(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(play(script, policy))?;
    }
}

/// `None` is a lost answer; after the script every answer is lost.
async fn play(script: Vec<Option<Answer>>, policy: Policy) -> Result<(), TestCaseError> {
    let keys: Arc<Mutex<Vec<HeaderValue>>> = Arc::default();
    let seen = Arc::clone(&keys);
    let answers = script.clone();
    let service = tower::service_fn(move |request: Request<Full<Bytes>>| {
        let mut seen = seen.lock().unwrap();
        seen.push(request.headers()["idempotency-key"].clone());
        let answer = answers.get(seen.len() - 1).cloned().flatten();
        let result = answer.map(|answer| answer.to_response());
        async move { result.ok_or(BoxError::from("lost")) }
    });
    let clock = FakeClock::new(SystemTime::now(), 0.5);
    let service = IntentLayer::new(policy).clock(clock.clone()).layer(service);
    let intent = Intent::with_key_at("order-1", clock_now(&clock)).unwrap();
    let mut request = Request::new(Full::from("order"));
    request.extensions_mut().insert(intent.clone());
    let result = service.oneshot(request).await;

    let keys = keys.lock().unwrap();
    prop_assert!(keys.len() <= 10);
    prop_assert!(
        keys.iter()
            .all(|key| key.to_str().unwrap().trim_matches('"') == "order-1")
    );
    prop_assert!(clock.waits().len() + 1 >= keys.len());
    let last = keys
        .len()
        .checked_sub(1)
        .and_then(|last| script.get(last))
        .cloned()
        .flatten();
    match result {
        Ok(response) => {
            prop_assert_eq!(
                Some(response.status().as_u16()),
                last.as_ref().map(|answer| answer.status)
            );
            prop_assert_eq!(response.is_replay(), last.unwrap().is_marked);
        }
        Err(error) => {
            let error: Box<Error> = error.downcast().unwrap();
            prop_assert_eq!(error.intent().key(), "order-1");
            let status = error.answer().map(|answer| answer.status().as_u16());
            prop_assert_eq!(status, last.map(|answer| answer.status));
        }
    }
    for (wait, answer) in clock.waits().iter().zip(&script) {
        let least = answer
            .as_ref()
            .and_then(|answer| answer.retry_after)
            .unwrap_or(0);
        prop_assert!(*wait >= Duration::from_secs(least));
    }
    Ok(())
}

fn clock_now(clock: &FakeClock) -> SystemTime {
    idempotent_client::Clock::now(clock)
}

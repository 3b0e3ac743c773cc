//! What makes two calls the same.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{
    ExecuteErrorKind, Execution, Idempotency, KeyAge, Locator, Policy, idempotent,
};
use serde::Serialize;
use serde_json::json;

use super::{Consumer, DEFAULT, Outcome, SettleError, assert_no_result};
use crate::support::uuid_v7;
use crate::support::{App, Operation, Probe, reply, serve};

#[derive(Serialize)]
struct Order {
    amount: u64,
    currency: &'static str,
}

const ORDER: Order = Order {
    amount: 1000,
    currency: "USD",
};

/// Says in which run it was done.
async fn run(
    consumer: &Consumer,
    operation: &str,
    scope: impl Serialize,
    key: &str,
    input: &(impl Serialize + ?Sized),
) -> Outcome {
    let probe = consumer.probe.clone();
    let function = async move || Ok::<_, SettleError>(probe.run());
    consumer
        .idempotency
        .execute(&DEFAULT, operation, scope, key, input, function)
        .await
}

#[tokio::test]
async fn the_same_key_with_another_input_is_a_mismatch() {
    let consumer = Consumer::new();
    let first = run(&consumer, "op", (), "key", &ORDER).await.unwrap();
    assert_eq!(first, Execution::Executed(1));
    let other = Order {
        amount: 2000,
        ..ORDER
    };
    let mismatch = run(&consumer, "op", (), "key", &other).await.unwrap();
    assert_eq!(mismatch, Execution::Mismatch);
    let reason = mismatch.into_result().unwrap_err();
    assert_eq!(
        (reason.kind(), reason.retry_after()),
        (ExecuteErrorKind::Mismatch, None)
    );
    assert_eq!(consumer.probe.runs(), 1);
}

#[tokio::test]
async fn an_input_is_compared_by_its_value_and_not_by_its_spelling() {
    let consumer = Consumer::new();
    let map = |amount| BTreeMap::from([("currency", "USD".into()), ("amount", amount)]);
    let outcomes = [
        run(&consumer, "op", (), "key", &ORDER).await,
        run(&consumer, "op", (), "key", &map(json!(1000))).await,
        run(&consumer, "op", (), "key", &map(json!(1e3))).await,
    ];
    let [Ok(first), Ok(second), Ok(third)] = outcomes else {
        panic!("{outcomes:?}");
    };
    assert_eq!(first, Execution::Executed(1));
    assert_eq!([second, third], [Execution::Replayed(1); 2]);
}

#[tokio::test]
async fn operation_scope_and_key_are_three_things() {
    let consumer = Consumer::new();
    let calls: [(&str, Option<&str>, &str); 6] = [
        ("op", None, "key"),
        ("op", Some("key"), "key"),
        ("op", Some("k"), "ey"),
        ("op", Some("ke"), "y"),
        ("opk", None, "ey"),
        ("op", None, "ke"),
    ];
    for (index, (operation, scope, key)) in calls.into_iter().enumerate() {
        let outcome = run(&consumer, operation, scope, key, "").await.unwrap();
        assert_eq!(outcome, Execution::Executed(index + 1));
    }
    // A key without a scope is one thing, however that is written.
    let outcome = run(&consumer, "op", (), "key", "").await.unwrap();
    assert_eq!(outcome, Execution::Replayed(1));
}

#[tokio::test]
async fn the_name_of_the_policy_is_the_operation() {
    const NAMED: Policy = Policy::new().name("named");
    let consumer = Consumer::new();
    let idempotency = &consumer.idempotency;
    for (policy, operation, expected) in [
        (&NAMED, "one", Execution::Executed(1)),
        (&NAMED, "two", Execution::Replayed(1)),
        (&DEFAULT, "named", Execution::Replayed(1)),
    ] {
        let function = async || Ok::<_, SettleError>(1);
        let outcome = idempotency.execute(policy, operation, (), "key", "", function);
        assert_eq!(outcome.await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_key_is_any_text_of_1_to_255_bytes() {
    let consumer = Consumer::new();
    let longest = "k".repeat(255);
    for key in ["\u{1f4b8}", "a b,c;\"d\"\n", &longest] {
        let outcome = run(&consumer, "op", (), key, "").await;
        assert!(matches!(outcome, Ok(Execution::Executed(_))), "{outcome:?}");
    }
    let claims = consumer.store.calls(Operation::Claim);
    for key in ["", &"k".repeat(256)] {
        let outcome = run(&consumer, "op", (), key, "").await;
        assert_no_result(outcome, ExecuteErrorKind::InvalidKey);
    }
    assert_eq!(
        (
            consumer.probe.runs(),
            consumer.store.calls(Operation::Claim)
        ),
        (3, claims)
    );
}

#[tokio::test]
async fn what_does_not_serialize_does_not_run() {
    let consumer = Consumer::new();
    let no_json = BTreeMap::from([((1, 2), 3)]);
    for outcome in [
        run(&consumer, "op", (), "key", &no_json).await,
        run(&consumer, "op", &no_json, "key", "").await,
    ] {
        let Err(SettleError::NotExecuted(reason)) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(reason.kind(), ExecuteErrorKind::UnusableInput);
        assert!(std::error::Error::source(&reason).is_some());
    }
    assert_eq!(consumer.probe.runs(), 0);
}

/// Two different inputs of the same JSON would be one.
#[tokio::test]
async fn what_has_the_json_of_another_value_does_not_run() {
    async fn check(consumer: &Consumer, value: impl Serialize) {
        for outcome in [
            run(consumer, "op", (), "key", &value).await,
            run(consumer, "op", &value, "key", "").await,
        ] {
            assert_no_result(outcome, ExecuteErrorKind::UnusableInput);
        }
    }
    let consumer = Consumer::new();
    check(&consumer, f64::NAN).await;
    check(&consumer, ("amount", Some(f32::INFINITY))).await;
    check(&consumer, [Some(())]).await;
    check(&consumer, (1, Some(None::<u8>))).await;
    assert_eq!(
        (
            consumer.probe.runs(),
            consumer.store.calls(Operation::Claim)
        ),
        (0, 0)
    );
}

/// A set has its elements in another order each time it is made: of 200 messages, 193 ran twice.
#[tokio::test]
async fn equal_sets_are_one_input_and_one_scope() {
    #[derive(Serialize)]
    struct Grant {
        user: u32,
        rights: HashSet<String>,
    }
    let consumer = Consumer::new();
    let rights = || (0..20).map(|n| format!("right {n}")).collect();
    for user in 0..50 {
        for _ in 0..3 {
            let grant = Grant {
                user,
                rights: rights(),
            };
            let key = user.to_string();
            let outcome = run(&consumer, "op", &grant.rights, &key, &grant).await;
            assert!(outcome.unwrap().into_result().is_ok());
        }
    }
    assert_eq!(consumer.probe.runs(), 50);
}

#[idempotent(name = "shared")]
async fn handler(State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

/// The record key is the same, so the two can never both run under one key; but the input of a
/// function is no request.
#[tokio::test]
async fn a_request_and_a_call_under_one_key_are_a_mismatch() {
    let server = serve(Router::<App>::new().route("/", post(handler))).await;
    let call = async |idempotency: &Idempotency, key: &str| {
        let function = async || Ok::<_, SettleError>("called".to_owned());
        let call = idempotency.execute(&DEFAULT, "shared", (), key, "", function);
        call.await.unwrap()
    };
    assert_eq!(reply(server.post("/", "first", "")).await.text(), "1");
    assert_eq!(
        call(&server.idempotency, "first").await,
        Execution::Mismatch
    );

    let called = Execution::Executed("called".to_owned());
    assert_eq!(call(&server.idempotency, "second").await, called);
    let refused = reply(server.post("/", "second", "")).await;
    refused.assert_problem(422, "key-reused");
}

/// As for a message that has waited in a queue.
#[tokio::test]
async fn key_age_of_a_policy_counts_without_http_too() {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    let idempotency = Idempotency::new(MemoryStore::new());
    let lenient = Policy::new().ttl(HOUR);
    let strict = lenient.key_age(KeyAge::Ttl);
    let probe = Probe::default();
    let receive = async |policy: &Policy, key: &str| {
        let probe = probe.clone();
        let function = async move || Ok::<_, SettleError>(probe.run());
        idempotency
            .execute(policy, "settle", (), key, &(), function)
            .await
    };
    let (old, early) = (
        uuid_v7(SystemTime::now() - 2 * HOUR),
        uuid_v7(SystemTime::now() + HOUR),
    );
    assert_no_result(receive(&strict, &early).await, ExecuteErrorKind::InvalidKey);
    assert_no_result(receive(&strict, &old).await, ExecuteErrorKind::KeyExpired);
    assert_eq!(
        receive(&lenient, &old).await.unwrap(),
        Execution::Executed(1)
    );
    // Its record is there, however old it is.
    assert_eq!(
        receive(&strict, &old).await.unwrap(),
        Execution::Replayed(1)
    );
    let locator = Locator::by_text("settle", &old).scope(&());
    assert!(idempotency.forget(&locator).await.unwrap());
    assert_no_result(receive(&strict, &old).await, ExecuteErrorKind::KeyExpired);
    let young = uuid_v7(SystemTime::now());
    assert_eq!(
        receive(&strict, &young).await.unwrap(),
        Execution::Executed(2)
    );
}

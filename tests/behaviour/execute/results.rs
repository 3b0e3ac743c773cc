//! What is kept of a result.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Debug;
use std::time::Duration;

use idempotent_runtime::{ExecuteErrorKind, Execution, Policy};
use serde::{Deserialize, Serialize};

use super::{
    Consumer, DEFAULT, Outcome, SettleError, assert_executed, assert_replayed, assert_unreachable,
};
use crate::support::{Operation, Probe};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Receipt {
    id: u64,
    lines: Vec<(String, Option<f64>)>,
}

#[tokio::test]
async fn a_result_is_replayed_as_a_value() {
    let consumer = Consumer::new();
    let receipt = || Receipt {
        id: u64::MAX,
        lines: vec![("b\u{fc}cher".to_owned(), Some(0.1)), (String::new(), None)],
    };
    let receive = || consumer.call(DEFAULT, "key", async move |_, _| Ok(receipt()));
    assert_eq!(receive().await.unwrap(), Execution::Executed(receipt()));
    for _ in 0..2 {
        assert_eq!(receive().await.unwrap(), Execution::Replayed(receipt()));
    }
    assert_eq!(receive().await.unwrap().into_result().unwrap(), receipt());
}

#[tokio::test]
async fn a_result_is_stored_before_it_is_returned() {
    let consumer = Consumer::new();
    assert_executed(consumer.receive(DEFAULT, "key").await, 1);
    assert_eq!(consumer.store.calls(Operation::Complete), 1);
    assert_eq!(consumer.idempotency.pending(), 0);
}

#[tokio::test]
async fn an_error_stores_nothing_and_frees_the_key() {
    let consumer = Consumer::new();
    for _ in 0..2 {
        let fails = async |probe: Probe, _| {
            probe.run();
            Err(SettleError::Unreachable)
        };
        assert_unreachable(consumer.call(DEFAULT, "key", fails).await);
    }
    assert_eq!(consumer.store.calls(Operation::Release), 2);
    assert_executed(consumer.receive(DEFAULT, "key").await, 3);
    assert_replayed(consumer.receive(DEFAULT, "key").await, 3);
}

#[tokio::test]
async fn a_result_over_the_limit_is_returned_once_and_never_computed_again() {
    let consumer = Consumer::new();
    let receive = |bytes: usize, key| {
        let text = async move |probe: Probe, _| {
            probe.run();
            Ok("x".repeat(bytes))
        };
        consumer.call(Policy::new().max_response_bytes(10), key, text)
    };
    // With the quotes of its JSON, it is as long as it may be.
    let kept = "x".repeat(8);
    assert_eq!(
        receive(8, "kept").await.unwrap(),
        Execution::Executed(kept.clone())
    );
    assert_eq!(receive(8, "kept").await.unwrap(), Execution::Replayed(kept));

    let long = Execution::Executed("x".repeat(9));
    assert_eq!(receive(9, "long").await.unwrap(), long);
    for _ in 0..2 {
        let again = receive(9, "long").await.unwrap();
        assert_eq!(again, Execution::NotRetained);
        let reason = again.into_result().unwrap_err();
        assert_eq!(
            (reason.kind(), reason.retry_after()),
            (ExecuteErrorKind::NotRetained, None)
        );
    }
    assert_eq!(consumer.probe.runs(), 2);
}

#[tokio::test]
async fn a_result_that_does_not_serialize_is_returned_once_and_never_computed_again() {
    let consumer = Consumer::new();
    let receive = || {
        let no_json = async |probe: Probe, _| Ok(HashMap::from([((1, 2), probe.run())]));
        consumer.call(DEFAULT, "key", no_json)
    };
    let own = HashMap::from([((1, 2), 1)]);
    assert_eq!(receive().await.unwrap(), Execution::Executed(own));
    assert_eq!(receive().await.unwrap(), Execution::NotRetained);
    assert_eq!(consumer.probe.runs(), 1);
}

/// NaN is stored as `null`, which is another value, or none of this type. The effect has happened.
#[tokio::test]
async fn a_result_that_would_be_replayed_as_another_one_is_not_stored() {
    async fn check<T>(result: T)
    where
        T: Serialize + serde::de::DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    {
        let consumer = Consumer::new();
        let receive = || {
            let result = result.clone();
            let function = async move |probe: Probe, _| {
                probe.run();
                Ok(result)
            };
            consumer.call(DEFAULT, "key", function)
        };
        let executed = receive().await.unwrap();
        assert_eq!(format!("{executed:?}"), format!("Executed({result:?})"));
        for _ in 0..2 {
            assert!(matches!(receive().await, Ok(Execution::NotRetained)));
        }
        assert_eq!(consumer.probe.runs(), 1);
    }
    check(f64::NAN).await;
    check(Some(f64::INFINITY)).await;
    check(vec![Some(1.0), Some(f64::NEG_INFINITY)]).await;
    check(Some(())).await;
    check((1, Some(None::<u8>))).await;
}

#[tokio::test]
async fn a_float_is_replayed_to_the_last_bit() {
    let consumer = Consumer::new();
    // Without `float_roundtrip`, `serde_json` reads the first one as 117.63331139400016.
    let floats = [
        117.633_311_394_000_17,
        -0.0,
        f64::MIN_POSITIVE,
        f64::MAX,
        0.1 + 0.2,
    ];
    let receive = || consumer.call(DEFAULT, "key", async move |_, _| Ok(floats));
    assert!(matches!(receive().await, Ok(Execution::Executed(_))));
    let Ok(Execution::Replayed(replayed)) = receive().await else {
        panic!("not replayed");
    };
    assert_eq!(replayed.map(f64::to_bits), floats.map(f64::to_bits));
}

/// As the next release of the application asks, which was deployed in between.
async fn as_another_type<T>(consumer: &Consumer) -> Outcome<T>
where
    T: Serialize + serde::de::DeserializeOwned + Default + Send + 'static,
{
    let run = async |probe: Probe, _| {
        probe.run();
        Ok(T::default())
    };
    consumer.call(DEFAULT, "key", run).await
}

#[tokio::test]
async fn a_result_of_another_type_is_an_error_and_never_a_second_run() {
    let consumer = Consumer::new();
    assert_executed(consumer.receive(DEFAULT, "key").await, 1);
    for _ in 0..2 {
        let outcome = as_another_type::<String>(&consumer).await;
        let Err(SettleError::NotExecuted(reason)) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(
            (reason.kind(), reason.retry_after()),
            (ExecuteErrorKind::Unreadable, None)
        );
        assert!(reason.source().unwrap().is::<serde_json::Error>());
    }
    assert_eq!(consumer.probe.runs(), 1);
    assert_replayed(consumer.receive(DEFAULT, "key").await, 1);
}

#[tokio::test]
async fn a_type_that_has_only_grown_reads_what_was_stored() {
    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Grown {
        id: u64,
        #[serde(default)]
        currency: Option<String>,
    }
    let consumer = Consumer::new();
    let old = async |_, _| Ok(HashMap::from([("id".to_owned(), 7)]));
    let executed = consumer.call(DEFAULT, "key", old).await;
    assert!(matches!(executed, Ok(Execution::Executed(_))));
    let grown = Grown {
        id: 7,
        currency: None,
    };
    let outcome = as_another_type::<Grown>(&consumer).await;
    assert_eq!(outcome.unwrap(), Execution::Replayed(grown));
}

#[tokio::test]
async fn a_result_lives_as_long_as_the_policy_or_else_the_handle_says() {
    let (minute, moment) = (Duration::from_secs(60), Duration::from_millis(1));
    for (policy, lives) in [
        (Policy::new().ttl(Duration::from_secs(3600)), 60),
        (DEFAULT, 2),
    ] {
        let consumer = Consumer::with(|builder| builder.ttl(2 * minute));
        assert_executed(consumer.receive(policy, "key").await, 1);
        consumer.clock.advance(lives * minute - moment);
        assert_replayed(consumer.receive(policy, "key").await, 1);
        consumer.clock.advance(moment);
        assert_executed(consumer.receive(policy, "key").await, 2);
    }
}

#[tokio::test]
async fn an_error_says_what_it_is_and_why() {
    let consumer = Consumer::new();
    let refused = consumer.receive(DEFAULT, "").await;
    let Err(SettleError::NotExecuted(refused)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refused.to_string(), "invalid key");
    assert_eq!(refused.source().unwrap().to_string(), "the key is empty");
}

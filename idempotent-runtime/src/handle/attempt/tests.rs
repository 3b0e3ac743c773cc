use super::*;

#[tokio::test]
async fn a_transaction_keeps_no_steps_and_runs_none() {
    let attempt = Attempt::default();
    let record = RecordKey::from_bytes([7; 32]);
    attempt.begin_in_transaction(record);
    let step = async { Err::<u8, _>("the step was run") };
    let error = attempt.step("charge", step).await.unwrap_err();
    assert!(matches!(error, StepError::InTransaction), "{error:?}");
    assert_eq!(
        error.to_string(),
        "a transaction stores no steps: use a derived key"
    );

    assert_eq!((attempt.number(), attempt.is_protected()), (1, true));
    assert_eq!(attempt.record_key(), Some(record));
    assert_eq!(
        attempt.derived_key("charge"),
        derived_key(record.as_bytes(), "charge")
    );
}

#[tokio::test]
async fn without_a_claim_a_step_just_runs() {
    let attempt = Attempt::default();
    let ran = attempt.step("a", async { Ok::<_, String>(1) }).await;
    assert_eq!(ran.unwrap(), 1);
    let failed = attempt.step("b", async { Err::<u8, _>("no") }).await;
    assert!(matches!(failed, Err(StepError::Step("no"))), "{failed:?}");
    // A label is taken by what was finished, here as everywhere.
    let again = attempt.step("b", async { Ok::<_, String>(2) }).await;
    assert_eq!(again.unwrap(), 2);
    let twice = attempt.step("b", async { Ok::<_, String>(3) }).await;
    assert!(matches!(twice, Err(StepError::Repeated(label)) if label == "b"));
}

#[test]
fn without_a_record_each_request_has_derived_keys_of_its_own() {
    let (one, other) = (Attempt::default(), Attempt::default());
    let key = one.derived_key("charge");
    assert_eq!(key.len(), 64);
    assert_eq!(one.clone().derived_key("charge"), key);
    assert_ne!(one.derived_key("refund"), key);
    assert_ne!(other.derived_key("charge"), key);
    assert_ne!(derived_key(&[0; 32], "charge"), key);
}

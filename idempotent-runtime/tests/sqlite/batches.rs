//! What is done by one statement for many: each has its own answer, as if it had been alone.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use idempotent_runtime::store::sqlite::SqliteStore;
use idempotent_runtime::store::{
    Claim, ClaimRequest, Completion, Release, Renewed, Store, StoreError, StoreErrorKind,
};
use idempotent_runtime::{Owner, RecordState, StoredResponse};

use crate::groups::{claim_as_a_group, is_first};
use crate::support::{
    Directory, TTL, begin, execute, hex, key, renewal, request, request_of, response, rival, unlock,
};

/// Has them all in the queue before the first is committed, and then answers them.
async fn completed_as_a_group(
    directory: &Directory,
    store: &SqliteStore,
    completions: &[(Owner, Arc<StoredResponse>)],
) -> Vec<Result<Completion, StoreError>> {
    let lock = directory.lock().await;
    let calls: Vec<_> = completions
        .iter()
        .map(|(owner, response)| begin(store.complete(owner, response, TTL)))
        .collect();
    unlock(lock).await;
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await);
    }
    answers
}

async fn claimed(store: &SqliteStore, number: usize) -> Vec<Owner> {
    let mut owners = Vec::new();
    for _ in 0..number {
        let request = request();
        assert!(is_first(&store.claim(&request).await));
        owners.push(request.owner);
    }
    owners
}

async fn body_of(store: &SqliteStore, owner: &Owner) -> Option<Vec<u8>> {
    match store.get(&owner.key).await.unwrap()?.state {
        RecordState::Completed(response) => response.body.as_ref().map(|body| body.to_vec()),
        _ => None,
    }
}

#[tokio::test]
async fn completions_of_one_group_are_stored_each_with_its_own_response() {
    let directory = Directory::new();
    let _open = directory.store().await;
    let store = directory.fresh_store().await;
    let owners = claimed(&store, 100).await;
    let body = |index: usize| match index {
        // Longer than what is stored together with others.
        50 => "long".repeat(100_000),
        index => format!("answer {index}"),
    };
    let answer = |index| {
        let (status, headers) = (StatusCode::CREATED, HeaderMap::new());
        Arc::new(StoredResponse::new(status, headers, body(index)))
    };
    let completions: Vec<_> = owners
        .iter()
        .enumerate()
        .map(|(index, owner)| (*owner, answer(index)))
        .collect();
    let before = directory.commits();
    let answers = completed_as_a_group(&directory, &store, &completions).await;
    let is_stored = |answer: &Result<_, _>| matches!(answer, Ok(Completion::Stored));
    assert!(answers.iter().all(is_stored), "{answers:?}");
    assert!(directory.commits() - before <= 2);
    for (index, owner) in owners.iter().enumerate() {
        let stored = body_of(&store, owner).await;
        assert_eq!(stored, Some(body(index).into_bytes()), "{index}");
    }
}

#[tokio::test]
async fn completions_of_one_group_have_an_answer_each() {
    let directory = Directory::new();
    let store = directory.fresh_store().await;
    let mut owners = claimed(&store, 12).await;
    let (mine, lost, gone) = (owners[3], &mut owners[6].clone(), key());
    store
        .complete(&mine, &response("before"), TTL)
        .await
        .unwrap();
    lost.token = rival(&request()).owner.token;
    owners[6] = *lost;
    owners[9].key = gone;
    let completions: Vec<_> = owners
        .iter()
        .map(|owner| (*owner, response("now")))
        .collect();
    let answers = completed_as_a_group(&directory, &store, &completions).await;
    for (index, answer) in answers.iter().enumerate() {
        let expected = match index {
            3 => Completion::AlreadyCompleted,
            6 | 9 => Completion::Lost,
            _ => Completion::Stored,
        };
        assert_eq!(*answer.as_ref().unwrap(), expected, "{index}");
    }
    assert_eq!(body_of(&store, &mine).await, Some(b"before".to_vec()));
    assert_eq!(body_of(&store, lost).await, None);
    assert_eq!(body_of(&store, &owners[11]).await, Some(b"now".to_vec()));
}

#[tokio::test]
async fn completion_that_fails_does_not_fail_its_neighbours() {
    let directory = Directory::new();
    let store = directory.fresh_store().await;
    let owners = claimed(&store, 9).await;
    // What the statement has done before is not undone by that, so it has to be by us.
    let trigger = format!(
        "CREATE TRIGGER fault BEFORE UPDATE ON idempotency_records
         WHEN NEW.record_key = x'{}' BEGIN SELECT RAISE(FAIL, 'not this one'); END",
        hex(owners[4].key.as_bytes())
    );
    execute(&mut directory.connection().await, trigger).await;
    let completions: Vec<_> = owners
        .iter()
        .map(|owner| (*owner, response("now")))
        .collect();
    let answers = completed_as_a_group(&directory, &store, &completions).await;
    for (index, answer) in answers.iter().enumerate() {
        match answer {
            Err(error) => assert_eq!((index, error.kind()), (4, StoreErrorKind::Refused)),
            Ok(answer) => assert_eq!(*answer, Completion::Stored, "{index}"),
        }
    }
    assert!(answers[4].is_err());
}

/// A new claim waits for what the holders of older ones have to say.
#[tokio::test]
async fn holders_come_before_new_claims_in_the_queue() {
    let directory = Directory::new();
    let store = directory.fresh_store().await;
    let owners = claimed(&store, 2).await;
    let end = "UPDATE idempotency_records SET lease_until = 1";
    execute(&mut directory.connection().await, end).await;
    let store = SqliteStore::new(directory.pool());
    let take_over = ClaimRequest {
        take_over: Some(1),
        ..rival(&ClaimRequest {
            owner: owners[0],
            ..request()
        })
    };
    let freed = ClaimRequest {
        owner: owners[1],
        ..request()
    };
    let lock = directory.lock().await;
    let taken = begin(store.claim(&take_over));
    let again = begin(store.claim(&freed));
    let renewals = [renewal(&owners[0])];
    let renewed = begin(store.renew(&renewals));
    let released = begin(store.release(&owners[1..]));
    unlock(lock).await;
    // The lease that had ended was renewed in time.
    let taken = taken.await;
    assert!(matches!(taken, Ok(Claim::InFlight { .. })), "{taken:?}");
    assert!(matches!(renewed.await[..], [Ok(Renewed::Renewed)]));
    assert!(is_first(&again.await));
    assert!(matches!(released.await[..], [Ok(Release::Released)]));
}

/// Claims, of which one is released by its owner.
#[tokio::test]
async fn operations_on_one_record_keep_their_order_in_a_group() {
    let directory = Directory::new();
    let store = directory.fresh_store().await;
    let key = key();
    let requests: Vec<_> = (0..3).map(|_| request_of(key)).collect();
    let others: Vec<_> = (0..3).map(|_| request()).collect();
    let lock = directory.lock().await;
    let before: Vec<_> = others
        .iter()
        .map(|other| begin(store.claim(other)))
        .collect();
    let [first, second, third] = &requests[..] else {
        unreachable!()
    };
    let first = begin(store.claim(first));
    let second = begin(store.claim(second));
    let removed = begin(store.remove(&key));
    let third = begin(store.claim(third));
    unlock(lock).await;
    for call in before {
        assert!(is_first(&call.await));
    }
    assert!(is_first(&first.await));
    let second = second.await;
    assert!(matches!(second, Ok(Claim::InFlight { .. })), "{second:?}");
    assert!(removed.await.unwrap());
    assert!(is_first(&third.await));
}

#[tokio::test]
async fn expired_records_start_over_in_a_group() {
    let directory = Directory::new();
    let store = directory.fresh_store().await;
    let mut requests: Vec<_> = (0..9).map(|_| request()).collect();
    for request in &requests {
        let step = b"step".as_slice().into();
        assert!(is_first(&store.claim(request).await));
        store.save_progress(&request.owner, 0, &step).await.unwrap();
    }
    store
        .complete(&requests[0].owner, &response("old"), TTL)
        .await
        .unwrap();
    let expire = "UPDATE idempotency_records SET expires_at = 1, created_at = 0, attempt = 3";
    execute(&mut directory.connection().await, expire).await;
    let store = SqliteStore::new(directory.pool());
    for request in &mut requests {
        *request = rival(request);
    }
    let claims = claim_as_a_group(&directory, &store, &requests).await;
    assert!(claims.iter().all(is_first), "{claims:?}");
    for request in &requests {
        let record = store.get(&request.owner.key).await.unwrap().unwrap();
        assert!(matches!(record.state, RecordState::Running { .. }));
        assert_eq!((record.attempt, record.progress.len()), (1, 0));
        assert!(record.age < Duration::from_secs(60), "{:?}", record.age);
        assert_eq!(record.fingerprint, request.fingerprint);
    }
}

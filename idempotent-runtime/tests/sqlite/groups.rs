//! Group commit: few commits, each operation for itself, and no answer before the commit.

use std::error::Error;
use std::sync::Arc;

use idempotent_runtime::RecordState;
use idempotent_runtime::store::sqlite::SqliteStore;
use idempotent_runtime::store::{Acquired, Claim, ClaimRequest, Store, StoreError, StoreErrorKind};

use crate::support::{
    Directory, TTL, begin, count, execute, hex, key, renewal, request, request_of, response, rival,
    unlock,
};

const RECORDS: &str = "SELECT count(*) FROM idempotency_records";

/// Has them all in the queue before the first is committed, and then answers them.
pub(crate) async fn claim_as_a_group(
    directory: &Directory,
    store: &SqliteStore,
    requests: &[ClaimRequest<'_>],
) -> Vec<Result<Claim, StoreError>> {
    let lock = directory.lock().await;
    let calls: Vec<_> = requests
        .iter()
        .map(|request| begin(store.claim(request)))
        .collect();
    unlock(lock).await;
    let mut claims = Vec::new();
    for call in calls {
        claims.push(call.await);
    }
    claims
}

pub(crate) fn is_first(claim: &Result<Claim, StoreError>) -> bool {
    matches!(claim, Ok(Claim::Acquired(Acquired { attempt: 1, .. })))
}

/// Of a commit that certainly has not happened.
fn is_refused(claim: &Result<Claim, StoreError>) -> bool {
    matches!(claim, Err(error) if error.kind() == StoreErrorKind::Refused && !error.may_have_happened())
}

/// Of one that may have.
fn is_unknown(claim: &Result<Claim, StoreError>) -> bool {
    matches!(claim, Err(error) if error.kind() == StoreErrorKind::Unavailable && error.may_have_happened())
}

#[tokio::test]
async fn sixty_four_claims_at_once_are_two_commits_at_most() {
    let directory = Directory::new();
    // As long as one has the file open, the log is not begun afresh.
    let _open = directory.store().await;
    let store = directory.fresh_store().await;
    let before = directory.commits();
    let requests: Vec<_> = (0..64).map(|_| request()).collect();
    let claims = claim_as_a_group(&directory, &store, &requests).await;
    assert!(claims.iter().all(is_first), "{claims:?}");
    // The writer has taken whatever was there when it began, and then the rest.
    let commits = directory.commits() - before;
    assert!((1..=2).contains(&commits), "{commits} commits");
}

/// Counted in the log, this also says that the test above counts commits and not something else.
#[tokio::test]
async fn claims_one_after_the_other_are_a_commit_each_and_replays_none() {
    let directory = Directory::new();
    let store = directory.store().await;
    let before = directory.commits();
    for _ in 0..5 {
        let request = request();
        assert!(is_first(&store.claim(&request).await));
        store.claim(&rival(&request)).await.unwrap();
        store
            .complete(&request.owner, &response("once"), TTL)
            .await
            .unwrap();
        store.claim(&rival(&request)).await.unwrap();
        store.get(&request.owner.key).await.unwrap();
    }
    assert_eq!(directory.commits() - before, 10);
}

/// A claim writes the table and two indexes. What comes after it writes no index, though it moves the expiry.
#[tokio::test]
async fn renewal_writes_one_page_and_completion_leaves_the_index_of_operators() {
    let directory = Directory::new();
    let store = directory.store().await;
    let request = request();
    let pages = || directory.pages();
    let start = pages();
    assert!(is_first(&store.claim(&request).await));
    let claimed = pages();
    let renewed = store.renew(&[renewal(&request.owner)]).await;
    assert!(renewed[0].is_ok());
    let renewed = pages();
    let paid = response("paid");
    store.complete(&request.owner, &paid, TTL).await.unwrap();
    let completed = pages();
    assert_eq!(
        (claimed - start, renewed - claimed, completed - renewed),
        (4, 1, 2)
    );
}

#[tokio::test]
async fn claims_of_one_key_in_one_group_have_one_winner() {
    let directory = Directory::new();
    let store = directory.fresh_store().await;
    let key = key();
    let requests: Vec<_> = (0..16).map(|_| request_of(key)).collect();
    let claims = claim_as_a_group(&directory, &store, &requests).await;
    assert!(is_first(&claims[0]), "{claims:?}");
    let is_in_flight = |claim: &Result<Claim, _>| matches!(claim, Ok(Claim::InFlight { .. }));
    assert!(claims[1..].iter().all(is_in_flight), "{claims:?}");
}

/// Makes the insertion of this record do something else too.
async fn on_insert(directory: &Directory, request: &ClaimRequest<'_>, action: &str) {
    let key = hex(request.owner.key.as_bytes());
    let trigger = format!(
        "CREATE TRIGGER fault AFTER INSERT ON idempotency_records
         WHEN NEW.record_key = x'{key}' BEGIN {action}; END"
    );
    execute(&mut directory.connection().await, trigger).await;
}

#[tokio::test]
async fn statement_that_fails_does_not_fail_its_neighbours() {
    let directory = Directory::new();
    let _open = directory.store().await;
    let store = directory.fresh_store().await;
    let requests: Vec<_> = (0..9).map(|_| request()).collect();
    let bad = &requests[4];
    let violation = "UPDATE idempotency_records SET attempt = 0 WHERE record_key = NEW.record_key";
    on_insert(&directory, bad, violation).await;
    let before = directory.commits();
    let claims = claim_as_a_group(&directory, &store, &requests).await;
    for (index, claim) in claims.iter().enumerate() {
        match (index, claim) {
            (4, Err(error)) => {
                assert_eq!(error.kind(), StoreErrorKind::Refused, "{error:?}");
                assert!(error.source().is_some());
            }
            (_, claim) => assert!(is_first(claim), "{index}: {claim:?}"),
        }
    }
    assert!(directory.commits() - before <= 2);
    assert_eq!(count(&mut directory.connection().await, RECORDS).await, 8);
    assert!(store.get(&bad.owner.key).await.unwrap().is_none());
}

#[tokio::test]
async fn commit_that_fails_is_acknowledged_to_nobody() {
    let directory = Directory::new();
    let store = directory.fresh_store().await;
    let requests: Vec<_> = (0..9).map(|_| request()).collect();
    let mut connection = directory.connection().await;
    // A constraint that is looked at when the transaction ends.
    execute(
        &mut connection,
        "CREATE TABLE parent (id INTEGER PRIMARY KEY);
         CREATE TABLE child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
    )
    .await;
    // By the first, so that the group of each of the others fails if it is the same.
    on_insert(&directory, &requests[0], "INSERT INTO child VALUES (1)").await;
    let first = claim_as_a_group(&directory, &store, &requests[..1]).await;
    assert!(is_refused(&first[0]), "{first:?}");

    let store = SqliteStore::new(directory.pool());
    let claims = claim_as_a_group(&directory, &store, &requests).await;
    assert!(is_refused(&claims[0]), "{claims:?}");
    let acknowledged = claims.iter().filter(|claim| claim.is_ok()).count();
    let stored = count(&mut connection, RECORDS).await;
    assert_eq!(stored, i64::try_from(acknowledged).unwrap(), "{claims:?}");
    assert!(
        claims
            .iter()
            .all(|claim| is_first(claim) || is_refused(claim)),
        "{claims:?}"
    );

    execute(&mut connection, "DROP TRIGGER fault").await;
    let again = claim_as_a_group(&directory, &store, &[request(), request()]).await;
    assert!(
        again.iter().all(is_first),
        "the writer has not recovered: {again:?}"
    );
}

#[tokio::test]
async fn rolled_back_group_is_acknowledged_to_nobody() {
    let directory = Directory::new();
    let store = directory.fresh_store().await;
    let requests: Vec<_> = (0..9).map(|_| request()).collect();
    on_insert(
        &directory,
        &requests[8],
        "SELECT RAISE(ROLLBACK, 'out of the blue')",
    )
    .await;
    let claims = claim_as_a_group(&directory, &store, &requests).await;
    assert!(is_unknown(&claims[8]), "{claims:?}");
    let mut connection = directory.connection().await;
    for (request, claim) in requests.iter().zip(&claims) {
        let is_stored = store.get(&request.owner.key).await.unwrap().is_some();
        assert!(
            is_stored || claim.is_err(),
            "acknowledged and lost: {claims:?}"
        );
    }
    execute(&mut connection, "DROP TRIGGER fault").await;
    assert!(
        is_first(&store.claim(&request()).await),
        "the writer has not recovered"
    );
}

/// A caller that has an answer finds it in the file, whichever way it looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn answered_is_committed() {
    let directory = Directory::new();
    let store = Arc::new(directory.store().await);
    let tasks: Vec<_> = (0..8)
        .map(|_| (Arc::clone(&store), directory.url()))
        .map(|(store, url)| {
            tokio::spawn(async move {
                let other = SqliteStore::connect(&url).await.unwrap();
                for _ in 0..25 {
                    let request = request();
                    assert!(is_first(&store.claim(&request).await));
                    let record = other.get(&request.owner.key).await.unwrap().unwrap();
                    assert!(matches!(record.state, RecordState::Running { .. }));
                    store
                        .complete(&request.owner, &response("done"), TTL)
                        .await
                        .unwrap();
                    let claim = other.claim(&rival(&request)).await.unwrap();
                    assert!(matches!(claim, Claim::Completed(_)), "{claim:?}");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// What no caller waits for is not done later: a claim would hold its key for no request.
#[tokio::test]
async fn call_that_is_given_up_in_the_queue_is_not_done_later() {
    const CALLERS: usize = 3000;
    let directory = Directory::new();
    let store = directory.fresh_store().await;
    let (requests, last): (Vec<_>, _) = ((0..CALLERS).map(|_| request()).collect(), request());
    let lock = directory.lock().await;
    let mut calls: Vec<_> = requests
        .iter()
        .map(|request| begin(store.claim(request)))
        .collect();
    let given_up = calls.split_off(1);
    drop(given_up);
    // More than one group: the first is not stuck behind those who have left.
    calls.push(begin(store.claim(&last)));
    unlock(lock).await;
    for call in calls {
        assert!(is_first(&call.await));
    }
    let stored = count(&mut directory.connection().await, RECORDS).await;
    assert_eq!(stored, 2, "claims that no caller waits for were made");
}

/// The queue is as long as there are callers, and no caller is turned away.
#[tokio::test]
async fn three_thousand_callers_at_once_all_have_their_turn() {
    const CALLERS: usize = 3000;
    let directory = Directory::new();
    let store = directory.fresh_store().await;
    let requests: Vec<_> = (0..CALLERS).map(|_| request()).collect();
    let claims = claim_as_a_group(&directory, &store, &requests).await;
    assert!(claims.iter().all(is_first));
}

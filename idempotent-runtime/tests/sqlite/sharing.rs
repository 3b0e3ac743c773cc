//! One file, several users of it: stores, processes, the application itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use idempotent_runtime::store::sqlite::SqliteStore;
use idempotent_runtime::store::{Acquired, Claim, ClaimRequest, Release, Store, StoreErrorKind};
use idempotent_runtime::{Fingerprint, RecordState};
use tokio::sync::Barrier;
use tokio::time::timeout;

use crate::support::{
    Directory, PATIENCE, TTL, begin, key, request, request_of, response, rival, unlock,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_stores_on_one_file_have_one_winner_for_each_key() {
    const KEYS: usize = 300;
    const CONTENDERS: usize = 16;
    let directory = Directory::new();
    let stores = [directory.store().await, directory.store().await].map(Arc::new);
    let keys: Arc<Vec<_>> = Arc::new((0..KEYS).map(|_| key()).collect());
    let start = Arc::new(Barrier::new(CONTENDERS));
    let tasks: Vec<_> = (0..CONTENDERS)
        .map(|number| {
            (
                Arc::clone(&stores[number % 2]),
                Arc::clone(&keys),
                Arc::clone(&start),
            )
        })
        .map(|(store, keys, start)| {
            tokio::spawn(async move {
                let mut won = vec![0; KEYS];
                for (key, won) in keys.iter().zip(&mut won) {
                    start.wait().await;
                    match store.claim(&request_of(*key)).await.unwrap() {
                        Claim::Acquired(Acquired { attempt: 1, .. }) => *won += 1,
                        Claim::InFlight { .. } => {}
                        claim => panic!("{claim:?}"),
                    }
                }
                won
            })
        })
        .collect();
    let mut winners = vec![0; KEYS];
    for task in tasks {
        for (winners, won) in winners.iter_mut().zip(task.await.unwrap()) {
            *winners += won;
        }
    }
    assert_eq!(winners, vec![1; KEYS]);
}

#[tokio::test]
async fn what_is_completed_is_read_while_others_write() {
    let directory = Directory::new();
    let store = directory.store().await;
    let completed = request();
    store.claim(&completed).await.unwrap();
    store
        .complete(&completed.owner, &response("paid"), TTL)
        .await
        .unwrap();

    let lock = directory.lock().await;
    let claim = store.claim(&rival(&completed)).await.unwrap();
    assert!(matches!(claim, Claim::Completed(_)), "{claim:?}");
    let another = ClaimRequest {
        fingerprint: Fingerprint::from_bytes([8; 32]),
        ..rival(&completed)
    };
    let claim = store.claim(&another).await.unwrap();
    assert!(matches!(claim, Claim::Mismatch), "{claim:?}");
    let record = store.get(&completed.owner.key).await.unwrap().unwrap();
    assert!(matches!(record.state, RecordState::Completed(_)));
    unlock(lock).await;
}

#[tokio::test]
async fn lock_that_is_held_too_long_is_busy_and_nothing_has_happened() {
    let directory = Directory::new();
    drop(directory.fresh_store().await);
    let store = SqliteStore::new(directory.pool_that_waits(Duration::from_millis(20)));
    let lock = directory.lock().await;
    let error = store.claim(&request()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Busy, "{error:?}");
    assert!(!error.may_have_happened());
    unlock(lock).await;
    let claim = store.claim(&request()).await.unwrap();
    assert!(
        matches!(claim, Claim::Acquired(Acquired { attempt: 1, .. })),
        "{claim:?}"
    );
}

/// As by a process that recovers the log, which locks out readers too.
#[tokio::test]
async fn file_that_is_locked_exclusively_is_waited_for() {
    let directory = Directory::new();
    let store = directory.fresh_store().await;
    let completed = request();
    store.claim(&completed).await.unwrap();
    let paid = response("paid");
    store.complete(&completed.owner, &paid, TTL).await.unwrap();
    drop(store);
    let mut connection = directory.connection().await;
    let alone = "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE";
    let started = Instant::now();
    while sqlx::raw_sql(alone).execute(&mut connection).await.is_err() {
        assert!(started.elapsed() < PATIENCE, "never alone");
    }
    let store = SqliteStore::new(directory.pool());
    let rival = rival(&completed);
    let mut replay = begin(store.claim(&rival));
    // Longer than SQLite itself waits.
    let answer = timeout(Duration::from_millis(200), &mut replay).await;
    assert!(answer.is_err(), "{answer:?}");
    drop(connection);
    let claim = replay.await.unwrap();
    assert!(matches!(claim, Claim::Completed(_)), "{claim:?}");
}

#[tokio::test]
async fn short_lock_is_waited_for() {
    let directory = Directory::new();
    let store = directory.fresh_store().await;
    let lock = directory.lock().await;
    let request = request();
    let claim = begin(store.claim(&request));
    unlock(lock).await;
    let claim = claim.await.unwrap();
    assert!(
        matches!(claim, Claim::Acquired(Acquired { attempt: 1, .. })),
        "{claim:?}"
    );
}

/// A waiter sees what this store writes; a notification that comes for no reason would not show here.
#[tokio::test]
async fn waiters_are_woken_by_what_this_store_writes() {
    let directory = Directory::new();
    let store = directory.store().await;
    let claimed = async || {
        let request = request();
        store.claim(&request).await.unwrap();
        request.owner
    };

    let (quiet, completed, released, removed) = (
        claimed().await,
        claimed().await,
        claimed().await,
        claimed().await,
    );
    let abandoned = request();
    let brief = ClaimRequest {
        lease: Duration::ZERO,
        ..abandoned
    };
    store.claim(&brief).await.unwrap();

    let nothing = begin(store.subscribe(&quiet.key).changed());
    let owners = [completed, released, removed, abandoned.owner];
    let changes = owners.map(|owner| begin(store.subscribe(&owner.key).changed()));
    assert!(
        !store.subscribe(&quiet.key).is_reliable(),
        "other processes go unnoticed"
    );
    store
        .complete(&completed, &response("paid"), TTL)
        .await
        .unwrap();
    let freed = store.release(&[released]).await;
    assert!(matches!(freed[..], [Ok(Release::Released)]), "{freed:?}");
    store.remove(&removed.key).await.unwrap();
    let take_over = ClaimRequest {
        take_over: Some(1),
        ..rival(&abandoned)
    };
    let claim = store.claim(&take_over).await.unwrap();
    assert!(
        matches!(claim, Claim::Acquired(Acquired { attempt: 2, .. })),
        "{claim:?}"
    );
    for change in changes {
        let woken = tokio::time::timeout(PATIENCE, change).await;
        assert!(woken.is_ok(), "not woken");
    }
    let woken = tokio::time::timeout(Duration::ZERO, nothing).await;
    assert!(woken.is_err(), "woken by a change of another record");
}

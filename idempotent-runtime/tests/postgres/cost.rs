//! What an operation costs: statements, transaction ids, index writes.

use bytes::Bytes;
use idempotent_runtime::store::postgres::PostgresStore;
use idempotent_runtime::store::{Claim, Completion, Progress, Renewal, ReplayCache, Store};
use sqlx::PgPool;

use crate::own_server::OwnServer;
use crate::proxy;
use crate::support::{Scratch, answer, claimed, pool, rival};

/// Counted between the store and the server. After its first use on a connection nothing is
/// prepared any more.
#[tokio::test]
async fn each_operation_is_one_statement() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let (options, counts) = proxy::start(&scratch.options).await;
    let store = scratch.store_on(pool(&options, 1));
    for warm in [false, true] {
        let one = (usize::from(!warm), 1);
        counts.take();
        let request = claimed(&store).await;
        assert_eq!(counts.take(), one, "claim");
        let renewal = Renewal {
            owner: request.owner,
            lease: request.lease,
        };
        store.renew(&[renewal; 10]).await.unwrap();
        assert_eq!(counts.take(), one, "renew");
        for progress in [&b"step 1"[..], b"late"] {
            counts.take();
            store
                .save_progress(&request.owner, &progress.into())
                .await
                .unwrap();
            let prepared = usize::from(!warm && progress != b"late");
            assert_eq!(counts.take(), (prepared, 1), "save progress");
        }
        store.get(&request.owner.key).await.unwrap();
        assert_eq!(counts.take(), one, "get");
        store.complete(&request.owner, &answer()).await.unwrap();
        assert_eq!(counts.take(), one, "complete");
        store.claim(&rival(&request)).await.unwrap();
        assert_eq!(counts.take(), (0, 1), "replay");
        store.release(&request.owner).await.unwrap();
        assert_eq!(counts.take(), one, "release");
        store.remove(&request.owner.key).await.unwrap();
        assert_eq!(counts.take(), one, "remove");
        store.purge_expired(10).await.unwrap();
        assert_eq!(counts.take(), one, "purge");
        store.renew(&[]).await.unwrap();
        assert_eq!(counts.take(), (0, 0), "renewing nothing");
    }
    scratch.clean_up().await;
}

#[tokio::test]
async fn hot_replay_is_no_statement() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let (options, counts) = proxy::start(&scratch.options).await;
    let store = ReplayCache::new().in_front_of(scratch.store_on(pool(&options, 1)));
    let request = claimed(&store).await;
    store.complete(&request.owner, &answer()).await.unwrap();
    store.get(&request.owner.key).await.unwrap();
    counts.take();
    for (replay, statements) in [(1, 1), (2, 1), (3, 0), (4, 0)] {
        let claim = store.claim(&rival(&request)).await.unwrap();
        assert!(matches!(claim, Claim::Completed(_)), "{claim:?}");
        assert_eq!(counts.take(), (0, statements), "replay {replay}");
    }
    scratch.clean_up().await;
}

/// A pool of one connection that is inside a transaction, so that the server can be asked what
/// exactly the calls in between have done, whoever else uses it.
async fn in_a_transaction(scratch: &Scratch) -> PgPool {
    let pool = scratch.pool(1);
    sqlx::raw_sql("BEGIN").execute(&pool).await.unwrap();
    pool
}

/// Whether the transaction has written: who writes has an id.
async fn has_written(pool: &PgPool) -> bool {
    sqlx::query_scalar("SELECT txid_current_if_assigned() IS NOT NULL")
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn replay_writes_nothing() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    let (completed, running) = (claimed(&store).await, claimed(&store).await);
    store.complete(&completed.owner, &answer()).await.unwrap();
    let progress = Bytes::from_static(b"step 1");
    store
        .save_progress(&running.owner, &progress)
        .await
        .unwrap();

    let pool = in_a_transaction(&scratch).await;
    let store = scratch.store_on(pool.clone());
    for _ in 0..20 {
        let claim = store.claim(&rival(&completed)).await.unwrap();
        assert!(matches!(claim, Claim::Completed(_)), "{claim:?}");
        let claim = store.claim(&rival(&running)).await.unwrap();
        assert!(matches!(claim, Claim::InFlight { .. }), "{claim:?}");
        let claim = store.claim(&running).await.unwrap();
        assert!(
            matches!(claim, Claim::Acquired { attempt: 1, .. }),
            "{claim:?}"
        );
        store.get(&completed.owner.key).await.unwrap();
        let late = store
            .save_progress(&running.owner, &progress)
            .await
            .unwrap();
        assert_eq!(late, Progress::Saved);
        let completion = store.complete(&completed.owner, &answer()).await.unwrap();
        assert_eq!(completion, Completion::AlreadyMine);
        assert_eq!(store.purge_expired(10).await.unwrap(), 0);
    }
    assert!(!has_written(&pool).await);
    claimed(&store).await;
    assert!(has_written(&pool).await);
    pool.close().await;
    scratch.clean_up().await;
}

/// On a server of its own, where nobody else writes: counted in bytes of its log.
#[tokio::test]
async fn a_hundred_replays_add_no_byte_to_the_log() {
    let Some(server) = OwnServer::start() else {
        return;
    };
    let pool = pool(&server.options(), 1);
    let store = PostgresStore::new(pool.clone());
    store.migrate().await.unwrap();
    let (completed, running) = (claimed(&store).await, claimed(&store).await);
    store.complete(&completed.owner, &answer()).await.unwrap();
    // What the server itself still has to tidy up is done by the checkpoint and the first look.
    sqlx::raw_sql("CHECKPOINT").execute(&pool).await.unwrap();
    let replay = async || {
        let claim = store.claim(&rival(&completed)).await.unwrap();
        assert!(matches!(claim, Claim::Completed(_)), "{claim:?}");
        let claim = store.claim(&rival(&running)).await.unwrap();
        assert!(matches!(claim, Claim::InFlight { .. }), "{claim:?}");
    };
    replay().await;
    let before = log_position(&pool).await;
    for _ in 0..100 {
        replay().await;
    }
    assert_eq!(log_position(&pool).await - before, 0);
    claimed(&store).await;
    assert!(log_position(&pool).await > before);
}

async fn log_position(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
        .fetch_one(pool)
        .await
        .unwrap()
}

/// An update that is not heap-only writes an entry into each index.
#[tokio::test]
async fn completions_and_renewals_touch_no_index() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let pool = in_a_transaction(&scratch).await;
    let store = scratch.store_on(pool.clone());
    for _ in 0..50 {
        let request = claimed(&store).await;
        let renewal = Renewal {
            owner: request.owner,
            lease: request.lease,
        };
        assert!(store.renew(&[renewal]).await.unwrap().is_empty());
        store.complete(&request.owner, &answer()).await.unwrap();
    }
    let updates =
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = $1";
    let (updated, heap_only): (i64, i64) = sqlx::query_as(updates)
        .bind(&scratch.table)
        .fetch_one(&pool)
        .await
        .unwrap();
    // Nothing is pruned inside one transaction, so some of the records leave their page.
    assert_eq!(updated, 100);
    assert!(heap_only >= 60, "{heap_only} of {updated}");
    pool.close().await;
    scratch.clean_up().await;
}

//! What an operation costs: statements, transaction ids, index writes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use idempotent_runtime::store::postgres::PostgresStore;
use idempotent_runtime::store::{
    Acquired, Claim, ClaimRequest, Completion, Progress, Renewal, Renewed, ReplayCache, Store,
};
use sqlx::PgPool;

use crate::own_server::OwnServer;
use crate::proxy;
use crate::support::{PATIENCE, Scratch, TTL, answer, claimed, pool, request, rival};

/// Counted between the store and the server. After its first use on a connection nothing is
/// prepared any more.
#[tokio::test]
async fn each_operation_is_one_statement() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let (options, counts) = proxy::start(&scratch.options).await;
    let store = scratch.store_on(pool(&options, 1));
    // Where the table is, once for a process.
    store.get(&request().owner.key).await.unwrap();
    assert_eq!(counts.take(), (2, 2), "the first call");
    for warm in [false, true] {
        let one = (usize::from(!warm), 1);
        counts.take();
        let request = claimed(&store).await;
        assert_eq!(counts.take(), one, "claim");
        let renewed = store.renew(&[renewal(&request); 10]).await;
        assert!(renewed.iter().all(Result::is_ok), "{renewed:?}");
        assert_eq!(counts.take(), one, "renew");
        for progress in [&b"step 1"[..], b"late"] {
            counts.take();
            store
                .save_progress(&request.owner, 0, &progress.into())
                .await
                .unwrap();
            let prepared = usize::from(!warm && progress != b"late");
            assert_eq!(counts.take(), (prepared, 1), "save progress");
        }
        store.get(&request.owner.key).await.unwrap();
        assert_eq!(counts.take(), (0, 1), "get");
        store
            .complete(&request.owner, &answer(), TTL)
            .await
            .unwrap();
        assert_eq!(counts.take(), one, "complete");
        store.claim(&rival(&request)).await.unwrap();
        assert_eq!(counts.take(), (usize::from(!warm), 2), "replay");
        store.release(&[request.owner]).await.remove(0).unwrap();
        assert_eq!(counts.take(), one, "release");
        store.abandon(&[request.owner; 3]).await.remove(0).unwrap();
        assert_eq!(counts.take(), one, "abandon");
        store.remove(&request.owner.key).await.unwrap();
        assert_eq!(counts.take(), one, "remove");
        store.purge_expired(10).await.unwrap();
        assert_eq!(counts.take(), one, "purge");
        assert!(store.renew(&[]).await.is_empty());
        assert!(store.release(&[]).await.is_empty());
        assert_eq!(counts.take(), (0, 0), "renewing and releasing nothing");
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
    store
        .complete(&request.owner, &answer(), TTL)
        .await
        .unwrap();
    store.get(&request.owner.key).await.unwrap();
    counts.take();
    // What decides about a record is prepared by the first; the second only reads.
    for (replay, counted) in [(1, (1, 2)), (2, (0, 1)), (3, (0, 0)), (4, (0, 0))] {
        let claim = store.claim(&rival(&request)).await.unwrap();
        assert!(matches!(claim, Claim::Completed(_)), "{claim:?}");
        assert_eq!(counts.take(), counted, "replay {replay}");
    }
    scratch.clean_up().await;
}

/// On a server of its own, where no other client writes: counted in bytes of its log.
#[tokio::test]
async fn a_hundred_replays_add_no_byte_to_the_log() {
    let Some(server) = OwnServer::start() else {
        return;
    };
    let pool = pool(&server.options(), 1);
    let store = PostgresStore::new(pool.clone());
    store.migrate().await.unwrap();
    let (completed, running) = (claimed(&store).await, claimed(&store).await);
    store
        .complete(&completed.owner, &answer(), TTL)
        .await
        .unwrap();
    let progress = Bytes::from_static(b"step 1");
    let saved = async || {
        store
            .save_progress(&running.owner, 0, &progress)
            .await
            .unwrap()
    };
    saved().await;
    // What the server itself still has to tidy up is done by the checkpoint and the first look.
    sqlx::raw_sql("CHECKPOINT").execute(&pool).await.unwrap();
    let replay = async || {
        let claim = store.claim(&rival(&completed)).await.unwrap();
        assert!(matches!(claim, Claim::Completed(_)), "{claim:?}");
        let claim = store.claim(&rival(&running)).await.unwrap();
        assert!(matches!(claim, Claim::InFlight { .. }), "{claim:?}");
        let claim = store.claim(&running).await.unwrap();
        assert!(
            matches!(claim, Claim::Acquired(Acquired { attempt: 1, .. })),
            "{claim:?}"
        );
        store.get(&completed.owner.key).await.unwrap();
        assert_eq!(saved().await, Progress::Saved);
        let completion = store.complete(&completed.owner, &answer(), TTL).await;
        assert_eq!(completion.unwrap(), Completion::AlreadyCompleted);
        assert_eq!(store.purge_expired(10).await.unwrap().records, 0);
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

/// An update that is not heap-only writes an entry into each index. A completion is not
/// heap-only, because it leaves the index of what is not completed.
#[tokio::test]
async fn renewals_touch_no_index() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    for _ in 0..50 {
        let month = Duration::from_secs(30 * 24 * 60 * 60);
        let request = ClaimRequest {
            retention: month,
            ..request()
        };
        store.claim(&request).await.unwrap();
        let renewed = store.renew(&[renewal(&request)]).await.remove(0);
        assert_eq!(renewed.unwrap(), Renewed::Renewed);
        // Of the TTL that the store expects, or one close to it.
        let day = Duration::from_secs(24 * 60 * 60);
        store
            .complete(&request.owner, &answer(), day)
            .await
            .unwrap();
    }
    let updates = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = $1";
    let started = Instant::now();
    let heap_only = loop {
        // The server counts in its own time.
        let (updated, heap_only): (i64, i64) = sqlx::query_as(updates)
            .bind(&scratch.table)
            .fetch_one(&scratch.admin)
            .await
            .unwrap();
        if updated == 100 {
            break heap_only;
        }
        assert!(started.elapsed() < PATIENCE, "{updated} updates");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(heap_only >= 40, "{heap_only} of 50 renewals");
    scratch.clean_up().await;
}

fn renewal(request: &ClaimRequest<'_>) -> Renewal {
    Renewal {
        owner: request.owner,
        lease: request.lease,
        retention: request.retention,
    }
}

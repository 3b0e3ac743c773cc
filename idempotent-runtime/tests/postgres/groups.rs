//! Claims and completions of several callers in one statement.

use std::sync::Arc;

use bytes::Bytes;
use idempotent_runtime::StoredResponse;
use idempotent_runtime::store::postgres::PostgresStore;
use idempotent_runtime::store::{Claim, Completion, Store};
use sqlx::{AssertSqlSafe, PgPool};

use crate::calls::{at_once, begun, claim, complete, is_acquired, outcomes, requests};
use crate::own_server::OwnServer;
use crate::proxy;
use crate::support::{Scratch, TTL, answer, claimed, pool, request, rival};

#[tokio::test]
async fn those_that_come_in_meanwhile_are_one_statement() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let (options, counts) = proxy::start(&scratch.options).await;
    let store = Arc::new(scratch.store_on(pool(&options, 1)));
    claimed(&*store).await;
    counts.take();
    let requests = requests(100);
    let claims = requests.iter().map(|request| claim(&store, *request));
    for claim in at_once(claims).await {
        assert!(is_acquired(&claim.unwrap()));
    }
    assert_eq!(counts.take().1, 2, "claims: one alone, the others at once");

    let response = answer();
    let completions = requests
        .iter()
        .map(|request| complete(&store, request, &response));
    for completion in at_once(completions).await {
        assert_eq!(completion.unwrap(), Completion::Stored);
    }
    assert_eq!(counts.take().1, 2, "completions");

    let replays = requests.iter().map(|request| claim(&store, rival(request)));
    for replay in at_once(replays).await {
        let Claim::Completed(replayed) = replay.unwrap() else {
            panic!("not completed");
        };
        assert_eq!(replayed, response);
    }
    assert_eq!(
        counts.take().1,
        3,
        "replays: two statements alone, the others at once"
    );
    scratch.clean_up().await;
}

#[tokio::test]
async fn who_is_alone_is_in_no_group() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    scratch.execute(r#"DROP FUNCTION "{table}_group""#).await;
    let (options, counts) = proxy::start(&scratch.options).await;
    let store = scratch.store_on(pool(&options, 1));
    for _ in 0..3 {
        let request = claimed(&store).await;
        store
            .complete(&request.owner, &answer(), TTL)
            .await
            .unwrap();
    }
    // Where the table is, and claims and completions.
    assert_eq!(counts.take(), (3, 7));
    scratch.clean_up().await;
}

/// As many as the pool has connections to spare; who comes next queues.
#[tokio::test]
async fn few_at_once_go_alone() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let (options, counts) = proxy::start(&scratch.options).await;
    let store = Arc::new(scratch.store_on(pool(&options, 5)));
    claimed(&*store).await;
    counts.take();
    for (calls, statements) in [(4, 4), (5, 5), (50, 5)] {
        let claims = requests(calls).into_iter().map(|new| claim(&store, new));
        for claim in at_once(claims).await {
            assert!(is_acquired(&claim.unwrap()));
        }
        assert_eq!(counts.take().1, statements, "{calls} calls");
    }
    scratch.clean_up().await;
}

#[tokio::test]
async fn group_is_bounded_in_number_and_in_bytes() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let (options, counts) = proxy::start(&scratch.options).await;
    let store = Arc::new(scratch.store_on(pool(&options, 1)));
    claimed(&*store).await;
    counts.take();
    let requests = requests(1 + 2 * 128 + 1);
    let claims = requests.iter().map(|request| claim(&store, *request));
    for claim in at_once(claims).await {
        assert!(is_acquired(&claim.unwrap()));
    }
    assert_eq!(counts.take().1, 4, "one alone, and 257 in groups of 128");

    let body = |bytes: usize| {
        let body = Bytes::from(vec![b'x'; bytes]);
        let headers = http::HeaderMap::new();
        Arc::new(StoredResponse::new(http::StatusCode::OK, headers, body))
    };
    let bodies = [
        body(1),
        body(1 << 21),
        body(1 << 20),
        body(5 << 20),
        body(1),
    ];
    let completions = requests.iter().zip(&bodies);
    let completions = completions.map(|(request, body)| complete(&store, request, body));
    for completion in at_once(completions).await {
        assert_eq!(completion.unwrap(), Completion::Stored);
    }
    assert_eq!(counts.take().1, 4, "one alone, 3 MiB, 5 MiB, and one byte");
    scratch.clean_up().await;
}

/// Two groups that go by the same order cannot lock each other out. Rows of one group lie in the
/// order in which they were written.
#[tokio::test]
async fn group_goes_in_the_order_of_the_keys() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let pool = scratch.pool(1);
    let store = Arc::new(scratch.store_on(pool.clone()));
    store.get(&request().owner.key).await.unwrap();
    let first = request();
    let claims = std::iter::once(first).chain(requests(50));
    let claims = claims.map(|request| claim(&store, request));
    for claim in at_once(claims).await {
        assert!(is_acquired(&claim.unwrap()));
    }
    let keys = format!(
        r#"SELECT record_key FROM "{}" WHERE record_key <> $1 ORDER BY ctid"#,
        scratch.table
    );
    let keys: Vec<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(keys))
        .bind(&first.owner.key.as_bytes()[..])
        .fetch_all(&scratch.admin)
        .await
        .unwrap();
    assert_eq!(keys.len(), 50);
    assert!(keys.is_sorted());
    scratch.clean_up().await;
}

#[tokio::test]
async fn one_key_several_times_in_a_group_is_acquired_once() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let (options, counts) = proxy::start(&scratch.options).await;
    let store = Arc::new(scratch.store_on(pool(&options, 1)));
    claimed(&*store).await;
    counts.take();
    let (alone, winner) = (request(), request());
    let calls = [alone, winner, rival(&winner), winner, rival(&winner)];
    let claims = at_once(calls.map(|request| claim(&store, request))).await;
    let claims: Vec<_> = claims.into_iter().map(Result::unwrap).collect();
    let acquired: Vec<_> = claims.iter().map(is_acquired).collect();
    assert_eq!(acquired, [true, true, false, true, false], "{claims:?}");
    assert!(matches!(claims[2], Claim::InFlight { .. }), "{claims:?}");

    // Completions before and behind claims of the same key, in the order in which they came.
    let response = answer();
    let first = begun([claim(&store, alone), claim(&store, rival(&winner))]);
    let completions = begun([(); 2].map(|()| complete(&store, &winner, &response)));
    let last = begun([claim(&store, rival(&winner))]);
    counts.take();
    let first = outcomes(first).await;
    assert!(matches!(first[1], Ok(Claim::InFlight { .. })), "{first:?}");
    let completions = outcomes(completions).await;
    assert!(matches!(completions[0], Ok(Completion::Stored)));
    assert!(matches!(completions[1], Ok(Completion::AlreadyCompleted)));
    let last = outcomes(last).await;
    assert!(matches!(last[0], Ok(Claim::Completed(_))), "{last:?}");
    assert_eq!(
        counts.take().1,
        3,
        "the first alone, of a record that is there"
    );
    scratch.clean_up().await;
}

/// Two processes, the same keys, the one from the first to the last and the other from the last to
/// the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn groups_of_two_processes_have_one_winner_for_each_key() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let stores = [(); 2].map(|()| Arc::new(scratch.store(3)));
    let requests = requests(200);
    let [forwards, backwards] = &stores;
    let forwards = requests.iter().map(|new| claim(forwards, *new));
    let backwards = requests
        .iter()
        .rev()
        .map(|new| claim(backwards, rival(new)));
    let calls = (begun(forwards), begun(backwards));
    let (forwards, backwards) = tokio::join!(outcomes(calls.0), outcomes(calls.1));
    for (one, other) in forwards.into_iter().zip(backwards.into_iter().rev()) {
        let (one, other) = (one.unwrap(), other.unwrap());
        assert!(
            is_acquired(&one) != is_acquired(&other),
            "{one:?} {other:?}"
        );
    }
    scratch.clean_up().await;
}

#[tokio::test]
async fn group_of_replays_writes_nothing() {
    let Some(server) = OwnServer::start() else {
        return;
    };
    let pool = pool(&server.options(), 1);
    let store = Arc::new(PostgresStore::new(pool.clone()));
    store.migrate().await.unwrap();
    let (completed, running) = (claimed(&*store).await, claimed(&*store).await);
    store
        .complete(&completed.owner, &answer(), TTL)
        .await
        .unwrap();
    let replays = async || {
        let calls = (0..40).map(|call| match call % 2 {
            0 => claim(&store, rival(&completed)),
            _ => claim(&store, rival(&running)),
        });
        for claim in at_once(calls).await {
            assert!(!is_acquired(&claim.unwrap()));
        }
        let again = (0..20).map(|_| complete(&store, &completed, &answer()));
        for completion in at_once(again).await {
            assert_eq!(completion.unwrap(), Completion::AlreadyCompleted);
        }
    };
    // What the server itself still has to tidy up is done by the checkpoint and the first look.
    sqlx::raw_sql("CHECKPOINT").execute(&pool).await.unwrap();
    replays().await;
    let before = counters(&pool).await;
    replays().await;
    assert_eq!(counters(&pool).await, before);
    claimed(&*store).await;
    assert_ne!(counters(&pool).await, before);
}

/// How far the log goes, and the next transaction id.
async fn counters(pool: &PgPool) -> (i64, String) {
    let counters = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, \
        pg_snapshot_xmax(pg_current_snapshot())::text";
    sqlx::query_as(counters).fetch_one(pool).await.unwrap()
}

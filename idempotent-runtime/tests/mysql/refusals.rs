//! A server that is up and says no: for a moment, or because of what it is asked. On a server of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, StatusCode};
use idempotent_runtime::store::conformance;
use idempotent_runtime::store::{
    Acquired, Claim, Completion, Release, Renewed, Store, StoreErrorKind,
};
use idempotent_runtime::{Execution, Idempotency, OnAbandoned, Policy, StoredResponse};
use sqlx::mysql::MySqlConnectOptions;

use crate::LEASE;
use crate::locks::renewal;
use crate::own_server::OwnServer;
use crate::sql::Bed;
use crate::support::{Scratch, TTL, answer, claimed, request, rival};

/// An account like an application's: `read_only` stops it.
async fn application(scratch: &Scratch) -> MySqlConnectOptions {
    scratch
        .execute(
            "CREATE USER IF NOT EXISTS application; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO application",
        )
        .await;
    scratch.options.clone().username("application")
}

async fn started(settings: &[&'static str]) -> Option<(OwnServer, Scratch)> {
    let server = OwnServer::start(settings).await?;
    let scratch = Scratch::on(&server.options()).await;
    scratch.store(1).migrate().await.unwrap();
    Some((server, scratch))
}

#[tokio::test]
async fn read_only_is_a_refusal_and_its_connections_are_not_reused() {
    let Some((_server, scratch)) = started(&[]).await else {
        return;
    };
    let store = scratch.store_on(&application(&scratch).await, 2);
    let (running, completed) = (claimed(&store).await, claimed(&store).await);
    let stored = store.complete(&completed.owner, &answer(), TTL).await;
    assert_eq!(stored.unwrap(), Completion::Stored);
    store.renew(&[renewal(&running)]).await.remove(0).unwrap();
    let before = scratch.connections().await;
    scratch.execute("SET GLOBAL read_only = 1").await;
    let mut errors = vec![
        store.claim(&request()).await.unwrap_err(),
        store
            .complete(&running.owner, &answer(), TTL)
            .await
            .unwrap_err(),
        store.remove(&running.owner.key).await.unwrap_err(),
    ];
    errors.push(
        store
            .renew(&[renewal(&running)])
            .await
            .remove(0)
            .unwrap_err(),
    );
    errors.push(store.release(&[running.owner]).await.remove(0).unwrap_err());
    errors.push(store.abandon(&[running.owner]).await.remove(0).unwrap_err());
    for error in errors {
        assert_eq!(error.kind(), StoreErrorKind::Refused, "{error:?}");
        assert!(!error.may_have_happened() && !error.is_about_item());
    }
    let replay = store.claim(&rival(&completed)).await.unwrap();
    assert!(matches!(replay, Claim::Completed(_)), "{replay:?}");
    scratch.execute("SET GLOBAL read_only = 0").await;
    let renewed = store.renew(&[renewal(&running)]).await;
    assert!(matches!(renewed[..], [Ok(Renewed::Renewed)]), "{renewed:?}");
    let stored = store.complete(&running.owner, &answer(), TTL).await;
    assert_eq!(stored.unwrap(), Completion::Stored);
    let after = scratch.connections().await;
    assert!(
        after.iter().all(|it| !before.contains(it)),
        "{before:?} {after:?}"
    );
    scratch.clean_up().await;
}

/// It was taken for the last word: the response was dropped, and a retry paid again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_only_while_a_response_is_stored_is_one_effect() {
    const POLICY: Policy = Policy::new()
        .on_abandoned(OnAbandoned::Retry)
        .lease(Duration::from_secs(10));
    let Some((_server, scratch)) = started(&[]).await else {
        return;
    };
    let idempotency = Idempotency::new(scratch.store_on(&application(&scratch).await, 2));
    let (effects, scratch) = (Arc::new(AtomicUsize::new(0)), Arc::new(scratch));
    let pay = || {
        let (effects, scratch) = (Arc::clone(&effects), Arc::clone(&scratch));
        idempotency.execute(&POLICY, "pay", (), "key", &(), async move || {
            scratch.execute("SET GLOBAL read_only = 1").await;
            Ok::<_, idempotent_runtime::ExecuteError>(effects.fetch_add(1, Ordering::SeqCst) + 1)
        })
    };
    let first = pay().await.unwrap();
    assert!(matches!(first, Execution::Executed(1)), "{first:?}");
    // The response waits to be stored, and the lease to be renewed.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(
        pay()
            .await
            .is_ok_and(|it| matches!(it, Execution::InFlight { .. }))
    );
    scratch.execute("SET GLOBAL read_only = 0").await;
    let started = Instant::now();
    while !matches!(pay().await.unwrap(), Execution::Replayed(1)) {
        assert!(started.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(effects.load(Ordering::SeqCst), 1);
}

/// The first call on each dead connection was an error.
#[tokio::test]
async fn a_server_that_was_restarted_costs_no_call() {
    let Some((mut server, scratch)) = started(&[]).await else {
        return;
    };
    let store = scratch.store(4);
    let requests: Vec<_> = (0..4).map(|_| request()).collect();
    let claim_all = || join_all(requests.iter().map(|request| store.claim(request)));
    for claim in claim_all().await {
        claim.unwrap();
    }
    for _ in 0..2 {
        server.restart().await;
        for claim in claim_all().await {
            let claim = claim.unwrap();
            assert!(
                matches!(claim, Claim::Acquired(Acquired { attempt: 1, .. })),
                "{claim:?}"
            );
        }
    }
    server.restart().await;
    let answer = answer();
    let complete = |it| store.complete(it, &answer, TTL);
    let completions = requests.iter().map(|request| complete(&request.owner));
    for completion in join_all(completions).await {
        assert_eq!(completion.unwrap(), Completion::Stored);
    }
}

#[tokio::test]
async fn a_response_that_is_too_large_is_final_and_the_connection_stays() {
    let Some((_server, scratch)) = started(&["--max-allowed-packet=1M"]).await else {
        return;
    };
    let store = scratch.store(1);
    let request = claimed(&store).await;
    let connection = scratch.connection().await;
    let body = vec![7; 1024 * 1024];
    let large = StoredResponse::new(StatusCode::OK, HeaderMap::new(), body.clone());
    let error = store.complete(&request.owner, &Arc::new(large), TTL).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TooLarge, "{error:?}");
    assert!(error.is_about_item() && !error.may_have_happened());
    // Bit by bit it would fit, and a function of the server could not return it.
    let half = Bytes::from(body[..600 * 1024].to_vec());
    store.save_progress(&request.owner, 0, &half).await.unwrap();
    let error = store.save_progress(&request.owner, half.len(), &half).await;
    assert_eq!(error.unwrap_err().kind(), StoreErrorKind::TooLarge);
    let record = store.get(&request.owner.key).await.unwrap().unwrap();
    assert_eq!(record.progress.len(), half.len());
    let fits = StoredResponse::new(StatusCode::OK, HeaderMap::new(), body[..1_000_000].to_vec());
    let completion = store.complete(&request.owner, &Arc::new(fits), TTL).await;
    assert_eq!(completion.unwrap(), Completion::Stored);
    assert_eq!(scratch.connection().await, connection);
}

#[tokio::test]
async fn what_the_account_may_not_do_is_refused_until_it_may() {
    let Some((_server, scratch)) = started(&[]).await else {
        return;
    };
    let store = scratch.store_on(&application(&scratch).await, 1);
    let running = claimed(&store).await;
    let revoke = "REVOKE ALL PRIVILEGES ON {table} FROM application";
    scratch.execute(revoke).await;
    for _ in 0..2 {
        for error in [
            store.claim(&request()).await.unwrap_err(),
            store
                .complete(&running.owner, &answer(), TTL)
                .await
                .unwrap_err(),
        ] {
            assert_eq!(error.kind(), StoreErrorKind::Refused, "{error:?}");
            assert!(!error.may_have_happened() && !error.is_about_item());
        }
    }
    application(&scratch).await;
    let stored = store.complete(&running.owner, &answer(), TTL).await;
    assert_eq!(stored.unwrap(), Completion::Stored);
    scratch.execute("DROP USER application").await;
    let other = scratch.store_on(&scratch.options.clone().username("application"), 1);
    let error = other.claim(&request()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Refused, "{error:?}");
    assert!(!error.may_have_happened());
}

/// By its number and never by its text, which here says nothing.
#[tokio::test]
async fn each_error_number_is_the_kind_that_it_is() {
    use StoreErrorKind::{Busy, Full, Refused, TimedOut, TooLarge, Unavailable};
    let Some((_server, scratch)) = started(&[]).await else {
        return;
    };
    let store = scratch.store(1);
    for (number, kind, may_have_happened) in [
        (1205, Busy, false),
        (3572, Busy, false),
        (1615, Busy, false),
        (1021, Full, false),
        (1114, Full, false),
        (1153, TooLarge, false),
        (1118, TooLarge, false),
        (1290, Refused, false),
        (1792, Refused, false),
        (1836, Refused, false),
        (1047, Refused, false),
        (1142, Refused, false),
        (1044, Refused, false),
        (1461, Refused, false),
        (1030, Refused, false),
        (1317, Unavailable, true),
        (1180, Unavailable, true),
        (1598, Unavailable, true),
        (1053, Unavailable, true),
        (1927, Unavailable, true),
        (4031, Unavailable, true),
        // A proxy's word for a server that it has lost.
        (2006, Unavailable, true),
        (2013, Unavailable, true),
        (9001, Unavailable, true),
        (1969, TimedOut, true),
        (3024, TimedOut, true),
    ] {
        let signal = format!(
            "CREATE OR REPLACE TRIGGER {{database}}.refuse BEFORE INSERT ON {{table}} FOR EACH ROW
            SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = 'read-only deadlock'"
        );
        scratch.execute(&signal).await;
        let error = store.claim(&request()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{number}");
        assert_eq!(error.may_have_happened(), may_have_happened, "{number}");
        assert_eq!(error.is_about_item(), kind == TooLarge, "{number}");
    }
    scratch.execute("DROP TRIGGER {database}.refuse").await;
    claimed(&store).await;
}

/// `SERIALIZABLE` locked gaps, and unrelated first requests were refused for it. A `COMMIT` that chains committed the claims
/// behind it with the next batch, or never. The other defaults are as hostile as there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_default_of_the_server_matters() {
    is_conformant_by_default(&[
        "--completion-type=CHAIN",
        "--transaction-isolation=SERIALIZABLE",
        "--transaction-read-only=ON",
        "--autocommit=OFF",
        "--sql-mode=ANSI_QUOTES,ORACLE,EMPTY_STRING_IS_NULL,PAD_CHAR_TO_FULL_LENGTH,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,NO_UNSIGNED_SUBTRACTION",
        "--default-time-zone=+05:45",
        "--innodb-lock-wait-timeout=50",
        "--sql-safe-updates=ON",
        "--init-connect=SET sql_select_limit = 1",
    ])
    .await;
}

/// All but the first of a batch were said to be lost, and their leases ended.
#[tokio::test]
async fn a_default_that_cuts_results_short_does_not_matter() {
    let Some((server, scratch)) = started(&[]).await else {
        return;
    };
    let limits = "SET GLOBAL sql_select_limit = 1, GLOBAL max_join_size = 1";
    scratch.execute(limits).await;
    let store = scratch.store_on(&server.options().database(&scratch.database), 2);
    store.migrate().await.unwrap();
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(claimed(&store).await);
    }
    let renewals: Vec<_> = running.iter().map(renewal).collect();
    for renewed in store.renew(&renewals).await {
        assert_eq!(renewed.unwrap(), Renewed::Renewed);
    }
    let owners: Vec<_> = running.iter().map(|it| it.owner).collect();
    for released in store.release(&owners).await {
        assert_eq!(released.unwrap(), Release::Released);
    }
}

/// A `COMMIT` that releases broke each batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_default_that_ends_connections_does_not_matter() {
    is_conformant_by_default(&["--completion-type=RELEASE", "--autocommit=OFF"]).await;
}

async fn is_conformant_by_default(hostile: &[&'static str]) {
    let Some((_server, scratch)) = started(hostile).await else {
        return;
    };
    what_follows_a_batch_is_committed(&scratch).await;
    let store = Arc::new(scratch.store_on(&application(&scratch).await, 8));
    let requests: Vec<_> = (0..1000).map(|_| request()).collect();
    let first = join_all(requests.iter().map(|request| async {
        store.claim(request).await?;
        store.complete(&request.owner, &answer(), TTL).await
    }));
    for completion in first.await {
        assert_eq!(completion.unwrap(), Completion::Stored);
    }
    let report = conformance::run(&Bed {
        store,
        locker: Some(&scratch),
        lease: LEASE,
    })
    .await;
    report.assert_conformant();
}

/// On the only connection, and as another instance sees it.
async fn what_follows_a_batch_is_committed(scratch: &Scratch) {
    let (store, other) = (scratch.store(1), scratch.store(1));
    store.purge_expired(100).await.unwrap();
    let paid = claimed(&store).await;
    let released = store.release(&[claimed(&store).await.owner]).await;
    assert_eq!(*released[0].as_ref().unwrap(), Release::Released);
    let stored = store.complete(&paid.owner, &answer(), TTL).await;
    assert_eq!(stored.unwrap(), Completion::Stored);
    let again = other.claim(&rival(&paid)).await.unwrap();
    assert!(matches!(again, Claim::Completed(_)), "{again:?}");
}

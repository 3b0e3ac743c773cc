//! A peer that is gone without a word: no reply, and no end of the connection. New connections work.

use std::time::{Duration, Instant};

use idempotent_runtime::store::{Acquired, Claim, Completion, Renewal, Renewed, Store};

use crate::freezer::Freezer;
use crate::support::{PATIENCE, Scratch, TTL, answer, claimed, pool, request};
use crate::till::Till;

/// As the engine's timeout does.
async fn within<T>(limit: Duration, call: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, call).await.ok()
}

const LIMIT: Duration = Duration::from_millis(200);

/// Eight connections are idle, and all are frozen. The first call finds out, and the next has a fresh one.
#[tokio::test]
async fn frozen_connections_are_left_together_and_twice_in_a_row() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let freezer = Freezer::before(&scratch.options).await;
    let store = scratch.store_on(pool(&freezer.options, 10));
    let key = request().owner.key;
    let owner = claimed(&store).await.owner;
    for freeze in 1..=2 {
        let gets = || store.get(&key);
        let all = tokio::join!(
            gets(),
            gets(),
            gets(),
            gets(),
            gets(),
            gets(),
            gets(),
            gets()
        );
        assert!(all.0.is_ok() && all.7.is_ok());
        assert!(store.release(&[request().owner]).await[0].is_ok());
        freezer.freeze();
        assert!(within(LIMIT, store.get(&key)).await.is_none(), "{freeze}");
        for _ in 0..8 {
            let found = within(LIMIT, store.get(&key)).await;
            assert!(found.is_some_and(|found| found.is_ok()), "freeze {freeze}");
        }
        let completed = within(LIMIT, store.complete(&owner, &answer(), TTL)).await;
        let expected = [Completion::Stored, Completion::AlreadyCompleted][freeze - 1];
        assert_eq!(completed.unwrap().unwrap(), expected);
    }
    scratch.clean_up().await;
}

/// A renewal waits for nothing in the server: it does not wait for the caller's timeout either.
#[tokio::test]
async fn renewal_on_a_frozen_connection_gets_through_in_a_quarter_of_its_lease() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let freezer = Freezer::before(&scratch.options).await;
    let store = scratch.store_on(pool(&freezer.options, 10));
    let claim = claimed(&store).await;
    let renewal = Renewal {
        owner: claim.owner,
        lease: Duration::from_secs(1),
        retention: claim.retention,
    };
    for _ in 0..2 {
        store.renew(&[renewal]).await.remove(0).unwrap();
        freezer.freeze();
        let started = Instant::now();
        let renewed = within(PATIENCE, store.renew(&[renewal]))
            .await
            .unwrap()
            .remove(0);
        assert_eq!(renewed.unwrap(), Renewed::Renewed);
        assert!(started.elapsed() < renewal.lease, "{:?}", started.elapsed());
    }
    scratch.clean_up().await;
}

/// Through HTTP, with and without a transaction: the application's own pool has frozen connections too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_goes_on_after_two_freezes() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    scratch
        .execute(r#"CREATE TABLE "{table}_payments" (key text)"#)
        .await;
    let freezer = Freezer::before(&scratch.options).await;
    let pool = pool(&freezer.options, 16);
    let store = scratch.store_on(pool.clone());
    let till = Till::open(store, pool.clone(), Duration::from_millis(500)).await;
    let insert = |key: &str| {
        format!(
            r#"INSERT INTO "{}_payments" VALUES ('{key}')"#,
            scratch.table
        )
    };
    for freeze in 1..=2 {
        // All connections are there.
        let mut held = Vec::new();
        for _ in 0..16 {
            held.push(pool.acquire().await.unwrap());
        }
        drop(held);
        for warm in 0..2 {
            let key = format!("warm-{freeze}-{warm}");
            let paid = till.post("/pay", &key, &insert(&key)).await;
            assert_eq!(paid.status, 201, "{}", paid.text);
        }
        assert_eq!(
            till.post("/hold", &format!("h{freeze}"), "0").await.status,
            200
        );
        freezer.freeze();
        let started = Instant::now();
        let (paid, held) = (format!("paid-{freeze}"), format!("held-{freeze}"));
        let paying = till.post_until_served("/pay", &paid, &insert(&paid)).await;
        let holding = till.post_until_served("/hold", &held, "0").await;
        assert_eq!((paying.status, holding.status), (201, 200));
        let took = started.elapsed();
        assert!(
            took < Duration::from_secs(5),
            "{took:?} after freeze {freeze}"
        );
        for again in 0..8 {
            let key = format!("again-{freeze}-{again}");
            assert_eq!(till.post("/pay", &key, &insert(&key)).await.status, 201);
        }
    }
    scratch.execute(r#"DROP TABLE "{table}_payments""#).await;
    scratch.clean_up().await;
}

/// The handler's connections are back in the pool in time, too: with a freeze each time when
/// one may be on its way back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pool_of_the_application_loses_no_place_to_a_connection_that_was_frozen_on_its_way_back() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let freezer = Freezer::before(&scratch.options).await;
    let pool = pool(&freezer.options, 2);
    let store = scratch.store_on(pool.clone());
    let till = Till::open(store, pool.clone(), Duration::from_millis(500)).await;
    for round in 0..6 {
        let key = format!("key-{round}");
        let paid = till.post_until_served("/pay", &key, "SELECT 1");
        assert_eq!(paid.await.status, 201);
        // COMMIT has been answered, and nothing else.
        freezer.freeze();
    }
    let last = till.post_until_served("/pay", "last", "SELECT 1").await;
    assert_eq!(last.status, 201);
    let all_are_back = async {
        while pool.num_idle() != pool.size() as usize {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let all_are_back = within(Duration::from_secs(10), all_are_back).await;
    assert!(
        all_are_back.is_some(),
        "{} of {}",
        pool.num_idle(),
        pool.size()
    );
    scratch.clean_up().await;
}

/// Claims are asked for twice with one token, so that a first question on a frozen connection costs time
/// and no 503.
#[tokio::test]
async fn claim_that_was_given_up_leaves_nothing_behind_that_the_next_one_waits_for() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let freezer = Freezer::before(&scratch.options).await;
    let store = scratch.store_on(pool(&freezer.options, 1));
    claimed(&store).await;
    let before = freezer.connected();
    freezer.freeze();
    let new = request();
    assert!(within(LIMIT, store.claim(&new)).await.is_none());
    let claim = within(LIMIT, store.claim(&new)).await.unwrap().unwrap();
    assert!(
        matches!(claim, Claim::Acquired(Acquired { attempt: 1, .. })),
        "{claim:?}"
    );
    assert_eq!(freezer.connected(), before + 1);
    scratch.clean_up().await;
}

/// A network that swallows what there is in the middle of a `#[tx]` handler: its transaction stays open in the
/// server, with the key's lock, long after the client was told that nothing was done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_of_a_transaction_that_was_frozen_is_free_again() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    scratch
        .execute(r#"CREATE TABLE "{table}_payments" (key text)"#)
        .await;
    let freezer = Freezer::before(&scratch.options).await;
    let pool = pool(&freezer.options, 4);
    let store = scratch.store_on(pool.clone());
    let (time_out, transactions) = (Duration::from_secs(2), Duration::from_secs(3));
    let till = Till::open_within(store, pool, time_out, transactions).await;
    let pay = format!(
        r#"INSERT INTO "{}_payments" VALUES ('key');SELECT pg_sleep(1)"#,
        scratch.table
    );
    let freeze = async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        freezer.freeze();
    };
    let (first, ()) = tokio::join!(till.post("/pay", "key", &pay), freeze);
    assert_eq!(first.status, 503, "{first:?}");
    // The network is as good as new.
    let other = till.post_until_served("/pay", "other", "SELECT 1").await;
    assert_eq!(other.status, 201);
    let started = Instant::now();
    let mut last = till.post("/pay", "key", &pay).await;
    while last.status != 201 && started.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        last = till.post("/pay", "key", &pay).await;
    }
    assert_eq!(last.status, 201, "{last:?}");
    scratch.clean_up().await;
}

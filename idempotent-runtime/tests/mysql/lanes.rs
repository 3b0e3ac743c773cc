//! The store's own connections: what becomes of them when the server, the network or a caller goes away,
//! and who waits for whom.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use idempotent_runtime::Owner;
use idempotent_runtime::store::mysql::MySqlStore;
use idempotent_runtime::store::{
    Claim, ClaimRequest, Completion, Progress, Release, Renewed, Store, StoreError, StoreErrorKind,
};
use tokio::time::timeout;

use crate::locks::renewal;
use crate::proxy::Proxy;
use crate::support::{Scratch, TTL, answer, claimed, pool, request};

/// The limit of a store call, as the engine has it by default.
const LIMIT: Duration = Duration::from_secs(2);

/// As the engine claims: a question that got no reply is asked once more.
async fn ask(store: &dyn Store, request: &ClaimRequest<'_>) -> Option<Claim> {
    for _ in 0..2 {
        if let Ok(Ok(claim)) = timeout(LIMIT, store.claim(request)).await {
            return Some(claim);
        }
    }
    None
}

/// Claims all at once, so that each has a connection of its own.
async fn many(store: &dyn Store, count: usize) -> Vec<Option<Claim>> {
    let requests: Vec<_> = (0..count).map(|_| request()).collect();
    join_all(requests.iter().map(|request| ask(store, request))).await
}

/// Not closed, only silent: without FIN or RST nothing but the time tells. Twice, because the first time
/// may have left something behind that the second one stumbles over.
#[tokio::test]
async fn a_peer_that_goes_silent_twice_costs_no_claim() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let proxy = Proxy::to(&scratch.options).await;
    let store = scratch.store_on(&proxy.options(&scratch.options), 8);
    for _ in 0..2 {
        assert!(many(&store, 8).await.iter().all(Option::is_some));
        let owner = claimed(&store).await;
        store.renew(&[renewal(&owner)]).await.remove(0).unwrap();
        proxy.freeze();
        let frozen = Instant::now();
        // One after the other: each would find the next dead connection.
        for _ in 0..8 {
            assert!(ask(&store, &request()).await.is_some());
        }
        let renewals = [renewal(&owner)];
        let renewed = match timeout(LIMIT, store.renew(&renewals)).await {
            Ok(renewed) => renewed,
            Err(_) => store.renew(&renewals).await,
        };
        assert!(matches!(renewed[..], [Ok(Renewed::Renewed)]), "{renewed:?}");
        assert!(many(&store, 8).await.iter().all(Option::is_some));
        let elapsed = frozen.elapsed();
        assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    }
    scratch.clean_up().await;
}

/// Leases of several lengths are renewed side by side: all connections for renewals can be waiting for a peer that is gone
/// without a word, and a renewal that could be sent on a fresh one must not wait for them.
#[tokio::test]
async fn renewals_on_silent_connections_do_not_hold_up_each_other() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let proxy = Proxy::to(&scratch.options).await;
    let store = scratch.store_on(&proxy.options(&scratch.options), 8);
    let mut owners = Vec::new();
    for _ in 0..3 {
        owners.push(claimed(&store).await);
    }
    let renew = async |owner| {
        let renewals = [renewal(owner)];
        store.renew(&renewals).await.remove(0)
    };
    let all = || join_all(owners.iter().map(renew));
    all().await;
    proxy.freeze();
    // There is no other limit here.
    let renewed = timeout(Duration::from_secs(30), all()).await;
    let renewed = renewed.expect("replies on fresh connections");
    assert!(
        renewed.iter().all(|it| matches!(it, Ok(Renewed::Renewed))),
        "{renewed:?}"
    );
    scratch.clean_up().await;
}

/// Before they have been idle for so long that they are asked.
#[tokio::test]
async fn one_connection_that_is_silent_makes_the_others_suspect() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let proxy = Proxy::to(&scratch.options).await;
    let store = scratch.store_on(&proxy.options(&scratch.options), 8);
    assert!(many(&store, 8).await.iter().all(Option::is_some));
    proxy.freeze();
    let first = request();
    let given_up = timeout(Duration::from_millis(50), store.claim(&first)).await;
    assert!(given_up.is_err(), "{given_up:?}");
    let second = timeout(LIMIT, store.claim(&first)).await;
    assert!(second.is_ok(), "another dead connection was used");
    scratch.clean_up().await;
}

/// One that was idle for longer is asked first, and not for as long as it likes.
#[tokio::test]
async fn a_peer_that_goes_silent_while_nobody_asks_costs_half_a_second() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let proxy = Proxy::to(&scratch.options).await;
    let store = scratch.store_on(&proxy.options(&scratch.options), 8);
    assert!(many(&store, 8).await.iter().all(Option::is_some));
    proxy.freeze();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let started = Instant::now();
    assert!(many(&store, 8).await.iter().all(Option::is_some));
    assert!(started.elapsed() < Duration::from_millis(1500));
    scratch.clean_up().await;
}

/// Each operation, on a connection that the server has closed: by `KILL`, as by `wait_timeout`.
#[tokio::test]
async fn connections_that_the_server_has_closed_cost_no_call() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    let kill = async || {
        for connection in scratch.connections().await {
            scratch.kill(connection).await;
        }
    };
    let request = claimed(&store).await;
    let renewed = store.renew(&[renewal(&request)]).await;
    assert!(matches!(renewed[..], [Ok(Renewed::Renewed)]));
    assert_eq!(scratch.connections().await.len(), 2);
    kill().await;
    let other = claimed(&store).await;
    kill().await;
    let renewed = store.renew(&[renewal(&request)]).await;
    assert!(matches!(renewed[..], [Ok(Renewed::Renewed)]), "{renewed:?}");
    claimed(&store).await;
    kill().await;
    let progress = b"step 1"[..].into();
    let saved = store.save_progress(&request.owner, 0, &progress);
    assert_eq!(saved.await.unwrap(), Progress::Saved);
    kill().await;
    assert!(store.get(&request.owner.key).await.unwrap().is_some());
    kill().await;
    let completion = store.complete(&request.owner, &answer(), TTL).await;
    assert_eq!(completion.unwrap(), Completion::Stored);
    kill().await;
    let abandoned = store.abandon(&[other.owner]).await;
    assert!(
        matches!(abandoned[..], [Ok(Release::Released)]),
        "{abandoned:?}"
    );
    kill().await;
    assert!(store.remove(&request.owner.key).await.unwrap());
    kill().await;
    store.purge_expired(10).await.unwrap();
    kill().await;
    store.migrate().await.unwrap();
    scratch.clean_up().await;
}

/// Handlers that hold all connections of the application's pool left none for renewals: leases ended.
#[tokio::test]
async fn handlers_that_hold_the_applications_pool_delay_nothing() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let shared = pool(&scratch.options, 2);
    let store = MySqlStore::new(shared.clone())
        .with_table(&scratch.table)
        .unwrap();
    let handlers = [
        shared.acquire().await.unwrap(),
        shared.acquire().await.unwrap(),
    ];
    let done = async {
        let request = claimed(&store).await;
        store.renew(&[renewal(&request)]).await.remove(0).unwrap();
        store
            .complete(&request.owner, &answer(), TTL)
            .await
            .unwrap()
    };
    assert_eq!(timeout(LIMIT, done).await.unwrap(), Completion::Stored);
    drop(handlers);
    scratch.clean_up().await;
}

#[tokio::test]
async fn completions_that_wait_for_locked_rows_delay_no_renewal() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = Arc::new(scratch.store(2));
    let mut locked = Vec::new();
    for _ in 0..4 {
        locked.push(claimed(&*store).await);
    }
    let holding = scratch.hold("SELECT * FROM {table} FOR UPDATE").await;
    let free = async {
        // No session has locked the gap: the store's sessions are READ COMMITTED, and this is another row.
        scratch
            .until_blocked(scratch.connections().await[0], None)
            .await;
        let started = Instant::now();
        let renewals: Vec<_> = locked.iter().map(renewal).collect();
        for renewed in store.renew(&renewals).await {
            assert_eq!(renewed.unwrap_err().kind(), StoreErrorKind::Busy);
        }
        started.elapsed()
    };
    let answer = answer();
    let completions = locked
        .iter()
        .map(|it| store.complete(&it.owner, &answer, TTL));
    let (completions, elapsed) = tokio::join!(join_all(completions), free);
    for completion in completions {
        assert_eq!(completion.unwrap_err().kind(), StoreErrorKind::Busy);
    }
    assert!(elapsed < Duration::from_millis(900), "{elapsed:?}");
    holding.rollback().await.unwrap();
    scratch.clean_up().await;
}

/// Neither its place nor its connection.
#[tokio::test]
async fn calls_that_were_given_up_hold_nothing() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let proxy = Proxy::to(&scratch.options).await;
    let store = scratch.store_on(&proxy.options(&scratch.options), 1);
    let waiting = claimed(&store).await;
    let response = answer();
    for _ in 0..20 {
        proxy.keep_reply_to("record_key");
        let given_up = timeout(
            Duration::from_millis(50),
            store.complete(&waiting.owner, &response, TTL),
        );
        drop(given_up.await);
        let free = timeout(LIMIT, claimed(&store)).await;
        assert!(free.is_ok(), "the only connection is taken");
    }
    scratch.clean_up().await;
}

/// The reply that was lost is not repeated to the next caller, and not counted twice.
#[tokio::test]
async fn a_release_whose_reply_was_lost_may_have_happened() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let proxy = Proxy::to(&scratch.options).await;
    let store = scratch.store_on(&proxy.options(&scratch.options), 1);
    let owner: Owner = claimed(&store).await.owner;
    proxy.keep_reply_to("DELETE FROM");
    let release = async {
        let released = store.release(&[owner]).await.remove(0);
        let error = released.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
        assert!(error.may_have_happened());
    };
    let killing = async {
        while !proxy.has_kept_a_reply() || !scratch.rows("SELECT 1 FROM {table}").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let connections = scratch.connections().await;
        scratch.kill(connections[0]).await;
    };
    tokio::join!(release, killing);
    assert!(store.get(&owner.key).await.unwrap().is_none());
    scratch.clean_up().await;
}

/// A network that swallows what there is between the two round trips of a batch: the rows stay locked by a
/// session that will never be heard of again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batch_that_was_frozen_half_way_locks_nothing_for_long() {
    use idempotent_runtime::store::{Completion, Renewal};
    use std::time::{Duration, Instant};
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let proxy = Proxy::to(&scratch.options).await;
    let store = scratch.store_on(&proxy.options(&scratch.options), 4);
    let mut claims = Vec::new();
    for _ in 0..3 {
        claims.push(crate::support::claimed(&store).await);
    }
    let renewals: Vec<Renewal> = claims
        .iter()
        .map(|claim| Renewal {
            owner: claim.owner,
            lease: claim.lease,
            retention: claim.retention,
        })
        .collect();
    // The engine's timeout of a call.
    let limit = Duration::from_secs(2);
    assert!(store.renew(&renewals).await.iter().all(Result::is_ok));
    proxy.keep_reply_to("START TRANSACTION");
    let freeze = async {
        while !proxy.has_kept_a_reply() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        proxy.freeze();
    };
    let (renewed, ()) = tokio::join!(tokio::time::timeout(limit, store.renew(&renewals)), freeze);
    // Given up, or asked once more on a fresh connection, for which the rows are locked.
    let is_busy = |it: &Result<Renewed, StoreError>| matches!(it, Err(error) if error.kind() == StoreErrorKind::Busy);
    assert!(
        renewed
            .as_ref()
            .map_or(true, |each| each.iter().all(is_busy)),
        "{renewed:?}"
    );
    // From here on the network is as good as new.
    let other = crate::support::claimed(&store).await;
    assert!(
        store
            .renew(&[Renewal {
                owner: other.owner,
                ..renewals[0]
            }])
            .await[0]
            .is_ok()
    );
    let started = Instant::now();
    let mut last = None;
    while started.elapsed() < Duration::from_secs(45) {
        let response = answer();
        let completed = store.complete(&claims[0].owner, &response, TTL);
        let completed = tokio::time::timeout(limit, completed).await;
        let is_done = matches!(completed, Ok(Ok(Completion::Stored)));
        last = Some(completed);
        if is_done {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(matches!(last, Some(Ok(Ok(Completion::Stored)))), "{last:?}");
    scratch.clean_up().await;
}

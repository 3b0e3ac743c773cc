//! Notifications for those who wait.

use std::time::{Duration, Instant};

use idempotent_runtime::store::postgres::PostgresStore;
use idempotent_runtime::store::{Acquired, Claim, ClaimRequest, Renewal, Store};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::{PATIENCE, Scratch, TTL, answer, claimed, request, rival};

/// Until the listener is connected, or the mark has found out that no attempt is running.
pub(crate) async fn listened(store: &impl Store) {
    let connected = store.subscribe(&request().owner.key).changed();
    timeout(PATIENCE, connected).await.unwrap();
}

/// Begins to wait, and returns once the record is marked.
pub(crate) async fn waiting(
    scratch: &Scratch,
    store: &impl Store,
    request: &ClaimRequest<'_>,
) -> JoinHandle<()> {
    let subscription = store.subscribe(&request.owner.key);
    assert!(!subscription.is_reliable(), "a message can get lost");
    let waiting = tokio::spawn(subscription.changed());
    scratch.until_marked(request).await;
    assert!(!waiting.is_finished(), "woken for no reason");
    waiting
}

pub(crate) async fn must_wake(waiting: JoinHandle<()>, what: &str) {
    let woken = timeout(PATIENCE, waiting).await;
    assert!(woken.is_ok(), "not woken: {what}");
}

/// A claim whose lease has ended.
pub(crate) async fn abandoned(store: &PostgresStore) -> ClaimRequest<'static> {
    let request = claimed(store).await;
    let (owner, lease) = (request.owner, Duration::ZERO);
    let retention = request.retention;
    let renewal = Renewal {
        owner,
        lease,
        retention,
    };
    store.renew(&[renewal]).await.remove(0).unwrap();
    request
}

#[tokio::test]
async fn every_change_wakes_those_who_wait_in_another_process() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let (here, there) = (scratch.store(1), scratch.store(1));
    assert_eq!(scratch.listeners().await.len(), 0, "no request waits yet");
    listened(&here).await;

    let completed = claimed(&there).await;
    let one = waiting(&scratch, &here, &completed).await;
    let two = waiting(&scratch, &here, &completed).await;
    there
        .complete(&completed.owner, &answer(), TTL)
        .await
        .unwrap();
    must_wake(one, "completion").await;
    must_wake(two, "completion").await;

    let released = claimed(&there).await;
    let woken = waiting(&scratch, &here, &released).await;
    there.release(&[released.owner]).await.remove(0).unwrap();
    must_wake(woken, "release").await;

    let removed = claimed(&there).await;
    let woken = waiting(&scratch, &here, &removed).await;
    there.remove(&removed.owner.key).await.unwrap();
    must_wake(woken, "removal").await;

    let old = abandoned(&there).await;
    let woken = waiting(&scratch, &here, &old).await;
    let heir = ClaimRequest {
        take_over: Some(1),
        ..rival(&old)
    };
    let claim = there.claim(&heir).await.unwrap();
    assert!(
        matches!(claim, Claim::Acquired(Acquired { attempt: 2, .. })),
        "{claim:?}"
    );
    must_wake(woken, "take-over").await;
    // It is marked still: the end of the second attempt is told too.
    let woken = waiting(&scratch, &here, &heir).await;
    there.complete(&heir.owner, &answer(), TTL).await.unwrap();
    must_wake(woken, "completion after a take-over").await;

    let listeners = scratch.listeners().await.len();
    assert_eq!(listeners, 1, "one connection for all of them");
    scratch.clean_up().await;
}

#[tokio::test]
async fn change_before_the_mark_is_not_missed() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let (here, there) = (scratch.store(1), scratch.store(1));
    listened(&here).await;
    let [completed, released] = [claimed(&there).await, claimed(&there).await];
    let subscriptions = [completed, released].map(|request| here.subscribe(&request.owner.key));
    there
        .complete(&completed.owner, &answer(), TTL)
        .await
        .unwrap();
    there.release(&[released.owner]).await.remove(0).unwrap();
    for subscription in subscriptions {
        must_wake(tokio::spawn(subscription.changed()), "it has changed").await;
    }
    scratch.clean_up().await;
}

#[tokio::test]
async fn listener_comes_back_after_its_connection_was_ended_and_goes_with_the_store() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let (here, there) = (scratch.store(1), scratch.store(1));
    listened(&here).await;
    let request = claimed(&there).await;
    let woken = waiting(&scratch, &here, &request).await;
    let [first] = scratch.listeners().await[..] else {
        panic!("not one listener");
    };
    scratch.kill(first).await;
    must_wake(woken, "what happened meanwhile went by unheard").await;

    let woken = waiting(&scratch, &here, &request).await;
    there
        .complete(&request.owner, &answer(), TTL)
        .await
        .unwrap();
    must_wake(woken, "completion").await;
    let [second] = scratch.listeners().await[..] else {
        panic!("not one listener");
    };
    assert_ne!(first, second);

    drop(here);
    let started = Instant::now();
    while !scratch.listeners().await.is_empty() {
        assert!(started.elapsed() < PATIENCE, "it still listens");
    }
    scratch.clean_up().await;
}

/// Of a pool that has one connection only.
#[tokio::test]
async fn those_who_wait_hold_no_connection() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let (here, there) = (scratch.store(1), scratch.store(1));
    let mut requests = Vec::new();
    let mut woken = Vec::new();
    for _ in 0..20 {
        let request = claimed(&there).await;
        listened(&here).await;
        woken.push(waiting(&scratch, &here, &request).await);
        requests.push(request);
    }
    for request in &requests {
        here.get(&request.owner.key).await.unwrap().unwrap();
        there
            .complete(&request.owner, &answer(), TTL)
            .await
            .unwrap();
    }
    for woken in woken {
        must_wake(woken, "completion").await;
    }
    scratch.clean_up().await;
}

#[tokio::test]
async fn store_without_notifications_marks_nothing_and_listens_to_nothing() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    for store in [
        scratch.store(1).without_notifications(),
        PostgresStore::new(scratch.pool(1))
            .without_notifications()
            .with_table(&scratch.table)
            .unwrap(),
    ] {
        let request = claimed(&store).await;
        let subscription = store.subscribe(&request.owner.key).changed();
        assert!(timeout(Duration::ZERO, subscription).await.is_err());
        store
            .complete(&request.owner, &answer(), TTL)
            .await
            .unwrap();
        assert!(!scratch.is_marked(&request).await);
    }
    assert_eq!(scratch.listeners().await.len(), 0);
    scratch.clean_up().await;
}

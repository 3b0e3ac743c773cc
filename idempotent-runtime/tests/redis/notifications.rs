//! Notifications for those who wait.

use std::time::Duration;

use idempotent_runtime::Owner;
use idempotent_runtime::store::redis::RedisStore;
use idempotent_runtime::store::{Acquired, Claim, ClaimRequest, Renewal, Renewed, Store};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::round_trips::counts;
use super::support::{Server, owner, response};
use super::{LONG, abandon, another, complete, name, release, renew, renewal, request, save};

async fn subscribers(server: &Server) -> u64 {
    let mut connection = server.connection().await;
    let mut count = redis::cmd("PUBSUB");
    count.arg("NUMSUB").arg("idempotent:done");
    let (_, count): (String, u64) = count.query_async(&mut connection).await.unwrap();
    count
}

/// Until the listener is connected, or the mark has found out that no attempt is running.
async fn listened(server: &Server, store: &impl Store) {
    let owner = owner();
    let elsewhere = RedisStore::new(server.connection().await);
    elsewhere.claim(&request(owner)).await.unwrap();
    let connected = store.subscribe(&owner.key).changed();
    timeout(LONG, connected).await.expect("it connects");
    elsewhere.remove(&owner.key).await.unwrap();
}

async fn end_lease(store: &impl Store, owner: Owner) {
    let ended = Renewal {
        lease: Duration::ZERO,
        ..renewal(owner)
    };
    assert_eq!(renew(store, ended).await.unwrap(), Renewed::Renewed);
}

async fn must_wake(waiting: JoinHandle<()>, what: &str) {
    timeout(LONG, waiting).await.expect(what).unwrap();
}

/// Whether a change of the record will be told.
async fn is_marked(server: &Server, owner: &Owner) -> bool {
    let mut connection = server.connection().await;
    let mut state = redis::cmd("GETRANGE");
    state.arg(name(&owner.key)).arg(69).arg(69);
    let state: String = state.query_async(&mut connection).await.unwrap();
    state == "w"
}

/// Begins to wait, and returns once the record is marked.
async fn waiting(server: &Server, store: &impl Store, owner: Owner) -> JoinHandle<()> {
    let subscription = store.subscribe(&owner.key);
    assert!(!subscription.is_reliable(), "a message can get lost");
    let waiting = tokio::spawn(subscription.changed());
    while !is_marked(server, &owner).await {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished(), "woken for no reason");
    waiting
}

#[tokio::test]
async fn every_change_wakes_those_who_wait_in_another_process() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let here = RedisStore::connect(&server.url()).await.unwrap();
    let there = RedisStore::new(server.connection().await);
    assert_eq!(subscribers(&server).await, 0, "no request waits yet");
    listened(&server, &here).await;
    let [completed, released, removed, abandoned, taken] = [(); 5].map(|()| owner());
    for owner in [completed, released, removed, abandoned, taken] {
        there.claim(&request(owner)).await.unwrap();
        assert!(!is_marked(&server, &owner).await, "no request waits yet");
    }

    let one = waiting(&server, &here, completed).await;
    let two = waiting(&server, &here, completed).await;
    renew(&there, renewal(completed)).await.unwrap();
    save(&there, completed).await.unwrap();
    complete(&there, completed, &response(b"paid"))
        .await
        .unwrap();
    must_wake(one, "completion").await;
    must_wake(two, "completion").await;

    let woken = waiting(&server, &here, released).await;
    release(&there, released).await.unwrap();
    must_wake(woken, "release").await;

    let woken = waiting(&server, &here, removed).await;
    there.remove(&removed.key).await.unwrap();
    must_wake(woken, "removal").await;

    let woken = waiting(&server, &here, abandoned).await;
    abandon(&there, abandoned).await.unwrap();
    must_wake(woken, "abandoning").await;

    end_lease(&there, taken).await;
    let woken = waiting(&server, &here, taken).await;
    let heir = another(taken);
    let take_over = Some(1);
    let claim = there
        .claim(&ClaimRequest {
            take_over,
            ..request(heir)
        })
        .await
        .unwrap();
    assert!(
        matches!(claim, Claim::Acquired(Acquired { attempt: 2, .. })),
        "{claim:?}"
    );
    must_wake(woken, "take-over").await;
    let woken = waiting(&server, &here, heir).await;
    complete(&there, heir, &response(b"paid")).await.unwrap();
    must_wake(woken, "completion after a take-over").await;

    assert_eq!(
        subscribers(&server).await,
        1,
        "one connection for all of them"
    );
}

#[tokio::test]
async fn nobody_is_told_of_what_nobody_waits_for() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let [completed, released, taken] = [(); 3].map(|()| owner());
    for owner in [completed, released, taken] {
        store.claim(&request(owner)).await.unwrap();
    }
    complete(&store, completed, &response(b"paid"))
        .await
        .unwrap();
    release(&store, released).await.unwrap();
    end_lease(&store, taken).await;
    let take_over = Some(1);
    let request = ClaimRequest {
        take_over,
        ..request(another(taken))
    };
    store.claim(&request).await.unwrap();
    assert_eq!(counts(&server).await.get("publish"), None);
}

#[tokio::test]
async fn change_before_the_mark_is_not_missed() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let here = RedisStore::connect(&server.url()).await.unwrap();
    let there = RedisStore::new(server.connection().await);
    listened(&server, &here).await;
    let [completed, released] = [(); 2].map(|()| owner());
    for owner in [completed, released] {
        there.claim(&request(owner)).await.unwrap();
    }
    let subscriptions = [completed, released].map(|owner| here.subscribe(&owner.key));
    complete(&there, completed, &response(b"paid"))
        .await
        .unwrap();
    release(&there, released).await.unwrap();
    assert_eq!(
        counts(&server).await.get("publish"),
        Some(&1),
        "of the removal before"
    );
    for subscription in subscriptions {
        must_wake(tokio::spawn(subscription.changed()), "it has changed").await;
    }
}

#[tokio::test]
async fn listener_comes_back_after_the_server_and_goes_with_the_store() {
    let Some(mut server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    listened(&server, &store).await;
    let owner = owner();
    store.claim(&request(owner)).await.unwrap();
    let woken = waiting(&server, &store, owner).await;
    server.kill();
    server.restart().await;
    must_wake(woken, "what happened meanwhile went by unheard").await;
    assert_eq!(subscribers(&server).await, 1);
    drop(store);
    while subscribers(&server).await > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn store_without_notifications_tells_nobody() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let listening = RedisStore::connect(&server.url()).await.unwrap();
    listened(&server, &listening).await;
    let told = counts(&server).await.get("publish").copied();
    let store = RedisStore::connect(&server.url())
        .await
        .unwrap()
        .without_notifications();
    let [completed, released, removed, taken] = [(); 4].map(|()| owner());
    for owner in [completed, released, removed, taken] {
        store.claim(&request(owner)).await.unwrap();
        let subscription = store.subscribe(&owner.key).changed();
        assert!(timeout(Duration::ZERO, subscription).await.is_err());
        drop(waiting(&server, &listening, owner).await);
    }
    complete(&store, completed, &response(b"paid"))
        .await
        .unwrap();
    release(&store, released).await.unwrap();
    store.remove(&removed.key).await.unwrap();
    end_lease(&store, taken).await;
    let take_over = Some(1);
    let request = ClaimRequest {
        take_over,
        ..request(another(taken))
    };
    store.claim(&request).await.unwrap();
    assert_eq!(counts(&server).await.get("publish").copied(), told);
    assert_eq!(subscribers(&server).await, 1, "the other one's");
}

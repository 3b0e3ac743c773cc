//! Hints for those who wait.

use std::time::Duration;

use idempotent_runtime::Owner;
use idempotent_runtime::store::redis::RedisStore;
use idempotent_runtime::store::{Claim, ClaimRequest, Renewal, Store, Subscription};
use tokio::time::timeout;

use super::round_trips::counts;
use super::support::{Server, owner, response};
use super::{LONG, another, request};

async fn subscribers(server: &Server) -> u64 {
    let mut connection = server.connection().await;
    let mut count = redis::cmd("PUBSUB");
    count.arg("NUMSUB").arg("idempotent:done");
    let (_, count): (String, u64) = count.query_async(&mut connection).await.unwrap();
    count
}

/// Until the listener is connected, which is when it wakes all who wait.
async fn listened(store: &impl Store) {
    let connected = store.subscribe(&owner().key).changed();
    timeout(LONG, connected).await.expect("it connects");
}

async fn must_wake(subscription: Subscription, what: &str) {
    assert!(!subscription.is_reliable(), "a message can get lost");
    timeout(LONG, subscription.changed()).await.expect(what);
}

#[tokio::test]
async fn every_change_wakes_those_who_wait_in_another_process() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let here = RedisStore::connect(&server.url()).await.unwrap();
    let there = RedisStore::new(server.connection().await);
    assert_eq!(subscribers(&server).await, 0, "nobody waits yet");
    listened(&here).await;
    let [completed, released, removed, taken] = [(); 4].map(|()| owner());
    for owner in [completed, released, removed, taken] {
        there.claim(&request(owner)).await.unwrap();
    }
    let waiting = |owner: Owner| here.subscribe(&owner.key);

    let [one, two] = [completed; 2].map(waiting);
    there
        .complete(&completed, &response(b"paid"))
        .await
        .unwrap();
    must_wake(one, "completion").await;
    must_wake(two, "completion").await;

    let subscription = waiting(released);
    there.release(&released).await.unwrap();
    must_wake(subscription, "release").await;

    let subscription = waiting(removed);
    there.remove(&removed.key).await.unwrap();
    must_wake(subscription, "removal").await;

    there
        .renew(&[Renewal {
            owner: taken,
            lease: Duration::ZERO,
        }])
        .await
        .unwrap();
    let subscription = waiting(taken);
    let take_over = Some(1);
    let claim = there
        .claim(&ClaimRequest {
            take_over,
            ..request(another(taken))
        })
        .await
        .unwrap();
    assert!(
        matches!(claim, Claim::Acquired { attempt: 2, .. }),
        "{claim:?}"
    );
    must_wake(subscription, "take-over").await;

    assert_eq!(
        subscribers(&server).await,
        1,
        "one connection for all of them"
    );
}

#[tokio::test]
async fn listener_comes_back_after_the_server_and_goes_with_the_store() {
    let Some(mut server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    listened(&store).await;
    let subscription = store.subscribe(&owner().key);
    server.kill();
    server.restart().await;
    must_wake(subscription, "what happened meanwhile went by unheard").await;
    assert_eq!(subscribers(&server).await, 1);
    drop(store);
    while subscribers(&server).await > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn store_without_hints_tells_nobody() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::connect(&server.url())
        .await
        .unwrap()
        .without_hints();
    let owner = owner();
    store.claim(&request(owner)).await.unwrap();
    assert!(
        timeout(Duration::ZERO, store.subscribe(&owner.key).changed())
            .await
            .is_err()
    );
    store.complete(&owner, &response(b"paid")).await.unwrap();
    assert_eq!(counts(&server).await.get("publish"), None);
    assert_eq!(subscribers(&server).await, 0);
}

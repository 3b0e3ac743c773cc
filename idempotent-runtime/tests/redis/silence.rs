//! Peers that are silent, and connections that were closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use idempotent_runtime::store::redis::RedisStore;
use idempotent_runtime::store::{Claim, Completion, Progress, Renewed, Store, StoreErrorKind};
use idempotent_runtime::{Owner, StoredResponse};
use tokio::time::timeout;

use super::proxy::Proxy;
use super::support::{Server, owner, response};
use super::{LONG, another, complete, recovers, renew, renewal, request, save};

async fn behind_a_proxy(settings: &[&str]) -> Option<(Server, Proxy, RedisStore)> {
    let (server, port) = Server::start_on_port(settings).await?;
    let proxy = Proxy::start(port).await;
    let store = RedisStore::connect(&proxy.url()).await.unwrap();
    Some((server, proxy, store))
}

/// As after a change of a firewall, or when a node is gone without a word.
#[tokio::test]
async fn frozen_connection_is_left_twice_in_a_row() {
    let Some((_server, proxy, store)) = behind_a_proxy(&[]).await else {
        return;
    };
    let completed = owner();
    store.claim(&request(completed)).await.unwrap();
    complete(&store, completed, &response(b"paid"))
        .await
        .unwrap();
    for _ in 0..2 {
        proxy.freeze();
        let began = Instant::now();
        let error = store.claim(&request(owner())).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::TimedOut, "{error:?}");
        assert!(error.may_have_happened());
        assert!(began.elapsed() < Duration::from_secs(5));
        // What comes next is not held up by it, replays included.
        let replay = store.claim(&request(another(completed))).await.unwrap();
        assert!(matches!(replay, Claim::Completed(paid) if paid == response(b"paid")));
        store.claim(&request(owner())).await.unwrap();
    }
    assert_eq!(proxy.accepted(), 3, "one for each time");
}

/// Their timeout is shorter than any that the store could have: none of them is there to see it.
#[tokio::test]
async fn frozen_connection_is_left_though_every_call_is_given_up_sooner() {
    let Some((server, proxy, store)) = behind_a_proxy(&[]).await else {
        return;
    };
    for _ in 0..2 {
        let owner = owner();
        store.claim(&request(owner)).await.unwrap();
        proxy.freeze();
        let began = Instant::now();
        let mut given_up = 0;
        let claim = request(another(owner));
        loop {
            match timeout(Duration::from_millis(50), store.claim(&claim)).await {
                Ok(Ok(_)) => break,
                // The time of the silence is over before that of the call.
                Ok(Err(error)) => assert_eq!(error.kind(), StoreErrorKind::TimedOut),
                Err(_) => given_up += 1,
            }
            assert!(began.elapsed() < Duration::from_secs(5), "{given_up}");
        }
        assert!(given_up > 0, "it is frozen");
    }
    assert_eq!(proxy.accepted(), 3, "one for each time");
    let clients: String = server.ask("CLIENT LIST TYPE normal").await;
    assert!(clients.lines().count() <= 5, "{clients}");
}

/// All that it was sent it does, once it goes on; none of it blocks what comes after.
#[tokio::test]
async fn stopped_server_is_found_again_when_it_goes_on() {
    let Some((server, proxy, store)) = behind_a_proxy(&[]).await else {
        return;
    };
    let running = owner();
    store.claim(&request(running)).await.unwrap();
    server.stop();
    let stopped = Instant::now();
    let mut failed = 0;
    while stopped.elapsed() < Duration::from_secs(4) {
        let began = Instant::now();
        let error = store.claim(&request(owner())).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(4), "{error:?}");
        // The first was sent. Those after it had nothing to be sent by.
        assert_eq!(error.may_have_happened(), failed == 0, "{failed} {error:?}");
        failed += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(failed > 1, "{failed}");
    assert!(proxy.accepted() < 10, "{}", proxy.accepted());
    server.go_on();
    let (paid, fresh) = (response(b"paid"), request(owner()));
    let completion = recovers(|| complete(&store, running, &paid)).await;
    assert_eq!(completion, Completion::Stored);
    recovers(|| store.claim(&fresh)).await;
}

#[tokio::test]
async fn server_that_is_busy_for_seconds_is_found_again() {
    let debug = ["--enable-debug-command", "yes"];
    let Some((server, _proxy, store)) = behind_a_proxy(&debug).await else {
        return;
    };
    let mut connection = server.connection().await;
    let sleeping = tokio::spawn(async move {
        let mut sleep = redis::cmd("DEBUG");
        sleep.arg("SLEEP").arg(3);
        drop(sleep.exec_async(&mut connection).await);
    });
    let asleep = owner();
    // It has begun when a call fails.
    let fails = async { while store.claim(&request(another(asleep))).await.is_ok() {} };
    timeout(LONG, fails).await.unwrap();
    server_answers(&server).await;
    recovers(|| store.get(&asleep.key)).await;
    sleeping.await.unwrap();
}

async fn server_answers(server: &Server) {
    let client = server.client();
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(LONG))
        .set_response_timeout(Some(LONG));
    let connected = client.get_multiplexed_async_connection_with_config(&config);
    let mut connection = connected.await.unwrap();
    redis::cmd("PING")
        .exec_async(&mut connection)
        .await
        .unwrap();
}

/// Who asks has to know of a question that may arrive late, and asks again.
async fn claim_at_second_try(store: &RedisStore, owner: Owner) -> Claim {
    let error = store.claim(&request(owner)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    assert!(error.may_have_happened(), "{error:?}");
    store.claim(&request(owner)).await.unwrap()
}

/// An idle connection is closed by whatever is in between. No caller has to be told, but for that of a claim.
#[tokio::test]
async fn closed_connection_fails_no_operation_but_a_claim_once() {
    let Some((_server, proxy, store)) = behind_a_proxy(&[]).await else {
        return;
    };
    let owner = owner();
    proxy.close();
    let claim = claim_at_second_try(&store, owner).await;
    assert!(matches!(claim, Claim::Acquired(_)), "{claim:?}");
    // Renewals have a connection of their own.
    renew(&store, renewal(owner)).await.unwrap();
    proxy.close();
    let renewed = renew(&store, renewal(owner)).await.unwrap();
    assert_eq!(renewed, Renewed::Renewed);
    proxy.close();
    assert_eq!(save(&store, owner).await.unwrap(), Progress::Saved);
    proxy.close();
    assert!(store.get(&owner.key).await.unwrap().is_some());
    proxy.close();
    let completion = complete(&store, owner, &response(b"paid")).await.unwrap();
    assert_eq!(completion, Completion::Stored);
    proxy.close();
    let replay = claim_at_second_try(&store, another(owner)).await;
    assert!(matches!(replay, Claim::Completed(_)), "{replay:?}");
    assert_eq!(proxy.accepted(), 8);
}

/// The bytes of a long response flow for longer than a server may be silent.
#[tokio::test]
async fn slow_network_is_not_a_silent_server() {
    let Some((_server, port)) = Server::start_on_port(&[]).await else {
        return;
    };
    // 2.5 s for 4 MiB.
    let proxy = Proxy::with_pace(port, Duration::from_millis(40)).await;
    let store = RedisStore::connect(&proxy.url()).await.unwrap();
    let owner = owner();
    store.claim(&request(owner)).await.unwrap();
    let began = Instant::now();
    let completion = complete(&store, owner, &mebibytes(4)).await.unwrap();
    assert_eq!(completion, Completion::Stored);
    assert!(began.elapsed() > Duration::from_secs(2), "it was slow");
    assert_eq!(proxy.accepted(), 1);
}

fn mebibytes(count: usize) -> Arc<StoredResponse> {
    let body = bytes::Bytes::from(vec![b'x'; count << 20]);
    StoredResponse::new(http::StatusCode::OK, http::HeaderMap::new(), body).into()
}

/// A server behind a network from which a mebibyte takes more than 0.6 s, and a completed request with so many of them.
async fn with_a_long_response(count: usize) -> Option<(Server, Proxy, RedisStore, Owner)> {
    let (server, port) = Server::start_on_port(&[]).await?;
    let direct = RedisStore::connect(&server.url()).await.unwrap();
    let owner = owner();
    direct.claim(&request(owner)).await.unwrap();
    complete(&direct, owner, &mebibytes(count)).await.unwrap();
    let proxy = Proxy::with_reply_pace(port, Duration::from_millis(40)).await;
    let store = RedisStore::connect(&proxy.url()).await.unwrap();
    Some((server, proxy, store, owner))
}

#[tokio::test]
async fn reply_that_takes_long_to_arrive_is_not_a_silent_server() {
    let Some((_server, proxy, store, owner)) = with_a_long_response(4).await else {
        return;
    };
    let began = Instant::now();
    let replay = store.claim(&request(another(owner))).await.unwrap();
    assert!(matches!(replay, Claim::Completed(long) if long == mebibytes(4)));
    assert!(began.elapsed() > Duration::from_secs(2), "it was slow");
    assert_eq!(proxy.accepted(), 1);
}

/// Nor a lease: renewals have a connection of their own, from the first on.
#[tokio::test]
async fn long_reply_holds_up_no_other_request() {
    let Some((_server, proxy, store, completed)) = with_a_long_response(8).await else {
        return;
    };
    let running = owner();
    store.claim(&request(running)).await.unwrap();
    let reading = store.clone();
    let reading =
        tokio::spawn(async move { reading.claim(&request(another(completed))).await.unwrap() });
    // It is asked for.
    tokio::task::yield_now().await;
    let renewed = renew(&store, renewal(running)).await.unwrap();
    assert_eq!(renewed, Renewed::Renewed);
    // Those that were asked at once may wait for it, and leave.
    let claim = request(another(running));
    while timeout(Duration::from_millis(50), store.claim(&claim))
        .await
        .is_err()
    {}
    assert!(!reading.is_finished(), "the long reply came first");
    let replay = reading.await.unwrap();
    assert!(matches!(replay, Claim::Completed(long) if long == mebibytes(8)));
    assert_eq!(
        proxy.accepted(),
        3,
        "one more for renewals, and one for the others"
    );
}

/// A store is used by several runtimes, and the one whose task it was to connect ends.
#[tokio::test]
async fn connection_made_by_a_runtime_that_has_ended_is_replaced() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let url = server.url();
    let connect = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(RedisStore::connect(&url)).unwrap()
    };
    let store = std::thread::spawn(connect).join().unwrap();
    let claim = claim_at_second_try(&store, owner()).await;
    assert!(matches!(claim, Claim::Acquired(_)), "{claim:?}");
}

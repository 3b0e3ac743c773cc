//! Failovers: behind one address, and as Sentinels name the primary.

use std::time::{Duration, Instant};

use idempotent_runtime::store::redis::RedisStore;
use idempotent_runtime::store::{Claim, Completion, Renewed, Store, StoreErrorKind};

use super::proxy::Proxy;
use super::support::{Sentinel, Server, owner, response};
use super::{LONG, another, complete, recovers, renew, renewal, request};

/// A primary and its replica, which has all that the primary has.
struct Pair {
    servers: [Server; 2],
    ports: [u16; 2],
}

impl Pair {
    async fn start() -> Option<Self> {
        let (primary, port) = Server::start_on_port(&[]).await?;
        let of = format!("127.0.0.1 {port}");
        let settings = ["--replicaof", &of, "--repl-diskless-sync-delay", "0"];
        let (replica, other) = Server::start_on_port(&settings).await?;
        let pair = Self {
            servers: [primary, replica],
            ports: [port, other],
        };
        pair.follows(1).await;
        Some(pair)
    }

    /// Until that one is a replica that keeps up.
    async fn follows(&self, replica: usize) {
        let began = Instant::now();
        loop {
            let info: String = self.servers[replica].ask("INFO replication").await;
            if info.contains("master_link_status:up") {
                return;
            }
            assert!(began.elapsed() < LONG, "{info}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Until the replica has what was written.
    async fn in_step(&self, primary: usize) {
        let replicas: u32 = self.servers[primary].ask("WAIT 1 0").await;
        assert_eq!(replicas, 1);
    }

    /// The other one is the primary, and no connection is closed.
    async fn fail_over(&self, to: usize) {
        let _: () = self.servers[to].ask("REPLICAOF NO ONE").await;
        let demote = format!("REPLICAOF 127.0.0.1 {}", self.ports[to]);
        let _: () = self.servers[1 - to].ask(&demote).await;
    }
}

#[tokio::test]
async fn demoted_primary_behind_one_address_is_left_at_once_and_back_again() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let proxy = Proxy::start(pair.ports[0]).await;
    let store = RedisStore::connect(&proxy.url()).await.unwrap();
    let completed = owner();
    store.claim(&request(completed)).await.unwrap();
    complete(&store, completed, &response(b"paid"))
        .await
        .unwrap();
    for to in [1, 0] {
        let running = [owner(), owner(), owner()];
        for owner in running {
            store.claim(&request(owner)).await.unwrap();
        }
        pair.in_step(1 - to).await;
        pair.fail_over(to).await;
        proxy.lead_to(pair.ports[to]);
        // Renewals of all of them in one pipeline, all of it refused.
        for renewed in recovers(async || {
            let renewed = store.renew(&running.map(renewal)).await;
            renewed.into_iter().collect::<Result<Vec<_>, _>>()
        })
        .await
        {
            assert_eq!(renewed, Renewed::Renewed);
        }
        let paid = response(b"paid");
        let completion = recovers(|| complete(&store, running[0], &paid)).await;
        assert_eq!(completion, Completion::Stored);
        for owner in [completed, running[0]] {
            let replay = store.claim(&request(another(owner))).await.unwrap();
            assert!(matches!(replay, Claim::Completed(paid) if paid == response(b"paid")));
        }
        store.claim(&request(owner())).await.unwrap();
        pair.follows(1 - to).await;
    }
    // One for renewals and one for all the rest, each time. The listener's is another one each time that its connection is
    // closed, which it is not.
    assert!(proxy.accepted() <= 7, "{}", proxy.accepted());
}

/// What the demoted one has refused is sent to its successor, and the caller knows nothing of it.
#[tokio::test]
async fn call_that_a_demoted_primary_refuses_is_answered_by_its_successor() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let proxy = Proxy::start(pair.ports[0]).await;
    let store = RedisStore::connect(&proxy.url()).await.unwrap();
    let running = owner();
    store.claim(&request(running)).await.unwrap();
    pair.in_step(0).await;
    pair.fail_over(1).await;
    proxy.lead_to(pair.ports[1]);
    // Connecting again waits at least this long after it was begun the last time.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let paid = response(b"paid");
    let completion = complete(&store, running, &paid).await;
    assert_eq!(completion.unwrap(), Completion::Stored);
}

/// A failover that is not done yet: the address still leads to what is a replica by now.
#[tokio::test]
async fn replica_replays_what_is_completed_and_refuses_the_rest() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let proxy = Proxy::start(pair.ports[0]).await;
    let store = RedisStore::connect(&proxy.url()).await.unwrap();
    let (completed, running) = (owner(), owner());
    store.claim(&request(completed)).await.unwrap();
    complete(&store, completed, &response(b"paid"))
        .await
        .unwrap();
    store.claim(&request(running)).await.unwrap();
    pair.in_step(0).await;
    pair.fail_over(1).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        let replay = store.claim(&request(another(completed))).await.unwrap();
        assert!(matches!(replay, Claim::Completed(paid) if paid == response(b"paid")));
        // It may be behind: what it says of a running request is not passed on.
        for claim in [request(owner()), request(another(running))] {
            let error = store.claim(&claim).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Refused, "{error:?}");
            assert!(!error.may_have_happened());
        }
        let error = renew(&store, renewal(running)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Refused, "{error:?}");
        let error = complete(&store, running, &response(b"paid")).await;
        assert_eq!(error.unwrap_err().kind(), StoreErrorKind::Refused);
    }
    // Of each of two, for renewals and for all the rest.
    assert!(proxy.accepted() < 24, "{}", proxy.accepted());
    proxy.lead_to(pair.ports[1]);
    let paid = response(b"paid");
    let completion = recovers(|| complete(&store, running, &paid)).await;
    assert_eq!(completion, Completion::Stored);
}

/// A replica that is cut off from its primary and says so to each client that asks.
#[tokio::test]
async fn server_that_has_lost_its_primary_is_refused_until_it_is_one() {
    let stale = ["--replica-serve-stale-data", "no"];
    let Some((server, port)) = Server::start_on_port(&stale).await else {
        return;
    };
    let store = RedisStore::connect(&format!("redis://127.0.0.1:{port}"))
        .await
        .unwrap();
    let running = owner();
    store.claim(&request(running)).await.unwrap();
    let _: () = server.ask("REPLICAOF 127.0.0.1 1").await;
    let errors = [
        store.claim(&request(owner())).await.unwrap_err(),
        store.get(&running.key).await.unwrap_err(),
        renew(&store, renewal(running)).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), StoreErrorKind::Refused, "{error:?}");
        assert!(!error.may_have_happened());
    }
    let _: () = server.ask("REPLICAOF NO ONE").await;
    let fresh = request(owner());
    recovers(|| store.claim(&fresh)).await;
}

/// Until the Sentinel names that server, and it is the primary.
async fn named(sentinel: &Sentinel, pair: &Pair, primary: usize) {
    let began = Instant::now();
    loop {
        let named: Option<(String, u16)> = sentinel.ask("GET-MASTER-ADDR-BY-NAME payments").await;
        if named.is_some_and(|(_, port)| port == pair.ports[primary]) {
            let info: String = pair.servers[primary].ask("INFO replication").await;
            if info.contains("role:master") {
                return;
            }
        }
        assert!(began.elapsed() < LONG, "no failover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Until the Sentinel knows the replica, without which it can do nothing.
async fn knows_replica(sentinel: &Sentinel) {
    let began = Instant::now();
    loop {
        let usable: Option<redis::Value> = sentinel.ask("CKQUORUM payments").await;
        let replicas: Option<Vec<std::collections::HashMap<String, String>>> =
            sentinel.ask("REPLICAS payments").await;
        let is_up = |replica: &std::collections::HashMap<String, String>| {
            replica["flags"] == "slave" && replica["master-link-status"] == "ok"
        };
        if usable.is_some() && replicas.is_some_and(|all| all.iter().any(is_up)) {
            return;
        }
        assert!(began.elapsed() < LONG, "it finds no replica");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn primary_that_sentinels_name_is_followed_when_it_crashes_and_when_it_is_moved() {
    let Some(mut pair) = Pair::start().await else {
        return;
    };
    let Some(sentinel) = Sentinel::start(pair.ports[0]) else {
        return;
    };
    knows_replica(&sentinel).await;
    // The first of them is not there.
    let url = format!(
        "redis+sentinel://127.0.0.1:1,127.0.0.1:{}/payments",
        sentinel.port
    );
    let store = RedisStore::connect(&url).await.unwrap();
    let (completed, running) = (owner(), owner());
    store.claim(&request(completed)).await.unwrap();
    complete(&store, completed, &response(b"paid"))
        .await
        .unwrap();
    store.claim(&request(running)).await.unwrap();
    pair.in_step(0).await;

    pair.servers[0].kill();
    let error = store.claim(&request(owner())).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    named(&sentinel, &pair, 1).await;
    recovers(|| store.get(&completed.key)).await.unwrap();
    let replay = store.claim(&request(another(completed))).await.unwrap();
    assert!(matches!(replay, Claim::Completed(paid) if paid == response(b"paid")));
    let completion = complete(&store, running, &response(b"paid")).await.unwrap();
    assert_eq!(completion, Completion::Stored);

    // Back again, in good order, and not because a slow machine is taken for a dead server.
    let _: Option<()> = sentinel
        .ask("SET payments down-after-milliseconds 60000")
        .await;
    pair.servers[0].restart().await;
    let follow = format!("REPLICAOF 127.0.0.1 {}", pair.ports[1]);
    let _: () = pair.servers[0].ask(&follow).await;
    pair.follows(0).await;
    knows_replica(&sentinel).await;
    pair.in_step(1).await;
    let began = Instant::now();
    while sentinel.ask::<()>("FAILOVER payments").await.is_none() {
        assert!(began.elapsed() < LONG, "it does not begin");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    named(&sentinel, &pair, 0).await;
    // Until it is told, the old one goes on, and what it does is lost.
    pair.follows(1).await;
    let fresh = request(owner());
    recovers(|| store.claim(&fresh)).await;
    let replay = store.claim(&request(another(running))).await.unwrap();
    assert!(matches!(replay, Claim::Completed(_)), "{replay:?}");
    let records: u32 = pair.servers[0].ask("DBSIZE").await;
    assert!(records >= 3, "{records}");

    // Who is connected needs them no more.
    drop(sentinel);
    store.claim(&request(owner())).await.unwrap();
}

#[tokio::test]
async fn connecting_says_that_no_sentinel_knows_the_service() {
    let Some((_server, port)) = Server::start_on_port(&[]).await else {
        return;
    };
    let Some(sentinel) = Sentinel::start(port) else {
        return;
    };
    let began = Instant::now();
    while sentinel.ask::<redis::Value>("MASTERS").await.is_none() {
        assert!(began.elapsed() < LONG, "it does not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let url = format!("redis+sentinel://127.0.0.1:{}/orders", sentinel.port);
    let error = RedisStore::connect(&url).await.unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains("does not know the service"), "{text}");
}

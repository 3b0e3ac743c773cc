//! What an operation costs.

use std::collections::HashMap;
use std::sync::Arc;

use idempotent_runtime::Fingerprint;
use idempotent_runtime::store::redis::RedisStore;
use idempotent_runtime::store::{Acquired, Claim, ClaimRequest, Renewed, ReplayCache, Store};
use redis::aio::ConnectionLike;
use redis::{Arg, Cmd, Pipeline, RedisFuture, ServerErrorKind, Value};

use super::kit::assert_conformant;
use super::support::{Server, owner, response};
use super::{abandon, another, complete, release, renew, renewal, request, save};

/// How often the server was called for each command, by us and by scripts.
pub(crate) async fn counts(server: &Server) -> HashMap<String, u64> {
    let mut connection = server.connection().await;
    let info: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(&mut connection)
        .await
        .unwrap();
    let calls = |line: &str| {
        let (name, stats) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), stats.split(',').next()?.parse().ok()?))
    };
    info.lines().filter_map(calls).collect()
}

/// The scripts that the server was asked to run, by what they were asked with.
async fn scripts_run(server: &Server) -> [u64; 3] {
    let counts = counts(server).await;
    ["evalsha", "eval", "script|load"].map(|name| counts.get(name).copied().unwrap_or(0))
}

async fn reset(server: &Server) {
    let mut connection = server.connection().await;
    redis::cmd("CONFIG")
        .arg("RESETSTAT")
        .exec_async(&mut connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn each_operation_is_one_round_trip() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let connection = Counted(server.connection().await, Arc::default());
    let store = RedisStore::new(connection.clone());
    // All scripts once, so that the server knows them.
    let (first, second) = (owner(), owner());
    store.claim(&request(first)).await.unwrap();
    let take_over = |owner| ClaimRequest {
        take_over: Some(1),
        ..request(owner)
    };
    store.claim(&take_over(first)).await.unwrap();
    renew(&store, renewal(first)).await.unwrap();
    save(&store, first).await.unwrap();
    store.claim(&request(another(first))).await.unwrap();
    complete(&store, first, &response(b"paid")).await.unwrap();
    release(&store, second).await.unwrap();
    abandon(&store, second).await.unwrap();
    store.get(&first.key).await.unwrap();
    store.remove(&first.key).await.unwrap();
    assert_eq!(
        scripts_run(&server).await,
        [10, 10, 0],
        "each twice, the second time with its code"
    );

    reset(&server).await;
    connection.count();
    store.claim(&request(first)).await.unwrap();
    assert_eq!(connection.count(), 1, "claim");
    complete(&store, first, &response(b"paid")).await.unwrap();
    assert_eq!(connection.count(), 1, "completion");
    let replay = store.claim(&request(another(first))).await.unwrap();
    assert!(matches!(replay, Claim::Completed(paid) if paid == response(b"paid")));
    assert_eq!(connection.count(), 1, "replay");
    let other = ClaimRequest {
        fingerprint: Fingerprint::from_bytes([8; 32]),
        ..request(another(first))
    };
    let mismatch = store.claim(&other).await.unwrap();
    assert!(matches!(mismatch, Claim::Mismatch), "{mismatch:?}");
    assert_eq!(connection.count(), 1, "mismatch");
    assert_eq!(scripts_run(&server).await, [1, 0, 0], "for the completion");

    store.get(&first.key).await.unwrap();
    store.claim(&take_over(second)).await.unwrap();
    save(&store, second).await.unwrap();
    release(&store, second).await.unwrap();
    store.remove(&first.key).await.unwrap();
    // A removal is two: such a connection may try several times.
    assert_eq!(connection.count(), 6);
    store.purge_expired(10).await.unwrap();
    assert_eq!(connection.count(), 0, "purge");

    // What is left of its lease only the second one can tell.
    store.claim(&request(first)).await.unwrap();
    connection.count();
    let duplicate = store.claim(&request(another(first))).await.unwrap();
    assert!(matches!(duplicate, Claim::InFlight { .. }), "{duplicate:?}");
    assert_eq!(connection.count(), 2, "duplicate of a running request");
}

/// As a server before Redis 7 does: it has `SET` with `NX` and with `GET`, and not with both.
#[derive(Clone)]
struct Old(Counted);

impl ConnectionLike for Old {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        let has = |wanted: &[u8]| cmd.args_iter().any(|arg| arg == Arg::Simple(wanted));
        if !(has(b"NX") && has(b"GET")) {
            return self.0.req_packed_command(cmd);
        }
        self.0.add();
        let error = (ServerErrorKind::ResponseError.into(), "syntax error");
        Box::pin(std::future::ready(Err(error.into())))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.0.req_packed_commands(pipeline, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.0.get_db()
    }
}

#[tokio::test]
async fn old_server_is_asked_by_the_command_that_it_does_not_know_once() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let connection = Counted(server.connection().await, Arc::default());
    let store = RedisStore::new(Old(connection.clone()));
    let (first, second) = (owner(), owner());
    let claim = store.clone().claim(&request(first)).await.unwrap();
    assert!(matches!(
        claim,
        Claim::Acquired(Acquired { attempt: 1, .. })
    ));
    assert_eq!(connection.count(), 3, "the command, the script, its code");
    store.claim(&request(second)).await.unwrap();
    assert_eq!(connection.count(), 1, "claim");
    let duplicate = store.claim(&request(another(second))).await.unwrap();
    assert!(matches!(duplicate, Claim::InFlight { .. }), "{duplicate:?}");
    assert_eq!(connection.count(), 1, "duplicate of a running request");
    complete(&store, second, &response(b"paid")).await.unwrap();
    connection.count();
    let replay = store.claim(&request(another(second))).await.unwrap();
    assert!(matches!(replay, Claim::Completed(paid) if paid == response(b"paid")));
    assert_eq!(connection.count(), 1, "replay");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_on_an_old_server_is_conformant() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let connection = Counted(server.connection().await, Arc::default());
    assert_conformant(RedisStore::new(Old(connection))).await;
}

#[tokio::test]
async fn hot_replay_is_no_round_trip() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let connection = Counted(server.connection().await, Arc::default());
    let store = ReplayCache::new().in_front_of(RedisStore::new(connection.clone()));
    let owner = owner();
    store.claim(&request(owner)).await.unwrap();
    complete(&store, owner, &response(b"paid")).await.unwrap();
    // So that the server knows the script of reading.
    store.get(&owner.key).await.unwrap();
    let replay = async || {
        let replay = store.claim(&request(another(owner))).await.unwrap();
        assert!(matches!(replay, Claim::Completed(paid) if paid == response(b"paid")));
    };
    connection.count();
    replay().await;
    assert_eq!(connection.count(), 1, "the first replay");
    replay().await;
    assert_eq!(connection.count(), 1, "the second");
    for _ in 0..100 {
        replay().await;
    }
    assert_eq!(connection.count(), 0, "hot replays");
    assert!(store.remove(&owner.key).await.unwrap());
    let claim = store.claim(&request(another(owner))).await.unwrap();
    assert!(matches!(
        claim,
        Claim::Acquired(Acquired { attempt: 1, .. })
    ));
}

/// How many times requests were sent over it, together or alone.
#[derive(Clone)]
struct Counted(
    redis::aio::MultiplexedConnection,
    Arc<std::sync::atomic::AtomicUsize>,
);

impl Counted {
    fn count(&self) -> usize {
        self.1.swap(0, std::sync::atomic::Ordering::Relaxed)
    }

    fn add(&self) {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

impl ConnectionLike for Counted {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        self.add();
        self.0.req_packed_command(cmd)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.add();
        self.0.req_packed_commands(pipeline, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.0.get_db()
    }
}

#[tokio::test]
async fn renewing_many_is_one_round_trip_and_two_after_a_flush_of_scripts() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let connection = Counted(server.connection().await, Arc::default());
    let store = RedisStore::new(connection.clone());
    let owners: Vec<_> = (0..200).map(|_| owner()).collect();
    for owner in owners.iter().skip(1) {
        store.claim(&request(*owner)).await.unwrap();
    }
    let renewals: Vec<_> = owners.iter().copied().map(renewal).collect();
    for (round_trips, what) in [
        (2, "unknown"),
        (1, "known"),
        (2, "flushed"),
        (1, "known again"),
    ] {
        if what == "flushed" {
            let mut plain = server.connection().await;
            redis::cmd("SCRIPT")
                .arg("FLUSH")
                .exec_async(&mut plain)
                .await
                .unwrap();
        }
        connection.count();
        let results = store.renew(&renewals).await;
        assert_eq!(connection.count(), round_trips, "{what}");
        for (at, renewed) in results.into_iter().enumerate() {
            let expected = [Renewed::Lost, Renewed::Renewed][usize::from(at > 0)];
            assert_eq!(renewed.unwrap(), expected, "{what}, {at}");
        }
    }
    reset(&server).await;
    assert!(store.renew(&[]).await.is_empty());
    assert!(store.release(&[]).await.is_empty());
    assert_eq!(
        (connection.count(), scripts_run(&server).await),
        (0, [0, 0, 0])
    );
}

//! What an operation costs.

use std::collections::HashMap;
use std::sync::Arc;

use idempotent_runtime::store::redis::RedisStore;
use idempotent_runtime::store::{Claim, Renewal, ReplayCache, Store};
use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisFuture, Value};

use super::support::{Server, owner, response};
use super::{LONG, another, request};

/// How often the server was called for each command, and how often it has read from a socket.
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
    let store = RedisStore::new(server.connection().await);
    // All scripts once, so that the server knows them.
    let (first, second) = (owner(), owner());
    store.claim(&request(first)).await.unwrap();
    store
        .renew(&[Renewal {
            owner: first,
            lease: LONG,
        }])
        .await
        .unwrap();
    let progress = b"half"[..].into();
    store.save_progress(&first, &progress).await.unwrap();
    store.complete(&first, &response(b"paid")).await.unwrap();
    store.release(&second).await.unwrap();
    store.get(&first.key).await.unwrap();
    store.remove(&first.key).await.unwrap();
    assert_eq!(
        scripts_run(&server).await,
        [7, 7, 0],
        "each twice, the second time with its code"
    );

    reset(&server).await;
    store.claim(&request(first)).await.unwrap();
    assert_eq!(scripts_run(&server).await, [1, 0, 0], "claim");
    store.complete(&first, &response(b"paid")).await.unwrap();
    assert_eq!(scripts_run(&server).await, [2, 0, 0], "completion");
    let replay = store.claim(&request(another(first))).await.unwrap();
    assert!(matches!(replay, Claim::Completed(paid) if paid == response(b"paid")));
    assert_eq!(scripts_run(&server).await, [3, 0, 0], "replay");
    store.get(&first.key).await.unwrap();
    store.claim(&request(second)).await.unwrap();
    store.save_progress(&second, &progress).await.unwrap();
    store.release(&second).await.unwrap();
    store.remove(&first.key).await.unwrap();
    assert_eq!(
        scripts_run(&server).await,
        [8, 0, 0],
        "get, claim, progress, release, remove"
    );
    store.purge_expired(10).await.unwrap();
    assert_eq!(scripts_run(&server).await, [8, 0, 0], "purge");
}

#[tokio::test]
async fn hot_replay_is_no_round_trip() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = ReplayCache::new().in_front_of(RedisStore::new(server.connection().await));
    let owner = owner();
    store.claim(&request(owner)).await.unwrap();
    store.complete(&owner, &response(b"paid")).await.unwrap();
    // So that the server knows the script of reading.
    store.get(&owner.key).await.unwrap();
    let replay = async || {
        let replay = store.claim(&request(another(owner))).await.unwrap();
        assert!(matches!(replay, Claim::Completed(paid) if paid == response(b"paid")));
    };
    reset(&server).await;
    replay().await;
    assert_eq!(scripts_run(&server).await, [1, 0, 0], "the first replay");
    replay().await;
    assert_eq!(scripts_run(&server).await, [2, 0, 0], "the second");
    for _ in 0..100 {
        replay().await;
    }
    assert_eq!(scripts_run(&server).await, [2, 0, 0], "hot replays");
    assert!(store.remove(&owner.key).await.unwrap());
    let claim = store.claim(&request(another(owner))).await.unwrap();
    assert!(matches!(claim, Claim::Acquired { attempt: 1, .. }));
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
    let renewals: Vec<_> = owners
        .iter()
        .map(|owner| Renewal {
            owner: *owner,
            lease: LONG,
        })
        .collect();
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
        let lost = store.renew(&renewals).await.unwrap();
        assert_eq!(connection.count(), round_trips, "{what}");
        assert_eq!(lost, owners[..1], "{what}");
    }
    reset(&server).await;
    store.renew(&[]).await.unwrap();
    assert_eq!(
        (connection.count(), scripts_run(&server).await),
        (0, [0, 0, 0])
    );
}

//! The conformance kit, and races that it cannot run: between connections.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idempotent_runtime::store::conformance::{self, TestBed, Timing};
use idempotent_runtime::store::redis::RedisStore;
use idempotent_runtime::store::{Acquired, Claim, ReplayCache, Store};
use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisFuture, ServerErrorKind, Value};
use tokio::sync::Barrier;

use super::insistent::InsistentStore;
use super::support::{Server, owner, shared_store, store_at};
use super::{another, request};

struct Bed(Arc<dyn Store>);

#[async_trait]
impl TestBed for Bed {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.0)
    }

    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }

    fn timing(&self) -> Timing {
        Timing::real(Duration::from_millis(300))
    }
}

pub(crate) async fn assert_conformant(store: impl Store) {
    let report = conformance::run(&Bed(Arc::new(store))).await;
    println!("{report}");
    report.assert_conformant();
    assert!(report.inconclusive().is_empty(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_on_its_own_connection_is_conformant() {
    let Some(store) = shared_store().await else {
        return;
    };
    assert_conformant(Arc::new(store) as Arc<dyn Store>).await;
}

/// Where every replay that the kit sees is one from the cache.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_behind_a_replay_cache_is_conformant() {
    let Some(store) = shared_store().await else {
        return;
    };
    assert_conformant(InsistentStore(ReplayCache::new().in_front_of(store))).await;
}

/// A connection that sends no pipeline to more than one server, as that of a Cluster.
#[derive(Clone)]
struct NoPipelines(redis::aio::MultiplexedConnection);

impl ConnectionLike for NoPipelines {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        self.0.req_packed_command(cmd)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        _: &'a Pipeline,
        _: usize,
        _: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let error = (ServerErrorKind::CrossSlot.into(), "crossed slots");
        Box::pin(std::future::ready(Err(error.into())))
    }

    fn get_db(&self) -> i64 {
        self.0.get_db()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_on_a_connection_without_pipelines_is_conformant() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    assert_conformant(RedisStore::new(NoPipelines(server.connection().await))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_over_resp3_is_conformant() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    assert_conformant(store_at(&format!("{}?protocol=resp3", server.url())).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_sixteen_connections_acquires_a_key() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let mut stores = Vec::new();
    for _ in 0..16 {
        stores.push(RedisStore::new(server.connection().await));
    }
    for _ in 0..100 {
        let (owner, start) = (owner(), Arc::new(Barrier::new(stores.len())));
        let racing: Vec<_> = stores
            .iter()
            .map(|store| {
                let (store, start) = (store.clone(), Arc::clone(&start));
                let request = request(another(owner));
                tokio::spawn(async move {
                    start.wait().await;
                    store.claim(&request).await
                })
            })
            .collect();
        let mut acquired = 0;
        for racer in racing {
            match racer.await.unwrap().unwrap() {
                Claim::Acquired(Acquired { attempt: 1, .. }) => acquired += 1,
                Claim::InFlight { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(acquired, 1);
    }
}

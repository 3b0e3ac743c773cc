//! A Redis Cluster of three servers, each with a third of the slots.

use std::time::{Duration, Instant};

use idempotent_runtime::store::redis::RedisStore;
use idempotent_runtime::store::{Claim, Completion, Release, Renewed, Store};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;

use super::kit::assert_conformant;
use super::support::{Server, owner, response};
use super::{LONG, another, complete, renewal, request};
use crate::free_port::free_port;

/// The slots of each server, the first and the last.
const SLOTS: [[u16; 2]; 3] = [[0, 5460], [5461, 10922], [10923, 16383]];

/// The servers, which end with it, and a connection to all of them.
struct Cluster {
    _servers: Vec<Server>,
    connection: ClusterConnection,
}

impl Cluster {
    async fn start() -> Option<Self> {
        let mut servers = Vec::new();
        let mut ports = Vec::new();
        for _ in SLOTS {
            let port = free_port().to_string();
            let settings = ["--bind", "127.0.0.1", "--port", &port];
            let settings = [&settings[..], &["--cluster-enabled", "yes"]].concat();
            servers.push(Server::start(&settings).await?);
            ports.push(port);
        }
        for (server, slots) in servers.iter().zip(SLOTS) {
            let mut add = redis::cmd("CLUSTER");
            add.arg("ADDSLOTS")
                .arg((slots[0]..=slots[1]).collect::<Vec<_>>());
            ask(server, &add).await;
        }
        for port in &ports[1..] {
            let mut meet = redis::cmd("CLUSTER");
            ask(&servers[0], meet.arg("MEET").arg("127.0.0.1").arg(port)).await;
        }
        for server in &servers {
            until_complete(server).await;
        }
        let nodes = ports.iter().map(|port| format!("redis://127.0.0.1:{port}"));
        let client = ClusterClient::new(nodes).unwrap();
        let connection = client.get_async_connection().await.unwrap();
        Some(Self {
            _servers: servers,
            connection,
        })
    }
}

async fn ask(server: &Server, command: &redis::Cmd) {
    let mut connection = server.connection().await;
    command.exec_async(&mut connection).await.unwrap();
}

/// Until this server knows who has which slots.
async fn until_complete(server: &Server) {
    let mut connection = server.connection().await;
    let started = Instant::now();
    loop {
        let info: String = redis::cmd("CLUSTER")
            .arg("INFO")
            .query_async(&mut connection)
            .await
            .unwrap();
        let is_complete = [
            "cluster_state:ok",
            "cluster_slots_ok:16384",
            "cluster_size:3",
        ];
        if is_complete.iter().all(|line| info.contains(line)) {
            return;
        }
        assert!(started.elapsed() < LONG, "{info}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_on_a_cluster_is_conformant() {
    let Some(cluster) = Cluster::start().await else {
        return;
    };
    assert_conformant(RedisStore::new(cluster.connection.clone())).await;
}

/// They are on three servers, which no pipeline of a Cluster's client reaches together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_all_servers_are_renewed_and_given_up_by_one_call() {
    let Some(cluster) = Cluster::start().await else {
        return;
    };
    let store = RedisStore::new(cluster.connection.clone());
    let owners: Vec<_> = (0..200).map(|_| owner()).collect();
    for owner in &owners {
        store.claim(&request(*owner)).await.unwrap();
    }
    let first = owners[0];
    let completion = complete(&store, first, &response(b"paid")).await.unwrap();
    assert_eq!(completion, Completion::Stored);
    let renewals: Vec<_> = owners.iter().copied().map(renewal).collect();
    for (at, renewed) in store.renew(&renewals).await.into_iter().enumerate() {
        let expected = [Renewed::Lost, Renewed::Renewed][usize::from(at > 0)];
        assert_eq!(renewed.unwrap(), expected, "{at}");
    }
    let (abandoned, released) = owners.split_at(100);
    let ended = [
        store.abandon(abandoned).await,
        store.release(released).await,
    ]
    .concat();
    for (at, ended) in ended.into_iter().enumerate() {
        let expected = [Release::Lost, Release::Released][usize::from(at > 0)];
        assert_eq!(ended.unwrap(), expected, "{at}");
    }
    let replay = store.claim(&request(another(first))).await.unwrap();
    assert!(matches!(replay, Claim::Completed(_)), "{replay:?}");
}

//! A Cluster's client tries several times by itself, whatever has become of the tries before.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use idempotent_runtime::store::Store;
use idempotent_runtime::store::redis::RedisStore;
use redis::cluster::ClusterClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::support::{Server, owner};
use super::{LONG, another, request};
use crate::free_port::free_port;

/// In front of the only server, which names its address.
#[derive(Clone, Default)]
struct LosingProxy {
    is_losing: Arc<AtomicBool>,
    may_close: Arc<Notify>,
}

impl LosingProxy {
    async fn start(listener: TcpListener, server: u16) -> Self {
        let proxy = Self::default();
        let relaying = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relaying.clone().relay(client, server));
            }
        });
        proxy
    }

    /// The next reply that says that something was removed is lost, and then its connection.
    async fn relay(self, mut client: TcpStream, server: u16) {
        let server = SocketAddr::from(([127, 0, 0, 1], server));
        let mut server = TcpStream::connect(server).await.unwrap();
        let (mut there, mut back) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        loop {
            tokio::select! {
                Ok(count @ 1..) = client.read(&mut there) => {
                    server.write_all(&there[..count]).await.unwrap();
                }
                Ok(count @ 1..) = server.read(&mut back) => {
                    if back.starts_with(b":1\r\n") && self.is_losing.swap(false, Ordering::SeqCst) {
                        return self.may_close.notified().await;
                    }
                    client.write_all(&back[..count]).await.unwrap();
                }
                else => return,
            }
        }
    }
}

/// The record of a request that has come in between was removed by the second try while it ran, and the one after that
/// ran again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removal_that_is_tried_again_leaves_the_next_record_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let announced = listener.local_addr().unwrap().port().to_string();
    let port = free_port();
    let settings = format!(
        "--bind 127.0.0.1 --port {port} --cluster-enabled yes --cluster-announce-ip 127.0.0.1 \
         --cluster-announce-port {announced}"
    );
    let settings: Vec<&str> = settings.split(' ').collect();
    let Some(server) = Server::start(&settings).await else {
        return;
    };
    let _: redis::Value = server.ask("CLUSTER ADDSLOTSRANGE 0 16383").await;
    while !server
        .ask::<String>("CLUSTER INFO")
        .await
        .contains("cluster_state:ok")
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let proxy = LosingProxy::start(listener, port).await;
    let client = ClusterClient::new([format!("redis://127.0.0.1:{announced}")]).unwrap();
    let store = RedisStore::new(client.get_async_connection().await.unwrap());
    let elsewhere = RedisStore::new(server.connection().await);

    let (first, other) = (owner(), owner());
    elsewhere.claim(&request(other)).await.unwrap();
    assert!(
        store.remove(&other.key).await.unwrap(),
        "its script is known"
    );
    elsewhere.claim(&request(first)).await.unwrap();
    proxy.is_losing.store(true, Ordering::SeqCst);
    let removing = {
        let store = store.clone();
        tokio::spawn(async move { store.remove(&first.key).await })
    };
    while elsewhere.get(&first.key).await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    elsewhere.claim(&request(another(first))).await.unwrap();
    proxy.may_close.notify_one();
    let removed = tokio::time::timeout(LONG, removing).await.unwrap();
    let next = elsewhere.get(&first.key).await.unwrap();
    assert!(next.is_some(), "it is gone: {removed:?}");
}

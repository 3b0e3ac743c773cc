//! A proxy that speaks the protocol, and answers in the place of a server that it has lost.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use idempotent_runtime::store::redis::RedisStore;
use idempotent_runtime::{ExecuteError, Execution, Idempotency, Policy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::support::Server;

/// Longer than the test waits: a key that is free again was not freed by it.
static POLICY: Policy = Policy::new().lease(Duration::from_secs(60));

/// What it does with the next `SET`.
#[derive(Default)]
enum Next {
    #[default]
    Passes,
    /// It is answered with an error, and stays on its way.
    IsLost,
    /// It is on its way.
    Waits(Vec<u8>),
}

/// It passes on what comes in one piece, as it does when one call is made at a time.
#[derive(Clone)]
struct AnsweringProxy {
    server: u16,
    next: Arc<Mutex<Next>>,
}

impl AnsweringProxy {
    /// In front of that server; the URL is its own.
    async fn start(server: u16) -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let proxy = Self {
            server,
            next: Arc::default(),
        };
        let relaying = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relaying.clone().relay(client));
            }
        });
        (proxy, url)
    }

    async fn connect(&self) -> TcpStream {
        let address = SocketAddr::from(([127, 0, 0, 1], self.server));
        TcpStream::connect(address).await.unwrap()
    }

    async fn relay(self, mut client: TcpStream) {
        let mut server = self.connect().await;
        let (mut there, mut back) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        loop {
            tokio::select! {
                Ok(count @ 1..) = client.read(&mut there) => {
                    if self.loses(&there[..count]) {
                        client.write_all(b"-ERR backend connection reset\r\n").await.unwrap();
                    } else {
                        server.write_all(&there[..count]).await.unwrap();
                    }
                }
                Ok(count @ 1..) = server.read(&mut back) => {
                    client.write_all(&back[..count]).await.unwrap();
                }
                else => return,
            }
        }
    }

    fn loses(&self, sent: &[u8]) -> bool {
        let mut next = self.next.lock().unwrap();
        let is_lost = matches!(*next, Next::IsLost) && sent.starts_with(b"*7\r\n$3\r\nSET\r\n");
        if is_lost {
            *next = Next::Waits(sent.to_vec());
        }
        is_lost
    }

    fn lose(&self) {
        *self.next.lock().unwrap() = Next::IsLost;
    }

    /// What it has lost arrives.
    async fn deliver(&self) {
        let Next::Waits(late) = std::mem::take(&mut *self.next.lock().unwrap()) else {
            panic!("nothing was lost");
        };
        let mut server = self.connect().await;
        server.write_all(&late).await.unwrap();
        let reply = server.read(&mut [0; 64]).await.unwrap();
        assert!(reply > 0);
    }
}

/// Its owner was answered by a script, has released it, and knew of nothing else.
#[tokio::test]
async fn claim_that_a_proxy_has_answered_for_its_server_holds_no_key_when_it_arrives_late() {
    let Some((_server, port)) = Server::start_on_port(&[]).await else {
        return;
    };
    let (proxy, url) = AnsweringProxy::start(port).await;
    let store = RedisStore::connect(&url).await.unwrap();
    let idempotency = Idempotency::builder(store).secret_check(false).build();
    let pay = async |key, is_paid: bool| {
        let pay = async move || match is_paid {
            true => Ok(1),
            false => Err(Refused::Nothing),
        };
        let paid = idempotency.execute(&POLICY, "pay", (), key, &42, pay);
        paid.await
    };
    assert_eq!(pay("before", true).await, Ok(Execution::Executed(1)));
    proxy.lose();
    assert_eq!(pay("key", false).await, Err(Refused::Nothing));
    proxy.deliver().await;
    let began = Instant::now();
    loop {
        match pay("key", true).await {
            Ok(Execution::Executed(1)) => break,
            Ok(Execution::InFlight { .. }) => {}
            other => panic!("{other:?}"),
        }
        assert!(
            began.elapsed() < Duration::from_secs(15),
            "a key is held for a call that has ended"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[derive(Debug, PartialEq)]
enum Refused {
    Nothing,
    Store(String),
}

impl From<ExecuteError> for Refused {
    fn from(error: ExecuteError) -> Self {
        Self::Store(error.to_string())
    }
}

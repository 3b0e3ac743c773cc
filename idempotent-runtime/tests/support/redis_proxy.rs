//! One address in front of servers, as a proxy or a virtual IP is: it can freeze the connections that it
//! has, and send new ones elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    server: AtomicU16,
    accepted: AtomicUsize,
    /// What has become of the connections that were there when it was said.
    fate: watch::Sender<Fate>,
    /// How long 64 KiB take on their way to the server, and back.
    there: Duration,
    back: Duration,
}

#[derive(Clone, Copy)]
enum Fate {
    Frozen,
    Closed,
}

impl Proxy {
    pub(crate) async fn start(server: u16) -> Self {
        Self::with_paces(server, Duration::ZERO, Duration::ZERO).await
    }

    /// To which sending 64 KiB takes so long.
    pub(crate) async fn with_pace(server: u16, pace: Duration) -> Self {
        Self::with_paces(server, pace, Duration::ZERO).await
    }

    /// From which 64 KiB take so long.
    pub(crate) async fn with_reply_pace(server: u16, pace: Duration) -> Self {
        Self::with_paces(server, Duration::ZERO, pace).await
    }

    async fn with_paces(server: u16, there: Duration, back: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            server: server.into(),
            accepted: AtomicUsize::new(0),
            fate: watch::Sender::new(Fate::Frozen),
            there,
            back,
        });
        let relaying = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                relaying.accepted.fetch_add(1, Ordering::SeqCst);
                let fate = relaying.fate.subscribe();
                tokio::spawn(relay(client, Arc::clone(&relaying), fate));
            }
        });
        Self {
            port,
            shared,
            accepting,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The connections that it has carry nothing any more, and are not closed.
    pub(crate) fn freeze(&self) {
        self.shared.fate.send_replace(Fate::Frozen);
    }

    /// The connections that it has are closed.
    pub(crate) fn close(&self) {
        self.shared.fate.send_replace(Fate::Closed);
    }

    /// New connections go to that server; those that it has stay.
    pub(crate) fn lead_to(&self, server: u16) {
        self.shared.server.store(server, Ordering::SeqCst);
    }

    /// How many connections it was asked for.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn relay(mut client: TcpStream, shared: Arc<Shared>, mut fate: watch::Receiver<Fate>) {
    let server = shared.server.load(Ordering::SeqCst);
    let Ok(mut server) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], server))).await
    else {
        return;
    };
    tokio::select! {
        () = both_ways(&mut client, &mut server, &shared) => {}
        _ = fate.changed() => {
            let said = *fate.borrow();
            if let Fate::Frozen = said {
                std::future::pending::<()>().await;
            }
        }
    }
}

async fn both_ways(client: &mut TcpStream, server: &mut TcpStream, shared: &Shared) {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::select! {
        () = one_way(from_client, to_server, shared.there) => {}
        () = one_way(from_server, to_client, shared.back) => {}
    }
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    pace: Duration,
) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if !pace.is_zero() {
            sleep(pace * u32::try_from(count).unwrap() / (64 * 1024)).await;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
}

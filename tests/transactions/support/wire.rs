//! The network between an application and its database: it can be cut, and it counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

pub struct Wire {
    pub port: u16,
    is_cut: watch::Sender<bool>,
    exchanges: Arc<AtomicUsize>,
}

impl Wire {
    /// To a server on this machine.
    pub async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (is_cut, cut) = watch::channel(false);
        let exchanges = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&exchanges);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (counted, mut cut) = (Arc::clone(&counted), cut.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        biased;
                        _ = cut.wait_for(|is_cut| *is_cut) => {}
                        _ = relay(client, server, &counted) => {}
                    }
                });
            }
        });
        Self {
            port,
            is_cut,
            exchanges,
        }
    }

    /// Ends all connections, and takes no new ones until it is mended. Nothing that is sent after this comes through.
    pub async fn cut(&self) {
        self.is_cut.send_replace(true);
        let ended = async {
            // The one left is the listener's.
            while self.is_cut.receiver_count() > 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(10), ended)
            .await
            .expect("connections that end");
    }

    pub fn mend(&self) {
        self.is_cut.send_replace(false);
    }

    /// How often a client has asked and waited for the reply since the last call: round trips.
    pub fn take_exchanges(&self) -> usize {
        self.exchanges.swap(0, Ordering::SeqCst)
    }
}

async fn relay(mut client: TcpStream, server: u16, exchanges: &AtomicUsize) -> Option<()> {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await.ok()?;
    let (mut asked, mut replied) = ([0; 16 * 1024], [0; 16 * 1024]);
    let mut is_asking = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let request = some(&asked, read)?;
                if !is_asking {
                    exchanges.fetch_add(1, Ordering::SeqCst);
                }
                is_asking = true;
                server.write_all(request).await.ok()?;
            }
            read = server.read(&mut replied) => {
                let reply = some(&replied, read)?;
                is_asking = false;
                client.write_all(reply).await.ok()?;
            }
        }
    }
}

fn some(buffer: &[u8], read: std::io::Result<usize>) -> Option<&[u8]> {
    let count = read.ok().filter(|count| *count > 0)?;
    Some(&buffer[..count])
}

//! A proxy whose connections can be frozen: from then on nothing comes through, and no end of it either. New
//! ones work.

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(crate) struct Freezer {
    pub(crate) options: PgConnectOptions,
    frozen: watch::Sender<u32>,
    /// How many connections there have been.
    connected: watch::Receiver<usize>,
}

impl Freezer {
    pub(crate) async fn before(server: &PgConnectOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let upstream = (server.get_host().to_owned(), server.get_port());
        let (frozen, freezing) = watch::channel(0);
        let (connect, connected) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                connect.send_modify(|count| *count += 1);
                let mut server = TcpStream::connect(upstream.clone()).await.unwrap();
                let mut freezing = freezing.clone();
                let mine = *freezing.borrow();
                tokio::spawn(async move {
                    let frozen = async { freezing.wait_for(|frozen| *frozen > mine).await.is_ok() };
                    let is_frozen = tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => false,
                        is_frozen = frozen => is_frozen,
                    };
                    if is_frozen {
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        let options = server.clone().host("127.0.0.1").port(port);
        Self {
            options: options.ssl_mode(PgSslMode::Disable),
            frozen,
            connected,
        }
    }

    /// All connections that there are.
    pub(crate) fn freeze(&self) {
        self.frozen.send_modify(|frozen| *frozen += 1);
    }

    pub(crate) fn connected(&self) -> usize {
        *self.connected.borrow()
    }
}

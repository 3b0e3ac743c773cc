//! A proxy that counts what goes by, which is what a store costs whatever the server's load is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

/// Frontend messages that have gone by, on all connections.
#[derive(Default)]
pub(crate) struct Counts {
    prepared: AtomicUsize,
    executed: AtomicUsize,
}

impl Counts {
    /// Statements that were prepared, and statements that were executed, since the last call.
    pub(crate) fn take(&self) -> (usize, usize) {
        let take = |count: &AtomicUsize| count.swap(0, Ordering::SeqCst);
        (take(&self.prepared), take(&self.executed))
    }

    fn see(&self, message: u8) {
        match message {
            b'P' => self.prepared.fetch_add(1, Ordering::SeqCst),
            b'E' | b'Q' => self.executed.fetch_add(1, Ordering::SeqCst),
            _ => 0,
        };
    }
}

/// Starts a proxy in front of the server, and returns how to connect to it.
pub(crate) async fn start(server: &PgConnectOptions) -> (PgConnectOptions, Arc<Counts>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let counts = Arc::new(Counts::default());
    let upstream = (server.get_host().to_owned(), server.get_port());
    tokio::spawn({
        let counts = Arc::clone(&counts);
        async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(upstream.clone()).await.unwrap();
                let (to_client, to_server) = (client.into_split(), server.into_split());
                let (mut from_server, mut client_end) = (to_server.0, to_client.1);
                tokio::spawn(async move { copy(&mut from_server, &mut client_end).await });
                let counts = Arc::clone(&counts);
                tokio::spawn(async move { forward(to_client.0, to_server.1, &counts).await });
            }
        }
    });
    let options = server.clone().host("127.0.0.1").port(port);
    (options.ssl_mode(PgSslMode::Disable), counts)
}

/// Forwards the frontend's messages: the start-up message has no type, all others one byte of it.
async fn forward(
    mut client: impl AsyncReadExt + Unpin,
    mut server: impl AsyncWriteExt + Unpin,
    counts: &Counts,
) -> std::io::Result<()> {
    let length = client.read_u32().await?;
    pass(&mut client, &mut server, length).await?;
    loop {
        let message = client.read_u8().await?;
        let length = client.read_u32().await?;
        counts.see(message);
        server.write_u8(message).await?;
        pass(&mut client, &mut server, length).await?;
    }
}

async fn pass(
    client: &mut (impl AsyncReadExt + Unpin),
    server: &mut (impl AsyncWriteExt + Unpin),
    length: u32,
) -> std::io::Result<()> {
    let mut rest = vec![0; length as usize - 4];
    client.read_exact(&mut rest).await?;
    server.write_u32(length).await?;
    server.write_all(&rest).await?;
    server.flush().await
}

//! HTTP/1.1 over a plain connection, for what a well-behaved client does not do or does not show.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer as it came over the wire.
#[derive(Clone, Debug)]
pub struct RawResponse {
    /// The status line and the headers, a line each, as bytes.
    pub head: Vec<Vec<u8>>,
    pub body: Vec<u8>,
}

/// Sends one request, byte for byte, and reads until the server closes.
pub async fn raw(address: SocketAddr, request: impl AsRef<[u8]>) -> RawResponse {
    let mut stream = raw_stream(address, request).await;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("an answer");
    RawResponse::parse(&bytes)
}

/// Sends one request, byte for byte, and leaves the connection open.
pub async fn raw_stream(address: SocketAddr, request: impl AsRef<[u8]>) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream
        .write_all(request.as_ref())
        .await
        .expect("a request sent");
    stream
}

impl RawResponse {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .expect("a whole head");
        let head = bytes[..end].split(|byte| *byte == b'\n');
        Self {
            head: head.map(|line| line.trim_ascii_end().to_vec()).collect(),
            body: bytes[end + 4..].to_vec(),
        }
    }

    pub fn status_line(&self) -> &[u8] {
        &self.head[0]
    }

    /// The values of a header, in order.
    pub fn values(&self, name: &str) -> Vec<&[u8]> {
        let prefix = format!("{name}: ").into_bytes();
        let lines = self.head.iter().skip(1);
        lines
            .filter(|line| line.to_ascii_lowercase().starts_with(&prefix))
            .map(|line| &line[prefix.len()..])
            .collect()
    }

    /// The status line and headers, without those that a replay may differ in.
    pub fn stable_head(&self) -> Vec<Vec<u8>> {
        let differ: [&[u8]; 3] = [b"date: ", b"idempotent-replayed: ", b"set-cookie: "];
        let differs = |line: &Vec<u8>| {
            differ
                .iter()
                .any(|name| line.to_ascii_lowercase().starts_with(name))
        };
        self.head
            .iter()
            .filter(|line| !differs(line))
            .cloned()
            .collect()
    }
}

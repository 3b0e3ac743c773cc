//! What goes wrong between the page and the shop, as the page asks for it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// Later than the page waits.
const LATE: Duration = Duration::from_secs(6);

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The payment is made, and the connection is closed instead of an answer.
    LoseAnswer,
    /// The payment is made, and the answer comes when the page has stopped waiting.
    AnswerLate,
    /// The connection is closed before anything happens.
    Refuse,
    /// The server says that it is too busy, before anything happens.
    Busy,
    /// The server dies after it has charged, and before it has stored the answer.
    Crash,
}

impl Fault {
    /// From the header that the page sends.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        Some(match headers.get("demo-fault")?.as_bytes() {
            b"lose-answer" => Self::LoseAnswer,
            b"answer-late" => Self::AnswerLate,
            b"refuse" => Self::Refuse,
            b"busy" => Self::Busy,
            b"crash" => Self::Crash,
            _ => return None,
        })
    }
}

/// The network around the shop. A crash is not its business.
pub(crate) async fn misbehave(
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
    next: Next,
) -> Response {
    let fault = Fault::of(request.headers());
    match fault {
        Some(Fault::Refuse) => {
            connection.cut();
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        Some(Fault::Busy) => {
            return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")]).into_response();
        }
        _ => {}
    }
    let response = next.run(request).await;
    match fault {
        Some(Fault::LoseAnswer) => connection.cut(),
        Some(Fault::AnswerLate) => tokio::time::sleep(LATE).await,
        _ => {}
    }
    response
}

/// A handle on the connection that a request came by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connection(Arc<AtomicBool>);

impl Connection {
    /// Not a byte more goes out: the next write fails, and the connection is closed.
    fn cut(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_cut(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Connected<IncomingStream<'_, Listener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.io().connection.clone()
    }
}

/// Accepts connections that can be cut.
#[derive(Debug)]
pub(crate) struct Listener(TcpListener);

impl Listener {
    pub(crate) fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        TcpListener::from_std(listener).map(Self)
    }
}

impl axum::serve::Listener for Listener {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        let (stream, address) = axum::serve::Listener::accept(&mut self.0).await;
        let connection = Connection::default();
        (Wire { stream, connection }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    connection: Connection,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.connection.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

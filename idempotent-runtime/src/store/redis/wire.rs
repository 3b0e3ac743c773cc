//! A connection, and the task that writes and reads for all its callers.
//!
//! Left to itself, the driver's task writes each command when its caller asks for it, because a task that is woken by
//! another runs next: a system call for each command. Here it lets the tasks that are ready run first, and then writes
//! what all of them have asked for. There is no queue but the driver's own, and no batch: a command has its place in
//! the order, its reply, its error and its cancellation as before, and waits for no other's reply.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use ::redis::aio::MultiplexedConnection;
use ::redis::io::tcp::{TcpSettings, socket2::SockRef};
use ::redis::{AsyncConnectionConfig, Client, ConnectionAddr, RedisResult};
use futures_util::future::select_ok;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::runtime::Handle;
use tokio::task::coop::unconstrained;
use tokio_util::task::AbortOnDropHandle;

use super::pulse::{Observed, Pulse};
use crate::prompt;

/// How many commands may queue before their callers wait: a web server has many.
const QUEUE: usize = 1024;

/// With so many bytes collected, they are written before another command is taken.
const WRITE_BYTES: usize = 64 * 1024;

/// A connection for many callers. It is closed when this is dropped, or the runtime that has made it ends.
pub(super) struct Wire {
    connection: MultiplexedConnection,
    crowd: Crowd,
    /// `None` where the driver has a stream of its own.
    pulse: Option<Pulse>,
    /// `None` where the driver has a task of its own. One that is not ended waits for all replies.
    _task: Option<AbortOnDropHandle<()>>,
}

/// How many calls wait for a reply.
#[derive(Clone, Default)]
struct Crowd(Arc<AtomicUsize>);

/// A call that waits for its reply, until this is dropped.
pub(super) struct Call<'a>(&'a Crowd);

impl Wire {
    /// With all settings of the client but the linger time, which it does not disclose. Without the driver's
    /// timeouts: each connect and each call has its own.
    pub(super) async fn connect(client: &Client) -> RedisResult<Self> {
        let info = client.get_connection_info();
        match info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                let stream = tcp(host, *port, info.tcp_settings()).await?;
                Self::on(stream, client).await
            }
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => {
                let stream = tokio::net::UnixStream::connect(path).await?;
                Self::on(stream, client).await
            }
            // Only the driver can connect with TLS, and then it has a task of its own.
            _ => {
                let config = config();
                let connected = client.get_multiplexed_async_connection_with_config(&config);
                Ok(Self {
                    connection: connected.await?,
                    crowd: Crowd::default(),
                    pulse: None,
                    _task: None,
                })
            }
        }
    }

    async fn on<S>(stream: S, client: &Client) -> RedisResult<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let settings = client.get_connection_info().redis_settings();
        let pulse = Pulse::default();
        let stream = Observed::new(stream, pulse.clone());
        let connected = MultiplexedConnection::new_with_config(settings, stream, config());
        let (connection, driver) = connected.await?;
        let crowd = Crowd::default();
        // What tokio puts off when a task has done enough for once belongs to its worker, and is held up by a task that blocks it.
        let driving = unconstrained(drive(driver, crowd.clone()));
        let task = prompt::spawn(&Handle::current(), driving);
        Ok(Self {
            connection,
            crowd,
            pulse: Some(pulse),
            _task: Some(AbortOnDropHandle::new(task)),
        })
    }

    pub(super) fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    /// Whether a reply is seen before it is complete.
    pub(super) fn shows_progress(&self) -> bool {
        self.pulse.is_some()
    }

    /// How many bytes it has carried that show that the server is there.
    pub(super) fn carried(&self) -> u64 {
        self.pulse.as_ref().map_or(0, Pulse::bytes)
    }

    /// While there is more than one, what is asked for is written together.
    pub(super) fn call(&self) -> Call<'_> {
        Call::of(&self.crowd)
    }
}

impl<'a> Call<'a> {
    fn of(crowd: &'a Crowd) -> Self {
        crowd.0.fetch_add(1, Ordering::Relaxed);
        Self(crowd)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(QUEUE)
        .set_write_backpressure_boundary(WRITE_BYTES)
}

/// All addresses of the host at once; the first that answers.
async fn tcp(host: &str, port: u16, settings: &TcpSettings) -> RedisResult<TcpStream> {
    let connecting: Vec<_> = lookup_host((host, port))
        .await?
        .map(|address| Box::pin(TcpStream::connect(address)))
        .collect();
    if connecting.is_empty() {
        return Err(std::io::Error::from(std::io::ErrorKind::NotFound).into());
    }
    let (stream, _) = select_ok(connecting).await?;
    stream.set_nodelay(settings.nodelay())?;
    let socket = SockRef::from(&stream);
    if let Some(keepalive) = settings.keepalive() {
        socket.set_tcp_keepalive(keepalive)?;
    }
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "fuchsia"))]
    socket.set_tcp_user_timeout(settings.user_timeout())?;
    Ok(stream)
}

/// Polls the driver once for all that is asked for by tasks that are ready when it is woken.
async fn drive(driver: impl Future<Output = ()>, crowd: Crowd) {
    let mut driver = pin!(driver);
    loop {
        let polled = poll_fn(|context| Poll::Ready(driver.as_mut().poll(context))).await;
        if polled.is_ready() {
            return;
        }
        woken().await;
        // For a call that is alone this would be a look at the sockets for nothing.
        if crowd.0.load(Ordering::Relaxed) > 1 {
            others().await;
        }
    }
}

/// Until the tasks that are ready have run. Not by tokio's `yield_now`: what that puts off belongs to this worker, and is
/// held up by a task that blocks it; this is in the queue that other workers take from.
async fn others() {
    let mut have_run = false;
    poll_fn(|context| {
        if std::mem::replace(&mut have_run, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Until this task is woken the next time.
async fn woken() {
    let mut is_polled_again = false;
    poll_fn(|_| match std::mem::replace(&mut is_polled_again, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

#[cfg(test)]
mod tests;

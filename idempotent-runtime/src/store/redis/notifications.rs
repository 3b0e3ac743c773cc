//! Notifications for waiters: one pub/sub connection, whose messages wake them, and marks on the records that
//! are waited for, without which no change is announced.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ::redis::RedisResult;
use ::redis::aio::{ConnectionLike, PubSub};
use futures_util::StreamExt;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::error::NAME;
use super::line::Line;
use super::name::Name;
use super::servers::Servers;
use super::{reply, scripts};
use crate::key::RecordKey;
use crate::store::listening::{CONNECT_TIMEOUT, Listening, keep_listening, parse_key};
use crate::store::waiters::Waiters;
use crate::store::{StoreError, Subscription};

/// How long nothing may be heard before the server is asked whether it is there.
const QUIET: Duration = Duration::from_secs(3);

/// How long it may take to say so.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Listens to a channel from the first subscription on, until it is dropped.
pub(super) struct RedisNotifications {
    servers: Servers,
    channel: Arc<str>,
    waiters: Arc<Waiters>,
    listening: Listening,
}

impl RedisNotifications {
    pub(super) fn new(servers: Servers, channel: Arc<str>) -> Self {
        Self {
            servers,
            channel,
            waiters: Arc::default(),
            listening: Listening::default(),
        }
    }

    /// The same on another channel.
    pub(super) fn on(&self, channel: Arc<str>) -> Self {
        Self::new(self.servers.clone(), channel)
    }

    /// Marks the record over a connection for commands.
    pub(super) fn subscribe<C>(&self, key: &RecordKey, name: Name, line: Line<C>) -> Subscription
    where
        C: ConnectionLike + Clone + Send + Sync + 'static,
    {
        let Ok(runtime) = Handle::try_current() else {
            return Subscription::none();
        };
        self.listening.ensure(&runtime, || {
            let (servers, channel) = (self.servers.clone(), Arc::clone(&self.channel));
            listen(servers, channel, Arc::clone(&self.waiters))
        });
        let changed = self.waiters.watch(*key);
        Subscription::best_effort(async move {
            let mut changed = pin!(changed);
            // Not before a caller waits. What has changed by then is found out by the mark.
            tokio::select! {
                () = &mut changed => {}
                is_running = mark(line, name) => if is_running {
                    changed.await;
                },
            }
        })
    }
}

/// Returns whether there is a change to wait for.
async fn mark<C>(line: Line<C>, name: Name) -> bool
where
    C: ConnectionLike + Clone + Send + Sync,
{
    let marked = line.run(&scripts::WAIT, &name, &[]).await;
    let marked = marked.map_err(StoreError::from);
    let is_running = marked.and_then(|reply| reply::is_running(&reply));
    is_running.unwrap_or_else(|error: StoreError| {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "no notification for this record; its waiters poll"
        );
        true
    })
}

/// Never the servers, whose URL may hold a password.
impl fmt::Debug for RedisNotifications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisNotifications")
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

async fn listen(servers: Servers, channel: Arc<str>, waiters: Arc<Waiters>) {
    let listen_once = || listen_once(&servers, &channel, &waiters);
    keep_listening(NAME, &channel, listen_once).await;
}

/// Returns when the connection is lost.
async fn listen_once(servers: &Servers, channel: &str, waiters: &Waiters) -> RedisResult<()> {
    let connected = timeout(CONNECT_TIMEOUT, connect(servers, channel)).await;
    let connection = connected.map_err(std::io::Error::from)??;
    // What happened while no connection listened has gone by unheard: all waiters look again.
    waiters.wake_all();
    let (mut asking, mut messages) = connection.split();
    loop {
        match timeout(QUIET, messages.next()).await {
            Ok(Some(message)) => {
                if let Some(key) = parse_key(message.get_payload_bytes()) {
                    waiters.wake(&key);
                }
            }
            Ok(None) => return Ok(()),
            Err(_) => {
                // What is subscribed to already is confirmed once more, and changes nothing.
                let confirmed = timeout(PATIENCE, asking.subscribe(channel)).await;
                confirmed.map_err(std::io::Error::from)??;
            }
        }
    }
}

async fn connect(servers: &Servers, channel: &str) -> RedisResult<PubSub> {
    let primary = servers.primary().await?;
    let mut connection = primary.get_async_pubsub().await?;
    connection.subscribe(channel).await?;
    Ok(connection)
}

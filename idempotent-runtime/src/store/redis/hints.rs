//! Hints for those who wait: one pub/sub connection, whom its messages wake, and marks on the records
//! that are waited for, without which nobody is told of anything.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;

use ::redis::aio::{ConnectionLike, PubSub};
use ::redis::{Client, RedisResult};
use futures_util::StreamExt;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::name::Name;
use super::reply::{self, store_error};
use super::script;
use crate::key::RecordKey;
use crate::store::listening::{CONNECT_TIMEOUT, Listening, Pauses, parse_key};
use crate::store::waiters::Waiters;
use crate::store::{StoreError, Subscription};

/// Listens to a channel from the first subscription on, until it is dropped.
pub(super) struct Listener {
    client: Client,
    channel: Arc<str>,
    waiters: Arc<Waiters>,
    listening: Listening,
}

impl Listener {
    pub(super) fn new(client: Client, channel: Arc<str>) -> Self {
        Self {
            client,
            channel,
            waiters: Arc::default(),
            listening: Listening::default(),
        }
    }

    /// The same on another channel.
    pub(super) fn on(&self, channel: Arc<str>) -> Self {
        Self::new(self.client.clone(), channel)
    }

    /// Marks the record over a connection for commands.
    pub(super) fn subscribe(
        &self,
        key: &RecordKey,
        name: Name,
        connection: impl ConnectionLike + Send + 'static,
    ) -> Subscription {
        let Ok(runtime) = Handle::try_current() else {
            return Subscription::none();
        };
        self.listening.ensure(&runtime, || {
            let (client, channel) = (self.client.clone(), Arc::clone(&self.channel));
            listen(client, channel, Arc::clone(&self.waiters))
        });
        let changed = self.waiters.watch(*key);
        Subscription::hint(async move {
            let mut changed = pin!(changed);
            // Not before somebody waits. What has changed by then is found out by the mark.
            tokio::select! {
                () = &mut changed => {}
                is_running = mark(connection, name) => if is_running {
                    changed.await;
                },
            }
        })
    }
}

/// Returns whether there is a change to wait for.
async fn mark(mut connection: impl ConnectionLike, name: Name) -> bool {
    let reply = script::WAIT.run(&mut connection, &name, &[]).await;
    let marked = reply.map_err(store_error);
    let is_running = marked.and_then(|reply| reply::is_running(&reply));
    is_running.unwrap_or_else(|error: StoreError| {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "no hint for a record, its waiters poll"
        );
        true
    })
}

/// Never the client, whose URL may hold a password.
impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

/// Connects again whenever the connection is lost.
async fn listen(client: Client, channel: Arc<str>, waiters: Arc<Waiters>) {
    let mut pauses = Pauses::new();
    loop {
        match listen_once(&client, &channel, &waiters).await {
            Ok(()) => pauses.start_over(),
            Err(error) => {
                tracing::debug!(
                    channel = &*channel,
                    error = &error as &dyn std::error::Error,
                    "no hints from redis, waiters poll until there is a connection again"
                );
            }
        }
        pauses.pause().await;
    }
}

/// Returns when the connection is lost.
async fn listen_once(client: &Client, channel: &str, waiters: &Waiters) -> RedisResult<()> {
    let connected = timeout(CONNECT_TIMEOUT, connect(client, channel)).await;
    let connection = connected.map_err(std::io::Error::from)??;
    // What happened while nobody listened has gone by unheard: everybody looks again.
    waiters.wake_all();
    let mut messages = connection.into_on_message();
    while let Some(message) = messages.next().await {
        if let Some(key) = parse_key(message.get_payload_bytes()) {
            waiters.wake(&key);
        }
    }
    Ok(())
}

async fn connect(client: &Client, channel: &str) -> RedisResult<PubSub> {
    let mut connection = client.get_async_pubsub().await?;
    connection.subscribe(channel).await?;
    Ok(connection)
}

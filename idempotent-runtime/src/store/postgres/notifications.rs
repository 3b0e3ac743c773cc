//! Notifications for waiters: one connection that listens, and marks on the records that are waited for,
//! without which no change is announced.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::Executor;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions, PgRow};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use super::error::NAME;
use super::records::Records;
use super::row;
use super::statements::{Statements, statement};
use crate::key::RecordKey;
use crate::store::listening::{CONNECT_TIMEOUT, Listening, keep_listening, parse_key};
use crate::store::waiters::Waiters;
use crate::store::{StoreError, Subscription};

/// How long a mark may take: it may have to wait for the transaction that holds the row.
const MARK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long nothing may be heard before the connection is asked whether it is still there.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// Listens to the table's channel from the first subscription on, until it is dropped.
pub(super) struct PgNotifications {
    ear: Arc<Ear>,
    listening: Listening,
}

/// What the task that listens works with.
struct Ear {
    /// For the marks, one at a time.
    records: Arc<Records>,
    channel: String,
    waiters: Arc<Waiters>,
    to_mark: Arc<ToMark>,
}

/// The way to the task that marks, while there is a connection that would hear of the change.
#[derive(Default)]
struct ToMark(Mutex<Option<UnboundedSender<RecordKey>>>);

impl PgNotifications {
    pub(super) fn new(records: Arc<Records>) -> Self {
        let ear = Ear {
            channel: format!("{}_done", records.table()),
            records,
            waiters: Arc::default(),
            to_mark: Arc::default(),
        };
        Self {
            ear: Arc::new(ear),
            listening: Listening::default(),
        }
    }

    pub(super) fn subscribe(&self, key: &RecordKey) -> Subscription {
        let Ok(runtime) = Handle::try_current() else {
            return Subscription::none();
        };
        self.listening
            .ensure(&runtime, || listen(Arc::clone(&self.ear)));
        let changed = self.ear.waiters.watch(*key);
        let (to_mark, key) = (Arc::clone(&self.ear.to_mark), *key);
        Subscription::best_effort(async move {
            // Not before a caller waits. What has changed by then is found out by the mark.
            to_mark.ask_for(key);
            changed.await;
        })
    }
}

impl fmt::Debug for PgNotifications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgNotifications")
            .field("channel", &self.ear.channel)
            .finish_non_exhaustive()
    }
}

impl ToMark {
    /// Without a connection that listens nothing is marked: when there is one, all waiters ask again.
    fn ask_for(&self, key: RecordKey) {
        if let Some(sender) = &*self.sender() {
            // It fails when the connection has just been lost.
            let _ = sender.send(key);
        }
    }

    fn open(&self) -> UnboundedReceiver<RecordKey> {
        let (sender, receiver) = unbounded_channel();
        *self.sender() = Some(sender);
        receiver
    }

    fn sender(&self) -> MutexGuard<'_, Option<UnboundedSender<RecordKey>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn listen(ear: Arc<Ear>) {
    keep_listening(NAME, &ear.channel, || ear.listen_once()).await;
}

impl Ear {
    /// Returns when the connection is lost.
    async fn listen_once(&self) -> sqlx::Result<()> {
        let options = self.records.connector().options();
        let connected = timeout(CONNECT_TIMEOUT, connect(options, &self.channel)).await;
        let mut listener = connected.map_err(|_| sqlx::Error::PoolTimedOut)??;
        let to_mark = self.to_mark.open();
        // What happened while no connection listened has gone by unheard: all waiters look again, and
        // ask again for a mark.
        self.waiters.wake_all();
        tokio::select! {
            lost = self.hear(&mut listener) => lost,
            () = self.mark(to_mark) => Ok(()),
        }
    }

    async fn hear(&self, listener: &mut PgListener) -> sqlx::Result<()> {
        loop {
            match timeout(LONGEST_SILENCE, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    if let Some(key) = parse_key(notification.payload().as_bytes()) {
                        self.waiters.wake(&key);
                    }
                }
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => ask_whether_it_is_there(listener).await?,
            }
        }
    }

    /// Each by itself: a statement about several rows could lock out another one, and be locked out.
    async fn mark(&self, mut to_mark: UnboundedReceiver<RecordKey>) {
        while let Some(key) = to_mark.recv().await {
            if !self.waiters.is_watched(&key) {
                continue;
            }
            match timeout(MARK_TIMEOUT, self.mark_one(&key)).await {
                Ok(Ok(row)) if is_running(&row) => {}
                // It has changed before there was a mark.
                Ok(Ok(_)) => self.waiters.wake(&key),
                Ok(Err(error)) => tracing::debug!(
                    record = %key,
                    error = &error as &dyn std::error::Error,
                    "no notification for this record; its waiters poll"
                ),
                Err(_) => {
                    tracing::debug!(record = %key, "no notification for this record; its waiters poll");
                }
            }
        }
    }
}

impl Ear {
    async fn mark_one(&self, key: &RecordKey) -> Result<PgRow, StoreError> {
        let marking = |sql: &Statements| statement(&sql.wait).bind(&key.as_bytes()[..]);
        row::one(self.records.rows(marking).await?)
    }
}

/// A connection of its own: the pool may be small, and all its connections wanted.
async fn connect(options: PgConnectOptions, channel: &str) -> sqlx::Result<PgListener> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT_TIMEOUT)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&pool).await?;
    // A lost connection is to be heard of, because of what goes by unheard until there is another.
    listener.eager_reconnect(false);
    listener.ignore_pool_close_event(true);
    listener.listen(channel).await?;
    Ok(listener)
}

/// A peer that is gone without a word is never heard of otherwise.
async fn ask_whether_it_is_there(listener: &mut PgListener) -> sqlx::Result<()> {
    let answered = timeout(CONNECT_TIMEOUT, listener.execute("SELECT 1")).await;
    answered.map_err(|_| sqlx::Error::PoolTimedOut)??;
    Ok(())
}

fn is_running(row: &PgRow) -> bool {
    sqlx::Row::try_get(row, "is_running").unwrap_or(false)
}

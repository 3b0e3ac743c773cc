//! Hints for those who wait: one pub/sub connection, and whom its messages wake.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::aio::PubSub;
use ::redis::{Client, RedisResult};
use futures_util::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::key::RecordKey;
use crate::store::Subscription;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Listens to a channel from the first subscription on, until it is dropped.
pub(super) struct Listener {
    client: Client,
    channel: Arc<str>,
    waiters: Arc<Waiters>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Listener {
    pub(super) fn new(client: Client, channel: Arc<str>) -> Self {
        Self {
            client,
            channel,
            waiters: Arc::default(),
            task: Mutex::default(),
        }
    }

    /// The same on another channel.
    pub(super) fn on(&self, channel: Arc<str>) -> Self {
        Self::new(self.client.clone(), channel)
    }

    pub(super) fn subscribe(&self, key: &RecordKey) -> Subscription {
        let Ok(runtime) = Handle::try_current() else {
            return Subscription::none();
        };
        self.ensure_listening(&runtime);
        self.waiters.subscribe(key)
    }

    /// Starts the task, also again when the runtime that it ran on is gone.
    fn ensure_listening(&self, runtime: &Handle) {
        let mut task = lock(&self.task);
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            let (client, channel) = (self.client.clone(), Arc::clone(&self.channel));
            *task = Some(runtime.spawn(listen(client, channel, Arc::clone(&self.waiters))));
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

/// Never the client, whose URL may hold a password.
impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

/// Connects again whenever the connection is lost, with growing pauses.
async fn listen(client: Client, channel: Arc<str>, waiters: Arc<Waiters>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match listen_once(&client, &channel, &waiters).await {
            Ok(()) => pause = FIRST_PAUSE,
            Err(error) => {
                tracing::debug!(
                    channel = &*channel,
                    error = &error as &dyn std::error::Error,
                    "no hints from redis, waiters poll until there is a connection again"
                );
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
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

/// A record key as the scripts publish it.
fn parse_key(hex: &[u8]) -> Option<RecordKey> {
    let mut key = [0; 32];
    if hex.len() != key.len() * 2 {
        return None;
    }
    for (at, digit) in hex.iter().enumerate() {
        let digit = char::from(*digit).to_digit(16)?;
        let byte = key.get_mut(at / 2)?;
        *byte = *byte << 4 | u8::try_from(digit).ok()?;
    }
    Some(RecordKey::from_bytes(key))
}

/// Who waits for which record. A record has an entry for as long as somebody does.
#[derive(Default)]
struct Waiters(Mutex<HashMap<RecordKey, Waiting>>);

struct Waiting {
    changed: Arc<Notify>,
    count: usize,
}

impl Waiters {
    fn subscribe(self: &Arc<Self>, key: &RecordKey) -> Subscription {
        let changed = {
            let mut waiting = lock(&self.0);
            let waiting = waiting.entry(*key).or_insert_with(|| Waiting {
                changed: Arc::default(),
                count: 0,
            });
            waiting.count += 1;
            Arc::clone(&waiting.changed)
        };
        let notified = Arc::clone(&changed).notified_owned();
        let waiter = Waiter {
            waiters: Arc::clone(self),
            key: *key,
            changed,
        };
        Subscription::hint(async move {
            notified.await;
            drop(waiter);
        })
    }

    fn wake(&self, key: &RecordKey) {
        if let Some(waiting) = lock(&self.0).remove(key) {
            waiting.changed.notify_waiters();
        }
    }

    fn wake_all(&self) {
        for (_, waiting) in lock(&self.0).drain() {
            waiting.changed.notify_waiters();
        }
    }
}

/// One who waits, until woken or no longer interested.
struct Waiter {
    waiters: Arc<Waiters>,
    key: RecordKey,
    changed: Arc<Notify>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        // After a wake-up the entry is gone, or it is the next waiters'.
        if let Entry::Occupied(mut entry) = lock(&self.waiters.0).entry(self.key)
            && Arc::ptr_eq(&entry.get().changed, &self.changed)
        {
            entry.get_mut().count -= 1;
            if entry.get().count == 0 {
                entry.remove();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whatever panicked while it held the lock left a whole map behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: RecordKey = RecordKey::from_bytes([7; 32]);

    #[tokio::test]
    async fn message_wakes_all_who_wait_for_its_record_and_no_others() {
        let waiters = Arc::new(Waiters::default());
        let [one, two] = [(); 2].map(|()| waiters.subscribe(&KEY));
        let other = waiters.subscribe(&RecordKey::from_bytes([8; 32]));
        waiters.wake(&KEY);
        tokio::join!(one.changed(), two.changed());
        let mut other = std::pin::pin!(other.changed());
        assert!(futures_util::poll!(&mut other).is_pending());
        waiters.wake_all();
        other.await;
    }

    #[tokio::test]
    async fn who_is_no_longer_interested_leaves_nothing_behind() {
        let waiters = Arc::new(Waiters::default());
        let [one, two, three] = [(); 3].map(|()| waiters.subscribe(&KEY));
        drop(one);
        waiters.wake(&KEY);
        let later = waiters.subscribe(&KEY);
        two.changed().await;
        drop(three);
        assert_eq!(lock(&waiters.0).len(), 1, "only who came later is there");
        drop(later);
        assert!(lock(&waiters.0).is_empty());
    }

    #[test]
    fn only_64_hexadecimal_digits_are_a_key() {
        assert_eq!(parse_key("07".repeat(32).as_bytes()), Some(KEY));
        for bad in [
            "",
            "07",
            &"0g".repeat(32),
            &"07".repeat(33),
            &"+7".repeat(32),
        ] {
            assert_eq!(parse_key(bad.as_bytes()), None, "{bad}");
        }
    }
}

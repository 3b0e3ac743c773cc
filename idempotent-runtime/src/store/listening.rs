//! What the stores share that hear of changes over a connection of their own.

use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::key::RecordKey;
use crate::prompt;

/// How long one attempt to connect may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A task that listens, from the first time that it is wanted until this is dropped.
#[derive(Default)]
pub(super) struct Listening(Mutex<Option<JoinHandle<()>>>);

impl Listening {
    /// Starts the task unless it runs: also again when the runtime that it ran on is gone.
    pub(super) fn ensure<F>(&self, runtime: &Handle, listen: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut task = self.task();
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(prompt::spawn(runtime, listen()));
        }
    }

    fn task(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(task) = self.task().take() {
            task.abort();
        }
    }
}

/// Listens again whenever the connection is lost, after growing pauses.
pub(super) async fn keep_listening<F, E>(
    store: &'static str,
    channel: &str,
    listen_once: impl Fn() -> F,
) where
    F: Future<Output = Result<(), E>>,
    E: Error + 'static,
{
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = Instant::now();
        let ended = listen_once().await;
        // There was a connection: no attempt to make one takes so long.
        if ended.is_ok() || begun.elapsed() > CONNECT_TIMEOUT * 2 {
            pause = FIRST_PAUSE;
        }
        if let Err(error) = ended {
            tracing::debug!(
                store,
                channel,
                error = &error as &dyn Error,
                "no notifications; waiters poll until there is a connection again"
            );
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A record key in 64 hexadecimal digits, as the servers tell it.
pub(super) fn parse_key(hex: &[u8]) -> Option<RecordKey> {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// The pauses had grown to ten seconds while the server was down, and stayed there: waiters polled for so long after
    /// each connection that ended with an error, however long it had lived.
    #[tokio::test(start_paused = true)]
    async fn connection_that_lived_is_made_again_soon() {
        let begun = AtomicUsize::new(0);
        let listen_once = || async {
            // Refused until the pauses are long; then one that lives for a minute, then one that stays.
            match begun.fetch_add(1, Ordering::Relaxed) {
                0..10 => {}
                10 => sleep(Duration::from_secs(60)).await,
                _ => std::future::pending().await,
            }
            Err(std::io::Error::other("no connection"))
        };
        let started = Instant::now();
        let refused = Duration::from_millis(100 + 200 + 400 + 800 + 1_600 + 3_200 + 6_400)
            + LONGEST_PAUSE * 3;
        let listening = keep_listening::<_, std::io::Error>("a store", "a channel", listen_once);
        let soon = refused + Duration::from_secs(60) + FIRST_PAUSE * 2;
        drop(tokio::time::timeout_at(started + soon, listening).await);
        assert_eq!(begun.into_inner(), 12);
    }

    #[test]
    fn only_64_hexadecimal_digits_are_a_key() {
        let key = RecordKey::from_bytes([7; 32]);
        assert_eq!(parse_key("07".repeat(32).as_bytes()), Some(key));
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

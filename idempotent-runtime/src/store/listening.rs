//! What the stores share that hear of changes over a connection of their own.

use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::sleep;

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
        match listen_once().await {
            // There was a connection.
            Ok(()) => pause = FIRST_PAUSE,
            Err(error) => tracing::debug!(
                store,
                channel,
                error = &error as &dyn Error,
                "no notifications; waiters poll until there is a connection again"
            ),
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
    use super::*;

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

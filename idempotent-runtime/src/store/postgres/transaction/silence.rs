//! Connections that do not reply in time.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

/// A statement's reply, if it is here in time. What was asked may be executed later.
pub(super) async fn in_time<T>(
    limit: Duration,
    asked: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    timeout(limit, asked).await.unwrap_or_else(|_| silence())
}

/// What is said of a reply that is not here in time.
pub(super) fn silence<T>() -> sqlx::Result<T> {
    Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into()))
}

/// Whether that is [`silence`].
pub(super) fn is_silence(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

//! [`TemporarySqlite`]: a database for one test.

use std::io;
use std::path::PathBuf;

use crate::record::Token;

/// A SQLite database for one test: a file in a new temporary folder, which is removed when this value is dropped.
///
/// `sqlite::memory:` has no `#[tx]`, because a database in memory belongs to one connection, and the store and the
/// handlers' transactions have separate connections. They can share a file, also with the application's pool.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use idempotent_runtime::{Idempotency, testing::TemporarySqlite};
/// use sqlx::SqliteConnection;
///
/// let database = TemporarySqlite::new()?;
/// let idempotency = Idempotency::connect(database.url()).await?;
/// let transactions = idempotency.transactions::<SqliteConnection>().await?;
/// # drop(transactions);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TemporarySqlite {
    folder: PathBuf,
    url: String,
}

impl TemporarySqlite {
    /// Creates the folder. The first connection creates the file.
    ///
    /// # Errors
    ///
    /// If no folder can be created in the system's [temporary folder](std::env::temp_dir).
    pub fn new() -> io::Result<Self> {
        let name = u128::from_ne_bytes(*Token::random()?.as_bytes());
        let folder = std::env::temp_dir().join(format!("idempotent-test-{name:032x}"));
        std::fs::create_dir(&folder)?;
        let url = format!("sqlite:{}?mode=rwc", folder.join("test.db").display());
        Ok(Self { folder, url })
    }

    /// The URL of the database, for this crate and for sqlx. A missing file is created.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for TemporarySqlite {
    fn drop(&mut self) {
        // What cannot be removed is left to the system.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

//! A connection that is on loan from the application's pool for one transaction.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::Database;
use sqlx::pool::PoolConnection;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How long a connection may take on its way back to the pool.
pub(in crate::store) const RETURN_LIMIT: Duration = Duration::from_secs(2);

/// Goes back to the pool when the operation has ended well, and is closed at once when it has not.
///
/// A caller's timeout drops an operation where it stands, between a request and its reply. On a
/// connection that went on being used, that reply would be the next one's: another operation's "one row
/// changed". So that connection is not reused, and its place in the pool is free at once.
pub(in crate::store) struct Loan<DB: Database> {
    connection: PoolConnection<DB>,
    ended_well: bool,
}

impl<DB: Database> Loan<DB> {
    pub(in crate::store) fn new(connection: PoolConnection<DB>) -> Self {
        Self {
            connection,
            ended_well: false,
        }
    }

    /// Every request has had its reply.
    pub(in crate::store) fn give_back(mut self) {
        self.ended_well = true;
    }
}

/// sqlx asks each connection that comes back whether it is still there, and waits for the answer as long
/// as it takes: from a peer that is gone without a word, for hours, in which the pool is short of one.
impl<DB: Database> Drop for Loan<DB> {
    fn drop(&mut self) {
        let returning = self.connection.return_to_pool();
        match Handle::try_current() {
            Ok(runtime) if self.ended_well => {
                runtime.spawn(timeout(RETURN_LIMIT, returning));
            }
            // Dropped before it has begun, it closes the connection.
            _ => drop(returning),
        }
    }
}

impl<DB: Database> Deref for Loan<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.connection
    }
}

impl<DB: Database> DerefMut for Loan<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        &mut self.connection
    }
}

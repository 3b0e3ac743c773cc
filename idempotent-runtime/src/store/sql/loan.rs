//! A connection that is on loan from the pool for one operation.

use std::ops::{Deref, DerefMut};

use sqlx::Database;
use sqlx::pool::PoolConnection;

/// Goes back to the pool when the operation has ended well, and is closed when it has not.
///
/// A caller's time-out drops an operation where it stands, between a request and its reply. On a
/// connection that went on being used, that reply would be the next one's: somebody else's "one row
/// changed". So that connection serves nobody again.
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

impl<DB: Database> Drop for Loan<DB> {
    fn drop(&mut self) {
        if !self.ended_well {
            self.connection.close_on_drop();
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

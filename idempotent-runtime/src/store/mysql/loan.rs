//! A connection that is on loan from the pool for one operation.

use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::{MySql, MySqlConnection};

/// Goes back to the pool when the operation has ended well, and is closed when it has not.
///
/// A caller's time-out drops an operation where it stands, between a request and its reply. On a
/// connection that went on being used, that reply would be the next one's: somebody else's "one row
/// changed". So that connection serves nobody again.
pub(super) struct Loan {
    connection: PoolConnection<MySql>,
    ended_well: bool,
}

impl Loan {
    pub(super) fn new(connection: PoolConnection<MySql>) -> Self {
        Self {
            connection,
            ended_well: false,
        }
    }

    /// Every request has had its reply.
    pub(super) fn give_back(mut self) {
        self.ended_well = true;
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if !self.ended_well {
            self.connection.close_on_drop();
        }
    }
}

impl Deref for Loan {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        &self.connection
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.connection
    }
}

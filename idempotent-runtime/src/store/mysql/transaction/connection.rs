//! A connection of the application's pool, for one transaction.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use futures_util::future::join_all;
use sqlx::{Connection as _, MySql, MySqlConnection, MySqlPool};
use tokio::time::timeout;

use crate::store::StoreError;
use crate::store::mysql::error::{Fault, of_server, of_silence};
use crate::store::sql::Loan;

/// How long an idle connection may take for its first reply, to a question that waits for no lock.
const FIRST_REPLY_LIMIT: Duration = Duration::from_millis(750);

/// How long the other idle connections may take to say that they are still there.
const PING_LIMIT: Duration = Duration::from_millis(500);

/// Closed when dropped, unless it is given back.
pub(super) struct Borrowed {
    loan: Loan<MySql>,
    pool: MySqlPool,
    was_idle: bool,
}

impl Borrowed {
    /// An idle one, without asking whether it is there: the first question tells, and unlike the pool's
    /// own it is limited in time. Else what the pool has to give.
    pub(super) async fn from(pool: &MySqlPool) -> Result<Self, StoreError> {
        let idle = pool.try_acquire();
        let was_idle = idle.is_some();
        let connection = match idle {
            Some(connection) => connection,
            None => pool
                .acquire()
                .await
                .map_err(|error| of_server(error).error.not_executed())?,
        };
        Ok(Self {
            loan: Loan::new(connection),
            pool: pool.clone(),
            was_idle,
        })
    }

    pub(super) fn was_idle(&self) -> bool {
        self.was_idle
    }

    /// Every request has had its reply.
    pub(super) fn give_back(self) {
        self.loan.give_back();
    }

    /// Waits for the first reply. A connection that had been idle and is silent makes the pool's other
    /// idle ones suspect.
    pub(super) async fn first<T>(
        &mut self,
        ask: impl AsyncFnOnce(&mut MySqlConnection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if !self.was_idle {
            return ask(&mut self.loan).await;
        }
        match timeout(FIRST_REPLY_LIMIT, ask(&mut self.loan)).await {
            Ok(reply) => reply,
            Err(_) => {
                close_the_silent(&self.pool).await;
                Err(of_silence())
            }
        }
    }
}

/// All at once, so that connections to a peer that is gone do not cost one timeout each.
async fn close_the_silent(pool: &MySqlPool) {
    let mut idle = Vec::new();
    while let Some(connection) = pool.try_acquire() {
        idle.push(Loan::new(connection));
    }
    let asked = idle.into_iter().map(|mut loan| async move {
        if let Ok(Ok(())) = timeout(PING_LIMIT, loan.ping()).await {
            loan.give_back();
        }
    });
    join_all(asked).await;
}

impl Deref for Borrowed {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        &self.loan
    }
}

impl DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.loan
    }
}

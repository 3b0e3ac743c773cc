//! What a silent peer says about the idle connections of the application's pool.

use sqlx::PgPool;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::store::transaction::SILENCE;

/// A beginning on its way. Given up after a while, the peer may be gone without a word: then it is gone for
/// all idle connections, which would have a timeout each. A client that goes away is quicker as a rule, and says nothing about
/// them.
pub(in crate::store::postgres) struct UnansweredBegin<F: Fn()> {
    close_idle: F,
    since: Instant,
    is_answered: bool,
}

impl<F: Fn()> UnansweredBegin<F> {
    pub(in crate::store::postgres) fn of(close_idle: F) -> Self {
        Self {
            close_idle,
            since: Instant::now(),
            is_answered: false,
        }
    }

    pub(in crate::store::postgres) fn answered(mut self) {
        self.is_answered = true;
    }
}

impl<F: Fn()> Drop for UnansweredBegin<F> {
    fn drop(&mut self) {
        if !self.is_answered && self.since.elapsed() >= SILENCE {
            (self.close_idle)();
        }
    }
}

/// What is in use stays.
pub(super) fn close_idle(pool: &PgPool) {
    if Handle::try_current().is_err() {
        return;
    }
    for _ in 0..pool.options().get_max_connections() {
        match pool.try_acquire() {
            Some(connection) => drop(connection.detach()),
            None => return,
        }
    }
}

//! What a silent peer says about the idle connections of the application's pool.

use deadpool_postgres::Pool;
use tokio::time::Instant;

use crate::store::postgres::transaction::SILENCE;

/// A beginning on its way. Given up after a while, the peer may be gone without a word: then it is gone for
/// all idle connections, which would have a time-out each.
pub(super) struct UnansweredBegin<'a> {
    pool: &'a Pool,
    since: Instant,
    is_answered: bool,
}

impl<'a> UnansweredBegin<'a> {
    pub(super) fn of(pool: &'a Pool) -> Self {
        Self {
            pool,
            since: Instant::now(),
            is_answered: false,
        }
    }

    pub(super) fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for UnansweredBegin<'_> {
    fn drop(&mut self) {
        if !self.is_answered && self.since.elapsed() >= SILENCE {
            close_idle(self.pool);
        }
    }
}

/// What is in use stays.
pub(super) fn close_idle(pool: &Pool) {
    drop(pool.retain(|_, _| false));
}

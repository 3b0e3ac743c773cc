//! The idle connections of the application's pool.

use deadpool_postgres::Pool;

/// What is in use stays.
pub(super) fn close_idle(pool: &Pool) {
    drop(pool.retain(|_, _| false));
}

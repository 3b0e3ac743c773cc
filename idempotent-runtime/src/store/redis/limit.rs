//! The longest value that the server takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::redis::aio::ConnectionLike;
use ::redis::{cmd, from_redis_value};

use super::error::{CallError, NAME};
use super::line::Line;
use crate::store::{StoreError, StoreErrorKind};

/// Unless it is set.
const USUAL: u64 = 512 * 1024 * 1024;

/// `proto-max-bulk-len`, once it had to be asked for. Clones share it.
///
/// A server closes the connection, which all other calls share, when it is sent a longer value.
#[derive(Clone, Default)]
pub(super) struct Limit(Arc<AtomicU64>);

impl Limit {
    /// `proto-max-bulk-len` is not set lower than this.
    const LEAST: usize = 1024 * 1024;

    /// Fails if the server will not take a value of that length.
    pub(super) async fn check<C>(&self, line: &Line<C>, length: usize) -> Result<(), StoreError>
    where
        C: ConnectionLike + Clone + Send + Sync,
    {
        if length <= Self::LEAST {
            return Ok(());
        }
        let length = length as u64;
        if length <= self.0.load(Ordering::Relaxed) {
            return Ok(());
        }
        // It is not known, or may have been raised.
        let most = ask(line).await?;
        self.0.store(most, Ordering::Relaxed);
        if length <= most {
            Ok(())
        } else {
            Err(StoreError::new(NAME, StoreErrorKind::TooLarge))
        }
    }

    /// What was sent has failed. If it was long, the limit may be another one by now.
    pub(super) fn doubt(&self, length: usize) {
        if length > Self::LEAST {
            self.0.store(0, Ordering::Relaxed);
        }
    }
}

async fn ask<C>(line: &Line<C>) -> Result<u64, StoreError>
where
    C: ConnectionLike + Clone + Send + Sync,
{
    let mut get = cmd("CONFIG");
    get.arg("GET").arg("proto-max-bulk-len");
    match line.query(&get).await {
        Ok(reply) => {
            let told = from_redis_value::<(String, u64)>(reply);
            Ok(told.map_or(USUAL, |(_, most)| most))
        }
        // It does not let us look.
        Err(failure) if failure.code().is_some() => Ok(USUAL),
        Err(failure) => Err(not_stored(failure)),
    }
}

/// The limit could not be asked for, and so nothing was stored.
fn not_stored(failure: CallError) -> StoreError {
    StoreError::from(failure).not_executed()
}

//! How the kit gets at a store, and at the store's time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::key::RecordKey;
use crate::store::Store;

/// How the kit gets at a store and at the store's time.
#[async_trait]
pub trait TestBed: Send + Sync {
    /// The store, the same one each time.
    fn store(&self) -> Arc<dyn Store>;

    /// Lets at least this much time pass by the store's clock: moves a manual clock, or sleeps.
    async fn advance(&self, by: Duration);

    /// Locks the record of this key as an open transaction of another session would: a `SELECT ... FOR
    /// UPDATE` by another connection. The kit then proves that the store says
    /// [`Busy`](crate::store::StoreErrorKind::Busy) of this record alone and delays no other.
    ///
    /// `None`, the default, for a store whose records cannot be locked one by one.
    async fn lock_record(&self, _key: &RecordKey) -> Option<Box<dyn RecordLock>> {
        None
    }

    /// How long leases and lives are in the cases that wait for their end.
    fn timing(&self) -> Timing {
        Timing::default()
    }
}

/// A record that is locked: see [`TestBed::lock_record`]. Dropped, it frees the record as well, be it a
/// little later.
#[async_trait]
pub trait RecordLock: Send {
    /// Frees the record before it returns.
    async fn unlock(self: Box<Self>);
}

/// The lengths of time that the kit works with. A TTL, and the life of a claim with its retention, are
/// always four leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    lease: Duration,
    pub(super) flow: Flow,
}

/// What time does between two calls of [`TestBed::advance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// It goes on.
    Real,
    /// It stands still.
    Manual,
}

impl Timing {
    /// For a store whose time stands still unless it is [advanced](TestBed::advance).
    #[must_use]
    pub const fn manual() -> Self {
        Self {
            lease: Duration::from_secs(1),
            flow: Flow::Manual,
        }
    }

    /// For a store in real time. The kit takes about 90 of these leases, and longer on a machine
    /// that is slow compared with them.
    ///
    /// Choose a whole number of the smallest unit in which the store keeps time, and many of them.
    #[must_use]
    pub const fn real(lease: Duration) -> Self {
        Self {
            lease,
            flow: Flow::Real,
        }
    }

    /// The length of a lease that a case waits for.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        self.lease
    }

    /// The length of a record's life that a case waits for: a TTL, or a lease and its retention.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.lease.saturating_mul(4)
    }

    pub(super) const fn doubled(self) -> Self {
        Self {
            lease: self.lease.saturating_mul(2),
            ..self
        }
    }
}

/// Real time, a lease of a second and a TTL of four.
impl Default for Timing {
    fn default() -> Self {
        Self::real(Duration::from_secs(1))
    }
}

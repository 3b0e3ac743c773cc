//! Stores: where records live, and the contract that makes them safe.
//!
//! # The problem
//!
//! Two copies of one request arrive at the same time, on two machines. One must run, the other must not.
//! If the first machine dies, its silence must not be mistaken for permission to run again. All of this relies
//! on the store being **atomic** and otherwise **dumb**: it knows neither HTTP nor policy, it
//! compares and sets.
//!
//! # Writing a store
//!
//! Implement [`Store`], then run the conformance kit (feature `conformance`), which tests for the common
//! mistakes. The five rules, which the kit checks one by one:
//!
//! 1. **One atomic step each.** Never get-then-set. [`claim`](Store::claim) is idempotent per
//!    token, because its reply may be lost and the caller then repeats the call; so is
//!    [`complete`](Store::complete).
//! 2. **Every write after the claim compares the token**, and that the record is still running.
//! 3. **Fingerprint before state.** Another fingerprint is [`Claim::Mismatch`] whether the record
//!    is running, completed or abandoned.
//! 4. **Lease and lifetime are separate.** The lease is a field of the record, not the lifetime of the
//!    row: a record whose lease has ended answers [`Claim::Abandoned`], and continues to do so for its
//!    retention. The store's clock decides both.
//! 5. **A completed record neither changes nor disappears before it expires**: its TTL is counted from its
//!    completion. An expired record is absent, whether or not it was purged.
//!
//! A take-over names the attempt that it takes over: a decision about attempt 1 is not a decision about
//! attempt 2.
//!
//! The times of a record, by the store's clock:
//!
//! | | `created_at` | `lease_until` | `expires_at` |
//! | --- | --- | --- | --- |
//! | first claim | now | now + lease | `lease_until` + retention |
//! | take-over | stays | now + lease | `lease_until` + retention |
//! | renewal | stays | now + lease | `lease_until` + retention |
//! | abandoning | stays | now | stays |
//! | completion | stays | - | now + TTL |
//! | progress | stays | stays | stays |
//!
//! # Failures
//!
//! A store that is slow, refuses, restarts or loses a reply must not turn one effect into two, and must not
//! block a key. Therefore:
//!
//! * **A [`StoreError`] is accurate about three things**: whether the operation may have happened,
//!   whether the same operation may succeed later, and whether the error is about this item or about the
//!   store. An item that the store cannot hold is replaced by a tombstone; everything else is retried.
//! * **Batched operations do not share a fate.** [`renew`](Store::renew), [`release`](Store::release)
//!   and [`abandon`](Store::abandon) return a result for each item. A record that is locked, damaged or
//!   gone must neither fail nor delay the others: report a locked record as [`StoreErrorKind::Busy`] instead of
//!   waiting for it.
//! * **Renewals and completions do not queue behind handlers.** They need their own connection
//!   if the application shares its pool with the store.
//! * **A call that was given up holds nothing.** A dropped future leaves behind
//!   no lock, no pool slot and no task, and a connection with an outstanding reply is closed,
//!   not reused. After the store has recovered, the next call works within 5 s.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::key::RecordKey;
use crate::record::{Owner, Record, StoredResponse};

pub(crate) mod backend;
mod calls;
mod connect;
mod delegate;
mod error;
mod finding;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod listening;
mod listing;
#[cfg(any(
    feature = "redis",
    feature = "postgres",
    feature = "mysql",
    feature = "sqlite"
))]
mod row;
pub(crate) mod shared;
mod subscription;
mod target;
#[doc(hidden)]
pub mod transaction;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
mod waiters;

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "memory")]
pub mod memory;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
pub mod replay_cache;
#[cfg(any(feature = "postgres", feature = "sqlite", feature = "mysql"))]
mod sql;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use calls::{
    Acquired, Claim, ClaimRequest, Completion, Progress, Purged, PurgedClaim, Release, Renewal,
    Renewed,
};
pub use connect::connect;
pub use error::{StoreError, StoreErrorKind};
pub use finding::{Finding, Severity};
pub use listing::{ListCursor, ListFilter, ListedRecord, Listing, RecordStatus};
pub use replay_cache::{CachedStore, ReplayCache};
pub use subscription::Subscription;
pub use target::Target;
pub use transaction::{TransactionConnection, Transactor};

/// A store of records.
///
/// The [module documentation](self) has the rules. Methods must be cancel-safe in this sense: when a returned future is
/// dropped, the operation has happened either completely or not at all (each item of a batch by itself), and leaves
/// nothing behind that later calls have to wait for. A method that panics counts as a call without a reply: the
/// operation may have happened.
#[async_trait]
pub trait Store: Any + Debug + Send + Sync {
    /// The store's name for logs and errors: `memory`, `redis`, ...
    fn name(&self) -> &'static str;

    /// Makes the caller the owner, or says what the record's state is, in one atomic step:
    ///
    /// 1. no record, or an expired record: write it as running, with the request's progress,
    ///    [`Claim::Acquired`] with attempt 1;
    /// 2. another fingerprint: [`Claim::Mismatch`];
    /// 3. completed: [`Claim::Completed`];
    /// 4. running with this token: [`Claim::Acquired`] as before, nothing changed;
    /// 5. running, lease not ended: [`Claim::InFlight`];
    /// 6. lease ended, and `take_over` names this attempt: the claim now belongs to this token, with the next
    ///    attempt number and a new lease, [`Claim::Acquired`];
    /// 7. lease ended: [`Claim::Abandoned`].
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the claim may have happened if the error [says so](StoreError::may_have_happened).
    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError>;

    /// Sets each lease to end its own length from now, and returns a result for each renewal, in
    /// order. A claim whose lease has ended but that was not taken over is renewed.
    ///
    /// The renewals belong to different requests and do not share a fate: one whose record is locked by a
    /// statement or an open transaction of another session is [`StoreErrorKind::Busy`] and delays no
    /// other.
    ///
    /// # Errors
    ///
    /// Each result has its own error; that renewal may have happened if its [`StoreError`] says so. A call that
    /// fails as a whole returns the same error for all ([`StoreError`] is [`Clone`]).
    async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>>;

    /// Appends to the progress of a running claim of this token, even if its lease has ended. The progress is for
    /// the next attempt; its bytes are opaque to the store.
    ///
    /// `bytes` begin at `offset` of the whole progress. [`get`](Self::get) reads all of it. A take-over
    /// keeps it; a completion drops it, and the first claim of an expired record replaces it. **Progress only grows**,
    /// and stored progress never changes: if the store has `offset` bytes or more, those of `bytes` that
    /// it does not have are appended (none, if an earlier call was late), and the result is
    /// [`Progress::Saved`]. If the store has fewer, the result is [`Progress::Behind`].
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the progress may have been saved if the error says so.
    async fn save_progress(
        &self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, StoreError>;

    /// Stores the response of a running claim of this token, even if its lease has ended, drops its
    /// progress, and sets its expiry to `ttl` from now.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the completion may have happened if the error says so. If the store cannot hold the
    /// response, [`StoreErrorKind::TooLarge`].
    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError>;

    /// Removes the records of running claims of these tokens, even if their leases have ended: nothing
    /// happened, and the keys are free. Returns a result for each owner, in order; they do not share a fate, as in
    /// [`renew`](Self::renew).
    ///
    /// # Errors
    ///
    /// Each result has its own error; that release may have happened if its [`StoreError`] says so.
    async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>>;

    /// Ends the leases of running claims of these tokens now, and **removes the tokens from the
    /// records**: they are abandoned, and no late renewal, completion or repeated claim with such a token
    /// changes that. The attempt number, the progress and the expiry stay. Returns a result for each owner, in
    /// order; they do not share a fate, as in [`renew`](Self::renew).
    ///
    /// # Errors
    ///
    /// Each result has its own error; the operation may have happened if its [`StoreError`] says so.
    async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>>;

    /// Gives the owner of an abandoned claim one last lease, because the owner may be alive and have failed only to
    /// renew. If the record is running, `attempt` is its attempt, its lease has ended and its owner has
    /// not [abandoned](Self::abandon) it, then the lease ends `grace` from now, and the record outlives it by
    /// `retention`. The token stays. Returns whether that was the case; otherwise nothing was written.
    ///
    /// A caller that wants to take over calls this first, and takes over when the grace period has ended. The call is
    /// a write to this record: once it has succeeded, a renewal can succeed too.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the lease may have been given.
    async fn give_grace(
        &self,
        key: &RecordKey,
        attempt: u32,
        grace: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError>;

    /// Reads a record without changing anything; `None` if there is no record or it has expired.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; a record that cannot be read is an error, never `None`.
    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError>;

    /// Removes a record in any state, and returns whether there was one (for an expired record
    /// that is not purged yet, either result is correct). For operators: the key can run again.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the removal may have happened.
    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError>;

    /// Removes at most `limit` expired records, and returns how many, and which of
    /// them were abandoned. Correctness never depends on it. A store whose server expires records by itself
    /// purges nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError>;

    /// Lists records, page by page, without changing anything: from the beginning, or from where the page
    /// before it ended. For operators.
    ///
    /// A page has at most `limit` records (1 to 1000; Redis may return a few more), and may have fewer, or none,
    /// although another page follows: a call does a bounded amount of work. A record that exists throughout the
    /// listing is on one of its pages, and on one only (on Redis it can be on two, if the server resizes its table
    /// meanwhile). One that comes or goes meanwhile may be listed or not. A record that cannot be read is
    /// logged and left out.
    ///
    /// The default implementation returns an error, so a store need not implement it.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Unsupported`] from a store that does not list, and for a cursor of another kind of store;
    /// any other [`StoreError`].
    async fn list(
        &self,
        _filter: &ListFilter,
        _cursor: Option<&ListCursor>,
        _limit: usize,
    ) -> Result<Listing, StoreError> {
        Err(StoreError::new(self.name(), StoreErrorKind::Unsupported))
    }

    /// A notification for waiters on a running record. It must resolve on completion and release,
    /// should resolve on removal and take-over, and may resolve for no reason, for example when no attempt is
    /// running. A store without notifications returns [`Subscription::none`], and waiters poll.
    fn subscribe(&self, key: &RecordKey) -> Subscription;

    /// The entry point to transactions in which a handler writes together with its record (`#[tx]`). `None` for a
    /// store without transactions, as by default; a wrapper forwards this to the store inside it.
    fn transactor(&self) -> Option<Transactor> {
        None
    }
}

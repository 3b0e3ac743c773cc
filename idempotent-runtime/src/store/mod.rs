//! Stores: where records live, and the contract that makes them safe.
//!
//! # The problem
//!
//! Two copies of one request arrive at once, on two machines. One must run, the other must not,
//! and if the first machine dies its silence must not be mistaken for permission. All of that rests
//! on the store being **atomic** and otherwise **dumb**: it knows neither HTTP nor policy, it
//! compares and sets.
//!
//! # Writing a store
//!
//! Implement [`Store`], then run the conformance kit (feature `conformance`): it knows the usual
//! ways to be wrong. The five rules, which the kit checks one by one:
//!
//! 1. **One atomic step each.** Never get-then-set. [`claim`](Store::claim) is idempotent per
//!    token, because its reply may be lost and the caller will ask again; so is
//!    [`complete`](Store::complete).
//! 2. **Every write after the claim compares the token**, and that the record is still running.
//! 3. **Fingerprint before state.** Another fingerprint is [`Claim::Mismatch`] whether the record
//!    is running, completed or abandoned.
//! 4. **Lease and life are two things.** The lease is a field of the record, not the life of the
//!    row: a record whose lease has ended says [`Claim::Abandoned`], and goes on saying so for its
//!    retention. The store's clock decides both.
//! 5. **A completed record neither changes nor goes before it expires**: its TTL counts from its
//!    completion. Expired is absent, whether or not it was purged.
//!
//! A record's times, by the store's clock:
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
//! # Failing
//!
//! A store that is slow, refuses, restarts or loses a reply must not turn one effect into two, nor
//! block a key. For that:
//!
//! * **A [`StoreError`] tells the truth about three things**: whether the operation may have happened,
//!   whether the same operation may succeed later, and whether it is about this item or about the
//!   store. An item that the store cannot hold is given another form (a tombstone); everything else is retried.
//! * **Batched operations do not share a fate.** [`renew`](Store::renew), [`release`](Store::release)
//!   and [`abandon`](Store::abandon) have a result for each item. A record that is locked, damaged or
//!   gone must neither fail nor delay the others: report it as [`StoreErrorKind::Busy`] instead of
//!   waiting for it.
//! * **Renewals and completions do not queue behind handlers.** They need a connection of their own
//!   when the application shares its pool with the store.
//! * **A call that was given up holds nothing.** When a returned future is dropped, it leaves behind
//!   neither a lock nor a pool slot nor a task, and a connection whose reply is outstanding is closed
//!   and not reused. After the store has recovered, the next call works within 5 s.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::{CompactResponse, Owner, Record, StoredResponse};

mod connect;
mod error;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod listening;
mod listing;
mod subscription;
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

pub use connect::connect;
pub use error::{StoreError, StoreErrorKind};
pub(crate) use listing::MOST_LISTED;
pub use listing::{ListCursor, ListFilter, ListedRecord, Listing, RecordStatus};
pub use replay_cache::{CachedStore, ReplayCache};
pub use subscription::Subscription;
pub use transaction::{TransactionConnection, Transactor};

/// A request to become the one who runs.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest<'a> {
    /// The record, and the token that this claim will be known by. A caller that got no reply asks
    /// again with the same token.
    pub owner: Owner,
    /// What the record's request must be equal to.
    pub fingerprint: Fingerprint,
    /// The operation, kept in the record in clear for operators: at most 128 bytes. A take-over keeps the
    /// record's own.
    pub operation: &'a str,
    /// The application's own reference, kept likewise: at most 64 bytes.
    pub label: Option<&'a str>,
    /// How long the claim is held without renewal.
    pub lease: Duration,
    /// How long the record outlives its lease while it is not completed.
    pub retention: Duration,
    /// The abandoned attempt to take over; `None` takes over none. A number and not a flag: who
    /// decided to take over attempt 1 has not decided anything about attempt 2.
    pub take_over: Option<u32>,
}

/// What became of a [`ClaimRequest`].
#[derive(Clone, Debug)]
pub enum Claim {
    /// The caller is the one who runs. Also the answer to a repeated request of a token that holds
    /// the claim already, even when its lease has ended.
    Acquired {
        /// Which claim of this record it is: 1, or more after a take-over.
        attempt: u32,
        /// The time since the first claim: zero when this call made it.
        age: Duration,
    },
    /// Somebody has completed it.
    Completed(Arc<StoredResponse>),
    /// Somebody else is running it.
    InFlight {
        /// The time until that claim's lease ends unless it is renewed.
        lease_left: Duration,
    },
    /// Somebody was running it, and the lease has ended.
    Abandoned {
        /// The attempt that was abandoned.
        attempt: u32,
        /// The time since the first claim.
        age: Duration,
    },
    /// The record is another request's.
    Mismatch,
}

/// One claim to be renewed.
#[derive(Clone, Copy, Debug)]
pub struct Renewal {
    /// Whose claim.
    pub owner: Owner,
    /// For how long from now, by the store's clock.
    pub lease: Duration,
    /// How long the record outlives that lease while it is not completed.
    pub retention: Duration,
}

/// What became of a [`Renewal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// The lease ends its length from now.
    Renewed,
    /// The claim is not this token's any more, or it is completed, or the record is gone. Nothing was
    /// written.
    Lost,
}

/// What became of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The response is stored.
    Stored,
    /// This token had completed it before (the reply was lost); the response of that time stays.
    AlreadyCompleted,
    /// The claim is not this token's any more, or the record is gone. Nothing was written.
    Lost,
}

/// What became of a running claim's progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is stored, or something longer is: progress only grows.
    Saved,
    /// What the store has ends before the offset. Nothing was written: save again from
    /// `stored_bytes` on.
    Behind {
        /// How many bytes of progress the store has.
        stored_bytes: usize,
    },
    /// The claim is not this token's any more, or it is completed, or the record is gone. Nothing
    /// was written.
    Lost,
}

/// What became of a release, or of abandoning a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The claim has ended: the key is free, or abandoned.
    Released,
    /// The claim is not this token's, or it is completed, or the record is gone. Nothing was
    /// written.
    Lost,
}

/// What [`Store::purge_expired`] has removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many records.
    pub records: usize,
    /// Those of them that were never completed or resolved.
    pub abandoned: Vec<PurgedClaim>,
}

/// An abandoned record that was purged at the end of its retention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgedClaim {
    /// Which record.
    pub key: RecordKey,
    /// Its operation.
    pub operation: Arc<str>,
}

/// A store of records.
///
/// The [module documentation](self) has the rules. Methods must be cancel-safe in this sense: when
/// a returned future is dropped, the operation has either happened as a whole or not at all (each item
/// of a batch by itself), and nothing is left behind that later calls have to wait for.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// The store's name for logs and errors: `memory`, `redis`, ...
    fn name(&self) -> &'static str;

    /// Whether a replay is answered from this process's memory already, so that a
    /// [`ReplayCache`] in front of it could only cost. A wrapper passes on what the store inside it
    /// says; one that does not is slower by that and no less right.
    fn replays_from_memory(&self) -> bool {
        false
    }

    /// The store itself, if it is in this process and never has to wait. A wrapper that wants
    /// to see each claim and completion does not pass it on.
    fn in_process(&self) -> Option<&dyn InProcess> {
        None
    }

    /// A completed record of this key and fingerprint that is in this process's memory already: a
    /// replay that costs nothing. `None` sends the caller to [`claim`](Self::claim).
    fn kept(&self, _key: &RecordKey, _fingerprint: &Fingerprint) -> Option<Arc<StoredResponse>> {
        None
    }

    /// Becomes the one who runs, or learns who is or was, in one atomic step:
    ///
    /// 1. no record, or an expired one: write it as running, [`Claim::Acquired`] with attempt 1;
    /// 2. another fingerprint: [`Claim::Mismatch`];
    /// 3. completed: [`Claim::Completed`];
    /// 4. running with this token: [`Claim::Acquired`] as before, nothing changed;
    /// 5. running, lease not ended: [`Claim::InFlight`];
    /// 6. lease ended, and `take_over` names this attempt: it is this token's now, with the next
    ///    attempt number and a new lease, [`Claim::Acquired`];
    /// 7. lease ended: [`Claim::Abandoned`].
    ///
    /// # Errors
    ///
    /// [`StoreError`]; unless its kind says that nothing was written, the claim may have happened.
    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError>;

    /// Sets each lease to end its own length from now, and has a result for each renewal, in their
    /// order. A claim whose lease has ended but that was not taken over is renewed.
    ///
    /// The renewals are of different requests and share no fate: one whose record is locked by a
    /// statement or an open transaction of another session is [`StoreErrorKind::Busy`] and delays no
    /// other.
    ///
    /// # Errors
    ///
    /// Each result by itself; that renewal may have happened if its [`StoreError`] says so. A call that
    /// fails as a whole has the same error for all ([`StoreError`] is [`Clone`]).
    async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>>;

    /// Appends to how far a running claim of this token has got, even if its lease has ended, for the
    /// attempt after it: bytes that mean nothing to the store.
    ///
    /// `bytes` begin at `offset` of the whole progress. [`get`](Self::get) reads all of it. A take-over
    /// keeps it; a completion and the first claim of an expired record drop it. **Progress only grows**,
    /// and what is stored never changes: if the store has `offset` bytes or more, those of `bytes` that
    /// it does not have are appended (none, if an earlier call was late), and the answer is
    /// [`Progress::Saved`]. If it has fewer, it is [`Progress::Behind`].
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it may have been saved if the error says so.
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
    /// [`StoreError`]; the completion may have happened if the error says so. A response that this
    /// store cannot hold is [`StoreErrorKind::TooLarge`].
    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError>;

    /// Removes the records of running claims of these tokens, even if their leases have ended: nothing
    /// happened, the keys are free. A result for each owner, in their order; they share no fate, as in
    /// [`renew`](Self::renew).
    ///
    /// # Errors
    ///
    /// Each result by itself; that release may have happened if its [`StoreError`] says so.
    async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>>;

    /// Ends the leases of running claims of these tokens now, and **takes the tokens from the
    /// records**: they are abandoned, and no late renewal, completion or repeated claim of such a token
    /// changes that. The attempt number, the progress and the expiry stay. A result for each owner, in
    /// their order; they share no fate, as in [`renew`](Self::renew).
    ///
    /// # Errors
    ///
    /// Each result by itself; it may have happened if its [`StoreError`] says so.
    async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>>;

    /// Gives the owner of an abandoned claim one last lease, because it may be alive and only have failed to
    /// renew: if the record is running, `attempt` is its attempt, its lease has ended and its owner has
    /// not [abandoned](Self::abandon) it, the lease ends `grace` from now, and the record outlives it by
    /// `retention`. The token stays. Says whether that was so; otherwise nothing was written.
    ///
    /// Who wants to take over asks for this first, and takes over when the grace is over. It is a write to
    /// this record: once it has succeeded, a renewal can succeed too.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it may have been given.
    async fn give_grace(
        &self,
        key: &RecordKey,
        attempt: u32,
        grace: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError>;

    /// Reads a record without changing anything; `None` when there is none or it has expired.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; a record that cannot be read is an error and never `None`.
    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError>;

    /// Removes a record whatever its state, and says whether there was one (of an expired record
    /// that was not swept yet, either answer is right). For operators: it makes the key run again.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the removal may have happened.
    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError>;

    /// Frees the room of expired records, at most `limit` of them, and says how many, and which of
    /// them were abandoned. Correctness never depends on it. A store whose server does this by itself
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
    /// Provided, so that a store need not have it: this one is an error.
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

    /// A hint for those who wait for a running record: it must resolve on completion and release,
    /// should on removal and take-over, and may resolve for no reason, as when no attempt is running. A
    /// store that cannot give one returns [`Subscription::none`], and they poll.
    fn subscribe(&self, key: &RecordKey) -> Subscription;

    /// How handlers write in one transaction with their record (`#[tx]`). `None` from a store that
    /// has no transactions; a wrapper passes on what the store inside it says.
    fn transactor(&self) -> Option<Transactor>;
}

/// A store that is in this process: nothing is waited for, so that nothing can be cut off half-way.
///
/// What a claim and a completion do is what [`Store`] says.
pub trait InProcess {
    /// As [`Store::claim`]. The token of the request is unique in this process, and need not be in
    /// any other.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing was written.
    fn claim_now(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError>;

    /// As [`Store::complete`], of a response that can be kept as it is.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing was written.
    fn complete_now(
        &self,
        owner: &Owner,
        response: CompactResponse,
        ttl: Duration,
    ) -> Result<Completion, StoreError>;
}

macro_rules! delegate {
    ($pointer:ident) => {
        #[async_trait]
        impl<S: Store + ?Sized> Store for $pointer<S> {
            fn name(&self) -> &'static str {
                (**self).name()
            }
            fn replays_from_memory(&self) -> bool {
                (**self).replays_from_memory()
            }
            fn in_process(&self) -> Option<&dyn InProcess> {
                (**self).in_process()
            }
            fn kept(
                &self,
                key: &RecordKey,
                fingerprint: &Fingerprint,
            ) -> Option<Arc<StoredResponse>> {
                (**self).kept(key, fingerprint)
            }
            async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
                (**self).claim(request).await
            }
            async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
                (**self).renew(renewals).await
            }
            async fn save_progress(
                &self,
                owner: &Owner,
                offset: usize,
                bytes: &Bytes,
            ) -> Result<Progress, StoreError> {
                (**self).save_progress(owner, offset, bytes).await
            }
            async fn complete(
                &self,
                owner: &Owner,
                response: &Arc<StoredResponse>,
                ttl: Duration,
            ) -> Result<Completion, StoreError> {
                (**self).complete(owner, response, ttl).await
            }
            async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
                (**self).release(owners).await
            }
            async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
                (**self).abandon(owners).await
            }
            async fn give_grace(
                &self,
                key: &RecordKey,
                attempt: u32,
                grace: Duration,
                retention: Duration,
            ) -> Result<bool, StoreError> {
                (**self).give_grace(key, attempt, grace, retention).await
            }
            async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
                (**self).get(key).await
            }
            async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
                (**self).remove(key).await
            }
            async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError> {
                (**self).purge_expired(limit).await
            }
            async fn list(
                &self,
                filter: &ListFilter,
                cursor: Option<&ListCursor>,
                limit: usize,
            ) -> Result<Listing, StoreError> {
                (**self).list(filter, cursor, limit).await
            }
            fn subscribe(&self, key: &RecordKey) -> Subscription {
                (**self).subscribe(key)
            }
            fn transactor(&self) -> Option<Transactor> {
                (**self).transactor()
            }
        }
    };
}

delegate!(Arc);
delegate!(Box);

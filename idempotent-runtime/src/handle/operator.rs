//! The operator's part of [`Idempotency`].

use std::ops::ControlFlow;
use std::time::Duration;

use super::Idempotency;
use crate::engine::{CheckValues, Known, is_shared};
use crate::error::{Error, ErrorKind};
use crate::key::{KeySet, RecordKey};
use crate::operation::without_parameter_names;
use crate::operator::{Inspection, Locator, Resolution, Resolved, SecretsCheck, attempts_of};
use crate::record::{Record, RecordState};
use crate::recovery::{Abandoned, Recovery};
use crate::store::{ListCursor, ListFilter, Listing, StoreError};

/// # For operators
///
/// Look at the record of a key, and decide about a key whose request was interrupted. These methods need no router: a
/// separate tool can call them with a handle on the same store, namespace and secret. **With another namespace or
/// secret, the tool cannot find the service's records by key.**
///
/// ```
/// use http::{HeaderMap, StatusCode};
/// use idempotent_runtime::store::memory::MemoryStore;
/// use idempotent_runtime::{
///     Idempotency, Locator, Recovery, RecordState, Resolution, StoredResponse,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), idempotent_runtime::Error> {
/// # let store = MemoryStore::new();
/// let idempotency = Idempotency::builder(store).namespace("shop").build();
/// let payment = Locator::new("POST /payments", "8e03978e").scope("acme");
///
/// if let Some(found) = idempotency.inspect(&payment).await?
///     && matches!(found.state, RecordState::Abandoned)
/// {
///     // The bank's statement says that it was paid.
///     let receipt = StoredResponse::new(StatusCode::CREATED, HeaderMap::new(), "paid");
///     let outcome = idempotency.resolve(&payment, Recovery::Replay(receipt)).await?;
///     assert!(matches!(outcome, Resolution::Resolved));
/// }
/// # Ok(())
/// # }
/// ```
impl Idempotency {
    /// The record of a key, or `None` if there is none. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidLocator`], or [`ErrorKind::Store`] when the store is unavailable or has a
    /// record that cannot be read.
    pub async fn inspect(&self, locator: &Locator) -> Result<Option<Inspection>, Error> {
        let found = self.records(&self.locate(locator)?).await?;
        let known = Known::read(self.engine(), &found).map_err(unread);
        let mut found = found.into_iter();
        let Some((key, record)) = found.next() else {
            return Ok(None);
        };
        let others: Vec<_> = found.map(|(_, record)| record).collect();
        Ok(Some(Inspection {
            record_key: key,
            operation: record.operation.clone(),
            label: record.label.clone(),
            attempt: record.attempt,
            age: record.age,
            expires_in: record.expires_in,
            known,
            others: attempts_of(&others),
            state: record.state,
        }))
    }

    /// Those that there are: several while a secret is rotated.
    async fn records(&self, keys: &KeySet) -> Result<Vec<(RecordKey, Record)>, Error> {
        let mut found = Vec::new();
        for key in keys.iter() {
            if let Some(record) = self.engine().read(key).await.map_err(unread)? {
                found.push((*key, record));
            }
        }
        Ok(found)
    }

    /// Lists records of the store, page by page: for example the abandoned records of an operation.
    /// [`Locator::by_record_key`] then names one of them. Changes nothing.
    ///
    /// A page has at most `limit` records (1 to 1000). It may have fewer, or none, even if another page follows:
    /// continue while there is a [`Listing::next`]. [`Store::list`](crate::store::Store::list) says what a listing
    /// contains if records change meanwhile. The listing covers the whole store: it includes records of other
    /// namespaces and secrets, and for each namespace one completed record of an internal check.
    ///
    /// ```
    /// use idempotent_runtime::store::{ListFilter, RecordStatus};
    /// use idempotent_runtime::{Error, Idempotency};
    ///
    /// async fn report(idempotency: &Idempotency) -> Result<(), Error> {
    ///     let abandoned = ListFilter::new().status(RecordStatus::Abandoned);
    ///     let mut next = None;
    ///     loop {
    ///         let page = idempotency.list(&abandoned, next.as_ref(), 100).await?;
    ///         for record in page.records {
    ///             println!("{} {} {:?}", record.key.to_hex(), record.operation, record.age);
    ///         }
    ///         next = page.next;
    ///         if next.is_none() {
    ///             return Ok(());
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`] when the store is unavailable, cannot list
    /// ([`StoreErrorKind::Unsupported`](crate::store::StoreErrorKind::Unsupported)), or did not make this cursor.
    pub async fn list(
        &self,
        filter: &ListFilter,
        cursor: Option<&ListCursor>,
        limit: usize,
    ) -> Result<Listing, Error> {
        let listed = self.engine().list(filter, cursor, limit).await;
        listed.map_err(|cause| {
            Error::new(ErrorKind::Store, "could not list records").with_source(cause)
        })
    }

    /// Compares the namespace and the secrets of this handle with those of the service's instances, by the check values
    /// that the instances leave in the store
    /// ([`IdempotencyBuilder::secret_check`](crate::IdempotencyBuilder::secret_check)). A tool with another namespace
    /// or other secrets sees other records. Changes nothing, and reveals nothing about a secret.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`] when the store is unavailable.
    pub async fn compare_secrets(&self) -> Result<SecretsCheck, Error> {
        let (key, values) = self.record_keys().check_values();
        let is_shared = is_shared(self.engine(), &CheckValues { key, values }).await;
        Ok(match is_shared.map_err(unread)? {
            Some(true) => SecretsCheck::Shared,
            Some(false) => SecretsCheck::Different,
            None => SecretsCheck::Unknown,
        })
    }

    /// Resolves an **abandoned** key by an operator's decision:
    ///
    /// * [`Recovery::Replay`]: the effect took place, and the key gets this response from now on, at least for the
    ///   handle's TTL ([`IdempotencyBuilder::ttl`](crate::IdempotencyBuilder::ttl)) and for as long as the abandoned
    ///   record would have lived;
    /// * [`Recovery::Retry`]: the effect did not take place. The key is free, and the next request with it runs as a
    ///   first attempt. **Finished steps are forgotten, and run again**: look at [`Inspection::steps`] first. If the
    ///   operation has `key_age = "ttl"` and the key is older than the TTL, requests with it are refused: the client
    ///   needs another key;
    /// * [`Recovery::Unknown`]: nothing changes.
    ///
    /// A running or completed key is never touched. The decision takes over exactly the attempt that this call found
    /// abandoned, in one atomic step, as a retry would. The owner of that attempt first gets a grace period of 2.5 s,
    /// so that an attempt that is alive keeps its claim ([`Resolution::Running`]); a process that pauses for longer
    /// loses its claim. Dropping the future is safe: a decision that has begun is finished in the background.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidLocator`], or [`ErrorKind::Store`]: the decision may have been carried out; look with
    /// [`inspect`](Self::inspect). If it was not, the key is abandoned as before, with a higher attempt number, after
    /// at most 30 s.
    pub async fn resolve(
        &self,
        locator: &Locator,
        recovery: Recovery,
    ) -> Result<Resolution, Error> {
        let keys = self.locate(locator)?;
        match self.abandoned(locator, &keys).await? {
            ControlFlow::Continue(found) => self.carry_out(found, recovery, None).await,
            ControlFlow::Break(otherwise) => Ok(otherwise),
        }
    }

    /// Like [`resolve`](Self::resolve), but a recovery function decides: that of `on_abandoned = path`, or any other.
    /// It is called only if the key is abandoned.
    ///
    /// [`Recovery::Retry`] from a function never discards a finished step: if there is one, nothing changes
    /// ([`Resolution::Undecided`]). The next request with the key continues after its finished steps if the operation
    /// has `on_abandoned = "retry"` or a recovery function.
    ///
    /// ```
    /// use idempotent_runtime::{Abandoned, Error, Idempotency, Locator, Recovery, Resolution};
    ///
    /// async fn look(abandoned: Abandoned) -> Recovery {
    /// #   let _ = abandoned;
    ///     // ...
    ///     Recovery::Unknown
    /// }
    ///
    /// async fn sweep(idempotency: &Idempotency, keys: &[String]) -> Result<(), Error> {
    ///     for key in keys {
    ///         let payment = Locator::new("POST /payments", key);
    ///         let outcome = idempotency.resolve_with(&payment, look).await?;
    ///         println!("{outcome:?}");
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve). Also for a locator by record key, because a recovery function needs the client's
    /// key, and if the finished steps of the attempt cannot be read. The function is not called then.
    pub async fn resolve_with<F, Fut>(
        &self,
        locator: &Locator,
        recover: F,
    ) -> Result<Resolution, Error>
    where
        F: FnOnce(Abandoned) -> Fut,
        Fut: Future<Output = Recovery>,
    {
        let resolved = locator.resolve()?;
        let keys = self.locate(locator)?;
        let found = match self.abandoned(locator, &keys).await? {
            ControlFlow::Continue(found) => found,
            ControlFlow::Break(otherwise) => return Ok(otherwise),
        };
        let Some((key, _)) = found.first() else {
            return Ok(Resolution::NotFound);
        };
        let records = || found.iter().map(|(_, record)| record);
        let known = Known::read(self.engine(), &found).map_err(unread)?;
        let has_steps = !known.steps.is_empty();
        let recovery = recover(Abandoned {
            key: resolved.key,
            record: known.told.unwrap_or(*key),
            operation: without_parameter_names(resolved.operation).into_owned(),
            scope: resolved.scope.map(<[u8]>::to_vec),
            attempt: records().fold(1, |most, it| most.max(it.attempt)),
            age: records().fold(Duration::ZERO, |most, it| most.max(it.age)),
            steps: known.steps,
            extensions: self.extensions().clone(),
        });
        match recovery.await {
            // The function counts on them: in the next attempt they return their results.
            Recovery::Retry if has_steps => Ok(Resolution::Undecided),
            recovery => self.carry_out(found, recovery, None).await,
        }
    }

    /// Removes the record of a key, **whatever its state**, and returns whether there was one. Dangerous: the next
    /// request with this key runs, even if the operation was carried out before or is running at this moment (unless
    /// `key_age` refuses the key as too old). The last resort for a record that cannot be resolved otherwise.
    ///
    /// A handler that is still running is not stopped. It puts its record back at the next renewal of its lease or when
    /// it is done, unless another request has taken the key by then. A claim that got no reply may still reach the
    /// store up to ten minutes later; if the key has no record then, it becomes abandoned. After [`ErrorKind::Store`],
    /// the removal itself may still arrive, and removes the record that is there by then, even a decision. For an
    /// abandoned record use [`resolve`](Self::resolve), which touches no other record.
    ///
    /// While a secret is being rotated, a retry at the same moment can copy the response from a record that is still
    /// there to one that was just removed. Check with [`inspect`](Self::inspect), and call `forget` again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidLocator`], or [`ErrorKind::Store`]: the record may have been removed.
    pub async fn forget(&self, locator: &Locator) -> Result<bool, Error> {
        let mut is_removed = false;
        for key in self.locate(locator)?.iter() {
            is_removed |= self.engine().forget(key).await.map_err(not_removed)?;
        }
        Ok(is_removed)
    }

    /// The records to be decided about (several while a secret is being rotated), or what there is to be
    /// said instead.
    pub(super) async fn abandoned(
        &self,
        locator: &Locator,
        keys: &KeySet,
    ) -> Result<ControlFlow<Resolution, Vec<(RecordKey, Record)>>, Error> {
        let found = self.records(keys).await?;
        let mut abandoned = Vec::new();
        let are_as_seen = locator.are_as_seen(found.iter().map(|(_, record)| record));
        for (key, record) in found {
            match record.state {
                RecordState::Abandoned if !are_as_seen => {
                    return Ok(ControlFlow::Break(Resolution::Changed));
                }
                RecordState::Abandoned => abandoned.push((key, record)),
                RecordState::Running { lease_left } => {
                    return Ok(ControlFlow::Break(Resolution::Running { lease_left }));
                }
                // What was abandoned beside it was answered by it.
                RecordState::Completed(response) => {
                    return Ok(ControlFlow::Break(Resolution::Completed(response)));
                }
            }
        }
        Ok(if abandoned.is_empty() {
            ControlFlow::Break(Resolution::NotFound)
        } else {
            ControlFlow::Continue(abandoned)
        })
    }

    pub(crate) fn locate(&self, locator: &Locator) -> Result<KeySet, Error> {
        if let Some(key) = locator.record_key() {
            return Ok(KeySet::new(key, None));
        }
        let Resolved {
            operation,
            scope,
            key,
        } = locator.resolve()?;
        Ok(self.record_keys().derive(operation, scope, &key))
    }
}

pub(super) fn unread(cause: StoreError) -> Error {
    Error::new(ErrorKind::Store, "could not read a record").with_source(cause)
}

pub(super) fn not_removed(cause: StoreError) -> Error {
    Error::new(ErrorKind::Store, "could not remove a record").with_source(cause)
}

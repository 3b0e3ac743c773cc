//! Decisions with who made them and why: carried out and logged, also when the caller has gone.

use std::ops::ControlFlow;

use super::Idempotency;
use super::operator::{not_removed, unread};
use crate::engine::Detach;
use crate::error::Error;
use crate::key::RecordKey;
use crate::operator::{Locator, Resolution};
use crate::record::{AuditLine, Record};
use crate::recovery::Recovery;
use crate::store::{StoreError, StoreErrorKind};

impl Idempotency {
    /// As [`resolve`](Self::resolve), with who decided and why, for people who ask later.
    ///
    /// The audit line of a decision to replay is kept in the record, beside the response, for as long as the record
    /// ([`StoredResponse::audit`](crate::StoredResponse::audit)). [`Recovery::Retry`] leaves no record that could keep it. Each
    /// decision that was carried out is logged too, with the record key, the operation and the audit line, at level `WARN`.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve).
    pub async fn resolve_as(
        &self,
        locator: &Locator,
        recovery: Recovery,
        audit: &AuditLine,
    ) -> Result<Resolution, Error> {
        let (decision, recovery) = match recovery {
            Recovery::Replay(response) => (
                "replay",
                Recovery::Replay(response.with_audit(audit.clone())),
            ),
            other => ("retry", other),
        };
        let keys = self.locate(locator)?;
        let found = match self.abandoned(locator, &keys).await? {
            ControlFlow::Continue(found) => found,
            ControlFlow::Break(otherwise) => return Ok(otherwise),
        };
        let (handle, audit) = (self.clone(), audit.clone());
        // A decision that is carried out although its operator has gone is logged all the same.
        let resolved = Detach::new(self.engine().tasks(), async move {
            let log = |key: &RecordKey, record: &Record, error: Option<&Error>| {
                let said = match error {
                    None => "an operator resolved an abandoned key",
                    Some(_) => {
                        "an operator's decision about an abandoned key may have been carried out"
                    }
                };
                tracing::warn!(record = %key, operation = &*record.operation, decision, by = audit.by(),
                    reason = audit.reason(), error = error.map(|error| error as &dyn std::error::Error), "{said}");
            };
            let mut resolution = Resolution::NotFound;
            for (key, record) in found {
                let resolved = handle.resolve_one(key, &record, &recovery).await;
                match &resolved {
                    Ok(Resolution::Resolved) => log(&key, &record, None),
                    Ok(_) => {}
                    Err(error) => log(&key, &record, Some(error)),
                }
                resolution = resolved?;
                if !matches!(resolution, Resolution::Resolved) {
                    break;
                }
            }
            Ok(resolution)
        });
        resolved.await
    }

    /// As [`forget`](Self::forget), with who decided and why, which is logged at level `WARN`, with the record key and the
    /// operation (`-` where the record cannot be read): no record is left that could keep it.
    ///
    /// [`Resolution::Resolved`]: it is removed. [`Resolution::NotFound`]: there was no record. [`Resolution::Changed`]: the record
    /// is not the one that was seen ([`Locator::seen`]), and nothing was removed. That is looked at first and is not one step
    /// with the removal: what another process does in between is removed as well. A process that has replayed the response
    /// may do so from its cache for up to 10 s more.
    ///
    /// Dropping the future is safe; what was begun is finished, and logged, in the background.
    ///
    /// # Errors
    ///
    /// As [`forget`](Self::forget).
    pub async fn forget_as(
        &self,
        locator: &Locator,
        audit: &AuditLine,
    ) -> Result<Resolution, Error> {
        let mut found = Vec::new();
        for key in self.locate(locator)?.iter() {
            let record = readable(self.engine().read(key).await).map_err(unread)?;
            let is_as_seen = |it: &Record| locator.is_as_seen(it.attempt, it.age);
            if !record.as_ref().is_none_or(is_as_seen) {
                return Ok(Resolution::Changed);
            }
            found.push((*key, record));
        }
        let (handle, audit) = (self.clone(), audit.clone());
        let removed = Detach::new(self.engine().tasks(), async move {
            let mut resolution = Resolution::NotFound;
            for (key, record) in found {
                let operation = record.as_ref().map_or("-", |it| &*it.operation);
                if handle.forget_one(&key, operation, &audit).await? {
                    resolution = Resolution::Resolved;
                }
            }
            Ok(resolution)
        });
        removed.await
    }

    async fn forget_one(
        &self,
        key: &RecordKey,
        operation: &str,
        audit: &AuditLine,
    ) -> Result<bool, Error> {
        let removed = self.engine().forget(key).await.map_err(not_removed);
        let said = match &removed {
            Ok(true) => "an operator removed a record",
            Ok(false) => return removed,
            Err(_) => "a record that an operator wanted to be removed may have been removed",
        };
        let error = removed.as_ref().err();
        tracing::warn!(record = %key, operation, by = audit.by(), reason = audit.reason(),
            error = error.map(|error| error as &dyn std::error::Error), "{said}");
        removed
    }
}

/// A record that cannot be read can be removed nevertheless.
fn readable(read: Result<Option<Record>, StoreError>) -> Result<Option<Record>, StoreError> {
    match read {
        Err(error) if error.kind() == StoreErrorKind::Corrupt => Ok(None),
        read => read,
    }
}

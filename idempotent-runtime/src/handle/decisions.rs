//! Decisions of operators, with who decided and why: carried out and logged, even if the caller has gone.

use std::ops::ControlFlow;

use super::Idempotency;
use super::operator::{not_removed, unread};
use crate::engine::{Detach, Refusal, resolve};
use crate::error::{Error, ErrorKind};
use crate::key::RecordKey;
use crate::operator::{Locator, Resolution};
use crate::policy::Policy;
use crate::record::{AuditLine, Record};
use crate::recovery::Recovery;
use crate::store::{StoreError, StoreErrorKind};

impl Idempotency {
    /// Like [`resolve`](Self::resolve), and records who decided and why.
    ///
    /// The audit line of a decision to replay is stored in the record, with the response
    /// ([`StoredResponse::audit`](crate::StoredResponse::audit)). [`Recovery::Retry`] leaves no record that could hold
    /// it. Each decision that was carried out is also logged at level `WARN`, with the record key, the operation and
    /// the audit line.
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
        let recovery = match recovery {
            Recovery::Replay(response) => Recovery::Replay(response.with_audit(audit.clone())),
            other => other,
        };
        let keys = self.locate(locator)?;
        let found = match self.abandoned(locator, &keys).await? {
            ControlFlow::Continue(found) => found,
            ControlFlow::Break(otherwise) => return Ok(otherwise),
        };
        self.carry_out(found, recovery, Some(audit.clone())).await
    }

    /// Carries a decision out in each of these records (several while a secret is being rotated), also when the caller has gone.
    ///
    /// It is carried out with the first of them, and until then nothing is changed. A client that retries after that copies it
    /// to the others, or runs: what is not resolved there any more is no reason to say that nothing was changed.
    pub(super) async fn carry_out(
        &self,
        found: Vec<(RecordKey, Record)>,
        recovery: Recovery,
        audit: Option<AuditLine>,
    ) -> Result<Resolution, Error> {
        let handle = self.clone();
        let carried_out = Detach::new(self.engine().tasks(), async move {
            let _running = handle.engine().tasks().token();
            let mut resolution = Resolution::NotFound;
            for (key, record) in found {
                let resolved = handle.resolve_one(key, &record, &recovery).await;
                if let Some(audit) = &audit {
                    log(audit, &recovery, (&key, &record), &resolved);
                }
                match resolved? {
                    Resolution::Resolved => resolution = Resolution::Resolved,
                    _ if matches!(resolution, Resolution::Resolved) => {}
                    otherwise => return Ok(otherwise),
                }
            }
            Ok(resolution)
        });
        carried_out.await
    }

    async fn resolve_one(
        &self,
        key: RecordKey,
        record: &Record,
        recovery: &Recovery,
    ) -> Result<Resolution, Error> {
        // The operation may have a longer one of its own, and until then a client may retry.
        let ttl = Policy::new().ttl_or(self.ttl()).max(record.expires_in);
        let resolved = resolve(self.engine(), key, record, recovery, ttl).await;
        resolved.map_err(|cause| {
            let error = Error::new(ErrorKind::Store, "could not resolve a record");
            match cause {
                Refusal::Store(cause) => error.with_source(cause),
                other => error.with_source(other),
            }
        })
    }

    /// Like [`forget`](Self::forget), and logs who decided and why at level `WARN`, with the record key and the
    /// operation (`-` if the record cannot be read). No record is left that could hold them.
    ///
    /// [`Resolution::Resolved`]: the record is removed. [`Resolution::NotFound`]: there was no record.
    /// [`Resolution::Changed`]: the record is not the one that was seen ([`Locator::seen`]), and nothing was removed.
    /// This check and the removal are not atomic: a change that another process makes in between is removed too. A
    /// process that has replayed the response may replay it from its cache for another 10 s.
    ///
    /// Dropping the future is safe: a removal that has begun is finished, and logged, in the background.
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
            found.push((*key, record));
        }
        if !locator.are_as_seen(found.iter().filter_map(|(_, record)| record.as_ref())) {
            return Ok(Resolution::Changed);
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

/// Tells of a decision that was carried out, or that may have been.
fn log(
    audit: &AuditLine,
    recovery: &Recovery,
    (key, record): (&RecordKey, &Record),
    resolved: &Result<Resolution, Error>,
) {
    let (said, error) = match resolved {
        Ok(Resolution::Resolved) => ("an operator resolved an abandoned key", None),
        Ok(_) => return,
        Err(error) => (
            "an operator's decision about an abandoned key may have been carried out",
            Some(error as &dyn std::error::Error),
        ),
    };
    let decision = match recovery {
        Recovery::Replay(_) => "replay",
        Recovery::Retry | Recovery::Unknown => "retry",
    };
    tracing::warn!(record = %key, operation = &*record.operation, decision, by = audit.by(),
        reason = audit.reason(), error, "{said}");
}

/// A record that cannot be read can be removed nevertheless.
fn readable(read: Result<Option<Record>, StoreError>) -> Result<Option<Record>, StoreError> {
    match read {
        Err(error) if error.kind() == StoreErrorKind::Corrupt => Ok(None),
        read => read,
    }
}

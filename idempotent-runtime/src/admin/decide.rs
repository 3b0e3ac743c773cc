//! `POST /records/{key}/resolve` and `POST /records/{key}/forget`.

use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::draft::{Draft, UNREADABLE};
use super::failure::{Failure, is_corrupt, is_refused};
use super::html;
use super::json::{DecidedJson, RecordJson};
use super::outcome::Outcome;
use super::record::find;
use super::reply::{refuse, reply};
use super::visit::{Named, Visit};
use crate::{AuditLine, Idempotency, Inspection, Locator, RecordKey, Recovery, Resolution};

const UNCHANGED: &str = "Nothing was changed.";

/// A decision may be carried out although the store did not say so.
const UNSURE: &str = "The decision may have been carried out: look at the record again.";

/// Resolves an abandoned record.
pub(super) async fn resolve(
    State(idempotency): State<Idempotency>,
    Path(Named { record_key: key }): Path<Named>,
    visit: Visit,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (draft, key) = match read(&headers, &body, &key) {
        Ok(read) => read,
        Err(failure) => return refuse(&visit, &failure),
    };
    let decision = draft.recovery();
    let decision = decision.and_then(|recovery| Ok((recovery, draft.audit(&visit)?)));
    let (recovery, audit) = match decision {
        Ok(decision) => decision,
        Err(mistake) => return again(&idempotency, &visit, key, &draft, mistake).await,
    };
    match carry_out(&idempotency, key, &draft, recovery, &audit).await {
        Ok(Err(mistake)) => again(&idempotency, &visit, key, &draft, mistake).await,
        Ok(Ok(outcome)) => answer(&idempotency, &visit, key, &outcome).await,
        Err(failure) => refuse(&visit, &failure),
    }
}

/// Removes a record, if it is still the one that the operator has looked at. That is looked at first, and is not one step
/// with the removal.
pub(super) async fn forget(
    State(idempotency): State<Idempotency>,
    Path(Named { record_key: key }): Path<Named>,
    visit: Visit,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (draft, key) = match read(&headers, &body, &key) {
        Ok(read) => read,
        Err(failure) => return refuse(&visit, &failure),
    };
    let mistake = match (draft.decision.as_str(), draft.confirm.as_str()) {
        ("forget", "yes") => draft.audit(&visit),
        _ => Err("Forgetting a record must be confirmed."),
    };
    let audit = match mistake {
        Ok(audit) => audit,
        Err(mistake) => return again(&idempotency, &visit, key, &draft, mistake).await,
    };
    match remove(&idempotency, key, &draft, &audit).await {
        Ok(outcome) => answer(&idempotency, &visit, key, &outcome).await,
        Err(failure) => refuse(&visit, &failure),
    }
}

fn read(headers: &HeaderMap, body: &[u8], key: &str) -> Result<(Draft, RecordKey), Failure> {
    let key = key.parse().map_err(|_| Failure::no_such_page())?;
    Ok((Draft::read(headers, body)?, key))
}

/// The inner error is what is wrong with the decision for this record.
async fn carry_out(
    idempotency: &Idempotency,
    key: RecordKey,
    draft: &Draft,
    recovery: Recovery,
    audit: &AuditLine,
) -> Result<Result<Outcome, &'static str>, Failure> {
    let locator = Locator::by_record_key(key).seen(draft.about()?);
    let found = idempotency.inspect(&locator).await;
    let found = found.map_err(|error| Failure::of_record(&error, key, UNCHANGED))?;
    if let Some(mistake) = found.and_then(|found| draft.misfit(&found.operation)) {
        return Ok(Err(mistake));
    }
    let resolved = idempotency.resolve_as(&locator, recovery, audit).await;
    let resolution = resolved.map_err(|error| Failure::of_store(&error, UNSURE))?;
    Ok(Ok(Outcome::of(&resolution, &draft.decision)))
}

async fn remove(
    idempotency: &Idempotency,
    key: RecordKey,
    draft: &Draft,
    audit: &AuditLine,
) -> Result<Outcome, Failure> {
    let locator = Locator::by_record_key(key);
    let is_unreadable = draft.state == UNREADABLE;
    let locator = match idempotency.inspect(&locator).await {
        Err(error) if is_unreadable && is_corrupt(&error) => locator,
        Err(error) => return Err(Failure::of_record(&error, key, UNCHANGED)),
        Ok(Some(_)) if is_unreadable => return Ok(Outcome::changed()),
        Ok(None) => return Ok(Outcome::of(&Resolution::NotFound, &draft.decision)),
        Ok(Some(found)) => {
            let seen = draft.about()?;
            if draft.state.is_empty() || !draft.is_about(&found) {
                return Ok(Outcome::changed());
            }
            locator.seen(seen)
        }
    };
    let removed = idempotency.forget_as(&locator, audit).await;
    let resolution = removed.map_err(|error| match is_refused(&error) {
        true => Failure::of_store(&error, UNCHANGED),
        false => Failure::of_store(&error, UNSURE),
    })?;
    Ok(match resolution {
        Resolution::Resolved => Outcome::forgotten(),
        otherwise => Outcome::of(&otherwise, &draft.decision),
    })
}

/// Shows what became of it, and the record as it is now.
async fn answer(
    idempotency: &Idempotency,
    visit: &Visit,
    key: RecordKey,
    outcome: &Outcome,
) -> Response {
    let found = idempotency.inspect(&Locator::by_record_key(key)).await;
    // The outcome is known, even if the record is not to be had at this moment.
    let found = found.ok().flatten();
    decided(visit, outcome, found.as_ref())
}

fn decided(visit: &Visit, outcome: &Outcome, found: Option<&Inspection>) -> Response {
    reply(
        visit,
        outcome.status,
        outcome.title,
        || DecidedJson::new(outcome, found),
        || html::outcome(visit, outcome, found),
    )
}

/// Shows the form again, as it was filled in, with what is wrong with it.
async fn again(
    idempotency: &Idempotency,
    visit: &Visit,
    key: RecordKey,
    draft: &Draft,
    mistake: &str,
) -> Response {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let failure = Failure::new(status, "Not carried out", mistake);
    if visit.wants_json {
        return refuse(visit, &failure);
    }
    match find(idempotency, &key.to_hex()).await {
        // What was written was about something else.
        Ok((_, found)) if !draft.is_about(&found) => {
            decided(visit, &Outcome::changed(), Some(&found))
        }
        Ok((_, found)) => reply(
            visit,
            status,
            failure.title,
            || RecordJson::new(&found, false),
            || html::mistake(visit, &found, draft, mistake),
        ),
        Err(failure) => {
            let detail = format!("{mistake} {}", failure.detail);
            refuse(visit, &Failure { detail, ..failure })
        }
    }
}

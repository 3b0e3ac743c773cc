//! `GET /records/{key}` and `POST /records/{key}/reveal`.

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;

use super::draft::Draft;
use super::failure::Failure;
use super::html;
use super::json::RecordJson;
use super::prefix::Prefix;
use super::reply::{redirect, refuse, reply};
use super::visit::{Named, Visit};
use crate::{Idempotency, Inspection, Locator, RecordKey};

pub(super) async fn show(
    State(idempotency): State<Idempotency>,
    Path(Named { record_key: key }): Path<Named>,
    visit: Visit,
) -> Response {
    let Some(prefix) = Prefix::read(&key) else {
        return shown(&idempotency, &visit, &key).await;
    };
    match prefix.only(&idempotency).await {
        Ok(key) if visit.wants_json => shown(&idempotency, &visit, &key.to_hex()).await,
        Ok(key) => redirect(&visit, &key.to_hex()),
        Err(failure) => refuse(&visit, &failure),
    }
}

async fn shown(idempotency: &Idempotency, visit: &Visit, key: &str) -> Response {
    match find(idempotency, key).await {
        Ok((_, found)) => answer(visit, &found, false),
        Err(failure) => refuse(visit, &failure),
    }
}

/// Shows the body and the values of the headers too, and logs to whom.
pub(super) async fn reveal(
    State(idempotency): State<Idempotency>,
    Path(Named { record_key: key }): Path<Named>,
    visit: Visit,
) -> Response {
    match find(&idempotency, &key).await {
        Ok((key, found)) => {
            tracing::warn!(record = %key, operation = &*found.operation, by = &*visit.by,
                "an operator revealed a stored response");
            answer(&visit, &found, true)
        }
        Err(failure) => refuse(&visit, &failure),
    }
}

fn answer(visit: &Visit, found: &Inspection, is_revealed: bool) -> Response {
    reply(
        visit,
        StatusCode::OK,
        &html::title(found),
        || RecordJson::new(found, is_revealed),
        || html::record(visit, found, is_revealed, &Draft::default()),
    )
}

/// The record with this key.
pub(super) async fn find(
    idempotency: &Idempotency,
    key: &str,
) -> Result<(RecordKey, Inspection), Failure> {
    let key = key.parse::<RecordKey>();
    let key = key.map_err(|_| Failure::no_such_page())?;
    let found = idempotency.inspect(&Locator::by_record_key(key)).await;
    let found = found.map_err(|error| Failure::of_record(&error, key, ""))?;
    Ok((key, found.ok_or_else(Failure::no_such_record)?))
}

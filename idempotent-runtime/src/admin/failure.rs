//! Why a request was not answered as it should be.

use std::time::Duration;

use http::StatusCode;

use super::words::duration;
use crate::store::{StoreError, StoreErrorKind};
use crate::{Error, RecordKey};

/// Why a request was not answered.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) title: &'static str,
    pub(super) detail: String,
    /// The record that is there and cannot be read.
    pub(super) unreadable: Option<RecordKey>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            title,
            detail: detail.into(),
            unreadable: None,
        }
    }

    /// About this record.
    pub(super) fn of_record(error: &Error, key: RecordKey, consequence: &str) -> Self {
        Self {
            unreadable: is_corrupt(error).then_some(key),
            ..Self::of_store(error, consequence)
        }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Not understood", detail)
    }

    pub(super) fn no_such_page() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", "There is no such page.")
    }

    pub(super) fn no_such_record() -> Self {
        let detail = "There is no such record: it has never been, it has expired, or it was resolved to be retried. Its key is free.";
        Self::new(StatusCode::NOT_FOUND, "No such record", detail)
    }

    /// The store has not answered for so long.
    pub(super) fn no_answer(waited: Duration) -> Self {
        tracing::warn!(?waited, "the store did not answer the admin page");
        let detail = format!(
            "The store has not answered for {}. What it holds is not known: try again.",
            duration(waited)
        );
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "The store did not answer", detail)
    }

    /// The store's error. Its cause is logged and not shown: it may name servers.
    pub(super) fn of_store(error: &Error, consequence: &str) -> Self {
        tracing::warn!(
            ?error,
            "the admin page could not be answered from the store"
        );
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        let (status, title, cause) = match kind_of(error) {
            Some(StoreErrorKind::Unsupported) => (
                StatusCode::NOT_IMPLEMENTED,
                "Not possible with this store",
                "this store cannot do that; a Redis Cluster lists nothing",
            ),
            Some(StoreErrorKind::Corrupt) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "A record that cannot be read",
                "the record cannot be read",
            ),
            Some(_) => (
                unavailable,
                "The store did not answer",
                "the store cannot be used at the moment",
            ),
            None => (unavailable, "The store did not answer", "see the log"),
        };
        let detail = format!("{} ({cause}). {consequence}", sentence(&error.to_string()));
        Self::new(status, title, detail.trim_end())
    }
}

/// Whether there is a record that cannot be read.
pub(super) fn is_corrupt(error: &Error) -> bool {
    kind_of(error) == Some(StoreErrorKind::Corrupt)
}

/// Whether the store has refused what it was asked for, and has certainly not done it.
pub(super) fn is_refused(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let source = source.and_then(|source| source.downcast_ref::<StoreError>());
    source.is_some_and(|it| it.kind() == StoreErrorKind::Refused && !it.may_have_happened())
}

/// Whether the store cannot do what it was asked for.
pub(super) fn is_unsupported(error: &Error) -> bool {
    kind_of(error) == Some(StoreErrorKind::Unsupported)
}

fn kind_of(error: &Error) -> Option<StoreErrorKind> {
    let source = std::error::Error::source(error)?;
    source.downcast_ref().map(StoreError::kind)
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

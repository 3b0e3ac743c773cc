//! Why a request was not answered as it should be.

use http::StatusCode;

use crate::Error;
use crate::store::{StoreError, StoreErrorKind};

/// Why a request was not answered.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) title: &'static str,
    pub(super) detail: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            title,
            detail: detail.into(),
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

    /// The store's error. Its cause is logged and not shown: it may name servers.
    pub(super) fn of_store(error: &Error, consequence: &str) -> Self {
        tracing::warn!(
            ?error,
            "the admin page could not be answered from the store"
        );
        let source =
            std::error::Error::source(error).and_then(|it| it.downcast_ref::<StoreError>());
        let cause = match source.map(StoreError::kind) {
            Some(StoreErrorKind::Unsupported) => "this store cannot do that",
            Some(StoreErrorKind::Corrupt) => "the record cannot be read",
            Some(_) => "the store cannot be used at the moment",
            None => "see the log",
        };
        let detail = format!("{} ({cause}). {consequence}", sentence(&error.to_string()));
        let title = "The store did not answer";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, title, detail.trim_end())
    }
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

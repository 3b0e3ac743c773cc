//! What a handler can ask and say about its own run.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::Extensions;
use http::request::Parts;
use tokio::time::Instant;

use crate::engine::Held;
use crate::key::RecordKey;

/// An extractor for a handler under `#[idempotent]`: which attempt this is, and how old the record.
///
/// Extractors run before the claim, so the answers are there once the handler runs.
///
/// ```
/// use idempotent_runtime::{Attempt, idempotent};
///
/// #[idempotent(ttl_hours = 24, on_abandoned = "retry")]
/// async fn settle(attempt: Attempt) -> String {
///     if attempt.number() > 1 {
///         // An earlier attempt crashed: look what it has done before doing it again.
///     }
///     format!("attempt {} at {:?}", attempt.number(), attempt.age())
/// }
/// # axum::Router::<idempotent_runtime::Idempotency>::new().route("/", axum::routing::post(settle));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Attempt(Arc<Cell>);

/// What becomes known of a request after its extensions were handed to the extractors.
#[derive(Debug, Default)]
struct Cell {
    run: OnceLock<Run>,
    body_was_read: AtomicBool,
}

#[derive(Debug)]
struct Run {
    record: RecordKey,
    number: u32,
    age: Duration,
    since: Instant,
}

impl Attempt {
    /// 1 for the first attempt of a key, and one more for each that crashed before it. Also 1 where
    /// nothing is protected, see [`is_protected`](Self::is_protected).
    #[must_use]
    pub fn number(&self) -> u32 {
        self.0.run.get().map_or(1, |run| run.number)
    }

    /// The time since the first attempt of this key began.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.0
            .run
            .get()
            .map_or(Duration::ZERO, |run| run.age + run.since.elapsed())
    }

    /// The key of this run's record, to be written beside the effect: a recovery function finds the
    /// effect by it. `None` where nothing is protected, see [`is_protected`](Self::is_protected).
    #[must_use]
    pub fn record_key(&self) -> Option<RecordKey> {
        self.0.run.get().map(|run| run.record)
    }

    /// Whether this run holds a claim. It does not when the request had no key and
    /// `required = false`, when its method is safe, or when the store is away and the application
    /// chose to run unprotected.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.0.run.get().is_some()
    }

    /// The one of this request: the same wherever in its arguments a handler asks for it.
    pub(super) fn of(extensions: &mut Extensions) -> Self {
        extensions.get_or_insert_default::<Self>().clone()
    }

    /// The last argument's extractor has asked for the body.
    pub(super) fn note_body_read(&self) {
        self.0.body_was_read.store(true, Ordering::Relaxed);
    }

    pub(super) fn body_was_read(&self) -> bool {
        self.0.body_was_read.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self, held: &Held) {
        let run = Run {
            record: held.owner().key,
            number: held.attempt(),
            age: held.age(),
            since: Instant::now(),
        };
        // A request has one claim, so this is the first time.
        let _ = self.0.run.set(run);
    }

    /// In a transaction there is no other attempt: what was not committed has not happened.
    pub(super) fn begin_in_transaction(&self, record: Option<RecordKey>) {
        if let Some(record) = record {
            let run = Run {
                record,
                number: 1,
                age: Duration::ZERO,
                since: Instant::now(),
            };
            let _ = self.0.run.set(run);
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Attempt {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&mut parts.extensions))
    }
}

/// A handler's way to say "nothing happened, do not store this": the response goes out, and the key
/// is free for a retry to run again.
///
/// Only right when the handler knows that no effect took place, such as when a card network
/// refused the connection.
///
/// ```
/// use http::StatusCode;
/// use idempotent_runtime::{Release, idempotent};
///
/// #[idempotent(ttl_hours = 24)]
/// async fn book() -> Result<&'static str, Release<StatusCode>> {
///     Err(Release(StatusCode::SERVICE_UNAVAILABLE))
/// }
/// # axum::Router::<idempotent_runtime::Idempotency>::new().route("/", axum::routing::post(book));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Release<R>(pub R);

/// Marks a response that is not to be stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotStored;

impl<R: IntoResponse> IntoResponse for Release<R> {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        response.extensions_mut().insert(NotStored);
        response
    }
}

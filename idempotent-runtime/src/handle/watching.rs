//! The settings of [`IdempotencyBuilder`] that report on requests: to clients, to layers, to observers.

use std::sync::Arc;
use std::time::Duration;

use super::IdempotencyBuilder;
use super::builder::within_bounds;
use crate::observer::Observer;

/// How often abandoned records are looked for if there is an observer.
const ABANDONED_CHECK: Duration = Duration::from_secs(5);

impl IdempotencyBuilder {
    /// Adds an observer, which is told of every request, store call, claim and lease: see
    /// [`observer`](crate::observer). Default: none.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// How often this process looks for abandoned records in the store, whichever process left them. Each new one is
    /// logged at level `WARN` with its record key, operation and label, and observers are told how many there are
    /// ([`Event::AbandonedRecords`](crate::observer::Event::AbandonedRecords)). Zero means never. Default: every 5 s if
    /// there is an [observer](Self::observer), else never.
    ///
    /// The SQL stores have an index for this. Redis scans its whole key space: there, let one instance look, and not
    /// often. Looking never takes more than a hundredth of the time: after a look of one second, the next follows 100 s
    /// later.
    ///
    /// # Panics
    ///
    /// If it is over [ten years](crate::Policy::MAX_DURATION).
    #[track_caller]
    pub fn abandoned_check_interval(mut self, period: Duration) -> Self {
        if !period.is_zero() {
            within_bounds(period);
        }
        self.abandoned_check_interval = Some(period);
        self
    }

    pub(super) fn default_abandoned_check_interval(&self) -> Duration {
        if self.observers.is_empty() {
            Duration::ZERO
        } else {
            ABANDONED_CHECK
        }
    }

    /// Whether responses of protected operations carry an [`Answered`](crate::Answered) as an extension, for layers of the
    /// application: the operation, the outcome, the record key and the attempt. Default `false`. A
    /// [`ProblemCode`](crate::ProblemCode) is an extension of every problem, whatever this says.
    ///
    /// ```
    /// use axum::{Router, extract::Request, middleware::{Next, from_fn}, response::Response};
    /// use idempotent_runtime::Answered;
    ///
    /// async fn log(request: Request, next: Next) -> Response {
    ///     let response = next.run(request).await;
    ///     if let Some(answered) = response.extensions().get::<Answered>() {
    ///         println!("{}: {}", answered.operation, answered.outcome.as_str());
    ///     }
    ///     response
    /// }
    ///
    /// let app: Router = Router::new().layer(from_fn(log));
    /// # drop(app);
    /// ```
    pub fn answered_extension(mut self, is_set: bool) -> Self {
        self.settings.answered_extension = is_set;
        self
    }

    /// Whether answers of protected operations carry `Idempotency-Status`, such as `stored; lifetime=86400`: where the
    /// answer comes from, and for how many seconds a completed response of the operation is replayed. Default `false`.
    ///
    /// | value | the answer |
    /// | --- | --- |
    /// | `stored` | is the handler's, or the problem of a handler that panicked, and is in the record (over `max_response_bytes`, without its body) |
    /// | `pending` | is the handler's, and will be in the record: at the end of a stream, or when the store accepts it |
    /// | `not-stored` | is the handler's or an extractor's, and is not in the record: a retry runs the handler |
    /// | `replayed` | is the stored response |
    /// | `unprotected` | is the handler's, without a key or without a store ([`OnStoreFailure::FailOpen`](crate::OnStoreFailure::FailOpen)) |
    /// | a problem's code | is that [problem](crate::answers) |
    ///
    /// Answers to safe methods have no such header. Clients read from it how long they may retry. A page of another
    /// origin sees the header if you [expose it](crate::browsers).
    pub fn status_header(mut self, is_sent: bool) -> Self {
        self.settings.status_header = is_sent;
        self
    }
}

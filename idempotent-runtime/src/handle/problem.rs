//! Problems: what a client receives instead of a handler's response, as `application/problem+json` (RFC 9457).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, LINK, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::key::InvalidKey;

/// The documentation of the problems, unless the application sets another.
const DOCUMENTATION: &str =
    "https://docs.rs/idempotent-runtime/latest/idempotent_runtime/answers/index.html";

/// The stable code of a problem: clients may rely on it. [`answers`](crate::answers) says what a
/// client does about each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemCode {
    /// 400 `missing-key`: the operation requires a key.
    MissingKey,
    /// 400 `invalid-key`: empty, too long, malformed quoting, sent twice, or with a forbidden character.
    InvalidKey,
    /// 400 `key-expired`: the key is older than a record lives, and whether it was used can no longer be told. Nothing was run.
    KeyExpired,
    /// 422 `key-reused`: the key belongs to another request.
    KeyReused,
    /// 409 `in-flight`: the first request with this key is still running.
    InFlight,
    /// 409 `outcome-unknown`: the first request crashed, and whether it took effect is not known.
    OutcomeUnknown,
    /// The stored status, `response-not-retained`: the request was carried out, but its body could not be stored.
    ResponseNotRetained,
    /// 503 `store-unavailable`: the store is unavailable, refuses or is full. Nothing was run.
    StoreUnavailable,
    /// 503 `shutting-down`: this instance accepts no new work. Nothing was run.
    ShuttingDown,
    /// 503 `overloaded`: too many handlers are still running after their clients disconnected
    /// ([`IdempotencyBuilder::max_background_handlers`](crate::IdempotencyBuilder::max_background_handlers)). Nothing was run.
    Overloaded,
    /// 500 `handler-failed`: the handler panicked, or its response body was interrupted.
    HandlerFailed,
    /// 500 `unusable-input`: a `scope`, `key` or `fingerprint` expression could not be serialized.
    /// Nothing was run.
    UnusableInput,
    /// 501 `unprotected-route`: the request has a key, and the handler, which **has run**, is not protected by it. Only from
    /// [`ForgottenRoutesLayer::refuse`](crate::answers#unprotected-route) (feature `forgotten-routes`).
    UnprotectedRoute,
}

/// A problem, before it is rendered, by the application if it wants to:
///
/// ```
/// use axum::Json;
/// use axum::response::IntoResponse;
/// use idempotent_runtime::{Idempotency, store::memory::MemoryStore};
///
/// let idempotency = Idempotency::builder(MemoryStore::new())
///     .render_problems(|problem| {
///         let body = serde_json::json!({
///             "error": problem.code().as_str(),
///             "message": problem.detail(),
///         });
///         (problem.status(), Json(body)).into_response()
///     })
///     .build();
/// # drop(idempotency);
/// ```
#[derive(Clone, Debug)]
pub struct Problem {
    code: ProblemCode,
    status: StatusCode,
    detail: Cow<'static, str>,
    retry_after: Option<Duration>,
    operation: Option<Arc<str>>,
    /// Where problems are documented, for the application's own renderer.
    documentation: Option<Arc<str>>,
}

/// The application's own renderer for problems.
pub(crate) type Renderer = Arc<dyn Fn(&Problem) -> Response + Send + Sync>;

/// How problems are rendered as responses.
#[derive(Clone)]
pub(crate) struct Problems {
    pub(crate) documentation: Arc<str>,
    pub(crate) renderer: Option<Renderer>,
}

/// The members of RFC 9457, and `code`.
#[derive(Serialize)]
struct Members<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
}

impl ProblemCode {
    /// All codes.
    pub const ALL: &'static [Self] = &[
        Self::MissingKey,
        Self::InvalidKey,
        Self::KeyExpired,
        Self::KeyReused,
        Self::InFlight,
        Self::OutcomeUnknown,
        Self::ResponseNotRetained,
        Self::StoreUnavailable,
        Self::ShuttingDown,
        Self::Overloaded,
        Self::HandlerFailed,
        Self::UnusableInput,
        Self::UnprotectedRoute,
    ];

    /// The code as it appears in the response's `code` member.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingKey => "missing-key",
            Self::InvalidKey => "invalid-key",
            Self::KeyExpired => "key-expired",
            Self::KeyReused => "key-reused",
            Self::InFlight => "in-flight",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::ResponseNotRetained => "response-not-retained",
            Self::StoreUnavailable => "store-unavailable",
            Self::ShuttingDown => "shutting-down",
            Self::Overloaded => "overloaded",
            Self::HandlerFailed => "handler-failed",
            Self::UnusableInput => "unusable-input",
            Self::UnprotectedRoute => "unprotected-route",
        }
    }

    /// The status code; for [`ResponseNotRetained`](Self::ResponseNotRetained) the stored status
    /// replaces it.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::MissingKey | Self::InvalidKey | Self::KeyExpired => StatusCode::BAD_REQUEST,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::InFlight | Self::OutcomeUnknown => StatusCode::CONFLICT,
            Self::ResponseNotRetained => StatusCode::OK,
            Self::StoreUnavailable | Self::ShuttingDown | Self::Overloaded => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::HandlerFailed | Self::UnusableInput => StatusCode::INTERNAL_SERVER_ERROR,
            Self::UnprotectedRoute => StatusCode::NOT_IMPLEMENTED,
        }
    }

    /// A short summary, the same for every occurrence.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::MissingKey => "Idempotency key missing",
            Self::InvalidKey => "Idempotency key invalid",
            Self::KeyExpired => "Idempotency key expired",
            Self::KeyReused => "Idempotency key reused for another request",
            Self::InFlight => "Request still running",
            Self::OutcomeUnknown => "Outcome unknown",
            Self::ResponseNotRetained => "Response not retained",
            Self::StoreUnavailable => "Idempotency store unavailable",
            Self::ShuttingDown => "Service shutting down",
            Self::Overloaded => "Service overloaded",
            Self::HandlerFailed => "Request failed",
            Self::UnusableInput => "Request could not be identified",
            Self::UnprotectedRoute => "Operation not protected by its key",
        }
    }

    const fn detail(self) -> &'static str {
        match self {
            Self::MissingKey => {
                "This operation needs an idempotency key. Make one for each intent, for example a \
                 UUID, and send the same one with every retry."
            }
            Self::InvalidKey => "The idempotency key is invalid.",
            Self::KeyExpired => {
                "The idempotency key is so old that the record of its first request may be gone. Nothing was \
                 done this time. Look at the resource before you try again with a new key."
            }
            Self::KeyReused => {
                "This idempotency key was used with another request. Send the first request \
                 unchanged, or use a new key for a new intent."
            }
            Self::InFlight => {
                "The first request with this idempotency key is still running. Retry with the same \
                 key after the time in Retry-After."
            }
            Self::OutcomeUnknown => {
                "The first request with this idempotency key was interrupted, and whether it \
                 took effect is not known. Look at the resource before you try again with a new key."
            }
            Self::ResponseNotRetained => {
                "The request was carried out before, with this status. Its response body could not be \
                 stored, for example because it was too large."
            }
            Self::StoreUnavailable => {
                "Nothing was done this time, because the idempotency store cannot be used at the \
                 moment. Retry with the same key."
            }
            Self::ShuttingDown => {
                "Nothing was done this time, because this instance is shutting down. Retry with the \
                 same key."
            }
            Self::Overloaded => {
                "Nothing was done this time, because this instance is still busy with requests whose \
                 clients have disconnected. Retry with the same key."
            }
            Self::HandlerFailed => "The request failed unexpectedly. It may have taken effect.",
            Self::UnusableInput => {
                "Nothing was done this time, because the server could not determine what identifies \
                 the request."
            }
            Self::UnprotectedRoute => {
                "The request was carried out, but this operation ignores idempotency keys: a retry would carry it \
                 out again. Look at the resource. The service has to protect this operation."
            }
        }
    }
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Problem {
    pub(crate) fn new(code: ProblemCode) -> Self {
        Self {
            code,
            status: code.status(),
            detail: code.detail().into(),
            retry_after: None,
            operation: None,
            documentation: None,
        }
    }

    /// `header` is where the key was expected; `None` if the key is made from the request itself.
    pub(crate) fn missing_key(header: Option<&str>) -> Self {
        let problem = Self::new(ProblemCode::MissingKey);
        let Some(header) = header else { return problem };
        let detail = format!(
            "This operation needs an idempotency key in the header `{header}`. Make one for each \
             intent, for example a UUID, and send the same one with every retry."
        );
        Self {
            detail: detail.into(),
            ..problem
        }
    }

    pub(crate) fn invalid_key(cause: InvalidKey) -> Self {
        let detail = match cause {
            InvalidKey::Empty => "The idempotency key is empty.",
            InvalidKey::TooLong => "The idempotency key is longer than 255 bytes.",
            InvalidKey::Character => {
                "The idempotency key contains a character that is not allowed. Use visible ASCII without \
                 commas, semicolons and quotes, or a quoted string."
            }
            InvalidKey::Quoting => {
                "The idempotency key is not a well-formed quoted string: it ends with the closing \
                 quote, and \\\" and \\\\ are the only escapes."
            }
            InvalidKey::NotQuoted => {
                "The idempotency key must be a quoted string, as in \"8e03978e-40d5-43dd-bc93\"."
            }
            InvalidKey::Repeated => "The idempotency key was sent more than once.",
            InvalidKey::FromTheFuture => {
                "The time in the idempotency key is more than five minutes ahead of the server's clock."
            }
        };
        Self {
            detail: detail.into(),
            ..Self::new(ProblemCode::InvalidKey)
        }
    }

    /// Rounded up to whole seconds, at least one.
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        let secs = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        self.retry_after = Some(Duration::from_secs(secs.max(1)));
        self
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn of_operation(mut self, operation: &Arc<str>) -> Self {
        self.operation = Some(Arc::clone(operation));
        self
    }

    /// The operation: the handler's `name`, or its method and route. `None` if a handler with `#[tx]` panicked without a key.
    #[must_use]
    pub fn operation(&self) -> Option<&str> {
        self.operation.as_deref()
    }

    /// The response that the client gets if the application does not render it: `application/problem+json` (RFC 9457). For an own
    /// renderer that adds to it, or leaves some problems as they are.
    #[must_use]
    pub fn default_response(&self) -> Response {
        let documentation = self.documentation.as_deref().unwrap_or(DOCUMENTATION);
        render_default(documentation, self)
    }

    /// The code of the problem.
    #[must_use]
    pub fn code(&self) -> ProblemCode {
        self.code
    }

    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// A short summary, the same for every occurrence: [`ProblemCode::title`].
    #[must_use]
    pub fn title(&self) -> &'static str {
        self.code.title()
    }

    /// An explanation for the client's developer, including what to do.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The value for `Retry-After`, in seconds.
    #[must_use]
    pub fn retry_after_secs(&self) -> Option<u64> {
        self.retry_after.map(|after| after.as_secs())
    }
}

impl Problems {
    pub(crate) fn render(&self, problem: &Problem) -> Response {
        let mut response = match &self.renderer {
            Some(renderer) => renderer(&Problem {
                documentation: Some(Arc::clone(&self.documentation)),
                ..problem.clone()
            }),
            None => render_default(&self.documentation, problem),
        };
        response.extensions_mut().insert(problem.code);
        // Not left to the renderer: a client that must wait needs to know for how long.
        if let Some(secs) = problem.retry_after_secs() {
            let headers = response.headers_mut();
            headers
                .entry(RETRY_AFTER)
                .or_insert_with(|| HeaderValue::from(secs));
        }
        response
    }

    pub(crate) fn are_rendered_by_application(&self) -> bool {
        self.renderer.is_some()
    }
}

fn render_default(documentation: &str, problem: &Problem) -> Response {
    let kind = format!("{documentation}#{}", problem.code);
    let body = Members {
        kind: &kind,
        title: problem.code.title(),
        status: problem.status.as_u16(),
        detail: &problem.detail,
        code: problem.code.as_str(),
    };
    // Strings and a number: this always serializes.
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = problem.status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    // RFC 8288: the description of the problem, for the developer of the client.
    if let Ok(link) = HeaderValue::from_str(&format!("<{kind}>; rel=\"describedby\"")) {
        headers.insert(LINK, link);
    }
    response
}

impl Default for Problems {
    fn default() -> Self {
        Self {
            documentation: DOCUMENTATION.into(),
            renderer: None,
        }
    }
}

impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Problems")
            .field("documentation", &self.documentation)
            .field("own_renderer", &self.renderer.is_some())
            .finish()
    }
}

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

pub use self::code::ProblemCode;
use crate::key::InvalidKey;

mod code;

/// The documentation of the problems, unless the application sets another.
const DOCUMENTATION: &str =
    "https://docs.rs/idempotent-runtime/latest/idempotent_runtime/answers/index.html";

/// A problem before it is rendered. The application can render it itself:
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

    pub(crate) fn with_detail(self, detail: &'static str) -> Self {
        Self {
            detail: detail.into(),
            ..self
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
                "The time in the idempotency key is too far ahead of the server's clock."
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

    pub(crate) fn of_operation(mut self, operation: &str) -> Self {
        self.operation = Some(operation.into());
        self
    }

    /// The operation: the handler's `name`, or its method and route. `None` if a handler with `#[tx]` panicked without a key.
    #[must_use]
    pub fn operation(&self) -> Option<&str> {
        self.operation.as_deref()
    }

    /// The response that the client gets by default: `application/problem+json` (RFC 9457). For a renderer that adds to
    /// it, or leaves some problems unchanged.
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

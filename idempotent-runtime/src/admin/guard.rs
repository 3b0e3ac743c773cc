//! What stands before every route: permission, protection against forged forms, and the headers of every response.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::origin::is_own;
use super::permission::{Permission, forbidden};
use super::style::policy;

/// Asks the application who sent a request.
#[derive(Clone)]
pub(super) struct Gate(Arc<Authorise>);

type Authorise = dyn Fn(&Parts) -> Asked + Send + Sync;
type Asked = Pin<Box<dyn Future<Output = Result<String, Response>> + Send>>;

/// The name of the operator who sent this request.
#[derive(Clone)]
pub(super) struct Operator(pub(super) Arc<str>);

impl Gate {
    pub(super) fn new<F, P>(authorise: F) -> Self
    where
        F: Fn(&Parts) -> P + Send + Sync + 'static,
        P: Permission + Send + 'static,
    {
        Self(Arc::new(move |parts| Box::pin(authorise(parts).operator())))
    }

    async fn admit(&self, parts: &Parts) -> Result<Operator, Response> {
        let name = (self.0)(parts).await?;
        if name.trim().is_empty() {
            tracing::error!("an operator without a name is refused");
            return Err(forbidden());
        }
        let is_read_only = matches!(parts.method, Method::GET | Method::HEAD);
        if !is_read_only && !is_own(parts) {
            tracing::warn!(
                by = name,
                "a request to the admin page from another site is refused"
            );
            let message = "this request does not come from the admin page; a program sends `Content-Type: application/json`\n";
            return Err((StatusCode::FORBIDDEN, message).into_response());
        }
        Ok(Operator(name.into()))
    }
}

pub(super) async fn guard(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let admitted = gate.admit(&parts).await;
    let mut response = match admitted {
        Ok(operator) => {
            parts.extensions.insert(operator);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(refusal) => refusal,
    };
    harden(response.headers_mut());
    response
}

/// `same-origin` and not `no-referrer`: with the latter a browser sends `Origin: null` with the page's own forms, and
/// over plain HTTP that is all there is to tell them by. No other site gets a referrer either way.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

fn harden(headers: &mut HeaderMap) {
    headers.extend(HEADERS);
    headers.insert(CONTENT_SECURITY_POLICY, policy());
    headers.append(VARY, HeaderValue::from_static("accept"));
}

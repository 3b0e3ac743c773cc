//! Who may use the page: the application's answer, for each request.

use std::future::Future;
use std::pin::Pin;

use axum::response::{IntoResponse, Response};
use http::StatusCode;

/// The result of `authorise`, which says who sent a request: an operator's name, or a refusal.
///
/// | returned | an operator | a refusal |
/// | --- | --- | --- |
/// | `Option<N>`, where `N: Into<String>` | `Some(name)` | `None`: 403 |
/// | `Result<N, E>`, where `E: IntoResponse` | `Ok(name)` | `Err(response)`: that response, such as a 401 or a redirect |
/// | `Pin<Box<F>>`, where `F` is a future of one of these | | |
///
/// The name is written into the [`AuditLine`](crate::AuditLine) of each decision, and into the log. An empty name is a
/// refusal (403).
///
/// A future cannot borrow the request: read what it needs first.
///
/// ```
/// use axum::Router;
/// use http::{StatusCode, header::AUTHORIZATION, request::Parts};
/// use idempotent_runtime::{Idempotency, admin};
///
/// # async fn name_of(token: &str) -> Result<String, StatusCode> { Ok(token.to_owned()) }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), idempotent_runtime::Error> {
/// let idempotency = Idempotency::connect("memory:").await?;
/// let authorise = |parts: &Parts| {
///     let token = parts.headers.get(AUTHORIZATION).cloned();
///     Box::pin(async move {
///         let token = token.ok_or(StatusCode::UNAUTHORIZED)?;
///         name_of(token.to_str().map_err(|_| StatusCode::BAD_REQUEST)?).await
///     })
/// };
/// let app: Router = Router::new().nest("/admin", admin::router(idempotency, authorise));
/// # Ok(())
/// # }
/// ```
pub trait Permission {
    /// The operator's name, or the response for a request that is refused.
    fn operator(self) -> impl Future<Output = Result<String, Response>> + Send;
}

impl<N: Into<String> + Send> Permission for Option<N> {
    async fn operator(self) -> Result<String, Response> {
        self.map(Into::into).ok_or_else(forbidden)
    }
}

impl<N: Into<String> + Send, E: IntoResponse + Send> Permission for Result<N, E> {
    async fn operator(self) -> Result<String, Response> {
        self.map(Into::into).map_err(IntoResponse::into_response)
    }
}

impl<F> Permission for Pin<Box<F>>
where
    F: Future + Send + ?Sized,
    F::Output: Permission + Send,
{
    async fn operator(self) -> Result<String, Response> {
        self.await.operator().await
    }
}

/// What a request gets that the application refuses without a response of its own.
pub(super) fn forbidden() -> Response {
    (StatusCode::FORBIDDEN, "forbidden\n").into_response()
}

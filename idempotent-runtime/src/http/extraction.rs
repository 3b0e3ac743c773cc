//! The last argument of a handler, which is extracted when it is needed and not before.

use std::any::{TypeId, type_name};
use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::HttpBody;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::Attempt;

/// How the last argument is extracted.
///
/// It stands for two types that the attribute cannot name, the application's state and axum's marker
/// for the two kinds of extractors, and is inferred as they are.
pub trait Extraction<T>: Send + 'static {
    /// Whether a rejection can only be about the content, and never about who asks.
    fn rejects_content_only(&self) -> bool;

    /// Whether it is axum's `Json`, which asks a request for its content and for nothing else.
    fn is_json(&self) -> bool;

    /// Extracts the argument, or says what is answered instead.
    fn extract(self, request: Request) -> impl Future<Output = Result<T, Response>> + Send;
}

/// As axum extracts it.
#[derive(Debug)]
pub struct ByAxum<S, M> {
    state: S,
    marker: PhantomData<fn() -> M>,
}

impl<S: Clone, M> ByAxum<S, M> {
    pub(super) fn with(state: &S) -> Self {
        Self {
            state: state.clone(),
            marker: PhantomData,
        }
    }
}

impl<T, S, M> Extraction<T> for ByAxum<S, M>
where
    T: FromRequest<S, M> + 'static,
    S: Send + Sync + 'static,
    M: 'static,
{
    /// By the type of its rejections: no value of that one says anything else.
    fn rejects_content_only(&self) -> bool {
        TypeId::of::<T::Rejection>() == TypeId::of::<JsonRejection>()
    }

    /// The name of a type proves little. Together with the type of its rejections, whose values only
    /// axum can make, it would take another crate called axum to be wrong.
    fn is_json(&self) -> bool {
        Extraction::<T>::rejects_content_only(self)
            && type_name::<T>().starts_with("axum::json::Json<")
    }

    async fn extract(self, request: Request) -> Result<T, Response> {
        let extracted = T::from_request(request, &self.state).await;
        extracted.map_err(IntoResponse::into_response)
    }
}

/// The buffered body on its way to the extractor, which tells whether it was read.
pub(super) struct Handed {
    bytes: Option<Bytes>,
    attempt: Attempt,
}

impl Handed {
    pub(super) fn new(bytes: Bytes, attempt: Attempt) -> Self {
        let bytes = Some(bytes);
        Self { bytes, attempt }
    }
}

impl HttpBody for Handed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.attempt.note_body_read();
        let bytes = self.bytes.take().filter(|bytes| !bytes.is_empty());
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

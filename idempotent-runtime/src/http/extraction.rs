//! The last argument of a handler, which is extracted when it is needed and not before.

use std::any::{TypeId, type_name};
use std::future::Future;
use std::marker::PhantomData;

use axum::extract::rejection::{
    BytesRejection, FormRejection, JsonRejection, RawFormRejection, StringRejection,
};
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};

/// How the last argument is extracted.
///
/// It stands for two types that the attribute cannot name, the application's state and axum's marker
/// for the two kinds of extractors, and is inferred as they are.
pub trait Extraction<T>: Send + 'static {
    /// Whether a rejection can only be about the content, and never about the caller.
    fn rejects_content_only(&self) -> bool;

    /// Whether it is axum's `Json`, which asks a request for its content and for nothing else.
    fn is_json(&self) -> bool;

    /// Extracts the argument, or says what is answered instead.
    fn extract(self, request: Box<Request>) -> impl Future<Output = Result<T, Response>> + Send;
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
    /// By its own type and that of its rejections: axum's are not about the caller. Any other can be, whatever status it has: a
    /// signature over the body that is wrong is a 400 too. That goes for types that wrap one of these as well.
    fn rejects_content_only(&self) -> bool {
        let name = type_name::<T>();
        let name = name.strip_prefix("core::option::Option<").unwrap_or(name);
        let is_of_axum = name.starts_with("axum::")
            || [
                TypeId::of::<Bytes>(),
                TypeId::of::<BytesMut>(),
                TypeId::of::<String>(),
            ]
            .contains(&TypeId::of::<T>());
        is_of_axum
            && [
                TypeId::of::<JsonRejection>(),
                TypeId::of::<FormRejection>(),
                TypeId::of::<RawFormRejection>(),
                TypeId::of::<BytesRejection>(),
                TypeId::of::<StringRejection>(),
            ]
            .contains(&TypeId::of::<T::Rejection>())
    }

    /// The name of a type proves little. Together with the type of its rejections, whose values only
    /// axum can make, it would take another crate called axum to be wrong.
    fn is_json(&self) -> bool {
        TypeId::of::<T::Rejection>() == TypeId::of::<JsonRejection>()
            && type_name::<T>().starts_with("axum::json::Json<")
    }

    async fn extract(self, request: Box<Request>) -> Result<T, Response> {
        let extracted = T::from_request(*request, &self.state).await;
        extracted.map_err(IntoResponse::into_response)
    }
}

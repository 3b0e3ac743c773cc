//! Reading bodies: most come in one piece, which is taken as it is.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

/// A body of which the first piece was read.
pub(super) enum Begun {
    /// That was all.
    Whole(Bytes),
    /// There may be more, or it has failed: here is all of it, from the beginning.
    Partly(Body),
}

/// Reads the first piece of a body.
pub(super) async fn begin(mut body: Body) -> Begun {
    if body.is_end_stream() {
        return Begun::Whole(Bytes::new());
    }
    let Some(first) = body.frame().await else {
        return Begun::Whole(Bytes::new());
    };
    match first.map(Frame::into_data) {
        Ok(Ok(bytes)) if body.is_end_stream() => Begun::Whole(bytes),
        Ok(Ok(bytes)) => Begun::Partly(again(Ok(Frame::data(bytes)), body)),
        Ok(Err(other)) => Begun::Partly(again(Ok(other), body)),
        Err(error) => Begun::Partly(again(Err(error), body)),
    }
}

/// Reads a body to its end, with its trailers.
pub(super) async fn collect(body: Body) -> Result<(Bytes, Option<HeaderMap>), axum::Error> {
    let body = match begin(body).await {
        Begun::Whole(bytes) => return Ok((bytes, None)),
        Begun::Partly(body) => body,
    };
    // Boxed: few responses have to make room for it.
    let collected = Box::pin(body.collect()).await?;
    let trailers = collected.trailers().cloned();
    Ok((collected.to_bytes(), trailers))
}

/// A body of which something was read already.
pub(super) fn again(first: Result<Frame<Bytes>, axum::Error>, rest: Body) -> Body {
    Body::new(Again {
        first: Some(first),
        rest,
    })
}

struct Again {
    first: Option<Result<Frame<Bytes>, axum::Error>>,
    rest: Body,
}

impl HttpBody for Again {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.first {
            // What is left of a body of exact length is not all of it.
            Some(_) => SizeHint::default(),
            None => self.rest.size_hint(),
        }
    }
}

//! Reading bodies: most come in one piece, which is taken as it is.

use std::panic::{AssertUnwindSafe, catch_unwind};
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
    let first = body.frame().await;
    begun(first, body)
}

/// The same without waiting: what is not there yet is to be read, and so is a body that panics.
pub(super) fn begin_now(mut body: Body, cx: &mut Context<'_>) -> Begun {
    if body.is_end_stream() {
        return Begun::Whole(Bytes::new());
    }
    let frame = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut body).poll_frame(cx)));
    match frame {
        Ok(Poll::Ready(first)) => begun(first, body),
        Ok(Poll::Pending) => Begun::Partly(body),
        // Not to be looked at again, which is what makes the assertion above true.
        Err(_) => Begun::Partly(again(Err(axum::Error::new(Panicked)), Body::empty())),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the response body panicked")]
struct Panicked;

fn begun(first: Option<Result<Frame<Bytes>, axum::Error>>, body: Body) -> Begun {
    match first.map(|first| first.map(Frame::into_data)) {
        None => Begun::Whole(Bytes::new()),
        Some(Ok(Ok(bytes))) if body.is_end_stream() => Begun::Whole(bytes),
        Some(Ok(Ok(bytes))) => Begun::Partly(again(Ok(Frame::data(bytes)), body)),
        Some(Ok(Err(other))) => Begun::Partly(again(Ok(other), body)),
        Some(Err(error)) => Begun::Partly(again(Err(error), body)),
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
        let first = match &self.first {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len) as u64,
            Some(Err(_)) | None => 0,
        };
        let rest = self.rest.size_hint();
        let mut all = SizeHint::new();
        all.set_lower(rest.lower() + first);
        if let Some(upper) = rest.upper() {
            all.set_upper(upper + first);
        }
        all
    }
}

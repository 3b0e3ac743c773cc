//! Reading bodies: most come in one piece, which is taken as it is.

use std::future::{poll_fn, ready};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use axum::BoxError;
use axum::body::{Body, HttpBody};
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full};

use super::source::{ENDED_EARLY, Produced, Source};

/// A body of which the first piece was read.
pub(super) enum FirstFrame {
    /// That was all.
    Whole(Bytes),
    /// There may be more, or it has failed: here is all of it, from the beginning.
    Partly(Body),
}

/// A request's body, or a handler's.
pub(super) trait Readable:
    HttpBody<Data = Bytes, Error = axum::Error> + Send + Unpin + 'static
{
}

impl Readable for Body {}

impl Readable for Source {}

/// Reads the first piece of a body.
pub(super) async fn begin<B: Readable>(mut body: B) -> FirstFrame {
    if body.is_end_stream() {
        return FirstFrame::Whole(Bytes::new());
    }
    let first = body.frame().await;
    first_frame(first, body)
}

fn first_frame(first: Produced, body: impl Readable) -> FirstFrame {
    match first.map(|first| first.map(Frame::into_data)) {
        None if body.is_end_stream() => FirstFrame::Whole(Bytes::new()),
        None => FirstFrame::Partly(once_more(None, body)),
        Some(Ok(Ok(bytes))) if body.is_end_stream() => FirstFrame::Whole(bytes),
        Some(Ok(Ok(bytes))) => FirstFrame::Partly(again(Ok(Frame::data(bytes)), body)),
        Some(Ok(Err(other))) => FirstFrame::Partly(again(Ok(other), body)),
        Some(Err(error)) => FirstFrame::Partly(again(Err(error), body)),
    }
}

/// Reads a handler's body to its end, with its trailers.
pub(super) async fn collect(body: Source) -> Result<(Bytes, Option<HeaderMap>), axum::Error> {
    let body = match begin(body).await {
        FirstFrame::Whole(bytes) => return Ok((bytes, None)),
        FirstFrame::Partly(body) => body,
    };
    // Boxed: few responses have to make room for it.
    let collected = Box::pin(body.collect()).await?;
    let trailers = collected.trailers().cloned();
    Ok((collected.to_bytes(), trailers))
}

/// Reads a request's body whose limit is applied already, with its trailers, and with the rejections of axum's own extractors.
pub(super) async fn read_on(body: Body) -> Result<(Bytes, Option<HeaderMap>), Response> {
    let announced = body.size_hint().lower();
    let trailers = Arc::new(OnceLock::new());
    let seen = Arc::clone(&trailers);
    let body = body.map_err(innermost).map_frame(move |frame| {
        if let Some(trailers) = frame.trailers_ref() {
            let _ = seen.set(trailers.clone());
        }
        frame
    });
    let read = read_by_axum(Body::new(body)).await?;
    // hyper takes an HTTP/2 stream that its client has reset with `NO_ERROR` for one that has ended. It drops the request when
    // that waits for anything, and so before it claims a key.
    yield_once().await;
    if (read.len() as u64) < announced {
        let broken_off = stream::once(ready(Err::<Bytes, _>(ENDED_EARLY)));
        read_by_axum(Body::from_stream(broken_off)).await?;
    }
    Ok((read, trailers.get().cloned()))
}

async fn read_by_axum(body: Body) -> Result<Bytes, Response> {
    let mut carrier = Request::new(body);
    DefaultBodyLimit::disable().apply(&mut carrier);
    let read = Bytes::from_request(carrier, &()).await;
    read.map_err(IntoResponse::into_response)
}

async fn yield_once() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The cause of an error. Each body around another wraps its errors, and axum looks for a limit through
/// two of them only, which is as many as there are without this crate.
fn innermost(error: axum::Error) -> BoxError {
    let mut error: BoxError = error.into();
    loop {
        error = match error.downcast::<axum::Error>() {
            Ok(wrapper) => wrapper.into_inner(),
            Err(cause) => return cause,
        };
    }
}

/// A body that was read.
pub(super) fn whole(body: Bytes, trailers: Option<HeaderMap>) -> Body {
    match trailers {
        None => Body::from(body),
        Some(trailers) => Body::new(Full::new(body).with_trailers(ready(Some(Ok(trailers))))),
    }
}

/// A body of which something was read already.
pub(super) fn again(first: Result<Frame<Bytes>, axum::Error>, rest: impl Readable) -> Body {
    once_more(Some(first), rest)
}

fn once_more(first: Produced, rest: impl Readable) -> Body {
    Body::new(Again {
        first: Some(first),
        rest,
    })
}

struct Again<B> {
    first: Option<Produced>,
    rest: B,
}

impl<B: Readable> HttpBody for Again<B> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Produced> {
        match self.first.take() {
            Some(first) => Poll::Ready(first),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = match &self.first {
            Some(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len) as u64,
            Some(Some(Err(_)) | None) | None => 0,
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    enum Step {
        Data(&'static str),
        Wait,
        Fail,
    }

    /// Does one step at each poll; of an exact length.
    struct Script(VecDeque<Step>);

    impl Script {
        fn body<const N: usize>(steps: [Step; N]) -> Body {
            Body::new(Self(steps.into()))
        }
    }

    impl HttpBody for Script {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            match self.0.pop_front() {
                Some(Step::Data(data)) => Poll::Ready(Some(Ok(Frame::data(Bytes::from(data))))),
                Some(Step::Wait) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Some(Step::Fail) => Poll::Ready(Some(Err(axum::Error::new("broke off")))),
                None => Poll::Ready(None),
            }
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            let length = |step: &Step| match step {
                Step::Data(data) => data.len() as u64,
                Step::Wait | Step::Fail => 0,
            };
            SizeHint::with_exact(self.0.iter().map(length).sum())
        }
    }

    #[tokio::test]
    async fn what_is_there_in_one_piece_is_whole() {
        for body in [Body::from("all"), Script::body([Step::Data("all")])] {
            let FirstFrame::Whole(bytes) = begin(body).await else {
                panic!("it is not whole");
            };
            assert_eq!(bytes, "all");
        }
        assert!(matches!(begin(Body::empty()).await, FirstFrame::Whole(bytes) if bytes.is_empty()));
        assert!(
            matches!(begin(Script::body([])).await, FirstFrame::Whole(bytes) if bytes.is_empty())
        );
    }

    #[tokio::test]
    async fn nothing_is_lost_of_what_is_not() {
        let scripts = [
            Script::body([Step::Data("all of "), Step::Data("it")]),
            Script::body([Step::Wait, Step::Data("all of "), Step::Data("it")]),
            Script::body([Step::Data("all "), Step::Wait, Step::Data("of it")]),
            Script::body([Step::Data("all of it"), Step::Wait]),
        ];
        for body in scripts {
            let FirstFrame::Partly(body) = begin(body).await else {
                panic!("it is whole");
            };
            assert_eq!(body.size_hint().exact(), Some(9));
            let mut body = Source::new(body);
            body.measure(&HeaderMap::new()).unwrap();
            let (bytes, trailers) = collect(body).await.unwrap();
            assert_eq!((bytes, trailers), (Bytes::from("all of it"), None));
        }
    }

    #[tokio::test]
    async fn body_that_fails_is_an_error_later() {
        let scripts = [
            Script::body([Step::Fail]),
            Script::body([Step::Data("half of "), Step::Fail]),
        ];
        for body in scripts {
            let FirstFrame::Partly(body) = begin(body).await else {
                panic!("it is whole");
            };
            assert!(collect(Source::new(body)).await.is_err());
        }
    }
}

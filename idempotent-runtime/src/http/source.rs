//! The body that a handler answers with: code of the application, which may panic wherever it is called, and need not say that it
//! has ended.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::unwind::caught;

/// How long a body that has produced its length may take for its trailers, or to say that it has ended. Over HTTP/1.1 a server sends
/// no more of it and asks no more; over HTTP/2 it waits.
const GRACE: Duration = Duration::from_secs(1);

pub(super) const ENDED_EARLY: &str = "the body ended before its announced length";

/// What a body has produced; `None` is its end.
pub(super) type Produced = Option<Result<Frame<Bytes>, axum::Error>>;

/// A handler's body, out of which no panic gets. One that has panicked, in whichever of its functions, has broken off: it fails
/// once, and is not looked at again.
///
/// Of a known length it has ended when it has produced that and nothing more for a [while](GRACE). One that ends before that has
/// broken off too.
pub(super) struct Source {
    body: Body,
    /// How much of its length it has yet to produce.
    left: Option<u64>,
    /// Until when its trailers are waited for, since it has produced its length.
    grace: Option<Pin<Box<Sleep>>>,
    health: Cell<Health>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Sound,
    /// It runs, or has panicked.
    Broken,
    /// It has failed for that, or because it ended early.
    Failed,
}

impl Source {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            left: None,
            grace: None,
            health: Cell::new(Health::Sound),
        }
    }

    /// Takes the body of a response. What is not sent is not read either.
    pub(super) fn of(response: &mut Response) -> Self {
        let source = Self::new(std::mem::take(response.body_mut()));
        match is_bodyless(response.status()) {
            true => Self::new(Body::empty()),
            false => source,
        }
    }

    /// What it says of its length. Where that is not exact, its length is what the headers announce.
    pub(super) fn measure(&mut self, headers: &HeaderMap) -> Result<SizeHint, axum::Error> {
        let length = guarded(&self.health, || self.body.size_hint()).ok_or_else(panicked)?;
        self.left = length.exact().or_else(|| announced_length(headers));
        Ok(length)
    }

    /// How much of its length it has yet to produce, if that is known.
    pub(super) fn left(&self) -> Option<u64> {
        self.left
    }

    fn count(&mut self, poll: Poll<Produced>, cx: &mut Context<'_>) -> Poll<Produced> {
        match &poll {
            Poll::Pending if self.left == Some(0) => {
                let grace = self.grace.get_or_insert_with(|| Box::pin(sleep(GRACE)));
                return grace.as_mut().poll(cx).map(|()| None);
            }
            Poll::Ready(None) if self.left.is_some_and(|left| left > 0) => {
                self.health.set(Health::Failed);
                return Poll::Ready(Some(Err(axum::Error::new(ENDED_EARLY))));
            }
            Poll::Ready(Some(Ok(frame))) => {
                let produced = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.left = self.left.map(|left| left.saturating_sub(produced));
            }
            Poll::Pending | Poll::Ready(_) => {}
        }
        poll
    }

    /// It has panicked: an error, and then the end.
    fn fail(&self) -> Produced {
        match self.health.replace(Health::Failed) {
            Health::Failed => None,
            Health::Sound | Health::Broken => Some(Err(panicked())),
        }
    }
}

impl HttpBody for Source {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Produced> {
        let this = self.get_mut();
        match guarded(&this.health, || Pin::new(&mut this.body).poll_frame(cx)) {
            Some(poll) => this.count(poll, cx),
            None => Poll::Ready(this.fail()),
        }
    }

    fn is_end_stream(&self) -> bool {
        guarded(&self.health, || self.body.is_end_stream())
            .unwrap_or(self.health.get() == Health::Failed)
    }

    fn size_hint(&self) -> SizeHint {
        guarded(&self.health, || self.body.size_hint()).unwrap_or_default()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let body = std::mem::take(&mut self.body);
        // The panic hook has told of it, and nothing depends on it.
        drop(caught(|| drop(body)));
    }
}

/// Statuses that are never followed by a body.
pub(super) fn is_bodyless(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
    )
}

/// Runs code of a body that is sound. It is broken until that has returned, and not looked at again if that panics, which is what
/// makes the assertion true.
fn guarded<T>(health: &Cell<Health>, code: impl FnOnce() -> T) -> Option<T> {
    if health.get() != Health::Sound {
        return None;
    }
    health.set(Health::Broken);
    let returned = caught(code).ok()?;
    health.set(Health::Sound);
    Some(returned)
}

/// The length that the handler says its body has, where the body itself does not know.
fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn panicked() -> axum::Error {
    axum::Error::new("the response body panicked")
}

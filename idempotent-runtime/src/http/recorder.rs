//! A response body of unknown length, passed on as it is produced and recorded on the way.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio_util::task::TaskTracker;

use crate::engine::{Held, Mover};
use crate::record::StoredResponse;

type Completing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Lets the end of the stream through only after the response is stored, so that a client that has
/// seen the end can rely on it.
///
/// Beyond the limit the record becomes a tombstone at once, and the rest just passes. If the
/// client goes away before the end, the rest is read in the background and stored.
pub(super) struct Recorder {
    inner: Body,
    state: State,
    limit: usize,
    mover: Mover,
    /// It was moved to the background, and is not moved again: not when that runtime ends either.
    is_moved: bool,
}

enum State {
    Recording(Box<Recording>),
    /// The claim is being completed; what is held back goes out afterwards.
    Completing(Completing, Option<Result<Frame<Bytes>, axum::Error>>),
    /// The record is settled.
    Passing,
}

struct Recording {
    held: Held,
    stored: StoredResponse,
    kept: BytesMut,
}

impl Recorder {
    pub(super) fn new(
        inner: Body,
        held: Held,
        stored: StoredResponse,
        limit: usize,
        tasks: &TaskTracker,
    ) -> Self {
        let recording = Recording {
            held,
            stored,
            kept: BytesMut::new(),
        };
        let state = State::Recording(Box::new(recording));
        Self {
            inner,
            state,
            limit,
            mover: Mover::new(tasks),
            is_moved: false,
        }
    }

    /// Looks at what the body produced: `Some` when the record can be settled now.
    fn record(&mut self, frame: Option<&Result<Frame<Bytes>, axum::Error>>) -> Option<Completing> {
        let State::Recording(recording) = &mut self.state else {
            return None;
        };
        let is_whole = match frame {
            Some(Ok(frame)) => {
                let data = frame.data_ref().map_or(&[][..], |data| data);
                if recording.kept.len() + data.len() <= self.limit {
                    recording.kept.extend_from_slice(data);
                    return None;
                }
                false
            }
            Some(Err(error)) => {
                let record = recording.held.owner().key;
                tracing::error!(%record, %error, "response body broke off");
                false
            }
            None => true,
        };
        match std::mem::replace(&mut self.state, State::Passing) {
            State::Recording(recording) => Some(Box::pin(recording.settle(is_whole))),
            State::Completing(..) | State::Passing => None,
        }
    }
}

impl Recording {
    async fn settle(self, is_whole: bool) {
        let Self {
            held,
            mut stored,
            kept,
        } = self;
        stored.body = is_whole.then(|| kept.freeze());
        // The status line is out: whatever the answer should be by now, it cannot be changed.
        held.complete(Arc::new(stored)).await;
    }
}

impl HttpBody for Recorder {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            match &mut self.state {
                State::Passing => return Pin::new(&mut self.inner).poll_frame(cx),
                State::Completing(completing, held_back) => {
                    ready!(completing.as_mut().poll(cx));
                    let frame = held_back.take();
                    self.state = State::Passing;
                    return Poll::Ready(frame);
                }
                State::Recording(_) => {
                    let frame = ready!(poll_guarded(&mut self.inner, cx));
                    match self.record(frame.as_ref()) {
                        Some(completing) => self.state = State::Completing(completing, frame),
                        None => return Poll::Ready(frame),
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // While recording, the end has to be polled for: it is where the record is stored.
        matches!(self.state, State::Passing) && self.inner.is_end_stream()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.is_moved || matches!(self.state, State::Passing) {
            return;
        }
        let rest = Self {
            inner: std::mem::take(&mut self.inner),
            state: std::mem::replace(&mut self.state, State::Passing),
            limit: self.limit,
            mover: self.mover.clone(),
            is_moved: true,
        };
        self.mover.spawn(rest.finish());
    }
}

/// A body that panics has broken off.
fn poll_guarded(
    body: &mut Body,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
    match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *body).poll_frame(cx))) {
        Ok(poll) => poll,
        Err(_) => {
            // Not to be looked at again, which is what makes the assertion above true.
            *body = Body::empty();
            Poll::Ready(Some(Err(axum::Error::new("the response body panicked"))))
        }
    }
}

impl Recorder {
    /// Reads on until the record is settled.
    async fn finish(mut self) {
        while !matches!(self.state, State::Passing) {
            if self.frame().await.is_none() {
                break;
            }
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

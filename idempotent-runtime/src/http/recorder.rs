//! A response body of unknown length, passed on as it is produced and recorded on the way.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::source::{Produced, Source};
use super::stored::stored_trailers;
use crate::engine::{ClaimGuard, Mover};
use crate::handle::Idempotency;
use crate::record::StoredResponse;

type Completing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Lets the end of the stream through only after the response is stored, so that a client that has
/// seen the end can rely on it. Trailers are an end, and so is the last byte of a length that the
/// handler has announced.
///
/// Beyond the limit the record becomes a tombstone at once, and the rest just passes. If the
/// client goes away before the end, the rest is read in the background and stored.
pub(super) struct Recorder {
    tape: Tape,
    mover: Mover,
}

/// A body, and what is recorded of it. Unlike the [`Recorder`] it may be dropped anywhere: that it
/// does not move itself is what lets a runtime end.
struct Tape {
    inner: Source,
    state: State,
    /// What goes out when the record is completed.
    held_back: VecDeque<Produced>,
}

enum State {
    Recording(Box<Recording>),
    /// The claim is being completed.
    Completing(Completing),
    /// The record is completed.
    Passing,
}

/// What will be stored.
pub(super) struct Recording {
    pub(super) held: Box<ClaimGuard>,
    /// Whose rules say what of the trailers is stored.
    pub(super) idempotency: Idempotency,
    /// The head of the response.
    pub(super) stored: StoredResponse,
    /// The most bytes of a body that are recorded.
    pub(super) limit: usize,
    /// The length that the client has been told.
    pub(super) announced: Option<u64>,
    pub(super) recorded: BytesMut,
    /// What will be stored of the trailers, which come last.
    pub(super) trailers: HeaderMap,
}

/// What becomes of something that a body has produced.
enum Verdict {
    Pass,
    /// The client must not see it before the response is stored, but there is more to come.
    HoldBack,
    /// The record can be completed: nothing more is recorded.
    Complete {
        is_whole: bool,
    },
}

impl Recorder {
    pub(super) fn new(inner: Source, recording: Recording, mover: Mover) -> Self {
        Self {
            tape: Tape {
                inner,
                state: State::Recording(Box::new(recording)),
                held_back: VecDeque::new(),
            },
            mover,
        }
    }
}

impl HttpBody for Recorder {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Produced> {
        self.tape.poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        // While recording, the end has to be polled for: it is where the record is stored.
        self.tape.is_complete() && self.tape.held_back.is_empty() && self.tape.inner.is_end_stream()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.tape.is_complete() {
            return;
        }
        let rest = std::mem::replace(&mut self.tape, Tape::blank());
        self.mover.spawn(rest.finish());
    }
}

impl Tape {
    fn blank() -> Self {
        Self {
            inner: Source::new(Body::empty()),
            state: State::Passing,
            held_back: VecDeque::new(),
        }
    }

    fn is_complete(&self) -> bool {
        matches!(self.state, State::Passing)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Produced> {
        loop {
            match &mut self.state {
                State::Passing => {
                    return match self.held_back.pop_front() {
                        Some(produced) => Poll::Ready(produced),
                        None => Pin::new(&mut self.inner).poll_frame(cx),
                    };
                }
                State::Completing(completing) => {
                    ready!(completing.as_mut().poll(cx));
                    self.state = State::Passing;
                }
                State::Recording(recording) => {
                    let produced = ready!(Pin::new(&mut self.inner).poll_frame(cx));
                    match recording.record(&produced) {
                        Verdict::Pass => return Poll::Ready(produced),
                        Verdict::HoldBack => self.held_back.push_back(produced),
                        Verdict::Complete { is_whole } => {
                            self.held_back.push_back(produced);
                            self.complete(is_whole);
                        }
                    }
                }
            }
        }
    }

    fn complete(&mut self, is_whole: bool) {
        if let State::Recording(recording) = std::mem::replace(&mut self.state, State::Passing) {
            self.state = State::Completing(Box::pin(recording.complete(is_whole)));
        }
    }

    /// Reads on until the record is completed.
    async fn finish(mut self) {
        while !self.is_complete() {
            std::future::poll_fn(|cx| self.poll(cx)).await;
        }
    }
}

impl Recording {
    fn record(&mut self, produced: &Produced) -> Verdict {
        let frame = match produced {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                let record = self.held.owner().key;
                tracing::error!(%record, %error, "response body broke off");
                return Verdict::Complete { is_whole: false };
            }
            None => {
                let is_whole = self.has_announced_length();
                if !is_whole {
                    let record = self.held.owner().key;
                    tracing::error!(%record, "response body ended before its announced length");
                }
                return Verdict::Complete { is_whole };
            }
        };
        let Some(data) = frame.data_ref() else {
            self.trailers = stored_trailers(&self.idempotency, frame.trailers_ref());
            return Verdict::Complete {
                is_whole: frame.is_trailers() && self.has_announced_length(),
            };
        };
        if self.recorded.len() + data.len() > self.limit {
            return Verdict::Complete { is_whole: false };
        }
        self.recorded.extend_from_slice(data);
        match self.announced {
            Some(length) if self.recorded.len() as u64 >= length => Verdict::HoldBack,
            Some(_) | None => Verdict::Pass,
        }
    }

    /// Whether as much was recorded as the client has been told, if it has been told how much there will be.
    fn has_announced_length(&self) -> bool {
        let recorded = self.recorded.len() as u64;
        self.announced.is_none_or(|length| length == recorded)
    }

    async fn complete(self, is_whole: bool) {
        let Self {
            held,
            mut stored,
            recorded,
            trailers,
            ..
        } = self;
        // A copy, because there is room for more in what it was collected in.
        if is_whole {
            stored.body = Some(Bytes::copy_from_slice(&recorded));
            stored = stored.with_trailers(trailers);
        }
        // The status line is out: whatever the answer should be by now, it cannot be changed.
        held.store_own(Arc::new(stored)).await;
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("is_complete", &self.tape.is_complete())
            .finish_non_exhaustive()
    }
}

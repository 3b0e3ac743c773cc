//! A response body of unknown length, and what is recorded of it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::HttpBody;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

use super::source::{Produced, Source};
use super::stored::stored_trailers;
use crate::engine::ClaimGuard;
use crate::handle::Idempotency;
use crate::record::StoredResponse;
use crate::unwind::text_of;

type Completing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A body that is recorded as it is polled: by the client, or in its place by what [reads on](Self::read_on).
///
/// It may be dropped anywhere: that it does not move itself is what lets a runtime end.
pub(super) struct Tape {
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
    /// How much of what is recorded the client has been given. Less than that is there where it was read without the client.
    pub(super) given: usize,
    /// What will be stored of the trailers, which come last.
    pub(super) trailers: HeaderMap,
}

/// What becomes of something that a body has produced.
enum Verdict {
    Pass,
    /// It is recorded, and the client must not see it before the response is stored.
    HoldBack,
    /// The record can be completed: nothing more is recorded.
    Complete {
        is_whole: bool,
    },
}

impl Tape {
    pub(super) fn new(inner: Source, recording: Recording) -> Self {
        Self {
            inner,
            state: State::Recording(Box::new(recording)),
            held_back: VecDeque::new(),
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        matches!(self.state, State::Passing)
    }

    pub(super) fn has_ended(&self) -> bool {
        // While recording, the end has to be polled for: it is where the record is stored.
        self.is_complete() && self.held_back.is_empty() && self.inner.is_end_stream()
    }

    /// What the client gets next.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Produced> {
        loop {
            match &mut self.state {
                State::Passing => {
                    return match self.held_back.pop_front() {
                        Some(produced) => Poll::Ready(produced),
                        None => Pin::new(&mut self.inner).poll_frame(cx),
                    };
                }
                State::Recording(recording) if recording.is_behind() => {
                    return Poll::Ready(recording.unread());
                }
                State::Recording(_) | State::Completing(_) => {
                    if let Some(produced) = ready!(self.advance(cx)) {
                        self.gave_all();
                        return Poll::Ready(produced);
                    }
                }
            }
        }
    }

    /// Goes on by one step without the client, for which what is read is kept in the record.
    pub(super) fn read_on(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.advance(cx).map(drop)
    }

    /// Reads on until the record is completed, for a client that is gone.
    pub(super) async fn finish(mut self) {
        while !self.is_complete() {
            std::future::poll_fn(|cx| self.poll(cx)).await;
        }
    }

    /// One step towards a completed record, and what has been recorded in it that the client may see at once.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Option<Produced>> {
        match &mut self.state {
            State::Passing => {}
            State::Completing(completing) => {
                ready!(completing.as_mut().poll(cx));
                self.state = State::Passing;
            }
            State::Recording(recording) => {
                recording.held.outlive_its_runtime();
                let produced = ready!(Pin::new(&mut self.inner).poll_frame(cx));
                match recording.record(&produced) {
                    Verdict::Pass => return Poll::Ready(Some(produced)),
                    Verdict::HoldBack => {}
                    Verdict::Complete { is_whole } => self.complete(is_whole, produced),
                }
            }
        }
        Poll::Ready(None)
    }

    fn complete(&mut self, is_whole: bool, last: Produced) {
        if let State::Recording(mut recording) = std::mem::replace(&mut self.state, State::Passing)
        {
            self.held_back.extend(recording.unread().map(Some));
            self.held_back.push_back(last);
            self.state = State::Completing(Box::pin(recording.complete(is_whole)));
        }
    }

    fn gave_all(&mut self) {
        if let State::Recording(recording) = &mut self.state {
            recording.given = recording.recorded.len();
        }
    }
}

impl Recording {
    fn record(&mut self, produced: &Produced) -> Verdict {
        let frame = match produced {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                let record = self.held.owner().key;
                tracing::error!(%record, error = text_of(error), "response body failed");
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
        match self.is_all_there() {
            true => Verdict::HoldBack,
            false => Verdict::Pass,
        }
    }

    /// Whether at least as much was recorded as the client has been told that there will be.
    fn is_all_there(&self) -> bool {
        let recorded = self.recorded.len() as u64;
        self.announced.is_some_and(|length| recorded >= length)
    }

    /// Whether as much was recorded as the client has been told, if it has been told how much there will be.
    fn has_announced_length(&self) -> bool {
        let recorded = self.recorded.len() as u64;
        self.announced.is_none_or(|length| length == recorded)
    }

    /// Whether something was read without the client that it may see.
    fn is_behind(&self) -> bool {
        self.given < self.recorded.len() && !self.is_all_there()
    }

    /// What is recorded and the client has not been given.
    fn unread(&mut self) -> Produced {
        let unread = self.recorded.get(self.given..)?;
        self.given = self.recorded.len();
        (!unread.is_empty()).then(|| Ok(Frame::data(Bytes::copy_from_slice(unread))))
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

//! A response body of unknown length, passed on as it is produced and recorded on the way.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::HttpBody;
use bytes::Bytes;
use tokio::task::AbortHandle;
use tokio::task::coop::consume_budget;
use tokio::time::{sleep, timeout};

use super::source::Produced;
use super::tape::Tape;
use crate::engine::Mover;

/// How long a client may read nothing before its response is recorded without it. A key is in flight meanwhile, so this is less than
/// a client waits before it retries. It need not be much more than a pause of a slow network: reading ahead takes no more memory than
/// the record does anyway.
const PATIENCE: Duration = Duration::from_secs(2);

/// Lets the end of the stream through only after the response is stored, so that a client that has
/// seen the end can rely on it. Trailers are an end, and so is the last byte of a length that the
/// handler has announced.
///
/// Beyond the limit the record becomes a tombstone at once, and the rest just passes. If the
/// client goes away before the end, or reads no more, the rest is read in the background and stored.
/// One that reads again is given all of it.
pub(super) struct Recorder {
    desk: Arc<Mutex<Desk>>,
    /// The task that looks whether the client reads.
    watch: Option<AbortHandle>,
    mover: Mover,
}

/// Where the client reads, and the watch in its place.
struct Desk {
    /// Gone with the recorder.
    tape: Option<Tape>,
    /// Whether the client has read since the last look.
    is_read: bool,
    /// Wakes a client that waits for more.
    reader: Option<Waker>,
}

/// What the watch finds.
enum Finding {
    Reads,
    ReadsNothing,
    /// The record is completed, or the client is gone.
    Done,
}

impl Recorder {
    pub(super) fn new(tape: Tape, mover: Mover) -> Self {
        let desk = Arc::new(Mutex::new(Desk {
            tape: Some(tape),
            is_read: true,
            reader: None,
        }));
        Self {
            watch: mover.beside(watch(Arc::clone(&desk))),
            desk,
            mover,
        }
    }
}

impl HttpBody for Recorder {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Produced> {
        let mut desk = lock(&self.desk);
        desk.is_read = true;
        let poll = match &mut desk.tape {
            Some(tape) => tape.poll(cx),
            None => Poll::Ready(None),
        };
        desk.reader = poll.is_pending().then(|| cx.waker().clone());
        poll
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.desk).tape.as_ref().is_none_or(Tape::has_ended)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
        let tape = lock(&self.desk).tape.take();
        if let Some(rest) = tape.filter(|tape| !tape.is_complete()) {
            self.mover.spawn(rest.finish());
        }
    }
}

/// Reads on for a client that reads nothing, until it does or the record is completed.
async fn watch(desk: Arc<Mutex<Desk>>) {
    sleep(PATIENCE).await;
    loop {
        match look(&desk) {
            Finding::Reads => sleep(PATIENCE).await,
            // Where the client has read in between, it is the one that the body wakes.
            Finding::ReadsNothing => drop(timeout(PATIENCE, read_on(&desk)).await),
            Finding::Done => return,
        }
    }
}

/// A client that waits for more has nothing to read. It is woken, so that it has read at the next look if it still does: only then may
/// the body wake another one in its place.
fn look(desk: &Mutex<Desk>) -> Finding {
    let mut desk = lock(desk);
    let finding = match std::mem::take(&mut desk.is_read) {
        _ if desk.is_done() => Finding::Done,
        true => Finding::Reads,
        false => Finding::ReadsNothing,
    };
    let reader = desk.reader.take();
    drop(desk);
    if let Some(reader) = reader {
        reader.wake();
    }
    finding
}

/// Until the client reads again: from then on it is the one that the body wakes.
async fn read_on(desk: &Mutex<Desk>) {
    while std::future::poll_fn(|cx| lock(desk).read_on(cx)).await {
        consume_budget().await;
    }
}

impl Desk {
    fn is_done(&self) -> bool {
        self.tape.as_ref().is_none_or(Tape::is_complete)
    }

    /// One step, and whether there is another.
    fn read_on(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match &mut self.tape {
            Some(tape) if !self.is_read && !tape.is_complete() => tape.read_on(cx).map(|()| true),
            _ => Poll::Ready(false),
        }
    }
}

/// No panic of a body gets out of it: see [`Source`](super::source::Source).
fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("is_done", &lock(&self.desk).is_done())
            .finish_non_exhaustive()
    }
}

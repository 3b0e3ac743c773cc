//! Work that outlives whoever asked for it.
//!
//! A server drops a handler's future when its client goes away: on close, on half-close, on an
//! HTTP/2 reset, under a time-out layer. A payment that is dropped between the charge and the
//! record is charged again by the retry. So the future is run in place, where it costs nothing,
//! and when it is dropped half-way its rest moves to a task.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

/// A future that is finished in the background if it is dropped after it was begun.
///
/// Its output is dropped there; what must not be lost has to happen inside it, or in its output's
/// `Drop`.
pub(crate) struct Detach<T: Send + 'static> {
    future: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    progress: Progress,
    mover: Mover,
}

#[derive(Debug, PartialEq, Eq)]
enum Progress {
    NotBegun,
    /// Being polled; found in a drop, it says that the poll has panicked.
    Polling,
    Waiting,
}

/// Moves work to a task.
#[derive(Clone)]
pub(crate) struct Mover {
    tasks: TaskTracker,
    runtime: Option<Handle>,
    span: Span,
}

impl Mover {
    /// Moves to the runtime and the span that this is called in.
    pub(crate) fn new(tasks: &TaskTracker) -> Self {
        let runtime = Handle::try_current().ok();
        Self {
            tasks: tasks.clone(),
            runtime,
            span: Span::current(),
        }
    }

    pub(crate) fn spawn(&self, rest: impl Future<Output = ()> + Send + 'static) {
        // Without a runtime nothing can go on; the lease will tell.
        if let Some(runtime) = Handle::try_current().ok().or_else(|| self.runtime.clone()) {
            tracing::debug!(parent: &self.span, "caller went away, going on in the background");
            self.tasks
                .spawn_on(rest.instrument(self.span.clone()), &runtime);
        }
    }
}

impl<T: Send + 'static> Detach<T> {
    pub(crate) fn new(
        tasks: &TaskTracker,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        Self {
            future: Some(Box::pin(future)),
            progress: Progress::NotBegun,
            mover: Mover::new(tasks),
        }
    }
}

impl<T: Send + 'static> Future for Detach<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.progress = Progress::Polling;
        let Some(future) = self.future.as_mut() else {
            // Polled again after its end: as a fused future, it stays pending.
            return Poll::Pending;
        };
        let poll = future.as_mut().poll(cx);
        self.progress = Progress::Waiting;
        if poll.is_ready() {
            self.future = None;
        }
        poll
    }
}

impl<T: Send + 'static> Drop for Detach<T> {
    fn drop(&mut self) {
        if let (Some(rest), Progress::Waiting) = (self.future.take(), &self.progress) {
            self.mover.spawn(async move { drop(rest.await) });
        }
    }
}

impl<T: Send + 'static> fmt::Debug for Detach<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detach")
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

//! Work that outlives whoever asked for it.
//!
//! A server drops a handler's future when its client goes away: on close, on half-close, on an
//! HTTP/2 reset, under a time-out layer. A payment that is dropped between the charge and the
//! record is charged again by the retry. So the future is run in place, where it costs nothing,
//! and when it is dropped half-way its rest moves to a task.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

/// A future that is finished in the background if it is dropped after it was begun.
///
/// Its output is dropped there; what must not be lost has to happen inside it, or in its output's
/// `Drop`.
pub(crate) struct Detach<T: Send + 'static> {
    future: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    begun: bool,
    tasks: TaskTracker,
    span: Span,
}

impl<T: Send + 'static> Detach<T> {
    pub(crate) fn new(
        tasks: &TaskTracker,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        Self {
            future: Some(Box::pin(future)),
            begun: false,
            tasks: tasks.clone(),
            span: Span::current(),
        }
    }
}

impl<T: Send + 'static> Future for Detach<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.begun = true;
        let Some(future) = self.future.as_mut() else {
            // Polled again after its end: as a fused future, it stays pending.
            return Poll::Pending;
        };
        let output = ready!(future.as_mut().poll(cx));
        self.future = None;
        Poll::Ready(output)
    }
}

impl<T: Send + 'static> Drop for Detach<T> {
    fn drop(&mut self) {
        let Some(rest) = self.future.take() else {
            return;
        };
        if !self.begun || std::thread::panicking() {
            return;
        }
        // Without a runtime (it is being shut down) nothing can go on; the lease will tell.
        if let Ok(runtime) = Handle::try_current() {
            tracing::debug!(parent: &self.span, "caller went away, going on in the background");
            let rest = async move { drop(rest.await) }.instrument(self.span.clone());
            self.tasks.spawn_on(rest, &runtime);
        }
    }
}

impl<T: Send + 'static> fmt::Debug for Detach<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detach")
            .field("begun", &self.begun)
            .finish_non_exhaustive()
    }
}

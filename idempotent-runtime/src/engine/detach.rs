//! Work that outlives its caller.
//!
//! A server drops a handler's future when its client goes away: on close, on half-close, on an
//! HTTP/2 reset, under a timeout layer. A payment that is dropped between the charge and the
//! record is charged again by the retry. So the future is run in place, where it costs nothing,
//! and when it is dropped half-way its rest moves to a task.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tracing::{Instrument, Span};

use super::tasks::Tasks;
use crate::observer::{Event, Observers};
use crate::prompt;

/// A future that is finished in the background if it is dropped after it was begun.
///
/// Its output is dropped there; what must not be lost has to happen inside it, or in its output's
/// `Drop`.
///
/// A runtime that ends, or has ended, drops the rest instead of running it. So nothing in the rest
/// may move itself once more when it is dropped: that would go on for ever.
pub(crate) struct Detach<F>
where
    F: Future<Output: Send> + Unpin + Send + 'static,
{
    future: Option<F>,
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
#[derive(Clone, Debug)]
pub(crate) struct Mover {
    tasks: Tasks,
    runtime: Option<Handle>,
    span: Span,
    /// What is moved counts as one of these.
    crowd: Option<Crowd>,
}

/// The handlers that run on in the background, and how many of them are too many.
#[derive(Clone, Debug)]
pub(crate) struct Crowd(Arc<Count>);

#[derive(Debug)]
struct Count {
    running: AtomicUsize,
    most: usize,
    observers: Observers,
}

/// One of a [`Crowd`].
struct Member(Crowd);

impl Crowd {
    pub(crate) fn of_at_most(most: usize, observers: Observers) -> Self {
        Self(Arc::new(Count {
            running: AtomicUsize::new(0),
            most,
            observers,
        }))
    }

    pub(crate) fn is_full(&self) -> bool {
        self.0.running.load(Ordering::Acquire) >= self.0.most
    }

    /// Also when it is full: what has begun is never cut off.
    fn join(&self) -> Member {
        self.0.running.fetch_add(1, Ordering::AcqRel);
        self.0.observers.tell(|| Event::BackgroundBegan);
        Member(self.clone())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.0.0.running.fetch_sub(1, Ordering::AcqRel);
        self.0.0.observers.tell(|| Event::BackgroundEnded);
    }
}

impl Mover {
    /// Moves to the runtime and the span that this is called in.
    pub(crate) fn new(tasks: &Tasks) -> Self {
        let runtime = Handle::try_current().ok();
        Self {
            tasks: tasks.clone(),
            runtime,
            span: Span::current(),
            crowd: None,
        }
    }

    /// What is moved counts as one of these, if there are any.
    pub(crate) fn counted(self, crowd: Option<&Crowd>) -> Self {
        Self {
            crowd: crowd.cloned(),
            ..self
        }
    }

    /// Runs a task beside what may be moved, until it is aborted. It keeps no shutdown waiting. Without a runtime there is none.
    pub(crate) fn beside(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Option<AbortHandle> {
        let runtime = self.runtime.as_ref()?;
        let task = prompt::spawn(runtime, task.instrument(self.span.clone()));
        Some(task.abort_handle())
    }

    /// On a runtime that ends, or has ended, the rest is dropped before this returns.
    pub(crate) fn spawn(&self, rest: impl Future<Output = ()> + Send + 'static) {
        // Without a runtime nothing can go on; the lease will tell.
        let Some(runtime) = Handle::try_current().ok().or_else(|| self.runtime.clone()) else {
            return;
        };
        tracing::debug!(parent: &self.span, "caller disconnected; continuing in the background");
        let member = self.crowd.as_ref().map(Crowd::join);
        let rest = async move {
            rest.await;
            drop(member);
        };
        self.tasks
            .spawn_on(rest.instrument(self.span.clone()), &runtime);
    }
}

impl<F> Detach<Pin<Box<F>>>
where
    F: Future<Output: Send> + Send + 'static,
{
    pub(crate) fn new(tasks: &Tasks, future: F) -> Self {
        Self::by(Mover::new(tasks), Box::pin(future))
    }
}

impl<F> Detach<F>
where
    F: Future<Output: Send> + Unpin + Send + 'static,
{
    /// For a future that has its boxes where it needs them.
    pub(crate) fn by(mover: Mover, future: F) -> Self {
        Self {
            future: Some(future),
            progress: Progress::NotBegun,
            mover,
        }
    }
}

impl<F> Future for Detach<F>
where
    F: Future<Output: Send> + Unpin + Send + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.progress = Progress::Polling;
        let Some(future) = self.future.as_mut() else {
            // Polled again after its end: as a fused future, it stays pending.
            return Poll::Pending;
        };
        let poll = Pin::new(future).poll(cx);
        self.progress = Progress::Waiting;
        if poll.is_ready() {
            self.future = None;
        }
        poll
    }
}

impl<F> Drop for Detach<F>
where
    F: Future<Output: Send> + Unpin + Send + 'static,
{
    fn drop(&mut self) {
        if let (Some(rest), Progress::Waiting) = (self.future.take(), &self.progress) {
            self.mover.spawn(async move { drop(rest.await) });
        }
    }
}

impl<F> fmt::Debug for Detach<F>
where
    F: Future<Output: Send> + Unpin + Send + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detach")
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

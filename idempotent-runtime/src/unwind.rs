//! Panics of the application's code, which end here: of handlers, bodies, serializers, observers, stores.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind as catch, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// What code has panicked with. The panic hook has printed it; it is dropped here whatever that does.
pub(crate) struct Panic(Option<Box<dyn Any + Send>>);

impl Panic {
    /// Goes on panicking.
    pub(crate) fn resume(mut self) -> ! {
        resume_unwind(self.0.take().unwrap_or_else(|| Box::new(())))
    }
}

impl Drop for Panic {
    fn drop(&mut self) {
        let payload = self.0.take();
        if let Err(another) = catch(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(another);
        }
    }
}

/// Runs code of the application to its end or to its panic.
///
/// What the code has borrowed is not used after a panic, or is the application's own to keep whole, which is what makes the
/// assertion of unwind safety true.
pub(crate) fn caught<T>(code: impl FnOnce() -> T) -> Result<T, Panic> {
    catch(AssertUnwindSafe(code)).map_err(|payload| Panic(Some(payload)))
}

/// The text of an error of the application's, for a log.
pub(crate) fn text_of(error: &dyn fmt::Display) -> String {
    caught(|| error.to_string()).unwrap_or_else(|_| "(its text panicked)".to_owned())
}

/// Runs a future to its end or to its panic.
///
/// The future is not looked at again after a panic, which is what makes the assertion of unwind
/// safety true; what it shares with others is theirs to keep whole, as with any panicking task.
pub(crate) fn catch_unwind<F: Future>(future: F) -> CatchUnwind<F> {
    CatchUnwind { future }
}

pin_project! {
    /// A future of its own, because an `async fn` would have room for its argument twice.
    pub(crate) struct CatchUnwind<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for CatchUnwind<F> {
    type Output = Result<F::Output, Panic>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future;
        match caught(|| future.poll(cx)) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

//! The way of a request, from axum to its handler: *buffer, identify, look up, extract, claim, run, store*.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::ControlFlow::{self, Break, Continue};

use axum::RequestExt;
use axum::extract::{FromRef, FromRequest, MatchedPath, Request};
use axum::response::{IntoResponse, Response};

use super::admission::{Admission, admit, reject};
use super::answer;
use super::body::{self, FirstFrame};
use super::capture::{self, Handling};
use super::extraction::{ByAxum, Extraction};
use super::note;
use super::received::{Expects, Handle, Received, is_keyless, is_unprotected};
use super::report::Report;
use super::tested::Tested;
use crate::engine::Detach;
use crate::handle::{Attempt, Idempotency, Inputs};
use crate::observer::Outcome;
use crate::policy::Policy;

mod transactional;

/// A request of which all arguments but the last are extracted, and about which nothing is decided.
///
/// `E` is inferred. `H` is the handle of the application: [`Idempotency`], [`Transactions`](crate::Transactions) for a handler
/// that gets a connection, or [`Unbound`] where an expression over the arguments says which.
pub struct IdempotentRequest<T, E, H = Idempotency> {
    handle: H,
    // Boxed: the futures that it goes through would each make room for it.
    request: Box<Request>,
    extraction: E,
    marker: PhantomData<fn() -> T>,
}

/// No handle from the router's state: see [`IdempotentRequest::with`].
#[derive(Debug)]
pub struct Unbound;

impl<S> FromRef<S> for Unbound {
    fn from_ref(_state: &S) -> Self {
        Self
    }
}

impl<S, T, M, H> FromRequest<S> for IdempotentRequest<T, ByAxum<S, M>, H>
where
    S: Clone + Send + Sync + 'static,
    T: FromRequest<S, M>,
    H: FromRef<S>,
{
    type Rejection = Infallible;

    async fn from_request(request: Request, state: &S) -> Result<Self, Infallible> {
        #[cfg(any(feature = "forgotten-routes", feature = "test-util"))]
        super::observed::take(request.extensions());
        Ok(Self {
            handle: H::from_ref(state),
            request: Box::new(request),
            extraction: ByAxum::with(state),
            marker: PhantomData,
        })
    }
}

impl<T, E> IdempotentRequest<T, E, Unbound> {
    /// The same request, protected by this handle.
    pub fn with<H: Handle>(self, handle: H) -> IdempotentRequest<T, E, H> {
        IdempotentRequest {
            handle,
            request: self.request,
            extraction: self.extraction,
            marker: PhantomData,
        }
    }
}

impl<T, E, H> IdempotentRequest<T, E, H>
where
    T: Send + 'static,
    E: Extraction<T>,
    H: Handle,
{
    /// Buffers, identifies, looks up and extracts.
    ///
    /// A cached replay is found before the last argument is extracted, where a rejection of that could
    /// only be about the content: the stored response would be shown in its place anyway. What is wrong
    /// with the request is answered after its last argument. Expressions over the arguments need all of
    /// these: with them the request is [identified](Received::identify) later, on replays too.
    // Not an `async fn`: that its future is `Send` is promised here, for a last argument with a lifetime in it.
    #[expect(clippy::manual_async_fn, reason = "see above")]
    fn receive(
        self,
        policy: &'static Policy,
        is_keyless: bool,
        has_expressions: bool,
        report: &mut Report,
    ) -> impl Future<Output = ControlFlow<Response, (Box<Received<H>>, T)>> + Send {
        async move {
            let Self {
                handle,
                mut request,
                extraction,
                ..
            } = self;
            let is_about_content = extraction.rejects_content_only();
            let received = if is_keyless {
                let received = Received::keyless(handle, &request, policy);
                if is_about_content
                    && !has_expressions
                    && let Err(problem) = &received.intent
                {
                    // Before its body is read.
                    return Break(answer::problem(received.handle.idempotency(), problem));
                }
                received
            } else {
                *request = std::mem::take(&mut *request).with_limited_body();
                let (body, trailers) = match body::begin(std::mem::take(request.body_mut())).await {
                    FirstFrame::Whole(body) => (body, None),
                    // Boxed: few requests have to make room for it.
                    FirstFrame::Partly(body) => match Box::pin(body::read_on(body)).await {
                        Ok(read) => read,
                        Err(rejection) => return Break(rejection),
                    },
                };
                let mut expects = Expects {
                    has_expressions,
                    may_replay: is_about_content,
                    is_json: extraction.is_json(),
                    trailers,
                    report,
                };
                match Received::of(handle, &mut request, body, policy, &mut expects) {
                    Continue(received) => received,
                    Break(replay) => return Break(replay),
                }
            };
            // Boxed: what it needs would make each future around it too large for the allocator's quick lists.
            match Box::pin(extraction.extract(request)).await {
                Ok(last) => Continue((received, last)),
                // Boxed: few requests have to make room for it.
                Err(rejection) if is_about_content && !has_expressions => {
                    Break(Box::pin(reject(*received, policy, rejection)).await)
                }
                // The expressions that say whose key it is cannot be evaluated, or it may be about the caller.
                Err(rejection) => Break(rejection),
            }
        }
    }
}

impl<T, E> IdempotentRequest<T, E, Idempotency>
where
    T: Send + 'static,
    E: Extraction<T>,
{
    /// Runs the handler under the policy, or answers from the record.
    #[expect(clippy::manual_async_fn, reason = "as `receive`")]
    pub fn run<A, F, Fut>(
        self,
        policy: &'static Policy,
        args: A,
        handler: F,
    ) -> impl Future<Output = Response> + Send
    where
        A: Send + 'static,
        F: FnOnce(A, T) -> Fut + Send + 'static,
        Fut: Future<Output: IntoResponse> + Send + 'static,
    {
        async move {
            let mut report = Report::of(&self.request, self.handle.idempotency(), policy);
            let is_keyless = is_keyless(&self.request, policy);
            if is_keyless && is_unprotected(&self.request, policy) {
                // Boxed once, with all that it needs.
                return match Box::pin(self.pass(move |last| handler(args, last))).await {
                    Ok(response) => report.unprotected(response),
                    Err(rejection) => report.finish(rejection),
                };
            }
            let (request, last) = match self.receive(policy, is_keyless, false, &mut report).await {
                Continue(received) => received,
                Break(answer) => return report.finish(answer),
            };
            let run = run_claimed(request, policy, &mut report, move || handler(args, last));
            let response = run.await;
            report.finish(response)
        }
    }

    /// Runs the handler of a request that needs no protection, unless its last argument is rejected.
    async fn pass<Fut>(self, handler: impl FnOnce(T) -> Fut) -> Result<Response, Response>
    where
        Fut: Future<Output: IntoResponse>,
    {
        let tested = Tested::of(self.request.extensions());
        let attempt = Attempt::asked_for(self.request.extensions());
        let last = self.extraction.extract(self.request).await?;
        if let Some(attempt) = attempt {
            attempt.begin_unprotected();
        }
        tested.begin();
        Ok(Handling::new(|| handler(last)).await)
    }

    /// As [`run`](Self::run), with expressions over the handler's arguments.
    #[expect(clippy::manual_async_fn, reason = "as `receive`")]
    pub fn run_with<A, I, F, Fut>(
        self,
        policy: &'static Policy,
        args: A,
        inputs: I,
        handler: F,
    ) -> impl Future<Output = Response> + Send
    where
        A: Send + 'static,
        I: FnOnce(&A, &T) -> Inputs + Send,
        F: FnOnce(A, T) -> Fut + Send + 'static,
        Fut: Future<Output: IntoResponse> + Send + 'static,
    {
        async move {
            let mut report = Report::of(&self.request, self.handle.idempotency(), policy);
            let is_keyless = is_keyless(&self.request, policy);
            let (mut request, last) =
                match self.receive(policy, is_keyless, true, &mut report).await {
                    Continue(received) => received,
                    Break(answer) => return report.finish(answer),
                };
            request.identify(policy, inputs(&args, &last));
            let run = run_claimed(request, policy, &mut report, move || handler(args, last));
            let response = run.await;
            report.finish(response)
        }
    }
}

/// Claims, runs and stores. The handler's future is made where it runs: it can be large, and would be
/// copied from function to function.
async fn run_claimed<F>(
    mut request: Box<Received<Idempotency>>,
    policy: &'static Policy,
    report: &mut Report,
    handler: impl FnOnce() -> F,
) -> Response
where
    F: Future<Output: IntoResponse> + Send + 'static,
{
    report.identified(request.intent());
    let admission = admit(&mut request, policy).await;
    let Received {
        handle: idempotency,
        attempt,
        intent,
        tested,
        ..
    } = *request;
    drop(intent);
    match admission {
        Admission::Answer(response) => *response,
        Admission::Unprotected => {
            if let Some(attempt) = attempt {
                attempt.begin_unprotected();
            }
            tested.begin();
            let response = Handling::new(handler).await;
            note::outcome(&idempotency, response, Outcome::Unprotected)
        }
        Admission::Degraded(record) => {
            if let Some(attempt) = attempt {
                attempt.begin_degraded(record);
            }
            tested.begin();
            let response = answer::degraded(Handling::new(handler).await);
            note::outcome(&idempotency, response, Outcome::Degraded)
        }
        Admission::Run(mut held) => {
            report.runs(held.attempt_of_request());
            if let Some(attempt) = attempt {
                // Boxed: few requests have to make room for it.
                held = match Box::pin(held.identified()).await {
                    Ok(held) => held,
                    Err(refusal) => return answer::refuse(&idempotency, &refusal),
                };
                attempt.begin(&mut held);
            }
            #[cfg(feature = "test-util")]
            if let Some(point) = super::crash::point(&tested) {
                return Box::pin(super::crash::crash(held, tested, point, handler)).await;
            }
            tested.begin();
            let mover = idempotency.mover();
            let run = capture::run(held, policy, idempotency, Handling::new(handler));
            Detach::by(mover, Box::pin(run)).await
        }
    }
}

impl<T, E, H> fmt::Debug for IdempotentRequest<T, E, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotentRequest")
            .field("method", self.request.method())
            .field("route", &self.request.extensions().get::<MatchedPath>())
            .finish_non_exhaustive()
    }
}

//! [`retry`]: sends copies of one request, as a client that retries does.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::panic::{Location, resume_unwind};

use bytes::Bytes;
use http::{HeaderName, Request, Response};
use http_body::Body;
use tokio::task::JoinSet;

use super::answers::{Answers, Copy};
use super::app::{App, copy, whole};
use crate::http::observed::Observed;

/// Sends copies of a request to an application, and asserts how often its handler ran.
///
/// A copy has the method, URI, headers, extensions and body of the request, byte for byte. The application is called directly,
/// without a socket: an `axum::Router` with its state, or one with layers around it.
///
/// ```
/// # use axum::{Router, body::Body, http::Request, routing::post};
/// # use idempotent_runtime::{Idempotency, idempotent, store::memory::MemoryStore, testing::retry};
/// # #[idempotent]
/// # async fn create_payment() -> &'static str { "paid" }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let app = Router::new()
/// #     .route("/payments", post(create_payment))
/// #     .with_state(Idempotency::new(MemoryStore::new()));
/// # let request = Request::post("/payments").header("Idempotency-Key", "8e03978e").body(Body::empty()).unwrap();
/// // Two, one after the other, and then sixteen at the same time.
/// let answers = retry(&app, request).twice().concurrently(16).assert_ran(1).await;
/// assert_eq!(answers.responses().len(), 18);
/// # }
/// ```
pub fn retry<S, B>(app: &S, request: Request<B>) -> Retry<S, B>
where
    S: App<B>,
    B: Body<Error: Debug> + From<Bytes> + Send + 'static,
{
    Retry {
        app: app.clone(),
        request,
        waves: Vec::new(),
        ignored: Vec::new(),
        copies: PhantomData,
    }
}

/// The copies of a request to send: see [`retry`].
#[derive(Debug)]
#[must_use = "nothing is sent until `assert_ran` or `send` is called"]
pub struct Retry<S, B> {
    app: S,
    request: Request<B>,
    /// How many copies are sent at the same time, one wave after the other.
    waves: Vec<usize>,
    ignored: Vec<HeaderName>,
    copies: PhantomData<fn(B)>,
}

impl<S, B> Retry<S, B>
where
    S: App<B>,
    B: Body<Error: Debug> + From<Bytes> + Send + 'static,
{
    /// Adds two copies, one after the other.
    pub fn twice(self) -> Self {
        self.times(2)
    }

    /// Adds `copies` copies, each sent after the answer to the previous one.
    pub fn times(mut self, copies: usize) -> Self {
        self.waves.extend(std::iter::repeat_n(1, copies));
        self
    }

    /// Adds `copies` copies that are sent at the same time, each in its own task, when all earlier copies are answered.
    /// If the test has one thread (the default of `#[tokio::test]`), a copy runs until its handler first waits for
    /// something, and then the next one begins.
    pub fn concurrently(mut self, copies: usize) -> Self {
        self.waves.push(copies);
        self
    }

    /// A response header in which a replay may differ from the first answer, such as `x-request-id` set by a layer
    /// outside the handler. Headers that are [not stored](crate::HeaderFilter) may differ anyway.
    pub fn ignoring(mut self, header: HeaderName) -> Self {
        self.ignored.push(header);
        self
    }

    /// Sends the copies (one by default), and returns the answers.
    pub async fn send(self) -> Answers {
        let request = whole(self.request).await;
        let waves = match self.waves.is_empty() {
            true => vec![1],
            false => self.waves,
        };
        let mut copies = Vec::new();
        for size in waves {
            copies.extend(wave(&self.app, &request, size).await);
        }
        Answers::new(copies, self.ignored)
    }

    /// Sends the copies, and asserts:
    ///
    /// * that the handler ran `runs` times. Runs are counted where the attribute calls the handler: a rejection by an
    ///   extractor is not a run, and neither is a replay or a 409;
    /// * that all replays are equal byte for byte, to each other and to the answer of a copy whose handler ran: status,
    ///   headers (except those that are [not stored](crate::HeaderFilter) or [ignored](Self::ignoring)) and body;
    /// * that no handler without the attribute answered with a success.
    ///
    /// Other copies may get any answer, such as 409 `in-flight`: check the returned [`Answers`].
    ///
    /// # Panics
    ///
    /// If an assertion fails. The message has the answer to each copy, without its body.
    #[track_caller]
    pub fn assert_ran(self, runs: usize) -> impl Future<Output = Answers> {
        let caller = Location::caller();
        async move {
            let answers = self.send().await;
            answers.check(runs, caller);
            answers
        }
    }
}

async fn wave<S, B>(app: &S, request: &Request<Bytes>, size: usize) -> Vec<Copy>
where
    S: App<B>,
    B: From<Bytes> + Send + 'static,
{
    let mut sent = JoinSet::new();
    let mut observed = Vec::with_capacity(size);
    for index in 0..size {
        let (app, mut request) = (app.clone(), copy::<B>(request));
        let copy = Observed::default();
        request.extensions_mut().insert(copy.clone());
        observed.push(copy);
        sent.spawn(async move { (index, app.answer(request).await) });
    }
    let mut answers: Vec<(usize, Response<Bytes>)> = Vec::with_capacity(size);
    while let Some(answer) = sent.join_next().await {
        match answer.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(answer) => answers.push(answer),
            Err(Ok(panic)) => resume_unwind(panic),
            // Only a runtime that ends cancels it.
            Err(Err(_)) => {}
        }
    }
    answers.sort_by_key(|(index, _)| *index);
    let answers = answers.into_iter().zip(observed);
    answers
        .map(|((_, response), observed)| Copy::new(response, &observed))
        .collect()
}

//! For reqwest-middleware.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{Extensions, HeaderName};
use reqwest::{Request, Response};
use reqwest_middleware::{Middleware, Next, RequestBuilder};

use crate::clock::Clock;
use crate::decision::Reason;
use crate::error::Error;
use crate::intent::Intent;
use crate::open::OpenCheck;
use crate::policy::Policy;
use crate::reqwest::{IntentExt, failure, into_response, read};
use crate::run::{Failure, Settings, Transport, Whole, refused, run};

/// A middleware that sends requests with an intent as [`Policy`] says. It leaves requests without one alone.
///
/// A request gets its intent by [`IntentExt::intent`], or by `with_extension(intent.clone())`. A [`Policy`] among the
/// extensions replaces the middleware's for that request.
///
/// Add it first, so that the other middlewares run for each try. Build the client with
/// `redirect(Policy::none())`: with a client that follows redirects, an answer from another URL is refused, but the
/// request may have been sent there. Leave out other retries: under this middleware they are tries that it does not
/// count. A middleware that changes the URL goes above this one: below, its answers look like those of a redirect, and are refused.
///
/// Errors are [`reqwest_middleware::Error::Middleware`]; [`Error::of_middleware`] returns the [`Error`] inside.
///
/// ```
/// use idempotent_client::{Error, Intent, IntentExt, IntentMiddleware, Policy};
///
/// # async fn pay(intent: &Intent) -> Result<(), Box<dyn std::error::Error>> {
/// let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
/// let client = reqwest_middleware::ClientBuilder::new(client)
///     .with(IntentMiddleware::new(Policy::new()))
///     .build();
///
/// match client.post("https://example.com/payments").intent(intent).body("{}").send().await {
///     Ok(response) => println!("conclusive: {}", response.status()),
///     Err(error) => match Error::of_middleware(&error) {
///         Some(Error::Undecided { intent, .. }) => println!("send {intent:?} again later"),
///         _ => return Err(error.into()),
///     },
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct IntentMiddleware {
    settings: Settings,
}

impl IntentMiddleware {
    /// Uses this policy for every request without its own.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            settings: Settings::new(policy),
        }
    }

    /// The header that carries the key. Default: `Idempotency-Key`.
    #[must_use]
    pub fn key_header(mut self, name: HeaderName) -> Self {
        self.settings.header = name;
        self
    }

    /// Calls `ask` before each try: is the intent still open in your database? If not, nothing is sent, and the call
    /// ends as undecided, with [`Reason::Closed`]. For an intent that another process may give up.
    #[must_use]
    pub fn open_while<F, A>(mut self, ask: F) -> Self
    where
        F: Fn(&Intent) -> A + Send + Sync + 'static,
        A: Future<Output = bool> + Send + 'static,
    {
        self.settings.open_check = Some(OpenCheck::new(ask));
        self
    }

    /// The source of time and randomness, for tests. Default: [`SystemClock`](crate::SystemClock).
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.settings.clock = clock;
        self
    }
}

impl IntentExt for RequestBuilder {
    type Request = Self;

    fn intent(self, intent: &Intent) -> Self {
        self.with_extension(intent.clone())
    }
}

impl Error {
    /// The error of this crate inside one of reqwest-middleware.
    #[must_use]
    pub fn of_middleware(error: &reqwest_middleware::Error) -> Option<&Self> {
        match error {
            reqwest_middleware::Error::Middleware(error) => error.downcast_ref(),
            reqwest_middleware::Error::Reqwest(_) => None,
        }
    }
}

#[async_trait::async_trait]
impl Middleware for IntentMiddleware {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let Some(intent) = extensions.get::<Intent>().cloned() else {
            return next.run(request, extensions).await;
        };
        let settings = self.settings.with_policy_of(extensions);
        settings.set_key(request.headers_mut(), &intent);
        if request.try_clone().is_none() {
            return Err(reqwest_middleware::Error::middleware(refused(
                &intent,
                Reason::Body,
                None,
            )));
        }
        let url = request.url().clone();
        let mut tries = Tries {
            request,
            extensions,
            next,
        };
        let whole = run(&intent, &settings, &mut tries).await;
        Ok(into_response(
            whole.map_err(reqwest_middleware::Error::middleware)?,
            url,
        ))
    }
}

struct Tries<'a> {
    request: Request,
    extensions: &'a mut Extensions,
    next: Next<'a>,
}

impl Transport for Tries<'_> {
    fn send(&mut self) -> Pin<Box<dyn Future<Output = Result<Whole, Failure>> + Send + '_>> {
        Box::pin(async move {
            let request = self.request.try_clone();
            let request =
                request.ok_or_else(|| Failure::Lost("the request cannot be cloned".into()))?;
            let response = self.next.clone().run(request, self.extensions).await;
            read(response.map_err(failure_of_next)?, &self.request).await
        })
    }
}

/// What another middleware fails with says nothing about the operation.
fn failure_of_next(error: reqwest_middleware::Error) -> Failure {
    match error {
        reqwest_middleware::Error::Reqwest(error) => failure(error),
        reqwest_middleware::Error::Middleware(error) => Failure::Lost(error.into()),
    }
}

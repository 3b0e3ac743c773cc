//! For reqwest: `client.post(url).intent(&intent).json(&order).send().await`.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http_body_util::Full;
use reqwest::{Body, Client, Request, RequestBuilder, Response, ResponseBuilderExt, Url};
use serde::Serialize;

use crate::clock::Clock;
use crate::decision::Reason;
use crate::error::{BoxError, Error};
use crate::grpc;
use crate::intent::Intent;
use crate::open::OpenCheck;
use crate::policy::Policy;
use crate::run::{Failure, Settings, Transport, Whole, refused, run};

/// Gives a request an intent.
pub trait IntentExt: Sized {
    /// The request with an intent.
    type Request;

    /// Sends this request under the key of `intent`, with the same bytes at every try.
    fn intent(self, intent: &Intent) -> Self::Request;
}

impl IntentExt for RequestBuilder {
    type Request = IntentRequest;

    fn intent(self, intent: &Intent) -> IntentRequest {
        IntentRequest {
            builder: self,
            intent: intent.clone(),
            settings: Settings::new(Policy::new()),
            is_json: false,
            problem: None,
        }
    }
}

/// A request of reqwest with an intent, made by [`IntentExt::intent`].
///
/// [`send`](Self::send) sends it as [`Policy`] says. Build the client with `redirect(Policy::none())`: see
/// [`send`](Self::send).
#[derive(Debug)]
#[must_use = "nothing is sent before `send`"]
pub struct IntentRequest {
    builder: RequestBuilder,
    intent: Intent,
    settings: Settings,
    /// Whether the body is JSON, which needs a content type.
    is_json: bool,
    problem: Option<BoxError>,
}

impl IntentRequest {
    /// How often and how long to try. Default: [`Policy::new`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.settings.policy = policy;
        self
    }

    /// The header that carries the key. Default: `Idempotency-Key`.
    pub fn key_header(mut self, name: HeaderName) -> Self {
        self.settings.header = name;
        self
    }

    /// Calls `ask` before each try: is the intent still open in your database? If not, nothing is sent, and the call
    /// ends as undecided, with [`Reason::Closed`]. For an intent that another process may give up.
    pub fn open_while<F, A>(mut self, ask: F) -> Self
    where
        F: Fn(&Intent) -> A + Send + Sync + 'static,
        A: Future<Output = bool> + Send + 'static,
    {
        self.settings.open_check = Some(OpenCheck::new(ask));
        self
    }

    /// The source of time and randomness, for tests. Default: [`SystemClock`](crate::SystemClock).
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.settings.clock = clock;
        self
    }

    /// The body as JSON, and its content type unless the request has one. The value is serialized once.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(bytes) => self = self.body(bytes),
            Err(error) => self.problem = Some(error.into()),
        }
        self.is_json = true;
        self
    }

    /// The body, a string or bytes. A stream is [refused](Reason::Body) before anything is sent.
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.is_json = false;
        self.map(|builder| builder.body(body))
    }

    /// One more header. The key cannot be overwritten.
    pub fn header(self, name: HeaderName, value: HeaderValue) -> Self {
        self.map(|builder| builder.header(name, value))
    }

    /// These headers, in place of those of the same names.
    pub fn headers(self, headers: HeaderMap) -> Self {
        self.map(|builder| builder.headers(headers))
    }

    /// `Authorization: Bearer ..`.
    pub fn bearer_auth(self, token: impl std::fmt::Display) -> Self {
        self.map(|builder| builder.bearer_auth(token))
    }

    /// Anything else that the builder of reqwest can do, with the features that the application has chosen:
    /// `.map(|builder| builder.form(&order))`.
    pub fn map(mut self, change: impl FnOnce(RequestBuilder) -> RequestBuilder) -> Self {
        self.builder = change(self.builder);
        self
    }

    /// Sends the request until there is a conclusive answer, and returns it with its whole body. Conclusive are any
    /// 2xx, an answer that is marked as stored (unless it passes on the error of a service behind the server), and a
    /// 4xx to the first try. [`ResponseExt::conclusion`](crate::ResponseExt::conclusion) says what happens to the
    /// intent. The waits, tries and limits are those of the [`Policy`].
    ///
    /// Dropping the future stops the tries, not the intent: the server may be running it. Send the intent again.
    ///
    /// # Redirects
    ///
    /// A redirect is [refused](Error::Refused). reqwest follows redirects by itself, so build the client with
    /// `reqwest::redirect::Policy::none()`. With a client that follows them, a body is never sent to a second address,
    /// and an answer from another URL is refused ([`Reason::Redirected`]); but this crate cannot notice a POST that is
    /// redirected to a GET of *its own* URL, and the key is sent to the target of the redirect.
    ///
    /// # Errors
    ///
    /// [`Error::Undecided`] if it is unknown whether the operation ran, [`Error::Refused`] if the request will not be
    /// carried out as it is, [`Error::Invalid`] if the request cannot be built. Every error keeps the key.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime, like reqwest.
    pub async fn send(self) -> Result<Response, Error> {
        let Self {
            builder,
            intent,
            settings,
            is_json,
            problem,
        } = self;
        if let Some(source) = problem {
            return Err(Error::Invalid { intent, source });
        }
        let (client, request) = builder.build_split();
        let mut request = match request {
            Ok(request) => request,
            Err(error) => {
                let source = error.into();
                return Err(Error::Invalid { intent, source });
            }
        };
        let body = match request.body_mut().take() {
            None => Bytes::new(),
            Some(body) => match body.as_bytes() {
                Some(bytes) => Bytes::copy_from_slice(bytes),
                None => return Err(refused(&intent, Reason::Body, None)),
            },
        };
        if is_json {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().entry(CONTENT_TYPE).or_insert(json);
        }
        settings.set_key(request.headers_mut(), &intent);
        let url = request.url().clone();
        let mut tries = Tries {
            client,
            request,
            body,
        };
        let whole = run(&intent, &settings, &mut tries).await?;
        Ok(into_response(whole, url))
    }
}

struct Tries {
    client: Client,
    /// Without its body, so that it can be cloned.
    request: Request,
    body: Bytes,
}

impl Transport for Tries {
    fn send(&mut self) -> Pin<Box<dyn Future<Output = Result<Whole, Failure>> + Send + '_>> {
        Box::pin(async move {
            let request = self.request.try_clone();
            let mut request =
                request.ok_or_else(|| Failure::Lost("the request cannot be cloned".into()))?;
            // As a body that reqwest cannot clone, also an empty one: it follows no redirect with content, and retries nothing.
            *request.body_mut() = Some(Body::wrap(Full::new(self.body.clone())));
            let response = self.client.execute(request).await.map_err(failure)?;
            read(response, &self.request).await
        })
    }
}

/// Reads the answer to its end: half of one says nothing.
pub(crate) async fn read(mut response: Response, asked: &Request) -> Result<Whole, Failure> {
    if !is_same_address(response.url(), asked.url()) {
        return Err(Failure::Redirected);
    }
    let mut answer = http::Response::new(Bytes::new());
    *answer.status_mut() = response.status();
    *answer.version_mut() = response.version();
    *answer.headers_mut() = mem::take(response.headers_mut());
    *answer.extensions_mut() = mem::take(response.extensions_mut());
    *answer.body_mut() = response.bytes().await.map_err(failure)?;
    Ok(Whole {
        answer,
        trailers: None,
        is_grpc: grpc::is_of_grpc(asked.headers()),
    })
}

pub(crate) fn failure(error: reqwest::Error) -> Failure {
    if error.is_builder() {
        Failure::Invalid(error.into())
    } else if error.is_redirect() {
        Failure::Redirected
    } else {
        // Without the URL: it may have a secret in its query, and this error is logged.
        Failure::Lost(error.without_url().into())
    }
}

/// Where an answer came from, as reqwest tells it: without the fragment. A response that another middleware made has no
/// address of its own.
fn is_same_address(answered: &Url, asked: &Url) -> bool {
    let mut asked = asked.clone();
    asked.set_fragment(None);
    let mut answered = answered.clone();
    answered.set_fragment(None);
    answered == asked || answered.host_str() == Some("no.url.provided.local")
}

pub(crate) fn into_response(whole: Whole, url: Url) -> Response {
    let (parts, body) = whole.answer.into_parts();
    let with_url = http::Response::builder().url(url).body(body);
    let mut response = with_url.unwrap_or_default();
    *response.status_mut() = parts.status;
    *response.version_mut() = parts.version;
    *response.headers_mut() = parts.headers;
    response.extensions_mut().extend(parts.extensions);
    response.into()
}

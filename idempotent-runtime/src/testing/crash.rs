//! Makes records like those of a crash, without crashing a process.

use std::fmt::Debug;
use std::panic::Location;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::Body;

use super::answers::{described, fail};
use super::app::{App, copy, whole};
use crate::error::{Error, ErrorKind};
use crate::fingerprint::Fingerprint;
use crate::handle::Idempotency;
use crate::http::observed::{CrashPoint, Observed};
use crate::key::RecordKey;
use crate::operation::{stored, without_parameter_names};
use crate::operator::Locator;
use crate::record::{Owner, Token};
use crate::store::{Claim, ClaimRequest, Store};

const LEASE: Duration = Duration::from_secs(30);
const RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Sends a request whose process dies **before** the handler does anything: its key is claimed and then abandoned.
///
/// A retry finds the record as after a real crash whose lease and grace period have ended, so the test need not wait.
/// The record is the handler's own, with its fingerprint and the settings of its attribute. See [`leave_abandoned`] for
/// a record without a request.
///
/// ```
/// use axum::{Router, body::Body, http::{Request, StatusCode}, routing::post};
/// use idempotent_runtime::testing::{crash_before_handler, retry};
/// use idempotent_runtime::{Idempotency, idempotent, store::memory::MemoryStore};
///
/// #[idempotent(ttl_hours = 24)]
/// async fn create_payment() -> &'static str {
///     "paid"
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let app = Router::new()
/// #     .route("/payments", post(create_payment))
/// #     .with_state(Idempotency::new(MemoryStore::new()));
/// let request = || Request::post("/payments").header("Idempotency-Key", "8e03978e").body(Body::empty()).unwrap();
/// crash_before_handler(&app, request()).await;
/// let answers = retry(&app, request()).assert_ran(0).await;
/// assert_eq!(answers.responses()[0].status(), StatusCode::CONFLICT); // `outcome-unknown`
/// # }
/// ```
///
/// # Panics
///
/// If no attempt was abandoned: the route is not protected, the request was answered without running, the record could not be
/// claimed, or the handler has `#[tx]`, whose crash leaves no record at all.
#[track_caller]
pub fn crash_before_handler<S, B>(
    app: &S,
    request: Request<B>,
) -> impl Future<Output = ()> + use<S, B>
where
    S: App<B>,
    B: Body<Error: Debug> + From<Bytes> + Send + 'static,
{
    let caller = Location::caller();
    crash(app.clone(), request, CrashPoint::BeforeHandler, caller)
}

/// Sends a request whose process dies **after** the handler has returned, and before its response is stored: the effect
/// has happened, the key is abandoned, and the client has no answer.
///
/// Otherwise like [`crash_before_handler`]. The record has the steps that the handler has finished.
///
/// # Panics
///
/// As [`crash_before_handler`].
#[track_caller]
pub fn crash_after_handler<S, B>(
    app: &S,
    request: Request<B>,
) -> impl Future<Output = ()> + use<S, B>
where
    S: App<B>,
    B: Body<Error: Debug> + From<Bytes> + Send + 'static,
{
    let caller = Location::caller();
    crash(app.clone(), request, CrashPoint::AfterHandler, caller)
}

async fn crash<S, B>(app: S, request: Request<B>, point: CrashPoint, caller: &Location<'_>)
where
    S: App<B>,
    B: Body<Error: Debug> + From<Bytes> + Send + 'static,
{
    let observed = Observed::crashing(point);
    let mut request = copy::<B>(&whole(request).await);
    request.extensions_mut().insert(observed.clone());
    let answer = app.answer(request).await;
    if !observed.has_crashed() {
        fail(&format!(
            "{caller}: no attempt was abandoned, because the request was answered: {}",
            described(&answer)
        ));
    }
}

/// Makes an abandoned record, like that of a process that crashed in its handler, after the lease and the grace period:
/// for tests of tools for operators ([`Idempotency::inspect`], [`Idempotency::resolve`], [`Idempotency::list`]).
///
/// The locator does not contain the request, so **no request matches the record**: a request with this key gets 422
/// `key-reused`. For a record that matches a retry, send the request with [`crash_before_handler`].
///
/// ```
/// use idempotent_runtime::testing::leave_abandoned;
/// use idempotent_runtime::{Idempotency, Locator, RecordState, store::memory::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), idempotent_runtime::Error> {
/// let idempotency = Idempotency::new(MemoryStore::new());
/// let payment = Locator::new("POST /payments", "8e03978e").scope("acme");
/// leave_abandoned(&idempotency, &payment).await?;
/// let found = idempotency.inspect(&payment).await?.unwrap();
/// assert!(matches!(found.state, RecordState::Abandoned));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`ErrorKind::InvalidLocator`], or [`ErrorKind::Store`] if the store fails or the key already has a record.
pub async fn leave_abandoned(idempotency: &Idempotency, locator: &Locator) -> Result<(), Error> {
    let operation = match locator.record_key() {
        Some(_) => "",
        None => locator.resolve()?.operation,
    };
    let operation = stored(&without_parameter_names(operation)).to_owned();
    for key in idempotency.locate(locator)?.iter() {
        abandon(idempotency.store(), *key, &operation).await?;
    }
    Ok(())
}

async fn abandon(store: &dyn Store, key: RecordKey, operation: &str) -> Result<(), Error> {
    let failed = |message: &'static str| Error::new(ErrorKind::Store, message);
    let token = Token::random().map_err(|cause| failed("no token").with_source(cause))?;
    let owner = Owner { key, token };
    // No digest of a request is all zeros.
    let fingerprint = Fingerprint::from_bytes([0; 32]);
    let request = ClaimRequest::new(owner, fingerprint, operation, LEASE, RETENTION);
    let claim = store.claim(&request).await;
    let claim = claim.map_err(|cause| failed("could not claim a record").with_source(cause))?;
    if !matches!(claim, Claim::Acquired(_)) {
        return Err(failed("there is a record already"));
    }
    for abandoned in store.abandon(&[owner]).await {
        abandoned.map_err(|cause| failed("could not abandon a record").with_source(cause))?;
    }
    Ok(())
}

//! A request before it is decided about, and the handle that protects it.

use std::ops::ControlFlow::{self, Break, Continue};

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;

use super::answer;
use super::body;
use super::identify::{Head, Original, may_have_key, usable, without_key};
use super::report::Report;
use super::tested::Tested;
use crate::engine::Intent;
use crate::handle::problem::Problem;
use crate::handle::{Attempt, Idempotency, Inputs, Transactions};
use crate::policy::Policy;
use crate::store::transaction::TransactionConnection;

/// The handle that a request is protected by.
pub trait Handle: Send + 'static {
    /// The store and the settings.
    fn idempotency(&self) -> &Idempotency;
}

impl Handle for Idempotency {
    fn idempotency(&self) -> &Idempotency {
        self
    }
}

impl<C: TransactionConnection> Handle for Transactions<C> {
    fn idempotency(&self) -> &Idempotency {
        Transactions::idempotency(self)
    }
}

/// A request whose arguments are all extracted.
pub(super) struct Received<H> {
    pub(super) handle: H,
    pub(super) is_safe: bool,
    /// `None` when no argument has asked for it, or will.
    pub(super) attempt: Option<Attempt>,
    /// `None` where there is nothing to protect: the request is safe, or has no key and needs none.
    pub(super) intent: Result<Option<Intent>, Box<Problem>>,
    /// What it is identified by once more: by expressions over the arguments, or by another digest.
    pub(super) original: Option<Box<Original>>,
    pub(super) tested: Tested,
}

/// What is known of the last argument before it is extracted.
pub(super) struct Expects<'a> {
    /// Expressions over the arguments identify the request, too.
    pub(super) has_expressions: bool,
    /// A cached replay comes before a rejection of it.
    pub(super) may_replay: bool,
    /// It cannot ask for an [`Attempt`].
    pub(super) is_json: bool,
    /// What the request's body ends with.
    pub(super) trailers: Option<HeaderMap>,
    /// Who is told what is found.
    pub(super) report: &'a mut Report,
}

/// Whether there is nothing to identify it by: GET, HEAD, OPTIONS and TRACE are idempotent by themselves (RFC 9110,
/// section 9.2.2).
pub(super) fn is_keyless(request: &Request, policy: &Policy) -> bool {
    request.method().is_safe() || !may_have_key(request.headers(), policy)
}

/// Whether a [keyless](is_keyless) request runs all the same, without a record.
pub(super) fn is_unprotected(request: &Request, policy: &Policy) -> bool {
    !policy.required || request.method().is_safe()
}

impl<H: Handle> Received<H> {
    /// A request that [has no key](is_keyless).
    pub(super) fn keyless(handle: H, request: &Request, policy: &Policy) -> Box<Self> {
        let is_safe = request.method().is_safe();
        let missing = || without_key(policy, Some(policy.header)).map_err(Box::new);
        let intent = if is_safe { Ok(()) } else { missing() };
        Box::new(Self {
            handle,
            is_safe,
            attempt: Attempt::asked_for(request.extensions()),
            intent: intent.map(|()| None),
            original: None,
            tested: Tested::of(request.extensions()),
        })
    }

    /// Identifies the request and puts its body back, or finds a cached replay.
    pub(super) fn of(
        handle: H,
        request: &mut Request,
        body: Bytes,
        policy: &Policy,
        expects: &mut Expects<'_>,
    ) -> ControlFlow<Response, Box<Self>> {
        let idempotency = handle.idempotency();
        let (mut parts, _) = std::mem::take(request).into_parts();
        let head = Head::of(&parts, idempotency, policy);
        let intent = if expects.has_expressions {
            Ok(None)
        } else {
            let identified = head.identify(idempotency, policy, &Inputs::new(), &body);
            identified.map_err(Box::new)
        };
        if expects.may_replay
            && let Ok(Some(intent)) = &intent
            && let Some(stored) = idempotency.engine().cached(intent)
        {
            expects.report.identified(Some(intent));
            return Break(answer::replay(idempotency, stored));
        }
        let is_identified_again = expects.has_expressions || idempotency.digest().other().is_some();
        let original = is_identified_again.then(|| head.into_original(&body));
        let attempt = if expects.is_json {
            // Only an argument before the last can have asked.
            Attempt::asked_for(&parts.extensions)
        } else {
            Some(Attempt::of(&mut parts.extensions))
        };
        let tested = Tested::of(&parts.extensions);
        *request = Request::from_parts(parts, body::whole(body, expects.trailers.take()));
        Continue(Box::new(Self {
            handle,
            is_safe: false,
            attempt,
            intent,
            original,
            tested,
        }))
    }

    /// What it is, if it has a key.
    pub(super) fn intent(&self) -> Option<&Intent> {
        self.intent.as_ref().ok()?.as_ref()
    }

    /// Identifies the request by expressions over its arguments as well.
    pub(super) fn identify(&mut self, policy: &Policy, inputs: Inputs) {
        let intent = match &mut self.original {
            Some(original) => original.identify(self.handle.idempotency(), policy, inputs),
            None if self.is_safe => return,
            // There is no key, and a mistake in an expression comes first.
            None => match usable(inputs.error.as_ref()) {
                Ok(()) => return,
                Err(problem) => Err(problem),
            },
        };
        self.intent = intent.map_err(Box::new);
    }
}

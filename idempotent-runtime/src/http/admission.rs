//! May this request run? The way from a request to a claim.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::HeaderValue;

use super::handle::Idempotency;
use super::handle::OnStoreFailure;
use super::head::{Head, Operation, View};
use super::inputs::Inputs;
use super::problem::{Problem, ProblemCode};
use crate::canonical::canonicalize;
use crate::digest::Digest;
use crate::engine::{
    Crashed, Described, Fingerprints, Held, InTransaction, Intent, Outcome, Refusal,
};
use crate::fingerprint::{Content, Fingerprint, Request};
use crate::key::{InvalidKey, Key, KeySet, RecordKey};
use crate::policy::{FingerprintSource, Policy};
use crate::recovery::Abandoned;
use crate::store::StoreErrorKind;
use crate::store::transaction::{Begin, TransactionConnection};

/// What becomes of a request.
pub(super) enum Admission {
    /// It is answered without running.
    Answer(Response),
    /// It runs, and nothing is kept.
    Unprotected(Mark),
    /// It runs, and is kept.
    Run(Held),
}

/// What an unprotected response is marked with.
pub(super) enum Mark {
    /// Nothing: being unprotected is what was asked for.
    None,
    /// The store was away.
    Degraded { record: RecordKey },
}

/// What identifies a request that needs protection.
pub(super) struct Identified {
    keys: KeySet,
    fingerprint: Fingerprint,
    /// What of the handler's arguments the fingerprint is made of, if it is.
    fields: Option<Vec<u8>>,
    key: Key,
    scope: Option<Vec<u8>>,
    label: Option<Arc<str>>,
}

impl Mark {
    pub(super) fn apply(&self, mut response: Response) -> Response {
        if let Self::Degraded { .. } = self {
            let value = HeaderValue::from_static("true");
            response
                .headers_mut()
                .insert(super::IDEMPOTENCY_DEGRADED, value);
        }
        response
    }
}

impl Identified {
    fn intent(&self, operation: &Operation<'_>) -> Intent {
        Intent {
            keys: self.keys.clone(),
            fingerprint: self.fingerprint,
            operation: Described::from(operation.concat()).with_label(self.label.clone()),
        }
    }

    fn record(&self) -> RecordKey {
        self.keys.first()
    }
}

impl View<'_> {
    /// Looks for a cached replay, and answers with it. Otherwise says what identifies the
    /// request, if it is to be protected.
    #[expect(
        clippy::result_large_err,
        reason = "an answer is moved once, and is no rare error"
    )]
    pub(super) fn look(
        &self,
        policy: &Policy,
        body: &Bytes,
    ) -> Result<Option<Identified>, Response> {
        // What is wrong with the request is answered after its last argument, as ever.
        let Ok(Some(identified)) = self.identify(policy, Inputs::new(), body) else {
            return Ok(None);
        };
        let engine = self.idempotency.engine();
        match engine.cached(&identified.record(), &identified.fingerprint) {
            Some(stored) => Err(self.idempotency.replay(stored)),
            None => Ok(Some(identified)),
        }
    }

    /// What identifies a request; `None` for one that needs no protection.
    #[expect(
        clippy::result_large_err,
        reason = "an answer is moved once, and is no rare error"
    )]
    fn to_protect(
        self,
        policy: &Policy,
        inputs: Inputs,
        body: &Bytes,
    ) -> Result<Option<Identified>, Response> {
        let identified = self.identify(policy, inputs, body);
        identified.map_err(|problem| self.idempotency.problem(&problem))
    }

    /// `None` when there is no key and none is required.
    fn identify(
        &self,
        policy: &Policy,
        inputs: Inputs,
        body: &Bytes,
    ) -> Result<Option<Identified>, Problem> {
        let resolved = if inputs.scope.is_some() {
            None
        } else {
            self.resolved.and_then(|it| it.scope.error.as_ref())
        };
        usable(inputs.error.as_ref().or(resolved))?;
        let Some(key) = self.key(policy, inputs.key)? else {
            return Ok(None);
        };
        let operation = self.operation(policy);
        let scope = inputs.scope.or_else(|| self.resolved?.scope.scope.clone());
        let keys = self.idempotency.record_keys();
        let fields = inputs.fingerprint;
        let digest = self.idempotency.digest();
        Ok(Some(Identified {
            keys: keys.derive_joined(operation.pieces(), scope.as_deref(), &key),
            fingerprint: self.fingerprint(digest, policy, fields.as_deref(), body),
            fields,
            key,
            scope,
            label: inputs.label,
        }))
    }

    fn key(&self, policy: &Policy, serialized: Option<Vec<u8>>) -> Result<Option<Key>, Problem> {
        let missing = |header| missing_key(policy, header).map(|()| None);
        match serialized.as_deref() {
            Some(b"null") => return missing(None),
            Some(br#""""#) => return Err(Problem::invalid_key(InvalidKey::Empty)),
            Some(_) => return Ok(serialized.map(Key::from_serialized)),
            None => {}
        }
        let value = self.keys.get(policy).map_err(Problem::invalid_key)?;
        let Some(value) = value else {
            return missing(Some(policy.header));
        };
        Key::parse(value.as_bytes(), self.idempotency.key_syntax())
            .map(Some)
            .map_err(Problem::invalid_key)
    }

    fn fingerprint(
        &self,
        digest: Digest,
        policy: &Policy,
        fields: Option<&[u8]>,
        body: &Bytes,
    ) -> Fingerprint {
        let json;
        let content = match (policy.fingerprint, fields) {
            (FingerprintSource::Fields, Some(fields)) => Content::Fields(fields),
            (FingerprintSource::Json, _) => {
                json = canonicalize(body);
                json.as_deref()
                    .map_or(Content::Body(body), Content::CanonicalJson)
            }
            (FingerprintSource::Body | FingerprintSource::Fields, _) => Content::Body(body),
        };
        let content_type = self.content_type.map(HeaderValue::as_bytes);
        let request = Request {
            method: self.method.as_str(),
            path_and_query: self.path_and_query(),
            content_type,
            headers: self.resolved.and_then(|it| it.headers.as_deref()),
            content,
        };
        Fingerprint::of_request(digest, &request)
    }
}

impl Head {
    /// What becomes of a request that needs no waiting; of any other, what identifies it, for
    /// [`admit`](Self::admit).
    #[expect(
        clippy::result_large_err,
        reason = "neither is an error, and both are moved once"
    )]
    pub(super) fn admit_now(
        &self,
        policy: &Policy,
        inputs: Inputs,
        identified: Option<Identified>,
        body: &Bytes,
    ) -> Result<Admission, Identified> {
        let engine = self.idempotency.engine();
        let identified = match identified {
            Some(identified) => identified,
            None => match self.view().to_protect(policy, inputs, body) {
                Ok(Some(identified)) => {
                    let (record, fingerprint) = (identified.record(), identified.fingerprint);
                    if let Some(stored) = engine.cached(&record, &fingerprint) {
                        return Ok(Admission::Answer(self.idempotency.replay(stored)));
                    }
                    identified
                }
                Ok(None) => return Ok(Admission::Unprotected(Mark::None)),
                Err(answer) => return Ok(Admission::Answer(answer)),
            },
        };
        if self.idempotency.is_overloaded() {
            return Err(identified);
        }
        let intent = identified.intent(&self.view().operation(policy));
        match engine.enter_now(&intent, policy) {
            Some(entered) => Ok(self.admitted(policy, entered, identified.record())),
            None => Err(identified),
        }
    }

    pub(super) async fn admit(
        &self,
        policy: &Policy,
        mut identified: Identified,
        body: Bytes,
    ) -> Admission {
        let mut other = self.by_other_digest(policy, identified.fields.take(), body);
        let mut fingerprints = Fingerprints::new(identified.fingerprint, &mut other);
        if self.idempotency.is_overloaded() {
            let answer = self.stored_or_overloaded(&identified.keys, &mut fingerprints);
            return Admission::Answer(answer.await);
        }
        let describe = |crashed: Crashed| Abandoned {
            key: identified.key.clone(),
            record: identified.record(),
            operation: self.view().operation(policy).concat(),
            scope: identified.scope.clone(),
            attempt: crashed.attempt,
            age: crashed.age,
            steps: crashed.steps,
            extensions: self.idempotency.extensions().clone(),
        };
        let intent = identified.intent(&self.view().operation(policy));
        let engine = self.idempotency.engine();
        let entered = engine.enter(&intent, fingerprints, policy, &describe);
        self.admitted(policy, entered.await, identified.record())
    }

    fn admitted(
        &self,
        policy: &Policy,
        entered: Result<Outcome, Refusal>,
        record: RecordKey,
    ) -> Admission {
        match entered {
            Ok(outcome) => match self.settle(policy, record, outcome) {
                Ok(held) => Admission::Run(held),
                Err(answer) => Admission::Answer(answer),
            },
            Err(refusal) => self.refused(&refusal, record),
        }
    }

    /// The same, for a handler that runs in a transaction; one that needs no protection gets a
    /// transaction too. Without the store there is none, whatever [`OnStoreFailure`] says.
    pub(super) async fn admit_to_transaction<C: TransactionConnection>(
        &self,
        begin: &dyn Begin<C>,
        policy: &Policy,
        inputs: Inputs,
        body: Bytes,
    ) -> Result<InTransaction<C>, Response> {
        let Some(identified) = self.view().to_protect(policy, inputs, &body)? else {
            return self.idempotency.begin_unprotected(begin).await;
        };
        let intent = identified.intent(&self.view().operation(policy));
        let mut other = self.by_other_digest(policy, identified.fields, body);
        let mut fingerprints = Fingerprints::new(intent.fingerprint, &mut other);
        if self.idempotency.is_overloaded() {
            let answer = self.stored_or_overloaded(&intent.keys, &mut fingerprints);
            return Err(answer.await);
        }
        let engine = self.idempotency.engine();
        let entered = engine.enter_transaction(begin, &intent, fingerprints, policy);
        match entered.await {
            Ok(outcome) => self.settle(policy, intent.keys.first(), outcome),
            Err(refusal) => Err(self.idempotency.refuse(&refusal)),
        }
    }

    /// What a request is answered when no handler may begin: as while the service shuts down, a replay is
    /// none the worse for it.
    async fn stored_or_overloaded(
        &self,
        keys: &KeySet,
        fingerprints: &mut Fingerprints<'_>,
    ) -> Response {
        let is_this_request = |found| fingerprints.include(found);
        let engine = self.idempotency.engine();
        match engine.peek(keys, is_this_request).await {
            Some(stored) => self.idempotency.replay(stored),
            None => self.idempotency.overloaded(),
        }
    }

    /// The one who runs, or the answer.
    #[expect(
        clippy::result_large_err,
        reason = "an answer is moved once, and is no rare error"
    )]
    fn settle<R>(
        &self,
        policy: &Policy,
        record: RecordKey,
        outcome: Outcome<R>,
    ) -> Result<R, Response> {
        let problem = |code| self.idempotency.problem(&Problem::new(code));
        match outcome {
            Outcome::Run(run) => Ok(run),
            Outcome::Replay(stored) => Err(self.idempotency.replay(stored)),
            Outcome::InFlight { lease_left } => Err(self.idempotency.in_flight(lease_left)),
            Outcome::Unknown => {
                let operation = self.view().operation(policy).concat();
                tracing::warn!(%record, operation, "refused a key whose outcome is unknown");
                Err(problem(ProblemCode::OutcomeUnknown))
            }
            Outcome::Mismatch => Err(problem(ProblemCode::KeyReused)),
        }
    }

    /// Answers a request whose content was rejected. It never takes a claim.
    ///
    /// A retry of a completed request still gets its answer, even if the rules for bodies have
    /// become stricter since.
    pub(super) async fn reject(
        &self,
        policy: &Policy,
        body: &Bytes,
        rejection: Response,
    ) -> Response {
        let Ok(Some(identified)) = self.view().identify(policy, Inputs::new(), body) else {
            return rejection;
        };
        let mut other = self.by_other_digest(policy, identified.fields, body.clone());
        let mut fingerprints = Fingerprints::new(identified.fingerprint, &mut other);
        let is_this_request = |found| fingerprints.include(found);
        let engine = self.idempotency.engine();
        match engine.peek(&identified.keys, is_this_request).await {
            Some(stored) => self.idempotency.replay(stored),
            None => rejection,
        }
    }

    fn refused(&self, refusal: &Refusal, record: RecordKey) -> Admission {
        // A record that cannot be read, or that another request has locked, is the opposite of a licence to
        // run. A full store is one that works: one client could fill it, and all retries would run
        // twice.
        let is_away = match refusal {
            Refusal::Store(error) => matches!(
                error.kind(),
                StoreErrorKind::Unavailable | StoreErrorKind::TimedOut | StoreErrorKind::Refused
            ),
            Refusal::NoToken(_) => true,
            Refusal::ShuttingDown | Refusal::Unread(_) => false,
        };
        if is_away && self.idempotency.on_store_failure() == OnStoreFailure::FailOpen {
            tracing::error!(
                error = refusal as &dyn std::error::Error,
                "could not claim a key, running unprotected"
            );
            return Admission::Unprotected(Mark::Degraded { record });
        }
        Admission::Answer(self.idempotency.refuse(refusal))
    }

    /// Makes the fingerprint that this request has by another digest, if there is another. If there is
    /// none the body is dropped here: a waiter may wait for long.
    fn by_other_digest<'a>(
        &'a self,
        policy: &'a Policy,
        fields: Option<Vec<u8>>,
        body: Bytes,
    ) -> impl FnMut() -> Option<Fingerprint> + Send + 'a {
        let other = self.idempotency.digest().other();
        let mut left = other.map(|digest| (digest, fields, body));
        move || {
            let (digest, fields, body) = left.take()?;
            Some(
                self.view()
                    .fingerprint(digest, policy, fields.as_deref(), &body),
            )
        }
    }
}

impl Idempotency {
    /// A transaction without a record.
    pub(super) async fn begin_unprotected<C: TransactionConnection>(
        &self,
        begin: &dyn Begin<C>,
    ) -> Result<InTransaction<C>, Response> {
        // It runs on in the background like any other.
        if self.is_overloaded() {
            return Err(self.overloaded());
        }
        let begun = self.engine().begin_unprotected(begin).await;
        begun.map_err(|refusal| self.refuse(&refusal))
    }

    /// Whether a request may run unprotected that is safe or has no key; if not, its answer.
    #[expect(
        clippy::result_large_err,
        reason = "an answer is moved once, and is no rare error"
    )]
    pub(super) fn leave_alone(
        &self,
        policy: &Policy,
        is_safe: bool,
        inputs: &Inputs,
    ) -> Result<(), Response> {
        if is_safe {
            return Ok(());
        }
        usable(inputs.error.as_ref())
            .and_then(|()| missing_key(policy, Some(policy.header)))
            .map_err(|problem| self.problem(&problem))
    }
}

fn usable(error: Option<&serde_json::Error>) -> Result<(), Problem> {
    match error {
        None => Ok(()),
        Some(error) => {
            tracing::error!(%error, "could not serialize what identifies a request");
            Err(Problem::new(ProblemCode::UnusableInput))
        }
    }
}

/// `header` is where the key should have been.
fn missing_key(policy: &Policy, header: Option<&'static str>) -> Result<(), Problem> {
    if policy.required {
        Err(Problem::missing_key(header))
    } else {
        Ok(())
    }
}

//! What identifies a request: the record key of its intent, and its fingerprint.

use axum::extract::{MatchedPath, OriginalUri};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Request, Uri};

use super::handle::Idempotency;
use super::inputs::Inputs;
use super::problem::{Problem, ProblemCode};
use super::resolved::Resolved;
use crate::canonical::canonicalize;
use crate::digest::Digest;
use crate::engine::Intent;
use crate::fingerprint::{self, Content, Fingerprint};
use crate::key::{InvalidKey, Key};
use crate::operation::{path_without_parameter_names, without_parameter_names};
use crate::policy::{FingerprintSource, Policy};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A request that is to be identified, and by what.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) idempotency: &'a Idempotency,
    pub(super) policy: &'a Policy,
    pub(super) parts: &'a Parts,
    pub(super) resolved: Option<&'a Resolved>,
}

/// What a request can be identified by once more, when it has gone to the extractor of its last argument.
pub(super) struct Original {
    parts: Parts,
    resolved: Option<Resolved>,
    body: Bytes,
    /// What of the handler's arguments its fingerprint is made of, if it is.
    fields: Option<Vec<u8>>,
}

/// Whether there is something to identify the request by. Without it nothing is read.
pub(super) fn may_have_key(headers: &HeaderMap, policy: &Policy) -> bool {
    policy.key_from_arguments
        || match policy.header {
            // A name that is known needs no parsing.
            "idempotency-key" => headers.contains_key(&IDEMPOTENCY_KEY),
            name => headers.contains_key(name),
        }
}

/// Where a key is required: `header` is where it should have been.
pub(super) fn without_key(policy: &Policy, header: Option<&'static str>) -> Result<(), Problem> {
    if policy.required {
        Err(Problem::missing_key(header))
    } else {
        Ok(())
    }
}

pub(super) fn usable(error: Option<&serde_json::Error>) -> Result<(), Problem> {
    match error {
        None => Ok(()),
        Some(error) => {
            tracing::error!(%error, "could not serialize what identifies a request");
            Err(Problem::new(ProblemCode::UnusableInput))
        }
    }
}

impl Head<'_> {
    /// `None` when there is no key and none is required.
    pub(super) fn identify(self, inputs: &Inputs, body: &Bytes) -> Result<Option<Intent>, Problem> {
        let resolved = match inputs.scope {
            Some(_) => None,
            None => self.resolved.map(|resolved| &resolved.scope),
        };
        let errors = [
            inputs.error.as_ref(),
            resolved.and_then(|it| it.error.as_ref()),
        ];
        usable(errors.into_iter().flatten().next())?;
        let Some(key) = self.key(inputs.key.as_deref())? else {
            return Ok(None);
        };
        let scope = inputs.scope.as_ref();
        let scope = scope.or_else(|| resolved?.scope.as_ref()).cloned();
        let operation = self.operation();
        let keys = self.idempotency.record_keys();
        let digest = self.idempotency.digest();
        Ok(Some(Intent {
            keys: keys.derive(&operation, scope.as_deref(), &key),
            fingerprint: self.fingerprint(digest, inputs.fingerprint.as_deref(), body),
            operation: operation.into(),
            ttl: self.policy.ttl_or(self.idempotency.ttl()),
            key,
            scope,
        }))
    }

    fn key(self, serialized: Option<&[u8]>) -> Result<Option<Key>, Problem> {
        match serialized {
            Some(b"null") => return without_key(self.policy, None).map(|()| None),
            Some(br#""""#) => return Err(Problem::invalid_key(InvalidKey::Empty)),
            Some(json) => return Ok(Some(Key::from_serialized(json.to_vec()))),
            None => {}
        }
        let mut values = match self.policy.header {
            "idempotency-key" => self.parts.headers.get_all(&IDEMPOTENCY_KEY),
            name => self.parts.headers.get_all(name),
        }
        .iter();
        let Some(value) = values.next() else {
            return without_key(self.policy, Some(self.policy.header)).map(|()| None);
        };
        if values.next().is_some() {
            return Err(Problem::invalid_key(InvalidKey::Repeated));
        }
        Key::parse(value.as_bytes(), self.idempotency.key_syntax())
            .map(Some)
            .map_err(Problem::invalid_key)
    }

    fn fingerprint(self, digest: Digest, fields: Option<&[u8]>, body: &Bytes) -> Fingerprint {
        let json;
        let content = match (self.policy.fingerprint, fields) {
            (FingerprintSource::Fields, Some(fields)) => Content::Fields(fields),
            (FingerprintSource::Json, _) => {
                json = canonicalize(body);
                json.as_deref()
                    .map_or(Content::Body(body), Content::CanonicalJson)
            }
            (FingerprintSource::Body | FingerprintSource::Fields, _) => Content::Body(body),
        };
        let path_and_query = uri(self.parts).path_and_query();
        let request = fingerprint::Request {
            method: self.parts.method.as_str(),
            path_and_query: path_and_query.map_or("/", |it| it.as_str()),
            content_type: self
                .parts
                .headers
                .get(CONTENT_TYPE)
                .map(HeaderValue::as_bytes),
            headers: self.resolved.and_then(|it| it.headers.as_deref()),
            content,
        };
        Fingerprint::of_request(digest, &request)
    }

    /// The operation: stable over renames of functions and of parameters, the same on every instance.
    fn operation(self) -> String {
        if let Some(name) = self.policy.name {
            return without_parameter_names(name).into_owned();
        }
        // A fallback handler has no route.
        let route = self.parts.extensions.get::<MatchedPath>();
        let path = route.map_or_else(|| uri(self.parts).path(), MatchedPath::as_str);
        let path = path_without_parameter_names(path);
        [self.parts.method.as_str(), " ", &path].concat()
    }
}

/// In a nested router the request's own has lost its prefix.
fn uri(parts: &Parts) -> &Uri {
    match parts.extensions.get::<OriginalUri>() {
        Some(OriginalUri(uri)) => uri,
        None => &parts.uri,
    }
}

impl Original {
    /// Copies what identifies the request.
    pub(super) fn of(
        parts: &Parts,
        policy: &Policy,
        resolved: Option<Resolved>,
        body: &Bytes,
    ) -> Box<Self> {
        let (mut copy, ()) = Request::new(()).into_parts();
        copy.method = parts.method.clone();
        copy.uri = uri(parts).clone();
        for name in [policy.header, CONTENT_TYPE.as_str()] {
            if !copy.headers.contains_key(name) {
                for value in parts.headers.get_all(name) {
                    copy.headers.append(name, value.clone());
                }
            }
        }
        if let Some(route) = parts.extensions.get::<MatchedPath>() {
            copy.extensions.insert(route.clone());
        }
        Box::new(Self {
            parts: copy,
            resolved,
            body: body.clone(),
            fields: None,
        })
    }

    fn head<'a>(&'a self, idempotency: &'a Idempotency, policy: &'a Policy) -> Head<'a> {
        Head {
            idempotency,
            policy,
            parts: &self.parts,
            resolved: self.resolved.as_ref(),
        }
    }

    /// As [`Head::identify`], when the handler's arguments are known.
    pub(super) fn identify(
        &mut self,
        idempotency: &Idempotency,
        policy: &Policy,
        inputs: Inputs,
    ) -> Result<Option<Intent>, Problem> {
        let intent = self.head(idempotency, policy).identify(&inputs, &self.body);
        self.fields = inputs.fingerprint;
        intent
    }

    /// The fingerprint by the digest that is not the handle's, if there is another.
    pub(super) fn by_other_digest(
        &self,
        idempotency: &Idempotency,
        policy: &Policy,
    ) -> Option<Fingerprint> {
        let digest = idempotency.digest().other()?;
        let head = self.head(idempotency, policy);
        Some(head.fingerprint(digest, self.fields.as_deref(), &self.body))
    }
}

//! What identifies a request: the record key of its intent, and its fingerprint.

use std::borrow::Cow;
use std::time::SystemTime;

use axum::extract::{MatchedPath, NestedPath, OriginalUri};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Uri};

use super::resolved::Resolved;
use crate::canonical::canonicalize;
use crate::digest::Digest;
use crate::engine::{Described, Intent};
use crate::fingerprint::{Content, Fingerprint, Request};
use crate::handle::Idempotency;
use crate::handle::inputs::Inputs;
use crate::handle::problem::{Problem, ProblemCode};
use crate::key::{InvalidKey, Key};
use crate::operation::{path_without_parameter_names, without_parameter_names};
use crate::policy::{FingerprintSource, KeyAge, Policy};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What identifies a request, read off it.
pub(super) struct Head<'a> {
    method: Cow<'a, Method>,
    uri: Cow<'a, Uri>,
    /// What it has become on its way through the application, unless that is the same without a prefix.
    rewritten: Option<Cow<'a, Uri>>,
    route: Option<Cow<'a, MatchedPath>>,
    content_type: Option<Cow<'a, HeaderValue>>,
    key: Result<Option<Cow<'a, HeaderValue>>, InvalidKey>,
    resolved: Option<Resolved>,
    trace_context: Option<Cow<'a, str>>,
}

/// What a request can be identified by once more, when it has gone to the extractor of its last argument.
pub(super) struct Original {
    head: Head<'static>,
    body: Bytes,
    /// What of the handler's arguments its fingerprint is made of, if it is.
    fields: Option<Vec<u8>>,
}

/// Whether there is something to identify the request by. Without it nothing is read.
pub(super) fn may_have_key(headers: &HeaderMap, policy: &Policy) -> bool {
    policy.key_from_arguments
        || match policy.header {
            // There are few headers, and it costs less to look at all than to look one up.
            "idempotency-key" => headers.keys().any(|name| name == IDEMPOTENCY_KEY),
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
            tracing::error!(%error, "unusable scope, key, fingerprint or label");
            Err(Problem::new(ProblemCode::UnusableInput))
        }
    }
}

impl<'a> Head<'a> {
    pub(super) fn of(parts: &'a Parts, idempotency: &Idempotency, policy: &Policy) -> Self {
        let mut keys = match policy.header {
            "idempotency-key" => parts.headers.get_all(&IDEMPOTENCY_KEY),
            name => parts.headers.get_all(name),
        }
        .iter();
        let key = match (keys.next(), keys.next()) {
            (key, None) => Ok(key.map(Cow::Borrowed)),
            (_, Some(_)) => Err(InvalidKey::Repeated),
        };
        // In a nested router the request's own has lost its prefix. A handler that passes its request on to another one
        // may have changed it.
        let uri = match parts.extensions.get::<OriginalUri>() {
            Some(OriginalUri(uri)) => uri,
            None => &parts.uri,
        };
        let is_same = is_same(uri, &parts.uri, parts.extensions.get());
        Self {
            method: Cow::Borrowed(&parts.method),
            uri: Cow::Borrowed(uri),
            rewritten: (!is_same).then_some(Cow::Borrowed(&parts.uri)),
            route: parts.extensions.get::<MatchedPath>().map(Cow::Borrowed),
            content_type: parts.headers.get(CONTENT_TYPE).map(Cow::Borrowed),
            key,
            resolved: Resolved::of(idempotency, policy, parts),
            trace_context: parts
                .headers
                .get(&TRACEPARENT)
                .and_then(trace_context)
                .map(Cow::Borrowed),
        }
    }

    /// A copy of what identifies the request.
    pub(super) fn into_original(self, body: &Bytes) -> Box<Original> {
        fn owned<T: Clone>(it: Cow<'_, T>) -> Cow<'static, T> {
            Cow::Owned(it.into_owned())
        }
        Box::new(Original {
            head: Head {
                method: owned(self.method),
                uri: owned(self.uri),
                rewritten: self.rewritten.map(owned),
                route: self.route.map(owned),
                content_type: self.content_type.map(owned),
                key: self.key.map(|key| key.map(owned)),
                resolved: self.resolved,
                trace_context: self.trace_context.map(|it| Cow::Owned(it.into_owned())),
            },
            body: body.clone(),
            fields: None,
        })
    }

    /// `None` when there is no key and none is required.
    pub(super) fn identify(
        &self,
        idempotency: &Idempotency,
        policy: &Policy,
        inputs: &Inputs,
        body: &Bytes,
    ) -> Result<Option<Intent>, Problem> {
        let resolved = match inputs.scope {
            Some(_) => None,
            None => self.resolved.as_ref().map(|resolved| &resolved.scope),
        };
        let errors = [
            inputs.error.as_ref(),
            resolved.and_then(|it| it.error.as_ref()),
        ];
        usable(errors.into_iter().flatten().next())?;
        let Some(key) = self.key(idempotency, policy, inputs.key.as_deref())? else {
            return Ok(None);
        };
        let scope = inputs.scope.as_ref();
        let scope = scope.or_else(|| resolved?.scope.as_ref()).cloned();
        let operation = self.operation(policy);
        let route = self.route.as_deref();
        let shown = unbounded(&self.method, route, policy);
        let keys = idempotency.record_keys();
        let digest = idempotency.digest();
        Ok(Some(Intent {
            keys: keys.derive(&operation, scope.as_deref(), &key),
            fingerprint: self.fingerprint(digest, policy, inputs.fingerprint.as_deref(), body),
            operation: Described::new(operation, inputs.label.clone())
                .shown_as(shown)
                .with_trace_context(self.trace_context.as_deref()),
            ttl: policy.ttl_or(idempotency.ttl()),
            key,
            scope,
        }))
    }

    fn key(
        &self,
        idempotency: &Idempotency,
        policy: &Policy,
        serialized: Option<&[u8]>,
    ) -> Result<Option<Key>, Problem> {
        match serialized {
            Some(b"null") => return without_key(policy, None).map(|()| None),
            Some(br#""""#) => return Err(Problem::invalid_key(InvalidKey::Empty)),
            Some(json) => return Ok(Some(Key::from_serialized(json.to_vec()))),
            None => {}
        }
        let value = self
            .key
            .as_ref()
            .map_err(|error| Problem::invalid_key(*error))?;
        let Some(value) = value else {
            return without_key(policy, Some(policy.header)).map(|()| None);
        };
        let key = Key::parse(value.as_bytes(), idempotency.key_syntax());
        let key = key.map_err(Problem::invalid_key)?;
        let ttl = policy.ttl_or(idempotency.ttl());
        if policy.key_age == KeyAge::Ttl && key.is_from_the_future(ttl, SystemTime::now()) {
            return Err(Problem::invalid_key(InvalidKey::FromTheFuture));
        }
        Ok(Some(key))
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
        let uri = path_and_query(&self.uri);
        let request = Request {
            method: self.method.as_str(),
            // A space is in neither.
            path_and_query: &match &self.rewritten {
                None => Cow::Borrowed(uri),
                Some(rewritten) => Cow::Owned([uri, " ", path_and_query(rewritten)].concat()),
            },
            content_type: self.content_type.as_ref().map(|it| it.as_bytes()),
            headers: self.resolved.as_ref().and_then(|it| it.headers.as_deref()),
            content,
        };
        Fingerprint::of_request(digest, &request)
    }

    /// The operation: stable over renames of functions and of parameters, the same on every instance.
    fn operation(&self, policy: &Policy) -> String {
        // A fallback handler has no route.
        let path = match &self.route {
            Some(route) => route.as_str(),
            None => self.rewritten.as_ref().unwrap_or(&self.uri).path(),
        };
        operation_of(&self.method, Some(path), policy)
    }
}

/// Whether it is the same, or what the routers in which this one is nested have made of it.
fn is_same(original: &Uri, uri: &Uri, nested: Option<&NestedPath>) -> bool {
    let (whole, path) = (original.path(), uri.path());
    let is_stripped = || {
        nested.is_some_and(|nested| {
            let rest = without_prefix(whole, nested.as_str());
            rest == Some(path) || (rest == Some("") && path == "/")
        })
    };
    original.query() == uri.query() && (whole == path || is_stripped())
}

/// The path behind as many segments as the prefix has: some of those are parameters.
fn without_prefix<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let segments = prefix.trim_matches('/').split('/');
    segments.into_iter().try_fold(path, |rest, _| {
        let rest = rest.strip_prefix('/')?;
        Some(
            rest.find('/')
                .map_or("", |at| rest.get(at..).unwrap_or_default()),
        )
    })
}

fn path_and_query(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |it| it.as_str())
}

/// The operation of a request to this path or route.
pub(super) fn operation_of(method: &Method, path: Option<&str>, policy: &Policy) -> String {
    if let Some(name) = policy.name {
        return without_parameter_names(name).into_owned();
    }
    let path = path_without_parameter_names(path.unwrap_or_default());
    [method.as_str(), " ", &path].concat()
}

/// What is stored and told in place of the operation, if clients could otherwise make up any number of operations: a fallback
/// handler has no route, and methods can be anything.
pub(super) fn unbounded(
    method: &Method,
    route: Option<&MatchedPath>,
    policy: &Policy,
) -> Option<Box<str>> {
    const REGISTERED: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    let is_registered = || REGISTERED.contains(&method.as_str());
    if policy.name.is_some() || (route.is_some() && is_registered()) {
        return None;
    }
    let method = if is_registered() {
        method.as_str()
    } else {
        "_OTHER"
    };
    let path = route.map(|route| path_without_parameter_names(route.as_str()));
    let path = path.as_deref().unwrap_or("(fallback)");
    Some([method, " ", path].concat().into())
}

/// The value of `traceparent`, if it is one (W3C Trace Context, section 3.2): version, trace, parent and flags.
fn trace_context(value: &HeaderValue) -> Option<&str> {
    let bytes = value.as_bytes();
    let is_valid = bytes.len() == 55
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            2 | 35 | 52 => *byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
    if is_valid { value.to_str().ok() } else { None }
}

impl Original {
    /// As [`Head::identify`], when the handler's arguments are known.
    pub(super) fn identify(
        &mut self,
        idempotency: &Idempotency,
        policy: &Policy,
        inputs: Inputs,
    ) -> Result<Option<Intent>, Problem> {
        let intent = self.head.identify(idempotency, policy, &inputs, &self.body);
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
        let (fields, body) = (self.fields.as_deref(), &self.body);
        Some(self.head.fingerprint(digest, policy, fields, body))
    }
}

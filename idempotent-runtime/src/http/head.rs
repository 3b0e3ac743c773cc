//! What identifies a request.

use std::borrow::Cow;

use axum::extract::{MatchedPath, OriginalUri};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::resolved::Resolved;
use super::{Attempt, Idempotency};
use crate::key::InvalidKey;
use crate::operation::{path_without_parameter_names, without_parameter_names};
use crate::policy::Policy;

/// What identifies a request, read off it.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) idempotency: &'a Idempotency,
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) route: Option<&'a MatchedPath>,
    pub(super) keys: &'a Keys,
    pub(super) content_type: Option<&'a HeaderValue>,
    pub(super) resolved: Option<&'a Resolved>,
}

/// The same, kept when the request has gone to the extractor of the last argument.
pub(super) struct Head {
    pub(super) idempotency: Idempotency,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) route: Option<MatchedPath>,
    keys: Keys,
    content_type: Option<HeaderValue>,
    resolved: Option<Box<Resolved>>,
    /// `None` when nobody has asked for it, or will.
    pub(super) attempt: Option<Attempt>,
}

/// The headers that a key may be in.
pub(super) enum Keys {
    /// The usual one came once.
    One(HeaderValue),
    /// The usual one came more than once.
    Repeated,
    /// Which one it is, the policy says.
    Somewhere(Box<HeaderMap>),
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The name of an operation, not put together yet.
pub(super) enum Operation<'a> {
    Name(Cow<'a, str>),
    /// A method and a path.
    Route(&'a str, Cow<'a, str>),
}

impl Operation<'_> {
    pub(super) fn pieces(&self) -> [&str; 3] {
        match self {
            Self::Name(name) => [name, "", ""],
            Self::Route(method, path) => [method, " ", path],
        }
    }

    pub(super) fn concat(&self) -> String {
        self.pieces().concat()
    }
}

impl Keys {
    pub(super) fn of(headers: &HeaderMap, is_usual: bool) -> Option<Self> {
        if !is_usual {
            return Some(Self::Somewhere(Box::new(headers.clone())));
        }
        let mut values = headers.get_all(&IDEMPOTENCY_KEY).iter();
        let first = values.next()?;
        Some(match values.next() {
            None => Self::One(first.clone()),
            Some(_) => Self::Repeated,
        })
    }

    /// The value of the policy's header, if there is one.
    pub(super) fn get(&self, policy: &Policy) -> Result<Option<&HeaderValue>, InvalidKey> {
        match self {
            Self::One(value) => Ok(Some(value)),
            Self::Repeated => Err(InvalidKey::Repeated),
            Self::Somewhere(headers) => {
                let mut values = headers.get_all(policy.header).iter();
                match (values.next(), values.next()) {
                    (value, None) => Ok(value),
                    (_, Some(_)) => Err(InvalidKey::Repeated),
                }
            }
        }
    }
}

impl<'a> View<'a> {
    pub(super) fn of(
        idempotency: &'a Idempotency,
        keys: &'a Keys,
        resolved: Option<&'a Resolved>,
        parts: &'a Parts,
    ) -> Self {
        Self {
            idempotency,
            method: &parts.method,
            // In a nested router `uri` has lost its prefix.
            uri: match parts.extensions.get::<OriginalUri>() {
                Some(OriginalUri(uri)) => uri,
                None => &parts.uri,
            },
            route: parts.extensions.get::<MatchedPath>(),
            keys,
            content_type: parts.headers.get(CONTENT_TYPE),
            resolved,
        }
    }

    /// The operation: stable over renames of functions and of parameters, the same on every instance.
    pub(super) fn operation(&self, policy: &Policy) -> Operation<'a> {
        match (policy.name, self.route) {
            (Some(name), _) => Operation::Name(without_parameter_names(name)),
            (None, Some(route)) => self.operation_at(route.as_str()),
            // A fallback handler has no route.
            (None, None) => self.operation_at(self.uri.path()),
        }
    }

    fn operation_at(&self, path: &'a str) -> Operation<'a> {
        let method = self.method.as_str();
        Operation::Route(method, path_without_parameter_names(path))
    }

    pub(super) fn path_and_query(&self) -> &'a str {
        self.uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str)
    }
}

impl Head {
    pub(super) fn new(
        idempotency: Idempotency,
        keys: Keys,
        resolved: Option<Box<Resolved>>,
        attempt: Option<Attempt>,
        parts: &Parts,
    ) -> Self {
        let view = View::of(&idempotency, &keys, resolved.as_deref(), parts);
        Self {
            method: view.method.clone(),
            uri: view.uri.clone(),
            route: view.route.cloned(),
            content_type: view.content_type.cloned(),
            attempt,
            resolved,
            keys,
            idempotency,
        }
    }

    pub(super) fn view(&self) -> View<'_> {
        View {
            idempotency: &self.idempotency,
            method: &self.method,
            uri: &self.uri,
            route: self.route.as_ref(),
            keys: &self.keys,
            content_type: self.content_type.as_ref(),
            resolved: self.resolved.as_deref(),
        }
    }
}

//! What is read off a request for the handle and the policy, before the request goes to an extractor.

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::handle::{Idempotency, Inputs};
use crate::policy::Policy;

/// What the application wants of a request. It is missing where it wants nothing.
pub(super) struct Resolved {
    /// Whose key it is, by the handle's resolver.
    pub(super) scope: Inputs,
    /// The headers that belong to the request's identity, as one field of its fingerprint.
    pub(super) headers: Option<Vec<u8>>,
}

impl Resolved {
    pub(super) fn of(idempotency: &Idempotency, policy: &Policy, parts: &Parts) -> Option<Self> {
        let scope = idempotency.resolve_scope(parts);
        let (handles, operations) = (
            idempotency.fingerprint_headers(),
            policy.fingerprint_headers,
        );
        let has_names = !(handles.is_empty() && operations.is_empty());
        if scope.is_none() && !has_names {
            return None;
        }
        let headers = || {
            let authority = parts.uri.authority().map(Authority::as_str);
            field(&names(handles, operations), &parts.headers, authority)
        };
        Some(Self {
            scope: scope.unwrap_or_default(),
            headers: has_names.then(headers),
        })
    }
}

/// In one order wherever a name comes from, so that it can be moved between the handle and the attribute.
fn names<'a>(handles: &'a [HeaderName], operations: &'a [&'static str]) -> Vec<&'a str> {
    let handles = handles.iter().map(HeaderName::as_str);
    let mut names: Vec<_> = handles.chain(operations.iter().copied()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Each name with how often its header comes and all of its values, so that an absent header is not an
/// empty one, and one value is not two. Over HTTP/2 the authority is the header `Host` (RFC 9113, section 8.3.1).
fn field(names: &[&str], headers: &HeaderMap, authority: Option<&str>) -> Vec<u8> {
    let mut field = Vec::new();
    let mut add = |bytes: &[u8]| {
        field.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        field.extend_from_slice(bytes);
    };
    for name in names {
        let mut values: Vec<_> = headers
            .get_all(*name)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        if *name == HOST && values.is_empty() {
            values.extend(authority.map(str::as_bytes));
        }
        add(name.as_bytes());
        add(&(values.len() as u64).to_le_bytes());
        values.into_iter().for_each(&mut add);
    }
    field
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn order_and_origin_of_the_names_do_not_matter() {
        let [a, b] = ["x-a", "x-b"].map(HeaderName::from_static);
        let both = ["x-a", "x-b"];
        assert_eq!(names(&[a.clone(), b.clone()], &[]), both);
        assert_eq!(names(std::slice::from_ref(&b), &["x-a"]), both);
        assert_eq!(names(&[b, a], &["x-b", "x-a"]), both);
        assert!(names(&[], &[]).is_empty());
    }

    #[test]
    fn absent_empty_joined_and_repeated_are_four_things() {
        let lists: [&[(&'static str, &'static str)]; 7] = [
            &[],
            &[("x-a", "")],
            &[("x-a", "1")],
            &[("x-a", "1"), ("x-a", "2")],
            &[("x-a", "12")],
            &[("x-b", "1")],
            &[("x-a", "2"), ("x-a", "1")],
        ];
        let fields = lists.map(|list| {
            let mut headers = HeaderMap::new();
            for (name, value) in list {
                headers.append(*name, HeaderValue::from_static(value));
            }
            field(&["x-a", "x-b"], &headers, Some("example.com"))
        });
        assert_eq!(HashSet::from(fields).len(), lists.len());
    }
}

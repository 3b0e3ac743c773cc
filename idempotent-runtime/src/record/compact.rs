//! A stored response in little room, and in memory of its own.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{AuditLine, More, StoredResponse, is_of_connection};

/// A [`StoredResponse`] as a store in this process keeps it: a list of headers takes half as much room
/// as a map, and nothing shares its bytes with anything else. A header's value that was echoed is a
/// piece of the buffer that the request was read into, and ten bytes of a body can be cut out of an
/// upload: all of it would be kept alive, and no bound would know.
pub(crate) struct CompactResponse {
    status: u16,
    headers: Headers,
    body: Option<Bytes>,
    /// Boxed: few have any.
    more: Option<Box<CompactMore>>,
}

/// What few responses have.
struct CompactMore {
    trailers: Option<Headers>,
    trace_context: Option<Box<str>>,
    audit: Option<AuditLine>,
}

/// Headers, or trailers, in their order.
struct Headers {
    list: Box<[Header]>,
    /// Their values, one after the other.
    values: Bytes,
}

struct Header {
    name: HeaderName,
    /// Where its value ends.
    end: usize,
    is_sensitive: bool,
}

impl CompactResponse {
    /// As [`StoredResponse::new`].
    pub(crate) fn new(
        status: u16,
        headers: &HeaderMap,
        is_stored: impl Fn(&HeaderName) -> bool,
        body: Option<&[u8]>,
    ) -> Self {
        Self {
            status,
            headers: Headers::new(headers, is_stored),
            body: body.map(Bytes::copy_from_slice),
            more: None,
        }
    }

    /// The response, to be replayed.
    pub(crate) fn to_stored(&self) -> Arc<StoredResponse> {
        Arc::new(self.response())
    }

    /// A response that shares its bytes with this one only.
    pub(crate) fn response(&self) -> StoredResponse {
        StoredResponse {
            status: self.status,
            // With room for what a replay adds to them.
            headers: self.headers.to_map(2),
            body: self.body.clone(),
            more: self.more.as_ref().map(|more| Box::new(more.to_stored())),
        }
    }

    /// About how many bytes it occupies, in a box, with what its allocations take besides.
    pub(crate) fn size_bytes(&self) -> usize {
        let body = self.body.as_ref().map_or(0, shared_bytes);
        let more = self.more.as_ref().map_or(0, |more| more.size_bytes());
        with_allocation(size_of::<Self>()) + self.headers.size_bytes() + body + more
    }
}

impl CompactMore {
    fn to_stored(&self) -> More {
        More {
            trailers: self.trailers.as_ref().map(|trailers| trailers.to_map(0)),
            trace_context: self.trace_context.clone(),
            audit: self.audit.clone(),
        }
    }

    fn size_bytes(&self) -> usize {
        let trace_context = self.trace_context.as_ref().map_or(0, |it| it.len());
        with_allocation(size_of::<Self>())
            + self.trailers.as_ref().map_or(0, Headers::size_bytes)
            + with_allocation(trace_context)
            + self.audit.as_ref().map_or(0, AuditLine::size_bytes)
    }
}

impl From<&More> for CompactMore {
    fn from(more: &More) -> Self {
        Self {
            trailers: more.trailers.as_ref().map(|it| Headers::new(it, |_| true)),
            trace_context: more.trace_context.clone(),
            audit: more.audit.clone(),
        }
    }
}

impl Headers {
    /// Counts before it copies: what is shrunk afterwards leaves holes in the heap.
    fn new(headers: &HeaderMap, is_stored: impl Fn(&HeaderName) -> bool) -> Self {
        let stored = || {
            let of_response = |name| !is_of_connection(name) && is_stored(name);
            headers.iter().filter(move |(name, _)| of_response(name))
        };
        let add = |(count, bytes), (_, value): (_, &HeaderValue)| (count + 1, bytes + value.len());
        let (count, bytes) = stored().fold((0, 0), add);
        let (mut list, mut values) = (Vec::with_capacity(count), Vec::with_capacity(bytes));
        for (name, value) in stored() {
            values.extend_from_slice(value.as_bytes());
            list.push(Header {
                // A name is never a piece of something larger.
                name: name.clone(),
                end: values.len(),
                is_sensitive: value.is_sensitive(),
            });
        }
        Self {
            list: list.into_boxed_slice(),
            values: values.into(),
        }
    }

    /// A map that shares its values with this list only, with room for so many more.
    fn to_map(&self, room: usize) -> HeaderMap {
        let mut headers = HeaderMap::try_with_capacity(self.list.len() + room).unwrap_or_default();
        let mut begin = 0;
        for header in &self.list {
            let value = self.values.slice(begin..header.end);
            begin = header.end;
            // It was a value already, and they were in a map, so neither is ever refused.
            if let Ok(mut value) = HeaderValue::from_maybe_shared(value) {
                value.set_sensitive(header.is_sensitive);
                let _ = headers.try_append(&header.name, value);
            }
        }
        headers
    }

    fn size_bytes(&self) -> usize {
        let of_header = |header: &Header| size_of::<Header>() + name_bytes(&header.name);
        let list: usize = self.list.iter().map(of_header).sum();
        with_allocation(list) + shared_bytes(&self.values)
    }
}

/// What an allocation takes besides what was asked for, about.
const ALLOCATION: usize = 16;

fn with_allocation(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { bytes + ALLOCATION }
}

/// What counts how often bytes are shared.
const COUNTER: usize = 3 * size_of::<usize>() + ALLOCATION;

/// Bytes that are shared with each replay under way.
fn shared_bytes(bytes: &Bytes) -> usize {
    match bytes.len() {
        0 => 0,
        bytes => with_allocation(bytes) + COUNTER,
    }
}

/// A name of the standard is a number. These are the ones that most responses have; a name of the
/// application is bytes of its own, and so is taken for one what is neither.
fn name_bytes(name: &HeaderName) -> usize {
    match *name {
        header::CONTENT_TYPE
        | header::LOCATION
        | header::ETAG
        | header::CACHE_CONTROL
        | header::VARY
        | header::LAST_MODIFIED
        | header::CONTENT_LANGUAGE
        | header::CONTENT_ENCODING
        | header::CONTENT_DISPOSITION
        | header::LINK => 0,
        _ => with_allocation(name.as_str().len()) + COUNTER,
    }
}

impl From<&StoredResponse> for CompactResponse {
    fn from(response: &StoredResponse) -> Self {
        let more = response.more.as_deref();
        Self {
            more: more.map(|more| Box::new(more.into())),
            ..Self::new(
                response.status,
                &response.headers,
                |_| true,
                response.body.as_deref(),
            )
        }
    }
}

/// Never the contents: a response may hold what no log may.
impl fmt::Debug for CompactResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompactResponse")
            .field("status", &self.status)
            .field("headers", &self.headers.list.len())
            .field("body_bytes", &self.body.as_ref().map(Bytes::len))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A piece of a buffer, as hyper makes header values.
    fn piece(buffer: &Bytes) -> HeaderValue {
        HeaderValue::from_maybe_shared(buffer.slice(3..8)).unwrap()
    }

    #[test]
    fn nothing_is_kept_alive_but_what_is_counted() {
        let buffer = Bytes::from(vec![b'x'; 16 * 1024]);
        let mut headers = HeaderMap::new();
        headers.append("x-echo", piece(&buffer));
        headers.append("x-echo", piece(&buffer));
        let response = StoredResponse {
            status: 200,
            headers,
            body: Some(buffer.slice(0..10)),
            more: None,
        }
        .with_trailers(HeaderMap::from_iter([(
            HeaderName::from_static("x-trailer"),
            piece(&buffer),
        )]));
        let compact = CompactResponse::from(&response);
        assert_eq!(compact.response(), response);
        let bytes = compact.size_bytes();
        assert!(bytes < 800, "{bytes}");
        let replay = compact.response();
        drop(response);
        assert!(buffer.is_unique(), "the buffer is shared");
        // A body that is given up is not kept alive by the headers.
        let body = replay.body.unwrap();
        drop(compact);
        assert!(body.is_unique() && replay.headers["x-echo"] == "xxxxx");
    }

    #[test]
    fn sensitive_values_stay_so_and_others_do_not_become_so() {
        let mut secret = HeaderValue::from_static("secret");
        secret.set_sensitive(true);
        let headers = HeaderMap::from_iter([
            (HeaderName::from_static("x-secret"), secret),
            (
                HeaderName::from_static("x-open"),
                HeaderValue::from_static("open"),
            ),
        ]);
        let response = StoredResponse {
            status: 200,
            headers,
            body: None,
            more: None,
        };
        let replay = CompactResponse::from(&response).response();
        assert!(replay.headers["x-secret"].is_sensitive());
        assert!(!replay.headers["x-open"].is_sensitive());
    }
}

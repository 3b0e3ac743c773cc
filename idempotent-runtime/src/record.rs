//! Records: what a store holds for one key.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header};

use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;

mod audit;
mod cbor;
mod codec;
mod compact;
pub(crate) mod progress;

pub use audit::AuditLine;
pub use codec::DecodeError;
pub(crate) use compact::CompactResponse;
pub use progress::UnusableStep;

/// The random owner of one claim: 128 bits from the operating system.
///
/// It is the fencing token of this crate: every write after the claim names it, and a store
/// refuses a write whose token is not the record's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token([u8; 16]);

impl Token {
    /// A new token.
    ///
    /// Each token comes from the operating system, because a generator in the process would repeat itself after a fork
    /// or a restored snapshot of the machine, and two owners with one token could charge twice.
    ///
    /// # Errors
    ///
    /// If the operating system has no random source.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// A new token, unique in this process only: for a store that is in this process too, and so is
    /// copied together with it. It saves a system call.
    pub(crate) fn of_process() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Multiplied by an odd number, which no two numbers survive as the same, so that all bits vary.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let number = u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self(number.to_le_bytes())
    }

    /// Wraps 16 bytes, for a store that reads tokens back and for tests.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored unchanged.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The bytes are as good as random already, so eight of them are the hash.
impl Hash for Token {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

/// Never shows the token, because its holder can complete the claim.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The owner of a claim: the record key, and the token of the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The record.
    pub key: RecordKey,
    /// The claim of it.
    pub token: Token,
}

/// A response as it is stored: the status, the headers in order with repeats, and the bytes of the body.
///
/// Cloning is cheap for the body (shared) and copies the headers.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredResponse {
    /// The status code; 0 for a result that is not an HTTP response (see [`of_value`](Self::of_value)).
    pub status: u16,
    /// The headers that are replayed.
    pub headers: HeaderMap,
    /// The body. `None` makes the record a tombstone: the body was larger than `max_response_bytes`, or was
    /// interrupted, and is not stored. The handler does not run again for the key.
    pub body: Option<Bytes>,
    /// Boxed: few have any.
    more: Option<Box<More>>,
}

/// What few responses have.
#[derive(Clone, Default, PartialEq, Eq)]
struct More {
    trailers: Option<HeaderMap>,
    trace_context: Option<Box<str>>,
    audit: Option<AuditLine>,
}

impl StoredResponse {
    /// A response with its whole body; for a 204, an empty body.
    ///
    /// Headers that belong to one connection (`Content-Length`, `Transfer-Encoding`, `Connection`) are removed, because
    /// each replay gets new ones.
    #[must_use]
    pub fn new(status: StatusCode, headers: HeaderMap, body: impl Into<Bytes>) -> Self {
        Self {
            body: Some(body.into()),
            ..Self::tombstone(status, headers)
        }
    }

    /// A response without its body.
    #[must_use]
    pub fn tombstone(status: StatusCode, headers: HeaderMap) -> Self {
        let headers = if headers.keys().any(is_of_connection) {
            // Not by removing, which would reorder what is left.
            let kept = headers.iter().filter(|(name, _)| !is_of_connection(name));
            kept.map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        } else {
            headers
        };
        Self {
            status: status.as_u16(),
            headers,
            body: None,
            more: None,
        }
    }

    /// One of any status, 0 included.
    pub(crate) fn of_parts(status: u16, headers: HeaderMap, body: Option<Bytes>) -> Self {
        Self {
            status,
            headers,
            body,
            more: None,
        }
    }

    /// The same response with trailers, which follow the body. An empty map has no effect.
    #[must_use]
    pub fn with_trailers(mut self, trailers: HeaderMap) -> Self {
        if !trailers.is_empty() || self.trailers().is_some() {
            self.more_mut().trailers = (!trailers.is_empty()).then_some(trailers);
        }
        self
    }

    /// The trailers, which follow the body; `None` if there are none.
    #[must_use]
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.more.as_ref()?.trailers.as_ref()
    }

    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.more.as_mut()?.trailers.take()
    }

    /// The same response, of the attempt with this trace context: the value of its request's `traceparent`.
    pub(crate) fn with_trace_context(mut self, trace_context: &str) -> Self {
        self.more_mut().trace_context = Some(trace_context.into());
        self
    }

    /// The `traceparent` ([W3C Trace Context](https://www.w3.org/TR/trace-context/)) of the request whose attempt was
    /// completed, if it had a valid one. The log event of a replay names it; clients never get it.
    #[must_use]
    pub fn trace_context(&self) -> Option<&str> {
        self.more.as_ref()?.trace_context.as_deref()
    }

    /// The same response, with the audit line of an operator's decision.
    #[must_use]
    pub fn with_audit(mut self, audit: AuditLine) -> Self {
        self.more_mut().audit = Some(audit);
        self
    }

    /// The audit line, if an operator's decision stored this response.
    #[must_use]
    pub fn audit(&self) -> Option<&AuditLine> {
        self.more.as_ref()?.audit.as_ref()
    }

    fn more_mut(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// Without trailers: there is no body that they could follow.
    fn more_without_trailers(&self) -> Option<Box<More>> {
        let more = self.more.as_deref()?;
        Some(Box::new(More {
            trailers: None,
            ..more.clone()
        }))
    }

    /// A copy that says no more than that the request is done, and with which headers.
    pub(crate) fn without_body(&self) -> Self {
        Self {
            status: self.status,
            headers: self.headers.clone(),
            body: None,
            more: self.more_without_trailers(),
        }
    }

    /// A copy that says no more than that the request is done.
    pub(crate) fn status_only(&self) -> Self {
        Self {
            status: self.status,
            headers: HeaderMap::new(),
            body: None,
            more: self.more_without_trailers(),
        }
    }

    /// The approximate size of this response in memory, in bytes: a bounded store counts it.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let trailers = self.trailers().into_iter().flatten();
        let headers: usize = self
            .headers
            .iter()
            .chain(trailers)
            .map(|(name, value)| name.as_str().len() + value.len() + 64)
            .sum();
        let more = self.more.as_ref().map_or(0, |more| {
            let trace_context = more.trace_context.as_ref().map_or(0, |it| it.len());
            size_of::<More>() + trace_context + more.audit.as_ref().map_or(0, AuditLine::size_bytes)
        });
        size_of::<Self>() + headers + more + self.body.as_ref().map_or(0, Bytes::len)
    }
}

/// Whether it is made anew for each response that is sent.
fn is_of_connection(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::CONNECTION
    )
}

/// Never the contents: a response may hold what no log may.
impl fmt::Debug for StoredResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredResponse")
            .field("status", &self.status)
            .field("headers", &self.headers.len())
            .field("body_bytes", &self.body.as_ref().map(Bytes::len))
            .finish()
    }
}

/// A record as its store sees it, at one moment, by the store's clock.
#[derive(Clone, Debug)]
pub struct Record {
    /// The fingerprint of the record's request.
    pub fingerprint: Fingerprint,
    /// The operation, as its first claim named it.
    pub operation: Arc<str>,
    /// The application's own reference, as its first claim named it.
    pub label: Option<Arc<str>>,
    /// The number of the latest claim of this record: 1, 2, ...
    pub attempt: u32,
    /// The time since the first claim.
    pub age: Duration,
    /// The time until the record expires.
    pub expires_in: Duration,
    /// The state of the record.
    pub state: RecordState,
    /// The bytes that [`save_progress`](crate::store::Store::save_progress) has stored for a claim that is not
    /// completed; otherwise empty.
    pub progress: Bytes,
}

impl Record {
    /// A record of the first attempt, without label and progress, whose times are zero.
    #[must_use]
    pub const fn new(fingerprint: Fingerprint, operation: Arc<str>, state: RecordState) -> Self {
        Self {
            fingerprint,
            operation,
            label: None,
            attempt: 1,
            age: Duration::ZERO,
            expires_in: Duration::ZERO,
            state,
            progress: Bytes::new(),
        }
    }
}

/// The state of a [`Record`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RecordState {
    /// Claimed, and its lease has not ended.
    Running {
        /// The time until the lease ends unless it is renewed.
        lease_left: Duration,
    },
    /// Claimed, not completed, and its lease has ended: it is unknown whether the effect happened.
    Abandoned,
    /// Completed. The response never changes.
    Completed(Arc<StoredResponse>),
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher, BuildHasherDefault};

    use super::*;
    use crate::key::Uniform;

    #[test]
    fn tokens_of_this_process_differ_and_so_do_their_hashes() {
        let tokens: HashSet<[u8; 16]> = (0..10_000)
            .map(|_| *Token::of_process().as_bytes())
            .collect();
        assert_eq!(tokens.len(), 10_000);
        // The low bits choose a place in a table, the high ones are compared there.
        let hasher = BuildHasherDefault::<Uniform>::default();
        let hashes = tokens
            .iter()
            .map(|token| hasher.hash_one(Token::from_bytes(*token)));
        let (mut low, mut high) = (HashSet::new(), HashSet::new());
        for hash in hashes {
            low.insert(hash & 0xffff);
            high.insert(hash >> 57);
        }
        assert!(low.len() > 5_000, "{} of 65,536 places", low.len());
        assert_eq!(high.len(), 128);
    }
}

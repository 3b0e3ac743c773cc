//! Keys: what a client sent, and the 32 bytes that a store looks up.
//!
//! The raw key may be a client's secret: it never reaches a store, a log or a metric. These see only the [`RecordKey`],
//! a digest of namespace, operation, scope and key. The same key from another tenant, on another route or from another
//! application is therefore another record.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::digest::Frames;
use crate::error::{Error, ErrorKind};
use crate::operation::without_parameter_names;

mod age;
mod derived;
mod uniform;

pub(crate) use derived::derived_key;
pub(crate) use uniform::Uniform;

/// The client's name for one intent.
///
/// A key from a header is 1 to 255 bytes of visible ASCII, plus spaces if it was quoted. A key made from
/// a handler's arguments (`key = expr`) is the canonical JSON of that expression, of any length:
/// a string includes its quotes. A key given to [`Idempotency::execute`](crate::Idempotency::execute) is any
/// text of 1 to 255 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Box<[u8]>);

/// How strictly the header of a key is parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeySyntax {
    /// A quoted string (`"abc"`) or a bare token (`abc`); both are the same key. The default,
    /// because most clients send the bare form.
    #[default]
    Lenient,
    /// Only the quoted Structured Field string that
    /// draft-ietf-httpapi-idempotency-key-header-07, section 2.1, specifies.
    Strict,
}

/// Why a key is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// The value is empty, or an empty quoted string.
    #[error("the key is empty")]
    Empty,
    /// More than [`Key::MAX_BYTES`].
    #[error("the key is longer than 255 bytes")]
    TooLong,
    /// A byte that is not allowed in a key: control characters, anything outside ASCII, and in the bare
    /// form also spaces, commas, semicolons and quotes.
    #[error("the key contains a character that is not allowed")]
    Character,
    /// A quoted string that does not end, ends early, or has an unknown escape.
    #[error("the key is not a well-formed quoted string")]
    Quoting,
    /// A bare key where [`KeySyntax::Strict`] requires a quoted one.
    #[error("the key must be a quoted string")]
    NotQuoted,
    /// The header was sent more than once.
    #[error("the key was sent more than once")]
    Repeated,
    /// A UUIDv7 or ULID whose time is ahead by more than a tenth of the TTL, 5 minutes at most, where
    /// [`KeyAge::Ttl`](crate::KeyAge::Ttl) is set.
    #[error("the timestamp in the key is in the future")]
    FromTheFuture,
}

impl Key {
    /// The longest key accepted, in bytes (after unquoting).
    pub const MAX_BYTES: usize = 255;

    /// Parses the value of a key header.
    ///
    /// The quoted form is the string of RFC 9651, section 3.3.3: `\"` and `\\` are its only escapes. Parameters after
    /// it (`"abc";a=1`) are an error: no client sends them, and dropping them silently would make another key. In the
    /// bare form a comma is an error too, because an intermediary joins two fields of the same name with a comma.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] says which rule the value breaks.
    pub fn parse(value: &[u8], syntax: KeySyntax) -> Result<Self, InvalidKey> {
        let value = value.trim_ascii();
        match (value.first(), syntax) {
            (None, _) => Err(InvalidKey::Empty),
            (Some(b'"'), _) => unquote(value).and_then(Self::bounded),
            (Some(_), KeySyntax::Strict) => Err(InvalidKey::NotQuoted),
            (Some(_), KeySyntax::Lenient) => {
                // All bytes, without stopping at the first: the compiler checks many at a time.
                if value.iter().fold(true, |bare, byte| bare & is_bare(*byte)) {
                    Self::bounded(value.to_vec())
                } else {
                    Err(InvalidKey::Character)
                }
            }
        }
    }

    /// A key that does not come from a header, such as a message's id.
    pub(crate) fn from_text(text: &str) -> Result<Self, InvalidKey> {
        Self::bounded(text.as_bytes().to_vec())
    }

    /// A key made by the application, from any bytes.
    pub(crate) fn from_serialized(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key as text, for a recovery function that looks for it in the application's own data.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    fn bounded(bytes: Vec<u8>) -> Result<Self, InvalidKey> {
        match bytes.len() {
            0 => Err(InvalidKey::Empty),
            1..=Self::MAX_BYTES => Ok(Self(bytes.into())),
            _ => Err(InvalidKey::TooLong),
        }
    }
}

/// Never the key itself: it may be a capability.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

fn is_bare(byte: u8) -> bool {
    byte.is_ascii_graphic() & (byte != b'"') & (byte != b',') & (byte != b';')
}

fn unquote(value: &[u8]) -> Result<Vec<u8>, InvalidKey> {
    let mut key = Vec::with_capacity(value.len());
    let mut rest = value.iter().copied().skip(1);
    loop {
        match rest.next() {
            Some(b'"') => break,
            Some(b'\\') => match rest.next() {
                Some(escaped @ (b'"' | b'\\')) => key.push(escaped),
                _ => return Err(InvalidKey::Quoting),
            },
            Some(byte @ 0x20..=0x7e) => key.push(byte),
            Some(_) => return Err(InvalidKey::Character),
            None => return Err(InvalidKey::Quoting),
        }
    }
    if rest.next().is_some() {
        Err(InvalidKey::Quoting)
    } else {
        Ok(key)
    }
}

/// The 32-byte look-up key of a record: a digest of (namespace, operation, scope, key).
///
/// It displays as its first four bytes in hexadecimal, which is what logs show.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordKey([u8; 32]);

impl RecordKey {
    /// Wraps 32 bytes. For stores that read keys back, and for tests.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored unchanged: in a column of a binary type, never text.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl RecordKey {
    /// All 32 bytes in hexadecimal, for an application that stores the record key beside an effect.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }
}

impl std::str::FromStr for RecordKey {
    type Err = Error;

    /// Parses the 64 hexadecimal digits that [`to_hex`](Self::to_hex) writes. The first eight digits, which a log line
    /// shows, are not enough: two records can share them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidLocator`] unless the text is 64 hexadecimal digits.
    fn from_str(hex: &str) -> Result<Self, Error> {
        let bytes = bytes_of_hex(hex).and_then(|bytes| bytes.try_into().ok());
        let message = "a record key is 64 hexadecimal digits";
        bytes
            .map(Self)
            .ok_or_else(|| Error::new(ErrorKind::InvalidLocator, message))
    }
}

/// The bytes that pairs of hexadecimal digits stand for.
pub(crate) fn bytes_of_hex(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = hex.as_bytes().chunks(2);
    pairs
        .map(|pair| match *pair {
            [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
            _ => None,
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes are already uniform, so eight of them are the hash.
impl Hash for RecordKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}")
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordKey({self})")
    }
}

/// The record keys of one request: usually one; while a secret is being rotated, one for each secret,
/// the oldest first. Every instance claims them in this order, so two instances that share any of them meet
/// at the first one that they share.
#[derive(Clone, Debug)]
pub(crate) struct KeySet {
    first: RecordKey,
    others: Option<Arc<[RecordKey]>>,
}

impl KeySet {
    pub(crate) fn new(first: RecordKey, others: Option<Arc<[RecordKey]>>) -> Self {
        Self { first, others }
    }

    /// The record key that an application sees, and from which derived keys are made.
    pub(crate) fn first(&self) -> RecordKey {
        self.first
    }

    pub(crate) fn others(&self) -> &[RecordKey] {
        self.others.as_deref().unwrap_or_default()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &RecordKey> {
        std::iter::once(&self.first).chain(self.others())
    }
}

/// Makes record keys: SHA-256, or HMAC-SHA-256 under each of the application's secrets.
#[derive(Clone)]
pub(crate) struct RecordKeys {
    namespace: Box<[u8]>,
    /// The oldest.
    first: RecordKeyMaker,
    /// The later ones, oldest first. Empty except while a secret is being rotated.
    others: Box<[RecordKeyMaker]>,
}

/// One secret; `None` is plain SHA-256.
type RecordKeyMaker = Option<Hmac<Sha256>>;

impl RecordKeys {
    const VERSION: u8 = 1;

    /// `secrets` are in the order in which they were introduced, the current one last; `None` stands for
    /// the time without a secret.
    pub(crate) fn new<'a>(
        namespace: &str,
        secrets: impl IntoIterator<Item = Option<&'a [u8]>>,
    ) -> Self {
        // HMAC takes a secret of any length (RFC 2104, section 3), so this is never an error.
        let maker = |secret: Option<&[u8]>| secret.and_then(|it| Hmac::new_from_slice(it).ok());
        let mut secrets = secrets.into_iter().map(maker);
        Self {
            namespace: namespace.as_bytes().into(),
            first: secrets.next().flatten(),
            others: secrets.collect(),
        }
    }

    /// The record keys of `key` in `scope`, which is canonical JSON, for `operation`. A scope of `null` is
    /// no scope, wherever it comes from.
    pub(crate) fn derive(&self, operation: &str, scope: Option<&[u8]>, key: &Key) -> KeySet {
        let operation = without_parameter_names(operation);
        self.derive_joined([&operation, "", ""], scope, key)
    }

    /// The same, for an operation that is in pieces and contains no parameter names.
    pub(crate) fn derive_joined(
        &self,
        operation: [&str; 3],
        scope: Option<&[u8]>,
        key: &Key,
    ) -> KeySet {
        let derive = |maker: &RecordKeyMaker| match maker {
            None => RecordKey(
                self.frames(Sha256::new(), operation, scope, key)
                    .finalize()
                    .into(),
            ),
            Some(secret) => {
                let mac = self.frames(secret.clone(), operation, scope, key);
                RecordKey(mac.finalize().into_bytes().into())
            }
        };
        KeySet {
            first: derive(&self.first),
            others: (!self.others.is_empty()).then(|| self.others.iter().map(derive).collect()),
        }
    }

    /// Values that instances compare to find out whether they share a secret: a record key that all of them
    /// know, and a digest under each secret, the current one last.
    pub(crate) fn check_values(&self) -> (RecordKey, Vec<[u8; 32]>) {
        const DOMAIN: &[u8] = b"idempotent check value";
        fn framed<D: sha2::digest::Update>(digest: D, namespace: &[u8]) -> D {
            Frames::new(digest, RecordKeys::VERSION)
                .field(DOMAIN)
                .field(namespace)
                .into_inner()
        }
        let key: [u8; 32] = framed(Sha256::new(), &self.namespace).finalize().into();
        let value = |maker: &RecordKeyMaker| match maker {
            None => [0; 32],
            Some(secret) => framed(secret.clone(), &self.namespace)
                .finalize()
                .into_bytes()
                .into(),
        };
        let makers = std::iter::once(&self.first).chain(&self.others);
        (RecordKey(key), makers.map(value).collect())
    }

    fn frames<D: sha2::digest::Update>(
        &self,
        digest: D,
        operation: [&str; 3],
        scope: Option<&[u8]>,
        key: &Key,
    ) -> D {
        Frames::new(digest, Self::VERSION)
            .field(&self.namespace)
            .joined(&operation.map(str::as_bytes))
            .optional(scope.filter(|json| *json != b"null"))
            .field(key.as_bytes())
            .into_inner()
    }
}

/// Never the secrets.
impl fmt::Debug for RecordKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.others.last().unwrap_or(&self.first);
        f.debug_struct("RecordKeys")
            .field("keyed", &current.is_some())
            .field("previous", &self.others.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

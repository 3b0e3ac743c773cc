//! [`Locator`], [`Inspection`], [`Resolution`]: how operators name a record, see it and decide about it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::canonical::to_canonical;
use crate::engine::Known;
use crate::error::{Error, ErrorKind};
use crate::key::{InvalidKey, Key, KeySyntax, RecordKey};
use crate::record::{Record, RecordState, StoredResponse};
use crate::store::ListedRecord;

/// Names a record for an operator: an operation, a scope and a key.
///
/// Choose the constructor by the source of the key, because the same characters can be different keys: `"abc"` in a
/// header is the key `abc`, but for [`execute`](crate::Idempotency::execute) the quotes are part of the key.
///
/// | the key comes from | constructor |
/// | --- | --- |
/// | a request's header | [`new`](Self::new) |
/// | the `key` argument of [`execute`](crate::Idempotency::execute) | [`by_text`](Self::by_text) |
/// | `key = expr` of the attribute, on handlers and plain functions | [`by_value`](Self::by_value) |
/// | a list of records, or [`Attempt::record_key`](crate::Attempt::record_key): it is a record key | [`by_record_key`](Self::by_record_key) |
///
/// ```
/// use idempotent_runtime::Locator;
///
/// // `#[idempotent]` on the handler of `POST /payments`, without a scope:
/// let unscoped = Locator::new("POST /payments", "8e03978e-40d5-43dd-bc93");
/// // `#[idempotent(scope = (&user.tenant, user.id))]`:
/// let scoped = Locator::new("POST /payments", "8e03978e-40d5-43dd-bc93").scope(&("acme", 7));
/// // `idempotency.execute(&SETTLE, "orders.settle", tenant, message_id, ..)`:
/// let message = Locator::by_text("orders.settle", "message 1").scope(&7);
/// // `#[idempotent(name = "settle", key = order.id)]`:
/// let made = Locator::by_value("settle", &4711);
/// ```
#[derive(Clone)]
pub struct Locator {
    operation: String,
    scope: Option<Serialized>,
    key: KeySource,
    seen: Option<Seen>,
}

/// A value as canonical JSON, or the reason why it has no such form. The error is returned when the locator is
/// used, so that a locator is built in one expression.
type Serialized = Result<Vec<u8>, Arc<serde_json::Error>>;

#[derive(Clone)]
enum KeySource {
    Record(RecordKey),
    Header(String),
    Text(String),
    Value(Serialized),
}

impl Locator {
    /// Names a record by the key that a client sends in a header, bare or as a quoted string. (Both name the same
    /// record, even if handlers insist on the quoted form.)
    ///
    /// `operation` is the handler's `name = "..."`, or its method and matched route, including the prefixes of
    /// nested routers: `POST /v1/payments/{id}`. The names of parameters do not matter.
    #[must_use]
    pub fn new(operation: impl Into<String>, key: impl Into<String>) -> Self {
        Self::of(operation.into(), KeySource::Header(key.into()))
    }

    /// Names a record by the key that was passed to [`Idempotency::execute`](crate::Idempotency::execute), character
    /// for character. `operation` is the operation that was passed to `execute`, or the name of its policy.
    #[must_use]
    pub fn by_text(operation: impl Into<String>, key: impl Into<String>) -> Self {
        Self::of(operation.into(), KeySource::Text(key.into()))
    }

    /// Names a record by a key that a handler or a plain function computes: the value of its `key = expr`. `operation`
    /// is its `name = "..."`.
    #[must_use]
    pub fn by_value<T: Serialize + ?Sized>(operation: impl Into<String>, key: &T) -> Self {
        Self::of(operation.into(), KeySource::Value(serialized(key)))
    }

    /// Names a record by its record key, without operation and scope. [`Idempotency::list`](crate::Idempotency::list),
    /// [`Inspection::record_key`] and [`Attempt::record_key`](crate::Attempt::record_key) give it. A [`RecordKey`] can
    /// be parsed from its 64 hexadecimal digits.
    ///
    /// While a secret is being rotated, a client's key has a record for each secret, and a record key names only one of
    /// them. The client's key is free when all of them are. The other constructors name all of them together.
    ///
    /// ```
    /// # fn main() -> Result<(), idempotent_runtime::Error> {
    /// use idempotent_runtime::Locator;
    ///
    /// let digits = "9f2feb0f1ef425b292f2f94bc8482494df430413e0c1c9f4a8ae2d1ee7d1e6a5";
    /// let record = Locator::by_record_key(digits.parse()?);
    /// # drop(record);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn by_record_key(key: RecordKey) -> Self {
        Self::of(String::new(), KeySource::Record(key))
    }

    /// The record key, if that is all there is to go by.
    pub(crate) fn record_key(&self) -> Option<RecordKey> {
        match self.key {
            KeySource::Record(key) => Some(key),
            KeySource::Header(_) | KeySource::Text(_) | KeySource::Value(_) => None,
        }
    }

    fn of(operation: String, key: KeySource) -> Self {
        Self {
            operation,
            scope: None,
            key,
            seen: None,
        }
    }

    /// The scope of the key: the value of the handler's `scope = expr`, the scope passed to
    /// [`Idempotency::execute`](crate::Idempotency::execute), or the value that the resolver of
    /// [`IdempotencyBuilder::scope`](crate::IdempotencyBuilder::scope) returned for the request. `None` and `()` mean
    /// no scope, the same as not calling this method.
    #[must_use]
    pub fn scope<T: Serialize + ?Sized>(mut self, scope: &T) -> Self {
        self.scope = Some(serialized(scope));
        self
    }

    /// Restricts a decision to the attempt that the operator has seen: if another one has crashed meanwhile, the
    /// outcome is [`Resolution::Changed`], and nothing was changed. Use it if time passes between showing the record
    /// and deciding, as in a form. While a secret is being rotated, a key may have several records: pass what
    /// [`inspect`](crate::Idempotency::inspect) has shown.
    #[must_use]
    pub fn seen(mut self, seen: Seen) -> Self {
        self.seen = Some(seen);
        self
    }

    /// Whether these records of a request are what was seen, if anything was.
    pub(crate) fn are_as_seen<'a>(&self, records: impl IntoIterator<Item = &'a Record>) -> bool {
        let (Some(seen), mut records) = (self.seen, records.into_iter()) else {
            return true;
        };
        let Some(first) = records.next() else {
            return true;
        };
        seen == Seen::now(first.attempt, first.age, attempts_of(records))
    }

    pub(crate) fn resolve(&self) -> Result<Resolved<'_>, Error> {
        let key = match &self.key {
            KeySource::Record(_) => {
                let message = "a record key is a digest: the key that it was made of is not known";
                return Err(Error::new(ErrorKind::InvalidLocator, message));
            }
            KeySource::Header(value) => {
                Key::parse(value.as_bytes(), KeySyntax::Lenient).map_err(invalid_key)?
            }
            KeySource::Text(text) => Key::from_text(text).map_err(invalid_key)?,
            KeySource::Value(value) => match &**value.as_ref().map_err(unserializable)? {
                // A handler treats these as no key.
                b"null" | br#""""# => return Err(invalid_key(InvalidKey::Empty)),
                bytes => Key::from_serialized(bytes.to_vec()),
            },
        };
        let scope = self.scope.as_ref().map(Result::as_deref).transpose();
        Ok(Resolved {
            operation: &self.operation,
            scope: scope.map_err(unserializable)?,
            key,
        })
    }
}

/// The parts of a [`Locator`], from which a record key is made.
pub(crate) struct Resolved<'a> {
    pub(crate) operation: &'a str,
    pub(crate) scope: Option<&'a [u8]>,
    pub(crate) key: Key,
}

fn serialized<T: Serialize + ?Sized>(value: &T) -> Serialized {
    to_canonical(value).map_err(Arc::new)
}

fn invalid_key(cause: InvalidKey) -> Error {
    Error::new(ErrorKind::InvalidLocator, "the locator has an invalid key").with_source(cause)
}

fn unserializable(cause: &Arc<serde_json::Error>) -> Error {
    let message = "the locator's scope or key cannot be serialized";
    Error::new(ErrorKind::InvalidLocator, message).with_source(Arc::clone(cause))
}

/// Never shows scope and key: they are identities and secrets.
impl fmt::Debug for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locator")
            .field("operation", &self.operation)
            .field("scoped", &self.scope.is_some())
            .finish_non_exhaustive()
    }
}

/// An attempt as an operator has seen it: its number, and when the record began. Pass it back with the decision about
/// it ([`Locator::seen`]). A key that was freed begins again at attempt 1, so the number alone does not identify the
/// attempt.
///
/// Its text ([`Display`](fmt::Display), [`FromStr`]) fits into a form or a command line: `2@1780000000000` is the
/// attempt, and the time of the first claim in ms since 1970, as this process computes it. While a secret is being
/// rotated, a suffix such as `+1` follows: the number of attempts that the request's other records have had.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    attempt: u32,
    began_ms: u64,
    others: u32,
}

/// How much two reckonings of one time may differ. A decision frees no record that is younger than 2.5 s, so two records of one
/// key that were both abandoned began further apart.
const SAME_MS: u64 = 2_000;

impl Seen {
    fn now(attempt: u32, age: Duration, others: u32) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let began = since_epoch.unwrap_or_default().saturating_sub(age);
        Self {
            attempt,
            began_ms: u64::try_from(began.as_millis()).unwrap_or(u64::MAX),
            others,
        }
    }
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        let attempts = |it: &Self| (it.attempt, it.others);
        attempts(self) == attempts(other) && self.began_ms.abs_diff(other.began_ms) <= SAME_MS
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.attempt, self.began_ms)?;
        match self.others {
            0 => Ok(()),
            others => write!(f, "+{others}"),
        }
    }
}

impl FromStr for Seen {
    type Err = Error;

    /// # Errors
    ///
    /// [`ErrorKind::InvalidLocator`] if the text is not that of a `Seen`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let read = || {
            let (text, others) = text.split_once('+').unwrap_or((text, "0"));
            let (attempt, began_ms) = text.split_once('@')?;
            Some(Self {
                attempt: attempt.parse().ok()?,
                began_ms: began_ms.parse().ok()?,
                others: others.parse().ok()?,
            })
        };
        read().ok_or_else(|| Error::new(ErrorKind::InvalidLocator, "not an attempt that was seen"))
    }
}

/// The record of one key, at one moment, by the store's clock.
#[derive(Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// The record key: [`Locator::by_record_key`] names the record by it.
    pub record_key: RecordKey,
    /// The state of the record; for a completed record, with the response.
    pub state: RecordState,
    /// The latest attempt: 1, 2, ...
    pub attempt: u32,
    /// The time since the record's first attempt began.
    pub age: Duration,
    /// The time until the record expires and the key is free.
    pub expires_in: Duration,
    /// The operation, as the first attempt named it: at most its first 128 bytes.
    pub operation: Arc<str>,
    /// The application's own reference, if it gave one.
    pub label: Option<Arc<str>>,
    /// The record key that handlers were told, and what they have finished.
    pub(crate) known: Result<Known, Error>,
    /// How many attempts the other records of the request have had.
    pub(crate) others: u32,
}

/// Of all these records together.
pub(crate) fn attempts_of<'a>(records: impl IntoIterator<Item = &'a Record>) -> u32 {
    let attempts = records.into_iter().map(|record| record.attempt);
    attempts.fold(0, u32::saturating_add)
}

impl Inspection {
    /// This attempt, for a decision about it and no other: see [`Locator::seen`].
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen::now(self.attempt, self.age, self.others)
    }

    /// The record key that the handler got from [`Attempt::record_key`](crate::Attempt::record_key), and may have
    /// written beside its effect. While a secret is being rotated, this can be the key of another record of the same
    /// request. That key is known until the request is completed.
    #[must_use]
    pub fn handler_record_key(&self) -> RecordKey {
        let told = self.known.as_ref().ok().and_then(|known| known.told);
        told.unwrap_or(self.record_key)
    }

    /// The labels of the finished steps, in order, from all records of the request. A completed record has none.
    ///
    /// # Errors
    ///
    /// [`Error`] if there are steps that cannot be read, such as those of a newer release.
    pub fn steps(&self) -> Result<Vec<&str>, &Error> {
        let steps = &self.known.as_ref()?.steps;
        Ok(steps.labels().collect())
    }
}

impl ListedRecord {
    /// As [`Inspection::seen`].
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen::now(self.attempt, self.age, 0)
    }
}

/// The result of an operator's decision.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Resolution {
    /// The decision was carried out. While a secret is being rotated, a key may have several records: the decision was
    /// carried out in at least one of them, and the others are resolved too, or a client's retry has found the decision
    /// and follows it.
    Resolved,
    /// The decision was [`Recovery::Unknown`](crate::Recovery::Unknown), or a recovery function's
    /// [`Recovery::Retry`](crate::Recovery::Retry) about an attempt that has finished steps
    /// ([`resolve_with`](crate::Idempotency::resolve_with)): the key is abandoned as before.
    Undecided,
    /// There is no record: the key is free.
    NotFound,
    /// The key is not abandoned: an attempt is running. Nothing was changed.
    Running {
        /// The time until the lease ends unless it is renewed.
        lease_left: Duration,
    },
    /// The key is not abandoned: it has a stored response. Nothing was changed.
    Completed(Arc<StoredResponse>),
    /// The attempt that the decision was about has meanwhile been taken over, resolved by another operator, or
    /// forgotten. Nothing was changed: inspect the key again.
    Changed,
}

/// Whether a handle has the service's namespace and one of its secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretsCheck {
    /// It shares a secret with the instances that use this namespace.
    Shared,
    /// The instances that use this namespace have other secrets.
    Different,
    /// No instance with this namespace has left a check value: the service has another namespace, was never started, or
    /// does not check its secrets.
    Unknown,
}

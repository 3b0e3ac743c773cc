//! What an operator says and is told about one key.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::canonical::to_canonical;
use crate::error::{Error, ErrorKind};
use crate::key::{InvalidKey, Key, KeySyntax, RecordKey};
use crate::record::progress::FinishedSteps;
use crate::record::{RecordState, StoredResponse};

/// Which record an operator means: an operation, whose key it is, and the key.
///
/// There is one constructor for each place where a key can come from, because the same characters are
/// another key in another place: `"abc"` in a header is the key `abc`, and `"abc"` with its quotes is
/// another one for [`execute`](crate::Idempotency::execute).
///
/// | the key comes from | constructor |
/// | --- | --- |
/// | a request's header | [`new`](Self::new) |
/// | the `key` argument of [`execute`](crate::Idempotency::execute) | [`by_text`](Self::by_text) |
/// | `key = expr` of the attribute, on handlers and plain functions | [`by_value`](Self::by_value) |
/// | nowhere: the record's own key is known | [`by_record_key`](Self::by_record_key) |
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
}

/// A value as canonical JSON, or why there is none: told when it is used, so that setting up an
/// identity is one expression.
type Serialized = Result<Vec<u8>, Arc<serde_json::Error>>;

#[derive(Clone)]
enum KeySource {
    Record(RecordKey),
    Header(String),
    Text(String),
    Value(Serialized),
}

impl Locator {
    /// A key as clients send it in a header: bare, or as a quoted string. (Both name the same record,
    /// also where handlers insist on the quoted form.)
    ///
    /// `operation` is the handler's `name = "..."`, or its method and matched route, prefixes of nested
    /// routers included: `POST /v1/payments/{id}`. What a parameter is called there does not matter.
    #[must_use]
    pub fn new(operation: impl Into<String>, key: impl Into<String>) -> Self {
        Self::of(operation.into(), KeySource::Header(key.into()))
    }

    /// A key as [`Idempotency::execute`](crate::Idempotency::execute) was given it: that text, character
    /// for character. `operation` is what that call was given too, or the name of its policy.
    #[must_use]
    pub fn by_text(operation: impl Into<String>, key: impl Into<String>) -> Self {
        Self::of(operation.into(), KeySource::Text(key.into()))
    }

    /// A key that a handler or a plain function makes itself: the value of its `key = expr`. `operation`
    /// is its `name = "..."`.
    #[must_use]
    pub fn by_value<T: Serialize + ?Sized>(operation: impl Into<String>, key: &T) -> Self {
        Self::of(operation.into(), KeySource::Value(serialized(key)))
    }

    /// A record by its own key, whatever its operation and scope: as [`Idempotency::list`](crate::Idempotency::list),
    /// [`Inspection::record_key`] and [`Attempt::record_key`](crate::Attempt::record_key) tell it. A
    /// [`RecordKey`] reads from its 64 hexadecimal digits.
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
        }
    }

    /// Whose key it is: the value of the handler's `scope = expr`, the scope that
    /// [`Idempotency::execute`](crate::Idempotency::execute) was given, or what the resolver of
    /// [`IdempotencyBuilder::scope`](crate::IdempotencyBuilder::scope) has returned for the request. `None` and `()` are
    /// nobody's scope, as they are there: the same as not to call this.
    #[must_use]
    pub fn scope<T: Serialize + ?Sized>(mut self, scope: &T) -> Self {
        self.scope = Some(serialized(scope));
        self
    }

    pub(crate) fn resolve(&self) -> Result<Resolved<'_>, Error> {
        let key = match &self.key {
            KeySource::Record(_) => {
                let message = "a record key is a digest: the key that it was made of is not known";
                return Err(Error::new(ErrorKind::InvalidIdentity, message));
            }
            KeySource::Header(value) => {
                Key::parse(value.as_bytes(), KeySyntax::Lenient).map_err(invalid_key)?
            }
            KeySource::Text(text) => Key::from_text(text).map_err(invalid_key)?,
            KeySource::Value(value) => match &**value.as_ref().map_err(unserializable)? {
                // What a handler takes for no key.
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

/// An [`Locator`] that makes a record key.
pub(crate) struct Resolved<'a> {
    pub(crate) operation: &'a str,
    pub(crate) scope: Option<&'a [u8]>,
    pub(crate) key: Key,
}

fn serialized<T: Serialize + ?Sized>(value: &T) -> Serialized {
    to_canonical(value).map_err(Arc::new)
}

fn invalid_key(cause: InvalidKey) -> Error {
    Error::new(
        ErrorKind::InvalidIdentity,
        "not a key that can have been used",
    )
    .with_source(cause)
}

fn unserializable(cause: &Arc<serde_json::Error>) -> Error {
    let message = "a scope or key that has no JSON of its own";
    Error::new(ErrorKind::InvalidIdentity, message).with_source(Arc::clone(cause))
}

/// Never scope and key: they are identities and secrets.
impl fmt::Debug for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locator")
            .field("operation", &self.operation)
            .field("scoped", &self.scope.is_some())
            .finish_non_exhaustive()
    }
}

/// What the store has for one key, at one moment, by its clock.
#[derive(Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// What the handler got from [`Attempt::record_key`](crate::Attempt::record_key), and has perhaps
    /// written beside its effect.
    pub record_key: RecordKey,
    /// What has become of it; of a completed one, the response.
    pub state: RecordState,
    /// Which attempt is the latest: 1, 2, ...
    pub attempt: u32,
    /// The time since the first attempt began.
    pub age: Duration,
    /// The time until the record is gone and the key is free.
    pub expires_in: Duration,
    /// The operation, as the first attempt named it: at most its first 128 bytes.
    pub operation: Arc<str>,
    /// The application's own reference, if it gave one.
    pub label: Option<Arc<str>>,
    pub(crate) steps: Result<FinishedSteps, Error>,
}

impl Inspection {
    /// The labels of the steps that attempts have finished, in order. A completed record keeps none.
    ///
    /// # Errors
    ///
    /// [`Error`] when there are steps that cannot be read, such as those of a newer release.
    pub fn steps(&self) -> Result<Vec<&str>, &Error> {
        let steps = self.steps.as_ref()?;
        Ok(steps.labels().collect())
    }
}

/// What has become of an operator's decision.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Resolution {
    /// It is carried out.
    Resolved,
    /// It was [`Recovery::Unknown`](crate::Recovery::Unknown): the key is abandoned as before.
    Undecided,
    /// There is no record: the key is free.
    NotFound,
    /// The key is not abandoned: an attempt is running. Nothing was changed.
    Running {
        /// The time until the lease ends unless it is renewed.
        lease_left: Duration,
    },
    /// The key is not abandoned, it has its response. Nothing was changed.
    Completed(Arc<StoredResponse>),
    /// Meanwhile the attempt that was decided about was taken over, settled by another operator, or
    /// forgotten. Nothing was changed: look again.
    Changed,
}

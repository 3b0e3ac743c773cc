//! Listing records, for operators.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::key::RecordKey;

/// The state of a record, without its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordStatus {
    /// Claimed, and its lease has not ended.
    InFlight,
    /// Claimed, not completed, and its lease has ended: an operator may have to
    /// [resolve](crate::Idempotency::resolve) it.
    Abandoned,
    /// Completed.
    Completed,
}

/// Which records [`Idempotency::list`](crate::Idempotency::list) and [`Store::list`](super::Store::list) return:
/// those that meet all conditions. Default: all records.
///
/// ```
/// use std::time::Duration;
/// use idempotent_runtime::store::{ListFilter, RecordStatus};
///
/// let forgotten = ListFilter::new()
///     .status(RecordStatus::Abandoned)
///     .operation("POST /payments")
///     .older_than(Duration::from_secs(60 * 60));
/// # drop(forgotten);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListFilter {
    /// Only records of this status.
    pub status: Option<RecordStatus>,
    /// Only records of this operation, in its stored form: without the names of parameters, and cut to 128 bytes.
    pub operation: Option<String>,
    /// Only records with this label.
    pub label: Option<String>,
    /// Only records whose first claim is at least this long ago, by the store's clock.
    pub older_than: Option<Duration>,
    /// Whether the listing has the sizes of records: see [`with_sizes`](Self::with_sizes).
    pub sizes: bool,
}

impl ListFilter {
    /// All records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only records of this status. For a status other than [`Completed`](RecordStatus::Completed) the SQL stores
    /// have an index.
    #[must_use]
    pub fn status(mut self, status: RecordStatus) -> Self {
        self.status = Some(status);
        self
    }

    /// Only records of this operation. Names of parameters do not matter: `POST /orders/{id}` is the same as
    /// `POST /orders/{order}`.
    #[must_use]
    pub fn operation(mut self, operation: &str) -> Self {
        let operation = crate::operation::without_parameter_names(operation);
        self.operation = Some(crate::operation::stored(&operation).to_owned());
        self
    }

    /// Only records with this label.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Only records whose first claim is at least this long ago.
    #[must_use]
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// Includes the sizes ([`ListedRecord::size_bytes`]), which are 0 otherwise. This is slower on MySQL and MariaDB,
    /// which read all of a long response to find its length.
    #[must_use]
    pub fn with_sizes(mut self) -> Self {
        self.sizes = true;
        self
    }

    /// Whether the filter matches this record. For a store that checks its records one by one.
    #[must_use]
    pub fn matches(&self, record: &ListedRecord) -> bool {
        self.status.is_none_or(|status| status == record.status)
            && self
                .operation
                .as_deref()
                .is_none_or(|operation| *operation == *record.operation)
            && self
                .label
                .as_deref()
                .is_none_or(|label| Some(label) == record.label.as_deref())
            && self.older_than.is_none_or(|age| age <= record.age)
    }

    /// The record, if it is listed, as it is listed.
    #[cfg(any(
        feature = "memory",
        feature = "redis",
        feature = "postgres",
        feature = "mysql",
        feature = "sqlite"
    ))]
    pub(super) fn listed(&self, mut record: ListedRecord) -> Option<ListedRecord> {
        if !self.sizes {
            record.size_bytes = 0;
        }
        self.matches(&record).then_some(record)
    }

    /// Whether a record that is completed can be listed.
    #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
    pub(super) fn lists_completed(&self) -> bool {
        matches!(self.status, None | Some(RecordStatus::Completed))
    }
}

/// A record in a listing, without its response.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedRecord {
    /// The record key, for [`Locator::by_record_key`](crate::Locator::by_record_key).
    pub key: RecordKey,
    /// The state of the record.
    pub status: RecordStatus,
    /// The number of the latest claim of this record: 1, 2, ...
    pub attempt: u32,
    /// The operation, as its first claim named it.
    pub operation: Arc<str>,
    /// The application's own reference, if it gave one.
    pub label: Option<Arc<str>>,
    /// The time since the first claim.
    pub age: Duration,
    /// The time until the lease ends unless it is renewed; zero if it has ended.
    pub lease_left: Duration,
    /// The time until the record expires.
    pub expires_in: Duration,
    /// The size of the stored response, or of the progress, in bytes; 0 if there is neither, or if the sizes were not
    /// [requested](ListFilter::with_sizes).
    ///
    /// The SQL stores count the encoded bytes of the column `response` or `progress`, and Redis those of the
    /// corresponding part of the value: without the rest of the row or value, and before compression by the database.
    /// The memory store counts the progress, or the approximate size of the response in memory.
    pub size_bytes: u64,
}

impl ListedRecord {
    /// A record with these properties, in its first attempt and without a label, for a store of your own. The other
    /// fields are public.
    #[must_use]
    pub fn new(key: RecordKey, status: RecordStatus, operation: Arc<str>) -> Self {
        Self {
            key,
            status,
            attempt: 1,
            operation,
            label: None,
            age: Duration::ZERO,
            lease_left: Duration::ZERO,
            expires_in: Duration::ZERO,
            size_bytes: 0,
        }
    }
}

/// Where a [`Listing`] continues. Opaque: only the kind of store that made it can read it.
///
/// It stays valid while records come and go, and after a restart. Its text ([`Display`](fmt::Display), [`FromStr`]) is
/// hexadecimal, and can be given to a client of an API for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListCursor(Box<[u8]>);

impl ListCursor {
    /// A cursor made of a store's own bytes.
    #[must_use]
    pub fn from_bytes(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes of the store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key after which a store goes on that lists in the order of the keys.
    #[cfg(any(
        feature = "memory",
        feature = "postgres",
        feature = "mysql",
        feature = "sqlite"
    ))]
    pub(super) fn key(&self) -> Option<RecordKey> {
        let key = <[u8; 32]>::try_from(&*self.0).ok()?;
        Some(RecordKey::from_bytes(key))
    }
}

impl From<RecordKey> for ListCursor {
    fn from(key: RecordKey) -> Self {
        Self(key.as_bytes()[..].into())
    }
}

impl fmt::Display for ListCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The longest cursor that is read from text, in bytes.
const LONGEST_CURSOR: usize = 64;

impl FromStr for ListCursor {
    type Err = Error;

    /// # Errors
    ///
    /// [`ErrorKind::InvalidLocator`] if the text is not that of a cursor.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bytes = crate::key::bytes_of_hex(text).filter(|bytes| bytes.len() <= LONGEST_CURSOR);
        let bytes = bytes.ok_or_else(|| Error::new(ErrorKind::InvalidLocator, "not a cursor"))?;
        Ok(Self(bytes.into()))
    }
}

/// One page of records.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Listing {
    /// The records of this page, in no particular order. A page may be empty even if there are more pages.
    pub records: Vec<ListedRecord>,
    /// Where the next page begins; `None` after the last page.
    pub next: Option<ListCursor>,
}

impl Listing {
    /// A page, and where the next one begins.
    #[must_use]
    pub fn new(records: Vec<ListedRecord>, next: Option<ListCursor>) -> Self {
        Self { records, next }
    }
}

/// The most records of a page.
#[cfg(any(
    feature = "memory",
    feature = "redis",
    feature = "postgres",
    feature = "mysql",
    feature = "sqlite"
))]
pub(crate) const MOST_LISTED: usize = 1000;

/// A listing in the order of the keys, while it is made.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(super) struct InOrder<'a> {
    filter: &'a ListFilter,
    limit: usize,
    /// Where the next look begins: after this key.
    pub(super) after: RecordKey,
    looks: usize,
    listing: Listing,
}

/// A row of a look: its key, and its record unless that has expired. Nothing, if its key is not one.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(super) type Looked<E> = Option<(RecordKey, Result<Option<ListedRecord>, E>)>;

/// How many rows one look reads, whether or not they are listed.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(super) const LOOK: usize = 1000;

/// How many looks a page takes at most.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
const MOST_LOOKS: usize = 10;

#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
impl<'a> InOrder<'a> {
    /// Begins after the cursor. A key of only zeros is no record's: it would have to be the digest of something.
    pub(super) fn new(
        filter: &'a ListFilter,
        cursor: Option<&ListCursor>,
        limit: usize,
        store: &'static str,
    ) -> Result<Self, super::StoreError> {
        let after = match cursor {
            Some(cursor) => cursor.key().ok_or_else(|| foreign_cursor(store))?,
            None => RecordKey::from_bytes([0; 32]),
        };
        Ok(Self {
            filter,
            limit: limit.clamp(1, MOST_LISTED),
            after,
            looks: 0,
            listing: Listing::default(),
        })
    }

    /// Adds the rows of a look in the order of their keys. Says whether to look again.
    pub(super) fn add<E: std::error::Error + 'static>(&mut self, rows: Vec<Looked<E>>) -> bool {
        let is_last = rows.len() < LOOK;
        for (key, record) in rows.into_iter().flatten() {
            if self.listing.records.len() == self.limit {
                self.listing.next = Some(self.after.into());
                return false;
            }
            self.after = key;
            let record = record.unwrap_or_else(|error| {
                warn_unreadable(&key, &error);
                None
            });
            let listed = record.and_then(|record| self.filter.listed(record));
            self.listing.records.extend(listed);
        }
        self.looks += 1;
        let is_over = is_last || self.looks == MOST_LOOKS;
        self.listing.next = (!is_last).then(|| self.after.into());
        !is_over && self.listing.records.len() < self.limit
    }

    pub(super) fn finish(self) -> Listing {
        self.listing
    }
}

/// A cursor that another kind of store made.
#[cfg(any(
    feature = "memory",
    feature = "redis",
    feature = "postgres",
    feature = "mysql",
    feature = "sqlite"
))]
pub(super) fn foreign_cursor(store: &'static str) -> super::StoreError {
    super::StoreError::new(store, super::StoreErrorKind::Unsupported)
        .with_source("the cursor is another store's")
}

/// Tells of a record that is left out of a listing because it cannot be read.
#[cfg(any(
    feature = "redis",
    feature = "postgres",
    feature = "mysql",
    feature = "sqlite"
))]
pub(super) fn warn_unreadable(key: &RecordKey, error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(record = %key, error, "a record that cannot be read is left out of a listing");
}

//! Who decided about a record, when and why.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::cbor::{Malformed, Reader, Writer};

/// The longest name and the longest reason that are kept, in bytes.
const MOST_BYTES: usize = 512;

/// The end of the year 9999.
const LATEST_MS: u64 = 253_402_300_799_999;

/// An operator's decision, as stored in the record that it completed: who, when and why.
///
/// [`Idempotency::resolve_as`](crate::Idempotency::resolve_as) writes it,
/// [`StoredResponse::audit`](super::StoredResponse::audit) reads it. Clients never get it. Name and reason are stored
/// in clear text: put no secrets in them.
///
/// ```
/// use idempotent_runtime::AuditLine;
///
/// let audit = AuditLine::new("anna@example.com", "the bank's statement of May 4 says: paid");
/// assert_eq!(audit.by(), "anna@example.com");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct AuditLine {
    by: Box<str>,
    reason: Box<str>,
    at_ms: u64,
}

impl AuditLine {
    /// A decision that is made now, by the clock of this process. The name and the reason are cut to 512 bytes each,
    /// and control characters are replaced by spaces, so that a log line stays one line.
    #[must_use]
    pub fn new(by: &str, reason: &str) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            by: one_line(by),
            reason: one_line(reason),
            at_ms: u64::try_from(since_epoch.unwrap_or_default().as_millis()).unwrap_or_default(),
        }
    }

    /// Who decided.
    #[must_use]
    pub fn by(&self) -> &str {
        &self.by
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// When, to the millisecond, by the clock of the process that wrote the line.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.at_ms)
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.by.len() + self.reason.len()
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.array(3);
        writer.uint(self.at_ms);
        writer.text(&self.by);
        writer.text(&self.reason);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let elements = reader.array()?;
        // A time that no clock can show is no reason to lose the response.
        let at_ms = reader.uint()?.min(LATEST_MS);
        let by = one_line(&String::from_utf8_lossy(reader.text_bytes()?));
        let reason = one_line(&String::from_utf8_lossy(reader.text_bytes()?));
        for _ in 3..elements {
            reader.skip()?;
        }
        Ok(Self { by, reason, at_ms })
    }
}

fn one_line(text: &str) -> Box<str> {
    let mut end = text.len().min(MOST_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let line = text.get(..end).unwrap_or_default();
    line.replace(|it: char| it.is_control(), " ").into()
}

impl fmt::Debug for AuditLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLine")
            .field("by", &self.by)
            .field("reason", &self.reason)
            .field("at", &self.at())
            .finish()
    }
}

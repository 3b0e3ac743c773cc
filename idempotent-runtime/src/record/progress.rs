//! Progress: the steps that a claim's handler has finished, and their bytes.
//!
//! One byte, then the steps one behind the other (RFC 8742), each a map of CBOR. The byte is 1; it is 2 from the beginning of
//! a record that was claimed together with others of its request, while a secret is rotated.
//!
//! | tag | | value |
//! | --: | --- | --- |
//! | 0 | label | text |
//! | 2 | the name of the result's type | text |
//! | 4 | the result as JSON; absent where it could not be kept | text |
//!
//! or this one, which is no step:
//!
//! | tag | | value |
//! | --: | --- | --- |
//! | 6 | the record key that the handler was told, where that can be another record's than this one | 32 bytes |
//!
//! An even tag is required and an odd one optional, as in a stored response. What is appended leaves the bytes
//! before it alone, so progress only grows, as
//! [`Store::save_progress`](crate::store::Store::save_progress) asks.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::cbor::{Malformed, Reader, Writer};
use crate::key::RecordKey;

/// The first byte.
const ALONE: u8 = 1;

/// What a record begins with that is claimed together with others of its request.
pub(crate) const BESIDE_OTHERS: [u8; 1] = [2];

/// The numbers of the fields. Even ones are required, odd ones optional.
mod tag {
    pub(super) const LABEL: u64 = 0;
    pub(super) const TYPE_NAME: u64 = 2;
    pub(super) const JSON: u64 = 4;
    pub(super) const IDENTITY: u64 = 6;
}

/// The most bytes of progress in one record.
pub(crate) const MAX_PROGRESS_BYTES: usize = 1024 * 1024;

/// The finished steps of a record, in the order in which they were finished.
#[derive(Clone, Default)]
pub(crate) struct FinishedSteps {
    in_order: Vec<Finished>,
    places: HashMap<Arc<str>, usize>,
    identity: Option<RecordKey>,
    is_beside_others: bool,
}

/// What progress consists of.
enum Part {
    Step(Finished),
    Identity(RecordKey),
}

/// One finished step.
#[derive(Clone)]
pub(crate) struct Finished {
    label: Arc<str>,
    type_name: Box<str>,
    /// `None`: the step was finished, and its result could not be kept.
    json: Option<Box<str>>,
}

/// Why progress could not be read. It must never be taken as absent: its steps have happened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgressError {
    #[error("progress has format version {0}; this release reads versions 1 and 2")]
    Version(u8),
    #[error("progress has the required field {0}, which this release does not know")]
    RequiredField(u64),
    #[error("progress is malformed")]
    Malformed(#[source] Malformed),
    #[error("progress has a duplicate step")]
    Repeated,
}

/// A step that an earlier attempt has finished, but whose result cannot be returned. The step does not run again,
/// because its effect has happened.
#[derive(Debug)]
pub struct UnusableStep {
    label: Box<str>,
    cause: Cause,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("has a stored result of type `{stored}`, but `{requested}` was requested")]
    OtherType { stored: Box<str>, requested: String },
    #[error("has a stored result that can no longer be read as `{requested}`")]
    Undecodable {
        requested: String,
        source: serde_json::Error,
    },
    #[error("is finished, but its result could not be stored")]
    NotRetained,
}

impl From<Malformed> for ProgressError {
    fn from(cause: Malformed) -> Self {
        Self::Malformed(cause)
    }
}

impl FinishedSteps {
    /// Reads what [`append`] has put together; no bytes are no steps.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, ProgressError> {
        let mut steps = Self::default();
        let Some((version, rest)) = bytes.split_first() else {
            return Ok(steps);
        };
        steps.is_beside_others = BESIDE_OTHERS == [*version];
        if *version != ALONE && !steps.is_beside_others {
            return Err(ProgressError::Version(*version));
        }
        let mut reader = Reader::new(rest);
        while reader.left() > 0 {
            match Part::read(&mut reader)? {
                Part::Step(step) => steps.push(step)?,
                // The first attempt's, whatever another has thought.
                Part::Identity(key) => {
                    steps.identity.get_or_insert(key);
                }
            }
        }
        Ok(steps)
    }

    pub(crate) fn labels(&self) -> impl Iterator<Item = &str> {
        self.in_order.iter().map(|step| &*step.label)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.in_order.is_empty()
    }

    /// The record key that the handlers of this request were told, if that is said here.
    pub(crate) fn identity(&self) -> Option<RecordKey> {
        self.identity
    }

    /// Whether the record was new to an attempt that claimed all of its request's. Otherwise it is the only one that its first
    /// attempt knew.
    pub(crate) fn is_beside_others(&self) -> bool {
        self.is_beside_others
    }

    /// The result of a step; `None` when it was not finished.
    pub(crate) fn result<T: DeserializeOwned>(
        &self,
        label: &str,
    ) -> Result<Option<T>, UnusableStep> {
        self.find(label).map(Finished::result).transpose()
    }

    fn find(&self, label: &str) -> Option<&Finished> {
        self.in_order.get(*self.places.get(label)?)
    }

    fn push(&mut self, step: Finished) -> Result<(), ProgressError> {
        let Entry::Vacant(place) = self.places.entry(Arc::clone(&step.label)) else {
            return Err(ProgressError::Repeated);
        };
        place.insert(self.in_order.len());
        self.in_order.push(step);
        Ok(())
    }
}

impl Finished {
    /// A step that was finished with a `T`, or with one that is not kept.
    pub(crate) fn new<T>(label: &str, json: Option<String>) -> Self {
        Self {
            label: label.into(),
            type_name: type_name::<T>().into(),
            json: json.map(Into::into),
        }
    }

    /// Its bytes, to be [`append`]ed.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        writer.map(2 + usize::from(self.json.is_some()));
        writer.uint(tag::LABEL);
        writer.text(&self.label);
        writer.uint(tag::TYPE_NAME);
        writer.text(&self.type_name);
        if let Some(json) = &self.json {
            writer.uint(tag::JSON);
            writer.text(json);
        }
        writer.finish()
    }

    /// What it was finished with.
    pub(crate) fn result<T: DeserializeOwned>(&self) -> Result<T, UnusableStep> {
        let requested = type_name::<T>();
        let unusable = |cause| UnusableStep {
            label: (*self.label).into(),
            cause,
        };
        if *self.type_name != *requested {
            let stored = self.type_name.clone();
            return Err(unusable(Cause::OtherType { stored, requested }));
        }
        let Some(json) = &self.json else {
            return Err(unusable(Cause::NotRetained));
        };
        serde_json::from_str(json)
            .map_err(|source| unusable(Cause::Undecodable { requested, source }))
    }
}

/// The bytes of the record key that a handler is told, to be [`append`]ed.
pub(crate) fn encode_identity(key: &RecordKey) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer.map(1);
    writer.uint(tag::IDENTITY);
    writer.bytes(key.as_bytes());
    writer.finish()
}

impl Part {
    /// Each field is there once.
    fn read(reader: &mut Reader<'_>) -> Result<Self, ProgressError> {
        let (mut label, mut type_name, mut json) = (None, None, None);
        let mut identity = None;
        for _ in 0..reader.map()? {
            let field = match reader.uint()? {
                tag::LABEL => &mut label,
                tag::TYPE_NAME => &mut type_name,
                tag::JSON => &mut json,
                tag::IDENTITY if identity.is_none() => {
                    let bytes = reader.bytes()?.try_into();
                    let bytes =
                        bytes.map_err(|_| Malformed::from("a record key without 32 bytes"))?;
                    identity = Some(RecordKey::from_bytes(bytes));
                    continue;
                }
                tag::IDENTITY => return Err(Malformed::from("a field given twice").into()),
                unknown if unknown % 2 == 0 => return Err(ProgressError::RequiredField(unknown)),
                _ => {
                    reader.skip()?;
                    continue;
                }
            };
            if field.replace(reader.text()?).is_some() {
                return Err(Malformed::from("a field given twice").into());
            }
        }
        if let Some(identity) = identity {
            return Ok(Self::Identity(identity));
        }
        let (Some(label), Some(type_name)) = (label, type_name) else {
            return Err(Malformed::from("a step without a label or a type").into());
        };
        Ok(Self::Step(Finished {
            label: label.into(),
            type_name: type_name.into(),
            json: json.map(Into::into),
        }))
    }
}

/// Adds an encoded step to the bytes.
pub(crate) fn append(progress: &mut Vec<u8>, step: &[u8]) {
    if progress.is_empty() {
        progress.push(ALONE);
    }
    progress.extend_from_slice(step);
}

/// The same progress of a record that was claimed alone.
pub(crate) fn claimed_alone(progress: &Bytes) -> Bytes {
    match progress.split_first() {
        Some((first, rest)) if *first != ALONE => [&[ALONE], rest].concat().into(),
        _ => progress.clone(),
    }
}

/// Whether one record's progress is the beginning of another's, but for the byte that says how each was claimed.
pub(crate) fn begins_with(longer: &[u8], shorter: &[u8]) -> bool {
    match (longer.split_first(), shorter.split_first()) {
        (_, None) => true,
        (None, Some(_)) => shorter.len() == 1,
        (Some((_, longer)), Some((_, shorter))) => longer.starts_with(shorter),
    }
}

/// The type's name without the paths of modules: moving a type is no change of it.
fn type_name<T>() -> String {
    let is_of_identifier = |c: char| c.is_alphanumeric() || c == '_';
    let mut parts = std::any::type_name::<T>().split("::").peekable();
    let mut name = String::new();
    while let Some(part) = parts.next() {
        name.push_str(match parts.peek() {
            Some(_) => part.trim_end_matches(is_of_identifier),
            None => part,
        });
    }
    name
}

impl UnusableStep {
    /// The step's label.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }
}

impl fmt::Display for UnusableStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step `{}` {}", self.label, self.cause)
    }
}

impl std::error::Error for UnusableStep {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.source()
    }
}

/// Never the result, as for all of them.
impl fmt::Debug for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Finished").field(&self.label).finish()
    }
}

/// Never the results: a step may give what no log may have.
impl fmt::Debug for FinishedSteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.labels()).finish()
    }
}

#[cfg(test)]
mod tests;

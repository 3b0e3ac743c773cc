//! The version of the schema, which all SQL stores have as the default of the column `schema_version`: it is there in
//! each dump of the table.

use crate::store::{StoreError, StoreErrorKind};

/// What there is of a table's name.
pub(in crate::store) enum Found {
    Nothing,
    /// A table of this crate. One of the first releases can have no version.
    Made(Option<u32>),
    /// A table of this release, in which one key can have two records.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    WithoutKey,
    /// A table that this crate has not made.
    Foreign,
}

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum Unusable {
    #[error(
        "the table `{0}` has schema {1}, and this release of idempotent-runtime reads schema {2}: use the \
         release that made it, or use another table (a retry of a key in this one would run again)"
    )]
    Newer(String, u32, u32),
    #[error(
        "the table `{0}` has schema {1}, and this release of idempotent-runtime reads schema {2}: drop the \
         table when its records have expired, or use another table (before that, a retry of a key in this one would \
         run again)"
    )]
    Older(String, u32, u32),
    #[error(
        "the table `{0}` has the schema of an earlier release of idempotent-runtime, and this one reads schema \
         {1}: drop the table when its records have expired, or use another table (before that, a retry of a key in \
         this one would run again)"
    )]
    Unversioned(String, u32),
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    #[error(
        "the table `{0}` has no primary key on `record_key` alone, as after half of a restore: two requests with one \
         key would both run"
    )]
    WithoutKey(String),
    #[error("table `{0}` exists but was not created by idempotent-runtime: use another name")]
    Foreign(String),
}

impl Unusable {
    /// As an error of a store. What another release has written may be about the same request.
    pub(in crate::store) fn of(self, store: &'static str) -> StoreError {
        let kind = match self {
            Self::Newer(..) | Self::Older(..) | Self::Unversioned(..) => {
                StoreErrorKind::OtherRelease
            }
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            Self::WithoutKey(_) => StoreErrorKind::Refused,
            Self::Foreign(_) => StoreErrorKind::Refused,
        };
        StoreError::new(store, kind).with_source(self)
    }

    /// What an operator does about it.
    pub(in crate::store) fn fix(&self) -> &'static str {
        match self {
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            Self::WithoutKey(_) => "`ALTER TABLE ... ADD PRIMARY KEY (record_key)`",
            Self::Newer(..) | Self::Older(..) | Self::Unversioned(..) | Self::Foreign(_) => {
                "use the release that made it; with another table a retry of a key in this one would run again"
            }
        }
    }
}

impl Found {
    /// Whether there is a table of that name. This release reads and makes the version `reads` of it.
    ///
    /// # Errors
    ///
    /// [`Unusable`] when it is not one that this release can use.
    pub(in crate::store) fn is_there(
        &self,
        table: &impl ToString,
        reads: u32,
    ) -> Result<bool, Unusable> {
        let table = || table.to_string();
        Err(match self {
            Self::Nothing => return Ok(false),
            Self::Made(Some(version)) if *version == reads => return Ok(true),
            Self::Made(Some(newer)) if *newer > reads => Unusable::Newer(table(), *newer, reads),
            Self::Made(Some(older)) => Unusable::Older(table(), *older, reads),
            Self::Made(None) => Unusable::Unversioned(table(), reads),
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            Self::WithoutKey => Unusable::WithoutKey(table()),
            Self::Foreign => Unusable::Foreign(table()),
        })
    }
}

/// The table is not there.
#[derive(Debug, thiserror::Error)]
#[error(
    "the table, or a part of it, is missing: call `{store}::migrate` once before the first use"
)]
pub(in crate::store) struct NotMigrated {
    /// The type of the store.
    store: &'static str,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl NotMigrated {
    pub(in crate::store) fn new(
        store: &'static str,
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { store, source }
    }
}

//! The names of operations, each kept once for all its records.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

/// The most names that are shared, a quarter of a mebibyte of them. A name over it is kept by its record
/// alone, and counted there.
const MAX_NAMES: usize = 1024;

/// The longest name that is shared, in bytes.
const MAX_NAME_BYTES: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Operations(RwLock<HashSet<Arc<str>>>);

/// The name of one record's operation.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) name: Arc<str>,
    /// Whether the record alone keeps it.
    pub(super) is_own: bool,
}

impl Operations {
    pub(super) fn intern(&self, name: &str) -> Operation {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = names.get(name) {
            let name = Arc::clone(name);
            return Operation {
                name,
                is_own: false,
            };
        }
        let has_room = names.len() < MAX_NAMES && name.len() <= MAX_NAME_BYTES;
        drop(names);
        let name: Arc<str> = name.into();
        if has_room {
            let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
            names.insert(Arc::clone(&name));
        }
        Operation {
            name,
            is_own: !has_room,
        }
    }
}

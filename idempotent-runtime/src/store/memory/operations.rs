//! The names of operations, each kept once for all its records.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

/// The most names that are shared. A name over it is kept by its record alone.
const MAX_NAMES: usize = 1024;

/// The longest name that is shared, in bytes.
const MAX_NAME_BYTES: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Operations(RwLock<HashSet<Arc<str>>>);

impl Operations {
    pub(super) fn intern(&self, name: &str) -> Arc<str> {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = names.get(name) {
            return Arc::clone(name);
        }
        let has_room = names.len() < MAX_NAMES && name.len() <= MAX_NAME_BYTES;
        drop(names);
        let name: Arc<str> = name.into();
        if has_room {
            let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
            names.insert(Arc::clone(&name));
        }
        name
    }
}

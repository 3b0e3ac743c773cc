//! Values that exist once for each record key in this process, for as long as they are used.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::key::RecordKey;

type ByKey<T> = Mutex<HashMap<RecordKey, Weak<Entry<T>>>>;

/// The values that are in use. Clones are the same.
pub(crate) struct Keyed<T>(Arc<ByKey<T>>);

/// The value of one key. It is removed when the last of its users drops it.
pub(crate) struct Entry<T> {
    key: RecordKey,
    value: T,
    entries: Arc<ByKey<T>>,
}

impl<T> Keyed<T> {
    /// The value of this key, which is made if the key has none.
    pub(crate) fn get_or_insert_with(
        &self,
        key: &RecordKey,
        make: impl FnOnce() -> T,
    ) -> Arc<Entry<T>> {
        let mut entries = self.lock();
        match entries.get(key).and_then(Weak::upgrade) {
            Some(entry) => entry,
            None => self.insert(&mut entries, key, make()),
        }
    }

    /// The value of this key, which is made now; `None` if the key has one.
    pub(crate) fn insert_with(
        &self,
        key: &RecordKey,
        make: impl FnOnce() -> T,
    ) -> Option<Arc<Entry<T>>> {
        let mut entries = self.lock();
        let is_in_use = |entry: &Weak<Entry<T>>| entry.strong_count() > 0;
        let is_free = !entries.get(key).is_some_and(is_in_use);
        is_free.then(|| self.insert(&mut entries, key, make()))
    }

    fn insert(
        &self,
        entries: &mut HashMap<RecordKey, Weak<Entry<T>>>,
        key: &RecordKey,
        value: T,
    ) -> Arc<Entry<T>> {
        let entry = Arc::new(Entry {
            key: *key,
            value,
            entries: Arc::clone(&self.0),
        });
        entries.insert(*key, Arc::downgrade(&entry));
        entry
    }

    /// The value of this key, if it is in use.
    pub(crate) fn get(&self, key: &RecordKey) -> Option<Arc<Entry<T>>> {
        self.lock().get(key).and_then(Weak::upgrade)
    }

    /// All values that are in use.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(crate) fn all(&self) -> Vec<Arc<Entry<T>>> {
        self.lock().values().filter_map(Weak::upgrade).collect()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RecordKey, Weak<Entry<T>>>> {
        lock(&self.0)
    }
}

/// Every change under this lock is one insert or one remove, so a panic leaves nothing half done.
fn lock<T>(entries: &ByKey<T>) -> MutexGuard<'_, HashMap<RecordKey, Weak<Entry<T>>>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        let mut entries = lock(&self.entries);
        // The key may have another value by now.
        let is_unused = |entry: &Weak<Self>| entry.strong_count() == 0;
        if entries.get(&self.key).is_some_and(is_unused) {
            entries.remove(&self.key);
        }
    }
}

impl<T> Deref for Entry<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Default for Keyed<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Keyed<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Keyed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Entry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: RecordKey = RecordKey::from_bytes([1; 32]);
    const OTHER: RecordKey = RecordKey::from_bytes([2; 32]);

    #[test]
    fn a_key_has_one_value_until_its_last_user_is_gone() {
        let keyed = Keyed::default();
        let first = keyed.get_or_insert_with(&ONE, || 1);
        let second = keyed.get_or_insert_with(&ONE, || 2);
        assert_eq!((**first, **second), (1, 1));
        let other = keyed.get_or_insert_with(&OTHER, || 3);
        assert_eq!((**other, keyed.len()), (3, 2));
        drop((first, other));
        assert_eq!(**keyed.get_or_insert_with(&ONE, || 4), 1);
        assert!(keyed.insert_with(&ONE, || 4).is_none());
        drop(second);
        assert_eq!(keyed.len(), 0);
        let inserted = keyed.insert_with(&ONE, || 4);
        assert_eq!(inserted.map(|it| **it), Some(4));
        assert_eq!(**keyed.get_or_insert_with(&ONE, || 5), 5);
    }
}

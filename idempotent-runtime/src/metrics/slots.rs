//! Handles of metrics, each made when it is first needed.

use std::array;
use std::sync::OnceLock;

/// One for each value of a label.
pub(super) struct Slots<T, const N: usize>([OnceLock<T>; N]);

impl<T, const N: usize> Default for Slots<T, N> {
    fn default() -> Self {
        Self(array::from_fn(|_| OnceLock::new()))
    }
}

impl<T, const N: usize> Slots<T, N> {
    pub(super) fn with(&self, index: usize, make: impl FnOnce() -> T, use_it: impl FnOnce(&T)) {
        if let Some(slot) = self.0.get(index) {
            use_it(slot.get_or_init(make));
        }
    }
}

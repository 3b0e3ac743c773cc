use std::collections::HashSet;
use std::ops::Deref;
use std::sync::Mutex;

use crate::engine::calls::lock;

/// The labels of one run: two steps of one label would share one result.
#[derive(Debug, Default)]
pub(crate) struct Labels(Mutex<HashSet<Box<str>>>);

/// A label whose step is running. Dropped before [`finish`](Self::finish), it is free again: a step
/// that failed may be tried again.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    labels: &'a Labels,
    label: &'a str,
    is_finished: bool,
}

impl Labels {
    /// `None` when there is a step of this label, running or finished.
    pub(crate) fn take<'a>(&'a self, label: &'a str) -> Option<Taken<'a>> {
        let is_new = lock(&self.0).insert(label.into());
        // Made only if it is to be dropped by its owner: dropping one frees its label.
        is_new.then(|| Taken {
            labels: self,
            label,
            is_finished: false,
        })
    }
}

impl Taken<'_> {
    pub(crate) fn finish(mut self) {
        self.is_finished = true;
    }
}

impl Deref for Taken<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.label
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            lock(&self.labels.0).remove(self.label);
        }
    }
}

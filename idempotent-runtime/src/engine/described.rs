//! What is known of a request besides its identity.

use std::ops::Deref;
use std::sync::Arc;

use crate::operation;

/// What operators see of a request: the operation, the application's own reference, and its trace. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Described(Arc<Description>);

#[derive(Clone, Debug)]
struct Description {
    operation: String,
    label: Option<Arc<str>>,
    /// The operation's name where the number of names must be bounded, if that is another one.
    observed: Option<&'static str>,
    trace_context: Option<Box<str>>,
}

impl Described {
    pub(crate) fn new(operation: impl Into<String>, label: Option<Arc<str>>) -> Self {
        Self(Arc::new(Description {
            operation: operation.into(),
            label,
            observed: None,
            trace_context: None,
        }))
    }

    /// Observers are told this name: a client could make up any number of operations.
    pub(crate) fn observed_as(mut self, name: Option<&'static str>) -> Self {
        if name.is_some() {
            Arc::make_mut(&mut self.0).observed = name;
        }
        self
    }

    /// A `traceparent`, which is kept in the record.
    pub(crate) fn with_trace_context(mut self, trace_context: Option<&str>) -> Self {
        if let Some(trace_context) = trace_context {
            Arc::make_mut(&mut self.0).trace_context = Some(trace_context.into());
        }
        self
    }

    /// The operation's name for observers, of which there are few.
    pub(crate) fn observed(&self) -> &str {
        self.0.observed.unwrap_or(&self.0.operation)
    }

    pub(crate) fn trace_context(&self) -> Option<&str> {
        self.0.trace_context.as_deref()
    }

    pub(super) fn label(&self) -> Option<&Arc<str>> {
        self.0.label.as_ref()
    }

    /// The operation as a store keeps it.
    pub(super) fn stored(&self) -> &str {
        operation::stored(&self.0.operation)
    }
}

impl Deref for Described {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.operation
    }
}

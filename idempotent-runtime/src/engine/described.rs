//! What is known of a request besides its identity.

use std::sync::Arc;

use crate::operation;

/// What operators see of a request: the operation, the application's own reference, and its trace. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Described(Arc<Description>);

#[derive(Clone, Debug)]
struct Description {
    operation: String,
    label: Option<Arc<str>>,
    /// What operators and observers see in its place: a client could make up any number of operations.
    shown: Option<Box<str>>,
    trace_context: Option<Box<str>>,
}

impl Described {
    pub(crate) fn new(operation: impl Into<String>, label: Option<Arc<str>>) -> Self {
        Self(Arc::new(Description {
            operation: operation.into(),
            label,
            shown: None,
            trace_context: None,
        }))
    }

    /// Stores and observers are told this name: a client could make up any number of operations, and put anything into
    /// their paths.
    pub(crate) fn shown_as(mut self, name: Option<Box<str>>) -> Self {
        if name.is_some() {
            Arc::make_mut(&mut self.0).shown = name;
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

    pub(crate) fn trace_context(&self) -> Option<&str> {
        self.0.trace_context.as_deref()
    }

    pub(super) fn label(&self) -> Option<&Arc<str>> {
        self.0.label.as_ref()
    }

    /// The operation with the path of a request that has no route: for the application's own code, and for no log.
    pub(crate) fn exact(&self) -> &str {
        &self.0.operation
    }

    /// The operation as a store keeps it, and as observers and logs are told it: of bounded length, and one of few.
    pub(crate) fn shown(&self) -> &str {
        operation::stored(self.0.shown.as_deref().unwrap_or(&self.0.operation))
    }
}

//! Whether an intent is still open where it is stored.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::intent::Intent;

type Asked = Pin<Box<dyn Future<Output = bool> + Send>>;

/// The application's question to its own storage, before each try.
#[derive(Clone)]
pub(crate) struct OpenCheck(Arc<dyn Fn(&Intent) -> Asked + Send + Sync>);

impl OpenCheck {
    pub(crate) fn new<F, A>(ask: F) -> Self
    where
        F: Fn(&Intent) -> A + Send + Sync + 'static,
        A: Future<Output = bool> + Send + 'static,
    {
        Self(Arc::new(move |intent| Box::pin(ask(intent))))
    }

    pub(crate) async fn is_open(&self, intent: &Intent) -> bool {
        (self.0)(intent).await
    }
}

impl fmt::Debug for OpenCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenCheck")
    }
}

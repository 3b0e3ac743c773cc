//! What a shutdown waits for.

use std::future::Future;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::prompt;

/// What runs for one engine. Every clone counts the same.
#[derive(Clone, Debug)]
pub(crate) struct Tasks(watch::Sender<()>);

/// Counts as one of the [`Tasks`] until it is dropped.
#[derive(Debug)]
pub(crate) struct TaskToken(
    #[expect(dead_code, reason = "it is only counted")] watch::Receiver<()>,
);

impl Tasks {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(()))
    }

    pub(crate) fn token(&self) -> TaskToken {
        TaskToken(self.0.subscribe())
    }

    pub(crate) fn spawn_on(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
        runtime: &Handle,
    ) {
        let token = self.token();
        prompt::spawn(runtime, async move {
            task.await;
            drop(token);
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.0.receiver_count()
    }

    /// Until nothing runs.
    pub(crate) async fn wait(&self) {
        self.0.closed().await;
    }
}

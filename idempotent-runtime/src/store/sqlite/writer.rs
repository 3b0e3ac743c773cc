//! The writer: a thread of its own that commits in groups.
//!
//! A commit waits for the disk, and that wait is nearly all a write costs. So whatever has come in
//! while one transaction was on its way to the disk makes up the next one. An operation that is alone
//! waits for no other: there is no timer. No caller is answered before the commit. A caller that goes away
//! before its operation was taken from the queue takes it along; after that, it is done all the same.

use std::io;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::database::Database;
use super::error::writer_has_ended;
use super::group::Group;
use super::job::{QueuedWork, WriteOperation};
use super::queue::{ClosesQueue, WriterQueue};
use super::shared::SharedState;
use super::statements::Statements;
use crate::store::StoreError;
use crate::unwind::catch_unwind;

/// The way to the writer, which ends when this is dropped and its queue is done.
pub(super) struct WriterThread(Arc<WriterQueue>);

impl WriterThread {
    pub(super) fn start(
        database: Arc<Database>,
        statements: Statements,
        shared: Arc<SharedState>,
    ) -> io::Result<Self> {
        let queue = Arc::<WriterQueue>::default();
        // Of its own, because the callers' may end before the store does. Without a driver for sockets:
        // the connection has a thread, and none of those.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let server = ClosesQueue(Arc::clone(&queue));
        let mut group = Group::new(database, statements, shared);
        let serve = async move || {
            let server = server;
            while server.0.wait().await {
                // The callers in it are told by their channels that no answer will come.
                if catch_unwind(group.serve(&server.0)).await.is_err() {
                    tracing::error!("a group of the sqlite store panicked");
                }
            }
            group.close().await;
        };
        std::thread::Builder::new()
            .name("idempotent-sqlite".to_owned())
            .spawn(move || runtime.block_on(serve()))?;
        Ok(Self(queue))
    }

    /// Does it, and answers when it is committed.
    pub(super) async fn run<W: WriteOperation>(&self, work: W) -> Result<W::Output, StoreError> {
        let (reply, answer) = oneshot::channel();
        let place = self
            .0
            .enter(W::URGENCY, Box::new(QueuedWork::new(work, reply)));
        let _place = place.ok_or_else(|| writer_has_ended().not_executed())?;
        answer.await.unwrap_or_else(|_| Err(writer_has_ended()))
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.0.close();
    }
}

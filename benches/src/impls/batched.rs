//! A queue in front of a connection to Redis: one system call for the commands of many requests.
//!
//! The one that people write: a task that yields once, so that all that are ready have put their commands in, and then
//! sends one pipeline. It does not wait for the replies before it sends the next one.

use redis::aio::{ConnectionLike, ConnectionManager};
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value};
use tokio::sync::{mpsc, oneshot};

/// How many commands a pipeline has at most.
const MOST: usize = 128;

type Queued = (Cmd, oneshot::Sender<RedisResult<Value>>);

#[derive(Clone)]
pub(super) struct Batched(mpsc::UnboundedSender<Queued>);

impl Batched {
    pub(super) fn new(connection: ConnectionManager) -> Self {
        let (commands, queue) = mpsc::unbounded_channel();
        tokio::spawn(send_all(queue, connection));
        Self(commands)
    }
}

async fn send_all(mut queue: mpsc::UnboundedReceiver<Queued>, connection: ConnectionManager) {
    while let Some(first) = queue.recv().await {
        tokio::task::yield_now().await;
        let mut batch = vec![first];
        while batch.len() < MOST
            && let Ok(next) = queue.try_recv()
        {
            batch.push(next);
        }
        tokio::spawn(exchange(batch, connection.clone()));
    }
}

async fn exchange(batch: Vec<Queued>, mut connection: ConnectionManager) {
    let mut pipeline = Pipeline::with_capacity(batch.len());
    let mut callers = Vec::with_capacity(batch.len());
    for (command, caller) in batch {
        pipeline.add_command(command);
        callers.push(caller);
    }
    match connection
        .req_packed_commands(&pipeline, 0, callers.len())
        .await
    {
        Ok(replies) => {
            for (caller, reply) in callers.into_iter().zip(replies) {
                let _ = caller.send(reply.extract_error());
            }
        }
        Err(error) => {
            for caller in callers {
                let _ = caller.send(Err(error.clone()));
            }
        }
    }
}

fn closed() -> RedisError {
    (ErrorKind::Io, "the queue is closed").into()
}

impl ConnectionLike for Batched {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let (caller, reply) = oneshot::channel();
            let queued = self.0.send((command.clone(), caller));
            queued.map_err(|_| closed())?;
            reply.await.map_err(|_| closed())?
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        _: &'a Pipeline,
        _: usize,
        _: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let error = (ErrorKind::Client, "it takes one command at a time").into();
        Box::pin(std::future::ready(Err(error)))
    }

    fn get_db(&self) -> i64 {
        0
    }
}

//! The same way with `#[tx]`: a transaction is begun where others claim, and committed where they store.

use std::future::Future;
use std::ops::ControlFlow::{Break, Continue};
use std::pin::Pin;

use axum::response::Response;

use super::IdempotentRequest;
use crate::engine::Detach;
use crate::handle::{Inputs, Transactions};
use crate::http::admission::admit_to_transaction;
use crate::http::commit::{self, Working};
use crate::http::extraction::Extraction;
use crate::http::received::{Received, is_keyless};
use crate::http::report::Report;
use crate::policy::Policy;
use crate::store::transaction::TransactionConnection;

impl<C, T, E> IdempotentRequest<T, E, Transactions<C>>
where
    C: TransactionConnection,
    T: Send + 'static,
    E: Extraction<T>,
{
    /// Runs the handler under the policy in a transaction, or answers from the record.
    #[expect(clippy::manual_async_fn, reason = "as `receive`")]
    pub fn run<A, F>(
        self,
        policy: &'static Policy,
        args: A,
        handler: F,
    ) -> impl Future<Output = Response> + Send
    where
        A: Send + 'static,
        F: for<'c> FnOnce(A, T, &'c mut C) -> Working<'c> + Send + 'static,
    {
        async move {
            let mut report = Report::of(&self.request, self.handle.idempotency(), policy);
            let is_keyless = is_keyless(&self.request, policy);
            let (request, last) = match self.receive(policy, is_keyless, false, &mut report).await {
                Continue(received) => received,
                Break(answer) => return report.finish(answer),
            };
            let run = run_in_transaction(request, policy, &mut report, move |connection| {
                handler(args, last, connection)
            });
            let response = run.await;
            report.finish(response)
        }
    }

    /// As [`run`](Self::run), with expressions over the handler's arguments.
    #[expect(clippy::manual_async_fn, reason = "as `receive`")]
    pub fn run_with<A, I, F>(
        self,
        policy: &'static Policy,
        args: A,
        inputs: I,
        handler: F,
    ) -> impl Future<Output = Response> + Send
    where
        A: Send + 'static,
        I: FnOnce(&A, &T) -> Inputs + Send,
        F: for<'c> FnOnce(A, T, &'c mut C) -> Working<'c> + Send + 'static,
    {
        async move {
            let mut report = Report::of(&self.request, self.handle.idempotency(), policy);
            let is_keyless = is_keyless(&self.request, policy);
            let (mut request, last) =
                match self.receive(policy, is_keyless, true, &mut report).await {
                    Continue(received) => received,
                    Break(answer) => return report.finish(answer),
                };
            request.identify(policy, inputs(&args, &last));
            let run = run_in_transaction(request, policy, &mut report, move |connection| {
                handler(args, last, connection)
            });
            let response = run.await;
            report.finish(response)
        }
    }
}

/// Begins, runs and commits.
async fn run_in_transaction<C, F>(
    mut request: Box<Received<Transactions<C>>>,
    policy: &'static Policy,
    report: &mut Report,
    work: F,
) -> Response
where
    C: TransactionConnection,
    F: for<'c> FnOnce(&'c mut C) -> Working<'c> + Send + 'static,
{
    report.identified(request.intent());
    let transaction = match admit_to_transaction(&mut request, policy).await {
        Continue(transaction) => transaction,
        Break(answer) => return answer,
    };
    if transaction.key().is_some() {
        report.runs(1);
    }
    if let Some(attempt) = request.attempt {
        match transaction.key() {
            Some(record) => attempt.begin_in_transaction(record),
            None => attempt.begin_unprotected(),
        }
    }
    let idempotency = request.handle.idempotency().clone();
    let mover = idempotency.mover();
    request.tested.begin();
    let run = commit::run(transaction, policy, idempotency, work);
    Detach::by(
        mover,
        Box::pin(run) as Pin<Box<dyn Future<Output = Response> + Send>>,
    )
    .await
}

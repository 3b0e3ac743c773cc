//! Running a handler in a transaction, and committing its writes with its response.

use std::pin::{Pin, pin};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer;
use super::answer::whole;
use super::body::again;
use super::capture::{answered, panicked};
use super::note;
use super::release::Unstored;
use super::source::Source;
use super::stored::{stored, stored_trailers};
use crate::engine::{Described, InTransaction};
use crate::handle::Idempotency;
use crate::handle::problem::{Problem, ProblemCode};
use crate::key::RecordKey;
use crate::observer::Outcome;
use crate::policy::Policy;
use crate::record::StoredResponse;
use crate::store::Claim;
use crate::store::transaction::{ASK_AGAIN, Fate, TransactionConnection};
use crate::unwind::{catch_unwind, text_of};

/// What a handler does with the connection that it is lent.
pub(super) type Working<'c> = Pin<Box<dyn Future<Output = Response> + Send + 'c>>;

/// What the attribute makes of its call of a handler.
#[derive(Clone, Copy, Debug)]
pub struct Work;

impl Work {
    /// What is answered may borrow the connection, as an `impl IntoResponse` does that says nothing else. The response does not.
    pub fn by<'c, R: IntoResponse>(
        self,
        handling: impl Future<Output = R> + Send + 'c,
    ) -> Pin<Box<dyn Future<Output = Response> + Send + 'c>> {
        Box::pin(async { answered(handling.await) })
    }
}

/// Runs the handler, commits what it has written together with what it answers, and only then
/// answers. What an error answer stands for has not happened: its writes are taken back.
///
/// Must run to its end, whatever becomes of the client: see [`Detach`](crate::engine::Detach).
pub(super) async fn run<C>(
    mut transaction: InTransaction<C>,
    policy: &Policy,
    idempotency: Idempotency,
    handler: impl for<'c> FnOnce(&'c mut C) -> Working<'c>,
) -> Response
where
    C: TransactionConnection,
{
    let record = transaction.key();
    let described = transaction.described().cloned();
    let connection = transaction.connection();
    let handled = catch_unwind(async { handler(connection).await });
    let deadline = Instant::now() + idempotency.transaction_timeout();
    let response = match timeout_at(deadline, handled).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => panicked(&idempotency, record.zip(described.as_ref())),
        Err(_) => {
            return took_too_long(transaction, &idempotency, record.zip(described.as_ref())).await;
        }
    };
    let is_released = response.extensions().get::<Unstored>().is_some();
    if is_released || !is_kept(policy, record.is_some(), &response) {
        transaction.take_back().await;
        return taken_back(&idempotency, record, response);
    }
    let limit = policy.max_response_bytes;
    let preparing = prepare(&idempotency, response, limit);
    let (stored, mut own) = match timeout_at(deadline, preparing).await {
        Ok(Some(prepared)) => prepared,
        Ok(None) => failure(&idempotency, described.as_ref(), limit).await,
        Err(_) => {
            return took_too_long(transaction, &idempotency, record.zip(described.as_ref())).await;
        }
    };
    if !is_kept(policy, record.is_some(), &own) {
        transaction.take_back().await;
        return taken_back(&idempotency, record, own);
    }
    // The handler need not know what has happened to it, but the database does: of two transactions in
    // each other's way it has ended this one, and a retry will do better. What the handler has committed by itself
    // would happen again.
    if own.status().is_server_error() && transaction.is_failed().await {
        match transaction.fate().await {
            Fate::Undone => {
                transaction.roll_back().await;
                let why = "the database takes no more statements in it (it refused one, or the connection is lost), and the handler answered with a server error";
                return answer::rolled_back(&idempotency, record.zip(described.as_ref()), why);
            }
            Fate::Undecided => return undecided(&idempotency),
            Fate::Ended => {}
        }
    }
    if is_error(&own)
        && let Err(refusal) = transaction.undo().await
    {
        // Something that the handler has left may run there still.
        return match transaction.take_back().await {
            Fate::Undone => answer::refuse(&idempotency, &refusal),
            Fate::Ended => unknown(&idempotency),
            Fate::Undecided => undecided(&idempotency),
        };
    }
    let mut committing = pin!(transaction.commit(&stored));
    let committed = match may_read_on::<C>(&stored) {
        false => committing.await,
        true => match timeout(SILENCE, &mut committing).await {
            Ok(committed) => committed,
            Err(_) => {
                tracing::warn!(
                    record = record.map(tracing::field::display),
                    "the transaction does not commit: the rest of the streamed body is not sent, because it may read the transaction's rows"
                );
                own = answer::without_body(&idempotency, own);
                committing.await
            }
        },
    };
    match committed {
        Ok(answer) => {
            let is_own = matches!(answer, Claim::Acquired(_));
            let response = answer::after_run(&idempotency, answer, own);
            if record.is_some() || !is_own {
                return response;
            }
            note::outcome(&idempotency, response, Outcome::Unprotected)
        }
        Err(refusal) => answer::refuse(&idempotency, &refusal),
    }
}

/// Whether the body may go on reading the transaction's rows, behind which `COMMIT` waits: what is stored without its body was
/// not read to its end.
fn may_read_on<C: TransactionConnection>(stored: &StoredResponse) -> bool {
    C::BODIES_READ_ON && stored.body.is_none()
}

/// How long `COMMIT` may take while a body may hold it up.
const SILENCE: Duration = Duration::from_millis(250);

/// The handler's answer, after what it has written was taken back.
fn taken_back(
    idempotency: &Idempotency,
    record: Option<RecordKey>,
    response: Response,
) -> Response {
    let outcome = match record {
        Some(_) => Outcome::NotStored,
        None => Outcome::Unprotected,
    };
    note::unless_noted(idempotency, response, outcome)
}

/// Takes everything back: a handler that hangs keeps a connection and its locks.
async fn took_too_long<C: TransactionConnection>(
    transaction: InTransaction<C>,
    idempotency: &Idempotency,
    record: Option<(RecordKey, &Described)>,
) -> Response {
    match transaction.take_back().await {
        Fate::Undone => {
            let why = "the handler took longer than `transaction_timeout`";
            answer::rolled_back(idempotency, record, why)
        }
        Fate::Ended => unknown(idempotency),
        Fate::Undecided => undecided(idempotency),
    }
}

fn unknown(idempotency: &Idempotency) -> Response {
    answer::problem(idempotency, &Problem::new(ProblemCode::OutcomeUnknown))
}

/// Its key is locked until it is decided, and the next request with it finds the truth.
fn undecided(idempotency: &Idempotency) -> Response {
    let lease_left = ASK_AGAIN;
    answer::after_run(
        idempotency,
        Claim::InFlight { lease_left },
        Response::default(),
    )
}

fn is_error(response: &Response) -> bool {
    response.status().is_client_error() || response.status().is_server_error()
}

/// Whether there is anything to commit: a record of this answer, or what led to it.
fn is_kept(policy: &Policy, has_record: bool, response: &Response) -> bool {
    policy.replay_errors.keeps(response.status().as_u16()) && (has_record || !is_error(response))
}

/// The response as it will be stored and as it will be sent; `None` when its body breaks off.
///
/// A body of unknown length is read to its end, or to the limit, before anything is committed.
async fn prepare(
    idempotency: &Idempotency,
    mut response: Response,
    limit: usize,
) -> Option<(StoredResponse, Response)> {
    let body = Source::of(&mut response);
    match read(body, response.headers(), limit).await {
        Ok(Read::Whole(body, trailers)) => {
            let stored = stored(idempotency, &response, Some(&body));
            let stored = stored.with_trailers(stored_trailers(idempotency, trailers.as_ref()));
            Some((stored, whole(response, body, trailers)))
        }
        Ok(Read::TooLarge(body)) => {
            let tombstone = stored(idempotency, &response, None);
            Some((tombstone, response.map(|_| body)))
        }
        Err(error) => {
            tracing::error!(
                error = text_of(&error),
                "response body failed; its transaction is rolled back"
            );
            None
        }
    }
}

/// The answer of a handler that has none.
async fn failure(
    idempotency: &Idempotency,
    described: Option<&Described>,
    limit: usize,
) -> (StoredResponse, Response) {
    let failed = ProblemCode::HandlerFailed;
    let problem = || answer::problem_to_store(idempotency, described, failed);
    match prepare(idempotency, problem(), limit).await {
        Some(prepared) => prepared,
        // A renderer of the application whose bodies fail as well.
        None => {
            let bare = problem().map(|_| Body::empty());
            (stored(idempotency, &bare, None), bare)
        }
    }
}

enum Read {
    /// To be replayed as it is.
    Whole(Bytes, Option<HeaderMap>),
    /// Larger than what is kept: all of it, to be passed on when the transaction is done.
    TooLarge(Body),
}

async fn read(mut body: Source, headers: &HeaderMap, limit: usize) -> Result<Read, axum::Error> {
    if body.measure(headers)?.lower() > limit as u64 {
        return Ok(Read::TooLarge(Body::new(body)));
    }
    let mut kept = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => kept.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
        if kept.len() > limit {
            let read = Ok(Frame::data(kept.freeze()));
            return Ok(Read::TooLarge(again(read, body)));
        }
    }
    Ok(Read::Whole(kept.freeze(), trailers))
}

//! What handlers do: a request's body says it, in steps.
//!
//! So that a test reads as the story that it is: `"pay; gate a; answer 402"`. What is done `once` is done
//! by an application's first handler only.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::{Frame, SizeHint};
use idempotent_runtime::{Attempt, Release};
use tokio::sync::Semaphore;

use super::database::{Database, Ending};
use super::scene::Tables;

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the handlers of one application play.
#[derive(Clone)]
pub struct Stage(Arc<Inner>);

struct Inner {
    tables: Tables,
    runs: AtomicUsize,
    gates: Mutex<HashMap<String, Arc<Gate>>>,
}

struct Gate {
    reached: Semaphore,
    open: Semaphore,
}

impl Stage {
    pub fn new(tables: Tables) -> Self {
        Self(Arc::new(Inner {
            tables,
            runs: AtomicUsize::new(0),
            gates: Mutex::default(),
        }))
    }

    /// How many handlers have begun.
    pub fn runs(&self) -> usize {
        self.0.runs.load(Ordering::SeqCst)
    }

    /// Waits until one more handler stands at this gate.
    pub async fn reached(&self, gate: &str) {
        let waited = tokio::time::timeout(PATIENCE, async {
            self.gate(gate)
                .reached
                .acquire()
                .await
                .expect("a gate")
                .forget();
        });
        waited.await.expect("a handler at the gate");
    }

    /// Lets one handler through.
    pub fn open(&self, gate: &str) {
        self.gate(gate).open.add_permits(1);
    }

    /// Of a handler without steps: begins, and stands at a gate.
    pub async fn stand_at(&self, gate: &str) {
        self.0.runs.fetch_add(1, Ordering::SeqCst);
        self.pass(gate).await;
    }

    /// Closes it again, if no handler went through.
    pub fn close(&self, gate: &str) {
        let gate = self.gate(gate);
        while gate
            .open
            .try_acquire()
            .map(|permit| permit.forget())
            .is_ok()
        {}
    }

    async fn pass(&self, gate: &str) {
        let gate = self.gate(gate);
        gate.reached.add_permits(1);
        gate.open.acquire().await.expect("a gate").forget();
    }

    fn gate(&self, name: &str) -> Arc<Gate> {
        let mut gates = self.0.gates.lock().unwrap();
        let gate = gates.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Gate {
                reached: Semaphore::new(0),
                open: Semaphore::new(0),
            })
        });
        Arc::clone(gate)
    }

    /// Does one step after the other, and answers 201 unless a step answers otherwise.
    pub async fn play<C: Database>(
        &self,
        tx: &mut C,
        headers: &HeaderMap,
        attempt: &Attempt,
        steps: &str,
    ) -> Response {
        let run = self.0.runs.fetch_add(1, Ordering::SeqCst) + 1;
        let key = headers.get("idempotency-key");
        let key = key.map_or("", |key| key.to_str().expect("ASCII"));
        let record = attempt.record_key().map(|key| key.to_hex());
        let pay = format!(
            "INSERT INTO {{payments}} VALUES ('{key}', '{}')",
            record.unwrap_or_default()
        );
        let pay = self.0.tables.put_into(&pay);
        let said = format!("{key}: run {run}, attempt {}", attempt.number());
        for step in steps.split(';').map(str::trim) {
            let step = match step.strip_prefix("once ") {
                Some(_) if run > 1 => continue,
                first => first.unwrap_or(step),
            };
            let (verb, what) = step.split_once(' ').unwrap_or((step, ""));
            let statement = self.0.tables.put_into(what);
            let done = match verb {
                "" => Ok(()),
                "pay" => tx.execute(&pay).await,
                "sql" => tx.execute(&statement).await,
                // A handler that does not look at what the database says.
                "try" => tx.execute(&statement).await.or(Ok(())),
                "cut" => {
                    let cut = Duration::from_millis(200);
                    drop(tokio::time::timeout(cut, tx.execute(&statement)).await);
                    Ok(())
                }
                "nested" => tx.nested(&pay, ending(what)).await,
                "gate" => {
                    self.pass(what).await;
                    Ok(())
                }
                "panic" => panic!("card 4242 in run {run}"),
                "answer" => return answer(status(what), said),
                "release" => return Release(answer(status(what), said)).into_response(),
                "stream" => return streamed(what),
                _ => panic!("no such step: {step}"),
            };
            if let Err(error) = done {
                return answer(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!("{said}: {error}"),
                );
            }
        }
        answer(StatusCode::CREATED, said)
    }
}

fn answer(status: StatusCode, said: String) -> Response {
    let headers = [("x-kept", "yes"), ("content-type", "text/x-said")];
    (status, headers, said).into_response()
}

fn status(what: &str) -> StatusCode {
    let code: u16 = what.parse().expect("a status code");
    StatusCode::from_u16(code).expect("a status code")
}

fn ending(what: &str) -> Ending {
    match what {
        "commit" => Ending::Commit,
        "rollback" => Ending::RollBack,
        "drop" => Ending::Drop,
        "forget" => Ending::Forget,
        "cancelled" => Ending::Cancel,
        "refused" => Ending::Refuse,
        "with" => Ending::With,
        _ => panic!("no such ending: {what}"),
    }
}

/// A body of which nothing is known but that it panics when it is asked for its length.
struct PanicsAboutItsSize;

impl HttpBody for PanicsAboutItsSize {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        panic!("about its size")
    }
}

/// A body, and the length that is announced for it.
fn announced(body: Body, length: usize) -> Response {
    let mut response = Response::new(body);
    let length = HeaderValue::from(length);
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

/// A body of unknown length: so many chunks of four bytes, and then its end, an error, a panic, or nothing more and no end. Or its
/// length is announced, and it ends one chunk early.
fn streamed(what: &str) -> Response {
    let (chunks, end) = what.split_once(' ').unwrap_or((what, "end"));
    let chunks: usize = chunks.parse().expect("a number of chunks");
    let body = stream::iter(0..chunks).map(|_| io::Result::Ok("4242"));
    let end = match end {
        "end" => None,
        "error" => Some(false),
        "panic" => Some(true),
        "silence" => {
            let body = Body::from_stream(body.chain(stream::pending()));
            return announced(body, chunks * 4);
        }
        "early" => return announced(Body::from_stream(body), chunks * 4 + 4),
        "size" => return Response::new(Body::new(PanicsAboutItsSize)),
        _ => panic!("no such end: {end}"),
    };
    let body = body.chain(stream::iter(end).map(|panics| {
        assert!(!panics, "in the middle of a body");
        Err(io::Error::other("broken off"))
    }));
    Response::new(Body::from_stream(body))
}

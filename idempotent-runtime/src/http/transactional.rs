//! Handlers that run in one transaction with their record: where `#[tx]` meets axum.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::{FromRef, FromRequest, Request};
use axum::response::{IntoResponse, Response};

use super::extraction::{ByAxum, Extraction};
use super::request::Subject;
use super::{Idempotency, IdempotentRequest, Inputs, commit};
use crate::engine::Detach;
use crate::error::{Error, ErrorKind};
use crate::policy::Policy;
use crate::store::transaction::{Begin, TransactionConnection};

/// The application's idempotency, for handlers that write in one transaction with their record.
///
/// A handler with a `#[tx]` parameter reaches it through axum's [`FromRef`], as other handlers reach
/// the [`Idempotency`]: an application whose state has none does not compile. It is made once, at
/// start-up, from a store in the database of the handlers:
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum::{Json, Router, extract::FromRef, routing::post};
/// use idempotent_runtime::{Idempotency, Transactions, idempotent};
/// use sqlx::SqliteConnection;
///
/// #[derive(Clone)]
/// struct AppState {
///     transactions: Transactions<SqliteConnection>,
/// }
///
/// impl FromRef<AppState> for Transactions<SqliteConnection> {
///     fn from_ref(state: &AppState) -> Self {
///         state.transactions.clone()
///     }
/// }
///
/// #[idempotent(ttl_hours = 24)]
/// async fn create_payment(
///     #[tx] tx: &mut SqliteConnection,
///     Json(amount): Json<i64>,
/// ) -> Result<String, axum::http::StatusCode> {
///     // Committed together with the stored response, or not at all.
///     sqlx::query("INSERT INTO payments (amount) VALUES (?)")
///         .bind(amount)
///         .execute(&mut *tx)
///         .await
///         .map_err(|_| axum::http::StatusCode::INTERNAL_SERVER_ERROR)?;
///     Ok(format!("charged {amount}"))
/// }
///
/// # let folder = std::env::temp_dir().join(format!("idempotent-transactions-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let url = format!("sqlite:{}", folder.join("shop.db").display());
/// let idempotency = Idempotency::connect(&url).await?;
/// let transactions = idempotency.transactions::<SqliteConnection>().await?;
/// let app: Router = Router::new()
///     .route("/payments", post(create_payment))
///     .with_state(AppState { transactions });
/// # drop(app);
/// # drop(idempotency);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "sqlite"))]
/// # fn main() {}
/// ```
///
/// Cheap to clone.
pub struct Transactions<C: TransactionConnection> {
    idempotency: Idempotency,
    begin: Arc<dyn Begin<C>>,
}

impl Idempotency {
    /// The transactions of the store's database, whose connections are of type `C`: sqlx's
    /// `PgConnection`, `SqliteConnection` or `MySqlConnection`.
    ///
    /// It begins one and rolls it back, so that what is wrong is found at start-up and not by the first
    /// payment.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoTransactions`] when the store has none, or is of another database;
    /// [`ErrorKind::Store`] when none could be begun.
    pub async fn transactions<C: TransactionConnection>(&self) -> Result<Transactions<C>, Error> {
        let store = self.store();
        let begin = store.transactor().and_then(C::of).ok_or_else(|| {
            let message = format!(
                "`#[tx]` with a connection of the {} store, and this is the {} store: connect to the database that the handlers write to",
                C::STORE,
                store.name(),
            );
            Error::new(ErrorKind::NoTransactions, message)
        })?;
        let transactions = Transactions {
            idempotency: self.clone(),
            begin,
        };
        let tried = self.engine().try_transactions(&*transactions.begin).await;
        tried.map_err(|refusal| {
            let message = format!("{} store: cannot begin a transaction", store.name());
            Error::new(ErrorKind::Store, message).with_source(refusal)
        })?;
        Ok(transactions)
    }
}

impl<C: TransactionConnection> Transactions<C> {
    /// The handle that these are of.
    #[must_use]
    pub fn idempotency(&self) -> &Idempotency {
        &self.idempotency
    }
}

impl<C: TransactionConnection> Clone for Transactions<C> {
    fn clone(&self) -> Self {
        Self {
            idempotency: self.idempotency.clone(),
            begin: Arc::clone(&self.begin),
        }
    }
}

/// A state that is the transactions serves all idempotent handlers.
impl<C: TransactionConnection> FromRef<Transactions<C>> for Idempotency {
    fn from_ref(transactions: &Transactions<C>) -> Self {
        transactions.idempotency.clone()
    }
}

impl<C: TransactionConnection> fmt::Debug for Transactions<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transactions")
            .field(&self.idempotency)
            .finish()
    }
}

/// As [`IdempotentRequest`], for a handler that gets a connection.
pub struct TransactionalRequest<C: TransactionConnection, T, E, const USUAL: bool = true> {
    request: IdempotentRequest<T, E, USUAL>,
    begin: Arc<dyn Begin<C>>,
}

impl<C: TransactionConnection, T, E, const USUAL: bool> fmt::Debug
    for TransactionalRequest<C, T, E, USUAL>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TransactionalRequest")
            .field(&self.request)
            .finish()
    }
}

/// What a handler does with the connection that it is lent.
pub(super) type Work<'c, R> = Pin<Box<dyn Future<Output = R> + Send + 'c>>;

impl<S, C, T, M, const USUAL: bool> FromRequest<S>
    for TransactionalRequest<C, T, ByAxum<S, M>, USUAL>
where
    S: Clone + Send + Sync + 'static,
    C: TransactionConnection,
    T: FromRequest<S, M>,
    Transactions<C>: FromRef<S>,
{
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let Transactions { idempotency, begin } = Transactions::from_ref(state);
        let request = IdempotentRequest::buffer(idempotency, request, ByAxum::with(state)).await?;
        Ok(Self { request, begin })
    }
}

impl<C, T, E, const USUAL: bool> TransactionalRequest<C, T, E, USUAL>
where
    C: TransactionConnection,
    T: Send + 'static,
    E: Extraction<T>,
{
    /// Runs the handler under the policy in a transaction, or answers from the record.
    pub async fn run<A, F, R>(self, policy: &'static Policy, args: A, handler: F) -> Response
    where
        A: Send + 'static,
        F: for<'c> FnOnce(A, T, &'c mut C) -> Work<'c, R> + Send + 'static,
        R: IntoResponse + 'static,
    {
        let Self { request, begin } = self;
        let resolved = request.resolve(policy);
        let is_about_content = request.rejects_content_only();
        let (subject, last) = request.split(resolved);
        match last.extract().await {
            Ok(last) => {
                protect(subject, begin, policy, Inputs::new(), move |connection| {
                    handler(args, last, connection)
                })
                .await
            }
            Err(rejection) if is_about_content => subject.reject(policy, rejection).await,
            Err(rejection) => rejection,
        }
    }

    /// As [`run`](Self::run), with expressions over the handler's arguments.
    pub async fn run_with<A, I, F, R>(
        self,
        policy: &'static Policy,
        args: A,
        inputs: I,
        handler: F,
    ) -> Response
    where
        A: Send + 'static,
        I: FnOnce(&A, &T) -> Inputs + Send,
        F: for<'c> FnOnce(A, T, &'c mut C) -> Work<'c, R> + Send + 'static,
        R: IntoResponse + 'static,
    {
        let Self { request, begin } = self;
        let resolved = request.resolve(policy);
        let (subject, last) = request.split(resolved);
        match last.extract().await {
            Ok(last) => {
                let inputs = inputs(&args, &last);
                protect(subject, begin, policy, inputs, move |connection| {
                    handler(args, last, connection)
                })
                .await
            }
            Err(rejection) => rejection,
        }
    }
}

async fn protect<C, F, R>(
    subject: Subject,
    begin: Arc<dyn Begin<C>>,
    policy: &'static Policy,
    inputs: Inputs,
    work: F,
) -> Response
where
    C: TransactionConnection,
    F: for<'c> FnOnce(&'c mut C) -> Work<'c, R> + Send + 'static,
    R: IntoResponse + 'static,
{
    let (idempotency, attempt, admitted) = match subject {
        Subject::Nothing {
            idempotency,
            is_safe,
        } => {
            let admitted = match idempotency.leave_alone(policy, is_safe, &inputs) {
                Ok(()) => idempotency.begin_unprotected(&*begin).await,
                Err(answer) => Err(answer),
            };
            (idempotency, None, admitted)
        }
        Subject::Request { head, body } => {
            let resolved = policy.or_ttl(head.idempotency.ttl());
            let admitted = head
                .admit_to_transaction(&*begin, &resolved, inputs, body)
                .await;
            (head.idempotency, head.attempt, admitted)
        }
    };
    let transaction = match admitted {
        Ok(transaction) => transaction,
        Err(answer) => return answer,
    };
    if let (Some(attempt), Some(record)) = (attempt, transaction.key()) {
        attempt.begin_in_transaction(record);
    }
    let mover = idempotency.mover();
    let run = commit::run(transaction, policy, idempotency, work);
    Detach::by(mover, Box::pin(run)).await
}

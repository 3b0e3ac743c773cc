//! Transactions as `sqlx` counts them: what the handler begins inside of one is a savepoint then.

#[cfg(any(feature = "postgres", feature = "mysql"))]
use sqlx::Executor;
use sqlx::{Database, SqlSafeStr};
use sqlx_core::transaction::TransactionManager;

#[cfg(any(feature = "postgres", feature = "mysql"))]
use crate::store::transaction::UNDO;

/// A handler has begun a transaction within its own and neither ended nor dropped it.
#[derive(Debug, thiserror::Error)]
#[error("the handler has left a transaction of its own open")]
struct LeftOpen;

pub(in crate::store) async fn begin<DB: Database>(
    connection: &mut DB::Connection,
    statement: impl SqlSafeStr + Send,
) -> sqlx::Result<()> {
    DB::TransactionManager::begin(connection, Some(statement.into_sql_str())).await
}

pub(in crate::store) async fn commit<DB: Database>(
    connection: &mut DB::Connection,
) -> sqlx::Result<()> {
    if DB::TransactionManager::get_transaction_depth(connection) != 1 {
        return Err(sqlx::Error::Configuration(LeftOpen.into()));
    }
    DB::TransactionManager::commit(connection).await
}

/// Whether `sqlx` has rolled back the whole by itself: it does where a transaction within the handler's is not begun, because the
/// server has refused it or its future was dropped.
#[cfg(feature = "postgres")]
pub(in crate::store) fn is_rolled_back<DB: Database>(connection: &DB::Connection) -> bool {
    DB::TransactionManager::get_transaction_depth(connection) == 0
}

/// The whole of it, whatever the handler has begun inside.
pub(in crate::store) async fn roll_back<DB: Database>(
    connection: &mut DB::Connection,
) -> sqlx::Result<()> {
    while DB::TransactionManager::get_transaction_depth(connection) > 0 {
        DB::TransactionManager::rollback(connection).await?;
    }
    Ok(())
}

/// The same, later: with the next use of the connection.
#[cfg(feature = "postgres")]
pub(in crate::store) fn start_to_roll_back<DB: Database>(connection: &mut DB::Connection) {
    DB::TransactionManager::start_rollback(connection);
}

/// Returns to the savepoint. If there is no savepoint any more, the handler or the server has ended the transaction: what
/// was committed cannot be taken back, so that its answer must be stored.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(in crate::store) async fn undo<DB: Database>(
    connection: &mut DB::Connection,
    is_without_savepoint: impl Fn(&sqlx::Error) -> bool + Send,
) -> sqlx::Result<()>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    let undone = match sqlx::raw_sql(UNDO).execute(&mut *connection).await {
        Err(error) if is_without_savepoint(&error) => {
            sqlx::raw_sql("ROLLBACK").execute(connection).await
        }
        undone => undone,
    };
    undone.map(drop)
}

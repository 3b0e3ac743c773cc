//! What has become of a transaction whose connection does not say.

use sqlx::{AssertSqlSafe, MySqlConnection};
use tokio::time::sleep;

use super::session::only;
use crate::store::mysql::error::Fault;
use crate::store::mysql::lane::{OnLoan, on_lane};
use crate::store::mysql::records::Records;
use crate::store::mysql::row::column;
use crate::store::transaction::{ASK_FOR_FATE, Fate, TransactionRequest, UNDO};
use crate::store::{StoreError, StoreErrorKind};

impl Records {
    /// Of a transaction that has ended.
    pub(super) async fn fate_of_ended(
        &self,
        request: &TransactionRequest,
    ) -> Result<Fate, StoreError> {
        on_lane!(self, calls, fate_by_record(request))
    }

    /// Of a transaction whose session says nothing, or is lost: asked until it is decided, for a while.
    pub(super) async fn fate_of_session(
        &self,
        request: &TransactionRequest,
        session: u64,
    ) -> Result<Fate, StoreError> {
        let mut pauses = ASK_FOR_FATE.into_iter();
        loop {
            match on_lane!(self, calls, try_fate_of_session(request, session)) {
                Ok(Some(fate)) => return Ok(fate),
                Ok(None) => {}
                // It has not let go of the record yet.
                Err(error) if error.kind() == StoreErrorKind::Busy => {}
                Err(error) => return Err(error),
            }
            match pauses.next() {
                Some(pause) => sleep(pause).await,
                None => return Ok(Fate::Undecided),
            }
        }
    }

    /// Whether the server takes back what that session has written, and not a statement that its handler has left there.
    pub(super) async fn is_undoing(&self, session: u64) -> Result<bool, StoreError> {
        on_lane!(self, calls, try_is_undoing(session))
    }

    async fn try_is_undoing(
        &self,
        connection: &mut OnLoan<'_>,
        session: u64,
    ) -> Result<bool, Fault> {
        let at_work = format!(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE id = {session} AND info = '{UNDO}'"
        );
        let rows = sqlx::raw_sql(AssertSqlSafe(at_work)).fetch_all(&mut **connection);
        let rows = rows.await.map_err(|error| self.fault(error))?;
        Ok(column::<i64>(only(&rows)?, 0)? > 0)
    }

    /// While that session has the key's lock, nothing is decided, and it is ended.
    async fn try_fate_of_session(
        &self,
        connection: &mut OnLoan<'_>,
        request: &TransactionRequest,
        session: u64,
    ) -> Result<Option<Fate>, Fault> {
        let lock = self.table.lock_name(Some(&request.owner.key));
        if self.holder(connection, &lock).await? != Some(session) {
            return self.fate_by_record(connection, request).await.map(Some);
        }
        let kill = sqlx::raw_sql(AssertSqlSafe(format!("KILL {session}")));
        if let Err(error) = kill.execute(&mut **connection).await {
            // It may have ended meanwhile.
            tracing::debug!(%error, "cannot end a session");
        }
        Ok(None)
    }

    /// The record is there if the handler has committed it, and gone if anything has rolled it back.
    async fn fate_by_record(
        &self,
        connection: &mut MySqlConnection,
        request: &TransactionRequest,
    ) -> Result<Fate, Fault> {
        let record = self.statements.completed_by(&request.owner);
        Ok(match self.read(connection, record).await? {
            Some(_) => Fate::Ended,
            None => Fate::Undone,
        })
    }

    /// The session that has a lock.
    async fn holder(
        &self,
        connection: &mut MySqlConnection,
        lock: &str,
    ) -> Result<Option<u64>, Fault> {
        // A lock's name is digits and letters.
        let holder = format!("SELECT CAST(IS_USED_LOCK('{lock}') AS UNSIGNED)");
        let rows = sqlx::raw_sql(AssertSqlSafe(holder)).fetch_all(connection);
        let rows = rows.await.map_err(|error| self.fault(error))?;
        Ok(column(only(&rows)?, 0)?)
    }
}

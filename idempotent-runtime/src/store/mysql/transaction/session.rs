//! The session of a connection, before and after a handler has had it.

use sqlx::MySqlConnection;
use sqlx::mysql::MySqlRow;

use super::connection::Borrowed;
use crate::store::mysql::error::{Fault, NAME};
use crate::store::mysql::records::Records;
use crate::store::mysql::row::{self, column};
use crate::store::{StoreError, StoreErrorKind};

/// What the session was before the handler.
pub(super) struct SessionState {
    /// `None` is no role.
    role: Option<String>,
    pub(super) max_packet_bytes: usize,
    state: Vec<u8>,
    /// The server's number of the session.
    pub(super) number: u64,
}

impl Records {
    /// Takes back what this store has changed, frees the locks, and says what the session is like now.
    pub(super) async fn restore(&self, connection: &mut MySqlConnection) -> Result<Vec<u8>, Fault> {
        let leave = sqlx::raw_sql(self.pooled.leave());
        let rows = leave.fetch_all(connection).await;
        let rows = rows.map_err(|error| self.fault(error))?;
        Ok(column::<&[u8]>(only(&rows)?, 0)?.to_vec())
    }

    /// Gives a connection back whose session is what it was; any other is closed, and so is one on which
    /// this fails.
    pub(super) async fn leave(&self, mut connection: Borrowed, before: &SessionState) {
        match self.restore(&mut connection).await {
            Ok(state) if state == before.state => connection.give_back(),
            Ok(_) => {
                tracing::debug!("a handler has changed its session: the connection is closed");
            }
            Err(fault) => tracing::debug!(
                error = &fault.error as &dyn std::error::Error,
                "a connection was unusable after its transaction"
            ),
        }
    }
}

/// The first of the rows, without which there is nothing.
pub(super) fn only(rows: &[MySqlRow]) -> Result<&MySqlRow, StoreError> {
    let missing = || StoreError::new(NAME, StoreErrorKind::Unavailable);
    rows.first().ok_or_else(missing)
}

impl SessionState {
    /// As `before.sql` says it, from that column on.
    pub(super) fn of(row: &MySqlRow, column_of_role: usize) -> Result<Self, StoreError> {
        let at = |column: usize| column_of_role + column;
        let role = row::text(row, at(0))?;
        Ok(Self {
            role: (!role.is_empty() && *role != *"NONE").then(|| role.as_ref().to_owned()),
            max_packet_bytes: usize::try_from(column::<u64>(row, at(1))?).unwrap_or(usize::MAX),
            state: column::<&[u8]>(row, at(2))?.to_vec(),
            number: column(row, at(3))?,
        })
    }

    /// Back to the role that the session had. MySQL names roles quoted and with a host, and there can be
    /// several; MariaDB has one, not quoted.
    pub(super) fn set_role(&self) -> String {
        match &self.role {
            None => "SET ROLE NONE".to_owned(),
            Some(roles) if roles.starts_with('`') => format!("SET ROLE {roles}"),
            Some(role) => format!("SET ROLE `{}`", role.replace('`', "``")),
        }
    }
}

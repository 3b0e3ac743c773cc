//! The lock of a key, which goes with the transaction that has taken it.

use sha2::{Digest, Sha256};
use sqlx::Row;

use crate::key::RecordKey;
use crate::store::StoreError;
use crate::store::postgres::error::store_error;
use crate::store::postgres::records::Records;
use crate::store::postgres::row;
use crate::store::postgres::statements::TransactionStatements;

/// One lock for each key of each table. Advisory locks are numbers of 64 bits, so that two keys
/// could share one; the later of the two would be told that it is in flight.
pub(super) fn lock(table: &str, key: &RecordKey) -> i64 {
    let table = Sha256::digest(table);
    let bytes = key.as_bytes().iter().zip(table).take(8);
    bytes.fold(0, |lock, (key, table)| lock << 8 | i64::from(*key ^ table))
}

/// Whether no session holds a transaction's lock: asked by a connection of the store's.
pub(in crate::store::postgres) async fn is_free(
    records: &Records,
    sql: &TransactionStatements,
    key: &RecordKey,
) -> Result<bool, StoreError> {
    let lock = lock(&sql.name, key);
    let ask = || sqlx::query("SELECT pg_try_advisory_xact_lock($1) AS is_free").bind(lock);
    let row = row::one(records.lanes()?.work.rows(None, ask).await?)?;
    row.try_get("is_free").map_err(store_error)
}

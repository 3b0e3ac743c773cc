//! Listing records: a scan of the server's keys, and a look at each.

use ::redis::aio::ConnectionLike;
use ::redis::{Value, cmd};

use super::error::NAME;
use super::records::Records;
use super::row::Stored;
use super::{batch, reply, scripts};
use crate::key::{RecordKey, bytes_of_hex};
use crate::record::Token;
use crate::store::listing::{MOST_LISTED, foreign_cursor, warn_unreadable};
use crate::store::{ListCursor, ListFilter, ListedRecord, Listing, StoreError, StoreErrorKind};

/// How many scans a page takes at most. Each looks at about as many keys as the page still has room for.
const MOST_SCANS: usize = 16;

/// How many keys a scan looks at at least.
const LEAST: usize = 10;

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Records<C> {
    pub(super) async fn page(
        &self,
        filter: &ListFilter,
        cursor: Option<&ListCursor>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        let mut position = match cursor {
            Some(cursor) => of_cursor(cursor).ok_or_else(|| foreign_cursor(NAME))?,
            None => 0,
        };
        self.must_be_one_server().await?;
        let limit = limit.clamp(1, MOST_LISTED);
        let mut records: Vec<ListedRecord> = Vec::new();
        for _ in 0..MOST_SCANS {
            let (next, mut keys) = self.scan(position, limit - records.len()).await?;
            // The server may name a key twice in one reply.
            keys.sort_unstable();
            keys.dedup();
            keys.retain(|key| !records.iter().any(|record| record.key == *key));
            let looked = self.look_at(keys).await?;
            records.extend(looked.into_iter().filter_map(|it| filter.listed(it)));
            position = next;
            if position == 0 || records.len() >= limit {
                break;
            }
        }
        let next = (position != 0).then(|| ListCursor::from_bytes(position.to_be_bytes()));
        Ok(Listing::new(records, next))
    }

    /// A server of a Cluster knows a part of the keys, and its cursors mean nothing to the others.
    async fn must_be_one_server(&self) -> Result<(), StoreError> {
        let is_one = match self.line.query(cmd("INFO").arg("cluster")).await {
            // A Cluster's client asks all of its servers.
            Ok(Value::Map(_) | Value::Array(_)) => false,
            Ok(Value::BulkString(info)) => !is_of_cluster(&info),
            Ok(Value::VerbatimString { text, .. }) => !is_of_cluster(text.as_bytes()),
            // Who may not ask is told by the scan.
            Ok(_) | Err(_) => true,
        };
        if is_one {
            return Ok(());
        }
        let error = StoreError::new(NAME, StoreErrorKind::Unsupported);
        Err(error
            .with_source("a Redis Cluster is not listed: its servers have no common order of keys"))
    }

    /// Some of the keys, and where the next scan begins.
    async fn scan(&self, position: u64, room: usize) -> Result<(u64, Vec<RecordKey>), StoreError> {
        let mut scan = cmd("SCAN");
        scan.arg(position)
            .arg("MATCH")
            .arg(format!("{}*", self.prefix));
        scan.arg("COUNT").arg(room.max(LEAST));
        let reply = self.line.query(&scan).await?;
        let (next, names) = reply::scanned(&reply)?;
        let key = |name: &&[u8]| {
            let digits = name.strip_prefix(self.prefix.as_bytes())?;
            let bytes = bytes_of_hex(str::from_utf8(digits).ok()?)?;
            Some(RecordKey::from_bytes(bytes.try_into().ok()?))
        };
        // What has no record's name is another application's.
        Ok((next, names.iter().filter_map(key).collect()))
    }

    async fn look_at(&self, keys: Vec<RecordKey>) -> Result<Vec<ListedRecord>, StoreError> {
        let call = |key: &RecordKey| batch::ScriptCall {
            script: &scripts::PEEK,
            name: self.name(key),
            token: Token::from_bytes([0; 16]),
            millis: None,
            quiet: &[],
        };
        let replies = batch::run(&self.line, keys.iter().map(call).collect()).await;
        let mut records = Vec::with_capacity(keys.len());
        for (key, reply) in keys.into_iter().zip(replies) {
            let Some(peeked) = reply::peeked(&reply?)? else {
                continue;
            };
            let (head, left) = (&peeked.head, peeked.left);
            let listed = Stored::peeked(head).and_then(|(stored, start)| {
                let size = peeked.length.saturating_sub(start) as u64;
                stored.listed(key, left, size)
            });
            match listed {
                Ok(record) => records.push(record),
                Err(error) => warn_unreadable(&key, &error),
            }
        }
        Ok(records)
    }
}

fn is_of_cluster(info: &[u8]) -> bool {
    memchr::memmem::find(info, b"cluster_enabled:1").is_some()
}

fn of_cursor(cursor: &ListCursor) -> Option<u64> {
    Some(u64::from_be_bytes(cursor.as_bytes().try_into().ok()?))
}

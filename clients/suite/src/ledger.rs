//! What was charged, in a file that outlives the server. It knows nothing of keys: every charge is one that a customer pays.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use idempotent_runtime::RecordKey;
use serde::{Deserialize, Serialize};

use crate::Result;

/// One line of the ledger.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Charge {
    pub(crate) id: u64,
    pub(crate) intent: String,
    pub(crate) amount: u64,
    /// The record key of the attempt, by which a recovery function finds the charge.
    pub(crate) record: Option<String>,
}

/// The ledger of a server that runs.
#[derive(Debug)]
pub(crate) struct Ledger(Mutex<Book>);

#[derive(Debug)]
struct Book {
    file: File,
    last_id: u64,
    by_record: HashMap<String, Charge>,
}

impl Ledger {
    /// With what an earlier server has charged.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let charges = if path.exists() {
            read(path)?
        } else {
            Vec::new()
        };
        let last_id = charges.last().map_or(0, |charge| charge.id);
        let by_record = charges
            .into_iter()
            .filter_map(|charge| Some((charge.record.clone()?, charge)));
        Ok(Self(Mutex::new(Book {
            by_record: by_record.collect(),
            last_id,
            file: OpenOptions::new().create(true).append(true).open(path)?,
        })))
    }

    /// The customer has paid when this returns. One write is one line: a server that is killed leaves no half of one.
    pub(crate) fn charge(
        &self,
        intent: String,
        amount: u64,
        record: Option<RecordKey>,
    ) -> Result<Charge> {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let charge = Charge {
            id: book.last_id + 1,
            intent,
            amount,
            record: record.map(|record| record.to_hex()),
        };
        let mut line = serde_json::to_string(&charge)?;
        line.push('\n');
        book.file.write_all(line.as_bytes())?;
        book.last_id = charge.id;
        if let Some(record) = &charge.record {
            book.by_record.insert(record.clone(), charge.clone());
        }
        Ok(charge)
    }

    /// What the attempt of this record has charged.
    pub(crate) fn find(&self, record: RecordKey) -> Option<Charge> {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.by_record.get(&record.to_hex()).cloned()
    }
}

/// All charges, in their order.
pub(crate) fn read(path: &Path) -> Result<Vec<Charge>> {
    let text = std::fs::read_to_string(path)?;
    let charges = text.lines().map(serde_json::from_str);
    let charges = charges.collect::<std::result::Result<_, _>>();
    charges.map_err(|error| format!("{}: {error}", path.display()).into())
}

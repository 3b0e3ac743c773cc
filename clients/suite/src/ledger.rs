//! The bank: what was charged, in a file that outlives the server. It takes idempotency keys, as payment providers do, and
//! gets one from the server for each record. Of the clients' keys it knows nothing: two keys for one intent are two charges.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::Result;

/// One line of the ledger: a call of the bank.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Charge {
    pub(crate) id: u64,
    pub(crate) intent: String,
    pub(crate) amount: u64,
    /// The key that the server has derived from its record.
    pub(crate) key: String,
    /// Which attempt of that record has called.
    pub(crate) attempt: u32,
    /// The bank was called again under this key, and nothing was charged: the server was killed after the first call.
    pub(crate) is_repeated: bool,
}

/// The ledger of a server that runs.
#[derive(Debug)]
pub(crate) struct Ledger(Mutex<Book>);

#[derive(Debug)]
struct Book {
    file: File,
    by_key: HashMap<String, Charge>,
}

impl Ledger {
    /// With what an earlier server has charged.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let charges = if path.exists() {
            read(path)?
        } else {
            Vec::new()
        };
        let by_key = charges
            .into_iter()
            .map(|charge| (charge.key.clone(), charge));
        Ok(Self(Mutex::new(Book {
            by_key: by_key.collect(),
            file: OpenOptions::new().create(true).append(true).open(path)?,
        })))
    }

    /// The customer has paid when this returns. One write is one line: a server that is killed leaves no half of one.
    pub(crate) fn charge(
        &self,
        key: String,
        attempt: u32,
        intent: String,
        amount: u64,
    ) -> Result<Charge> {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = book.by_key.get(&key).cloned();
        let charge = Charge {
            id: earlier
                .as_ref()
                .map_or(book.by_key.len() as u64 + 1, |charge| charge.id),
            intent,
            amount,
            key,
            attempt,
            is_repeated: earlier.is_some(),
        };
        let mut line = serde_json::to_string(&charge)?;
        line.push('\n');
        book.file.write_all(line.as_bytes())?;
        book.by_key.insert(charge.key.clone(), charge.clone());
        Ok(charge)
    }
}

/// All calls, in their order.
pub(crate) fn read(path: &Path) -> Result<Vec<Charge>> {
    let text = std::fs::read_to_string(path)?;
    let charges = text.lines().map(serde_json::from_str);
    let charges = charges.collect::<std::result::Result<_, _>>();
    charges.map_err(|error| format!("{}: {error}", path.display()).into())
}

//! What a client remembers over its own death: a file that is only appended to, one line of JSON at a time.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use idempotent_client::Intent;
use serde::{Deserialize, Serialize};

use crate::Result;

/// The clients in JavaScript write the same lines. What else they write there is skipped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// The intent, written before its first send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    intent: Option<Intent>,
    /// The answer, written when the application has acted on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) answered: Option<Answered>,
}

/// What the client was told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// The number of the charge, from the receipt.
    pub(crate) charge: Option<u64>,
}

/// The journal of a client that runs.
#[derive(Debug)]
pub(crate) struct Journal(Mutex<Pages>);

#[derive(Debug)]
struct Pages {
    file: File,
    open: HashMap<String, Intent>,
    answered: HashMap<String, Answered>,
}

impl Journal {
    /// With what an earlier life of this client has written.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut pages = Pages {
            file: OpenOptions::new().create(true).append(true).open(path)?,
            open: HashMap::new(),
            answered: HashMap::new(),
        };
        for line in read(path)? {
            if let Some(intent) = line.intent {
                pages.open.insert(line.name.clone(), intent);
            }
            if let Some(answered) = line.answered {
                pages.answered.insert(line.name, answered);
            }
        }
        Ok(Self(Mutex::new(pages)))
    }

    pub(crate) fn is_answered(&self, name: &str) -> bool {
        self.pages().answered.contains_key(name)
    }

    /// The intent of this name: the one that was saved, or a new one, which is saved now.
    pub(crate) fn intent(&self, name: &str) -> Result<Intent> {
        let mut pages = self.pages();
        if let Some(intent) = pages.open.get(name) {
            return Ok(intent.clone());
        }
        let intent = Intent::new();
        pages.write(&Line {
            name: name.to_owned(),
            intent: Some(intent.clone()),
            answered: None,
        })?;
        pages.open.insert(name.to_owned(), intent.clone());
        Ok(intent)
    }

    pub(crate) fn answer(&self, name: &str, answered: Answered) -> Result<()> {
        self.pages().write(&Line {
            name: name.to_owned(),
            intent: None,
            answered: Some(answered),
        })
    }

    fn pages(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn write(&mut self, line: &Line) -> Result<()> {
        let mut line = serde_json::to_string(line)?;
        line.push('\n');
        Ok(self.file.write_all(line.as_bytes())?)
    }
}

/// All lines with a name.
pub(crate) fn read(path: &Path) -> Result<Vec<Line>> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut lines = Vec::new();
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line)
            .map_err(|error| format!("{}: {error}: {line}", path.display()))?;
        if value.get("name").is_some() {
            lines.push(serde_json::from_value(value)?);
        }
    }
    Ok(lines)
}

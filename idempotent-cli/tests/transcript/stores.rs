//! A store of one's own for each transcript.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The stores that outlive a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Redis,
    Postgres,
    MySql,
}

/// Where the records of one transcript are.
pub(crate) struct Place {
    kind: Kind,
    pub(crate) url: String,
    /// What the tool is told besides.
    pub(crate) arguments: Vec<String>,
    /// For files.
    pub(crate) folder: PathBuf,
    /// The name of a database, or the prefix.
    pub(crate) name: String,
}

impl Place {
    /// `None` where there is no such server.
    pub(crate) async fn new(kind: Kind) -> Option<Self> {
        static PLACES: AtomicUsize = AtomicUsize::new(0);
        let number = PLACES.fetch_add(1, Ordering::Relaxed);
        let name = format!("idempotent_cli_{}_{number}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let (url, arguments) = match kind {
            Kind::Sqlite => (
                format!("sqlite:{}", folder.join("records.db").display()),
                vec![],
            ),
            _ => return None,
        };
        Some(Self {
            kind,
            url,
            arguments,
            folder,
            name,
        })
    }

    pub(crate) fn prefix(&self) -> Option<String> {
        (self.kind == Kind::Redis).then(|| format!("{}:", self.name))
    }

    /// Nothing is left behind.
    pub(crate) async fn remove(&self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

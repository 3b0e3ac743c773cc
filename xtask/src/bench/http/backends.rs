//! The servers and files that implementations keep their answers in, emptied before each use.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::implementations::{Backend, Implementation};
use crate::servers::{self, Server};

pub(super) struct Backends {
    redis: Option<Server>,
    postgres: Option<Server>,
    file: PathBuf,
}

impl Backends {
    /// Starts what these implementations need.
    pub(super) fn start(needed: &[&Implementation], folder: &Path) -> Result<Self, String> {
        let start = |backend, name| {
            if needed.iter().any(|it| it.backend == backend) {
                servers::start(name).map(Some)
            } else {
                Ok(None)
            }
        };
        Ok(Self {
            redis: start(Backend::Redis, "Redis")?,
            postgres: start(Backend::Postgres, "PostgreSQL")?,
            file: folder.join("records.db"),
        })
    }

    /// The URL of an empty one; `None` if there is nothing to be had.
    pub(super) fn emptied(&self, backend: Backend) -> Result<Option<String>, String> {
        match backend {
            Backend::None => Ok(None),
            Backend::Redis => self.redis.as_ref().map(flush).transpose(),
            Backend::Postgres => self.postgres.as_ref().map(drop_tables).transpose(),
            Backend::Sqlite => {
                for suffix in ["", "-wal", "-shm"] {
                    let mut name = self.file.clone().into_os_string();
                    name.push(suffix);
                    let _ = fs::remove_file(name);
                }
                Ok(Some(format!("sqlite:{}", self.file.display())))
            }
        }
    }
}

fn flush(server: &Server) -> Result<String, String> {
    let address = server.url.trim_start_matches("redis://");
    let asked = || -> std::io::Result<[u8; 5]> {
        let mut connection = TcpStream::connect(address)?;
        connection.write_all(b"FLUSHALL SYNC\r\n")?;
        let mut reply = [0; 5];
        connection.read_exact(&mut reply)?;
        Ok(reply)
    };
    match asked() {
        Ok(reply) if reply == *b"+OK\r\n" => Ok(server.url.clone()),
        Ok(_) => Err("Redis refuses FLUSHALL".to_owned()),
        Err(error) => Err(format!("cannot empty Redis: {error}")),
    }
}

/// With a checkpoint at the end, so that each use begins with an equal log.
fn drop_tables(server: &Server) -> Result<String, String> {
    let psql = servers::found_or_installed("psql", "postgresql-client")?;
    let done = Command::new(psql)
        .args(["--no-psqlrc", "--quiet"])
        .arg(format!("--dbname={}", server.url))
        .arg("--command=DROP SCHEMA public CASCADE")
        .arg("--command=CREATE SCHEMA public")
        .arg("--command=CHECKPOINT")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match done {
        Ok(status) if status.success() => Ok(server.url.clone()),
        Ok(status) => Err(format!("cannot empty PostgreSQL: psql ended with {status}")),
        Err(error) => Err(format!("cannot run psql: {error}")),
    }
}

//! Where a command has looked: a record that is not found there may be in another table, schema or database.

use std::fmt;

use crate::arguments::Settings;

/// The records that a command has looked at, and on which server. It has no user and no password.
pub(crate) struct Place {
    records: String,
    server: String,
    /// The options that name another one.
    options: &'static str,
}

impl Place {
    pub(crate) fn of(settings: &Settings) -> Self {
        let url = settings.store.as_deref().unwrap_or_default();
        let table = settings.table.as_deref().unwrap_or("idempotency_records");
        let prefix = settings.prefix.as_deref().unwrap_or("idempotent:");
        let (records, options) = match (url.split(':').next(), &settings.schema) {
            (Some(scheme), _) if scheme.starts_with("redis") => {
                (format!("prefix `{prefix}`"), "--prefix and --store")
            }
            (_, Some(schema)) => (
                format!("table `{schema}.{table}`"),
                "--table, --schema and --store",
            ),
            (Some("postgres" | "postgresql"), None) => (
                format!("table `{table}` (the first one in the search path)"),
                "--table, --schema and --store",
            ),
            _ => (format!("table `{table}`"), "--table and --store"),
        };
        Self {
            records,
            server: server(url),
            options,
        }
    }

    /// What to ask where nothing was found.
    pub(crate) fn question(&self) -> String {
        let options = self.options;
        format!("Are the service's records there? Others are named by {options}")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.records, self.server)
    }
}

/// A URL without its user and its password, which can stand before the host or among the parameters.
fn server(url: &str) -> String {
    /// Parameters that name a server or a database.
    const NAMES: [&str; 5] = ["host", "hostaddr", "port", "dbname", "socket"];
    let (address, parameters) = url.split_once('?').unwrap_or((url, ""));
    let mut server = match address.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            format!("{scheme}://{host}")
        }
        None => address.to_owned(),
    };
    for parameter in parameters.split('&') {
        let name = parameter.split('=').next().unwrap_or_default();
        if NAMES.contains(&name) {
            server.push_str(&format!(" {parameter}"));
        }
    }
    server
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_without_user_and_password() {
        for (url, shown) in [
            ("postgres://app:canary@db/shop", "postgres://db/shop"),
            ("postgres://app:can@ary@db:5/s", "postgres://db:5/s"),
            (
                "postgres:///?host=/run/pg&password=canary&dbname=shop",
                "postgres:/// host=/run/pg dbname=shop",
            ),
            (
                "redis+sentinel://:canary@a:1,b:2/main",
                "redis+sentinel://a:1,b:2/main",
            ),
            (
                "redis+unix:///run/redis?pass=canary",
                "redis+unix:///run/redis",
            ),
            ("sqlite:records.db?mode=rw", "sqlite:records.db"),
            ("mysql://db/shop", "mysql://db/shop"),
        ] {
            assert_eq!(server(url), shown);
        }
    }
}

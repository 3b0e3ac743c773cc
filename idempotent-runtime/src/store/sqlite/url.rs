//! What a URL names.

use std::path::Path;
use std::str::FromStr;

use sqlx::sqlite::SqliteConnectOptions;

use crate::error::{Error, ErrorKind};

const SHAPE: &str =
    "invalid SQLite URL: expected `sqlite:path`, `sqlite:///absolute/path` or `sqlite::memory:`";
const NO_PATH: &str = "SQLite URL has no path: is a variable unset? Expected `sqlite:path`, \
     `sqlite:///absolute/path` or `sqlite::memory:`";

/// The options of a database that is created if it is missing, unless its `mode` says otherwise.
pub(super) fn options_of(url: &str) -> Result<SqliteConnectOptions, Error> {
    let invalid = || Error::new(ErrorKind::InvalidUrl, SHAPE);
    if !url.starts_with("sqlite:") {
        return Err(invalid());
    }
    let options =
        SqliteConnectOptions::from_str(url).map_err(|cause| invalid().with_source(cause))?;
    if is_blank(options.get_filename()) {
        return Err(Error::new(ErrorKind::InvalidUrl, NO_PATH));
    }
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
    let has_mode = parameters.split('&').any(|pair| pair.starts_with("mode="));
    Ok(match has_mode {
        true => options,
        false => options.create_if_missing(true),
    })
}

/// The options of a database that is there.
pub(super) fn options_of_existing(url: &str) -> Result<SqliteConnectOptions, Error> {
    let options = options_of(url)?.create_if_missing(false);
    let path = options.get_filename();
    // A name in SQLite's own ways is left to it.
    let is_special = path.to_str().is_some_and(|name| name.starts_with("file:"));
    match is_special || path == Path::new(":memory:") || path.exists() {
        true => Ok(options),
        false => {
            let message = format!("there is no SQLite database `{}`", path.display());
            Err(Error::new(ErrorKind::NotMigrated, message))
        }
    }
}

/// No name, or nothing but spaces and slashes: SQLite would take the first for a private temporary database.
fn is_blank(path: &Path) -> bool {
    let is_nothing = |name: &str| name.chars().all(|it| it.is_whitespace() || it == '/');
    path.to_str().is_some_and(is_nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_of_an_unset_variable_is_refused() {
        for path in [
            "",
            "//",
            "///",
            " ",
            "\t\n",
            "%20",
            "// ",
            "?mode=rwc",
            "//?mode=rwc",
            " ?mode=ro",
            "?",
        ] {
            let error = options_of(&format!("sqlite:{path}")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{path:?}");
            assert!(error.to_string().contains("variable"), "{path:?}: {error}");
        }
    }

    #[test]
    fn url_with_a_path_names_it() {
        for (url, path) in [
            ("sqlite:a.db", "a.db"),
            ("sqlite://a.db?mode=rwc", "a.db"),
            ("sqlite:///srv/a.db", "/srv/a.db"),
            ("sqlite:a%20b.db", "a b.db"),
        ] {
            assert_eq!(
                options_of(url).unwrap().get_filename(),
                Path::new(path),
                "{url}"
            );
        }
        assert!(options_of("sqlite::memory:").is_ok());
    }
}

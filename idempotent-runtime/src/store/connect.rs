use std::sync::Arc;

use super::Store;
use crate::error::{Error, ErrorKind};

/// The store that a URL names.
///
/// | URL | store | feature |
/// | --- | --- | --- |
/// | `memory:` | [in-process](super::memory) | `memory` (default) |
///
/// # Errors
///
/// [`Error`] says what is wrong with the URL, or which cargo feature its store needs. The message
/// never contains more of the URL than its scheme, because a URL may hold a password.
pub async fn connect(url: &str) -> Result<Arc<dyn Store>, Error> {
    let Some((scheme, rest)) = url.split_once(':') else {
        let message = "store URL has no scheme: it looks like `memory:`";
        return Err(Error::new(ErrorKind::InvalidUrl, message));
    };
    match scheme {
        "memory" => memory(rest),
        _ => {
            let message = format!("unknown store scheme `{scheme}:`, this version has `memory:`");
            Err(Error::new(ErrorKind::UnknownScheme, message))
        }
    }
}

#[cfg(feature = "memory")]
fn memory(rest: &str) -> Result<Arc<dyn Store>, Error> {
    match rest {
        "" | "//" => Ok(Arc::new(super::memory::MemoryStore::new())),
        _ => {
            let message = "the memory store takes nothing behind `memory:`";
            Err(Error::new(ErrorKind::InvalidUrl, message))
        }
    }
}

#[cfg(not(feature = "memory"))]
fn memory(_: &str) -> Result<Arc<dyn Store>, Error> {
    let message = "`memory:` needs the cargo feature `memory` of idempotent-runtime";
    Err(Error::new(ErrorKind::FeatureDisabled, message))
}

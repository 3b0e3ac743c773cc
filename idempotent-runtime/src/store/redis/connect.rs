//! The connections that the store makes for itself.

use std::time::Duration;

use ::redis::aio::ConnectionManagerConfig;
use ::redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use ::redis::{Client, ConnectionAddr};

use super::reply::store_error;
use crate::error::{Error, ErrorKind};

/// The longest that a call waits for a reply when nothing else bounds it.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the URL names. Nothing is connected yet.
pub(super) fn client(url: &str) -> Result<Client, Error> {
    let wants_tls = url.starts_with("rediss:") || url.starts_with("valkeys:");
    if wants_tls && !has_tls() {
        let message = "`rediss:` needs TLS, which the `redis` crate leaves out by default: depend on `redis` with its feature `tokio-rustls-comp` or `tokio-native-tls-comp`";
        return Err(Error::new(ErrorKind::FeatureDisabled, message));
    }
    let invalid = |error| {
        let message = "the redis store's URL is none: it looks like `redis://[user:password@]host[:port][/database]`";
        Error::new(ErrorKind::InvalidUrl, message).with_source(store_error(error))
    };
    let info = Client::open(url)
        .map_err(invalid)?
        .get_connection_info()
        .clone();
    Client::open(info.set_tcp_settings(tcp_settings())).map_err(invalid)
}

/// Whether any crate of this build has turned TLS on in the `redis` crate.
fn has_tls() -> bool {
    let address = ConnectionAddr::TcpTls {
        host: String::new(),
        port: 0,
        insecure: false,
        tls_params: None,
    };
    address.is_supported()
}

/// Small messages go out at once, and a server that is gone without a word is noticed.
fn tcp_settings() -> TcpSettings {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5));
    let settings = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let settings = settings.set_user_timeout(RESPONSE_TIMEOUT);
    settings
}

/// A server that is away is given up on within seconds; the next call tries again.
pub(super) fn config() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
        .set_connection_timeout(Some(Duration::from_secs(2)))
        .set_number_of_retries(3)
        .set_max_delay(Duration::from_secs(1))
        // How many commands may queue before their callers wait: a web server has many.
        .set_pipeline_buffer_size(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_that_is_not_turned_on_is_named() {
        if has_tls() {
            return;
        }
        let error = client("rediss://:secret@localhost").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FeatureDisabled);
        assert!(error.to_string().contains("`tokio-rustls-comp`"), "{error}");
    }

    #[test]
    fn bad_url_is_told_without_its_password() {
        for bad in [
            "redis://:secret@",
            "redis://:secret@host:port",
            "redis://:secret@host/db",
            "redis:secret",
        ] {
            let error = client(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{bad}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }
}

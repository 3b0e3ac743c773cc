//! What a URL names, and connecting to it.

use std::sync::Arc;
use std::time::Duration;

use ::redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use ::redis::{Client, ConnectionAddr};

use super::error::CallError;
use super::reconnecting::ReconnectingConnection;
use super::servers::{Sentinels, Servers};
use crate::error::{Error, ErrorKind};
use crate::store::StoreError;

/// For how long the kernel goes on sending to a peer that confirms nothing.
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Where Sentinels listen.
const SENTINEL_PORT: u16 = 26379;

/// The servers that the URL names. Nothing is connected yet.
pub(super) fn servers(url: &str) -> Result<Servers, Error> {
    if let Some(rest) = url.strip_prefix("redis+sentinel://") {
        return sentinels("redis", rest);
    }
    if let Some(rest) = url.strip_prefix("rediss+sentinel://") {
        return sentinels("rediss", rest);
    }
    client(url).map(Box::new).map(Servers::One)
}

/// One server.
pub(super) fn client(url: &str) -> Result<Client, Error> {
    const FORM: &str =
        "invalid Redis URL: expected `redis://[user:password@]host[:port][/database]`";
    let wants_tls = url.starts_with("rediss:") || url.starts_with("valkeys:");
    if wants_tls && !has_tls() {
        let message = "`rediss:` needs TLS, which the `redis` crate leaves out by default: depend on `redis` with its feature `tokio-rustls-comp` or `tokio-native-tls-comp`";
        return Err(Error::new(ErrorKind::FeatureDisabled, message));
    }
    let invalid = |error| {
        let cause = StoreError::from(CallError::of_one_try(error));
        Error::new(ErrorKind::InvalidUrl, FORM).with_source(cause)
    };
    let info = Client::open(url)
        .map_err(invalid)?
        .get_connection_info()
        .clone();
    Client::open(info.set_tcp_settings(tcp_settings())).map_err(invalid)
}

/// `[user:password@]host[:port][,host[:port]...]/service[/database][?parameters]`.
fn sentinels(scheme: &str, rest: &str) -> Result<Servers, Error> {
    let invalid = || {
        let message = "invalid Redis Sentinel URL: expected `redis+sentinel://[user:password@]host[:port][,host[:port]...]/service[/database]`";
        Error::new(ErrorKind::InvalidUrl, message)
    };
    let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').ok_or_else(invalid)?;
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let (service, database) = path.split_once('/').unwrap_or((path, ""));
    if service.is_empty() {
        return Err(invalid());
    }
    let mut watcher = [None, None];
    let mut of_server = Vec::new();
    for parameter in parameters.split('&').filter(|it| !it.is_empty()) {
        match parameter.split_once('=') {
            Some(("sentinel_user", user)) => watcher[0] = Some(user),
            Some(("sentinel_pass", password)) => watcher[1] = Some(password),
            _ => of_server.push(parameter),
        }
    }
    let of_server = of_server.join("&");
    let watcher = match watcher {
        [None, None] => String::new(),
        [user, password] => {
            let [user, password] = [user, password].map(Option::unwrap_or_default);
            format!("{user}:{password}@")
        }
    };
    let named: Vec<String> = hosts.split(',').map(with_port).collect();
    let server = named.first().ok_or_else(invalid)?;
    let server = client(&format!("{scheme}://{user}{server}/{database}?{of_server}"))?;
    let sentinels = named
        .iter()
        .map(|host| client(&format!("{scheme}://{watcher}{host}")));
    Ok(Servers::Watched(Arc::new(Sentinels {
        sentinels: sentinels.collect::<Result<_, _>>()?,
        service: service.to_owned(),
        server: server.get_connection_info().clone(),
    })))
}

fn with_port(host: &str) -> String {
    let after_address = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
    if host.is_empty() || after_address.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:{SENTINEL_PORT}")
    }
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
    let settings = settings.set_user_timeout(USER_TIMEOUT);
    settings
}

/// Connects to the primary.
pub(super) async fn probe(connection: &ReconnectingConnection) -> Result<(), Error> {
    let connected = connection.connect().await;
    connected.map_err(|error| cannot("connect to", CallError::of_one_try(error).into()))
}

pub(super) fn cannot(what: &str, error: StoreError) -> Error {
    let message = format!("could not {what} the redis store");
    Error::new(ErrorKind::Store, message).with_source(error)
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
            "redis+sentinel://:secret@host",
            "redis+sentinel://:secret@host/",
            "redis+sentinel://:secret@/payments",
            "redis+sentinel://:secret@host,/payments",
            "redis+sentinel://:secret@host:port/payments",
            "redis+sentinel://:secret@host/payments/db",
        ] {
            let Err(error) = servers(bad) else {
                panic!("{bad} is taken");
            };
            assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{bad}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }

    fn watched(url: &str) -> (Vec<ConnectionAddr>, String, ::redis::ConnectionInfo) {
        let Servers::Watched(sentinels) = servers(url).unwrap() else {
            panic!("{url} names no Sentinels");
        };
        let addresses = sentinels.sentinels.iter();
        let addresses = addresses.map(|client| client.get_connection_info().addr().clone());
        let addresses = addresses.collect();
        (
            addresses,
            sentinels.service.clone(),
            sentinels.server.clone(),
        )
    }

    #[test]
    fn url_of_sentinels_names_them_the_service_and_its_servers_settings() {
        let url = "redis+sentinel://app:p%40ss@one,two:7000,[::1]/payments/3?protocol=resp3";
        let (sentinels, service, server) = watched(url);
        let expected = [("one", 26379), ("two", 7000), ("::1", 26379)];
        let expected = expected.map(|(host, port)| ConnectionAddr::Tcp(host.to_owned(), port));
        assert_eq!(sentinels, expected);
        assert_eq!(service, "payments");
        let settings = server.redis_settings();
        assert_eq!(settings.username(), Some("app"));
        assert_eq!(settings.password(), Some("p@ss"));
        assert_eq!(settings.db(), 3);
        assert_eq!(settings.protocol(), ::redis::ProtocolVersion::RESP3);
        let (_, _, server) = watched("redis+sentinel://one/payments");
        assert_eq!(server.redis_settings().db(), 0);
        assert_eq!(server.redis_settings().password(), None);
    }

    #[test]
    fn sentinels_have_credentials_of_their_own() {
        let url = "redis+sentinel://:server@one/payments?sentinel_user=app&sentinel_pass=w%26tch";
        let Servers::Watched(sentinels) = servers(url).unwrap() else {
            panic!("it names Sentinels");
        };
        let settings = sentinels.sentinels[0].get_connection_info();
        let settings = settings.redis_settings();
        assert_eq!(settings.username(), Some("app"));
        assert_eq!(settings.password(), Some("w&tch"));
        let server = sentinels.server.redis_settings();
        assert_eq!(server.password(), Some("server"));
        let plain = servers("redis+sentinel://:server@one/payments").unwrap();
        let Servers::Watched(sentinels) = plain else {
            panic!("it names Sentinels");
        };
        let settings = sentinels.sentinels[0].get_connection_info();
        assert_eq!(settings.redis_settings().password(), None);
    }
}

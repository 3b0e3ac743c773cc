//! Where the primary is: behind one address, or where the Sentinels say.

use std::sync::Arc;
use std::time::Duration;

use ::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, RedisResult, Value,
    cmd,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;

use super::wire::Wire;

/// How long a Sentinel may take to connect, and so may the server that it names.
const NODE_LIMIT: Duration = Duration::from_millis(700);

/// A server, or those among which the Sentinels know the primary. Clones share it.
#[derive(Clone)]
pub(super) enum Servers {
    One(Box<Client>),
    Watched(Arc<Sentinels>),
}

/// Sentinels, and the settings of the servers that they watch.
pub(super) struct Sentinels {
    pub(super) sentinels: Vec<Client>,
    /// What the servers are called together.
    pub(super) service: String,
    /// Their settings, with any address.
    pub(super) server: ConnectionInfo,
}

impl Servers {
    pub(super) fn database(&self) -> i64 {
        let server = match self {
            Self::One(client) => client.get_connection_info(),
            Self::Watched(sentinels) => &sentinels.server,
        };
        server.redis_settings().db()
    }

    /// A connection to the primary.
    pub(super) async fn connect(&self) -> RedisResult<Wire> {
        match self {
            Self::One(client) => Wire::connect(client).await,
            Self::Watched(sentinels) => Ok(sentinels.find().await?.1),
        }
    }

    /// The primary, for a connection of another kind.
    pub(super) async fn primary(&self) -> RedisResult<Client> {
        match self {
            Self::One(client) => Ok((**client).clone()),
            Self::Watched(sentinels) => Ok(sentinels.find().await?.0),
        }
    }
}

impl Sentinels {
    /// Asks all of them at once, so that one that is silent costs no time. The first to name a server
    /// that says itself that it is the primary is right.
    ///
    /// Each time over fresh connections: it happens seldom, and an old one may be dead.
    async fn find(&self) -> RedisResult<(Client, Wire)> {
        let asked = self.sentinels.iter().map(|sentinel| self.ask(sentinel));
        let mut asked: FuturesUnordered<_> = asked.collect();
        let mut error = (ErrorKind::EmptySentinelList, "there are no Sentinels").into();
        while let Some(found) = asked.next().await {
            match found {
                Ok(found) => return Ok(found),
                Err(cause) => error = cause,
            }
        }
        Err(error)
    }

    async fn ask(&self, sentinel: &Client) -> RedisResult<(Client, Wire)> {
        let limited = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(NODE_LIMIT))
            .set_response_timeout(Some(NODE_LIMIT));
        let mut asked = sentinel
            .get_multiplexed_async_connection_with_config(&limited)
            .await?;
        let named: Option<(String, u16)> = cmd("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(&self.service)
            .query_async(&mut asked)
            .await?;
        let Some((host, port)) = named else {
            let error = ErrorKind::MasterNameNotFoundBySentinel;
            return Err((error, "a Sentinel does not know the service").into());
        };
        let client = Client::open(self.at(host, port))?;
        let connected = timeout(NODE_LIMIT, Wire::connect(&client)).await;
        let wire = connected.map_err(std::io::Error::from)??;
        let role = cmd("ROLE");
        let role = role.query_async::<Vec<Value>>(&mut wire.connection()).await;
        // A user that may not ask for its role is told by the first write.
        if role.is_ok_and(|role| !is_primary(&role)) {
            let error = ErrorKind::MasterNameNotFoundBySentinel;
            return Err((error, "a Sentinel names a server that is not the primary").into());
        }
        Ok((client, wire))
    }

    fn at(&self, host: String, port: u16) -> ConnectionInfo {
        let address = match self.server.addr() {
            ConnectionAddr::TcpTls {
                insecure,
                tls_params,
                ..
            } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host, port),
        };
        self.server.clone().set_addr(address)
    }
}

fn is_primary(role: &[Value]) -> bool {
    matches!(role.first(), Some(Value::BulkString(role)) if role == b"master")
}

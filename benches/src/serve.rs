//! A server with one implementation, for the load generator.

use std::io::Read as _;

use axum::Router;
use axum::routing::get;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;

use crate::till::Till;
use crate::{Failure, impls, report};

/// Serves until its standard input is closed, which is what happens when the process that started it is gone.
///
/// The runtime is what `#[tokio::main]` makes on one core: multi-threaded, one worker. It is the same for
/// everything that is measured.
pub(crate) fn run(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    use lexopt::prelude::*;
    let (mut name, mut store) = (None, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("impl") => name = Some(arguments.value()?.string()?),
            Long("store") => store = Some(arguments.value()?.string()?),
            _ => return Err(argument.unexpected().into()),
        }
    }
    let name = name.ok_or("which --impl?")?;
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?
        .block_on(serve(&name, store.as_deref()))
}

async fn serve(name: &str, store: Option<&str>) -> Result<(), Failure> {
    let till = Till::default();
    let counted = till.clone();
    let executions = get(move || std::future::ready(counted.executions().to_string()));
    let app = impls::router(name, till, store).await?;
    let app = Router::new().route("/executions", executions).merge(app);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    report::say(&listener.local_addr()?.to_string());
    let listener = listener.tap_io(|connection| {
        // As axum's documentation advises; an answer is one write all the same.
        let _ = connection.set_nodelay(true);
    });
    axum::serve(listener, app).await?;
    Ok(())
}

//! Requests in this process, without a socket: for a tool that counts instructions.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use tower::ServiceExt as _;

use crate::till::Till;
use crate::{Failure, impls};

const PAYMENT: &str = r#"{"amount":4200,"currency":"EUR","order_id":"order-0123456789","note":""}"#;

/// Sends so many requests of one kind, one after the other.
pub(crate) fn run(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    use lexopt::prelude::*;
    let (mut name, mut mode, mut requests) = (None, None, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("impl") => name = Some(arguments.value()?.string()?),
            Long("mode") => mode = Some(arguments.value()?.string()?),
            Long("requests") => requests = Some(arguments.value()?.parse()?),
            _ => return Err(argument.unexpected().into()),
        }
    }
    let (name, mode) = (name.ok_or("which --impl?")?, mode.ok_or("which --mode?")?);
    let requests = requests.ok_or("how many --requests?")?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(send(&name, &mode, requests))
}

async fn send(name: &str, mode: &str, requests: u64) -> Result<(), Failure> {
    let app: Router = impls::router(name, Till::default(), None).await?;
    for number in 0..requests {
        let key = match mode {
            "first" => Some(format!("key-{number:016}")),
            "replay" => Some("key-0000000000000000".to_owned()),
            "keyless" => None,
            _ => return Err(format!("there is no mode `{mode}`").into()),
        };
        let request = Request::post("/payments").header(header::CONTENT_TYPE, "application/json");
        let request = match key {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        };
        let response = app
            .clone()
            .oneshot(request.body(Body::from(PAYMENT))?)
            .await?;
        if !response.status().is_success() {
            return Err(format!("answered with {}", response.status()).into());
        }
        to_bytes(response.into_body(), usize::MAX).await?;
    }
    Ok(())
}

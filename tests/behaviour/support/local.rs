//! An application without a socket: for faults that have to be placed exactly, for tokio's paused
//! clock, and for more requests at a time than a process has descriptors.

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::Request;
use http_body_util::BodyExt;
use idempotent_runtime::store::Store;
use idempotent_runtime::{Idempotency, IdempotencyBuilder};
use tokio::task::JoinHandle;
use tower::ServiceExt;

use super::{App, Probe, Reply, builder_on};

#[derive(Clone)]
pub struct Local {
    pub router: Router,
    pub probe: Probe,
    pub idempotency: Idempotency,
}

async fn whole(response: Response) -> Reply {
    let (head, body) = response.into_parts();
    Reply {
        status: head.status.as_u16(),
        headers: head.headers,
        body: body.collect().await.expect("a whole body").to_bytes(),
    }
}

impl Local {
    /// Routes on a store, with the settings of [`builder_on`].
    pub fn new(store: impl Store, routes: Router<App>) -> Self {
        Self::with(builder_on(store), routes)
    }

    /// Routes with the builder's settings.
    pub fn with(builder: IdempotencyBuilder, routes: Router<App>) -> Self {
        let idempotency = builder.build();
        let probe = Probe::default();
        let router = routes.with_state(App {
            idempotency: idempotency.clone(),
            probe: probe.clone(),
        });
        Self {
            router,
            probe,
            idempotency,
        }
    }

    /// Posts nothing, without a key.
    pub async fn post_without_key(&self, path: &str) -> Reply {
        let request = Request::post(path).body(Body::empty()).expect("a request");
        self.send(request).await
    }

    /// Sends a request, and reads the whole answer.
    pub async fn send(&self, request: Request<Body>) -> Reply {
        let router = self.router.clone();
        let response = router.oneshot(request).await.expect("an answer");
        whole(response).await
    }

    /// Posts nothing with this key, and gives the answer with its body unread.
    pub async fn response(&self, path: &str, key: &str) -> Response {
        let request = Request::post(path).header("idempotency-key", key);
        let request = request.body(Body::empty()).expect("a request");
        let router = self.router.clone();
        router.oneshot(request).await.expect("an answer")
    }

    /// Posts nothing with this key.
    pub async fn post(&self, path: &str, key: &str) -> Reply {
        whole(self.response(path, key).await).await
    }

    /// As [`post`](Self::post), in a task of its own.
    pub fn spawn(&self, path: &'static str, key: &'static str) -> JoinHandle<Reply> {
        let local = self.clone();
        tokio::spawn(async move { local.post(path, key).await })
    }

    /// Waits until this much goes on: see [`Server::pending`](super::Server::pending).
    pub async fn pending(&self, count: usize) {
        super::pending(&self.idempotency, count).await;
    }
}

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::{Application, BOUND};

/// An answer, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub body: String,
    /// The `code` of a problem.
    pub code: Option<String>,
    pub is_replay: bool,
}

impl Reply {
    /// Whether a client would stop retrying.
    pub fn is_final(&self) -> bool {
        self.status != 503 && !self.is_in_flight()
    }

    pub fn is_in_flight(&self) -> bool {
        self.code.as_deref() == Some("in-flight")
    }

    /// Equal, but for the mark of a replay.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        (self.status, &self.body) == (other.status, &other.body)
    }

    #[track_caller]
    pub fn assert_code(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status, self.code.as_deref()),
            (status, Some(code)),
            "{self:?}"
        );
    }

    #[track_caller]
    pub fn assert_replay_of(&self, first: &Self) {
        assert!(self.is_replay, "not a replay: {self:?}");
        assert!(
            self.says_the_same_as(first),
            "{self:?}, and before {first:?}"
        );
    }
}

impl Application {
    /// One try. `None` when there is no answer, because no process listens or the connection broke.
    pub async fn post(&self, path: &str, key: &str) -> Option<Reply> {
        self.post_body(path, key, "").await
    }

    pub async fn post_body(&self, path: &str, key: &str, body: &'static str) -> Option<Reply> {
        read(self.request(path, key).body(body)).await
    }

    /// The bytes that come back for these, and whether they are a replay.
    pub async fn echo(&self, key: &str, bytes: Vec<u8>) -> (Vec<u8>, bool) {
        let sent = self.request("/echo", key).body(bytes).send().await;
        let response = sent.expect("an answer");
        assert_eq!(response.status(), 200, "{response:?}");
        let is_replay = response.headers().contains_key("idempotent-replayed");
        let bytes = response.bytes().await.expect("a body");
        (bytes.into(), is_replay)
    }

    /// One try, in a task of its own.
    pub fn spawn_post(&self, path: &str, key: &str) -> JoinHandle<Option<Reply>> {
        tokio::spawn(read(self.request(path, key)))
    }

    fn request(&self, path: &str, key: &str) -> reqwest::RequestBuilder {
        self.client
            .post(format!("http://{}{path}", self.address))
            .header("Idempotency-Key", key)
    }

    /// Tries until the answer is final.
    pub async fn settled(&self, path: &str, key: &str) -> Reply {
        let started = Instant::now();
        // For the developer who has to find out why it did not settle.
        let mut history = Vec::new();
        loop {
            let reply = self.post(path, key).await;
            if let Some(reply) = &reply
                && reply.is_final()
            {
                return reply.clone();
            }
            let said = reply.map(|reply| (reply.status, reply.code));
            if history.last().is_none_or(|(_, last)| *last != said) {
                history.push((started.elapsed(), said));
            }
            assert!(started.elapsed() < BOUND, "{path} {key}: {history:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn read(request: reqwest::RequestBuilder) -> Option<Reply> {
    let response = request.send().await.ok()?;
    let is_replay = response.headers().contains_key("idempotent-replayed");
    let status = response.status().as_u16();
    let body = response.text().await.ok()?;
    let problem = serde_json::from_str::<serde_json::Value>(&body).ok();
    let code = problem.and_then(|problem| Some(problem.get("code")?.as_str()?.to_owned()));
    Some(Reply {
        status,
        body,
        code,
        is_replay,
    })
}

//! A server on loopback that does what a script says, down to the reset of a connection.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    headers: Vec<(String, String)>,
    /// `None` if the script did not read it.
    pub body: Option<Vec<u8>>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(other, _)| other == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} was sent twice");
        value
    }

    pub fn key(&self) -> Option<&str> {
        self.header("idempotency-key")
    }
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Play {
    Answer(Response<Vec<u8>>),
    /// A reset before the body is read.
    ResetWhileSending,
    ResetBeforeAnswer,
    /// The head, a part of the body, and the end of the connection.
    CutInBody(Response<Vec<u8>>),
    /// The connection stays open, and nothing comes.
    Silence,
}

impl Play {
    pub fn status(status: u16) -> Self {
        Self::Answer(
            Response::builder()
                .status(status)
                .body(b"x".to_vec())
                .unwrap(),
        )
    }

    pub fn marked(status: u16) -> Self {
        let response = Response::builder()
            .status(status)
            .header("idempotent-replayed", "true");
        Self::Answer(response.body(b"stored".to_vec()).unwrap())
    }

    pub fn problem(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"type":"about:blank","status":{status},"code":"{code}"}}"#);
        let response = Response::builder()
            .status(status)
            .header("content-type", "application/problem+json");
        Self::Answer(response.body(body.into_bytes()).unwrap())
    }

    pub fn redirect(status: u16, location: &str) -> Self {
        let response = Response::builder()
            .status(status)
            .header("location", location);
        Self::Answer(response.body(Vec::new()).unwrap())
    }
}

type Script = dyn FnMut(usize, &Seen) -> Play + Send;

pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Server {
    /// `script` gets the number of the request, from 1, and its head.
    pub async fn start(script: impl FnMut(usize, &Seen) -> Play + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(script));
        let task = tokio::spawn(accept(listener, Arc::clone(&seen), script));
        Self {
            address,
            seen,
            task,
        }
    }

    /// Plays one after the other, and the last one again and again.
    pub async fn playing(plays: impl IntoIterator<Item = Play>) -> Self {
        let plays: Vec<_> = plays.into_iter().collect();
        Self::start(move |count, _| plays[(count - 1).min(plays.len() - 1)].clone()).await
    }

    pub fn url(&self) -> String {
        format!("http://{}/payments", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, seen: Arc<Mutex<Vec<Seen>>>, script: Arc<Mutex<Script>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(serve(stream, Arc::clone(&seen), Arc::clone(&script)));
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<Seen>>>, script: Arc<Mutex<Script>>) {
    let mut bytes = Vec::new();
    let Some(head_end) = read_head(&mut stream, &mut bytes).await else {
        return;
    };
    let request = parse(&bytes[..head_end]);
    let length: usize = request
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    assert_eq!(
        request.header("transfer-encoding"),
        None,
        "the length of a whole body is known"
    );
    let (number, play) = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        (seen.len(), script.lock().unwrap()(seen.len(), &request))
    };
    if matches!(play, Play::ResetWhileSending) {
        return stream.set_zero_linger().unwrap();
    }
    while bytes.len() < head_end + length {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
    seen.lock().unwrap()[number - 1].body = Some(bytes[head_end..].to_vec());
    match play {
        Play::Answer(response) => {
            let length = response.body().len();
            write(&mut stream, &response, length).await;
        }
        Play::CutInBody(response) => {
            write(&mut stream, &response, response.body().len() + 100).await;
        }
        Play::ResetBeforeAnswer | Play::ResetWhileSending => stream.set_zero_linger().unwrap(),
        Play::Silence => {
            // Until the client goes.
            let _ = stream.read_buf(&mut bytes).await;
        }
    }
}

async fn read_head(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<usize> {
    loop {
        if let Some(position) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            return Some(position + 4);
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn parse(head: &[u8]) -> Seen {
    let head = std::str::from_utf8(head).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next().unwrap().split(' ');
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    Seen {
        method: first.next().unwrap().to_owned(),
        path: first.next().unwrap().to_owned(),
        headers: headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect(),
        body: None,
    }
}

/// No `Date`: those come from the script.
async fn write(stream: &mut TcpStream, response: &Response<Vec<u8>>, length: usize) {
    let mut bytes = format!(
        "HTTP/1.1 {} X\r\nconnection: close\r\n",
        response.status().as_u16()
    )
    .into_bytes();
    if !matches!(response.status().as_u16(), 204 | 304) {
        bytes.extend(format!("content-length: {length}\r\n").into_bytes());
    }
    for (name, value) in response.headers() {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend(b"\r\n");
    if !matches!(response.status().as_u16(), 204 | 304) {
        bytes.extend(response.body());
    }
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
}

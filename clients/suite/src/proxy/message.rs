//! As much of HTTP/1.1 as a network has to know: where a message ends, and what it is about.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const HEAD_END: &[u8] = b"\r\n\r\n";
const CHUNKS_END: &[u8] = b"0\r\n\r\n";

/// A request or a reply, as its bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    /// With the empty line at its end.
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Message {
    /// A reply with this body, which leaves the connection open.
    pub(crate) fn reply(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n");
        Self {
            head: head.into_bytes(),
            body: body.as_bytes().to_vec(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let head = std::str::from_utf8(&self.head).ok()?;
        let lines = head.split("\r\n").skip(1);
        let mut fields = lines.filter_map(|line| line.split_once(':'));
        let (_, value) = fields.find(|(field, _)| field.eq_ignore_ascii_case(name))?;
        Some(value.trim())
    }

    pub(crate) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.head.truncate(self.head.len().saturating_sub(2));
        let line = format!("{name}: {value}\r\n\r\n");
        self.head.extend_from_slice(line.as_bytes());
        self
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.head.as_slice(), &self.body].concat()
    }

    /// The head and half of the body.
    pub(crate) fn half(&self) -> Vec<u8> {
        let half = self.body.get(..self.body.len() / 2).unwrap_or_default();
        [self.head.as_slice(), half].concat()
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    pub(crate) stream: S,
    /// What was read and belongs to the next message.
    rest: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            rest: Vec::new(),
        }
    }

    /// The next message. `None` if the other side has closed the connection before its end.
    pub(crate) async fn read(&mut self) -> io::Result<Option<Message>> {
        let Some(end) = self.read_until(0, HEAD_END).await? else {
            return Ok(None);
        };
        let body = self.rest.split_off(end);
        let mut message = Message {
            head: std::mem::replace(&mut self.rest, body),
            body: Vec::new(),
        };
        let length = message.header("content-length").map(str::parse);
        let end = match length {
            Some(length) => self.read_to(length.map_err(io::Error::other)?).await?,
            None if message.header("transfer-encoding").is_some() => {
                self.read_until(0, CHUNKS_END).await?
            }
            None => Some(0),
        };
        let Some(end) = end else { return Ok(None) };
        let rest = self.rest.split_off(end);
        message.body = std::mem::replace(&mut self.rest, rest);
        Ok(Some(message))
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Returns when the other side has closed the connection.
    pub(crate) async fn closed(&mut self) {
        while self.more().await.is_ok_and(|is_more| is_more) {}
    }

    async fn read_until(&mut self, from: usize, end: &[u8]) -> io::Result<Option<usize>> {
        loop {
            let unread = self.rest.get(from..).unwrap_or_default();
            if let Some(place) = unread.windows(end.len()).position(|window| window == end) {
                return Ok(Some(from + place + end.len()));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    async fn read_to(&mut self, length: usize) -> io::Result<Option<usize>> {
        while self.rest.len() < length {
            if !self.more().await? {
                return Ok(None);
            }
        }
        Ok(Some(length))
    }

    async fn more(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.rest).await? > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (mut here, there) = tokio::io::duplex(7);
        let mut wire = Wire::new(there);
        let write = async {
            here.write_all(bytes).await.unwrap();
            drop(here);
        };
        let read = async {
            let mut messages = Vec::new();
            while let Some(message) = wire.read().await.unwrap() {
                messages.push((message.head, message.body));
            }
            messages
        };
        tokio::join!(write, read).1
    }

    #[tokio::test]
    async fn messages_end_where_they_say() {
        let first = b"POST /a HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody";
        let second = b"GET /b HTTP/1.1\r\nhost: h\r\n\r\n";
        let third = b"POST /c HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
        let all = [first.as_slice(), second, third].concat();
        let messages = read(&all).await;
        assert_eq!(messages.len(), 3);
        assert_eq!(messages[0].1, b"body");
        assert_eq!(messages[1].1, b"");
        assert_eq!(messages[2].1, b"1\r\nx\r\n0\r\n\r\n");
    }

    #[tokio::test]
    async fn half_a_message_is_none() {
        let half = b"POST /a HTTP/1.1\r\ncontent-length: 4\r\n\r\nbo";
        assert!(read(half).await.is_empty());
    }

    #[test]
    fn headers_are_found_and_added() {
        let reply = Message::reply("503 Service Unavailable", "Retry-After: 1\r\n", "busy");
        assert_eq!(reply.header("retry-after"), Some("1"));
        assert_eq!(reply.header("content-length"), Some("4"));
        let more = reply.with_header("suite-hold", "after=1");
        assert_eq!(more.header("suite-hold"), Some("after=1"));
        assert!(more.bytes().ends_with(b"\r\n\r\nbusy"));
        assert!(more.half().ends_with(b"\r\n\r\nbu"));
    }
}

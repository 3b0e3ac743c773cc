//! A stream that tells how much it has carried: a reply that is still arriving is no silence.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes a connection has carried that show that its peer is there. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream that counts for its pulse.
///
/// All that is read counts. What is written counts where it had to wait until the peer made room: the rest has only
/// reached this host's own buffer, and would be written to a peer that is gone too.
pub(super) struct Observed<S> {
    stream: S,
    pulse: Pulse,
    /// The only place that the pulse is written from.
    bytes: u64,
    is_full: bool,
}

impl<S> Observed<S> {
    pub(super) fn new(stream: S, pulse: Pulse) -> Self {
        Self {
            stream,
            pulse,
            bytes: 0,
            is_full: false,
        }
    }

    fn carried(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.pulse.0.store(self.bytes, Ordering::Relaxed);
    }

    fn has_written(&mut self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Pending => self.is_full = true,
            Poll::Ready(Ok(count)) if self.is_full => {
                self.is_full = false;
                self.carried(*count);
            }
            Poll::Ready(_) => {}
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let count = buffer.filled().len().saturating_sub(before);
        if count > 0 {
            self.carried(count);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.has_written(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.has_written(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn what_is_read_counts_and_what_is_written_only_after_the_peer_made_room() {
        let (stream, mut peer) = duplex(8);
        let pulse = Pulse::default();
        let mut stream = Observed::new(stream, pulse.clone());
        stream.write_all(&[0; 8]).await.unwrap();
        assert_eq!(pulse.bytes(), 0, "it may lie in a buffer of this host");
        let more = tokio::spawn(async move {
            stream.write_all(&[0; 3]).await.unwrap();
            stream
        });
        // It is full, and waits.
        tokio::task::yield_now().await;
        assert_eq!(pulse.bytes(), 0);
        peer.read_exact(&mut [0; 8]).await.unwrap();
        let mut stream = more.await.unwrap();
        assert_eq!(pulse.bytes(), 3);
        stream.write_all(&[0; 2]).await.unwrap();
        assert_eq!(pulse.bytes(), 3);
        peer.write_all(&[0; 5]).await.unwrap();
        stream.read_exact(&mut [0; 5]).await.unwrap();
        assert_eq!(pulse.bytes(), 8);
    }
}

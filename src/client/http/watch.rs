//! A stream that notes when its bytes go out and come in: what hyper does not tell.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::time::Mono;

/// When the bytes of one exchange moved; 0 is "not yet".
#[derive(Debug, Default)]
pub(super) struct Watch {
    began: AtomicI64,
    last_write: AtomicI64,
    first_read: AtomicI64,
}

impl Watch {
    /// Before each exchange.
    pub(super) fn restart(&self) {
        self.began.store(Mono::now().0, Relaxed);
        self.last_write.store(0, Relaxed);
        self.first_read.store(0, Relaxed);
    }

    /// Whether a byte of the request has left.
    pub(super) fn written(&self) -> bool {
        self.last_write.load(Relaxed) != 0
    }

    pub(super) fn request(&self) -> Option<Duration> {
        between(&self.began, &self.last_write)
    }

    pub(super) fn first_byte(&self) -> Option<Duration> {
        between(&self.last_write, &self.first_read)
    }

    pub(super) fn since_first_byte(&self) -> Option<Duration> {
        let first = self.first_read.load(Relaxed);
        (first != 0).then(|| Mono::now().since(Mono(first)))
    }
}

fn between(from: &AtomicI64, to: &AtomicI64) -> Option<Duration> {
    let (from, to) = (from.load(Relaxed), to.load(Relaxed));
    (from != 0 && to != 0).then(|| Mono(to).since(Mono(from)))
}

pub(super) struct Watched<S> {
    stream: S,
    watch: Arc<Watch>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, watch: Arc<Watch>) -> Self {
        Self { stream, watch }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before && self.watch.first_read.load(Relaxed) == 0 {
            self.watch.first_read.store(Mono::now().0, Relaxed);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    fn note(&self, polled: &Poll<io::Result<usize>>) {
        if matches!(polled, Poll::Ready(Ok(n)) if *n > 0) {
            self.watch.last_write.store(Mono::now().0, Relaxed);
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.note(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

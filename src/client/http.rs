//! Connections: hyper's HTTP/1.1 over tokio's sockets, with rustls for https. Says in which phase one fails.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::watched::{LastWrite, Watched};
use super::{Failure, Phase, Timeouts, TlsSettings};

/// hyper reads into a buffer that grows up to this; it bounds a connection's share of memory. Larger ones changed nothing
/// measurable (performance.md §5).
const READ_BUFFER_BYTES_MAX: usize = 256 << 10;

/// Where connections go.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) host: String,
    pub(super) port: u16,
    /// Set for https.
    pub(super) tls: Option<TlsSettings>,
    pub(super) timeouts: Timeouts,
}

impl Peer {
    /// Scheme, host and port, for messages.
    pub(super) fn name(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.host, self.port)
    }

    pub(super) fn failure(&self, phase: Phase, detail: impl ToString) -> Failure {
        Failure::Transport { phase, endpoint: self.name(), detail: detail.to_string(), stale: false }
    }

    /// Opens a connection and starts the task that drives it.
    pub(super) async fn connect(&self) -> Result<(SendRequest<RequestBody>, LastWrite), Failure> {
        let stream = self.connect_tcp().await?;
        // A request's head and body leave in one write; waiting for more would only delay it.
        stream.set_nodelay(true).map_err(|e| self.failure(Phase::Connect, e))?;
        let (stream, last_write) = Watched::new(stream);
        match &self.tls {
            None => Ok((self.handshake(stream).await?, last_write)),
            Some(TlsSettings(config)) => {
                let config = config.clone().expect("https endpoints are given certificates when settings are made");
                let stream = self.connect_tls(stream, config).await?;
                Ok((self.handshake(stream).await?, last_write))
            }
        }
    }

    async fn connect_tcp(&self) -> Result<TcpStream, Failure> {
        let lookup = tokio::net::lookup_host((self.host.as_str(), self.port));
        let addresses = within(self.timeouts.connect, lookup).await.map_err(|e| self.failure(Phase::Dns, e))?;
        let mut last = self.failure(Phase::Dns, "the name has no address");
        for address in addresses {
            match within(self.timeouts.connect, TcpStream::connect(address)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = self.failure(Phase::Connect, format!("{address}: {error}")),
            }
        }
        Err(last)
    }

    async fn connect_tls(
        &self,
        stream: Watched,
        config: Arc<rustls::ClientConfig>,
    ) -> Result<tokio_rustls::client::TlsStream<Watched>, Failure> {
        let name = ServerName::try_from(self.host.clone()).map_err(|e| self.failure(Phase::Tls, e))?;
        let connect = tokio_rustls::TlsConnector::from(config).connect(name, stream);
        match tokio::time::timeout(self.timeouts.connect, connect).await {
            Ok(Ok(stream)) => Ok(stream),
            // Whom we do not trust now we shall not trust at the next try; a line that breaks may hold then.
            Ok(Err(error)) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
                Err(self.failure(Phase::Tls, error))
            }
            Ok(Err(error)) => Err(self.failure(Phase::Connect, format!("during the TLS handshake: {error}"))),
            Err(_) => Err(self.failure(Phase::Connect, "no progress in the TLS handshake")),
        }
    }

    async fn handshake<T>(&self, stream: T) -> Result<SendRequest<RequestBody>, Failure>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let mut builder = http1::Builder::new();
        // Queue the body's slices for writev instead of copying them behind the head (performance.md D3).
        builder.writev(true).max_buf_size(READ_BUFFER_BYTES_MAX);
        let (sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|e| self.failure(Phase::Connect, e))?;
        tokio::task::spawn_local(async move {
            // Its errors reach the request that suffers from them; an idle connection's end concerns nobody.
            let _ = connection.await;
        });
        Ok(sender)
    }
}

/// `future`, or an error once `limit` has passed.
pub(super) async fn within<T, E: ToString>(
    limit: Duration,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match tokio::time::timeout(limit, future).await {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => Err(format!("no progress for {} s", limit.as_secs_f64())),
    }
}

/// What a request carries.
#[derive(Debug)]
pub enum RequestBody {
    /// Nothing.
    Empty,
    /// One slice; None once it is handed over. Always a single slice: hyper can reorder the slices of a custom buffer
    /// (hyper#4132).
    Whole(Option<Bytes>),
    /// Slices that arrive while the request is under way; `left_bytes` are still to come.
    Stream {
        /// Where the slices come from. Its end before `left_bytes` is zero fails the request.
        slices: mpsc::Receiver<Bytes>,
        /// Bytes still to come.
        left_bytes: u64,
    },
}

impl RequestBody {
    /// A body of one slice.
    pub fn whole(bytes: Bytes) -> RequestBody {
        if bytes.is_empty() { RequestBody::Empty } else { RequestBody::Whole(Some(bytes)) }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        matches!(self, RequestBody::Empty)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.get_mut() {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            RequestBody::Stream { left_bytes: 0, .. } => Poll::Ready(None),
            RequestBody::Stream { slices, left_bytes } => match std::task::ready!(slices.poll_recv(cx)) {
                Some(slice) => {
                    *left_bytes = left_bytes.saturating_sub(slice.len() as u64);
                    Poll::Ready(Some(Ok(Frame::data(slice))))
                }
                None => Poll::Ready(Some(Err(std::io::ErrorKind::UnexpectedEof.into()))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty | RequestBody::Whole(None) => true,
            RequestBody::Whole(Some(_)) => false,
            RequestBody::Stream { left_bytes, .. } => *left_bytes == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            RequestBody::Empty | RequestBody::Whole(None) => 0,
            RequestBody::Whole(Some(bytes)) => bytes.len() as u64,
            RequestBody::Stream { left_bytes, .. } => *left_bytes,
        })
    }
}

/// The body of an answer, slice by slice, with a limit on standing still.
pub struct Frames {
    incoming: Incoming,
    peer: Rc<Peer>,
}

impl Frames {
    pub(super) fn new(incoming: Incoming, peer: Rc<Peer>) -> Frames {
        Frames { incoming, peer }
    }

    /// The next slice, or None at the end. An answer shorter than its Content-Length is an error, not an end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = match self.arrived().await {
                Some(frame) => frame,
                None => self.awaited().await?,
            };
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|e| self.peer.failure(Phase::Body, describe(&e)))?;
            // Trailers carry nothing that we asked for.
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// What is there already, as the end of most answers is: no timer is set for it.
    async fn arrived(&mut self) -> Option<MaybeFrame> {
        std::future::poll_fn(|cx| match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    async fn awaited(&mut self) -> Result<MaybeFrame, Failure> {
        let idle = self.peer.timeouts.idle;
        let frame = std::future::poll_fn(|cx| Pin::new(&mut self.incoming).poll_frame(cx));
        let stood_still = |_| self.peer.failure(Phase::Body, format!("no progress for {} s", idle.as_secs_f64()));
        tokio::time::timeout(idle, frame).await.map_err(stood_still)
    }
}

/// A slice of a body, or None at its end.
type MaybeFrame = Option<Result<Frame<Bytes>, hyper::Error>>;

/// An error with its causes, since hyper keeps the interesting one inside.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

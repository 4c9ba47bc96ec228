//! Where connections go: tokio's sockets, with rustls for https. Says in which phase connecting fails.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{Failure, Phase, Timeouts, TlsSettings};

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

    /// Opens a connection.
    pub(super) async fn connect(&self) -> Result<Stream, Failure> {
        let stream = self.connect_tcp().await?;
        // A request's head and body leave in one write; waiting for more would only delay it.
        stream.set_nodelay(true).map_err(|e| self.failure(Phase::Connect, e))?;
        match &self.tls {
            None => Ok(Stream::Plain(stream)),
            Some(TlsSettings(config)) => {
                let config = config.clone().expect("https endpoints are given certificates when settings are made");
                Ok(Stream::Tls(Box::new(self.connect_tls(stream, config).await?)))
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
        stream: TcpStream,
        config: Arc<rustls::ClientConfig>,
    ) -> Result<TlsStream<TcpStream>, Failure> {
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
}

/// `future`, or an error once `limit` has passed.
async fn within<T, E: ToString>(limit: Duration, future: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match tokio::time::timeout(limit, future).await {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => Err(format!("no progress for {} s", limit.as_secs_f64())),
    }
}

/// An open connection. The choice between the two is made once for each call, outside of all loops over bytes.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

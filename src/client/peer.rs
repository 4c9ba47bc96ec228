//! Where connections go: tokio's sockets, with rustls for https. Says in which phase connecting fails.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::proxy::Proxy;
use super::{Cause, Failure, Phase, Timeouts, TlsSettings};

/// Where connections go.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) host: String,
    pub(super) port: u16,
    /// Set for https.
    pub(super) tls: Option<TlsSettings>,
    pub(super) timeouts: Timeouts,
    /// What stands between.
    pub(super) proxy: Option<Arc<Proxy>>,
}

/// What a proxy may say before the way is open.
const PROXY_HEAD_BYTES_MAX: usize = 16 << 10;
const PROXY_HEADERS_MAX: usize = 64;

impl Peer {
    /// Scheme, host and port, for messages.
    pub(super) fn name(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let through = match &self.proxy {
            Some(proxy) => format!(" (through the proxy {}:{})", proxy.host, proxy.port),
            None => String::new(),
        };
        format!("{scheme}://{}{through}", self.authority())
    }

    /// Host and port.
    fn authority(&self) -> String {
        let Peer { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// A request's head as the next station on its way wants it, where that is not as it stands.
    pub(super) fn rewritten(&self, head: &[u8]) -> Option<Vec<u8>> {
        match (&self.proxy, &self.tls) {
            (Some(proxy), None) => Some(proxy.forwarded(head, &self.authority())),
            // What is within TLS is nothing to a proxy.
            (Some(_), Some(_)) | (None, _) => None,
        }
    }

    pub(super) fn failure(&self, phase: Phase, detail: impl ToString) -> Failure {
        self.failure_by(Cause::Break, phase, detail)
    }

    pub(super) fn failure_by(&self, cause: Cause, phase: Phase, detail: impl ToString) -> Failure {
        Failure::Transport { phase, endpoint: self.name(), detail: detail.to_string(), cause }
    }

    /// Opens a connection.
    pub(super) async fn connect(&self) -> Result<Stream, Failure> {
        let mut stream = self.connect_tcp().await?;
        // A request's head and body leave in one write; waiting for more would only delay it.
        stream.set_nodelay(true).map_err(|e| self.failure(Phase::Connect, e))?;
        match &self.tls {
            None => Ok(Stream::Plain(stream)),
            Some(TlsSettings(config)) => {
                if let Some(proxy) = &self.proxy {
                    self.open_way(proxy, &mut stream).await?;
                }
                let config = config.clone().expect("https endpoints are given certificates when settings are made");
                Ok(Stream::Tls(Box::new(self.connect_tls(stream, config).await?)))
            }
        }
    }

    async fn connect_tcp(&self) -> Result<TcpStream, Failure> {
        let (host, port) = match &self.proxy {
            Some(proxy) => (proxy.host.as_str(), proxy.port),
            None => (self.host.as_str(), self.port),
        };
        let lookup = tokio::net::lookup_host((host, port));
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

    /// Has the proxy open a way to the host, through which TLS then goes.
    async fn open_way(&self, proxy: &Proxy, stream: &mut TcpStream) -> Result<(), Failure> {
        let head = proxy.connect_head(&self.authority());
        let talk = async {
            stream.write_all(head.as_bytes()).await?;
            let mut said = Vec::new();
            while !said.ends_with(b"\r\n\r\n") && said.len() < PROXY_HEAD_BYTES_MAX {
                // What comes behind this head is the host's, so not a byte of it may be taken.
                said.push(stream.read_u8().await?);
            }
            Ok::<_, io::Error>(said)
        };
        let said = within(self.timeouts.connect, talk).await.map_err(|e| self.failure(Phase::Connect, e))?;
        let mut lines = [httparse::EMPTY_HEADER; PROXY_HEADERS_MAX];
        let mut answer = httparse::Response::new(&mut lines);
        let status = answer.parse(&said).ok().and(answer.code);
        match status {
            Some(200..=299) => Ok(()),
            // The proxy itself may have a bad day.
            Some(code @ 500..) => Err(self.failure(Phase::Connect, format!("the proxy answered {code}"))),
            Some(code) => {
                Err(self.failure(Phase::Proxy, format!("it answered {code} {}", answer.reason.unwrap_or_default())))
            }
            None => Err(self.failure(Phase::Proxy, "what it answered is no HTTP")),
        }
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

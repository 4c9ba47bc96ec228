//! How the services that hand out keys are reached: over the same sockets, the same TLS and the same trust as S3 itself, one
//! connection for each of the few requests.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use ropeway_s3proto::endpoint::{Endpoint, Scheme};

use crate::client::peer::Peer;
use crate::client::proxy::Proxies;
use crate::client::wire::{Broken, ExpectedBody, Patience, Wire};
use crate::client::{Failure, Phase, RequestBody, Timeouts, TlsSettings};

/// Carries the requests of aws-config.
#[derive(Debug, Clone)]
pub struct Carrier {
    ca_bundle: Option<PathBuf>,
    proxies: Proxies,
    /// Read when the first service of https is met; many chains meet none.
    tls: Arc<OnceLock<Result<TlsSettings, String>>>,
}

/// One connection's worth of it.
#[derive(Debug, Clone)]
struct Line {
    carrier: Carrier,
    timeouts: Timeouts,
}

/// Opening a connection may take so long, where aws-config has no wish of its own.
const CONNECT: Duration = Duration::from_millis(3_100);

/// And an answer so long.
const ANSWER: Duration = Duration::from_secs(20);

/// Keys and tokens are some kilobytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

impl Carrier {
    /// Trusts the certificates of `ca_bundle`, or the system's.
    pub fn new(ca_bundle: Option<PathBuf>, proxies: Proxies) -> Carrier {
        Carrier { ca_bundle, proxies, tls: Arc::default() }
    }

    fn tls(&self) -> Result<TlsSettings, String> {
        self.tls.get_or_init(|| TlsSettings::load(self.ca_bundle.as_deref()).map_err(|error| error.to_string())).clone()
    }
}

impl HttpClient for Carrier {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let timeouts = Timeouts {
            connect: settings.connect_timeout().unwrap_or(CONNECT),
            first_byte: settings.read_timeout().unwrap_or(ANSWER),
            idle: settings.read_timeout().unwrap_or(ANSWER),
            ..Timeouts::default()
        };
        SharedHttpConnector::new(Line { carrier: self.clone(), timeouts })
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        None
    }
}

impl HttpConnector for Line {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let line = self.clone();
        HttpConnectorFuture::new(async move { line.exchange(request).await })
    }
}

impl Line {
    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let (endpoint, target) = split(request.uri()).map_err(|error| ConnectorError::user(error.into()))?;
        let body = request.body().bytes().ok_or_else(|| ConnectorError::user("a body that streams".into()))?;
        let head = head(&endpoint, target, &request, body.len());
        let tls = match endpoint.scheme {
            Scheme::Https => Some(self.carrier.tls().map_err(|error| ConnectorError::user(error.into()))?),
            Scheme::Http => None,
        };
        let proxy = self.carrier.proxies.to(endpoint.scheme, &endpoint.host, endpoint.port);
        let peer = Peer { host: endpoint.host, port: endpoint.port, tls, timeouts: self.timeouts, proxy };
        let rewritten = peer.rewritten(head.as_bytes());
        let head = rewritten.as_deref().unwrap_or(head.as_bytes());
        let stream = peer.connect().await.map_err(|failure| connector_error(&failure))?;
        let mut wire = Wire::new(stream, Patience { answer: self.timeouts.first_byte, body: self.timeouts.idle });
        let mut body = RequestBody::whole(Bytes::copy_from_slice(body));
        let broken = |broken: Broken| connector_error(&failure_of(&peer, broken));
        wire.exchange(head, &mut body, ExpectedBody::AsDeclared).await.map_err(broken)?;
        let mut came = Vec::new();
        let mut piece = [0; 4096];
        loop {
            match wire.read(&mut piece).await.map_err(broken)? {
                0 => break,
                bytes => came.extend_from_slice(&piece[..bytes]),
            }
            if came.len() > ANSWER_BYTES_MAX {
                return Err(ConnectorError::other("an answer that is too long".into(), None));
            }
        }
        let status = StatusCode::try_from(wire.status().as_u16()).map_err(|e| ConnectorError::other(e.into(), None))?;
        let mut response = HttpResponse::new(status, SdkBody::from(came));
        for (name, value) in wire.headers().iter() {
            if let Ok(value) = std::str::from_utf8(value) {
                // What fits into no header is none of those that are looked at.
                let _ = response.headers_mut().try_append(name.to_owned(), value.to_owned());
            }
        }
        Ok(response)
    }
}

/// The service and the request's target of a URI.
fn split(uri: &str) -> Result<(Endpoint, &str), String> {
    let authority = uri.find("://").map_or(0, |at| at + 3);
    let end = uri[authority..].find(['/', '?']).map_or(uri.len(), |at| authority + at);
    let endpoint = Endpoint::parse(&uri[..end]).map_err(|error| error.to_string())?;
    Ok((endpoint, if end == uri.len() { "/" } else { &uri[end..] }))
}

fn head(endpoint: &Endpoint, target: &str, request: &HttpRequest, body_bytes: usize) -> String {
    let slash = if target.starts_with('/') { "" } else { "/" };
    let mut head = format!("{} {slash}{target} HTTP/1.1\r\n", request.method());
    let mut line = |name: &str, value: &str| {
        for piece in [name, ": ", value, "\r\n"] {
            head.push_str(piece);
        }
    };
    let headers = request.headers();
    if !headers.contains_key("host") {
        line("host", &endpoint.authority());
    }
    for (name, value) in headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("content-length")) {
        line(name, value);
    }
    if body_bytes > 0 || !matches!(request.method(), "GET" | "HEAD") {
        line("content-length", &body_bytes.to_string());
    }
    line("connection", "close");
    head + "\r\n"
}

fn failure_of(peer: &Peer, broken: Broken) -> Failure {
    match broken {
        Broken::StoodStill(patience) => {
            peer.failure(Phase::FirstByte, format!("nothing came for {} s", patience.as_secs_f64()))
        }
        Broken::Closed { detail, .. } | Broken::Body(detail) | Broken::Nonsense(detail) => {
            peer.failure(Phase::FirstByte, detail)
        }
    }
}

fn connector_error(failure: &Failure) -> ConnectorError {
    let text = failure.to_string();
    match failure {
        Failure::Transport { phase: Phase::Tls | Phase::Proxy, .. } => ConnectorError::user(text.into()),
        _ => ConnectorError::io(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_split_where_its_path_begins() {
        for (uri, endpoint, target) in [
            ("http://169.254.169.254/latest/api/token", "http://169.254.169.254", "/latest/api/token"),
            ("https://sts.amazonaws.com", "https://sts.amazonaws.com", "/"),
            ("http://127.0.0.1:99?a=b", "http://127.0.0.1:99", "?a=b"),
            ("http://[fd00:ec2::254]/x?y", "http://[fd00:ec2::254]", "/x?y"),
        ] {
            let (found, rest) = split(uri).unwrap();
            assert_eq!((found.to_string().as_str(), rest), (endpoint, target));
        }
        assert!(split("sts.amazonaws.com/").is_err());
    }
}

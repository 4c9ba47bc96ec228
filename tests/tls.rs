//! https: whom we trust, and what is said when we do not (reliability.md S08).

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use ropeway::serve::Storage;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use support::{Cmd, Server, Tree};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A TLS endpoint in front of a server, with a certificate of its own.
struct Tls {
    server: Server,
    certificate_pem: String,
    _relay: tokio::runtime::Runtime,
}

impl Tls {
    fn before(mut server: Server, name: &str) -> Tls {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a key for its certificate");
        let behind: SocketAddr = server.endpoint.strip_prefix("http://").expect("http").parse().expect("an address");
        let relay =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = relay.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        server.endpoint = format!("https://{}", listener.local_addr().expect("an address"));
        relay.spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), behind));
        Tls { server, certificate_pem: cert.pem(), _relay: relay }
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, behind: SocketAddr) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // A client that does not trust us ends the handshake, and that is the whole story.
            let Ok(mut outside) = acceptor.accept(stream).await else { return };
            let Ok(mut inside) = TcpStream::connect(behind).await else { return };
            let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
        });
    }
}

#[test]
fn a_certificate_named_by_aws_ca_bundle_is_trusted() {
    let (tls, tree) = (Tls::before(Server::embedded(Storage::Memory), "127.0.0.1"), Tree::new());
    tree.file("source/a", "hello").file("source/large", vec![7; 20_000_000]).file("ca.pem", &tls.certificate_pem);
    Cmd::sync(tree.path(), "source", "s3://over-tls/").to(&tls.server).env("AWS_CA_BUNDLE", "ca.pem").expect(0);
    Cmd::sync(tree.path(), "s3://over-tls/", "back").from(&tls.server).env("AWS_CA_BUNDLE", "ca.pem").expect(0);
    assert_eq!(tree.contents("source"), tree.contents("back"));
}

#[test]
fn an_unknown_certificate_is_refused_in_the_phase_and_with_the_remedy_named() {
    let (tls, tree) = (Tls::before(Server::embedded(Storage::Memory), "127.0.0.1"), Tree::new());
    let other = Tls::before(Server::embedded(Storage::Memory), "127.0.0.1");
    tree.file("source/a", "hello").file("other.pem", &other.certificate_pem);
    let output =
        Cmd::sync(tree.path(), "source", "s3://over-tls/").to(&tls.server).env("AWS_CA_BUNDLE", "other.pem").expect(7);
    assert!(output.stderr.contains("the TLS handshake"), "{}", output.stderr);
    assert!(output.stderr.contains("AWS_CA_BUNDLE"), "{}", output.stderr);
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let (tls, tree) = (Tls::before(Server::embedded(Storage::Memory), "elsewhere.example"), Tree::new());
    tree.file("source/a", "hello").file("ca.pem", &tls.certificate_pem);
    let output =
        Cmd::sync(tree.path(), "source", "s3://over-tls/").to(&tls.server).env("AWS_CA_BUNDLE", "ca.pem").expect(7);
    assert!(output.stderr.contains("the TLS handshake"), "{}", output.stderr);
}

#[test]
fn a_bundle_that_is_missing_or_empty_is_an_error_and_not_no_bundle() {
    let tree = Tree::new();
    tree.file("source/a", "hello").file("empty.pem", "");
    for bundle in ["empty.pem", "missing.pem", "source"] {
        let output = Cmd::sync(tree.path(), "source", "s3://over-tls/")
            .args(["--target-endpoint-url", "https://127.0.0.1:9", "--target-access-key", "k"])
            .args(["--target-secret-access-key", "s"])
            .env("AWS_CA_BUNDLE", bundle)
            .expect(6);
        assert!(output.stderr.contains(bundle), "{}", output.stderr);
    }
}

//! An HTTP proxy that is every host behind it as well: it takes requests for any host, plainly or through CONNECT and TLS with
//! a certificate of its own, remembers for whom they were, and answers as a test says. So endpoints that no test could reach
//! are reached, by their names.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::scripted::{Answer, Request, read_head};

/// The proxy. It ends with its test.
pub struct Proxy {
    /// `http://address:port`.
    pub url: String,
    /// What clients have to trust.
    pub certificate_pem: String,
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    asked: Mutex<Vec<Asked>>,
    ended: AtomicBool,
    tls: Arc<ServerConfig>,
    /// The `Proxy-Authorization` that it wants.
    login: Option<String>,
    answer: Box<dyn Fn(&Asked) -> Answer + Send + Sync>,
}

/// A request, and where it was to go.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `https` or `http`.
    pub scheme: &'static str,
    /// `host:port` as the proxy was told, without the usual port.
    pub host: String,
    pub request: Request,
}

impl Proxy {
    /// Is these hosts, for https; for http it is any.
    pub fn start(hosts: &[&str], answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Proxy {
        Proxy::with_login(hosts, None, answer)
    }

    /// Lets in only who sends this `Proxy-Authorization`.
    pub fn with_login(
        hosts: &[&str],
        login: Option<&str>,
        answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Proxy {
        let names: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).expect("a certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a key for its certificate");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("it has an address");
        let shared = Arc::new(Shared {
            asked: Mutex::default(),
            ended: AtomicBool::default(),
            tls: Arc::new(tls),
            login: login.map(str::to_owned),
            answer: Box::new(answer),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.ended.load(Ordering::Acquire) {
                    return;
                }
                let (shared, stream) = (accepting.clone(), stream.expect("a connection"));
                // A client that goes away, or trusts nobody, ends its connection's thread, and that is all.
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Proxy { url: format!("http://{address}"), certificate_pem: cert.pem(), address, shared }
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().expect("no panic while it is locked").clone()
    }

    /// The hosts that were asked, each once for each time in a row.
    pub fn hosts(&self) -> Vec<String> {
        let mut hosts: Vec<_> = self.asked().into_iter().map(|asked| asked.host).collect();
        hosts.dedup();
        hosts
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        // Wakes the listener, which then sees that it has ended.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        while let Some(mut request) = read_head(&mut stream)? {
            if self.login.as_deref() != request.header("proxy-authorization") {
                let refusal = Answer::new(407).header("proxy-authenticate", "Basic realm=\"here\"");
                return stream.get_mut().write_all(&refusal.head());
            }
            if request.method == "CONNECT" {
                stream.get_mut().write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
                let host = request.target.trim_end_matches(":443").to_owned();
                let connection = ServerConnection::new(self.tls.clone()).map_err(io::Error::other)?;
                let mut inside = BufReader::new(StreamOwned::new(connection, stream.into_inner()));
                while let Some(mut request) = read_head(&mut inside)? {
                    read_body(&mut inside, &mut request)?;
                    let answer = self.answer("https", host.clone(), request);
                    inside.get_mut().write_all(&answer)?;
                }
                return Ok(());
            }
            read_body(&mut stream, &mut request)?;
            let target = request.target.strip_prefix("http://").expect("a proxy is told the whole URL").to_owned();
            let (host, path) = target.split_at(target.find('/').expect("a path"));
            let inner = Request::new(&request.method, path);
            let request = Request { headers: request.headers, body: request.body, ..inner };
            let answer = self.answer("http", host.trim_end_matches(":80").to_owned(), request);
            stream.get_mut().write_all(&answer)?;
        }
        Ok(())
    }

    fn answer(&self, scheme: &'static str, host: String, request: Request) -> Vec<u8> {
        let asked = Asked { scheme, host, request };
        self.asked.lock().expect("no panic while it is locked").push(asked.clone());
        let answer = (self.answer)(&asked);
        let body: &[u8] = if asked.request.method == "HEAD" { &[] } else { &answer.body };
        [answer.head().as_slice(), body].concat()
    }
}

fn read_body(stream: &mut impl Read, request: &mut Request) -> io::Result<()> {
    let length = request.header("content-length").map_or(0, |length| length.parse().expect("a number"));
    request.body = vec![0; length];
    stream.read_exact(&mut request.body)
}

//! An S3 server that goes wrong exactly where a test says, at the level of bytes.
//!
//! What no script is about is answered rightly, by the [`Model`]; so a script says only what goes wrong. A script is the
//! list of its steps as Rust: it gets the [`Exchange`] once the request's head has been read, and reads, waits, sends,
//! closes and resets as it likes. Every request is recorded.
//!
//! ```ignore
//! server.on("GetObject", "key").times(1).play(|exchange| {
//!     let answer = exchange.perform()?;
//!     exchange.send(answer.head())?;
//!     exchange.send(&answer.body[..10])?;
//!     exchange.reset()
//! });
//! ```

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::Server;
use super::model::Model;

/// The server. Its threads end with it, or with the process.
pub struct Scripted {
    /// For `Cmd::from` and `Cmd::to`.
    pub server: Server,
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    model: Mutex<Model>,
    rules: Mutex<Vec<Rule>>,
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
    held: Mutex<Vec<TcpStream>>,
    ended: AtomicBool,
}

type Script = dyn Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync;

/// Which requests a script is about.
struct Rule {
    operation: String,
    key: Option<String>,
    query: Vec<(String, String)>,
    reused_connection: bool,
    skip: usize,
    left: usize,
    script: Arc<Script>,
}

/// A [`Rule`] being put together.
pub struct On<'a> {
    server: &'a Scripted,
    rule: Rule,
}

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// S3's name for it.
    pub operation: &'static str,
    pub method: String,
    /// Path and query, undecoded.
    pub target: String,
    /// Decoded, without the bucket; empty for requests about the bucket.
    pub key: String,
    /// The query, decoded.
    pub queries: Vec<(String, String)>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// As far as it was read.
    pub body: Vec<u8>,
    /// The connection had carried another request before.
    pub reused_connection: bool,
}

/// An answer being put together.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// One request under way, in the hands of a script.
pub struct Exchange<'a> {
    pub request: Request,
    shared: &'a Shared,
    stream: &'a mut BufReader<TcpStream>,
    number: usize,
    body_left: u64,
    open: bool,
}

/// Closed until the test opens it.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().expect("no panic while it is locked") = true;
        self.0.1.notify_all();
    }

    pub fn wait(&self) {
        let closed = self.0.0.lock().expect("no panic while it is locked");
        drop(self.0.1.wait_while(closed, |open| !*open).expect("no panic while it is locked"));
    }
}

impl Scripted {
    pub fn start() -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("it has an address");
        let shared: Arc<Shared> = Arc::default();
        let server = Server::elsewhere("scripted", format!("http://{address}"));
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.ended.load(Ordering::Acquire) {
                    return;
                }
                accepting.connections.fetch_add(1, Ordering::AcqRel);
                let (shared, stream) = (accepting.clone(), stream.expect("a connection"));
                // A broken connection ends its thread and concerns nobody else: breaking them is what this is for.
                std::thread::spawn(move || shared.serve(BufReader::new(stream)));
            }
        });
        Scripted { server, address, shared }
    }

    /// What the bucket holds.
    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.shared.model()
    }

    /// A script for requests of this operation about this key; the first one that fits is played.
    pub fn on(&self, operation: &str, key: &str) -> On<'_> {
        let key = (operation != "ListObjectsV2").then(|| key.to_owned());
        let rule = Rule {
            operation: operation.to_owned(),
            key,
            query: Vec::new(),
            reused_connection: false,
            skip: 0,
            left: usize::MAX,
            script: Arc::new(|_| Ok(())),
        };
        On { server: self, rule }
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().expect("no panic while it is locked").clone()
    }

    /// All requests of an operation so far.
    pub fn requests_of(&self, operation: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.operation == operation).collect()
    }

    /// Requests that would delete an object.
    pub fn deletes(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.operation.starts_with("DeleteObject")).collect()
    }

    /// Connections that were opened.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Acquire)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        // Wakes the listener, which then sees that it has ended.
        let _ = TcpStream::connect(self.address);
    }
}

impl On<'_> {
    /// Only requests with this pair in their query.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.rule.query.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Only requests on a connection that had carried another before.
    pub fn on_reused_connection(mut self) -> Self {
        self.rule.reused_connection = true;
        self
    }

    /// Not the first `number` of them.
    pub fn skip(mut self, number: usize) -> Self {
        self.rule.skip = number;
        self
    }

    /// Only `number` of them.
    pub fn times(mut self, number: usize) -> Self {
        self.rule.left = number;
        self
    }

    /// The steps.
    pub fn play(mut self, script: impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static) {
        self.rule.script = Arc::new(script);
        self.server.shared.rules.lock().expect("no panic while it is locked").push(self.rule);
    }

    /// Reads the request whole, does nothing, and answers this.
    pub fn answer(self, answer: Answer) {
        self.play(move |exchange| {
            exchange.read_body()?;
            exchange.answer(&answer)
        });
    }

    /// Does what was asked, and answers something else.
    pub fn change(self, change: impl Fn(&mut Answer) + Send + Sync + 'static) {
        self.play(move |exchange| {
            let mut answer = exchange.perform()?;
            change(&mut answer);
            exchange.answer(&answer)
        });
    }
}

impl Shared {
    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().expect("no panic while it is locked")
    }

    fn serve(&self, mut stream: BufReader<TcpStream>) -> io::Result<()> {
        stream.get_ref().set_nodelay(true)?;
        let mut reused_connection = false;
        while let Some(mut request) = read_head(&mut stream)? {
            request.reused_connection = std::mem::replace(&mut reused_connection, true);
            let number = {
                let mut requests = self.requests.lock().expect("no panic while it is locked");
                requests.push(request.clone());
                requests.len() - 1
            };
            let script = self.script_for(&request);
            let body_left = request.header("content-length").map_or(0, |length| length.parse().expect("a number"));
            let mut exchange = Exchange { request, shared: self, stream: &mut stream, number, body_left, open: true };
            match script {
                Some(script) => script(&mut exchange)?,
                None => {
                    let answer = exchange.perform()?;
                    exchange.answer(&answer)?;
                }
            }
            // What is left of a body would be taken for the next request.
            if !exchange.open || exchange.body_left > 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    fn script_for(&self, request: &Request) -> Option<Arc<Script>> {
        let mut rules = self.rules.lock().expect("no panic while it is locked");
        for rule in rules.iter_mut().filter(|rule| rule.left > 0 && rule.is_about(request)) {
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.left -= 1;
            return Some(rule.script.clone());
        }
        None
    }
}

impl Rule {
    fn is_about(&self, request: &Request) -> bool {
        self.operation == request.operation
            && self.key.as_ref().is_none_or(|key| *key == request.key)
            && self.query.iter().all(|(name, value)| request.query(name) == value)
            && (request.reused_connection || !self.reused_connection)
    }
}

impl Exchange<'_> {
    /// Reads what is left of the body.
    pub fn read_body(&mut self) -> io::Result<()> {
        self.read_some(self.body_left)
    }

    /// Reads so many bytes of the body, and leaves the rest where it is.
    pub fn read_some(&mut self, bytes: u64) -> io::Result<()> {
        let mut body = vec![0; bytes.min(self.body_left) as usize];
        self.stream.read_exact(&mut body)?;
        self.body_left -= body.len() as u64;
        self.request.body.extend_from_slice(&body);
        self.shared.requests.lock().expect("no panic while it is locked")[self.number].body = self.request.body.clone();
        Ok(())
    }

    /// Does what the request asks, and says what to answer.
    pub fn perform(&mut self) -> io::Result<Answer> {
        self.read_body()?;
        Ok(self.model().perform(&self.request))
    }

    /// What the bucket holds.
    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.shared.model()
    }

    /// Sends these bytes, whatever they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// Sends a whole answer.
    pub fn answer(&mut self, answer: &Answer) -> io::Result<()> {
        let body: &[u8] = if self.request.method == "HEAD" { &[] } else { &answer.body };
        let bytes = [answer.head().as_slice(), body].concat();
        self.send(bytes)
    }

    /// Waits for the test.
    pub fn wait(&self, gate: &Gate) {
        gate.wait();
    }

    /// Ends the connection in order. The body must have been read: the system resets a connection with bytes unread.
    pub fn fin(&mut self) -> io::Result<()> {
        self.open = false;
        self.stream.get_ref().shutdown(Shutdown::Write)
    }

    /// Breaks the connection off.
    pub fn reset(&mut self) -> io::Result<()> {
        self.open = false;
        socket2::SockRef::from(self.stream.get_ref()).set_linger(Some(Duration::ZERO))
    }

    /// Reads no more, and leaves the connection open.
    pub fn stop_reading(&mut self) -> io::Result<()> {
        self.open = false;
        let stream = self.stream.get_ref().try_clone()?;
        self.shared.held.lock().expect("no panic while it is locked").push(stream);
        Ok(())
    }
}

impl Request {
    /// A header's value; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// A value of the query, or nothing.
    pub fn query(&self, name: &str) -> &str {
        self.queries.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value.as_str())
    }

    pub(super) fn new(method: &str, target: &str) -> Request {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let key = path.trim_start_matches('/').split_once('/').map_or(String::new(), |(_, key)| decoded(key));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let queries: Vec<_> = pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decoded(name), decoded(value)))
            .collect();
        let has = |wanted: &str| queries.iter().any(|(name, _)| name == wanted);
        let operation = match method {
            "GET" if has("session") => "CreateSession",
            "GET" if has("list-type") => "ListObjectsV2",
            "GET" if has("versions") => "ListObjectVersions",
            "GET" if has("versioning") => "GetBucketVersioning",
            "GET" if has("uploadId") => "ListParts",
            "GET" if has("tagging") => "GetObjectTagging",
            "GET" => "GetObject",
            "HEAD" => "HeadObject",
            "PUT" if has("tagging") => "PutObjectTagging",
            "DELETE" if has("tagging") => "DeleteObjectTagging",
            "PUT" if has("uploadId") => "UploadPart",
            "PUT" => "PutObject",
            "POST" if has("uploads") => "CreateMultipartUpload",
            "POST" if has("uploadId") => "CompleteMultipartUpload",
            "POST" if has("delete") => "DeleteObjects",
            "DELETE" if has("uploadId") => "AbortMultipartUpload",
            "DELETE" => "DeleteObject",
            _ => "unknown",
        };
        let (method, target) = (method.to_owned(), target.to_owned());
        Request { operation, method, target, key, queries, ..Request::default() }
    }
}

impl Answer {
    pub fn new(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), body: Vec::new() }
    }

    /// 200 with a document.
    pub fn xml(document: impl Into<String>) -> Answer {
        Answer::new(200).header("content-type", "application/xml").body(document.into())
    }

    /// An error as S3 reports it.
    pub fn error(status: u16, code: &str) -> Answer {
        let document =
            format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>scripted</Message></Error>");
        Answer { status, ..Answer::xml(document) }
    }

    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Answer {
        self.headers.retain(|(other, _)| other != name);
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Answer {
        self.body = body.into();
        self
    }

    /// Status line and headers. Content-Length is the body's, unless it was given.
    pub fn head(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let told = |name: &str| self.headers.iter().any(|(other, _)| other == name);
        if !told("content-length") && !told("transfer-encoding") && self.status != 204 {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        (head + "\r\n").into_bytes()
    }
}

pub(super) fn read_head(stream: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace();
    let mut request = Request::new(words.next().unwrap_or_default(), words.next().unwrap_or_default());
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => {
                // The same line asks for both, and only this header tells which.
                if request.header("x-amz-copy-source").is_some() {
                    request.operation = if request.operation == "UploadPart" { "UploadPartCopy" } else { "CopyObject" };
                }
                return Ok(Some(request));
            }
        }
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = (*first == b'%').then(|| tail.get(..2)).flatten();
        let code = code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

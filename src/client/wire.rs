//! HTTP/1.1 as one connection speaks it to a service: a request out, its answer in.
//!
//! A sync makes a request for nearly every object, and a general HTTP library spends more on one than all the rest of us:
//! maps of headers, channels to a task for each connection, a timer for each wait, and on the way down a buffer between
//! the socket and ours. Here a request's head and body leave in one vectored write from where they lie; the answer's head
//! is parsed where it arrived and its lines kept in memory that the answer before it left; its body goes from the socket
//! straight into the caller's buffer. hyper's client took 8 to 9 µs for a small request where this way takes 5 to 7
//! (performance.md [M8]).
//!
//! A service is not trusted. A head has limits. An answer whose length can be understood in two ways is not understood at
//! all. A connection is used again only after an answer that ended where it said it would, with nothing behind it, to a
//! request that was sent whole.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::StatusCode;
use ropeway_s3proto::head::Headers;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::RequestBody;

/// What a head may take: metadata is limited to some kilobytes by every service.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Lines of a head. hyper stops here too.
const HEADERS_MAX: usize = 100;

/// Where heads and the framing between chunks arrive, and with a head as much of its body as fits: a small object and its
/// head are one read from the socket.
const INPUT_BYTES: usize = 16 << 10;

/// Answers that announce another. One is usual (100), none is needed.
const INFORMATIONAL_MAX: usize = 8;

/// A chunk's size with whatever a service writes behind it, and all trailers together.
const CHUNK_LINE_BYTES_MAX: usize = 1 << 10;
const TRAILERS_BYTES_MAX: usize = 8 << 10;

const _: () = assert!(CHUNK_LINE_BYTES_MAX < INPUT_BYTES && TRAILERS_BYTES_MAX < INPUT_BYTES);

/// How long a connection may stand still.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From the last byte of the request that was taken to the end of the answer's head.
    pub(super) answer: Duration,
    /// Between two pieces of the answer's body.
    pub(super) body: Duration,
}

/// How an exchange broke off. The connection is of no further use.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The connection failed or ended. `silent` if not one byte of an answer had come: one that had been used before may
    /// have been closed before the request reached the service.
    Closed { detail: String, silent: bool },
    /// Nothing moved for as long as patience lasts.
    StoodStill(Duration),
    /// The request's own body failed.
    Body(String),
    /// What came is not an answer.
    Nonsense(String),
}

/// One connection. Its answer is what came last.
pub(super) struct Wire<S> {
    stream: S,
    /// What came and was not read yet.
    input: Input,
    status: StatusCode,
    headers: Headers,
    rest: Rest,
    /// Nothing has happened yet that forbids another exchange.
    reusable: bool,
    clock: Clock,
    patience: Patience,
}

/// How much of the answer's body is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Nothing,
    Bytes(u64),
    Chunks(Chunk),
    UntilClose,
}

/// What comes next of a body in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    Size,
    Bytes(u64),
    LineEnd,
    Trailers { bytes: usize },
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S, patience: Patience) -> Wire<S> {
        Wire {
            stream,
            input: Input::default(),
            status: StatusCode::OK,
            headers: Headers::new(),
            rest: Rest::Nothing,
            reusable: true,
            clock: Clock::new(patience),
            patience,
        }
    }

    /// Of the last answer.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Of the last answer.
    pub(super) fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Since the last byte went either way.
    pub(super) fn idle_for(&self) -> Duration {
        self.clock.progress.elapsed()
    }

    /// Whether another exchange may follow: the last one ended properly, on both sides, and nothing lies behind it.
    pub(super) fn is_reusable(&self) -> bool {
        self.reusable && self.rest == Rest::Nothing && self.input.is_empty()
    }

    /// Whether an idle connection is still open and silent. It does not wait.
    pub(super) async fn is_quiet(&mut self) -> bool {
        std::future::poll_fn(|cx| Poll::Ready(self.poll_fill(cx).is_pending())).await
    }

    /// Sends a request and reads the head of its answer. A service may answer before it has everything, to refuse; it is
    /// heard, and the connection not used again.
    pub(super) async fn exchange(
        &mut self,
        head: &[u8],
        body: &mut RequestBody,
        answer: ExpectedBody,
    ) -> Result<(), Broken> {
        assert!(self.is_reusable(), "a connection carries one exchange at a time");
        let mut request = Outflow { head, slice: Bytes::new(), body, state: Sending::Body };
        let mut reading = Reading { answer, ..Reading::default() };
        self.clock.touch();
        let done = std::future::poll_fn(|cx| self.poll_exchange(cx, &mut request, &mut reading)).await;
        if done.is_err() || !matches!(request.state, Sending::Done) {
            self.reusable = false;
        }
        done
    }

    fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut Outflow<'_>,
        reading: &mut Reading,
    ) -> Poll<Result<(), Broken>> {
        match request.poll_send(&mut self.stream, &mut self.clock, cx) {
            Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        loop {
            if self.read_head(reading)? {
                if self.status.is_success() && !matches!(request.state, Sending::Done) {
                    return Poll::Ready(nonsense("it reports success before it has the whole request"));
                }
                return Poll::Ready(Ok(()));
            }
            let silent = self.input.is_empty() && reading.informational == 0;
            match self.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => {
                    let detail = match &request.state {
                        Sending::Failed(error) => error.to_string(),
                        Sending::Body | Sending::Flush | Sending::Done if silent => "it closed the connection".into(),
                        Sending::Body | Sending::Flush | Sending::Done => {
                            "the connection was closed within the answer's head".into()
                        }
                    };
                    return Poll::Ready(Err(Broken::Closed { detail, silent }));
                }
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(Broken::Closed { detail: error.to_string(), silent }));
                }
                Poll::Pending => break,
            }
        }
        ready!(self.clock.poll_expired(cx, self.patience.answer));
        Poll::Ready(Err(Broken::StoodStill(self.patience.answer)))
    }

    /// Takes the answer's head off the input, if it is there as a whole.
    fn read_head(&mut self, reading: &mut Reading) -> Result<bool, Broken> {
        while reading.is_worth_parsing(self.input.unread()) {
            let mut lines = [const { MaybeUninit::uninit() }; HEADERS_MAX];
            let mut parsed = httparse::Response::new(&mut []);
            let config = httparse::ParserConfig::default();
            let head_bytes =
                match config.parse_response_with_uninit_headers(&mut parsed, self.input.unread(), &mut lines) {
                    Ok(httparse::Status::Complete(bytes)) => bytes,
                    Ok(httparse::Status::Partial) => break,
                    Err(httparse::Error::TooManyHeaders) => return too_large(),
                    Err(error) => return nonsense(format!("no HTTP: {error}")),
                };
            let code = parsed.code.expect("a whole head has a status");
            let Ok(status) = StatusCode::from_u16(code) else { return nonsense(format!("the status {code}")) };
            if status.is_informational() {
                reading.informational += 1;
                if status == StatusCode::SWITCHING_PROTOCOLS || reading.informational > INFORMATIONAL_MAX {
                    return nonsense(format!("an answer {code} that nobody asked for"));
                }
                self.input.consume(head_bytes);
                reading.parse_at_bytes = 0;
                continue;
            }
            self.status = status;
            self.headers.clear();
            for line in parsed.headers.iter() {
                self.headers.push(line.name, line.value);
            }
            let version = parsed.version.expect("a whole head has a version");
            self.input.consume(head_bytes);
            self.rest = Rest::after(status, version, &self.headers, reading.answer)?;
            self.reusable = keeps_open(version, &self.headers) && self.rest != Rest::UntilClose;
            self.clock.touch();
            return Ok(true);
        }
        if self.input.unread().len() >= HEAD_BYTES_MAX { too_large() } else { Ok(false) }
    }

    /// The whole body, if all of it has come with the head.
    pub(super) fn body_at_hand(&self) -> Option<&[u8]> {
        match self.rest {
            Rest::Nothing => Some(&[]),
            Rest::Bytes(left) => self.input.unread().get(..usize::try_from(left).ok()?),
            Rest::Chunks(_) | Rest::UntilClose => None,
        }
    }

    /// Passes over [`Wire::body_at_hand`].
    pub(super) fn consume_body_at_hand(&mut self) {
        if let Rest::Bytes(left) = self.rest {
            self.input.consume(left as usize);
            self.rest = Rest::Nothing;
        }
    }

    /// How long the rest of the body is, if that was declared.
    pub(super) fn declared_bytes(&self) -> Option<u64> {
        match self.rest {
            Rest::Nothing => Some(0),
            Rest::Bytes(left) => Some(left),
            Rest::Chunks(_) | Rest::UntilClose => None,
        }
    }

    /// Reads on in the answer's body: how many bytes came, 0 at its end. A body that ends before its declared length is
    /// an error and not an end. What lies in `out` behind the bytes that came means nothing.
    pub(super) async fn read(&mut self, out: &mut [u8]) -> Result<usize, Broken> {
        assert!(!out.is_empty(), "reading nothing would look like the end");
        std::future::poll_fn(|cx| {
            if let Poll::Ready(came) = self.poll_body(cx, out) {
                return Poll::Ready(came);
            }
            ready!(self.clock.poll_expired(cx, self.patience.body));
            Poll::Ready(Err(Broken::StoodStill(self.patience.body)))
        })
        .await
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<Result<usize, Broken>> {
        match self.rest {
            Rest::Nothing => Poll::Ready(Ok(0)),
            Rest::Bytes(left) => {
                // Room beyond the end lets one read find the socket empty, which saves asking it again.
                let came = ready!(self.poll_bytes(cx, out))?;
                if came == 0 {
                    return Poll::Ready(Err(cut_short()));
                }
                let ours = (came as u64).min(left);
                self.rest = if ours == left { Rest::Nothing } else { Rest::Bytes(left - ours) };
                // Bytes behind the body are nobody's answer.
                self.reusable &= ours == came as u64;
                Poll::Ready(Ok(ours as usize))
            }
            Rest::UntilClose => {
                let came = ready!(self.poll_bytes(cx, out))?;
                if came == 0 {
                    self.rest = Rest::Nothing;
                }
                Poll::Ready(Ok(came))
            }
            Rest::Chunks(chunk) => self.poll_chunks(cx, out, chunk),
        }
    }

    fn poll_chunks(&mut self, cx: &mut Context<'_>, out: &mut [u8], from: Chunk) -> Poll<Result<usize, Broken>> {
        let mut chunk = from;
        loop {
            self.rest = Rest::Chunks(chunk);
            let next = match chunk {
                Chunk::Size => chunk_size(self.input.unread())?.map(|(line_bytes, size)| {
                    let next = if size == 0 { Chunk::Trailers { bytes: 0 } } else { Chunk::Bytes(size) };
                    (line_bytes, next)
                }),
                Chunk::Bytes(left) => {
                    let room = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let came = ready!(self.poll_bytes(cx, &mut out[..room]))?;
                    if came == 0 {
                        return Poll::Ready(Err(cut_short()));
                    }
                    let left = left - came as u64;
                    self.rest = Rest::Chunks(if left == 0 { Chunk::LineEnd } else { Chunk::Bytes(left) });
                    return Poll::Ready(Ok(came));
                }
                Chunk::LineEnd => match self.input.unread() {
                    [b'\r', b'\n', ..] => Some((2, Chunk::Size)),
                    [] | [b'\r'] => None,
                    _ => return Poll::Ready(nonsense("a chunk that is longer than its size")),
                },
                Chunk::Trailers { bytes } => match self.input.unread() {
                    [b'\r', b'\n', ..] => {
                        self.input.consume(2);
                        self.rest = Rest::Nothing;
                        return Poll::Ready(Ok(0));
                    }
                    // They carry nothing that we asked for.
                    unread => unread.iter().position(|byte| *byte == b'\n').map(|end| {
                        let line_bytes = end + 1;
                        (line_bytes, Chunk::Trailers { bytes: bytes + line_bytes })
                    }),
                },
            };
            let limit = match chunk {
                Chunk::Trailers { bytes } => TRAILERS_BYTES_MAX.saturating_sub(bytes),
                Chunk::Size | Chunk::Bytes(_) | Chunk::LineEnd => CHUNK_LINE_BYTES_MAX,
            };
            match next {
                Some((line_bytes, _)) if line_bytes > limit => {
                    return Poll::Ready(nonsense("endless lines between chunks"));
                }
                Some((line_bytes, next)) => {
                    self.input.consume(line_bytes);
                    chunk = next;
                }
                None if self.input.unread().len() > limit => {
                    return Poll::Ready(nonsense("endless lines between chunks"));
                }
                None => match ready!(self.poll_fill(cx)) {
                    Ok(1..) => self.clock.touch(),
                    Ok(0) => return Poll::Ready(Err(cut_short())),
                    Err(error) => return Poll::Ready(Err(failed(&error))),
                },
            }
        }
    }

    /// Bytes that came before, or else straight from the socket; 0 when the connection has ended.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<Result<usize, Broken>> {
        let unread = self.input.unread();
        if !unread.is_empty() {
            let copied = unread.len().min(out.len());
            out[..copied].copy_from_slice(&unread[..copied]);
            self.input.consume(copied);
            return Poll::Ready(Ok(copied));
        }
        let mut room = ReadBuf::new(out);
        match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room)) {
            Ok(()) => {
                self.clock.touch();
                Poll::Ready(Ok(room.filled().len()))
            }
            Err(error) => Poll::Ready(Err(failed(&error))),
        }
    }

    /// More of the input from the socket; 0 when the connection has ended.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(self.input.room());
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
        let came = room.filled().len();
        self.input.end += came;
        Poll::Ready(Ok(came))
    }
}

/// What a request's method says about its answer's body.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExpectedBody {
    /// As the answer's head says.
    #[default]
    AsDeclared,
    /// None, whatever the head says: the answer to HEAD.
    None,
}

/// An answer's head on its way in.
#[derive(Default)]
struct Reading {
    answer: ExpectedBody,
    informational: usize,
    /// How much of the input was looked at for the end of a head.
    searched_bytes: usize,
    /// With so much of it there it is parsed, complete or not: nonsense is noticed though it has no end.
    parse_at_bytes: usize,
}

impl Reading {
    /// Whether parsing can tell anything new. A head that trickles in is not parsed anew for each of its bytes.
    fn is_worth_parsing(&mut self, unread: &[u8]) -> bool {
        if unread.is_empty() {
            return false;
        }
        let from = self.searched_bytes.min(unread.len()).saturating_sub(2);
        let ends = |window: &[u8]| window.ends_with(b"\n\n") || window == b"\n\r\n";
        let worth = unread.len() >= self.parse_at_bytes || unread[from..].windows(3).any(ends);
        self.searched_bytes = unread.len();
        if worth {
            self.parse_at_bytes = 2 * unread.len();
        }
        worth
    }
}

/// A request on its way out.
struct Outflow<'a> {
    head: &'a [u8],
    slice: Bytes,
    body: &'a mut RequestBody,
    state: Sending,
}

enum Sending {
    /// Head and body are being written.
    Body,
    /// Everything is written, and TLS may still hold some of it.
    Flush,
    Done,
    /// The service takes no more. It may have said why.
    Failed(io::Error),
}

impl Outflow<'_> {
    /// Writes as much as is taken. A connection that takes no more is not an error yet: its answer may be on its way.
    fn poll_send(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        clock: &mut Clock,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            match self.state {
                Sending::Done | Sending::Failed(_) => return Poll::Ready(Ok(())),
                Sending::Flush => {
                    self.state = match ready!(Pin::new(&mut *stream).poll_flush(cx)) {
                        Ok(()) => Sending::Done,
                        Err(error) => Sending::Failed(error),
                    };
                }
                Sending::Body => {
                    if self.slice.is_empty() {
                        match self.body.poll_slice(cx) {
                            Poll::Ready(Ok(Some(slice))) => self.slice = slice,
                            Poll::Ready(Ok(None)) if self.head.is_empty() => {
                                self.state = Sending::Flush;
                                continue;
                            }
                            Poll::Ready(Ok(None)) => {}
                            Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Body(error.to_string()))),
                            Poll::Pending if self.head.is_empty() => return Poll::Pending,
                            Poll::Pending => {}
                        }
                    }
                    match ready!(self.poll_write(stream, cx)) {
                        Ok(0) => self.state = Sending::Failed(io::ErrorKind::WriteZero.into()),
                        Ok(written) => {
                            clock.touch();
                            self.advance(written);
                        }
                        Err(error) => self.state = Sending::Failed(error),
                    }
                }
            }
        }
    }

    fn poll_write(&self, stream: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let stream = Pin::new(stream);
        match (self.head.is_empty(), self.slice.is_empty()) {
            (true, _) => stream.poll_write(cx, &self.slice),
            (false, true) => stream.poll_write(cx, self.head),
            (false, false) => stream.poll_write_vectored(cx, &[IoSlice::new(self.head), IoSlice::new(&self.slice)]),
        }
    }

    fn advance(&mut self, written: usize) {
        let of_head = written.min(self.head.len());
        self.head = &self.head[of_head..];
        self.slice.advance(written - of_head);
        if self.slice.is_empty() {
            // An empty slice would still hold its buffer.
            self.slice = Bytes::new();
        }
    }
}

/// The bytes that came, in a buffer that is filled and emptied from the front.
#[derive(Default)]
struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn consume(&mut self, bytes: usize) {
        assert!(bytes <= self.end - self.start, "what is consumed was there");
        self.start += bytes;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Where the next bytes go; there is always room, since whoever fills it keeps to the limits above.
    fn room(&mut self) -> &mut [u8] {
        if self.end == self.bytes.len() {
            if self.start > 0 {
                self.bytes.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else {
                let grown = (2 * self.bytes.len()).clamp(INPUT_BYTES, HEAD_BYTES_MAX);
                assert!(grown > self.bytes.len(), "a full buffer is read before it is filled");
                self.bytes.resize(grown, 0);
            }
        }
        &mut self.bytes[self.end..]
    }
}

/// When bytes last moved, and one timer for all the waits of a connection. It is set only when a wait outlasts the one
/// before it, so that a request costs no entry in the runtime's timers.
struct Clock {
    progress: Instant,
    /// The shorter of the two patiences: a timer set so far ahead never comes after any wait's end.
    step: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    fn new(patience: Patience) -> Clock {
        Clock { progress: Instant::now(), step: patience.answer.min(patience.body), timer: None }
    }

    fn touch(&mut self) {
        self.progress = Instant::now();
    }

    /// Ready when nothing has moved for `patience`.
    fn poll_expired(&mut self, cx: &mut Context<'_>, patience: Duration) -> Poll<()> {
        let due = self.progress + patience;
        let ahead = |now: Instant| due.min(now + self.step);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(ahead(self.progress))));
        loop {
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if now >= due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(ahead(now));
        }
    }
}

impl Rest {
    /// RFC 9112 §6.3, without its leniencies: what can be read in two ways is refused.
    fn after(status: StatusCode, version: u8, headers: &Headers, answer: ExpectedBody) -> Result<Rest, Broken> {
        let mut declared = None;
        for value in headers.all("content-length") {
            let length = digits(value).ok_or_else(|| Broken::Nonsense("the Content-Length is no number".into()))?;
            if declared.is_some_and(|other| other != length) {
                return nonsense("two Content-Lengths that differ");
            }
            declared = Some(length);
        }
        let without = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if without || answer == ExpectedBody::None {
            return Ok(Rest::Nothing);
        }
        let mut codings = headers.all("transfer-encoding");
        match (codings.next(), declared) {
            (Some(_), Some(_)) => nonsense("both a Content-Length and a Transfer-Encoding"),
            (Some(_), None) if version == 0 => nonsense("a Transfer-Encoding in HTTP/1.0"),
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none() => {
                Ok(Rest::Chunks(Chunk::Size))
            }
            (Some(_), None) => nonsense("a Transfer-Encoding other than chunked"),
            (None, Some(0)) => Ok(Rest::Nothing),
            (None, Some(length)) => Ok(Rest::Bytes(length)),
            (None, None) => Ok(Rest::UntilClose),
        }
    }
}

/// Whether the service will take another request on this connection.
fn keeps_open(version: u8, headers: &Headers) -> bool {
    let says = |word: &[u8]| {
        let words = headers.all("connection").flat_map(|value| value.split(|byte| *byte == b','));
        words.map(<[u8]>::trim_ascii).any(|other| other.eq_ignore_ascii_case(word))
    };
    !says(b"close") && (version == 1 || says(b"keep-alive"))
}

/// A number in digits alone: no sign, no blank, no list.
fn digits(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The length of a chunk's first line and the size that it tells, once the line is there.
fn chunk_size(unread: &[u8]) -> Result<Option<(usize, u64)>, Broken> {
    // httparse takes a line without digits for a zero, which would end the body.
    if unread.first().is_some_and(|first| !first.is_ascii_hexdigit()) {
        return nonsense("invalid chunk size");
    }
    match httparse::parse_chunk_size(unread) {
        Ok(httparse::Status::Complete(found)) => Ok(Some(found)),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(httparse::InvalidChunkSize) => nonsense("invalid chunk size"),
    }
}

fn nonsense<T>(what: impl Into<String>) -> Result<T, Broken> {
    Err(Broken::Nonsense(what.into()))
}

fn too_large<T>() -> Result<T, Broken> {
    nonsense("message head is too large")
}

fn cut_short() -> Broken {
    Broken::Closed { detail: "the connection was closed before the answer's end".into(), silent: false }
}

fn failed(error: &io::Error) -> Broken {
    Broken::Closed { detail: error.to_string(), silent: false }
}

#[cfg(test)]
mod tests;

//! Raw answers, in pieces of every size, to a connection that has nothing but them.

use std::collections::VecDeque;

use proptest::prelude::*;
use tokio::sync::mpsc;

use super::*;

/// A service that says its lines, whatever it is asked, and takes as much as it was told to.
struct Script {
    pieces: VecDeque<Vec<u8>>,
    /// What follows the last piece.
    end: End,
    /// Each piece, and each write, is first waited for once.
    waits: bool,
    waited_to_read: bool,
    waited_to_write: bool,
    taken: Vec<u8>,
    /// How much of a request it takes at a time, and in all.
    takes_at_once: usize,
    takes_max: usize,
    /// Says nothing until it has taken so much.
    speaks_after: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Close,
    Reset,
    Silence,
}

impl Script {
    fn new(pieces: impl IntoIterator<Item = Vec<u8>>, end: End) -> Script {
        Script {
            pieces: pieces.into_iter().filter(|piece| !piece.is_empty()).collect(),
            end,
            waits: true,
            waited_to_read: false,
            waited_to_write: false,
            taken: Vec::new(),
            takes_at_once: usize::MAX,
            takes_max: usize::MAX,
            speaks_after: HEAD.len(),
        }
    }
}

/// Whether it was waited for once, which the first call sees to.
fn has_waited(waited: &mut bool, cx: &mut Context<'_>) -> bool {
    *waited = !*waited;
    if *waited {
        cx.waker().wake_by_ref();
    }
    !*waited
}

impl AsyncRead for Script {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let script = self.get_mut();
        if script.taken.len() < script.speaks_after || (script.waits && !has_waited(&mut script.waited_to_read, cx)) {
            return Poll::Pending;
        }
        let Some(piece) = script.pieces.front_mut() else {
            return match script.end {
                End::Close => Poll::Ready(Ok(())),
                End::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                End::Silence => Poll::Pending,
            };
        };
        let fits = piece.len().min(buf.remaining());
        buf.put_slice(&piece[..fits]);
        piece.drain(..fits);
        if piece.is_empty() {
            script.pieces.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let script = self.get_mut();
        let room = (script.takes_max - script.taken.len()).min(script.takes_at_once);
        if room == 0 || (script.waits && !has_waited(&mut script.waited_to_write, cx)) {
            return Poll::Pending;
        }
        let bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).take(room).collect();
        script.taken.extend_from_slice(&bytes);
        // Whoever waits for the request's end hears of it.
        cx.waker().wake_by_ref();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Longer than any test: only what is silent on purpose is given up.
const PATIENCE: Patience = Patience { answer: Duration::from_secs(3_600), body: Duration::from_secs(3_600) };
const HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";

/// A whole exchange: status, body, and whether the connection may be used again.
type Outcome = Result<(u16, Vec<u8>, bool), Broken>;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(future)
}

async fn exchanged(wire: &mut Wire<Script>, answer: ExpectedBody, room_bytes: usize) -> Outcome {
    wire.exchange(HEAD, &mut RequestBody::Empty, answer).await?;
    let (mut body, mut room) = (Vec::new(), vec![0; room_bytes]);
    loop {
        match wire.read(&mut room).await? {
            0 => return Ok((wire.status().as_u16(), body, wire.is_reusable())),
            came => body.extend_from_slice(&room[..came]),
        }
    }
}

fn heard(pieces: impl IntoIterator<Item = Vec<u8>>, end: End) -> Outcome {
    heard_by(pieces, end, ExpectedBody::AsDeclared, 1_000)
}

fn heard_by(pieces: impl IntoIterator<Item = Vec<u8>>, end: End, answer: ExpectedBody, room_bytes: usize) -> Outcome {
    let mut wire = Wire::new(Script::new(pieces, end), PATIENCE);
    run(exchanged(&mut wire, answer, room_bytes))
}

fn said(text: &str) -> Outcome {
    heard([text.as_bytes().to_vec()], End::Silence)
}

#[track_caller]
fn assert_nonsense(outcome: Outcome, words: &str) {
    match outcome {
        Err(Broken::Nonsense(detail)) => assert!(detail.contains(words), "{detail}"),
        other => panic!("{other:?} and not: {words}"),
    }
}

/// Every way to frame a body, whether the connection stays open behind it, and what arrives.
const FRAMINGS: [(&str, End, &str, bool); 12] = [
    ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", End::Silence, "hello", true),
    ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", End::Silence, "", true),
    ("HTTP/1.1 200\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", End::Silence, "hello", true),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nhel\r\n002;x=\"y\"\r\nlo\r\n0\r\na: b\r\n\r\n",
        End::Silence,
        "hello",
        true,
    ),
    ("HTTP/1.1 200 OK\r\n\r\nhello", End::Close, "hello", false),
    ("HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 5\r\n\r\nhello", End::Silence, "hello", false),
    ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", End::Silence, "hello", false),
    ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello", End::Silence, "hello", true),
    ("HTTP/1.1 204 No Content\r\n\r\n", End::Silence, "", true),
    ("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", End::Silence, "", true),
    (
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        End::Silence,
        "hello",
        true,
    ),
    ("\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", End::Silence, "hello", true),
];

#[test]
fn every_framing_cut_at_every_byte() {
    for (text, end, body, reusable) in FRAMINGS {
        let bytes = text.as_bytes();
        for room_bytes in [1, 2, 1_000] {
            for cut in 0..bytes.len() {
                let pieces = [bytes[..cut].to_vec(), bytes[cut..].to_vec()];
                let (_, came, again) = heard_by(pieces, end, ExpectedBody::AsDeclared, room_bytes).expect(text);
                assert_eq!((came, again), (body.as_bytes().to_vec(), reusable), "{text:?} cut at {cut}");
            }
            let pieces = bytes.iter().map(|byte| vec![*byte]);
            let (_, came, again) = heard_by(pieces, end, ExpectedBody::AsDeclared, room_bytes).expect(text);
            assert_eq!((came, again), (body.as_bytes().to_vec(), reusable), "{text:?} byte by byte");
        }
    }
}

#[test]
fn an_answer_that_ends_early_is_an_error_wherever_it_ends() {
    for (text, _, body, _) in FRAMINGS.into_iter().filter(|(_, end, _, _)| *end == End::Silence) {
        for cut in 0..text.len() {
            for end in [End::Close, End::Reset] {
                match heard([text.as_bytes()[..cut].to_vec()], end) {
                    Err(Broken::Closed { silent, .. }) => assert_eq!(silent, cut == 0, "{text:?} cut at {cut}"),
                    // Behind the final chunk nothing but trailers is missing; all others are short.
                    other => panic!("{text:?} cut at {cut}: {other:?}, of {body:?}"),
                }
            }
        }
    }
}

#[test]
fn an_answer_to_head_has_no_body_whatever_its_length() {
    let text = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n".to_vec();
    let outcome = heard_by([text], End::Silence, ExpectedBody::None, 10);
    assert_eq!(outcome, Ok((200, Vec::new(), true)));
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for (lines, words) in [
        ("content-length: 5\r\ntransfer-encoding: chunked", "both a Content-Length and a Transfer-Encoding"),
        ("content-length: 5\r\ncontent-length: 6", "two Content-Lengths"),
        ("content-length: 5, 5", "is no number"),
        ("content-length: +5", "is no number"),
        ("content-length: -1", "is no number"),
        ("content-length: 99999999999999999999", "is no number"),
        ("content-length: ", "is no number"),
        ("transfer-encoding: gzip, chunked", "other than chunked"),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked", "other than chunked"),
        ("transfer-encoding: identity", "other than chunked"),
    ] {
        assert_nonsense(said(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\nhello")), words);
    }
    assert_nonsense(said("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"), "in HTTP/1.0");
    for (text, words) in [
        ("SSH-2.0-OpenSSH_9.6\r\n", "no HTTP"),
        ("HTTP/1.1 200 OK\r\na b: c\r\n\r\n", "no HTTP"),
        ("HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n", "no HTTP"),
        ("HTTP/1.1 099 X\r\n\r\n", "the status 99"),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "nobody asked for"),
    ] {
        assert_nonsense(said(text), words);
    }
    assert_nonsense(said(&"HTTP/1.1 100 Continue\r\n\r\n".repeat(INFORMATIONAL_MAX + 1)), "nobody asked for");
}

#[test]
fn chunks_that_lie_are_refused() {
    for (chunks, words) in [
        ("fffffffffffffffff\r\n", "invalid chunk size"),
        ("-1\r\n", "invalid chunk size"),
        ("\r\n", "invalid chunk size"),
        ("0x5\r\nhello\r\n", "invalid chunk size"),
        ("5\nhello\r\n", "invalid chunk size"),
        ("5\r\nhello!\r\n0\r\n\r\n", "longer than its size"),
        ("5\r\nhello\n0\r\n\r\n", "longer than its size"),
    ] {
        assert_nonsense(said(&format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}")), words);
    }
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let extension = "x".repeat(CHUNK_LINE_BYTES_MAX);
    assert_nonsense(said(&format!("{head}5;{extension}\r\nhello\r\n0\r\n\r\n")), "endless lines");
    assert_nonsense(said(&format!("{head}5;{extension}")), "endless lines");
    assert_nonsense(
        said(&format!("{head}0\r\n{}\r\n", "a: b\r\n".repeat(TRAILERS_BYTES_MAX / 6 + 1))),
        "endless lines",
    );
    assert_nonsense(said(&format!("{head}0\r\n{}", "a".repeat(TRAILERS_BYTES_MAX + 1))), "endless lines");
}

#[test]
fn heads_have_limits() {
    let lines = |count: usize| "a: b\r\n".repeat(count);
    let whole = |lines: String| said(&format!("HTTP/1.1 200 OK\r\n{lines}content-length: 0\r\n\r\n"));
    assert!(whole(lines(HEADERS_MAX - 1)).is_ok());
    assert_nonsense(whole(lines(HEADERS_MAX)), "too large");
    let long = |bytes: usize| format!("a: {}\r\n", "x".repeat(bytes));
    assert!(whole(long(HEAD_BYTES_MAX - 100)).is_ok());
    assert_nonsense(whole(long(HEAD_BYTES_MAX)), "too large");
    let trickle = long(HEAD_BYTES_MAX).into_bytes();
    let pieces = std::iter::once(b"HTTP/1.1 200 OK\r\n".to_vec()).chain(trickle.chunks(7).map(<[u8]>::to_vec));
    assert_nonsense(heard(pieces, End::Silence), "too large");
}

#[test]
fn bytes_behind_an_answer_are_never_the_next_one() {
    let text = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    // With the head, with the body's end, and alone.
    for cut in [0, text.len() - 2, text.len()] {
        for room_bytes in [5, 1_000] {
            let extra = format!("{text}{text}");
            let pieces = [extra.as_bytes()[..cut].to_vec(), extra.as_bytes()[cut..].to_vec()];
            let mut wire = Wire::new(Script::new(pieces, End::Silence), PATIENCE);
            run(async {
                let (_, body, reusable) =
                    exchanged(&mut wire, ExpectedBody::AsDeclared, room_bytes).await.expect("the first answer");
                assert_eq!(body, b"hello");
                // The script waits before each piece, so the second look is the one that counts.
                let quiet = wire.is_quiet().await && wire.is_quiet().await;
                assert!(!(reusable && quiet), "cut at {cut}, room for {room_bytes}");
            });
        }
    }
}

#[test]
fn an_idle_connection_that_was_closed_is_noticed() {
    for (end, quiet) in [(End::Close, false), (End::Reset, false), (End::Silence, true)] {
        let mut script = Script::new([], end);
        script.speaks_after = 0;
        let mut wire = Wire::new(script, PATIENCE);
        run(async {
            let _ = wire.is_quiet().await;
            assert_eq!(wire.is_quiet().await, quiet);
        });
    }
}

#[test]
fn a_kept_connection_carries_the_next_exchange() {
    let text = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: 1\r\n\r\nhello".to_vec();
    let next = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno".to_vec();
    let mut script = Script::new([text, next], End::Silence);
    script.waits = false;
    let mut wire = Wire::new(script, PATIENCE);
    run(async {
        assert_eq!(exchanged(&mut wire, ExpectedBody::AsDeclared, 9).await, Ok((200, b"hello".to_vec(), true)));
        assert_eq!(exchanged(&mut wire, ExpectedBody::AsDeclared, 9).await, Ok((404, b"no".to_vec(), true)));
        assert!(!wire.headers().contains("x"), "nothing is left of the answer before");
        assert_eq!(wire.stream.taken, [HEAD, HEAD].concat());
    });
}

#[test]
fn head_and_body_arrive_whole_however_little_is_taken_at_a_time() {
    for takes_at_once in [1, 7, HEAD.len(), HEAD.len() + 1, usize::MAX] {
        for streamed in [false, true] {
            let mut script = Script::new([b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()], End::Silence);
            (script.takes_at_once, script.speaks_after) = (takes_at_once, HEAD.len() + 10);
            let mut wire = Wire::new(script, PATIENCE);
            let mut body = RequestBody::whole(Bytes::from_static(b"0123456789"));
            let (sender, slices) = mpsc::channel(4);
            if streamed {
                body = RequestBody::Stream { slices, left_bytes: 10 };
                for slice in ["012", "", "3456", "789"] {
                    sender.try_send(Bytes::from_static(slice.as_bytes())).expect("room for all");
                }
            }
            run(wire.exchange(HEAD, &mut body, ExpectedBody::AsDeclared)).expect("an answer");
            assert_eq!(wire.stream.taken, [HEAD, b"0123456789"].concat());
            assert!(wire.is_reusable());
        }
    }
}

#[test]
fn a_body_that_is_not_as_long_as_declared_fails_its_request() {
    for slices_sent in [["01234", "567"], ["0123456", "7890"]] {
        let mut wire = Wire::new(Script::new([], End::Silence), PATIENCE);
        let (sender, slices) = mpsc::channel(4);
        for slice in slices_sent {
            sender.try_send(Bytes::from_static(slice.as_bytes())).expect("room for all");
        }
        drop(sender);
        let mut body = RequestBody::Stream { slices, left_bytes: 10 };
        let broken = run(wire.exchange(HEAD, &mut body, ExpectedBody::AsDeclared)).expect_err("no answer");
        assert!(matches!(broken, Broken::Body(_)), "{broken:?}");
        assert!(!wire.is_reusable());
    }
}

#[test]
fn a_refusal_before_the_whole_request_was_taken_is_heard_and_ends_the_connection() {
    let refused = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno".to_vec();
    let mut script = Script::new([refused], End::Silence);
    (script.takes_max, script.speaks_after) = (HEAD.len() + 3, HEAD.len() + 3);
    let mut wire = Wire::new(script, PATIENCE);
    run(async {
        let mut body = RequestBody::whole(Bytes::from_static(b"0123456789"));
        wire.exchange(HEAD, &mut body, ExpectedBody::AsDeclared).await.expect("an answer");
        let mut room = [0; 10];
        let came = wire.read(&mut room).await.expect("a body");
        assert_eq!((wire.status().as_u16(), &room[..came]), (403, &b"no"[..]));
        assert_eq!(wire.read(&mut room).await, Ok(0));
        assert!(!wire.is_reusable());
    });
}

#[test]
fn success_before_the_whole_request_was_taken_is_not_believed() {
    let mut script = Script::new([b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()], End::Silence);
    script.takes_max = HEAD.len() + 3;
    let mut wire = Wire::new(script, PATIENCE);
    let mut body = RequestBody::whole(Bytes::from_static(b"0123456789"));
    let broken = run(wire.exchange(HEAD, &mut body, ExpectedBody::AsDeclared)).expect_err("no answer");
    assert!(
        matches!(&broken, Broken::Nonsense(words) if words.contains("before it has the whole request")),
        "{broken:?}"
    );
    assert!(!wire.is_reusable());
}

#[test]
fn silence_is_given_up_in_either_phase() {
    let little = Patience { answer: Duration::from_millis(2), body: Duration::from_millis(1) };
    for (said, given_up) in [
        ("", little.answer),
        ("HTTP/1.1 200 OK\r\ncontent-le", little.answer),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel", little.body),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5", little.body),
    ] {
        let mut script = Script::new([said.as_bytes().to_vec()], End::Silence);
        script.waits = false;
        let outcome = run(exchanged(&mut Wire::new(script, little), ExpectedBody::AsDeclared, 1_000));
        assert_eq!(outcome, Err(Broken::StoodStill(given_up)), "{said:?}");
    }
}

/// Whatever comes, there is an end and no panic.
fn is_survived(pieces: Vec<Vec<u8>>, end: End, room_bytes: usize) {
    for answer in [ExpectedBody::AsDeclared, ExpectedBody::None] {
        let _ = heard_by(pieces.clone(), end, answer, room_bytes);
    }
}

fn any_end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Close), Just(End::Reset)]
}

proptest! {
    #[test]
    fn any_bytes_as_an_answer_neither_panic_nor_hang(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..6),
        end in any_end(),
        room_bytes in 1usize..40,
    ) {
        is_survived(pieces, end, room_bytes);
    }

    #[test]
    fn any_likely_text_as_an_answer_neither_panics_nor_hangs(
        words in prop::collection::vec(prop::sample::select(vec![
            "HTTP/1.1 200 OK\r\n", "HTTP/1.0 200\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 404 \r\n", "\r\n", "\n", "\r",
            "content-length: 5\r\n", "content-length: 18446744073709551615\r\n", "transfer-encoding: chunked\r\n",
            "connection: close\r\n", "5\r\n", "hello", "0\r\n", "ffffffffffffffff\r\n", ";", "a: b\r\n", " ", "\0",
        ]), 0..14),
        cut in any::<prop::sample::Index>(),
        end in any_end(),
        room_bytes in 1usize..40,
    ) {
        let text = words.concat().into_bytes();
        let cut = cut.index(text.len() + 1);
        is_survived(vec![text[..cut].to_vec(), text[cut..].to_vec()], end, room_bytes);
    }

    #[test]
    fn bodies_in_chunks_of_any_size_arrive_whole(
        body in prop::collection::vec(any::<u8>(), 0..3_000),
        chunk_bytes in 1usize..700,
        piece_bytes in 1usize..900,
        room_bytes in 1usize..900,
    ) {
        let mut text = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in body.chunks(chunk_bytes) {
            text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            text.extend_from_slice(chunk);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"0\r\n\r\n");
        let pieces = text.chunks(piece_bytes).map(<[u8]>::to_vec);
        let outcome = heard_by(pieces, End::Silence, ExpectedBody::AsDeclared, room_bytes);
        prop_assert_eq!(outcome, Ok((200, body, true)));
    }
}

//! A TCP relay before a server, which holds bytes back, changes them or refuses a request when a test asks for it. A test
//! waits for what happens on the wire, never for time to pass.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::Server;

/// The relay. Its [`server`](Relay::server) is the one to sync with.
pub struct Relay {
    state: Arc<State>,
    /// The server as seen through the relay.
    pub server: Server,
}

#[derive(Default)]
struct State {
    rules: Mutex<Rules>,
    changed: Condvar,
}

#[derive(Default)]
struct Rules {
    /// Bytes of request bodies, or of answers, that may still pass; None lets all pass.
    uploads_left: Option<u64>,
    answers_left: Option<u64>,
    /// Requests that may still pass.
    requests_left: Option<u64>,
    /// How often what was held back was dropped with its connection.
    cuts: u64,
    /// Somebody need not wait any more.
    given_up: bool,
    /// Connections that stand still.
    held: usize,
    /// Replaces these bytes by those, in so many pieces more.
    replace: Option<(Vec<u8>, Vec<u8>, u64)>,
    /// Answers 403 to requests with this in their first line.
    deny: Option<(String, String)>,
    /// First lines of all requests.
    seen: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Up,
    Down,
    /// Counts requests, not bytes.
    Request,
}

impl Relay {
    /// A relay before `server`.
    pub fn before(server: &Server) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let state: Arc<State> = Arc::default();
        let (shared, address) = (state.clone(), server.endpoint.trim_start_matches("http://").to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&address) else { continue };
                let (state, from, to) = (shared.clone(), server.try_clone(), client.try_clone());
                let (Ok(from), Ok(to)) = (from, to) else { continue };
                thread::spawn(move || state.answers(from, to));
                let state = shared.clone();
                thread::spawn(move || state.requests(client, server));
            }
        });
        Relay { state, server: server.at(endpoint) }
    }

    /// Lets so many bytes of request bodies pass, then none. Requests without a body always pass.
    pub fn hold_uploads_after(&self, bytes: u64) {
        self.rule(|rules| rules.uploads_left = Some(bytes));
    }

    /// Lets so many bytes of answers pass, then none.
    pub fn hold_answers_after(&self, bytes: u64) {
        self.rule(|rules| rules.answers_left = Some(bytes));
    }

    /// Lets so many requests pass, then none.
    pub fn hold_requests_after(&self, requests: u64) {
        self.rule(|rules| rules.requests_left = Some(requests));
    }

    /// Waits until bytes are held back, or nobody waits for it any more. Says whether they are.
    pub fn wait_until_held(&self) -> bool {
        let rules = self.state.rules.lock().expect("no test thread panics with it");
        let waiting = |rules: &mut Rules| rules.held == 0 && !rules.given_up;
        self.state.changed.wait_while(rules, waiting).expect("no test thread panics with it").held > 0
    }

    /// A handle with which another thread ends [`wait_until_held`](Relay::wait_until_held).
    pub fn give_up(&self) -> impl FnOnce() + Send + use<> {
        let state = self.state.clone();
        move || {
            state.rules.lock().expect("no test thread panics with it").given_up = true;
            state.changed.notify_all();
        }
    }

    /// Closes all connections that stand still, so that what they held never arrives. What comes after is held as before.
    pub fn cut(&self) {
        self.rule(|rules| {
            rules.cuts += 1;
            (rules.held, rules.given_up) = (0, false);
        });
    }

    /// Forgets the requests so far.
    pub fn forget_seen(&self) {
        self.rule(|rules| rules.seen.clear());
    }

    /// Lets everything pass.
    pub fn release(&self) {
        self.rule(|rules| (rules.uploads_left, rules.answers_left, rules.requests_left) = (None, None, None));
    }

    /// Replaces `from` by `to`, of the same length, in bodies and answers; once in a piece, in `times` pieces.
    pub fn replace(&self, from: &str, to: &str, times: u64) {
        assert_eq!(from.len(), to.len());
        self.rule(|rules| rules.replace = Some((from.into(), to.into(), times)));
    }

    /// Answers 403 with this code to requests whose first line contains `part`.
    pub fn deny(&self, part: &str, code: &str) {
        self.rule(|rules| rules.deny = Some((part.to_owned(), code.to_owned())));
    }

    /// First lines of the requests so far that contain `part`.
    pub fn seen(&self, part: &str) -> Vec<String> {
        let rules = self.state.rules.lock().expect("no test thread panics with it");
        rules.seen.iter().filter(|line| line.contains(part)).cloned().collect()
    }

    fn rule(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.state.rules.lock().expect("no test thread panics with it"));
        self.state.changed.notify_all();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.release();
    }
}

impl State {
    /// From the client to the server, request by request. An end of either side is the end of both.
    fn requests(&self, mut client: TcpStream, mut server: TcpStream) {
        let mut buffer = Vec::new();
        while let Some(head) = read_head(&mut client, &mut buffer) {
            let line = head.lines().next().unwrap_or_default().to_owned();
            let length = head.lines().filter_map(|line| line.split_once(':'));
            let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            let length: u64 = length.filter_map(|(_, value)| value.trim().parse().ok()).next().unwrap_or(0);
            let denied = {
                let mut rules = self.rules.lock().expect("no test thread panics with it");
                rules.seen.push(line.clone());
                rules.deny.clone().filter(|(part, _)| line.contains(part.as_str())).map(|(_, code)| code)
            };
            let done = match denied {
                _ if !self.permit(Way::Request, 1) => None,
                Some(code) => {
                    pass_body(&mut client, &mut buffer, length, |_| Some(())).and_then(|()| refuse(&client, &code))
                }
                None => server.write_all(head.as_bytes()).ok().and_then(|()| {
                    pass_body(&mut client, &mut buffer, length, |bytes| {
                        let passes = self.permit(Way::Up, bytes.len() as u64);
                        self.change(bytes);
                        passes.then(|| server.write_all(bytes).ok()).flatten()
                    })
                }),
            };
            if done.is_none() {
                break;
            }
        }
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    }

    /// From the server to the client, whatever it is.
    fn answers(&self, mut server: TcpStream, mut client: TcpStream) {
        let mut bytes = [0; 64 << 10];
        while let Ok(count @ 1..) = server.read(&mut bytes) {
            if !self.permit(Way::Down, count as u64) {
                break;
            }
            self.change(&mut bytes[..count]);
            if client.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    }

    /// Waits until so many bytes, or one request, may pass this way. False if they never will.
    fn permit(&self, way: Way, count: u64) -> bool {
        let mut rules = self.rules.lock().expect("no test thread panics with it");
        let cuts = rules.cuts;
        let mut held = false;
        loop {
            let left = match way {
                Way::Up => &mut rules.uploads_left,
                Way::Down => &mut rules.answers_left,
                Way::Request => &mut rules.requests_left,
            };
            let passes = match left {
                None => true,
                Some(left) if *left >= count => {
                    *left -= count;
                    true
                }
                // What is left would not suffice, now or later.
                Some(left) => {
                    *left = 0;
                    false
                }
            };
            if passes {
                rules.held -= usize::from(held);
                return true;
            }
            // Told once: those who are held would wake each other for ever.
            if !std::mem::replace(&mut held, true) {
                rules.held += 1;
                self.changed.notify_all();
            }
            rules = self.changed.wait(rules).expect("no test thread panics with it");
            if rules.cuts != cuts {
                return false;
            }
        }
    }

    fn change(&self, bytes: &mut [u8]) {
        let mut rules = self.rules.lock().expect("no test thread panics with it");
        let Some((from, to, times)) = &mut rules.replace else { return };
        // Once in each piece: a wrong byte is as wrong as a thousand.
        let at = bytes.windows(from.len()).position(|window| window == from.as_slice());
        if let Some(at) = at.filter(|_| *times > 0) {
            bytes[at..at + to.len()].copy_from_slice(to);
            *times -= 1;
        }
    }
}

/// A request's head, with its empty line; what follows it stays in the buffer. None at the end of the connection.
fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = buffer.split_off(end + 4);
            return String::from_utf8(std::mem::replace(buffer, rest)).ok();
        }
        read_more(stream, buffer)?;
    }
}

fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut bytes = [0; 64 << 10];
    let count = stream.read(&mut bytes).ok().filter(|count| *count > 0)?;
    buffer.extend_from_slice(&bytes[..count]);
    Some(())
}

fn pass_body(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    mut left: u64,
    mut pass: impl FnMut(&mut [u8]) -> Option<()>,
) -> Option<()> {
    while left > 0 {
        if buffer.is_empty() {
            read_more(stream, buffer)?;
        }
        let count = left.min(buffer.len() as u64) as usize;
        pass(&mut buffer[..count])?;
        buffer.drain(..count);
        left -= count as u64;
    }
    Some(())
}

fn refuse(mut client: &TcpStream, code: &str) -> Option<()> {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>not for you</Message></Error>");
    let head = format!(
        "HTTP/1.1 403 Forbidden\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write_all(head.as_bytes()).ok()
}

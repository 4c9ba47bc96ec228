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

    /// Waits until bytes are held back.
    pub fn wait_until_held(&self) {
        let rules = self.state.rules.lock().expect("no test thread panics with it");
        drop(self.state.changed.wait_while(rules, |rules| rules.held == 0).expect("no test thread panics with it"));
    }

    /// Lets everything pass.
    pub fn release(&self) {
        self.rule(|rules| (rules.uploads_left, rules.answers_left) = (None, None));
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
                Some(code) => {
                    pass_body(&mut client, &mut buffer, length, |_| Some(())).and_then(|()| refuse(&client, &code))
                }
                None => server.write_all(head.as_bytes()).ok().and_then(|()| {
                    pass_body(&mut client, &mut buffer, length, |bytes| {
                        self.permit(Way::Up, bytes.len() as u64);
                        self.change(bytes);
                        server.write_all(bytes).ok()
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
            self.permit(Way::Down, count as u64);
            self.change(&mut bytes[..count]);
            if client.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    }

    /// Waits until so many bytes may pass this way.
    fn permit(&self, way: Way, count: u64) {
        let mut rules = self.rules.lock().expect("no test thread panics with it");
        loop {
            let left = match way {
                Way::Up => &mut rules.uploads_left,
                Way::Down => &mut rules.answers_left,
            };
            match left {
                None => return,
                Some(left) if *left >= count => {
                    *left -= count;
                    return;
                }
                // What is left would not suffice, now or later.
                Some(left) => *left = 0,
            }
            rules.held += 1;
            self.changed.notify_all();
            rules = self.changed.wait(rules).expect("no test thread panics with it");
            rules.held -= 1;
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

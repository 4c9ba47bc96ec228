//! A small HTTP service on loopback that answers as a test says, and remembers what it was asked: the places where keys come
//! from (STS, SSO, a container's, an instance's) are made of it.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::scripted::{Answer, Request, read_head};

/// The service. It ends with its test.
pub struct Service {
    /// `http://address:port`.
    pub url: String,
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Request>>>,
    ended: Arc<AtomicBool>,
}

impl Service {
    /// `answer` also gets the number of the request, from 1 on.
    pub fn start(answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("it has an address");
        let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
        let ended: Arc<AtomicBool> = Arc::default();
        let (requests, end, answer) = (asked.clone(), ended.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::Acquire) {
                    return;
                }
                let (stream, requests, answer) = (stream.expect("a connection"), requests.clone(), answer.clone());
                // A client that goes away ends its connection's thread, and that is all.
                std::thread::spawn(move || serve(BufReader::new(stream), &requests, &*answer));
            }
        });
        Service { url: format!("http://{address}"), address, asked, ended }
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().expect("no panic while it is locked").clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Wakes the listener, which then sees that it has ended.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    mut stream: BufReader<TcpStream>,
    asked: &Mutex<Vec<Request>>,
    answer: &(dyn Fn(&Request, usize) -> Answer + Send + Sync),
) -> io::Result<()> {
    while let Some(mut request) = read_head(&mut stream)? {
        let length = request.header("content-length").map_or(0, |length| length.parse().expect("a number"));
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        request.body = body;
        let number = {
            let mut asked = asked.lock().expect("no panic while it is locked");
            asked.push(request.clone());
            asked.len()
        };
        let answer = answer(&request, number);
        stream.get_mut().write_all(&[answer.head(), answer.body].concat())?;
    }
    Ok(())
}

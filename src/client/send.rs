//! The one loop that every operation goes through: sign, send, read, classify, try again or give up.
//!
//! A try is signed anew, so that no retry is refused for its age (reliability.md P19). Two failures are repaired rather
//! than waited out, each at most once: a wrong region is learnt from the refusal and the request signed for it, and a clock
//! that is off is set right by the service's `Date`. A connection that was idle and turns out closed costs nothing but a
//! new connection.

use std::pin::pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::Response;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use ropeway_s3proto::error::{Class, ServiceError};
use ropeway_s3proto::name::Key;
use ropeway_s3proto::retry::{self, Verdict};
use ropeway_s3proto::sign::Payload;

use super::http::{Frames, RequestBody, describe};
use super::pool::Connection;
use super::{Client, Error, Failure, Phase};

/// One try's request, before it is signed.
pub(super) struct Outgoing {
    pub(super) head: Parts,
    pub(super) payload: Payload,
    pub(super) body: RequestBody,
}

/// An answer whose head has been read, and the connection it came on.
pub(super) struct Answer {
    pub(super) head: hyper::http::response::Parts,
    pub(super) frames: Frames,
    connection: Connection,
    /// The request had a body; if the service refused it, part of that body may still be on its way.
    sent_body: bool,
}

/// Repairs that were made during one operation; none is made twice.
#[derive(Default)]
struct Repairs {
    region: bool,
    clock: bool,
    stale: bool,
}

/// The largest answer that is read into memory: listings are a megabyte at most, and nothing else is larger.
const ANSWER_BYTES_MAX: usize = 32 << 20;

impl Client {
    /// Performs one operation, trying as often as its failures' class allows. `make` builds the request anew for each
    /// try, and `read` turns an answer into its meaning.
    pub(super) async fn perform<T>(
        &self,
        operation: &'static str,
        key: Option<&Key>,
        mut make: impl FnMut() -> Result<Outgoing, Failure>,
        mut read: impl AsyncFnMut(&Client, Answer) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        let mut repairs = Repairs::default();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let answer = async { read(self, self.exchange(make()?, repairs.stale).await?).await };
            let failure = match answer.await {
                Ok(meaning) => return Ok(meaning),
                Err(failure) => failure,
            };
            if self.repair(&failure, &mut repairs) {
                attempts -= 1;
                continue;
            }
            match self.verdict(&failure, attempts, started.elapsed()) {
                Verdict::Wait(pause) => {
                    tracing::debug!(operation, attempts, pause_ms = pause.as_millis() as u64, %failure, "trying again");
                    self.retries.set(self.retries.get() + 1);
                    tokio::time::sleep(pause).await;
                }
                Verdict::GiveUp => {
                    let place = self.place(key);
                    return Err(Error { operation, place, failure, attempts, elapsed: started.elapsed() });
                }
            }
        }
    }

    /// Sends one request and waits for the head of its answer.
    async fn exchange(&self, outgoing: Outgoing, fresh: bool) -> Result<Answer, Failure> {
        let Outgoing { mut head, payload, body } = outgoing;
        self.signer.borrow_mut().sign(&mut head, payload, self.now_unix_s());
        let mut connection = if fresh { self.connections.open().await? } else { self.connections.take().await? };
        let sent_body = !body.is_empty();
        self.requests.set(self.requests.get() + 1);
        let patience = self.settings.timeouts.first_byte;
        let mut silent_since = Instant::now();
        let mut answer = pin!(connection.sender.send_request(hyper::Request::from_parts(head, body)));
        let answer = loop {
            let left = patience.saturating_sub(silent_since.elapsed());
            match tokio::time::timeout(left, &mut answer).await {
                Ok(answer) => break answer.map_err(|e| (describe(&e), connection.used)),
                // The request is still being taken, so no answer is due.
                Err(_) if connection.last_write.at() > silent_since => silent_since = connection.last_write.at(),
                // A connection that was closed meanwhile breaks at once; one that is silent has a slow service behind it.
                Err(_) => break Err((format!("nothing came for {} s", patience.as_secs_f64()), false)),
            }
        };
        let answer: Response<Incoming> = answer.map_err(|(detail, stale)| {
            let endpoint = self.connections.peer.name();
            Failure::Transport { phase: Phase::FirstByte, endpoint, detail, stale }
        })?;
        let (head, incoming) = answer.into_parts();
        let frames = Frames::new(incoming, self.connections.peer.clone());
        Ok(Answer { head, frames, connection, sent_body })
    }

    /// Mends what can be mended before the next try, and says whether it did.
    fn repair(&self, failure: &Failure, repairs: &mut Repairs) -> bool {
        match failure {
            Failure::Transport { stale: true, .. } => !std::mem::replace(&mut repairs.stale, true),
            Failure::Service(ServiceError { region: Some(region), .. })
                if failure.class() == Class::WrongRegion && *region != self.region() =>
            {
                tracing::debug!(%region, "the bucket is in another region than was configured");
                self.signer.borrow_mut().set_region(region.clone());
                !std::mem::replace(&mut repairs.region, true)
            }
            Failure::Service(ServiceError { date_unix_seconds: Some(theirs), .. })
                if failure.class() == Class::ClockSkew =>
            {
                self.clock_offset_s.set(theirs - system_unix_s());
                !std::mem::replace(&mut repairs.clock, true)
            }
            _ => false,
        }
    }

    fn verdict(&self, failure: &Failure, attempts: u32, elapsed: Duration) -> Verdict {
        let retry_after = match failure {
            Failure::Service(error) => error.retry_after_seconds.map(|s| Duration::from_secs(u64::from(s))),
            _ => None,
        };
        retry::decide(&self.settings.retry, failure.class(), attempts, elapsed, retry_after, fastrand::f64())
    }

    fn now_unix_s(&self) -> i64 {
        system_unix_s() + self.clock_offset_s.get()
    }

    /// What messages call the object or the bucket.
    pub(super) fn place(&self, key: Option<&Key>) -> String {
        let bucket = self.settings.address.bucket();
        match key {
            Some(key) => format!("s3://{bucket}/{}", key.as_str()),
            None => format!("s3://{bucket}"),
        }
    }
}

impl Answer {
    /// Reads a small answer whole, returns the connection, and gives status, headers and body to `parse`.
    pub(super) async fn whole<T>(
        mut self,
        client: &Client,
        parse: impl FnOnce(&hyper::http::response::Parts, &[u8]) -> Result<T, ServiceError>,
    ) -> Result<T, Failure> {
        let first = self.frames.next().await?;
        // Most answers fit one slice, which is then parsed where it lies.
        let meaning = match self.frames_after(first.as_deref()).await? {
            Some(body) => parse(&self.head, &body),
            None => parse(&self.head, first.as_deref().unwrap_or_default()),
        };
        self.give_back(client);
        meaning.map_err(Failure::Service)
    }

    /// The whole body if more than `first` arrives.
    async fn frames_after(&mut self, first: Option<&[u8]>) -> Result<Option<Vec<u8>>, Failure> {
        let Some(first) = first else { return Ok(None) };
        let Some(second) = self.frames.next().await? else { return Ok(None) };
        let mut body = [first, &second].concat();
        while let Some(more) = self.frames.next().await? {
            if body.len() + more.len() > ANSWER_BYTES_MAX {
                return Err(Failure::Protocol(format!("an answer of more than {ANSWER_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&more);
        }
        Ok(Some(body))
    }

    /// Returns the connection for further use, unless a refused body may still be on its way.
    pub(super) fn give_back(self, client: &Client) {
        if self.head.status.is_success() || !self.sent_body {
            client.connections.give_back(self.connection);
        }
    }
}

fn system_unix_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

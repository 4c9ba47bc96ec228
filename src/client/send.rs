//! The one loop that every operation goes through: sign, send, read, classify, try again or give up.
//!
//! A try is signed anew, so that no retry is refused for its age (reliability.md P19). Three failures are repaired rather
//! than waited out, each at most once: a wrong region is learnt from the refusal and the request signed for it, a clock that
//! is off is set right by the service's `Date`, and keys that are refused are replaced, if they are of a kind that can be. A
//! connection that was idle and turns out closed costs nothing but a new connection.

use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use ropeway_s3proto::error::{Class, ServiceError};
use ropeway_s3proto::head::{HeadText, Headers};
use ropeway_s3proto::name::Key;
use ropeway_s3proto::retry::{self, Verdict};
use ropeway_s3proto::sign::Payload;

use super::keyring::{Edition, Keys};
use super::pace::Load;
use super::peer::Peer;
use super::pool::Connection;
use super::wire::{Broken, ExpectedBody};
use super::{Cause, Client, Error, Failure, Phase, RequestBody};

/// What goes with a head that was written.
pub(super) struct Outgoing {
    pub(super) payload: Payload,
    pub(super) body: RequestBody,
}

/// An answer whose head has been read, and the connection it came on.
pub(super) struct Answer {
    connection: Connection,
    peer: Rc<Peer>,
}

/// Repairs that were made during one operation; none is made twice.
#[derive(Default)]
struct Repairs {
    region: bool,
    clock: bool,
    stale: bool,
    keys: bool,
    /// The keys of the last try.
    signed_with: u64,
}

/// The largest answer that is read into memory: listings are a megabyte at most, and nothing else is larger.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// Room for an answer to begin with, whatever length it declares: a listing's usual page takes less.
const ANSWER_BYTES_FIRST: usize = 512 << 10;

impl Client {
    /// Performs one operation, trying as often as its failures' class allows. `make` writes the request anew for each
    /// try, and `read` turns an answer into its meaning.
    pub(super) async fn perform<T>(
        &self,
        operation: &'static str,
        key: Option<&Key>,
        mut make: impl FnMut(&mut HeadText) -> Result<Outgoing, Failure>,
        mut read: impl AsyncFnMut(&Client, Answer) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        let mut repairs = Repairs::default();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let pass = self.gate.pass().await;
            let attempt = async { read(self, self.exchange(&mut make, &mut repairs).await?).await };
            let answer = match self.time_for(started) {
                None => attempt.await,
                Some(limit) => match tokio::time::timeout(limit, attempt).await {
                    Ok(answer) => answer,
                    Err(_) => Err(self.took_too_long(limit)),
                },
            };
            pass.learn(Load::shown_by(answer.as_ref().err()));
            drop(pass);
            let failure = match answer {
                Ok(meaning) => return Ok(meaning),
                Err(failure) => failure,
            };
            if self.repair(&failure, &mut repairs).await {
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
                    // One that broke with an old connection may have arrived all the same.
                    let attempts = attempts + u32::from(repairs.stale);
                    return Err(Error { operation, place, failure, attempts, elapsed: started.elapsed() });
                }
            }
        }
    }

    /// How long the next try may take, if there is a limit.
    fn time_for(&self, started: Instant) -> Option<Duration> {
        let attempt = self.settings.timeouts.attempt;
        let whole = self.settings.timeouts.operation.map(|limit| limit.saturating_sub(started.elapsed()));
        match (attempt, whole) {
            (Some(attempt), Some(whole)) => Some(attempt.min(whole)),
            (attempt, whole) => attempt.or(whole),
        }
    }

    fn took_too_long(&self, limit: Duration) -> Failure {
        let detail = format!("it was not done within {} s", limit.as_secs_f64());
        self.connections.peer.failure_by(Cause::Silence, Phase::Body, detail)
    }

    /// Sends one request and waits for the head of its answer.
    async fn exchange(
        &self,
        make: &mut impl FnMut(&mut HeadText) -> Result<Outgoing, Failure>,
        repairs: &mut Repairs,
    ) -> Result<Answer, Failure> {
        let mut head = self.spare_heads.borrow_mut().pop().unwrap_or_default();
        let Outgoing { payload, mut body } = make(&mut head)?;
        let now_s = self.now_unix_s();
        if now_s >= self.held.due_at_s.get() {
            self.take_newer_keys(now_s).await?;
        }
        self.signer.borrow_mut().sign(&mut head, payload, now_s);
        repairs.signed_with = self.held.number.get();
        let expected = if head.method() == "HEAD" { ExpectedBody::None } else { ExpectedBody::AsDeclared };
        let mut connection =
            if repairs.stale { self.connections.open().await? } else { self.connections.take().await? };
        self.requests.set(self.requests.get() + 1);
        let text = head.end();
        let rewritten = self.connections.peer.rewritten(text);
        let sent = connection.wire.exchange(rewritten.as_deref().unwrap_or(text), &mut body, expected).await;
        // There are as many as requests were ever under way at once.
        self.spare_heads.borrow_mut().push(head);
        let peer = self.connections.peer.clone();
        match sent {
            Ok(()) => Ok(Answer { connection, peer }),
            Err(Broken::StoodStill(patience)) => {
                let detail = format!("nothing came for {} s", patience.as_secs_f64());
                Err(peer.failure_by(Cause::Silence, Phase::FirstByte, detail))
            }
            // A connection that was closed meanwhile breaks at once; one that is silent has a slow service behind it.
            Err(Broken::Closed { detail, silent }) => {
                let cause = if connection.used && silent { Cause::Stale } else { Cause::Break };
                Err(peer.failure_by(cause, Phase::FirstByte, detail))
            }
            // Whatever answers so may be no S3 service at all, which the phase tells and the endpoint's name.
            Err(Broken::Body(detail) | Broken::Nonsense(detail)) => Err(peer.failure(Phase::FirstByte, detail)),
        }
    }

    /// Mends what can be mended before the next try, and says whether it did.
    async fn repair(&self, failure: &Failure, repairs: &mut Repairs) -> bool {
        match failure {
            Failure::Transport { cause: Cause::Stale, .. } => !std::mem::replace(&mut repairs.stale, true),
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
            _ if refuses_keys(failure) && !repairs.keys => {
                repairs.keys = true;
                self.replace_keys(repairs.signed_with).await
            }
            _ => false,
        }
    }

    /// Takes the keys that were published meanwhile; once those at hand have expired, whatever it takes to get others.
    async fn take_newer_keys(&self, now_s: i64) -> Result<(), Failure> {
        let Keys::Renewed(keyring) = &self.settings.keys else { return Ok(()) };
        let mut latest = keyring.latest();
        if now_s >= latest.ends_at_s {
            let renewed = keyring.other_than(latest.number).await;
            latest = renewed.map_err(|reason| Failure::Keys(reason.to_string()))?;
        }
        self.hold(&latest);
        // Those that are due and still good are looked at again in a second.
        self.held.due_at_s.set(latest.due_at_s.max(now_s + 1));
        Ok(())
    }

    /// Takes keys other than those that were refused, and says whether there are any. Other requests may have replaced them
    /// while this one was under way.
    async fn replace_keys(&self, refused: u64) -> bool {
        let Keys::Renewed(keyring) = &self.settings.keys else { return false };
        match keyring.other_than(refused).await {
            Ok(edition) => {
                tracing::debug!("the service refused the keys, and there are new ones");
                self.hold(&edition);
                true
            }
            Err(reason) => {
                tracing::debug!(%reason, "the service refused the keys, and there are no others");
                false
            }
        }
    }

    fn hold(&self, edition: &Edition) {
        if self.held.number.replace(edition.number) != edition.number {
            self.signer.borrow_mut().set_credentials(Some(edition.credentials.clone()));
        }
        self.held.due_at_s.set(edition.due_at_s);
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
    pub(super) fn status(&self) -> StatusCode {
        self.connection.wire.status()
    }

    pub(super) fn headers(&self) -> &Headers {
        self.connection.wire.headers()
    }

    /// Reads on in the body, straight into `out`: how many bytes came, 0 at the end.
    pub(super) async fn read(&mut self, out: &mut [u8]) -> Result<usize, Failure> {
        match self.connection.wire.read(out).await {
            Ok(came) => Ok(came),
            Err(Broken::StoodStill(patience)) => {
                let detail = format!("no progress for {} s", patience.as_secs_f64());
                Err(self.peer.failure_by(Cause::Silence, Phase::Body, detail))
            }
            Err(Broken::Closed { detail, .. } | Broken::Body(detail) | Broken::Nonsense(detail)) => {
                Err(self.peer.failure(Phase::Body, detail))
            }
        }
    }

    /// Reads a small answer whole, returns the connection, and gives status, headers and body to `parse`.
    pub(super) async fn whole<T>(
        mut self,
        client: &Client,
        parse: impl FnOnce(StatusCode, &Headers, &[u8]) -> Result<T, ServiceError>,
    ) -> Result<T, Failure> {
        // Most answers came whole with their head, and are parsed where they lie.
        let meaning = match self.connection.wire.body_at_hand() {
            Some(body) => {
                let meaning = parse(self.status(), self.headers(), body);
                self.connection.wire.consume_body_at_hand();
                meaning
            }
            None => {
                let body = self.body().await?;
                parse(self.status(), self.headers(), &body)
            }
        };
        self.give_back(client);
        meaning.map_err(Failure::Service)
    }

    async fn body(&mut self) -> Result<Vec<u8>, Failure> {
        let too_long = || Failure::Protocol(format!("an answer of more than {ANSWER_BYTES_MAX} bytes"));
        let declared_bytes = self.connection.wire.declared_bytes();
        if declared_bytes.is_some_and(|bytes| bytes > ANSWER_BYTES_MAX as u64) {
            return Err(too_long());
        }
        let mut body =
            vec![0; declared_bytes.map_or(ANSWER_BYTES_FIRST, |bytes| bytes as usize + 1).min(ANSWER_BYTES_FIRST)];
        let mut filled = 0;
        loop {
            if filled == body.len() {
                body.resize((2 * filled).min(ANSWER_BYTES_MAX + 1), 0);
            }
            match self.read(&mut body[filled..]).await? {
                0 => break,
                came => filled += came,
            }
            if filled > ANSWER_BYTES_MAX {
                return Err(too_long());
            }
        }
        body.truncate(filled);
        Ok(body)
    }

    /// Returns the connection for further use, if its exchange ended properly.
    pub(super) fn give_back(self, client: &Client) {
        client.connections.give_back(self.connection);
    }
}

/// Whether other keys may help: the service says so, or refuses an answer without a body (a HEAD's) as it would expired keys.
fn refuses_keys(failure: &Failure) -> bool {
    match failure {
        Failure::Service(error) if error.code.is_empty() => error.status == StatusCode::BAD_REQUEST,
        Failure::Service(error) => error.refuses_keys(),
        Failure::Transport { .. }
        | Failure::Protocol(_)
        | Failure::Changed(_)
        | Failure::Request(_)
        | Failure::Keys(_) => false,
    }
}

/// Our clock, in seconds since 1970.
pub(super) fn system_unix_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

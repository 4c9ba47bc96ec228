//! What can go wrong between a request and its meaning, as data. Whether to try again is read from the [`Class`] alone.

use std::time::Duration;

use ropeway_s3proto::error::{Class, ServiceError};

/// An operation that failed, after the tries that its class allows.
#[derive(Debug, thiserror::Error)]
#[error("{operation} of `{place}`: {failure}{}", tries(*.attempts, *.elapsed))]
pub struct Error {
    /// The S3 operation.
    pub operation: &'static str,
    /// What it was about, as `s3://bucket/key`.
    pub place: String,
    /// The last try's failure.
    pub failure: Failure,
    /// How often it was tried.
    pub attempts: u32,
    /// From the first try to the last answer.
    pub elapsed: Duration,
}

fn tries(attempts: u32, elapsed: Duration) -> String {
    match attempts {
        0 | 1 => String::new(),
        _ => format!(" ({attempts} tries over {:.1} s)", elapsed.as_secs_f64()),
    }
}

/// How one try failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The service answered, and refused.
    #[error("{0}")]
    Service(ServiceError),
    /// No answer, or not a whole one.
    #[error("{endpoint} does not answer: {phase} failed: {detail}")]
    Transport {
        /// Where in the exchange.
        phase: Phase,
        /// Scheme, host and port.
        endpoint: String,
        /// The system's or library's words.
        detail: String,
        /// What it was that ended the exchange.
        cause: Cause,
    },
    /// The answer contradicts the protocol or the request.
    #[error("the service's answer makes no sense: {0}")]
    Protocol(String),
    /// The object is not the one that was listed.
    #[error("the object was replaced: {0}")]
    Changed(String),
    /// The request could not be built, for instance from metadata that no header can carry.
    #[error("{0}")]
    Request(String),
    /// The keys have expired, and whoever gave them gives no others.
    #[error("the credentials have expired and were not renewed: {0}")]
    Keys(String),
}

/// What it was that ended an exchange before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The way to the service, or what it said.
    Break,
    /// The connection had been used before and may have been closed by the service meanwhile.
    Stale,
    /// Nothing came, or was taken, for as long as was waited.
    Silence,
}

/// The stations of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Looking up the host's name.
    Dns,
    /// Opening the TCP connection.
    Connect,
    /// Having a proxy open the way.
    Proxy,
    /// Agreeing on keys and checking the certificate.
    Tls,
    /// Sending the request and waiting for the answer's first byte.
    FirstByte,
    /// Reading the answer's body.
    Body,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Phase::Dns => "looking up its name (DNS)",
            Phase::Connect => "connecting (TCP)",
            Phase::Proxy => "asking the proxy (CONNECT)",
            Phase::Tls => "the TLS handshake",
            Phase::FirstByte => "waiting for the first byte of the answer",
            Phase::Body => "reading the body of the answer",
        })
    }
}

impl Failure {
    /// What kind of failure this is, for the retry rule and for the exit code.
    pub fn class(&self) -> Class {
        match self {
            Failure::Service(error) => error.class(),
            Failure::Transport { phase: Phase::Tls | Phase::Proxy, cause: Cause::Break, .. } => Class::Fatal,
            Failure::Transport { .. } | Failure::Protocol(_) => Class::Retry,
            Failure::Changed(_) => Class::Conflict,
            Failure::Request(_) => Class::Fatal,
            Failure::Keys(_) => Class::Auth,
        }
    }
}

impl Error {
    /// The class of the last try's failure.
    pub fn class(&self) -> Class {
        self.failure.class()
    }

    /// The service's error code, if it answered.
    pub fn code(&self) -> Option<&str> {
        match &self.failure {
            Failure::Service(error) => Some(&error.code),
            Failure::Transport { .. }
            | Failure::Protocol(_)
            | Failure::Changed(_)
            | Failure::Request(_)
            | Failure::Keys(_) => None,
        }
    }

    /// The phase in which the exchange broke off, if it did.
    pub fn phase(&self) -> Option<Phase> {
        match &self.failure {
            Failure::Transport { phase, .. } => Some(*phase),
            Failure::Service(_)
            | Failure::Protocol(_)
            | Failure::Changed(_)
            | Failure::Request(_)
            | Failure::Keys(_) => None,
        }
    }
}

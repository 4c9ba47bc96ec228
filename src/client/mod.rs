//! One bucket as one shard talks to it: this is where `s3proto` (what to say) and the sockets (how to carry it) meet.
//!
//! A shard has a [`Client`] for each of its sides, with connections of its own, so nothing here is shared between cores
//! but two words of knowledge about the endpoint ([`Abilities`]). `http.rs` opens connections and says in which phase one
//! failed; `pool.rs` keeps idle ones; `send.rs` signs, sends, classifies and retries, in one loop for every operation;
//! `operations.rs` is the list of those, `deletes.rs` of those that delete. Redirects are never followed here: a header that carries a signature or a session
//! token goes to the configured endpoint and nowhere else (reliability.md short list, row 11).

mod deletes;
mod error;
mod http;
pub mod login;
mod operations;
mod pool;
mod send;
mod tls;
mod watched;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use ropeway_s3proto::endpoint::Address;
use ropeway_s3proto::retry::RetryPolicy;
use ropeway_s3proto::sign::{Credentials, Signer};

pub use error::{Error, Failure, Phase};
pub use http::{Frames, RequestBody};
pub use operations::{Checks, CompletedPart, ObjectHead, Uploaded};
pub use tls::{TlsError, TlsSettings};

use pool::Connections;

/// Everything needed to talk to one bucket; each shard builds its [`Client`] from a copy.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Where requests go: one bucket at one endpoint.
    pub address: Address,
    /// None sends requests unsigned.
    pub credentials: Option<Credentials>,
    /// The region that signatures name.
    pub region: String,
    /// For https.
    pub tls: TlsSettings,
    /// When an operation is tried again.
    pub retry: RetryPolicy,
    /// How long each phase of a request may take.
    pub timeouts: Timeouts,
    /// What this endpoint was seen to do; shared by the run's shards.
    pub abilities: Arc<Abilities>,
}

/// Limits on waiting. A transfer has no limit on its whole duration, only on standing still.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For DNS, TCP and TLS together, per address tried.
    pub connect: Duration,
    /// Without a byte of the request taken, or of the answer given. Completing an upload of many parts may take a while.
    pub first_byte: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_millis(3_100),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(30),
        }
    }
}

/// What an endpoint was seen to do, learnt once in a run from its behaviour and never from its name.
#[derive(Debug, Default)]
pub struct Abilities {
    checksum: AtomicU8,
}

/// How uploads to an endpoint are proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadProof {
    /// Not known yet: send the CRC64NVME and see whether the service answers with its own.
    Unknown,
    /// The service computes CRC64NVME too and echoes it.
    Checksum,
    /// It does not: Content-MD5 on the way up, and the ETag compared with the MD5.
    Md5,
}

impl Abilities {
    /// How uploads are proven here.
    pub fn upload_proof(&self) -> UploadProof {
        match self.checksum.load(Ordering::Relaxed) {
            1 => UploadProof::Checksum,
            2 => UploadProof::Md5,
            _ => UploadProof::Unknown,
        }
    }

    /// Remembers whether the service echoed the checksum that it was sent.
    pub fn learn_checksum_echo(&self, echoed: bool) {
        self.checksum.store(if echoed { 1 } else { 2 }, Ordering::Relaxed);
    }
}

/// One shard's access to one bucket.
pub struct Client {
    settings: ClientSettings,
    signer: RefCell<Signer>,
    connections: Connections,
    /// Seconds to add to our clock to get the service's, learnt from a refusal.
    clock_offset_s: Cell<i64>,
    /// Requests sent, every try counted.
    pub requests: Cell<u64>,
    /// Tries after the first.
    pub retries: Cell<u64>,
}

impl Client {
    /// A client with no connection yet; the first request opens one.
    pub fn new(settings: ClientSettings) -> Client {
        Client {
            signer: RefCell::new(Signer::new(settings.credentials.clone(), settings.region.clone())),
            connections: Connections::new(&settings),
            clock_offset_s: Cell::new(0),
            requests: Cell::new(0),
            retries: Cell::new(0),
            settings,
        }
    }

    /// How uploads to this bucket are proven, as far as is known.
    pub fn abilities(&self) -> &Abilities {
        &self.settings.abilities
    }

    /// The region that the service accepted; it may have taught us another than was configured.
    pub fn region(&self) -> String {
        self.signer.borrow().region().to_owned()
    }
}

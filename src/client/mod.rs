//! One bucket as one shard talks to it: this is where `s3proto` (what to say) and the sockets (how to carry it) meet.
//!
//! A shard has a [`Client`] for each of its sides, with connections of its own, so nothing here is shared between cores
//! but a few words about the endpoint ([`Abilities`] and [`Pace`]). `peer.rs` opens connections and says in which phase one
//! failed; `wire.rs` speaks HTTP on one; `pool.rs` keeps idle ones; `pace.rs` says how many requests may be under way;
//! `send.rs` signs, sends, classifies and retries, in one loop for every operation; `operations.rs` is the list of those,
//! `deletes.rs` of those that delete, `copies.rs` of those that the service carries out alone, `tags.rs` of those about tags.
//! `login.rs` says whose keys sign (`profiles.rs` reads the files), and `keyring.rs` gets those that have to be asked for and
//! renews them. Redirects are never followed here: a header that carries a signature or a session
//! token goes to the configured endpoint and nowhere else (reliability.md short list, row 11).

mod body;
mod copies;
mod deletes;
mod error;
pub mod keyring;
pub mod login;
mod operations;
mod pace;
mod peer;
mod pool;
pub mod profiles;
pub mod proxy;
mod send;
mod session;
mod tags;
mod tls;
mod wire;

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ropeway_s3proto::endpoint::Address;
use ropeway_s3proto::head::HeadText;
use ropeway_s3proto::name::Bucket;
use ropeway_s3proto::op::Protection;
use ropeway_s3proto::retry::RetryPolicy;
use ropeway_s3proto::sign::{Credentials, Scheme, Signer};

pub use body::RequestBody;
pub use copies::Copied;
pub use error::{Cause, Error, Failure, Phase};
pub use operations::{Checks, CompletedPart, ObjectHead, ObjectParts, Uploaded};
pub use pace::{Pace, PaceNow};
pub use tls::{TlsError, TlsSettings};

use keyring::Keys;
use pace::Gate;
use pool::Connections;
use proxy::Proxies;

/// Everything needed to talk to one bucket; each shard builds its [`Client`] from a copy.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Where requests go: one bucket at one endpoint.
    pub address: Address,
    /// What signs the requests.
    pub keys: Keys,
    /// What signatures are for.
    pub scheme: Scheme,
    /// The region that signatures name.
    pub region: String,
    /// For https.
    pub tls: TlsSettings,
    /// What stands between us and the endpoint.
    pub proxies: Proxies,
    /// What guards the objects: who may read them, how they are encrypted.
    pub protection: Arc<Protection>,
    /// How many keys a page of a listing is asked to have.
    pub page_keys: u32,
    /// When an operation is tried again.
    pub retry: RetryPolicy,
    /// How long each phase of a request may take.
    pub timeouts: Timeouts,
    /// What this endpoint was seen to do; shared by the run's shards.
    pub abilities: Arc<Abilities>,
    /// How many requests the endpoint bears; shared by the run's shards, and by both sides where they are one endpoint.
    pub pace: Arc<Pace>,
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
    /// For one try of a request, from its beginning to the end of its answer. None is as long as something moves.
    pub attempt: Option<Duration>,
    /// For a request with all its tries.
    pub operation: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_millis(3_100),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(30),
            attempt: None,
            operation: None,
        }
    }
}

/// What an endpoint was seen to do, learnt once in a run from its behaviour and never from its name.
#[derive(Debug, Default)]
pub struct Abilities {
    checksum: AtomicU8,
    plain_etags: AtomicU8,
    etags_of_parts: AtomicU8,
    upload_tags: AtomicU8,
    copy_tags: AtomicU8,
    parts_untold: AtomicBool,
    copies: AtomicU8,
    copies_refusal: OnceLock<String>,
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

/// Which ETags: services that compute the one as AWS does may compute the other in a way of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ETagsOf {
    /// Objects and parts that were sent in one piece.
    Contents,
    /// Objects that were put together.
    Parts,
}

/// What ETags that look like MD5s turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ETagsAre {
    /// None was compared yet.
    Unknown,
    /// One was equal to the MD5 of what it stands for.
    Md5,
    /// The first one compared was not, though the CRC64NVME of the same content agreed: they only look like it.
    Opaque,
}

/// Where tags are given to an object that is yet to be, and may get lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagsGivenTo {
    /// A multipart upload, when it is opened.
    Upload,
    /// A copy that the service makes in one piece.
    Copy,
}

/// What becomes of such tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenTags {
    /// Not known yet.
    Unknown,
    /// The object has them.
    Kept,
    /// The service forgets them, as Ceph does up to Pacific: the object has to be given them when it is there.
    Lost,
}

/// Whether the service copies what it is asked to, out of the run's source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    /// Not tried yet.
    Unknown,
    /// It has done so.
    Made,
    /// It refused the first that it was asked for: it may not, or cannot, read there.
    Refused,
}

impl Abilities {
    /// Those of a directory bucket: it heeds checksums, takes no Content-MD5, and its ETags are no MD5s, whatever they look
    /// like.
    pub fn of_directory_bucket() -> Abilities {
        let abilities = Abilities::default();
        abilities.learn_checksum_echo(true);
        abilities.learn_etags(ETagsOf::Contents, false);
        abilities.learn_etags(ETagsOf::Parts, false);
        abilities
    }

    /// Whether the service makes copies, as far as is known.
    pub fn copies(&self) -> Copies {
        match self.copies.load(Ordering::Relaxed) {
            1 => Copies::Made,
            2 => Copies::Refused,
            _ => Copies::Unknown,
        }
    }

    /// What becomes of tags, as far as is known.
    pub fn given_tags(&self, to: TagsGivenTo) -> GivenTags {
        match self.tags_word(to).load(Ordering::Relaxed) {
            1 => GivenTags::Kept,
            2 => GivenTags::Lost,
            _ => GivenTags::Unknown,
        }
    }

    /// Remembers what became of the first.
    pub fn learn_given_tags(&self, to: TagsGivenTo, kept: bool) {
        self.tags_word(to).store(if kept { 1 } else { 2 }, Ordering::Relaxed);
    }

    fn tags_word(&self, to: TagsGivenTo) -> &AtomicU8 {
        match to {
            TagsGivenTo::Upload => &self.upload_tags,
            TagsGivenTo::Copy => &self.copy_tags,
        }
    }

    /// Remembers that it made a copy.
    pub fn learn_copies_made(&self) {
        if self.copies.load(Ordering::Relaxed) == 0 {
            let _ = self.copies.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Remembers that it refused a copy, for this reason; unless it has made one, so that the reason lies in the object.
    pub fn learn_copies_refused(&self, reason: String) {
        if self.copies.compare_exchange(0, 2, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let _ = self.copies_refusal.set(reason);
        }
    }

    /// Why it makes no copies, if it does not.
    pub fn copies_refusal(&self) -> Option<&str> {
        self.copies_refusal.get().map(String::as_str)
    }

    /// What the service's ETags are, as far as is known.
    pub fn etags(&self, of: ETagsOf) -> ETagsAre {
        match self.etags_word(of).load(Ordering::Relaxed) {
            1 => ETagsAre::Md5,
            2 => ETagsAre::Opaque,
            _ => ETagsAre::Unknown,
        }
    }

    /// Remembers what the first ETag that was compared turned out to be, and says what is remembered: of two shards that
    /// learn at the same time, the first one is right.
    pub fn learn_etags(&self, of: ETagsOf, md5: bool) -> ETagsAre {
        let word = self.etags_word(of);
        // Looked at first: after the first answers nobody writes to it, so no two cores contend for it.
        if word.load(Ordering::Relaxed) == 0 {
            let learnt = if md5 { 1 } else { 2 };
            let _ = word.compare_exchange(0, learnt, Ordering::Relaxed, Ordering::Relaxed);
        }
        self.etags(of)
    }

    fn etags_word(&self, of: ETagsOf) -> &AtomicU8 {
        match of {
            ETagsOf::Contents => &self.plain_etags,
            ETagsOf::Parts => &self.etags_of_parts,
        }
    }

    /// Whether the service is known not to list the parts of objects.
    pub fn parts_untold(&self) -> bool {
        self.parts_untold.load(Ordering::Relaxed)
    }

    /// Remembers that the service does not list the parts of objects.
    pub fn learn_parts_untold(&self) {
        self.parts_untold.store(true, Ordering::Relaxed);
    }

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

/// Which of the keys that are renewed this client signs with.
struct Held {
    number: Cell<u64>,
    /// From this second on, newer ones are looked for. Keys that are not renewed are never due.
    due_at_s: Cell<i64>,
}

impl Held {
    fn take(keys: &Keys) -> (Option<Credentials>, Held) {
        let (credentials, number, due_at_s) = match keys {
            Keys::None => (None, 0, i64::MAX),
            Keys::Fixed(credentials) => (Some(credentials.clone()), 0, i64::MAX),
            Keys::Renewed(keyring) => {
                let latest = keyring.latest();
                (Some(latest.credentials.clone()), latest.number, latest.due_at_s)
            }
        };
        (credentials, Held { number: Cell::new(number), due_at_s: Cell::new(due_at_s) })
    }
}

/// One shard's access to one bucket.
pub struct Client {
    settings: ClientSettings,
    signer: RefCell<Signer>,
    connections: Connections,
    /// Heads that were sent: the memory for the next ones.
    spare_heads: RefCell<Vec<HeadText>>,
    gate: Gate,
    held: Held,
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
        let (credentials, held) = Held::take(&settings.keys);
        Client {
            signer: RefCell::new(Signer::new(credentials, settings.region.clone()).with_scheme(settings.scheme)),
            held,
            connections: Connections::new(&settings),
            spare_heads: RefCell::default(),
            gate: Gate::new(settings.pace.clone()),
            clock_offset_s: Cell::new(0),
            requests: Cell::new(0),
            retries: Cell::new(0),
            settings,
        }
    }

    /// The bucket.
    pub fn bucket(&self) -> &Bucket {
        self.settings.address.bucket()
    }

    /// What guards its objects.
    pub fn protection(&self) -> &Protection {
        &self.settings.protection
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

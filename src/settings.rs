//! What a command means once flags, environment and machine are known. Decided once, in `cli`; no engine code sees a flag.

use std::path::PathBuf;
use std::time::Duration;

// Whoever makes settings needs these too, and should need no second package for it.
pub use fancy_regex::Regex;
pub use ropeway_io::file::DirectIo;
pub use ropeway_io::probe::IoChoice;
pub use ropeway_s3proto::checksum::Algorithm;
pub use ropeway_s3proto::endpoint::{AwsVariant, Endpoint};
pub use ropeway_s3proto::name::Bucket;
pub use ropeway_s3proto::op::{CustomerKey, Encryption, ObjectMetadata};
pub use ropeway_s3proto::sign::{Credentials, Secret};

pub use crate::client::login::Identity;
pub use crate::client::proxy::Proxies;

/// One sync, or one comparison.
#[derive(Debug, Clone)]
pub struct SyncSettings {
    /// Where data is read.
    pub source: Place,
    /// Where data is written.
    pub target: Place,
    /// What is to be done about the differences between the two.
    pub task: Task,
    /// List nothing, and do what this plan says.
    pub from_plan: Option<PathBuf>,
    /// Say what would be done, and change nothing.
    pub dry_run: bool,
    /// What proves a content, and by what one is held to have changed.
    pub integrity: Integrity,
    /// Which objects of the source count.
    pub filters: Filters,
    /// Which versions of them.
    pub versions: Versions,
    /// What objects are given beside their content, and when they may be written.
    pub attributes: Attributes,
    /// What is deleted at the end.
    pub deletes: Deletes,
    /// Caps on memory, cores and concurrency.
    pub limits: Limits,
    /// How fast it may go.
    pub rates: Rates,
    /// How long is waited, and how often tried again.
    pub patience: Patience,
    /// The first warning about an object ends the run, as an error.
    pub warnings_are_errors: bool,
    /// What is remembered for the next run.
    pub journal: JournalSettings,
    /// Which file backend to use.
    pub io: IoChoice,
    /// Whether large files go past the page cache.
    pub direct_io: DirectIo,
    /// Which of the things that happen to single objects are reported.
    pub events: Events,
    /// How often progress is reported.
    pub progress_interval: Duration,
}

impl SyncSettings {
    /// A sync that copies what is new or different, and wishes nothing else.
    pub fn between(source: Place, target: Place) -> SyncSettings {
        SyncSettings {
            source,
            target,
            task: Task::Sync,
            from_plan: None,
            dry_run: false,
            integrity: Integrity::default(),
            filters: Filters::default(),
            versions: Versions::Latest,
            attributes: Attributes::default(),
            deletes: Deletes::default(),
            limits: Limits::default(),
            rates: Rates::default(),
            patience: Patience::default(),
            warnings_are_errors: false,
            journal: JournalSettings::default(),
            io: IoChoice::Auto,
            direct_io: DirectIo::Auto,
            events: Events::default(),
            progress_interval: Duration::from_millis(200),
        }
    }
}

/// What is to be done about differences.
#[derive(Debug, Clone, Copy)]
pub enum Task {
    /// Make the target equal to the source.
    Sync,
    /// Say what they are, and change nothing.
    Verify(Depth),
    /// Say of every object of the source whether it is in sync, and change nothing.
    Report(Report),
}

/// What is reported beside whether an object is there and has the same content.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Whether its headers and user metadata are the same.
    pub metadata: bool,
    /// Whether its tags are.
    pub tags: bool,
}

/// How contents are compared.
#[derive(Debug, Clone, Copy)]
pub enum Depth {
    /// By what the services say of them, and by the bytes of local files.
    Checksums,
    /// By the bytes of both sides, of so many objects in ten thousand; of the others as above. The seed decides which.
    Bytes {
        /// 10,000 is all of them.
        share: u32,
        /// The same seed chooses the same keys.
        seed: u64,
    },
}

/// What a run remembers for the next one. By default, nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalSettings {
    /// Where journals are kept. None keeps none.
    pub state_directory: Option<PathBuf>,
    /// Removes what the run before left unfinished, and leaves nothing unfinished itself.
    pub afresh: bool,
}

/// Looking for what earlier runs left, and removing it.
#[derive(Debug, Clone)]
pub struct CleanupSettings {
    /// Where to look.
    pub places: Vec<Place>,
    /// How long is waited, and how often tried again.
    pub patience: Patience,
    /// Where the journals are.
    pub state_directory: Option<PathBuf>,
    /// Only what is at least so old. None is the default for each origin.
    pub older_than: Option<Duration>,
    /// Open uploads of unknown origin, too.
    pub everything: bool,
    /// Say what would be done, and change nothing.
    pub dry_run: bool,
}

/// Where a sync reads or writes.
#[derive(Debug, Clone)]
pub enum Place {
    /// A directory, or as a source a single file.
    Local(PathBuf),
    /// A prefix of a bucket, or as a source a single object.
    Bucket(Box<BucketPlace>),
}

/// A prefix of a bucket, with all that is needed to reach it.
#[derive(Debug, Clone)]
pub struct BucketPlace {
    /// The bucket.
    pub bucket: Bucket,
    /// A literal prefix; no slash is added to it.
    pub prefix: String,
    /// Where the service answers.
    pub endpoint: EndpointChoice,
    /// The region that signatures name; learnt from the service if wrong.
    pub region: String,
    /// Who signs the requests.
    pub identity: Identity,
    /// Say in every request that whoever makes it pays for it.
    pub requester_pays: bool,
    /// Ask for path-style addresses where the service offers both.
    pub force_path_style: bool,
    /// What stands between us and a service elsewhere.
    pub proxies: Proxies,
    /// A file of certificates to trust instead of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// A key of the person's own with which everything there is, or will be, encrypted (SSE-C).
    pub customer_key: Option<Box<CustomerKey>>,
}

/// Which service a bucket lives on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointChoice {
    /// AWS, in the place's region, or in the bucket's if that is another.
    Aws(AwsVariant),
    /// One that is already running.
    Service(Endpoint),
    /// The built-in server, started for this run, its objects kept in this directory.
    EmbeddedDirectory(PathBuf),
    /// The built-in server, started for this run, its objects gone at the end.
    EmbeddedMemory,
}

impl Place {
    /// The same place, if it is in a bucket with this key.
    #[must_use]
    pub fn with_customer_key(mut self, key: Option<CustomerKey>) -> Place {
        if let Place::Bucket(place) = &mut self {
            place.customer_key = key.map(Box::new);
        }
        self
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Local(path) => write!(f, "{}", path.display()),
            Place::Bucket(place) => write!(f, "s3://{}/{}", place.bucket, place.prefix),
        }
    }
}

/// Caps on what a run may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Memory for buffers, connections and listings.
    pub memory_bytes: u64,
    /// Threads, each pinned to a core.
    pub shards: usize,
    /// Key ranges listed at the same time, over all shards.
    pub list_threads: usize,
    /// Keys on a page of a listing.
    pub page_keys: u32,
    /// Objects under way at the same time, over all shards.
    pub worker_size: usize,
    /// Parts under way at the same time, over all shards.
    pub max_parallel_uploads: usize,
    /// Objects of this size and more go in parts.
    pub multipart_threshold_bytes: u64,
    /// The wished size of a part.
    pub part_bytes: u64,
}

/// Objects under way on each core, unless the person says otherwise.
pub const WORKERS_PER_SHARD: usize = 16;

/// Key ranges listed at the same time, unless the person says otherwise or there are more cores.
pub const LIST_THREADS: usize = 8;

/// The most that S3 puts on a page of a listing.
pub const PAGE_KEYS: u32 = 1_000;

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory_bytes: 256 << 20,
            shards: 1,
            list_threads: LIST_THREADS,
            page_keys: PAGE_KEYS,
            worker_size: WORKERS_PER_SHARD,
            max_parallel_uploads: WORKERS_PER_SHARD,
            multipart_threshold_bytes: 8 << 20,
            part_bytes: 8 << 20,
        }
    }
}

/// The most that is done in a second, over all shards. None is as much as can be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Objects written, copied or deleted.
    pub objects_per_s: Option<u64>,
    /// Bytes read from the source.
    pub bytes_per_s: Option<u64>,
}

/// What the objects of a target bucket are given beside their content, and when they may be written. By default: what the
/// source's objects have, or what a file's name and time tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// What every object is given in place of what the source's has. User metadata that is given replaces all of the
    /// source's; the tags stand in `tagging`.
    pub given: ObjectMetadata,
    /// Of the source's objects, what is left behind.
    pub dropped: Dropped,
    /// Files are given no Content-Type that is guessed from their names.
    pub no_guessed_type: bool,
    /// The source's modification time is added to the user metadata, under the name that s3sync gives it.
    pub with_modified_time: bool,
    /// The canned ACL.
    pub acl: Option<&'static str>,
    /// How the service encrypts.
    pub encryption: Option<Encryption>,
    /// When an object may be written, or deleted.
    pub overwrite: Overwrite,
    /// The target's service is asked to copy by itself, where both sides are buckets.
    pub server_side_copy: bool,
    /// The tags of objects that need no copying are compared, too, and made equal.
    pub sync_tags: bool,
    /// Archived objects, which cannot be read, are left out without a warning.
    pub quiet_about_archived: bool,
}

/// What is not carried over from the source's objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// The seven system headers.
    pub system: bool,
    /// User metadata.
    pub user: bool,
    /// Tags.
    pub tags: bool,
}

/// When what is at the target may be replaced or deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// Whenever the plan says so.
    #[default]
    Always,
    /// Only if it is still what was listed.
    IfUnchanged,
    /// Never: objects are written only where there is none.
    Never,
}

/// How long a service is waited for, and how often a request is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Tries of one request in all, the first one included.
    pub attempts_max: u32,
    /// The longest wait after the first failure; it doubles with each.
    pub initial_backoff: Duration,
    /// For TCP, and for TLS, per address tried.
    pub connect_timeout: Duration,
    /// Without a byte from the service while one is due. None is what the client thinks right for each phase.
    pub read_timeout: Option<Duration>,
    /// For one try of a request, its answer's content included.
    pub attempt_timeout: Option<Duration>,
    /// For a request with all its tries.
    pub operation_timeout: Option<Duration>,
    /// How often an object is started over when no try of a request got through.
    pub restarts_max: u32,
    /// Before each such start.
    pub restart_pause: Duration,
    /// Whether an answer that stands still in its middle is given less time than one that has not begun.
    pub stalls_end_a_try: bool,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            attempts_max: 10,
            initial_backoff: Duration::from_millis(100),
            connect_timeout: Duration::from_millis(3_100),
            read_timeout: None,
            attempt_timeout: None,
            operation_timeout: None,
            restarts_max: 5,
            restart_pause: Duration::from_secs(1),
            stalls_end_a_try: true,
        }
    }
}

/// Which versions of an object are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Versions {
    /// What its key means now.
    #[default]
    Latest,
    /// All of them, one after the other, from one bucket that keeps versions to another.
    All,
    /// What its key meant at this time, in nanoseconds since 1970.
    At(i64),
}

/// Which objects of the source count. By default, all of them.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    /// Only what was modified before this time, in nanoseconds since 1970.
    pub modified_before_ns: Option<i64>,
    /// Only what was modified at this time or later, in nanoseconds since 1970.
    pub modified_from_ns: Option<i64>,
    /// Only what is smaller than this.
    pub below_bytes: Option<u64>,
    /// Only what has this size or more.
    pub from_bytes: Option<u64>,
    /// By the relative key.
    pub key: Patterns,
    /// By the Content-Type, for which each object that gets so far is asked.
    pub content_type: Patterns,
    /// By the user metadata, for which each object that gets so far is asked.
    pub metadata: Patterns,
    /// By the tags, for which each object that gets so far is asked.
    pub tags: Patterns,
    /// No symbolic link of a local source.
    pub ignore_symlinks: bool,
}

/// What a text must hold, and what it must not.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    /// Found anywhere in the text.
    pub include: Option<Regex>,
    /// Found nowhere in it.
    pub exclude: Option<Regex>,
}

impl Patterns {
    /// Whether there is anything to be matched.
    pub fn any(&self) -> bool {
        self.include.is_some() || self.exclude.is_some()
    }
}

impl Filters {
    /// Whether something can be told from a listing alone.
    pub fn any_listed(&self) -> bool {
        self.modified_before_ns.is_some()
            || self.modified_from_ns.is_some()
            || self.below_bytes.is_some()
            || self.from_bytes.is_some()
            || self.key.any()
    }

    /// Whether an object has to be asked for what no listing shows.
    pub fn any_asked(&self) -> bool {
        self.content_type.any() || self.metadata.any() || self.tags.any()
    }
}

/// What is deleted when all else is done, and what holds it back.
#[derive(Debug, Clone, Copy)]
pub struct Deletes {
    /// What the target has and the source does not.
    pub extras: Extras,
    /// What was copied and proven, at the source.
    pub copied: Copied,
    /// With more than this to be deleted, nothing is.
    pub max: Option<DeletesMax>,
    /// A source that lists nothing is taken at its word.
    pub allow_empty_source: bool,
    /// When the run has lasted for so long, its listings are old, and the source is asked again about each key.
    pub look_up_after: Duration,
}

/// What becomes of the target's objects that the source does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extras {
    /// They stay.
    Keep,
    /// They go, but for those that a filter excludes.
    Delete,
    /// They go, those that a filter excludes as well.
    DeleteExcluded,
}

/// What becomes of the source's objects that were copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// They stay.
    Keep,
    /// They go, if the copy was proven and they still are what was copied.
    Delete,
}

/// The most that is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletesMax {
    /// So many objects, of both sides together.
    Objects(u64),
    /// So many in a hundred of the objects that a side lists.
    Percent(u8),
}

impl Default for Deletes {
    fn default() -> Deletes {
        Deletes {
            extras: Extras::Keep,
            copied: Copied::Keep,
            max: None,
            allow_empty_source: false,
            look_up_after: Duration::from_secs(60),
        }
    }
}

impl Deletes {
    /// Whether anything may be deleted at all.
    pub fn any(&self) -> bool {
        self.extras != Extras::Keep || self.copied != Copied::Keep
    }
}

/// What proves a content, and by what one is held to have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Integrity {
    /// What is copied.
    pub check: Check,
    /// What the listing of the target shows is not looked at, and if nothing else needs it, the target is not listed.
    pub ignore_target_listing: bool,
    /// The target is asked for each object that would be copied, right before that.
    pub head_each_target: bool,
    /// Compare ETags with the MD5 of the content, beside the checksums.
    pub verify_etags: bool,
    /// Compare what covers parts: ETags of parts, and composite checksums.
    pub verify_multipart: bool,
    /// Compare the checksum that uploads are given with what the service makes of them.
    pub verify_checksums: bool,
    /// The checksum that uploads are given. None is CRC64NVME, where the service knows it.
    pub upload_with: Option<Algorithm>,
    /// The checksum of an object in parts covers its bytes and not the parts' checksums, where both are possible.
    pub full_object: bool,
    /// A source without a checksum is worth a warning.
    pub source_checksum_expected: bool,
    /// Send Content-MD5 where the service heeds no checksum.
    pub content_md5: bool,
    /// Keep the parts in which an object was uploaded.
    pub auto_chunksize: bool,
}

/// What is copied, of that which both sides have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Check {
    /// What has another size, or is newer.
    #[default]
    Newer,
    /// What has another size.
    Size,
    /// What has another ETag.
    ETag,
    /// What is newer and has another ETag.
    NewerAndETag,
    /// What has another checksum.
    Checksum(Algorithm),
    /// What is newer and has another checksum.
    NewerAndChecksum(Algorithm),
}

impl Default for Integrity {
    fn default() -> Integrity {
        Integrity {
            check: Check::default(),
            ignore_target_listing: false,
            head_each_target: false,
            verify_etags: true,
            verify_multipart: true,
            verify_checksums: true,
            upload_with: None,
            full_object: false,
            source_checksum_expected: false,
            content_md5: true,
            auto_chunksize: false,
        }
    }
}

/// Which of the things that happen to single objects are reported. Failures and warnings always are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Events {
    /// Every object copied.
    pub transferred: bool,
    /// Every object left alone.
    pub skipped: bool,
    /// Each object is a span of the log.
    pub spans: bool,
}

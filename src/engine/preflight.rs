//! Before the shards start: each side is looked at once, so that what is wrong with a side as a whole is said once, in one
//! sentence with its remedy, and nothing has been changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ropeway_io::path::{FileFacts, Root};
use ropeway_s3proto::endpoint::{self, Address, AwsVariant, Endpoint, choose_addressing};
use ropeway_s3proto::error::Class;
use ropeway_s3proto::name::Key;
use ropeway_s3proto::op::{BucketVersioning, ListPage, Protection};
use ropeway_s3proto::retry::RetryPolicy;
use ropeway_s3proto::sign::{Credentials, Scheme, Secret};

use super::budget::Budget;
use super::range::Sides;
use crate::client::keyring::{Chain, Keyring, KeyringError, Keys};
use crate::client::{self, Abilities, Client, ClientSettings, ETagsAre, ETagsOf, Pace, Phase, Timeouts, TlsSettings};
use crate::entry::{Entry, SideName};
use crate::error::ExitCode;
use crate::listing;
use crate::plan::compare::Direction;
use crate::report::{Concurrency, RequestLimit};
use crate::serve::{ServeSettings, Server, Storage};
use crate::settings::{
    BucketPlace, Check, EndpointChoice, Extras, Identity, PAGE_KEYS, Patience, Place, SyncSettings, Task, Versions,
};
use crate::transfer::{self, BucketSide, LocalSide, Side};

/// Why a run does not begin.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// What is wrong and what to do about it.
    pub text: String,
    /// The exit code for it.
    pub exit_code: ExitCode,
}

/// Both sides, looked at and ready to be opened by every shard.
pub(super) struct Ready {
    source: ReadySide,
    target: ReadySide,
    pub(super) sides: Sides,
    pub(super) direction: Direction,
    pub(super) paces: Paces,
    /// Built-in servers that run as long as this does.
    _servers: Vec<Server>,
}

enum ReadySide {
    Local(PathBuf),
    Bucket(Box<ClientSettings>, String),
}

/// While a side is looked at, nobody waits long for one that is not there.
fn preflight_retry(run: RetryPolicy) -> RetryPolicy {
    RetryPolicy {
        attempts_max: run.attempts_max.min(3),
        base: run.base.saturating_mul(2),
        cap: Duration::from_secs(2),
        elapsed_max: Duration::from_secs(15),
    }
}

/// Once the transfer is under way, a service gets the time to recover.
fn run_retry(patience: &Patience) -> RetryPolicy {
    RetryPolicy {
        attempts_max: patience.attempts_max,
        base: patience.initial_backoff,
        cap: Duration::from_secs(20),
        // The tries bound the waiting; this bounds tries that are slow themselves, such as parts of gigabytes.
        elapsed_max: patience.operation_timeout.unwrap_or(Duration::from_secs(1_800)),
    }
}

fn timeouts(patience: &Patience) -> Timeouts {
    let default = Timeouts::default();
    Timeouts {
        connect: patience.connect_timeout,
        first_byte: patience.read_timeout.unwrap_or(default.first_byte),
        idle: match patience.stalls_end_a_try {
            true => patience.read_timeout.unwrap_or(default.idle),
            false => patience.read_timeout.unwrap_or(default.first_byte),
        },
        attempt: patience.attempt_timeout,
        operation: patience.operation_timeout,
    }
}

/// What becomes of a target that is not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Missing {
    /// It is made.
    #[default]
    Made,
    /// It is taken for an empty one, and not made.
    Imagined,
    /// There is nothing to compare with.
    Refused,
}

/// Looks at both sides.
pub(super) async fn look(settings: &SyncSettings, budget: &Budget) -> Result<Ready, Refusal> {
    if let Task::Sync = settings.task {
        refuse_overlap(settings)?;
    }
    let missing = match (settings.task, settings.dry_run) {
        (Task::Verify(_) | Task::Report(_), _) => Missing::Refused,
        (Task::Sync, true) => Missing::Imagined,
        (Task::Sync, false) => Missing::Made,
    };
    let mut servers = Embedded { missing, ..Embedded::default() };
    let way = Way {
        patience: &settings.patience,
        shards: budget.shards,
        requests: budget.requests(),
        page_keys: settings.limits.page_keys,
    };
    let (source, single) = look_at_source(settings, way, &mut servers).await?;
    let source = match (source, &settings.source, &settings.target) {
        (ReadySide::Bucket(reached, prefix), Place::Bucket(place), Place::Local(_)) if single.is_none() => {
            let prefix = directory_of_prefix(place, &reached, prefix, settings.versions).await?;
            ReadySide::Bucket(reached, prefix)
        }
        (source, ..) => source,
    };
    if settings.deletes.extras != Extras::Keep {
        refuse_careless_deletes(settings, single.is_some())?;
    }
    let (mut target, target_absent) = look_at_target(settings, way, &mut servers).await?;
    match settings.versions {
        Versions::Latest => {}
        Versions::At(_) => keeps_versions(&settings.source, SideName::Source, &source).await?,
        Versions::All => {
            keeps_versions(&settings.source, SideName::Source, &source).await?;
            keeps_versions(&settings.target, SideName::Target, &target).await?;
        }
    }
    share_pace(&source, &mut target);
    share_payer(&source, &mut target);
    let direction = match (&source, &target) {
        (ReadySide::Local(_), ReadySide::Bucket(..)) => Direction::Upload,
        (ReadySide::Bucket(..), ReadySide::Local(_)) => Direction::Download,
        (ReadySide::Bucket(..), ReadySide::Bucket(..)) => Direction::BucketToBucket,
        (ReadySide::Local(_), ReadySide::Local(_)) => Direction::LocalToLocal,
    };
    let plan = settings.from_plan.as_deref().map(Arc::from);
    // Whatever the target has is replaced by what was there at a moment, unless it is to be compared.
    let replaces_all = matches!(settings.versions, Versions::At(_)) && settings.integrity.check == Check::Newer;
    let lists_target = !(settings.integrity.ignore_target_listing || replaces_all) || settings.deletes.any();
    let sides = Sides { single, lists_target: lists_target && !target_absent, plan, own_state: own_state(settings) };
    let paces = Paces { source: source.pace(), target: target.pace() };
    Ok(Ready { source, target, sides, direction, paces, _servers: servers.servers })
}

/// Refuses a side that is to give or take versions, and does not keep them.
async fn keeps_versions(place: &Place, name: SideName, side: &ReadySide) -> Result<(), Refusal> {
    let (Place::Bucket(place), ReadySide::Bucket(settings, _)) = (place, side) else {
        return Err(Refusal {
            text: format!("the {name} is no bucket, and keeps no versions"),
            exit_code: ExitCode::Usage,
        });
    };
    let client = Client::new(ClientSettings { retry: preflight_retry(settings.retry), ..(**settings).clone() });
    let state = match client.versioning().await {
        Ok(BucketVersioning::Enabled) => return Ok(()),
        Ok(BucketVersioning::Suspended) => "suspended",
        Ok(BucketVersioning::Never) => "not enabled",
        Err(error) => return Err(refuse_bucket(place, name, &error)),
    };
    Err(Refusal {
        text: format!(
            "versioning is {state} in the {name} bucket `{}`; enable it there (PutBucketVersioning)",
            place.bucket
        ),
        exit_code: ExitCode::Configuration,
    })
}

/// One bucket that is looked at alone, and the built-in server behind it, if that is where it lives.
pub(super) async fn reach_alone(place: &BucketPlace, patience: &Patience) -> Result<(Client, Vec<Server>), Refusal> {
    let mut servers = Embedded { missing: Missing::Refused, ..Embedded::default() };
    let way = Way { patience, shards: 1, requests: 1, page_keys: PAGE_KEYS };
    let reached = reach(place, SideName::Target, way, &mut servers).await?;
    let (settings, _) = greet(place, SideName::Target, reached).await?;
    Ok((Client::new(settings), servers.servers))
}

impl Ready {
    /// The sides whose ETags turned out not to be the MD5s that they look like.
    pub(super) fn sides_with_opaque_etags(&self) -> Vec<SideName> {
        let opaque = |side: &ReadySide| match side {
            ReadySide::Local(_) => false,
            // Nobody expects others there.
            ReadySide::Bucket(settings, _) if settings.address.bucket().is_directory() => false,
            ReadySide::Bucket(settings, _) => [ETagsOf::Contents, ETagsOf::Parts]
                .into_iter()
                .any(|of| settings.abilities.etags(of) == ETagsAre::Opaque),
        };
        let sides = [(SideName::Source, &self.source), (SideName::Target, &self.target)];
        sides.into_iter().filter(|(_, side)| opaque(side)).map(|(name, _)| name).collect()
    }

    /// Why the target's service copies nothing by itself, if it was asked to and does not.
    pub(super) fn copies_refusal(&self) -> Option<String> {
        match &self.target {
            ReadySide::Local(_) => None,
            ReadySide::Bucket(settings, _) => settings.abilities.copies_refusal().map(str::to_owned),
        }
    }

    /// What a shard needs to open the sides itself. Temporary files are named with the run's tag.
    pub(super) fn openers(&self, run_tag: Option<u32>) -> (Opener, Opener) {
        (self.source.opener(None), self.target.opener(run_tag))
    }

    /// The target, for the control thread.
    pub(super) fn open_target(&self, run_tag: Option<u32>) -> Result<Side, Refusal> {
        self.target.opener(run_tag).open().map_err(|error| Refusal {
            text: format!("the target cannot be opened: {error}"),
            exit_code: ExitCode::Unreachable,
        })
    }
}

/// Opens one side, on the thread of the shard that will use it.
pub(super) struct Opener {
    side: ReadySide,
    run_tag: Option<u32>,
}

impl Opener {
    pub(super) fn open(self) -> std::io::Result<Side> {
        Ok(match self.side {
            ReadySide::Local(path) => {
                let root = Root::open(&path)?;
                let root = match self.run_tag {
                    Some(run_tag) => root.tagged(run_tag),
                    None => root,
                };
                Side::Local(LocalSide { root })
            }
            ReadySide::Bucket(settings, prefix) => {
                Side::Bucket(BucketSide { client: Client::new(*settings).into(), prefix: prefix.into() })
            }
        })
    }
}

impl ReadySide {
    fn pace(&self) -> Option<Arc<Pace>> {
        match self {
            ReadySide::Local(_) => None,
            ReadySide::Bucket(settings, _) => Some(settings.pace.clone()),
        }
    }

    fn opener(&self, run_tag: Option<u32>) -> Opener {
        let side = match self {
            ReadySide::Local(path) => ReadySide::Local(path.clone()),
            ReadySide::Bucket(settings, prefix) => ReadySide::Bucket(settings.clone(), prefix.clone()),
        };
        Opener { side, run_tag }
    }
}

async fn look_at_source(
    settings: &SyncSettings,
    way: Way<'_>,
    servers: &mut Embedded,
) -> Result<(ReadySide, Option<Entry>), Refusal> {
    match &settings.source {
        Place::Local(path) => look_at_local_source(path),
        Place::Bucket(place) => {
            let reached = reach(place, SideName::Source, way, servers).await?;
            let (reached, single) = look_at_bucket_source(place, reached, settings.versions).await?;
            let prefix = match &single {
                Some(entry) => place.prefix[..place.prefix.len() - entry.key.len()].to_owned(),
                None => place.prefix.clone(),
            };
            Ok((ReadySide::Bucket(Box::new(reached), prefix), single))
        }
    }
}

/// A directory, or a single file of one.
fn look_at_local_source(path: &Path) -> Result<(ReadySide, Option<Entry>), Refusal> {
    let refuse = |text: String, exit_code| Err(Refusal { text, exit_code });
    let facts = match std::fs::metadata(path) {
        Ok(facts) => facts,
        Err(error) => {
            let text = format!("the source `{}` cannot be read: {error}; check the path", path.display());
            return refuse(text, ExitCode::Unreachable);
        }
    };
    if facts.is_dir() {
        return Ok((ReadySide::Local(path.to_owned()), None));
    }
    if !facts.is_file() {
        let text = format!("the source `{}` is neither a directory nor a regular file", path.display());
        return refuse(text, ExitCode::Usage);
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return refuse(format!("the source `{}` has no name", path.display()), ExitCode::Usage);
    };
    let Some(name) = name.to_str() else {
        let text = format!("the name of `{}` is not UTF-8, which S3 keys must be; rename it", path.display());
        return refuse(text, ExitCode::Usage);
    };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let modified_ns = FileFacts::of(&facts).modified_ns;
    let entry = Entry { key: name.into(), size_bytes: facts.len(), modified_ns, etag: None, version: None };
    Ok((ReadySide::Local(directory.to_owned()), Some(entry)))
}

/// One question settles bucket, region, credentials and whether the person named a single object.
async fn look_at_bucket_source(
    place: &BucketPlace,
    settings: ClientSettings,
    versions: Versions,
) -> Result<(ClientSettings, Option<Entry>), Refusal> {
    let (settings, client) = greet(place, SideName::Source, settings).await?;
    if place.prefix.is_empty() || place.prefix.ends_with('/') {
        return Ok((settings, None));
    }
    let key = Key::parse(place.prefix.as_bytes()).map_err(|error| Refusal {
        text: format!("`s3://{}/{}` cannot be a source: {error}", place.bucket, place.prefix),
        exit_code: ExitCode::Usage,
    })?;
    let name = place.prefix.rsplit('/').next().unwrap_or_default();
    match client.head(&key).await {
        Ok(head) => {
            let modified_ns = head.last_modified_ns.unwrap_or_default();
            let entry =
                Entry { key: name.into(), size_bytes: head.size_bytes, modified_ns, etag: head.etag, version: None };
            Ok((settings, Some(entry)))
        }
        // It was one at some time.
        Err(error)
            if error.class() == Class::Absent
                && matches!(versions, Versions::At(_))
                && once_held(&client, &place.prefix, |key| key == place.prefix.as_bytes()).await =>
        {
            Ok((settings, Some(Entry { key: name.into(), size_bytes: 0, modified_ns: 0, etag: None, version: None })))
        }
        // No such object, or no leave to ask: then it is a prefix.
        Err(error) if matches!(error.class(), Class::Absent | Class::Denied) => {
            refuse_unlistable(place, SideName::Source)?;
            Ok((settings, None))
        }
        Err(error) => Err(refuse_bucket(place, SideName::Source, &error)),
    }
}

/// Whether a bucket has versions, deleted ones too, of a key that begins so and is wanted. The key that is the prefix itself
/// comes first, so that one page tells.
async fn once_held(client: &Client, prefix: &str, wanted: impl Fn(&[u8]) -> bool) -> bool {
    let page = client.list_versions(prefix, None).await;
    page.is_ok_and(|page| page.versions.iter().any(|version| wanted(&version.key)))
}

/// A prefix without a slash at its end, `photos`, is literal: it takes `photos/a` and `photos2`, whose relative keys are `/a`
/// and `2`. No file is called `/a`. Where everything lies in `photos/` the directory is meant, and where not, the person has
/// to say what is.
async fn directory_of_prefix(
    place: &BucketPlace,
    settings: &ClientSettings,
    prefix: String,
    versions: Versions,
) -> Result<String, Refusal> {
    if prefix.is_empty() || prefix.ends_with('/') {
        return Ok(prefix);
    }
    let client = Client::new(settings.clone());
    let directory = format!("{prefix}/");
    let last_of_directory = format!("{directory}{}", char::MAX);
    let first = client.list(&prefix, None, None, 1).await;
    let inside = client.list(&directory, None, None, 1).await;
    let behind = client.list(&prefix, Some(last_of_directory.as_bytes()), None, 1).await;
    let found = |page: Result<ListPage, client::Error>| match page {
        Ok(page) => Ok(page.rows.first().map(|row| page.key(row).to_vec())),
        Err(error) => Err(refuse_bucket(place, SideName::Source, &error)),
    };
    let (first, inside, behind) = (found(first)?, found(inside)?, found(behind)?);
    if inside.is_none() {
        let was_directory = matches!(versions, Versions::At(_)) && once_held(&client, &directory, |_| true).await;
        return Ok(if was_directory { directory } else { prefix });
    }
    if first == inside && behind.is_none() {
        return Ok(directory);
    }
    Err(Refusal {
        text: format!(
            "the source `{0}` holds `{directory}` and other keys that begin like it, and no file can be called `/...`; end the \
             source with `/` to copy the directory",
            Place::Bucket(place.clone().into()),
        ),
        exit_code: ExitCode::Usage,
    })
}

async fn look_at_target(
    settings: &SyncSettings,
    way: Way<'_>,
    servers: &mut Embedded,
) -> Result<(ReadySide, bool), Refusal> {
    match &settings.target {
        Place::Local(path) => look_at_local_target(path, servers.missing),
        Place::Bucket(place) => {
            refuse_unlistable(place, SideName::Target)?;
            let mut reached = reach(place, SideName::Target, way, servers).await?;
            reached.protection = Arc::new(super::attributes::protection(&settings.attributes, place));
            let (reached, _) = greet(place, SideName::Target, reached).await?;
            Ok((ReadySide::Bucket(Box::new(reached), place.prefix.clone()), false))
        }
    }
}

/// The target directory; made if it does not exist, but by a dry run, which then works with its nearest ancestor and lists
/// nothing.
fn look_at_local_target(path: &Path, missing: Missing) -> Result<(ReadySide, bool), Refusal> {
    match std::fs::metadata(path) {
        Ok(facts) if facts.is_dir() => Ok((ReadySide::Local(path.to_owned()), false)),
        Ok(_) => Err(Refusal {
            text: format!(
                "the target `{}` is a file, and a directory is needed; name the directory that is to hold it",
                path.display()
            ),
            exit_code: ExitCode::Usage,
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && missing == Missing::Imagined => {
            Ok((ReadySide::Local(nearest_directory(path)), true))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && missing == Missing::Made => {
            Root::create(path).map_err(|error| Refusal {
                text: format!("the target directory `{}` cannot be made: {error}", path.display()),
                exit_code: ExitCode::Unreachable,
            })?;
            Ok((ReadySide::Local(path.to_owned()), false))
        }
        Err(error) => Err(Refusal {
            text: format!("the target `{}` cannot be examined: {error}", path.display()),
            exit_code: ExitCode::Unreachable,
        }),
    }
}

fn nearest_directory(path: &Path) -> PathBuf {
    let ancestor = path.ancestors().skip(1).find(|ancestor| ancestor.is_dir());
    ancestor.filter(|ancestor| !ancestor.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// What both sides share if they name the same: built-in servers of this run, and whoever has to be asked for keys, who may
/// ask a person in turn.
#[derive(Default)]
struct Embedded {
    servers: Vec<Server>,
    running: Vec<(EndpointChoice, Endpoint)>,
    keyrings: Vec<(Chain, Arc<Keyring>)>,
    /// Nobody else is to talk to a server that lives for one run.
    secret: Option<(String, String)>,
    missing: Missing,
}

impl Embedded {
    fn start(&mut self, choice: &EndpointChoice, side: SideName) -> Result<Endpoint, Refusal> {
        if let Some((_, endpoint)) = self.running.iter().find(|(running, _)| same_service(running, choice)) {
            return Ok(endpoint.clone());
        }
        let storage = match choice {
            EndpointChoice::Aws(_) => unreachable!("nobody starts AWS"),
            EndpointChoice::Service(endpoint) => return Ok(endpoint.clone()),
            EndpointChoice::EmbeddedDirectory(directory)
                if (side == SideName::Source || self.missing == Missing::Refused) && !directory.is_dir() =>
            {
                let text =
                    format!("the {side}'s embedded store `{}` is not there; check the path", directory.display());
                return Err(Refusal { text, exit_code: ExitCode::Unreachable });
            }
            // An empty store is all that a dry run would find there.
            EndpointChoice::EmbeddedDirectory(directory)
                if self.missing == Missing::Imagined && !directory.exists() =>
            {
                Storage::Memory
            }
            EndpointChoice::EmbeddedDirectory(directory) => Storage::Directory(directory.clone()),
            EndpointChoice::EmbeddedMemory => Storage::Memory,
        };
        let mut settings = ServeSettings::new(storage);
        settings.credentials.push(self.credentials());
        let server = Server::start(settings).map_err(|error| Refusal {
            text: format!("the embedded server cannot start: {error}"),
            exit_code: ExitCode::Unreachable,
        })?;
        let endpoint = Endpoint::parse(&format!("http://{}", server.address())).expect("a socket address is a host");
        self.servers.push(server);
        self.running.push((choice.clone(), endpoint.clone()));
        Ok(endpoint)
    }

    /// What signs the requests; keys that have to be asked for are asked for now.
    async fn keys_of(&mut self, identity: &Identity) -> Result<Keys, Refusal> {
        let chain = match identity {
            Identity::Unsigned => return Ok(Keys::None),
            Identity::Keys(credentials) => return Ok(Keys::Fixed(credentials.clone())),
            Identity::Chain(chain) => chain,
        };
        let same = |known: &Chain| Chain { side: chain.side.clone(), ..known.clone() } == **chain;
        if let Some((_, keyring)) = self.keyrings.iter().find(|(known, _)| same(known)) {
            return Ok(Keys::Renewed(keyring.clone()));
        }
        let providers = chain.clone();
        let keyring = Keyring::start(move || providers.providers()).await.map_err(|error| Refusal {
            text: format!("{}: {error}", chain.side),
            exit_code: ExitCode::Configuration,
        })?;
        self.keyrings.push(((**chain).clone(), keyring.clone()));
        Ok(Keys::Renewed(keyring))
    }

    fn credentials(&mut self) -> (String, String) {
        let random = || format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        self.secret.get_or_insert_with(|| (random(), random())).clone()
    }
}

/// How patiently a service is asked, and by how many at once.
#[derive(Clone, Copy)]
struct Way<'a> {
    patience: &'a Patience,
    shards: usize,
    /// Of each shard.
    requests: usize,
    /// On a page of a listing.
    page_keys: u32,
}

/// Two sides at one endpoint share what it bears.
fn share_pace(source: &ReadySide, target: &mut ReadySide) {
    if let (ReadySide::Bucket(source, _), ReadySide::Bucket(target, _)) = (source, target)
        && source.address.endpoint() == target.address.endpoint()
    {
        target.pace = source.pace.clone();
    }
}

/// A copy is a request to the target that reads the source as well.
fn share_payer(source: &ReadySide, target: &mut ReadySide) {
    if let (ReadySide::Bucket(source, _), ReadySide::Bucket(target, _)) = (source, target) {
        let pays = source.address.requester_pays();
        target.address = target.address.clone().with_copy_source_requester_pays(pays);
    }
}

/// What the endpoints of a run bear.
#[derive(Debug, Clone)]
pub(super) struct Paces {
    source: Option<Arc<Pace>>,
    target: Option<Arc<Pace>>,
}

impl Paces {
    pub(super) fn now(&self) -> Concurrency {
        let limit = |pace: &Option<Arc<Pace>>| {
            let now = pace.as_ref()?.now();
            Some(RequestLimit { limit: now.limit, lowest: now.lowest, cuts: now.cuts })
        };
        Concurrency { source: limit(&self.source), target: limit(&self.target) }
    }
}

/// Everything needed to talk to a bucket, before anything was said.
async fn reach(
    place: &BucketPlace,
    side: SideName,
    way: Way<'_>,
    servers: &mut Embedded,
) -> Result<ClientSettings, Refusal> {
    let endpoint = match &place.endpoint {
        EndpointChoice::Aws(variant) => aws_endpoint(place, &place.region, *variant, side)?,
        choice => servers.start(choice, side)?,
    };
    let keys = match place.endpoint {
        EndpointChoice::Aws(_) | EndpointChoice::Service(_) => servers.keys_of(&place.identity).await?,
        EndpointChoice::EmbeddedDirectory(_) | EndpointChoice::EmbeddedMemory => {
            let (access_key_id, secret) = servers.credentials();
            Keys::Fixed(Credentials { access_key_id, secret_access_key: Secret::new(secret), session_token: None })
        }
    };
    let address = address(place, &endpoint);
    check_proxy(place, &address, side)?;
    let protection = Protection { customer_key: place.customer_key.as_deref().cloned(), ..Protection::default() };
    let tls = if endpoint.scheme == endpoint::Scheme::Https {
        TlsSettings::load(place.ca_bundle.as_deref())
            .map_err(|error| Refusal { text: format!("{side}: {error}"), exit_code: ExitCode::Configuration })?
    } else {
        TlsSettings::default()
    };
    Ok(ClientSettings {
        address,
        keys,
        scheme: Scheme::S3,
        region: place.region.clone(),
        tls,
        proxies: place.proxies.clone(),
        protection: Arc::new(protection),
        page_keys: way.page_keys,
        retry: run_retry(way.patience),
        timeouts: timeouts(way.patience),
        abilities: Arc::new(match place.bucket.is_directory() {
            true => Abilities::of_directory_bucket(),
            false => Abilities::default(),
        }),
        pace: Arc::new(Pace::new(way.shards, way.requests)),
    })
}

/// Asks the bucket for one key, and learns its region.
async fn greet(
    place: &BucketPlace,
    side: SideName,
    settings: ClientSettings,
) -> Result<(ClientSettings, Client), Refusal> {
    let mut settings = settings;
    if place.bucket.is_directory() {
        settings = open_session(place, side, settings).await?;
    }
    // Twice at most: AWS's endpoint for one region may send us to another's, once.
    for _ in 0..2 {
        let client = Client::new(ClientSettings { retry: preflight_retry(settings.retry), ..settings.clone() });
        let answer = client.list(listable(place), None, None, 1).await;
        let elsewhere = Some(client.region()).filter(|region| *region != settings.region);
        match (answer, elsewhere, &place.endpoint) {
            // Whatever that endpoint answers about a bucket of another region, the right one is asked from now on.
            (_, Some(region), EndpointChoice::Aws(variant)) => {
                let endpoint = aws_endpoint(place, &region, *variant, side)?;
                let address = address(place, &endpoint);
                check_proxy(place, &address, side)?;
                settings = ClientSettings { address, region, ..settings };
            }
            (Ok(_), ..) => return Ok((ClientSettings { region: client.region(), ..settings }, client)),
            (Err(error), ..) => return Err(refuse_bucket(place, side, &error)),
        }
    }
    Err(Refusal {
        text: format!(
            "the {side} `s3://{}` is said to be in one region after the other; give it with --{side}-region",
            place.bucket
        ),
        exit_code: ExitCode::Configuration,
    })
}

/// A prefix that can be listed, to see whether anything can: a directory bucket lists nothing but directories.
fn listable(place: &BucketPlace) -> &str {
    match place.bucket.is_directory() {
        true => &place.prefix[..place.prefix.rfind('/').map_or(0, |slash| slash + 1)],
        false => &place.prefix,
    }
}

/// A directory bucket hands out the keys that its requests are signed with.
async fn open_session(
    place: &BucketPlace,
    side: SideName,
    settings: ClientSettings,
) -> Result<ClientSettings, Refusal> {
    if matches!(settings.keys, Keys::None) {
        let text =
            format!("the {side} `s3://{}` is a directory bucket, which serves no unsigned requests", place.bucket);
        return Err(Refusal { text, exit_code: ExitCode::Usage });
    }
    let run = settings.retry;
    let settings = ClientSettings { retry: preflight_retry(run), ..settings };
    match settings.in_session().await {
        Ok(settings) => Ok(ClientSettings { retry: run, ..settings }),
        Err(KeyringError::Source(error)) if error.class() == Class::Denied => Err(Refusal {
            text: format!(
                "the {side} `s3://{}` cannot be used: {error}; these credentials may open no session with it \
                 (s3express:CreateSession)",
                place.bucket
            ),
            exit_code: ExitCode::Configuration,
        }),
        Err(KeyringError::Source(error)) => Err(refuse_bucket(place, side, &error)),
        Err(error @ KeyringError::Thread(_)) => {
            Err(Refusal { text: error.to_string(), exit_code: ExitCode::Configuration })
        }
    }
}

/// A directory bucket lists prefixes that end with a slash, and no others.
fn refuse_unlistable(place: &BucketPlace, side: SideName) -> Result<(), Refusal> {
    if !place.bucket.is_directory() || listable(place) == place.prefix {
        return Ok(());
    }
    let BucketPlace { bucket, prefix, .. } = place;
    Err(Refusal {
        text: format!(
            "the {side} `s3://{bucket}/{prefix}` is in a directory bucket, which lists only prefixes that end with `/`; write \
             `s3://{bucket}/{prefix}/` for the directory"
        ),
        exit_code: ExitCode::Usage,
    })
}

fn check_proxy(place: &BucketPlace, address: &Address, side: SideName) -> Result<(), Refusal> {
    let checked = place.proxies.check(address.endpoint().scheme, address.host(), address.port());
    checked.map_err(|error| Refusal { text: format!("{side}: {error}"), exit_code: ExitCode::Configuration })
}

fn address(place: &BucketPlace, endpoint: &Endpoint) -> Address {
    let addressing = choose_addressing(endpoint, &place.bucket, place.force_path_style);
    Address::new(endpoint, &place.bucket, addressing).with_requester_pays(place.requester_pays)
}

fn aws_endpoint(place: &BucketPlace, region: &str, variant: AwsVariant, side: SideName) -> Result<Endpoint, Refusal> {
    Endpoint::aws(region, &place.bucket, variant).map_err(|error| Refusal {
        text: format!("the {side} `s3://{}`: {error}", place.bucket),
        exit_code: ExitCode::Usage,
    })
}

/// Why a bucket is of no use to the whole run.
fn refuse_bucket(place: &BucketPlace, side: SideName, error: &client::Error) -> Refusal {
    let (exit_code, remedy) = bucket_remedy(side, error);
    let text = format!("the {side} `s3://{}/{}` cannot be used: {error}{remedy}", place.bucket, place.prefix);
    Refusal { text, exit_code }
}

fn bucket_remedy(side: SideName, error: &client::Error) -> (ExitCode, String) {
    match (error.phase(), error.class(), error.code()) {
        (Some(Phase::Dns), ..) => {
            (ExitCode::Unreachable, format!("; check the host name in --{side}-endpoint-url, and this host's resolver"))
        }
        (Some(Phase::Connect), ..) => (
            ExitCode::Unreachable,
            format!("; is the service running, and is the port in --{side}-endpoint-url right?"),
        ),
        (Some(Phase::Proxy), ..) => {
            (ExitCode::Unreachable, "; check HTTPS_PROXY and its login, or name the host in NO_PROXY".to_owned())
        }
        (Some(Phase::Tls), ..) => (
            ExitCode::Unreachable,
            "; if its certificate is signed by an authority of your own, name that with AWS_CA_BUNDLE".to_owned(),
        ),
        (Some(Phase::FirstByte | Phase::Body), ..) => (
            ExitCode::Unreachable,
            format!("; is an S3 service listening there, and does --{side}-endpoint-url say http or https rightly?"),
        ),
        (None, _, Some("InvalidBucketName")) => {
            (ExitCode::Usage, "; a bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens".to_owned())
        }
        (None, _, Some("NoSuchBucket")) => {
            (ExitCode::Unreachable, format!("; create the bucket, or check its name and --{side}-endpoint-url"))
        }
        (None, Class::Auth, _) => (
            ExitCode::Configuration,
            format!("; check --{side}-access-key and its secret, --{side}-profile, or AWS_ACCESS_KEY_ID"),
        ),
        (None, Class::Denied, _) => {
            (ExitCode::Configuration, "; these credentials may not list the bucket (s3:ListBucket)".to_owned())
        }
        (None, Class::WrongRegion, _) => {
            (ExitCode::Configuration, format!("; give the bucket's region with --{side}-region"))
        }
        (None, Class::ClockSkew, _) => (ExitCode::Configuration, "; set this host's clock".to_owned()),
        _ => (ExitCode::Unreachable, String::new()),
    }
}

/// The exit code when an object's failure ends the run.
pub(super) fn exit_code_of(error: &transfer::Error) -> ExitCode {
    match error {
        transfer::Error::Client(side, error) => bucket_remedy(*side, error).0,
        _ => ExitCode::SomeFailed,
    }
}

/// Whether a failed listing means that nothing else can succeed, with what to say.
pub(super) fn fatal_listing(side: SideName, error: &listing::Error) -> Option<(String, ExitCode)> {
    let listing::Error::Client(error) = error else { return None };
    let ends = matches!(error.class(), Class::Auth | Class::Denied)
        || error.code() == Some("NoSuchBucket")
        || error.phase().is_some();
    let (exit_code, remedy) = bucket_remedy(side, error);
    ends.then(|| (format!("listing the {side} failed: {error}{remedy}"), exit_code))
}

/// A target inside its own source would feed itself for ever (reliability.md D10), and a source inside its own target
/// would be among what the source does not have.
fn refuse_overlap(settings: &SyncSettings) -> Result<(), Refusal> {
    let (source, target) = (&settings.source, &settings.target);
    let text = if lies_within(target, source) {
        format!(
            "the target `{target}` lies within the source `{source}`, so the sync would copy its own results; choose a \
             target outside"
        )
    } else if settings.deletes.extras != Extras::Keep && lies_within(source, target) {
        format!(
            "the source `{source}` lies within the target `{target}`, so --delete would delete it; choose a target outside"
        )
    } else {
        return Ok(());
    };
    Err(Refusal { text, exit_code: ExitCode::Unsafe })
}

fn lies_within(inner: &Place, outer: &Place) -> bool {
    match (inner, outer) {
        (Place::Local(inner), Place::Local(outer)) => {
            let (inner, outer) = (canonical_even_if_absent(inner), std::fs::canonicalize(outer).ok());
            outer.is_some_and(|outer| inner.starts_with(outer))
        }
        (Place::Bucket(inner), Place::Bucket(outer)) => {
            same_service(&inner.endpoint, &outer.endpoint)
                && inner.endpoint != EndpointChoice::EmbeddedMemory
                && inner.bucket == outer.bucket
                && inner.prefix.starts_with(&outer.prefix)
        }
        _ => false,
    }
}

/// Deletes what a place does not have only where the two places are of a kind. A prefix without a slash at its end also
/// covers its neighbours' names, which is rarely meant (reliability.md D04).
fn refuse_careless_deletes(settings: &SyncSettings, single: bool) -> Result<(), Refusal> {
    let refuse = |text, exit_code| Err(Refusal { text, exit_code });
    let (source, target) = (&settings.source, &settings.target);
    if single {
        let text = format!("--delete needs a directory or a prefix as its source, and `{source}` is a single object");
        return refuse(text, ExitCode::Usage);
    }
    let open_ended = |place: &Place| match place {
        Place::Local(_) => false,
        Place::Bucket(place) => !place.prefix.is_empty() && !place.prefix.ends_with('/'),
    };
    let place = match (open_ended(source), open_ended(target)) {
        (false, true) => target,
        // Into a directory, such a prefix has been made a directory, or refused.
        (true, false) if matches!(target, Place::Bucket(_)) => source,
        _ => return Ok(()),
    };
    let text = format!(
        "with --delete, `{place}` would also take in what only begins like it, `{place}2/...` for instance; end it with `/`"
    );
    refuse(text, ExitCode::Unsafe)
}

/// Where the journals are beneath a local source, as its keys begin.
fn own_state(settings: &SyncSettings) -> Option<Vec<u8>> {
    let (Place::Local(source), Some(state)) = (&settings.source, &settings.journal.state_directory) else {
        return None;
    };
    let (source, state) = (canonical_even_if_absent(source), canonical_even_if_absent(state));
    let beneath = state.strip_prefix(source).ok()?.as_os_str().as_encoded_bytes();
    Some([beneath, b"/"].concat()).filter(|prefix| prefix.len() > 1)
}

/// One directory can be written in many ways.
fn same_service(one: &EndpointChoice, other: &EndpointChoice) -> bool {
    match (one, other) {
        (EndpointChoice::EmbeddedDirectory(one), EndpointChoice::EmbeddedDirectory(other)) => {
            canonical_even_if_absent(one) == canonical_even_if_absent(other)
        }
        (EndpointChoice::Aws(_), EndpointChoice::Aws(_)) => true,
        (EndpointChoice::Aws(_), EndpointChoice::Service(other))
        | (EndpointChoice::Service(other), EndpointChoice::Aws(_)) => other.is_aws(),
        _ => one == other,
    }
}

pub(super) fn canonical_even_if_absent(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = absolute.ancestors().find_map(|ancestor| Some((ancestor, std::fs::canonicalize(ancestor).ok()?)));
    match existing {
        // Joining nothing would add a slash, by which the path would differ from itself before it existed.
        Some((ancestor, canonical)) if ancestor == absolute => canonical,
        Some((ancestor, canonical)) => canonical.join(absolute.strip_prefix(ancestor).expect("it is an ancestor's")),
        None => absolute,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_may_stand_still_in_its_middle_for_as_long_as_before_it_if_that_is_wished() {
        let patient = Patience { stalls_end_a_try: false, ..Patience::default() };
        let (usual, patient) = (timeouts(&Patience::default()), timeouts(&patient));
        assert!(usual.idle < usual.first_byte);
        assert_eq!((patient.idle, patient.first_byte), (usual.first_byte, usual.first_byte));
    }

    #[test]
    fn a_path_is_spelled_the_same_before_and_after_it_exists() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a/b");
        let before = canonical_even_if_absent(&path);
        std::fs::create_dir_all(&path).unwrap();
        assert_eq!(before.as_os_str(), canonical_even_if_absent(&path).as_os_str());
        assert_eq!(before.as_os_str(), canonical_even_if_absent(&path.join("")).as_os_str());
    }
}

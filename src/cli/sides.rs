//! Flags that several commands share, each with its help and its meaning: the two sides, what a run may use, how long it
//! waits, and what it says.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use ropeway_io::cores;
use ropeway_io::file::DirectIo;
use ropeway_io::probe::{self, IoChoice};
use ropeway_s3proto::endpoint::Endpoint;
use ropeway_s3proto::name::Bucket;

use super::integrity::VerificationArgs;
use super::print;
use super::screen::{Screen, ScreenWishes};
use super::units::parse_size;
use crate::client::login::{self, LoginWish, Surroundings};
use crate::engine::{self, StopHandle};
use crate::entry::SideName;
use crate::error::ExitCode;
use crate::settings::{
    BucketPlace, Deletes, EndpointChoice, Events, JournalSettings, LIST_THREADS, Limits, Patience, Place, SyncSettings,
    Task, WORKERS_PER_SHARD,
};
use crate::transfer::part::{PART_BYTES_MAX, PART_BYTES_MIN};

macro_rules! side_args {
    ($name:ident, $heading:literal, $side:literal, $endpoint:ident, $region:ident, $profile:ident, $key:ident, $secret:ident, $token:ident, $path:ident, $unsigned:ident, $env:literal) => {
        #[derive(Debug, Args)]
        #[command(next_help_heading = $heading)]
        pub(super) struct $name {
            /// Where the service answers: http(s)://host[:port], or embedded:DIR or embedded:memory for the built-in server.
            #[arg(long = concat!($side, "-endpoint-url"), value_name = "URL", env = concat!("ROPEWAY_", $env, "_ENDPOINT_URL"))]
            $endpoint: Option<String>,

            /// The bucket's region.
            #[arg(long = concat!($side, "-region"), value_name = "REGION", env = concat!("ROPEWAY_", $env, "_REGION"))]
            $region: Option<String>,

            /// The profile in the AWS config and credentials files whose keys and region are used.
            #[arg(long = concat!($side, "-profile"), value_name = "NAME", env = concat!("ROPEWAY_", $env, "_PROFILE"))]
            $profile: Option<String>,

            /// The access key's id.
            #[arg(long = concat!($side, "-access-key"), value_name = "ID", env = concat!("ROPEWAY_", $env, "_ACCESS_KEY"))]
            $key: Option<String>,

            /// The access key's secret; better given by the environment than on a command line that others can read.
            #[arg(long = concat!($side, "-secret-access-key"), value_name = "SECRET", hide_env_values = true, env = concat!("ROPEWAY_", $env, "_SECRET_ACCESS_KEY"))]
            $secret: Option<String>,

            /// The session token of temporary keys.
            #[arg(long = concat!($side, "-session-token"), value_name = "TOKEN", hide_env_values = true, env = concat!("ROPEWAY_", $env, "_SESSION_TOKEN"))]
            $token: Option<String>,

            /// Put the bucket into the path instead of the host name; chosen by itself for IP addresses, localhost, dotted
            /// buckets and every service but AWS.
            #[arg(long = concat!($side, "-force-path-style"), env = concat!("ROPEWAY_", $env, "_FORCE_PATH_STYLE"))]
            $path: bool,

            /// Send requests unsigned, for public buckets.
            #[arg(long = concat!($side, "-no-sign-request"), env = concat!("ROPEWAY_", $env, "_NO_SIGN_REQUEST"))]
            $unsigned: bool,
        }

        impl $name {
            pub(super) fn wishes(&self) -> SideWishes<'_> {
                SideWishes {
                    endpoint: self.$endpoint.as_deref(),
                    region: self.$region.as_deref(),
                    profile: self.$profile.as_deref(),
                    key: self.$key.as_deref(),
                    secret: self.$secret.as_deref(),
                    token: self.$token.as_deref(),
                    force_path_style: self.$path,
                    no_sign_request: self.$unsigned,
                }
            }
        }
    };
}

side_args!(
    SourceArgs,
    "Source",
    "source",
    source_endpoint_url,
    source_region,
    source_profile,
    source_access_key,
    source_secret_access_key,
    source_session_token,
    source_force_path_style,
    source_no_sign_request,
    "SOURCE"
);
side_args!(
    TargetArgs,
    "Target",
    "target",
    target_endpoint_url,
    target_region,
    target_profile,
    target_access_key,
    target_secret_access_key,
    target_session_token,
    target_force_path_style,
    target_no_sign_request,
    "TARGET"
);

/// One side's flags, whichever side.
pub(super) struct SideWishes<'a> {
    endpoint: Option<&'a str>,
    region: Option<&'a str>,
    profile: Option<&'a str>,
    key: Option<&'a str>,
    secret: Option<&'a str>,
    token: Option<&'a str>,
    force_path_style: bool,
    no_sign_request: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Performance")]
struct PerformanceArgs {
    /// Key ranges listed at the same time, on both sides; they are cut where keys are, whatever the keys look like
    /// [default: 8, or the number of cores if more].
    #[arg(long, visible_alias = "max-parallel-listings", value_name = "N", env = "ROPEWAY_LIST_THREADS", value_parser = clap::value_parser!(u16).range(1..))]
    list_threads: Option<u16>,

    /// Objects under way at the same time [default: 16 for each core].
    #[arg(long, value_name = "N", env = "ROPEWAY_WORKER_SIZE", value_parser = clap::value_parser!(u16).range(1..))]
    worker_size: Option<u16>,

    /// Parts of large objects under way at the same time, in either direction [default: 16 for each core].
    #[arg(long, value_name = "N", env = "ROPEWAY_MAX_PARALLEL_UPLOADS", value_parser = clap::value_parser!(u16).range(1..))]
    max_parallel_uploads: Option<u16>,

    /// Objects of this size and more go in parts; 5MiB to 5GiB.
    #[arg(long, value_name = "SIZE", default_value = "8MiB", env = "ROPEWAY_MULTIPART_THRESHOLD", value_parser = part_size)]
    multipart_threshold: u64,

    /// The size of a part, raised where 10,000 parts would not suffice; 5MiB to 5GiB.
    #[arg(long, value_name = "SIZE", default_value = "8MiB", env = "ROPEWAY_MULTIPART_CHUNKSIZE", value_parser = part_size)]
    multipart_chunksize: u64,

    /// Memory for buffers, connections and listings [default: 256MiB, or a quarter of the container's limit if less].
    #[arg(long, value_name = "SIZE", env = "ROPEWAY_MEMORY", value_parser = parse_size)]
    memory: Option<u64>,

    /// Cores to use, one thread pinned to each [default: all that the process may use].
    #[arg(long, value_name = "N", env = "ROPEWAY_CORES", value_parser = clap::value_parser!(u16).range(1..))]
    cores: Option<u16>,

    /// How files are read and written: by io_uring, by a pool of threads, by glommio's executors where they are built in, or
    /// by io_uring where the system allows it and the pool where not.
    #[arg(long, value_enum, default_value_t = IoArg::Auto, env = "ROPEWAY_IO")]
    io: IoArg,

    /// Whether parts of 1MiB and more go past the page cache: where they are not cached and the file system allows it, or
    /// never.
    #[arg(long, value_enum, default_value_t = DirectIoArg::Auto, env = "ROPEWAY_DIRECT_IO")]
    direct_io: DirectIoArg,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Retries and timeouts")]
pub(super) struct PatienceArgs {
    /// Tries of each request, the first one included.
    #[arg(long, value_name = "N", default_value_t = 10, env = "ROPEWAY_AWS_MAX_ATTEMPTS", value_parser = clap::value_parser!(u32).range(1..))]
    aws_max_attempts: u32,

    /// The longest wait before the second try; it doubles with each, and a random part of it is waited.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 100, env = "ROPEWAY_INITIAL_BACKOFF_MILLISECONDS")]
    initial_backoff_milliseconds: u64,

    /// How long opening a connection may take, for each address tried.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 3_100, env = "ROPEWAY_CONNECT_TIMEOUT_MILLISECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    connect_timeout_milliseconds: u64,

    /// How long a service may be silent while an answer is due [default: 60000 before its first byte, 30000 within it].
    #[arg(long, value_name = "MILLISECONDS", env = "ROPEWAY_READ_TIMEOUT_MILLISECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    read_timeout_milliseconds: Option<u64>,
}

impl PatienceArgs {
    pub(super) fn patience(&self) -> Patience {
        Patience {
            attempts_max: self.aws_max_attempts,
            initial_backoff: Duration::from_millis(self.initial_backoff_milliseconds),
            connect_timeout: Duration::from_millis(self.connect_timeout_milliseconds),
            read_timeout: self.read_timeout_milliseconds.map(Duration::from_millis),
        }
    }
}

impl PerformanceArgs {
    fn limits(&self) -> Limits {
        let shards = self.cores.map_or(cores::available().len().max(1), usize::from);
        let per_core = |wished: Option<u16>| wished.map_or(WORKERS_PER_SHARD * shards, usize::from);
        Limits {
            memory_bytes: self.memory.unwrap_or_else(memory_default),
            shards,
            list_threads: self.list_threads.map_or(LIST_THREADS.max(shards), usize::from),
            worker_size: per_core(self.worker_size),
            max_parallel_uploads: per_core(self.max_parallel_uploads),
            multipart_threshold_bytes: self.multipart_threshold,
            part_bytes: self.multipart_chunksize,
        }
    }

    fn io(&self) -> IoChoice {
        match self.io {
            IoArg::Auto => IoChoice::Auto,
            IoArg::Uring => IoChoice::Uring,
            IoArg::Pool => IoChoice::Pool,
            IoArg::Glommio => IoChoice::Glommio,
        }
    }

    fn direct_io(&self) -> DirectIo {
        match self.direct_io {
            DirectIoArg::Auto => DirectIo::Auto,
            DirectIoArg::Never => DirectIo::Never,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum IoArg {
    Auto,
    Uring,
    Pool,
    Glommio,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DirectIoArg {
    Auto,
    Never,
}

fn part_size(text: &str) -> Result<u64, String> {
    let size = parse_size(text)?;
    match (PART_BYTES_MIN..=PART_BYTES_MAX).contains(&size) {
        true => Ok(size),
        false => Err("S3 takes parts from 5MiB to 5GiB".to_owned()),
    }
}

/// What every command takes that compares two sides.
#[derive(Debug, Args)]
pub(super) struct SidesArgs {
    /// Where to read: a directory, a file, or s3://bucket/prefix.
    pub(super) source: String,

    /// Where to write: a directory, or s3://bucket/prefix.
    pub(super) target: String,

    #[command(flatten)]
    pub(super) output: OutputArgs,

    #[command(flatten)]
    verification: VerificationArgs,

    #[command(flatten)]
    source_side: SourceArgs,

    #[command(flatten)]
    target_side: TargetArgs,

    #[command(flatten)]
    performance: PerformanceArgs,

    #[command(flatten)]
    patience: PatienceArgs,
}

impl SidesArgs {
    /// A sync between the two sides, with nothing beyond that asked for.
    pub(super) fn settings(&self) -> Result<SyncSettings, Mistake> {
        Ok(SyncSettings {
            source: place(&self.source, SideName::Source, &self.source_side.wishes())?,
            target: place(&self.target, SideName::Target, &self.target_side.wishes())?,
            task: Task::Sync,
            from_plan: None,
            dry_run: false,
            integrity: self.verification.integrity(),
            deletes: Deletes::default(),
            journal: JournalSettings::default(),
            limits: self.performance.limits(),
            patience: self.patience.patience(),
            io: self.performance.io(),
            direct_io: self.performance.direct_io(),
            events: self.output.events(),
            progress_interval: Duration::from_millis(200),
        })
    }

    /// Starts the log, runs, and shows the run.
    pub(super) fn run(&self, settings: Result<SyncSettings, Mistake>, stop: &StopHandle) -> u8 {
        self.output.start_log();
        let run = || -> Result<u8, Mistake> {
            let settings = settings?;
            let mut screen = Screen::new(&self.output.wishes()).map_err(usage)?;
            match engine::run(&settings, stop, &mut screen) {
                Ok(summary) => Ok(screen.finish(summary)),
                Err(error) => {
                    screen.clear();
                    Err(Mistake { text: print::clean(&error.to_string()).into_owned(), exit_code: error.exit_code() })
                }
            }
        };
        run().unwrap_or_else(|Mistake { text, exit_code }| {
            print::err(&format!("error: {text}"));
            exit_code.number()
        })
    }
}

/// What is said of a run, and where.
#[derive(Debug, Args)]
pub(super) struct OutputArgs {
    /// Say more: each object copied; twice: each object skipped, and what the client does.
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,

    /// Say only errors, and no summary.
    #[arg(short, long)]
    quiet: bool,

    /// Write each event and the summary to stdout as one JSON object a line.
    #[arg(long, env = "ROPEWAY_JSON")]
    json: bool,

    /// Write every event, with what proves each object, and the summary to this file as one JSON object a line.
    #[arg(long, value_name = "FILE", env = "ROPEWAY_REPORT")]
    report: Option<PathBuf>,

    /// Without a terminal: seconds between progress lines; 0 for none.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, env = "ROPEWAY_STATS")]
    stats: u64,
}

impl OutputArgs {
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet
    }

    pub(super) fn wishes(&self) -> ScreenWishes<'_> {
        ScreenWishes {
            verbose: self.verbose,
            quiet: self.quiet,
            json: self.json,
            report: self.report.as_deref(),
            stats: self.stats,
        }
    }

    /// What is worth an event.
    fn events(&self) -> Events {
        let everything = self.verbose > 1 || self.report.is_some() || self.json;
        Events { transferred: everything || self.verbose > 0, skipped: everything }
    }

    /// Logs go to stderr; warnings and errors alone, unless more is asked for.
    pub(super) fn start_log(&self) {
        let level = match (self.quiet, self.verbose) {
            (true, _) => "error,s3s=off",
            (false, 0 | 1) => "warn,s3s=off",
            (false, 2) => "ropeway=debug,ropeway_io=debug,warn,s3s=off",
            (false, _) => "trace",
        };
        let filter = tracing_subscriber::EnvFilter::try_from_env("ROPEWAY_LOG")
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
        // Only a second run in the same process finds a logger in place, and that one serves it.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .try_init();
    }
}

/// A command line that makes no sense.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) text: String,
    pub(super) exit_code: ExitCode,
}

pub(super) fn usage(text: impl Into<String>) -> Mistake {
    Mistake { text: text.into(), exit_code: ExitCode::Usage }
}

/// 256 MiB, or a quarter of what the container may use if that is less.
fn memory_default() -> u64 {
    let quarter = probe::memory_limit_bytes().map_or(u64::MAX, |limit| limit / 4);
    quarter.min(256 << 20)
}

/// Makes a place of what was typed.
pub(super) fn place(text: &str, side: SideName, wishes: &SideWishes<'_>) -> Result<Place, Mistake> {
    if text.is_empty() {
        return Err(usage(format!("the {side} is empty; name a path or s3://bucket/prefix")));
    }
    // Somebody may have written keys into it, as other programs want them; then it is not repeated.
    let authority = text.split_once("://").map(|(_, rest)| rest.split_once('@').map_or(rest, |(login, _)| login));
    if text.contains('@') && authority.is_some_and(|authority| authority.contains(':'))
        || text.strip_prefix("s3://").is_some_and(|rest| rest.split('/').next().is_some_and(|it| it.contains(':')))
    {
        return Err(usage(format!(
            "the {side} seems to hold a login; a bucket is named as s3://bucket/prefix, and keys go to the environment or to \
             --{side}-access-key"
        )));
    }
    let Some(rest) = text.strip_prefix("s3://") else {
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(usage(format!(
                "`{text}`: `{scheme}://` is not understood; a {side} is a local path or s3://bucket/prefix, and a \
                 service's address goes to --{side}-endpoint-url"
            )));
        }
        if wishes.endpoint.is_some() {
            return Err(usage(format!("--{side}-endpoint-url is given, but the {side} `{text}` is a local path")));
        }
        return Ok(Place::Local(PathBuf::from(text)));
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let bucket = Bucket::parse(bucket).map_err(|error| usage(format!("`{text}`: {error}")))?;
    let endpoint = wishes.endpoint.map(|url| endpoint(url, side)).transpose()?;
    let environment = || {
        let named = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].into_iter().find_map(|name| std::env::var(name).ok());
        named.filter(|url| !url.is_empty()).map(|url| self::endpoint(&url, side)).transpose()
    };
    let endpoint = match endpoint {
        Some(endpoint) => Some(endpoint),
        None => environment()?,
    };
    let embedded = matches!(endpoint, Some(EndpointChoice::EmbeddedDirectory(_) | EndpointChoice::EmbeddedMemory));
    let login = find_login(side, wishes, embedded)?;
    let endpoint = match endpoint {
        Some(endpoint) => endpoint,
        None => EndpointChoice::Service(
            Endpoint::aws(&login.region).map_err(|error| usage(format!("--{side}-region: {error}")))?,
        ),
    };
    Ok(Place::Bucket(BucketPlace {
        bucket,
        prefix: prefix.to_owned(),
        endpoint,
        region: login.region,
        credentials: login.credentials,
        force_path_style: wishes.force_path_style,
        ca_bundle: std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()).map(PathBuf::from),
    }))
}

fn endpoint(url: &str, side: SideName) -> Result<EndpointChoice, Mistake> {
    match url.strip_prefix("embedded:") {
        Some("memory") => Ok(EndpointChoice::EmbeddedMemory),
        Some("") => Err(usage(format!("--{side}-endpoint-url embedded: needs a directory, or the word `memory`"))),
        Some(directory) => Ok(EndpointChoice::EmbeddedDirectory(PathBuf::from(directory))),
        // Somebody may have written a secret into it, of which no part may be said.
        None if url.contains('@') => Err(usage(format!(
            "--{side}-endpoint-url has an `@` in it, and a service's address takes no login; give the keys by \
             --{side}-access-key and --{side}-secret-access-key, or by the environment"
        ))),
        None => Endpoint::parse(url)
            .map(EndpointChoice::Service)
            .map_err(|error| usage(format!("--{side}-endpoint-url `{url}`: {error}"))),
    }
}

fn find_login(side: SideName, wishes: &SideWishes<'_>, embedded: bool) -> Result<login::Login, Mistake> {
    let keys = match (wishes.key, wishes.secret) {
        (Some(key), Some(secret)) => Some((key.to_owned(), secret.to_owned(), wishes.token.map(str::to_owned))),
        (None, None) if wishes.token.is_none() => None,
        _ => {
            return Err(usage(format!(
                "--{side}-access-key and --{side}-secret-access-key must be given together, and --{side}-session-token \
                 only with them"
            )));
        }
    };
    if keys.is_some() && wishes.profile.is_some() {
        return Err(usage(format!("--{side}-profile and --{side}-access-key exclude each other")));
    }
    if wishes.no_sign_request && (keys.is_some() || wishes.profile.is_some()) {
        return Err(usage(format!("--{side}-no-sign-request excludes keys and profiles")));
    }
    let wish = LoginWish {
        keys,
        profile: wishes.profile.map(str::to_owned),
        region: wishes.region.map(str::to_owned),
        // The built-in server's keys are made up for the run.
        no_sign_request: wishes.no_sign_request || embedded,
    };
    let variable = |name: &str| std::env::var(name).ok();
    let file = |path: &PathBuf| match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    login::find(side, &wish, &Surroundings { variable: &variable, file: &file })
        .map_err(|error| Mistake { text: format!("{side}: {error}"), exit_code: ExitCode::Configuration })
}

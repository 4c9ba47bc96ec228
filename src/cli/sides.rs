//! Flags that several commands share, each with its help and its meaning: the two sides, and all that they come to.

use std::path::PathBuf;

use clap::Args;
use ropeway_s3proto::endpoint::Endpoint;
use ropeway_s3proto::name::Bucket;

use super::attributes::{SourceKeyArgs, TargetKeyArgs};
use super::filters::FilterArgs;
use super::output::OutputArgs;
use super::performance::{PatienceArgs, PerformanceArgs};
use super::print;
use super::screen::Screen;
use crate::client::login::{self, LoginWish, Surroundings};
use crate::engine::{self, StopHandle};
use crate::entry::SideName;
use crate::error::ExitCode;
use crate::settings::{BucketPlace, EndpointChoice, Place, SyncSettings};

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

/// What every command takes that compares two sides.
#[derive(Debug, Args)]
pub(super) struct SidesArgs {
    /// Where to read: a directory, a file, or s3://bucket/prefix.
    pub(super) source: String,

    /// Where to write: a directory, or s3://bucket/prefix.
    pub(super) target: String,

    #[command(flatten)]
    pub(super) output: OutputArgs,

    /// Compare no ETags with the MD5 of the content; checksums still are.
    #[arg(long, env = "ROPEWAY_DISABLE_ETAG_VERIFY")]
    disable_etag_verify: bool,

    #[command(flatten)]
    filters: FilterArgs,

    #[command(flatten)]
    source_side: SourceArgs,

    #[command(flatten)]
    target_side: TargetArgs,

    #[command(flatten)]
    source_key: SourceKeyArgs,

    #[command(flatten)]
    target_key: TargetKeyArgs,

    #[command(flatten)]
    performance: PerformanceArgs,

    #[command(flatten)]
    patience: PatienceArgs,
}

impl SidesArgs {
    /// A sync between the two sides, with nothing beyond that asked for.
    pub(super) fn settings(&self) -> Result<SyncSettings, Mistake> {
        // What was typed is judged before anything is looked for.
        let (source_key, target_key) = (self.source_key.key()?, self.target_key.key()?);
        let source = place(&self.source, SideName::Source, &self.source_side.wishes())?.with_customer_key(source_key);
        let target = place(&self.target, SideName::Target, &self.target_side.wishes())?.with_customer_key(target_key);
        Ok(SyncSettings {
            verify_etags: !self.disable_etag_verify,
            filters: self.filters.filters(),
            limits: self.performance.limits(),
            rates: self.performance.rates(),
            patience: self.patience.patience(),
            io: self.performance.io(),
            direct_io: self.performance.direct_io(),
            events: self.output.events(),
            ..SyncSettings::between(source, target)
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

/// A command line that makes no sense.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) text: String,
    pub(super) exit_code: ExitCode,
}

pub(super) fn usage(text: impl Into<String>) -> Mistake {
    Mistake { text: text.into(), exit_code: ExitCode::Usage }
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
        customer_key: None,
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

//! Flags that several commands share, each with its help and its meaning: the two sides, and all that they come to.

use clap::Args;

use super::attributes::{SourceKeyArgs, TargetKeyArgs};
use super::filters::FilterArgs;
use super::integrity::VerificationArgs;
use super::output::OutputArgs;
use super::performance::{PatienceArgs, PerformanceArgs};
use super::places::{AwsArgs, SideWishes, place};
use super::print;
use super::screen::Screen;
use crate::engine::{self, StopHandle};
use crate::entry::SideName;
use crate::error::ExitCode;
use crate::settings::SyncSettings;

macro_rules! side_args {
    ($name:ident, $heading:literal, $side:literal, $endpoint:ident, $region:ident, $profile:ident, $key:ident, $secret:ident, $token:ident, $path:ident, $unsigned:ident, $accelerate:ident, $payer:ident, $env:literal) => {
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

            /// Reach the bucket by S3 Transfer Acceleration.
            #[arg(long = concat!($side, "-accelerate"), env = concat!("ROPEWAY_", $env, "_ACCELERATE"))]
            $accelerate: bool,

            /// Pay for the requests, where the bucket's owner wants that.
            #[arg(long = concat!($side, "-request-payer"), env = concat!("ROPEWAY_", $env, "_REQUEST_PAYER"))]
            $payer: bool,
        }

        impl $name {
            pub(super) fn wishes<'a>(&'a self, aws: &'a AwsArgs) -> SideWishes<'a> {
                SideWishes {
                    aws,
                    endpoint: self.$endpoint.as_deref(),
                    region: self.$region.as_deref(),
                    profile: self.$profile.as_deref(),
                    key: self.$key.as_deref(),
                    secret: self.$secret.as_deref(),
                    token: self.$token.as_deref(),
                    force_path_style: self.$path,
                    no_sign_request: self.$unsigned,
                    accelerate: self.$accelerate,
                    request_payer: self.$payer,
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
    source_accelerate,
    source_request_payer,
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
    target_accelerate,
    target_request_payer,
    "TARGET"
);

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
    filters: FilterArgs,

    #[command(flatten)]
    aws: AwsArgs,

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
        let source = place(&self.source, SideName::Source, &self.source_side.wishes(&self.aws))?;
        let target = place(&self.target, SideName::Target, &self.target_side.wishes(&self.aws))?;
        Ok(SyncSettings {
            integrity: self.verification.integrity(),
            filters: self.filters.filters(),
            limits: self.performance.limits(),
            rates: self.performance.rates(),
            patience: self.patience.patience(),
            io: self.performance.io(),
            direct_io: self.performance.direct_io(),
            events: self.output.events(),
            ..SyncSettings::between(source.with_customer_key(source_key), target.with_customer_key(target_key))
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

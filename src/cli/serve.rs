//! `ropeway serve`: the embedded S3 server in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::print;
use super::units::parse_duration;
use crate::engine::StopHandle;
use crate::error::ExitCode;
use crate::serve::{ServeSettings, Server, Storage, Synthetic};

/// Serve S3 from a directory or from memory, for trying things out, tests and benchmarks.
///
/// Buckets exist from their first use on. Requests must be signed with the given key, or with a random one that is printed
/// at start.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ropeway serve --listen 127.0.0.1:9000 --root ./store --access-key demo --secret-access-key demo-secret"
)]
#[command(group = clap::ArgGroup::new("storage").required(true).args(["root", "memory"]))]
pub(super) struct ServeArgs {
    /// Where to listen; port 0 takes a free one, which is printed.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9000", env = "ROPEWAY_LISTEN")]
    listen: SocketAddr,

    /// Keep objects in this directory; they survive restarts.
    #[arg(long, value_name = "DIR", env = "ROPEWAY_ROOT")]
    root: Option<PathBuf>,

    /// Keep objects in memory; they are gone when the server ends.
    #[arg(long)]
    memory: bool,

    /// The key that requests are signed with.
    #[arg(long, value_name = "ID", env = "ROPEWAY_ACCESS_KEY", requires = "secret_access_key")]
    access_key: Option<String>,

    /// Its secret; better given by the environment than on a command line that others can read.
    #[arg(
        long,
        value_name = "SECRET",
        env = "ROPEWAY_SECRET_ACCESS_KEY",
        hide_env_values = true,
        requires = "access_key"
    )]
    secret_access_key: Option<String>,

    /// Answer NoSuchBucket for buckets that were not created, instead of creating them on first use.
    #[arg(long)]
    no_create_buckets: bool,

    /// Threads that serve requests.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,

    /// Append each request to this file, when it comes and when it is answered.
    #[arg(long, value_name = "FILE", env = "ROPEWAY_LOG_REQUESTS")]
    log_requests: Option<PathBuf>,

    /// Let every request wait for so long before it is answered, as if the service were far away: 20ms, 1s.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, env = "ROPEWAY_LATENCY")]
    latency: Option<Duration>,

    /// Make listings up, of COUNT keys of a SHAPE (flat, tree, hash, date, hot), to measure clients with.
    #[arg(long, value_name = "SHAPE:COUNT", hide = true, requires = "memory")]
    synthetic: Option<Synthetic>,
}

/// Serves until a signal comes.
pub(super) fn run(args: &ServeArgs, stop: &StopHandle) -> u8 {
    let storage = match &args.root {
        Some(root) => Storage::Directory(root.clone()),
        None => Storage::Memory,
    };
    let given = args.access_key.clone().zip(args.secret_access_key.clone());
    let random = given.is_none();
    let (key, secret) = given.unwrap_or_else(|| {
        let word = || format!("{:016x}", fastrand::u64(..));
        (word(), word() + &word())
    });
    let mut settings = ServeSettings::new(storage);
    settings.listen = args.listen;
    settings.threads = usize::from(args.threads);
    settings.request_log = args.log_requests.clone();
    settings.create_buckets = !args.no_create_buckets;
    settings.latency = args.latency.unwrap_or_default();
    settings.synthetic = args.synthetic;
    settings.credentials.push((key.clone(), secret.clone()));
    let server = match Server::start(settings) {
        Ok(server) => server,
        Err(error) => {
            print::err(&format!("error: {error}"));
            return ExitCode::Configuration.number();
        }
    };
    print::out(&format!("listening on http://{}", server.address()));
    if random {
        print::out(&format!("access key: {key}"));
        print::out(&format!("secret access key: {secret}"));
    }
    let signal = stop.wait();
    server.stop();
    ExitCode::of_signal(signal).number()
}

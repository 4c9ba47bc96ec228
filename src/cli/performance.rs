//! What a run may use and how long it waits: cores, memory, concurrency, rates, retries and timeouts.

use std::time::Duration;

use clap::{Args, ValueEnum};
use ropeway_io::cores;
use ropeway_io::file::DirectIo;
use ropeway_io::probe::{self, IoChoice};

use super::units::parse_size;
use crate::settings::{LIST_THREADS, Limits, PAGE_KEYS, Patience, Rates, WORKERS_PER_SHARD};
use crate::transfer::part::{PART_BYTES_MAX, PART_BYTES_MIN};

#[derive(Debug, Args)]
#[command(next_help_heading = "Performance")]
pub(super) struct PerformanceArgs {
    /// Key ranges listed at the same time, on both sides; they are cut where keys are, whatever the keys look like
    /// [default: 8, or the number of cores if more].
    #[arg(long, visible_alias = "max-parallel-listings", value_name = "N", env = "ROPEWAY_LIST_THREADS", value_parser = clap::value_parser!(u16).range(1..))]
    list_threads: Option<u16>,

    /// Keys on a page of a listing. Services put at most 1,000 on one, whatever is asked for.
    #[arg(long, value_name = "N", default_value_t = PAGE_KEYS, env = "ROPEWAY_MAX_KEYS", value_parser = clap::value_parser!(u32).range(1..=32_767))]
    max_keys: u32,

    /// Taken for the sake of command lines made for s3sync, and of no effect: key ranges are cut at any depth.
    #[arg(long, value_name = "N", default_value_t = 2, env = "ROPEWAY_MAX_PARALLEL_LISTING_MAX_DEPTH", value_parser = clap::value_parser!(u16).range(1..))]
    max_parallel_listing_max_depth: u16,

    /// Taken for the sake of command lines made for s3sync, and of no effect: listings wait for the work that they make, and no
    /// queue holds more than some pages.
    #[arg(long, value_name = "N", default_value_t = 200_000, env = "ROPEWAY_OBJECT_LISTING_QUEUE_SIZE", value_parser = clap::value_parser!(u32).range(1..))]
    object_listing_queue_size: u32,

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

    /// The most objects written, copied or deleted in a second, over all cores; 10 at least.
    #[arg(long, value_name = "N", env = "ROPEWAY_RATE_LIMIT_OBJECTS", value_parser = clap::value_parser!(u32).range(10..))]
    rate_limit_objects: Option<u32>,

    /// The most bytes read from the source in a second, over all cores; 1MiB to 100GiB.
    #[arg(long, value_name = "SIZE", env = "ROPEWAY_RATE_LIMIT_BANDWIDTH", value_parser = bandwidth)]
    rate_limit_bandwidth: Option<u64>,

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

    /// How long one try of a request may take, its answer's content included [default: as long as something moves].
    #[arg(long, value_name = "MILLISECONDS", env = "ROPEWAY_OPERATION_ATTEMPT_TIMEOUT_MILLISECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    operation_attempt_timeout_milliseconds: Option<u64>,

    /// How long a request may take with all its tries [default: as long as the tries last].
    #[arg(long, value_name = "MILLISECONDS", env = "ROPEWAY_OPERATION_TIMEOUT_MILLISECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    operation_timeout_milliseconds: Option<u64>,

    /// How often an object is started over when the connection to a service failed for all tries of a request.
    #[arg(long, value_name = "N", default_value_t = 5, env = "ROPEWAY_FORCE_RETRY_COUNT")]
    force_retry_count: u32,

    /// The wait before an object is started over.
    #[arg(
        long,
        value_name = "MILLISECONDS",
        default_value_t = 1_000,
        env = "ROPEWAY_FORCE_RETRY_INTERVAL_MILLISECONDS"
    )]
    force_retry_interval_milliseconds: u64,

    /// Wait for an answer's next bytes as long as for its first ones, instead of 30 seconds.
    #[arg(long, env = "ROPEWAY_DISABLE_STALLED_STREAM_PROTECTION")]
    disable_stalled_stream_protection: bool,
}

impl PatienceArgs {
    pub(super) fn patience(&self) -> Patience {
        Patience {
            attempts_max: self.aws_max_attempts,
            initial_backoff: Duration::from_millis(self.initial_backoff_milliseconds),
            connect_timeout: Duration::from_millis(self.connect_timeout_milliseconds),
            read_timeout: self.read_timeout_milliseconds.map(Duration::from_millis),
            attempt_timeout: self.operation_attempt_timeout_milliseconds.map(Duration::from_millis),
            operation_timeout: self.operation_timeout_milliseconds.map(Duration::from_millis),
            restarts_max: self.force_retry_count,
            restart_pause: Duration::from_millis(self.force_retry_interval_milliseconds),
            stalls_end_a_try: !self.disable_stalled_stream_protection,
        }
    }
}

impl PerformanceArgs {
    pub(super) fn limits(&self) -> Limits {
        let shards = self.cores.map_or(cores::available().len().max(1), usize::from);
        let per_core = |wished: Option<u16>| wished.map_or(WORKERS_PER_SHARD * shards, usize::from);
        Limits {
            memory_bytes: self.memory.unwrap_or_else(memory_default),
            shards,
            list_threads: self.list_threads.map_or(LIST_THREADS.max(shards), usize::from),
            page_keys: self.max_keys,
            worker_size: per_core(self.worker_size),
            max_parallel_uploads: per_core(self.max_parallel_uploads),
            multipart_threshold_bytes: self.multipart_threshold,
            part_bytes: self.multipart_chunksize,
        }
    }

    pub(super) fn rates(&self) -> Rates {
        Rates { objects_per_s: self.rate_limit_objects.map(u64::from), bytes_per_s: self.rate_limit_bandwidth }
    }

    pub(super) fn io(&self) -> IoChoice {
        match self.io {
            IoArg::Auto => IoChoice::Auto,
            IoArg::Uring => IoChoice::Uring,
            IoArg::Pool => IoChoice::Pool,
            IoArg::Glommio => IoChoice::Glommio,
        }
    }

    pub(super) fn direct_io(&self) -> DirectIo {
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

fn bandwidth(text: &str) -> Result<u64, String> {
    let size = parse_size(text)?;
    match (1 << 20..=100 << 30).contains(&size) {
        true => Ok(size),
        false => Err("a bandwidth is 1MiB to 100GiB a second".to_owned()),
    }
}

/// 256 MiB, or a quarter of what the container may use if that is less.
fn memory_default() -> u64 {
    let quarter = probe::memory_limit_bytes().map_or(u64::MAX, |limit| limit / 4);
    quarter.min(256 << 20)
}

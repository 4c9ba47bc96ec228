//! The embedded S3 server: a whole S3 endpoint inside the process, for a first try without an account, for tests, and
//! as the peer that Ropeway is measured against.
//!
//! The protocol, signature verification included, is the `s3s` crate's and shares no line with Ropeway's client, so
//! that the two cannot share a mistake. This module adds what s3s leaves open: where objects are kept (`store`), how a
//! page of a listing is cut (`listing`, `versions`), what a checksum and a condition mean (`checksums`, `conditions`), and a server
//! with threads of its own.
//!
//! ```
//! use ropeway::serve::{Server, ServeSettings, Storage};
//!
//! let mut settings = ServeSettings::new(Storage::Memory);
//! settings.credentials.push(("key".into(), "secret".into()));
//! let server = Server::start(settings)?;
//! println!("listening on {}", server.address());
//! server.stop();
//! # Ok::<(), ropeway::serve::ServeError>(())
//! ```

mod checksums;
mod conditions;
mod encryption;
mod front;
mod listing;
mod log;
mod multipart;
mod receive;
mod s3;
mod spelling;
mod store;
mod synthetic;
#[cfg(test)]
mod tests;
mod versions;
mod view;

use front::Front;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use log::Log;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{io, thread};
use store::Store;
pub use synthetic::Synthetic;
use tokio::runtime;
use tokio::sync::watch;

/// Where a server keeps its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In memory, until the server stops.
    Memory,
    /// In this directory, which is created if need be and survives restarts.
    Directory(PathBuf),
}

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct ServeSettings {
    /// Where objects are kept.
    pub storage: Storage,
    /// Port 0 takes a free one; [`Server::address`] says which.
    pub listen: SocketAddr,
    /// Access keys, each with its secret.
    pub credentials: Vec<(String, String)>,
    /// Whether requests without a signature are served.
    pub allow_anonymous: bool,
    /// Whether a bucket exists from its first use on. Without, an unknown bucket answers `NoSuchBucket`.
    pub create_buckets: bool,
    /// Whether an object is kept with a CRC64NVME whose uploader stated no checksum, as AWS does since the end of 2024. Older
    /// objects, and those of many other services, have none.
    pub checksums_unasked: bool,
    /// Threads that serve requests; at least one.
    pub threads: usize,
    /// A file to which each request is written when it comes and when it is answered.
    pub request_log: Option<PathBuf>,
    /// How long every request waits before it is looked at, as if the service were far away.
    pub latency: Duration,
    /// Listings are made up, of so many keys of a shape, for measuring clients. Other requests find what is stored.
    pub synthetic: Option<Synthetic>,
}

impl ServeSettings {
    /// A server on a free loopback port that creates buckets on first use, has two threads and refuses anonymous
    /// requests. Without credentials it refuses everything, so add some.
    pub fn new(storage: Storage) -> Self {
        Self {
            storage,
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            credentials: Vec::new(),
            allow_anonymous: false,
            create_buckets: true,
            checksums_unasked: true,
            threads: 2,
            request_log: None,
            latency: Duration::ZERO,
            synthetic: None,
        }
    }
}

/// Why a server could not start; each text ends with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another program listens there.
    #[error("the embedded server cannot listen on {address}: it is in use; choose another port, or 0 for a free one")]
    AddressInUse {
        /// What was asked for.
        address: SocketAddr,
    },
    /// The system refuses the address for another reason.
    #[error("the embedded server cannot listen on {address}; choose an address of this machine and a port you may use")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The directory or its files cannot be created.
    #[error("the embedded server cannot use the directory `{}`; choose one that you may write to", path.display())]
    Directory {
        /// What was asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another server has the directory open.
    #[error("another embedded server uses the directory `{}`; stop it, or choose another directory", path.display())]
    DirectoryLocked {
        /// What was asked for.
        path: PathBuf,
    },
    /// What the directory holds cannot be read.
    #[error("the index in `{}` cannot be opened ({reason}); choose another directory, or restore this one", path.display())]
    Index {
        /// What was asked for.
        path: PathBuf,
        /// What SQLite, or the check of the format, said.
        reason: String,
    },
    /// The file for requests cannot be written.
    #[error("the embedded server cannot write its requests to `{}`; choose a file that you may write to", path.display())]
    RequestLog {
        /// What was asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Threads or timers could not be had.
    #[error("the embedded server cannot start its threads; raise the limit on processes (`ulimit -u`)")]
    Threads {
        /// What the system said.
        source: io::Error,
    },
}

/// How long a stopping server waits for the requests under way.
const GRACE: Duration = Duration::from_secs(2);

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Opens the storage, binds the address and serves on threads of its own. When this returns, clients can connect.
    ///
    /// # Errors
    ///
    /// [`ServeError`]: the address cannot be had, the storage cannot be opened, threads cannot be started.
    pub fn start(settings: ServeSettings) -> Result<Self, ServeError> {
        let store = Store::open(&settings.storage)?;
        let service = Front {
            log: settings.request_log.as_deref().map(Log::open).transpose()?.map(Arc::new),
            service: service(Arc::new(store), &settings),
            latency: settings.latency,
            synthetic: settings.synthetic.map(Arc::new),
        };
        let listen = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => ServeError::AddressInUse { address: settings.listen },
            _ => ServeError::Listen { address: settings.listen, source },
        };
        let listener = TcpListener::bind(settings.listen).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let threads = |source| ServeError::Threads { source };
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(settings.threads.max(1))
            .thread_name("ropeway-serve")
            .enable_io()
            .enable_time()
            .build()
            .map_err(threads)?;
        let (stop, stopped) = watch::channel(false);
        let thread = thread::Builder::new()
            .name("ropeway-serve".into())
            .spawn(move || runtime.block_on(accept(listener, service, stopped)))
            .map_err(threads)?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// The address clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handle that stops the server from elsewhere, such as a signal's thread.
    pub fn stopper(&self) -> Stopper {
        Stopper { stop: self.stop.clone() }
    }

    /// Stops accepting, gives the requests under way two seconds, and returns when all is closed.
    pub fn stop(mut self) {
        self.end();
    }

    /// Returns when the server has been stopped by a [`Stopper`].
    pub fn wait(mut self) {
        self.join();
    }

    fn end(&mut self) {
        self.stop.send_replace(true);
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the embedded server's thread panicked");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Stops a [`Server`] that another thread waits for.
#[derive(Clone, Debug)]
pub struct Stopper {
    stop: watch::Sender<bool>,
}

impl Stopper {
    /// Asks the server to stop; returns at once.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// Lets in whoever signed, and others only where the settings allow it.
struct Door {
    allow_anonymous: bool,
}

#[async_trait::async_trait]
impl S3Access for Door {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> s3s::S3Result<()> {
        if self.allow_anonymous || context.credentials().is_some() {
            Ok(())
        } else {
            Err(s3s::s3_error!(AccessDenied, "Signature is required"))
        }
    }
}

/// The keys the server knows. s3s's own list answers an unknown key with `NotSignedUp`, which no client understands.
struct Keys {
    secrets: HashMap<String, SecretKey>,
}

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> s3s::S3Result<SecretKey> {
        self.secrets.get(access_key).cloned().ok_or_else(|| s3s::s3_error!(InvalidAccessKeyId))
    }
}

fn service(store: Arc<Store>, settings: &ServeSettings) -> S3Service {
    let secrets = settings.credentials.iter().map(|(access_key, secret)| (access_key.clone(), secret.clone().into()));
    let mut builder =
        S3ServiceBuilder::new(s3::Service::new(store, settings.create_buckets, settings.checksums_unasked));
    builder.set_auth(Keys { secrets: secrets.collect() });
    builder.set_access(Door { allow_anonymous: settings.allow_anonymous });
    builder.build()
}

/// Accepts connections until told to stop, then waits for those that are still answering.
async fn accept(listener: TcpListener, service: Front, mut stopped: watch::Receiver<bool>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the embedded server cannot wait for connections");
            return;
        }
    };
    let connections = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    // Objects that come in many chunks are written without gathering them first.
    http.writev(true);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        match stream {
            Ok((stream, _)) => {
                // A request and its answer are each written at once, so waiting to fill a packet only delays them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY was refused");
                }
                let connection = http.serve_connection(TokioIo::new(stream), service.clone());
                let connection = connections.watch(connection);
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "a connection to the embedded server ended early");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the embedded server could not accept a connection");
                // Out of descriptors is the likely cause, and trying again at once would only spin.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(GRACE, connections.shutdown()).await.is_err() {
        tracing::warn!("the embedded server stopped with requests still under way");
    }
}

/// The time in whole seconds since 1970.
fn now_secs() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}

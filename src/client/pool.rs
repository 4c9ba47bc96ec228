//! Idle connections of one shard to one endpoint. The one used last goes out first, so the warm ones stay warm; one that has
//! aged is closed when its turn comes.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use ropeway_s3proto::endpoint::Scheme;

use super::http::{Peer, RequestBody};
use super::watched::LastWrite;
use super::{ClientSettings, Failure};

/// S3 closes idle connections after about 20 s; one that is nearly so old is not worth the lost request
/// (reliability.md P55).
const IDLE_MAX: Duration = Duration::from_secs(15);

/// One shard's connections to one endpoint.
pub(super) struct Connections {
    pub(super) peer: Rc<Peer>,
    idle: RefCell<Vec<Idle>>,
}

struct Idle {
    sender: SendRequest<RequestBody>,
    last_write: LastWrite,
    since: Instant,
}

/// A connection taken out for one exchange. Dropped without [`Connections::give_back`], it is closed.
pub(super) struct Connection {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) last_write: LastWrite,
    /// It served another exchange before, so the service may have closed it meanwhile.
    pub(super) used: bool,
}

impl Connections {
    pub(super) fn new(settings: &ClientSettings) -> Connections {
        let (host, port) = (settings.address.host(), settings.address.port());
        let tls = (settings.address.endpoint().scheme == Scheme::Https).then(|| settings.tls.clone());
        let peer = Rc::new(Peer { host: host.to_owned(), port, tls, timeouts: settings.timeouts });
        Connections { peer, idle: RefCell::default() }
    }

    /// An idle connection that is ready, or a new one.
    pub(super) async fn take(&self) -> Result<Connection, Failure> {
        loop {
            let idle = self.idle.borrow_mut().pop();
            match idle {
                None => return self.open().await,
                Some(Idle { mut sender, last_write, since }) => {
                    if since.elapsed() < IDLE_MAX && sender.ready().await.is_ok() {
                        return Ok(Connection { sender, last_write, used: true });
                    }
                }
            }
        }
    }

    /// A new connection, whatever is idle.
    pub(super) async fn open(&self) -> Result<Connection, Failure> {
        let (sender, last_write) = self.peer.connect().await?;
        Ok(Connection { sender, last_write, used: false })
    }

    /// Keeps a connection for the next exchange. Its request and answer must both have ended.
    pub(super) fn give_back(&self, connection: Connection) {
        if !connection.sender.is_closed() {
            let Connection { sender, last_write, .. } = connection;
            self.idle.borrow_mut().push(Idle { sender, last_write, since: Instant::now() });
        }
    }
}

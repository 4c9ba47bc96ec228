//! Idle connections of one shard to one endpoint. The one used last goes out first, so the warm ones stay warm; one that has
//! aged is closed when its turn comes.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ropeway_s3proto::endpoint::Scheme;

use super::peer::{Peer, Stream};
use super::wire::{Patience, Wire};
use super::{ClientSettings, Failure};

/// S3 closes idle connections after about 20 s; one that is nearly so old is not worth the lost request
/// (reliability.md P55).
const IDLE_MAX: Duration = Duration::from_secs(15);

/// One shard's connections to one endpoint.
pub(super) struct Connections {
    pub(super) peer: Rc<Peer>,
    idle: RefCell<Vec<Connection>>,
}

/// A connection taken out for one exchange. Dropped without [`Connections::give_back`], it is closed.
pub(super) struct Connection {
    pub(super) wire: Box<Wire<Stream>>,
    /// It served another exchange before, so the service may have closed it meanwhile.
    pub(super) used: bool,
}

impl Connections {
    pub(super) fn new(settings: &ClientSettings) -> Connections {
        let (host, port) = (settings.address.host(), settings.address.port());
        let tls = (settings.address.endpoint().scheme == Scheme::Https).then(|| settings.tls.clone());
        let proxy = settings.proxies.to(settings.address.endpoint().scheme, host, port);
        let peer = Rc::new(Peer { host: host.to_owned(), port, tls, timeouts: settings.timeouts, proxy });
        Connections { peer, idle: RefCell::default() }
    }

    /// An idle connection that is still open and silent, or a new one.
    pub(super) async fn take(&self) -> Result<Connection, Failure> {
        loop {
            let idle = self.idle.borrow_mut().pop();
            match idle {
                None => return self.open().await,
                Some(mut connection) => {
                    if connection.wire.idle_for() < IDLE_MAX && connection.wire.is_quiet().await {
                        return Ok(Connection { used: true, ..connection });
                    }
                }
            }
        }
    }

    /// A new connection, whatever is idle.
    pub(super) async fn open(&self) -> Result<Connection, Failure> {
        let stream = self.peer.connect().await?;
        let patience = Patience { answer: self.peer.timeouts.first_byte, body: self.peer.timeouts.idle };
        Ok(Connection { wire: Box::new(Wire::new(stream, patience)), used: false })
    }

    /// Keeps a connection for the next exchange, if there may be one.
    pub(super) fn give_back(&self, connection: Connection) {
        if connection.wire.is_reusable() {
            self.idle.borrow_mut().push(connection);
        }
    }
}

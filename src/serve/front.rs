//! What stands before the S3 protocol: requests may be written down, an answer may be held back, to look like a service that
//! is far away, and listings may be made up, to look like a bucket that no test could fill. Directory
//! buckets have a door of their own here.

use super::express::Express;
use super::log::Log;
use super::synthetic::Synthetic;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Request, Response};
use s3s::service::S3Service;
use s3s::{Body, HttpError};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Takes each request first.
#[derive(Clone)]
pub(super) struct Front {
    pub(super) service: S3Service,
    /// Where requests are written down, if they are.
    pub(super) log: Option<Arc<Log>>,
    /// Every request waits for so long before it is looked at.
    pub(super) latency: Duration,
    pub(super) synthetic: Option<Arc<Synthetic>>,
    pub(super) express: Arc<Express>,
}

impl Service<Request<Incoming>> for Front {
    type Response = Response<Body>;
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, HttpError>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let front = self.clone();
        let entry = self.log.as_ref().map(|log| log.begin(request.method(), request.uri()));
        Box::pin(async move {
            let answer = front.answer(request).await;
            if let (Some(entry), Ok(answer)) = (entry, &answer) {
                entry.end(answer.status());
            }
            answer
        })
    }
}

impl Front {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, HttpError> {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        if let Some(page) = self.synthetic.and_then(|synthetic| synthetic.answer(request.method(), request.uri())) {
            return Ok(Response::new(Body::from(page)));
        }
        let request = match self.express.admit(request) {
            Ok(request) => request,
            Err(answer) => return Ok(*answer),
        };
        Service::call(&self.service, request).await
    }
}

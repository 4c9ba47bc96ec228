//! What stands before the S3 protocol: an answer may be held back, to look like a service that is far away, and listings
//! may be made up, to look like a bucket that no test could fill.

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
    /// Every request waits for so long before it is looked at.
    pub(super) latency: Duration,
    pub(super) synthetic: Option<Arc<Synthetic>>,
}

impl Service<Request<Incoming>> for Front {
    type Response = Response<Body>;
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, HttpError>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let Front { service, latency, synthetic } = self.clone();
        Box::pin(async move {
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            if let Some(page) = synthetic.and_then(|synthetic| synthetic.answer(request.method(), request.uri())) {
                return Ok(Response::new(Body::from(page)));
            }
            Service::call(&service, request).await
        })
    }
}

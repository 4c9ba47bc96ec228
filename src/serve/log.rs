//! What was asked of the server, in the order of its coming: for tests that must know what the server had when, and for people
//! who want to see what a client does.
//!
//! A request is one line when its head has come, `7 begin PUT /bucket/key?partNumber=1&uploadId=...`, and one when it has been
//! carried out, `7 end 200`. A request whose connection broke has no end. What signs a request is left out.

use std::fmt::Arguments;
use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::Service;
use s3s::service::S3Service;

use super::ServeError;

/// The service, with its requests written down if that was asked for.
#[derive(Clone)]
pub(super) struct Logged {
    service: S3Service,
    log: Option<Arc<Log>>,
}

struct Log {
    file: File,
    count: AtomicU64,
}

impl Logged {
    pub(super) fn new(service: S3Service, path: Option<&Path>) -> Result<Logged, ServeError> {
        let open = |path: &Path| match File::options().append(true).create(true).open(path) {
            Ok(file) => Ok(Arc::new(Log { file, count: AtomicU64::new(0) })),
            Err(source) => Err(ServeError::RequestLog { path: path.to_owned(), source }),
        };
        Ok(Logged { service, log: path.map(open).transpose()? })
    }
}

impl Service<Request<Incoming>> for Logged {
    type Response = <S3Service as Service<Request<Incoming>>>::Response;
    type Error = <S3Service as Service<Request<Incoming>>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let Some(log) = self.log.clone() else { return Service::call(&self.service, request) };
        let number = log.count.fetch_add(1, Ordering::Relaxed);
        log.line(format_args!("{number} begin {} {}\n", request.method(), without_signature(request.uri())));
        let answer = Service::call(&self.service, request);
        Box::pin(async move {
            let answer = answer.await;
            if let Ok(answer) = &answer {
                log.line(format_args!("{number} end {}\n", answer.status().as_u16()));
            }
            answer
        })
    }
}

impl Log {
    /// One write appends one line, whatever other threads write.
    fn line(&self, line: Arguments<'_>) {
        if let Err(error) = (&self.file).write_all(line.to_string().as_bytes()) {
            tracing::warn!(%error, "a request could not be written down");
        }
    }
}

/// Path and query; a presigned request carries its signature there.
fn without_signature(uri: &hyper::Uri) -> String {
    let query = uri.query().unwrap_or_default();
    let plain: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("X-Amz-")).collect();
    if plain.is_empty() { uri.path().to_owned() } else { format!("{}?{}", uri.path(), plain.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_signature_is_written_down() {
        let shown = |uri: &str| without_signature(&uri.parse().unwrap());
        assert_eq!(shown("/b/k?partNumber=1&X-Amz-Signature=secret&uploadId=u"), "/b/k?partNumber=1&uploadId=u");
        assert_eq!(shown("/b/k?X-Amz-Credential=a%2Fb"), "/b/k");
    }
}

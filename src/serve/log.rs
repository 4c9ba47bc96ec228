//! What was asked of the server, in the order of its coming: for tests that must know what the server had when, and for people
//! who want to see what a client does.
//!
//! A request is one line when its head has come, `7 begin PUT /bucket/key?partNumber=1&uploadId=...`, and one when it has been
//! carried out, `7 end 200`. A request whose connection broke has no end. What signs a request is left out.

use std::fmt::Arguments;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::{Method, StatusCode, Uri};

use super::ServeError;

/// The file, and how many requests it has seen.
pub(super) struct Log {
    file: File,
    count: AtomicU64,
}

/// A request that has begun.
pub(super) struct Entry {
    log: Arc<Log>,
    number: u64,
}

impl Log {
    /// Appends to the file at `path`.
    pub(super) fn open(path: &Path) -> Result<Log, ServeError> {
        match File::options().append(true).create(true).open(path) {
            Ok(file) => Ok(Log { file, count: AtomicU64::new(0) }),
            Err(source) => Err(ServeError::RequestLog { path: path.to_owned(), source }),
        }
    }

    /// A request has come.
    pub(super) fn begin(self: &Arc<Log>, method: &Method, uri: &Uri) -> Entry {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        self.line(format_args!("{number} begin {method} {}\n", without_signature(uri)));
        Entry { log: self.clone(), number }
    }

    /// One write appends one line, whatever other threads write.
    fn line(&self, line: Arguments<'_>) {
        if let Err(error) = (&self.file).write_all(line.to_string().as_bytes()) {
            tracing::warn!(%error, "a request could not be written down");
        }
    }
}

impl Entry {
    /// It has been carried out.
    pub(super) fn end(self, status: StatusCode) {
        self.log.line(format_args!("{} end {}\n", self.number, status.as_u16()));
    }
}

/// Path and query; a presigned request carries its signature there.
fn without_signature(uri: &Uri) -> String {
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

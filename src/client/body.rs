//! What a request carries: nothing, one slice, or slices that arrive while it is under way.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::mpsc;

/// What a request carries.
#[derive(Debug)]
pub enum RequestBody {
    /// Nothing.
    Empty,
    /// One slice.
    Whole(Bytes),
    /// Slices that arrive while the request is under way; `left_bytes` are still to come.
    Stream {
        /// Where the slices come from. Its end before `left_bytes` is zero fails the request.
        slices: mpsc::Receiver<Bytes>,
        /// Bytes still to come.
        left_bytes: u64,
    },
}

impl RequestBody {
    /// A body of one slice.
    pub fn whole(bytes: Bytes) -> RequestBody {
        if bytes.is_empty() { RequestBody::Empty } else { RequestBody::Whole(bytes) }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        matches!(self, RequestBody::Empty)
    }

    /// The next slice, never an empty one, or None at the end.
    pub(super) fn poll_slice(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        match self {
            RequestBody::Empty => Poll::Ready(Ok(None)),
            RequestBody::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = RequestBody::Empty;
                Poll::Ready(Ok(Some(bytes)))
            }
            RequestBody::Stream { slices, left_bytes } => loop {
                if *left_bytes == 0 {
                    return Poll::Ready(Ok(None));
                }
                let Some(slice) = ready!(slices.poll_recv(cx)) else {
                    return Poll::Ready(Err(io::Error::other("the body ended before its declared length")));
                };
                let Some(left) = left_bytes.checked_sub(slice.len() as u64) else {
                    return Poll::Ready(Err(io::Error::other("the body is longer than its declared length")));
                };
                *left_bytes = left;
                if !slice.is_empty() {
                    return Poll::Ready(Ok(Some(slice)));
                }
            },
        }
    }
}

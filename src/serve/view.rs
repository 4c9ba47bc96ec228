//! Which part of an object a GET or HEAD shows: all of it, a range, or one part. Pure.

use super::checksums::Checksum;
use super::store::Record;
use s3s::dto::Range;
use s3s::{S3Error, S3Result, s3_error};
use std::ops::Range as ByteRange;

/// The part of an object that a read shows.
pub(super) struct View {
    pub(super) range: ByteRange<u64>,
    partial: bool,
    pub(super) parts_count: Option<i32>,
    /// Absent where it would not be that of the bytes sent: clients verify what they are told.
    pub(super) checksum: Option<Checksum>,
}

impl View {
    pub(super) fn of(record: &Record, range: Option<Range>, part: Option<i32>) -> S3Result<Self> {
        match (range, part) {
            (Some(_), Some(_)) => Err(s3_error!(InvalidRequest, "Range and partNumber cannot be given together.")),
            (None, None) => Ok(Self {
                range: 0..record.size_bytes,
                partial: false,
                parts_count: None,
                checksum: record.checksum.clone(),
            }),
            (Some(range), None) => match range.check(record.size_bytes) {
                Ok(range) if !range.is_empty() => Ok(Self { range, partial: true, parts_count: None, checksum: None }),
                Ok(_) | Err(_) => Err(unsatisfiable(record.size_bytes)),
            },
            (None, Some(number)) => Self::of_part(record, number),
        }
    }

    fn of_part(record: &Record, number: i32) -> S3Result<Self> {
        if record.parts.is_empty() && number == 1 {
            return Ok(Self {
                range: 0..record.size_bytes,
                partial: record.size_bytes > 0,
                parts_count: None,
                checksum: record.checksum.clone(),
            });
        }
        // Parts are counted from one without gaps once the upload is complete, whatever their numbers were.
        let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        let Some(part) = index.and_then(|index| record.parts.get(index)) else {
            return Err(unsatisfiable(record.size_bytes));
        };
        let start = record.parts.iter().take_while(|other| other.number < part.number).map(|other| other.size_bytes);
        let start = start.sum();
        let checksum = record.checksum.as_ref().zip(part.checksum.clone());
        Ok(Self {
            range: start..start + part.size_bytes,
            partial: record.size_bytes > 0,
            parts_count: i32::try_from(record.parts.len()).ok(),
            checksum: checksum.map(|(whole, value)| Checksum {
                algorithm: whole.algorithm,
                coverage: whole.coverage,
                value,
            }),
        })
    }

    pub(super) fn content_range(&self, size_bytes: u64) -> Option<String> {
        // An empty part would end before it starts.
        (self.partial && !self.range.is_empty())
            .then(|| format!("bytes {}-{}/{size_bytes}", self.range.start, self.range.end - 1))
    }
}

fn unsatisfiable(size_bytes: u64) -> S3Error {
    let mut error = s3_error!(InvalidRange);
    let mut headers = http::HeaderMap::new();
    if let Ok(range) = http::HeaderValue::try_from(format!("bytes */{size_bytes}")) {
        headers.insert(http::header::CONTENT_RANGE, range);
    }
    error.set_headers(headers);
    error
}

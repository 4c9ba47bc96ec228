//! Objects put into a bucket by hand: in parts of chosen sizes, with a checksum of a chosen kind.

use std::collections::BTreeMap;

use crc_fast::CrcAlgorithm;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::Server;

/// A checksum of these bytes as S3 writes it.
pub fn checksum(algorithm: &str, content: &[u8]) -> String {
    let crc = |algorithm, width: usize| crc_fast::checksum(algorithm, content).to_be_bytes()[8 - width..].to_vec();
    let value = match algorithm {
        "CRC32" => crc(CrcAlgorithm::Crc32IsoHdlc, 4),
        "CRC32C" => crc(CrcAlgorithm::Crc32Iscsi, 4),
        "CRC64NVME" => crc(CrcAlgorithm::Crc64Nvme, 8),
        "SHA1" => Sha1::digest(content).to_vec(),
        "SHA256" => Sha256::digest(content).to_vec(),
        other => panic!("no algorithm of S3: {other}"),
    };
    base64_simd::STANDARD.encode_to_string(value)
}

/// The header that carries it.
pub fn header(algorithm: &str) -> String {
    format!("x-amz-checksum-{}", algorithm.to_lowercase())
}

impl Server {
    /// An object put whole, with a checksum of this algorithm.
    #[track_caller]
    pub fn put_summed(&self, bucket: &str, key: &str, algorithm: &str, content: &[u8]) {
        self.put_summed_with(bucket, key, algorithm, &[], content);
    }

    /// The same, with more headers.
    #[track_caller]
    pub fn put_summed_with(&self, bucket: &str, key: &str, algorithm: &str, more: &[(&str, &str)], content: &[u8]) {
        let (name, value) = (header(algorithm), checksum(algorithm, content));
        self.put_with(bucket, key, &[&[(name.as_str(), value.as_str())], more].concat(), content);
    }

    /// An object put in such parts, with a checksum of this algorithm and type (`COMPOSITE` or `FULL_OBJECT`) if one is given.
    #[track_caller]
    pub fn put_parts(
        &self,
        bucket: &str,
        key: &str,
        parts: &[&[u8]],
        sum: Option<(&str, &str)>,
        more: &[(&str, &str)],
    ) {
        let opening = match sum {
            Some((algorithm, kind)) => vec![("x-amz-checksum-algorithm", algorithm), ("x-amz-checksum-type", kind)],
            None => Vec::new(),
        };
        let opened = self.request("POST", &format!("/{bucket}/{key}?uploads="), &[&opening[..], more].concat(), b"");
        let id = opened.expect("opening an upload").elements("UploadId").remove(0);
        let mut list = "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">".to_owned();
        for (index, part) in parts.iter().enumerate() {
            let number = index + 1;
            let target = format!("/{bucket}/{key}?partNumber={number}&uploadId={id}");
            let sum = sum.map(|(algorithm, _)| (algorithm, header(algorithm), checksum(algorithm, part)));
            let headers: Vec<(&str, &str)> =
                sum.iter().map(|(_, name, value)| (name.as_str(), value.as_str())).collect();
            let customer: Vec<_> = more.iter().copied().filter(|(name, _)| name.contains("-customer-")).collect();
            let etag =
                self.request("PUT", &target, &[headers, customer].concat(), part).expect("a part").headers["etag"]
                    .clone();
            let etag = etag.trim_matches('"');
            list.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>\"{etag}\"</ETag>"));
            if let Some((algorithm, _, value)) = &sum {
                list.push_str(&format!("<Checksum{algorithm}>{value}</Checksum{algorithm}>"));
            }
            list.push_str("</Part>");
        }
        list.push_str("</CompleteMultipartUpload>");
        let customer: Vec<_> = more.iter().copied().filter(|(name, _)| name.contains("-customer-")).collect();
        let completed = self.request("POST", &format!("/{bucket}/{key}?uploadId={id}"), &customer, list.as_bytes());
        let completed = completed.expect("completing the upload");
        assert!(!completed.elements("ETag").is_empty(), "{}", completed.text());
    }

    /// The object's ETag without quotes, and its headers, the checksum among them.
    #[track_caller]
    pub fn head_summed(&self, bucket: &str, key: &str) -> (String, BTreeMap<String, String>) {
        self.head_summed_with(bucket, key, &[])
    }

    /// The same, with more headers.
    #[track_caller]
    pub fn head_summed_with(
        &self,
        bucket: &str,
        key: &str,
        more: &[(&str, &str)],
    ) -> (String, BTreeMap<String, String>) {
        let headers = [&[("x-amz-checksum-mode", "ENABLED")], more].concat();
        let answer = self.request("HEAD", &format!("/{bucket}/{key}"), &headers, b"").expect(key);
        (answer.headers["etag"].trim_matches('"').to_owned(), answer.headers)
    }
}

//! What an object has beside its content, given and looked at: for the suites about attributes, encryption and copies.

use super::tree::noise;
use super::{Server, Tree};

/// One object that goes in one request, and one that goes in parts.
pub const SIZES: [(&str, usize); 2] = [("small", 1_000), ("large", 11 << 20)];

/// Keys of customers with their MD5s, in base64.
pub const KEY_1: [&str; 2] = ["MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=", "zZ5FnqcIqUjVwvWmyog4zw=="];
pub const KEY_2: [&str; 2] = ["MTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTE=", "GoDL8oWeAZVZNl1r5Hh5Tg=="];

/// A tree with the objects of [`SIZES`] as files.
pub fn files() -> Tree {
    let tree = Tree::new();
    for (name, size) in SIZES {
        tree.file(format!("source/{name}"), noise(size as u64, size));
    }
    tree
}

/// A bucket with the objects of [`SIZES`], put with these headers.
pub fn bucket_with(server: &Server, name: &str, headers: &[(&str, &str)]) -> String {
    let bucket = server.bucket(name);
    for (name, size) in SIZES {
        server.put_with(&bucket, name, headers, noise(size as u64, size));
    }
    bucket
}

/// The tags of an object, as `name=value`.
pub fn tags(server: &Server, bucket: &str, key: &str) -> Vec<String> {
    let answer = server.request("GET", &format!("/{bucket}/{key}?tagging="), &[], b"").expect("tags");
    let mut tags: Vec<String> = answer
        .elements("Key")
        .into_iter()
        .zip(answer.elements("Value"))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    tags.sort();
    tags
}

/// The headers with which a request names a customer's key.
pub fn with_key(key: [&'static str; 2]) -> [(&'static str, &'static str); 3] {
    [
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-server-side-encryption-customer-key", key[0]),
        ("x-amz-server-side-encryption-customer-key-md5", key[1]),
    ]
}

/// The flags of a side that has this key: --source-sse-c, --source-sse-c-key and --source-sse-c-key-md5, or those of the
/// target.
pub fn key_flags(side: &str, key: [&str; 2]) -> [String; 6] {
    let flag = |name: &str| format!("--{side}-sse-c{name}");
    [flag(""), "AES256".into(), flag("-key"), key[0].into(), flag("-key-md5"), key[1].into()]
}

/// Whether encryption is to be skipped: real servers want a key management behind them, or TLS in front.
pub fn lacks_encryption(server: &Server) -> bool {
    server.skip(
        &["moto"],
        "it computes no CRC64NVME, so nothing proves what has no MD5 for an ETag, and heeds no customer's key",
    ) || server.skip(&["ceph", "rgw"], "it takes customers' keys over TLS alone, and has no key management behind it")
}

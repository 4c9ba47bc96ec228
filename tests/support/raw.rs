//! Requests signed by the aws-sigv4 crate and written to a socket by hand, so that the client under test is not its own
//! witness.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;

use super::Server;

/// What the service answered.
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn expect(self, what: &str) -> Answer {
        assert!((200..300).contains(&self.status), "{what}: {} {}", self.status, self.text());
        self
    }

    /// The texts of all elements of this name, as they are written.
    pub fn elements(&self, name: &str) -> Vec<String> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let text = self.text();
        text.split(open.as_str()).skip(1).filter_map(|rest| Some(rest.split_once(&close)?.0.to_owned())).collect()
    }
}

impl Server {
    /// A bucket of this test's own: real services keep what earlier tests left, and must be asked to create it.
    #[track_caller]
    pub fn bucket(&self, name: &str) -> String {
        let bucket = unused_bucket(name);
        if self.name != "embedded" {
            self.request("PUT", &format!("/{bucket}"), &[], b"").expect("creating the bucket");
        }
        bucket
    }

    #[track_caller]
    pub fn put(&self, bucket: &str, key: &str, content: impl AsRef<[u8]>) {
        self.put_with(bucket, key, &[], content);
    }

    #[track_caller]
    pub fn put_with(&self, bucket: &str, key: &str, headers: &[(&str, &str)], content: impl AsRef<[u8]>) {
        self.request("PUT", &path(bucket, key), headers, content.as_ref()).expect(key);
    }

    /// The object's content, or None if there is no such object.
    #[track_caller]
    pub fn get(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let answer = self.request("GET", &path(bucket, key), &[], b"");
        (answer.status != 404).then(|| answer.expect(key).body)
    }

    /// The object's headers, names in lower case, or None if there is no such object.
    #[track_caller]
    pub fn head(&self, bucket: &str, key: &str) -> Option<BTreeMap<String, String>> {
        let answer = self.request("HEAD", &path(bucket, key), &[], b"");
        (answer.status != 404).then(|| answer.expect(key).headers)
    }

    /// All keys that begin with `prefix`, in the service's order.
    #[track_caller]
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        loop {
            let after = keys.last().map(|key| format!("&start-after={}", encode(key, b"-._~"))).unwrap_or_default();
            let prefix = encode(prefix, b"-._~");
            // Parameters in the order that the signature wants them.
            let query = format!("/{bucket}?encoding-type=url&list-type=2&prefix={prefix}{after}");
            let page = self.request("GET", &query, &[], b"").expect("listing");
            let found = page.elements("Contents").into_iter().map(|element| {
                let key = element.split_once("<Key>").and_then(|(_, rest)| rest.split_once("</Key>"));
                decode(&key.expect("an object has a key").0.replace("&apos;", "'").replace("&#39;", "'"))
            });
            keys.extend(found);
            if page.elements("IsTruncated") != ["true"] {
                return keys;
            }
        }
    }

    /// Every object under `prefix` with its content, keys relative to it.
    #[track_caller]
    pub fn objects(&self, bucket: &str, prefix: &str) -> BTreeMap<String, Vec<u8>> {
        let content = |key: &String| self.get(bucket, key).expect("a listed object exists");
        self.keys(bucket, prefix).iter().map(|key| (key[prefix.len()..].to_owned(), content(key))).collect()
    }

    /// A bucket of this test's own that keeps versions.
    #[track_caller]
    pub fn versioned_bucket(&self, name: &str) -> String {
        let bucket = self.bucket(name);
        let body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        self.request("PUT", &format!("/{bucket}?versioning="), &[], body).expect("keeping versions");
        bucket
    }

    /// Deletes what a key means now.
    #[track_caller]
    pub fn delete(&self, bucket: &str, key: &str) {
        self.request("DELETE", &path(bucket, key), &[], b"").expect(key);
    }

    /// The versions of a key, the newest first: its id and content. Delete markers are left out.
    #[track_caller]
    pub fn versions(&self, bucket: &str, key: &str) -> Vec<(String, Vec<u8>)> {
        let query = format!("/{bucket}?prefix={}&versions=", encode(key, b"-._~"));
        let page = self.request("GET", &query, &[], b"").expect("listing versions");
        let part = |element: &str, name: &str| {
            let text = element.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once("</"));
            text.expect("an element").0.to_owned()
        };
        let of_key = page.elements("Version").into_iter().filter(|element| part(element, "Key") == key);
        let ids = of_key.map(|element| part(&element, "VersionId"));
        let content = |id: &String| {
            let version = format!("{}?versionId={}", path(bucket, key), encode(id, b"-._~"));
            self.request("GET", &version, &[], b"").expect(key).body
        };
        ids.map(|id| {
            let content = content(&id);
            (id, content)
        })
        .collect()
    }

    /// How many versions the bucket has, delete markers left out.
    #[track_caller]
    pub fn count_versions(&self, bucket: &str) -> usize {
        let page = self.request("GET", &format!("/{bucket}?versions="), &[], b"").expect("listing versions");
        page.elements("Version").len()
    }

    /// The headers of a version, names in lower case.
    #[track_caller]
    pub fn head_version(&self, bucket: &str, key: &str, id: &str) -> BTreeMap<String, String> {
        let version = format!("{}?versionId={}", path(bucket, key), encode(id, b"-._~"));
        self.request("HEAD", &version, &[], b"").expect(key).headers
    }

    /// The ids of the bucket's open multipart uploads.
    #[track_caller]
    pub fn open_uploads(&self, bucket: &str) -> Vec<String> {
        self.request("GET", &format!("/{bucket}?uploads="), &[], b"").expect("listing uploads").elements("UploadId")
    }

    /// One signed request on a connection of its own. `target` is encoded already.
    #[track_caller]
    pub fn request(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let host = self.endpoint.strip_prefix("http://").expect("test servers speak plain HTTP").trim_end_matches('/');
        let mut all = vec![("host".to_owned(), host.to_owned())];
        all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let signature = self.sign(method, &format!("http://{host}{target}"), &all, body);
        all.extend(signature);
        all.push(("content-length".to_owned(), body.len().to_string()));
        all.push(("connection".to_owned(), "close".to_owned()));
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        all.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        head.push_str("\r\n");
        let mut stream = TcpStream::connect(host).expect("the server listens");
        stream.write_all(head.as_bytes()).expect("the head is sent");
        stream.write_all(body).expect("the body is sent");
        read_answer(stream)
    }

    fn sign(&self, method: &str, url: &str, headers: &[(String, String)], body: &[u8]) -> Vec<(String, String)> {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let identity = Credentials::new(&self.access_key, &self.secret_key, None, None, "tests").into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .expect("signing parameters")
            .into();
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let request = SignableRequest::new(method, url, headers, SignableBody::Bytes(body)).expect("a request");
        let (instructions, _) = sign(request, &params).expect("a signature").into_parts();
        instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

/// A bucket's name that no other test, and no earlier run, has used.
pub fn unused_bucket(name: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_nanos() as u64;
    format!("{name}-{:x}-{now:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn path(bucket: &str, key: &str) -> String {
    format!("/{bucket}/{}", encode(key, b"-._~/"))
}

fn encode(text: &str, plain: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || plain.contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = (*first == b'%').then(|| std::str::from_utf8(&tail[..2]).expect("two digits"));
        match hex {
            Some(hex) => {
                bytes.push(u8::from_str_radix(hex, 16).expect("hexadecimal digits"));
                rest = &tail[2..];
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).expect("keys are UTF-8")
}

/// Reads to the end of the connection, and takes a chunked body apart.
fn read_answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status =
        lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line").parse().expect("a number");
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = bytes.split_off(end + 4);
    let chunked = headers.get("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let body = if chunked { unchunk(&body) } else { body };
    Answer { status, headers, body }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).expect("a chunk's size");
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).expect("hexadecimal");
        if size == 0 {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
    body
}

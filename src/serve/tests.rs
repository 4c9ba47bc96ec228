//! The server as a client sees it: requests over a real socket, signed by a signer that is not Ropeway's, against both
//! storages.

use super::{ServeError, ServeSettings, Server, Storage};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::SystemTime;

const MIB: usize = 1024 * 1024;

/// One connection for each request, so that a test reads to the end and knows the answer is whole.
struct Client {
    address: SocketAddr,
    access_key: &'static str,
    secret: &'static str,
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The text of the first element of this name.
    fn element(&self, name: &str) -> Option<&str> {
        self.elements(name).into_iter().next()
    }

    fn elements(&self, name: &str) -> Vec<&str> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        self.text().split(open.as_str()).skip(1).filter_map(|rest| Some(rest.split_once(&close)?.0)).collect()
    }

    #[track_caller]
    fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}\n{}", self.head, String::from_utf8_lossy(&self.body));
        self
    }

    #[track_caller]
    fn expect_error(self, status: u16, code: &str) {
        let answer = self.expect(status);
        assert_eq!(answer.element("Code"), Some(code));
    }
}

impl Client {
    fn of(server: &Server) -> Self {
        Self { address: server.address(), access_key: "key", secret: "secret" }
    }

    fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let signed = self.signed(method, target, headers, body);
        self.exchange(method, target, &signed, body)
    }

    fn get(&self, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", target, headers, b"")
    }

    fn put(&self, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send("PUT", target, headers, body)
    }

    fn signed(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<(String, String)> {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let identity = Credentials::new(self.access_key, self.secret, None, None, "tests").into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let mut all: Vec<(String, String)> = vec![("host".into(), self.address.to_string())];
        all.extend(headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        let uri = format!("http://{}{target}", self.address);
        let borrowed = all.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let request = SignableRequest::new(method, uri, borrowed, SignableBody::Bytes(body)).unwrap();
        let (instructions, _) = sign(request, &params).unwrap().into_parts();
        all.extend(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())));
        all
    }

    fn exchange(&self, method: &str, target: &str, headers: &[(String, String)], body: &[u8]) -> Answer {
        let mut stream = self.start(method, target, headers, body.len());
        stream.write_all(body).unwrap();
        answer(stream)
    }

    fn start(&self, method: &str, target: &str, headers: &[(String, String)], length: usize) -> TcpStream {
        let mut head = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream
    }
}

fn answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes.split_off(end + 4) }
}

fn start(storage: Storage) -> Server {
    let mut settings = ServeSettings::new(storage);
    settings.credentials.push(("key".into(), "secret".into()));
    Server::start(settings).unwrap()
}

fn directory(path: &Path) -> Storage {
    Storage::Directory(path.to_owned())
}

/// Runs a test against each storage.
fn with_both(test: impl Fn(&Client)) {
    let server = start(Storage::Memory);
    test(&Client::of(&server));
    let directory = tempfile::tempdir().unwrap();
    let server = start(Storage::Directory(directory.path().to_owned()));
    test(&Client::of(&server));
}

/// Bytes that no compression, offset or repetition could make look right by chance.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

fn percent_encoded(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    key.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[test]
fn an_object_comes_back_as_it_was_put() {
    with_both(|client| {
        let headers = [
            ("content-type", "text/x"),
            ("cache-control", "no-cache"),
            ("content-encoding", "gzip"),
            ("content-disposition", "inline"),
            ("content-language", "de"),
            ("expires", "Tue, 01 Jan 2030 00:00:00 GMT"),
            ("x-amz-meta-mtime", "17.5"),
            ("x-amz-tagging", "a=1&b=x%20y"),
        ];
        let put = client.put("/bucket/a", &headers, b"hello").expect(200);
        assert_eq!(put.header("etag"), Some("\"5d41402abc4b2a76b9719d911017c592\""));
        let got = client.get("/bucket/a", &[]).expect(200);
        assert_eq!(got.body, b"hello");
        for (name, value) in &headers[..7] {
            assert_eq!(got.header(name), Some(*value), "{name}");
        }
        assert_eq!(got.header("x-amz-tagging-count"), Some("2"));
        let head = client.send("HEAD", "/bucket/a", &[], b"").expect(200);
        assert_eq!((head.header("content-length"), head.body.len()), (Some("5"), 0));
        assert_eq!(client.get("/bucket/a?tagging", &[]).expect(200).elements("Value"), ["1", "x y"]);
        client.send("DELETE", "/bucket/a?tagging", &[], b"").expect(204);
        assert!(client.get("/bucket/a?tagging", &[]).expect(200).elements("Value").is_empty());
        client.send("DELETE", "/bucket/a", &[], b"").expect(204);
        client.get("/bucket/a", &[]).expect_error(404, "NoSuchKey");
    });
}

#[test]
fn bodies_of_every_kind_come_back_whole() {
    // In the index, gathered in memory, in chunks, in a file.
    for length in [0, 1, 16 * 1024, 16 * 1024 + 1, 64 * 1024 + 1, 3 * MIB + 7] {
        let body = noise(length, 1);
        let server = start(Storage::Memory);
        let place = tempfile::tempdir().unwrap();
        let other = start(directory(place.path()));
        for client in [Client::of(&server), Client::of(&other)] {
            client.put("/bucket/body", &[], &body).expect(200);
            assert!(client.get("/bucket/body", &[]).expect(200).body == body, "{length}");
        }
    }
}

#[test]
fn ranges_are_those_of_the_bytes() {
    with_both(|client| {
        let body = noise(300_000, 2);
        client.put("/bucket/r", &[], &body).expect(200);
        for (range, from, to) in [
            ("bytes=0-0", 0, 1),
            ("bytes=70000-270000", 70_000, 270_001),
            ("bytes=-5", 299_995, 300_000),
            ("bytes=299999-999999", 299_999, 300_000),
        ] {
            let got = client.get("/bucket/r", &[("range", range)]).expect(206);
            assert!(got.body == body[from..to], "{range}");
            assert_eq!(got.header("content-range"), Some(format!("bytes {from}-{}/300000", to - 1).as_str()));
        }
        let refused = client.get("/bucket/r", &[("range", "bytes=300000-")]).expect(416);
        assert_eq!(refused.header("content-range"), Some("bytes */300000"));
    });
}

#[test]
fn every_checksum_is_verified_kept_and_given_back() {
    let cases = [
        ("x-amz-checksum-crc32", "y/Q5Jg=="),
        ("x-amz-checksum-crc32c", "4waSgw=="),
        ("x-amz-checksum-crc64nvme", "rosUhgp5mIg="),
        ("x-amz-checksum-sha1", "98O8HYCOBHMq32eZZczDTKeuNEE="),
        ("x-amz-checksum-sha256", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
    ];
    with_both(|client| {
        for (header, value) in cases {
            let put = client.put("/bucket/c", &[(header, value)], b"123456789").expect(200);
            assert_eq!(put.header(header), Some(value));
            let asked = client.get("/bucket/c", &[("x-amz-checksum-mode", "ENABLED")]).expect(200);
            assert_eq!((asked.header(header), asked.header("x-amz-checksum-type")), (Some(value), Some("FULL_OBJECT")));
            assert_eq!(client.get("/bucket/c", &[]).expect(200).header(header), None);
            client.put("/bucket/bad", &[(header, value)], b"12345678?").expect_error(400, "BadDigest");
        }
        let put = client.put("/bucket/c", &[], b"123456789").expect(200);
        assert_eq!(put.header("x-amz-checksum-crc64nvme"), Some("rosUhgp5mIg="));
        client
            .put("/bucket/bad", &[("content-md5", "XUFAKrxLKna5cZ2REBfFkg==")], b"hello?")
            .expect_error(400, "BadDigest");
        client.put("/bucket/bad", &[("content-md5", "short")], b"hello").expect_error(400, "InvalidDigest");
        client.get("/bucket/bad", &[]).expect_error(404, "NoSuchKey");
    });
}

#[test]
fn who_did_not_sign_rightly_is_refused() {
    with_both(|client| {
        let liar = Client { secret: "wrong", ..*client };
        liar.get("/bucket/a", &[]).expect_error(403, "SignatureDoesNotMatch");
        let stranger = Client { access_key: "nobody", ..*client };
        stranger.get("/bucket/a", &[]).expect_error(403, "InvalidAccessKeyId");
        let host = [("host".to_owned(), client.address.to_string())];
        client.exchange("GET", "/bucket/a", &host, b"").expect_error(403, "AccessDenied");
        // The signature names the hash of the body, and this is another body.
        let signed = client.signed("PUT", "/bucket/a", &[], b"12345");
        client.exchange("PUT", "/bucket/a", &signed, b"1234?").expect_error(400, "XAmzContentSHA256Mismatch");
        client.get("/bucket/a", &[]).expect_error(404, "NoSuchKey");
    });
}

#[test]
fn an_upload_that_breaks_off_leaves_the_old_object() {
    with_both(|client| {
        client.put("/bucket/a", &[], b"old").expect(200);
        let body = noise(100_000, 3);
        let signed = client.signed("PUT", "/bucket/a", &[], &body);
        let mut stream = client.start("PUT", "/bucket/a", &signed, body.len());
        stream.write_all(&body[..50_000]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // Whatever the server says, or says nothing; when it closes, it is done with the request.
        drop(stream.read_to_end(&mut Vec::new()));
        assert_eq!(client.get("/bucket/a", &[]).expect(200).body, b"old");
    });
}

#[test]
fn a_reader_gets_to_its_end_what_it_began() {
    with_both(|client| {
        // More than the sockets' buffers hold, so that the server is still reading when the key changes.
        let old = noise(24 * MIB, 10);
        client.put("/bucket/a", &[], &old).expect(200);
        let signed = client.signed("GET", "/bucket/a", &[], b"");
        let mut stream = client.start("GET", "/bucket/a", &signed, 0);
        let mut first = [0; 1];
        stream.read_exact(&mut first).unwrap();
        client.put("/bucket/a", &[], b"new").expect(200);
        client.send("DELETE", "/bucket/a", &[], b"").expect(204);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.ends_with(&old));
    });
}

#[test]
fn conditions_hold() {
    with_both(|client| {
        const ETAG: &str = "\"5d41402abc4b2a76b9719d911017c592\"";
        client.put("/bucket/a", &[("if-none-match", "*")], b"hello").expect(200);
        client.put("/bucket/a", &[("if-none-match", "*")], b"x").expect_error(412, "PreconditionFailed");
        client.put("/bucket/a", &[("if-match", "\"other\"")], b"x").expect_error(412, "PreconditionFailed");
        client.put("/bucket/none", &[("if-match", ETAG)], b"x").expect_error(404, "NoSuchKey");
        client.put("/bucket/a", &[("if-match", ETAG)], b"hello").expect(200);
        client.get("/bucket/a", &[("if-match", ETAG)]).expect(200);
        client.get("/bucket/a", &[("if-match", "\"other\"")]).expect_error(412, "PreconditionFailed");
        assert_eq!(client.get("/bucket/a", &[("if-none-match", ETAG)]).expect(304).header("etag"), Some(ETAG));
        client.get("/bucket/a", &[("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT")]).expect(304);
        client.get("/bucket/a", &[("if-unmodified-since", "Sat, 01 Jan 2000 00:00:00 GMT")]).expect(412);
    });
}

/// Uploads parts and returns the upload's id with the parts' ETags.
fn upload_parts(client: &Client, key: &str, headers: &[(&str, &str)], parts: &[&[u8]]) -> (String, Vec<String>) {
    let created = client.send("POST", &format!("{key}?uploads"), headers, b"").expect(200);
    let id = created.element("UploadId").unwrap().to_owned();
    let etags = (1..).zip(parts).map(|(number, part): (u32, _)| {
        let put = client.put(&format!("{key}?partNumber={number}&uploadId={id}"), &[], part).expect(200);
        put.header("etag").unwrap().to_owned()
    });
    let etags = etags.collect();
    (id, etags)
}

fn complete(client: &Client, key: &str, id: &str, parts: &[(u32, &str)], headers: &[(&str, &str)]) -> Answer {
    let part =
        |(number, etag): &(u32, &str)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
    let parts: String = parts.iter().map(part).collect();
    let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    client.send("POST", &format!("{key}?uploadId={id}"), headers, body.as_bytes())
}

#[test]
fn parts_become_one_object() {
    with_both(|client| {
        let body = noise(10 * MIB + 1000, 4);
        let parts = [&body[..5 * MIB], &body[5 * MIB..10 * MIB], &body[10 * MIB..]];
        let (id, etags) = upload_parts(client, "/bucket/m", &[("x-amz-meta-k", "v")], &parts);
        let listed = client.get(&format!("/bucket/m?uploadId={id}&max-parts=2"), &[]).expect(200);
        assert_eq!((listed.elements("PartNumber"), listed.element("IsTruncated")), (vec!["1", "2"], Some("true")));
        let named: Vec<_> = (1..).zip(etags.iter().map(String::as_str)).collect();
        let done = complete(client, "/bucket/m", &id, &named, &[]).expect(200);
        assert!(done.element("ETag").unwrap().ends_with("-3\""), "{}", done.text());
        let whole = client.get("/bucket/m", &[("x-amz-checksum-mode", "ENABLED")]).expect(200);
        assert!(whole.body == body);
        assert_eq!(whole.header("x-amz-meta-k"), Some("v"));
        assert_eq!(whole.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
        let again = client.put("/bucket/again", &[], &body).expect(200);
        assert_eq!(whole.header("x-amz-checksum-crc64nvme"), again.header("x-amz-checksum-crc64nvme"));
        let second = client.get("/bucket/m?partNumber=2", &[]).expect(206);
        assert!(second.body == parts[1]);
        assert_eq!(second.header("x-amz-mp-parts-count"), Some("3"));
        let across = client.get("/bucket/m", &[("range", "bytes=5242870-10485769")]).expect(206);
        assert!(across.body == body[5_242_870..10_485_770]);
        complete(client, "/bucket/m", &id, &named, &[]).expect_error(404, "NoSuchUpload");

        // A copy shares the bytes and outlives its source.
        client.put("/bucket/copy", &[("x-amz-copy-source", "/bucket/m")], b"").expect(200);
        client.send("DELETE", "/bucket/m", &[], b"").expect(204);
        let copy = client.get("/bucket/copy", &[]).expect(200);
        assert!(copy.body == body);
        assert_eq!(copy.header("etag"), again.header("etag"));
    });
}

#[test]
fn an_object_tells_its_parts_page_by_page() {
    with_both(|client| {
        let body = noise(11 * MIB + 7, 9);
        let parts = [&body[..5 * MIB], &body[5 * MIB..11 * MIB], &body[11 * MIB..]];
        let (id, etags) = upload_parts(client, "/bucket/m", &[("x-amz-checksum-algorithm", "CRC32")], &parts);
        // A composite checksum wants those of the parts named.
        let sums = parts.map(|part| {
            let mut hasher = super::checksums::Hasher::new(&[super::checksums::Algorithm::Crc32]);
            hasher.update(part);
            hasher.finish().1.remove(0).1
        });
        let list: String = (1..)
            .zip(etags.iter().zip(&sums))
            .map(|(number, (etag, sum)): (u32, _)| {
                format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><ChecksumCRC32>{sum}</ChecksumCRC32></Part>")
            })
            .collect();
        let list = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
        client.send("POST", &format!("/bucket/m?uploadId={id}"), &[], list.as_bytes()).expect(200);
        let all = "ETag,Checksum,ObjectParts,ObjectSize,StorageClass";
        let ask = |more: &[(&str, &str)]| {
            client.get("/bucket/m?attributes", &[&[("x-amz-object-attributes", all)], more].concat())
        };
        let whole = ask(&[]).expect(200);
        assert_eq!(whole.element("ObjectSize"), Some(body.len().to_string().as_str()));
        assert_eq!(whole.elements("Size"), parts.map(|part| part.len().to_string()));
        assert_eq!((whole.element("PartsCount"), whole.element("ChecksumType")), (Some("3"), Some("COMPOSITE")));
        assert_eq!(
            whole.elements("ChecksumCRC32")[1..],
            sums.each_ref().map(String::as_str),
            "the object's, then the parts'"
        );
        let first = ask(&[("x-amz-max-parts", "2")]).expect(200);
        assert_eq!((first.elements("PartNumber"), first.element("IsTruncated")), (vec!["1", "2"], Some("true")));
        let next = first.element("NextPartNumberMarker").unwrap();
        let second = ask(&[("x-amz-max-parts", "2"), ("x-amz-part-number-marker", next)]).expect(200);
        assert_eq!((second.elements("PartNumber"), second.element("IsTruncated")), (vec!["3"], Some("false")));
        client.put("/bucket/whole", &[], b"x").expect(200);
        let whole = client.get("/bucket/whole?attributes", &[("x-amz-object-attributes", all)]).expect(200);
        assert_eq!(whole.element("ObjectParts"), None);
        client.get("/bucket/m?attributes", &[]).expect_error(400, "InvalidRequest");
        client.get("/bucket/absent?attributes", &[("x-amz-object-attributes", all)]).expect_error(404, "NoSuchKey");
    });
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    with_both(|client| {
        let body = noise(5 * MIB, 5);
        let (id, etags) = upload_parts(client, "/bucket/m", &[], &[&body[..10], &body]);
        let (one, two) = (etags[0].as_str(), etags[1].as_str());
        complete(client, "/bucket/m", &id, &[(1, one), (2, two)], &[]).expect_error(400, "EntityTooSmall");
        complete(client, "/bucket/m", &id, &[(2, two), (1, one)], &[]).expect_error(400, "InvalidPartOrder");
        complete(client, "/bucket/m", &id, &[(1, two)], &[]).expect_error(400, "InvalidPart");
        complete(client, "/bucket/m", &id, &[(2, two), (3, two)], &[]).expect_error(400, "InvalidPart");
        let wrong = [("x-amz-checksum-crc64nvme", "AAAAAAAAAAA=")];
        complete(client, "/bucket/m", &id, &[(1, one)], &wrong).expect_error(400, "BadDigest");
        client.put("/bucket/m", &[], b"here first").expect(200);
        let absent = [("if-none-match", "*")];
        complete(client, "/bucket/m", &id, &[(1, one)], &absent).expect_error(412, "PreconditionFailed");
        assert_eq!(client.get("/bucket?uploads", &[]).expect(200).elements("Key"), ["m"]);
        client.send("DELETE", &format!("/bucket/m?uploadId={id}"), &[], b"").expect(204);
        assert!(client.get("/bucket?uploads", &[]).expect(200).elements("Key").is_empty());
        client.put(&format!("/bucket/m?partNumber=1&uploadId={id}"), &[], b"").expect_error(404, "NoSuchUpload");
    });
}

#[test]
fn a_part_can_be_a_range_of_another_object() {
    with_both(|client| {
        let source = noise(6 * MIB, 6);
        client.put("/bucket/source", &[], &source).expect(200);
        let (id, _) = upload_parts(client, "/bucket/m", &[("x-amz-checksum-algorithm", "SHA256")], &[]);
        let target = format!("/bucket/m?partNumber=7&uploadId={id}");
        let range = ("x-amz-copy-source-range", "bytes=100-6000099");
        let copied = client.put(&target, &[("x-amz-copy-source", "bucket/source"), range], b"").expect(200);
        let etag = copied.element("ETag").unwrap().to_owned();
        complete(client, "/bucket/m", &id, &[(7, &etag)], &[]).expect_error(400, "InvalidRequest");
        let sum = copied.element("ChecksumSHA256").unwrap();
        let body = format!(
            "<CompleteMultipartUpload><Part><PartNumber>7</PartNumber><ETag>{etag}</ETag>\
             <ChecksumSHA256>{sum}</ChecksumSHA256></Part></CompleteMultipartUpload>"
        );
        let done = client.send("POST", &format!("/bucket/m?uploadId={id}"), &[], body.as_bytes()).expect(200);
        assert!(done.element("ChecksumSHA256").unwrap().ends_with("-1"));
        assert_eq!(done.element("ChecksumType"), Some("COMPOSITE"));
        assert!(client.get("/bucket/m", &[]).expect(200).body == source[100..6_000_100]);
    });
}

/// What a path made of a key could be led astray by, in the order in which it must be listed.
fn hostile_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "..",
        "../x",
        "/",
        "//",
        "a//b",
        "a/",
        "a",
        "a/b",
        "./.",
        "é/ü",
        "sp ace+%2F",
        "\u{1}ctl",
        "tab\tnl\n",
        "&<>\"'",
        "~",
        "a/../../etc/passwd",
        "\u{1F600}",
        "\u{ffff}",
        "\u{10000}",
        "CON",
        "index.sqlite",
        "lock",
    ]
    .map(str::to_owned)
    .into();
    keys.push("x".repeat(1024));
    keys.push("ü".repeat(512));
    keys.sort();
    keys
}

fn list_all(client: &Client, query: &str) -> Vec<String> {
    let (mut keys, mut token) = (Vec::new(), String::new());
    loop {
        let answer = client.get(&format!("/bucket?{token}list-type=2{query}"), &[]).expect(200);
        keys.extend(answer.elements("Key").into_iter().map(str::to_owned));
        match answer.element("NextContinuationToken") {
            Some(next) => token = format!("continuation-token={}&", percent_encoded(next).replace('/', "%2F")),
            None => return keys,
        }
    }
}

#[test]
fn hostile_keys_are_keys_like_others() {
    with_both(|client| {
        let keys = hostile_keys();
        for key in &keys {
            client.put(&format!("/bucket/{}", percent_encoded(key)), &[], key.as_bytes()).expect(200);
        }
        for key in &keys {
            assert_eq!(client.get(&format!("/bucket/{}", percent_encoded(key)), &[]).expect(200).body, key.as_bytes());
        }
        let expected: Vec<_> = keys.iter().map(|key| percent_encoded(key)).collect();
        assert_eq!(list_all(client, "&max-keys=3&encoding-type=url"), expected);
        assert_eq!(
            list_all(client, "&max-keys=1000&encoding-type=url&prefix=a%2F"),
            ["a/", "a/../../etc/passwd", "a//b", "a/b"]
        );
        client.put(&format!("/bucket/{}", "y".repeat(1025)), &[], b"").expect_error(400, "KeyTooLongError");
    });
}

#[test]
fn listings_have_prefixes_markers_and_ends() {
    with_both(|client| {
        for key in ["a", "b/1", "b/2", "c", "d/x/y"] {
            client.put(&format!("/bucket/{key}"), &[], b"").expect(200);
        }
        let page = client.get("/bucket?delimiter=%2F&list-type=2&max-keys=2", &[]).expect(200);
        assert_eq!(page.elements("Key"), ["a"]);
        assert_eq!(page.elements("CommonPrefixes"), ["<Prefix>b/</Prefix>"]);
        assert_eq!((page.element("KeyCount"), page.element("IsTruncated")), (Some("2"), Some("true")));
        let rest = client.get("/bucket?delimiter=%2F&list-type=2&start-after=b%2F", &[]).expect(200);
        assert_eq!((rest.elements("Key"), rest.element("IsTruncated")), (vec!["c"], Some("false")));
        let old = client.get("/bucket?delimiter=%2F&marker=a&max-keys=1", &[]).expect(200);
        assert_eq!((old.elements("Key").len(), old.element("NextMarker")), (0, Some("b/")));
        let empty = client.get("/bucket?list-type=2&max-keys=0", &[]).expect(200);
        assert_eq!((empty.element("KeyCount"), empty.element("IsTruncated")), (Some("0"), Some("false")));
        client.get("/bucket?list-type=2&max-keys=-1", &[]).expect_error(400, "InvalidArgument");
        client.get("/bucket?encoding-type=rot13&list-type=2", &[]).expect_error(400, "InvalidArgument");
    });
}

#[test]
fn many_objects_are_deleted_at_once_with_a_result_for_each() {
    with_both(|client| {
        client.put("/bucket/a", &[], b"").expect(200);
        client.put("/bucket/b", &[], b"").expect(200);
        let body = b"<Delete><Object><Key>a</Key></Object><Object><Key>b</Key><ETag>\"other\"</ETag></Object>\
                     <Object><Key>never</Key></Object></Delete>";
        let answer = client.send("POST", "/bucket?delete", &[], body).expect(200);
        assert_eq!(answer.elements("Deleted"), ["<Key>a</Key>", "<Key>never</Key>"]);
        assert_eq!(answer.element("Code"), Some("PreconditionFailed"));
        assert_eq!(list_all(client, ""), ["b"]);
        client.send("DELETE", "/bucket", &[], b"").expect_error(409, "BucketNotEmpty");
        client.send("DELETE", "/bucket/b", &[], b"").expect(204);
        client.send("DELETE", "/bucket", &[], b"").expect(204);
        assert!(client.get("/", &[]).expect(200).elements("Name").is_empty());
    });
}

fn set_versioning(client: &Client, bucket: &str, status: &str) {
    let body = format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
    client.put(&format!("{bucket}?versioning="), &[], body.as_bytes()).expect(200);
}

/// Puts an object and gives the id of its version.
fn put_version(client: &Client, key: &str, content: &str) -> String {
    client.put(key, &[], content.as_bytes()).expect(200).header("x-amz-version-id").unwrap().to_owned()
}

/// The versions under a prefix as `key=content`, the delete markers as `key!`, those that are the latest with a `*`, in
/// the order of keys and ages.
fn all_versions(client: &Client, bucket: &str) -> Vec<String> {
    let (mut found, mut query) = (Vec::new(), "max-keys=2&versions=".to_owned());
    loop {
        let page = client.get(&format!("{bucket}?{query}"), &[]).expect(200);
        for name in ["Version", "DeleteMarker"] {
            for line in page.elements(name) {
                let part = |name: &str| line.split_once(&format!("<{name}>")).unwrap().1.split_once("</").unwrap().0;
                let latest = if part("IsLatest") == "true" { "*" } else { "" };
                let what = match name {
                    "Version" => {
                        let version = format!("{bucket}/{}?versionId={}", part("Key"), part("VersionId"));
                        format!("={}", client.get(&version, &[]).expect(200).text())
                    }
                    _ => "!".to_owned(),
                };
                found.push(format!("{}{what}{latest}", part("Key")));
            }
        }
        if page.element("IsTruncated") != Some("true") {
            found.sort();
            return found;
        }
        let key = page.element("NextKeyMarker").unwrap();
        let id = page.element("NextVersionIdMarker").unwrap();
        // Parameters in the order that the signature wants them.
        query = format!("key-marker={key}&max-keys=2&version-id-marker={id}&versions=");
    }
}

#[test]
fn a_bucket_that_keeps_versions_gives_each_of_them_back() {
    with_both(|client| {
        client.put("/bucket/k", &[], b"before").expect(200);
        assert_eq!(client.get("/bucket?versioning=", &[]).expect(200).element("Status"), None);
        assert_eq!(client.get("/bucket/k", &[]).header("x-amz-version-id"), None);
        set_versioning(client, "/bucket", "Enabled");
        assert_eq!(client.get("/bucket?versioning=", &[]).expect(200).element("Status"), Some("Enabled"));
        assert_eq!(client.get("/bucket/k", &[]).header("x-amz-version-id"), Some("null"));
        let one = put_version(client, "/bucket/k", "one");
        let two = put_version(client, "/bucket/k", "two");
        assert_ne!(one, two);
        assert_eq!(all_versions(client, "/bucket"), ["k=before", "k=one", "k=two*"]);
        let deleted = client.send("DELETE", "/bucket/k", &[], b"").expect(204);
        assert_eq!(deleted.header("x-amz-delete-marker"), Some("true"));
        let marker = deleted.header("x-amz-version-id").unwrap().to_owned();
        assert_eq!(all_versions(client, "/bucket"), ["k!*", "k=before", "k=one", "k=two"]);
        let absent = client.get("/bucket/k", &[]).expect(404);
        assert_eq!(absent.header("x-amz-delete-marker"), Some("true"));
        assert_eq!(client.get("/bucket?list-type=2", &[]).expect(200).elements("Key"), [""; 0]);
        let head = client.send("HEAD", &format!("/bucket/k?versionId={one}"), &[], b"").expect(200);
        assert_eq!(head.header("x-amz-version-id"), Some(one.as_str()));
        let unreadable = client.get(&format!("/bucket/k?versionId={marker}"), &[]).expect(405);
        assert_eq!(unreadable.header("x-amz-delete-marker"), Some("true"));
        client.get("/bucket/k?versionId=unheard-of", &[]).expect_error(404, "NoSuchVersion");
        client.send("DELETE", "/bucket", &[], b"").expect_error(409, "BucketNotEmpty");

        // Without its marker the key means what it meant before.
        let deleted = client.send("DELETE", &format!("/bucket/k?versionId={marker}"), &[], b"").expect(204);
        assert_eq!(deleted.header("x-amz-delete-marker"), Some("true"));
        assert_eq!(client.get("/bucket/k", &[]).expect(200).text(), "two");
        client.send("DELETE", &format!("/bucket/k?versionId={two}"), &[], b"").expect(204);
        assert_eq!(client.get("/bucket/k", &[]).expect(200).text(), "one");
        client.send("DELETE", "/bucket/k?versionId=null", &[], b"").expect(204);
        assert_eq!(all_versions(client, "/bucket"), ["k=one*"]);
        client.send("DELETE", &format!("/bucket/k?versionId={one}"), &[], b"").expect(204);
        client.get("/bucket/k", &[]).expect_error(404, "NoSuchKey");
        client.send("DELETE", "/bucket", &[], b"").expect(204);
    });
}

#[test]
fn a_bucket_whose_versions_are_suspended_replaces_the_one_without_an_id() {
    with_both(|client| {
        set_versioning(client, "/bucket", "Enabled");
        put_version(client, "/bucket/k", "kept");
        set_versioning(client, "/bucket", "Suspended");
        assert_eq!(client.get("/bucket?versioning=", &[]).expect(200).element("Status"), Some("Suspended"));
        assert_eq!(put_version(client, "/bucket/k", "first"), "null");
        assert_eq!(put_version(client, "/bucket/k", "second"), "null");
        assert_eq!(all_versions(client, "/bucket"), ["k=kept", "k=second*"]);
        let deleted = client.send("DELETE", "/bucket/k", &[], b"").expect(204);
        assert_eq!(deleted.header("x-amz-version-id"), Some("null"));
        assert_eq!(all_versions(client, "/bucket"), ["k!*", "k=kept"]);
        client.send("DELETE", "/bucket/k", &[], b"").expect(204);
        assert_eq!(all_versions(client, "/bucket"), ["k!*", "k=kept"]);
        assert_eq!(put_version(client, "/bucket/k", "third"), "null");
        assert_eq!(all_versions(client, "/bucket"), ["k=kept", "k=third*"]);
        set_versioning(client, "/bucket", "Enabled");
        put_version(client, "/bucket/k", "fourth");
        assert_eq!(all_versions(client, "/bucket"), ["k=fourth*", "k=kept", "k=third"]);
    });
}

#[test]
fn parts_copies_tags_and_batches_know_of_versions() {
    with_both(|client| {
        set_versioning(client, "/bucket", "Enabled");
        let old = put_version(client, "/bucket/k", "old");
        let (id, etags) = upload_parts(client, "/bucket/k", &[], &[b"new"]);
        let done = complete(client, "/bucket/k", &id, &[(1, &etags[0])], &[]).expect(200);
        let new = done.header("x-amz-version-id").unwrap().to_owned();
        assert_eq!(all_versions(client, "/bucket"), ["k=new*", "k=old"]);

        let source = format!("/bucket/k?versionId={old}");
        let copied = client.put("/bucket/copy", &[("x-amz-copy-source", &source)], b"").expect(200);
        assert_eq!(copied.header("x-amz-copy-source-version-id"), Some(old.as_str()));
        assert_eq!(client.get("/bucket/copy", &[]).expect(200).text(), "old");

        let tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
        client.put(&format!("/bucket/k?tagging=&versionId={old}"), &[], tags).expect(200);
        let tags_of = |version: &str| {
            let answer = client.get(&format!("/bucket/k?tagging=&versionId={version}"), &[]).expect(200);
            answer.elements("Value").join(",")
        };
        assert_eq!((tags_of(&old).as_str(), tags_of(&new).as_str()), ("b", ""));
        client.send("DELETE", &format!("/bucket/k?tagging=&versionId={old}"), &[], b"").expect(204);
        assert_eq!(tags_of(&old), "");

        let batch = format!(
            "<Delete><Object><Key>k</Key><VersionId>{old}</VersionId></Object><Object><Key>k</Key></Object></Delete>"
        );
        let md5 = base64_simd::STANDARD.encode_to_string(<md5::Md5 as md5::Digest>::digest(batch.as_bytes()));
        let answer = client.send("POST", "/bucket?delete=", &[("content-md5", &md5)], batch.as_bytes()).expect(200);
        assert_eq!(answer.elements("VersionId"), [old.as_str()]);
        assert_eq!(answer.elements("DeleteMarker"), ["true"]);
        assert_eq!(all_versions(client, "/bucket"), ["copy=old*", "k!*", "k=new"]);
    });
}

#[test]
fn versions_are_kept_over_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let server = start(directory(place.path()));
    let client = Client::of(&server);
    set_versioning(&client, "/bucket", "Enabled");
    let large = "x".repeat(MIB);
    for content in ["1", large.as_str(), "3"] {
        put_version(&client, "/bucket/k", content);
    }
    client.send("DELETE", "/bucket/gone", &[], b"").expect(204);
    let before = all_versions(&client, "/bucket");
    server.stop();
    let server = start(directory(place.path()));
    let client = Client::of(&server);
    assert_eq!(all_versions(&client, "/bucket"), before);
    put_version(&client, "/bucket/k", "4");
    assert_eq!(all_versions(&client, "/bucket").len(), before.len() + 1);
}

/// The first index had neither versions nor a word about them.
#[test]
fn a_directory_of_before_versions_is_understood() {
    let place = tempfile::tempdir().unwrap();
    let index = rusqlite::Connection::open(place.path().join("index.sqlite")).unwrap();
    index.execute_batch(include_str!("store/schema.sql")).unwrap();
    index.execute_batch("INSERT INTO bucket (name, created) VALUES ('bucket', 1); PRAGMA user_version = 1;").unwrap();
    drop(index);
    let server = start(directory(place.path()));
    let client = Client::of(&server);
    client.put("/bucket/k", &[], b"1").expect(200);
    assert_eq!(all_versions(&client, "/bucket"), ["k=1*"]);
    set_versioning(&client, "/bucket", "Enabled");
    put_version(&client, "/bucket/k", "2");
    assert_eq!(all_versions(&client, "/bucket"), ["k=1", "k=2*"]);
}

#[test]
fn buckets_are_created_only_where_the_settings_say_so() {
    let mut settings = ServeSettings::new(Storage::Memory);
    settings.credentials.push(("key".into(), "secret".into()));
    settings.create_buckets = false;
    settings.allow_anonymous = true;
    let server = Server::start(settings).unwrap();
    let client = Client::of(&server);
    client.put("/unknown/a", &[], b"").expect_error(404, "NoSuchBucket");
    client.get("/unknown/a", &[]).expect_error(404, "NoSuchBucket");
    client.get("/unknown?list-type=2", &[]).expect_error(404, "NoSuchBucket");
    client.send("HEAD", "/unknown", &[], b"").expect(404);
    client.put("/known", &[], b"").expect(200);
    client.put("/known", &[], b"").expect_error(409, "BucketAlreadyOwnedByYou");
    client.put("/known/a", &[], b"open").expect(200);
    let host = [("host".to_owned(), client.address.to_string())];
    assert_eq!(client.exchange("GET", "/known/a", &host, b"").expect(200).body, b"open");
}

#[test]
fn a_directory_keeps_everything_over_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let large = noise(MIB, 7);
    let server = start(directory(place.path()));
    let client = Client::of(&server);
    for key in hostile_keys() {
        client.put(&format!("/bucket/{}", percent_encoded(&key)), &[("x-amz-meta-k", "v")], key.as_bytes()).expect(200);
    }
    client.put("/bucket/large", &[], &large).expect(200);
    let (id, etags) = upload_parts(&client, "/bucket/later", &[], &[&large]);
    server.stop();

    let server = start(directory(place.path()));
    let client = Client::of(&server);
    for key in hostile_keys() {
        let got = client.get(&format!("/bucket/{}", percent_encoded(&key)), &[]).expect(200);
        assert_eq!((got.body.as_slice(), got.header("x-amz-meta-k")), (key.as_bytes(), Some("v")));
    }
    assert!(client.get("/bucket/large", &[]).expect(200).body == large);
    complete(&client, "/bucket/later", &id, &[(1, &etags[0])], &[]).expect(200);
    assert!(client.get("/bucket/later", &[]).expect(200).body == large);
}

/// What a kill leaves is what the files hold at that instant: here, a copy of them while the server runs.
#[test]
fn a_killed_server_loses_nothing_it_acknowledged() {
    let place = tempfile::tempdir().unwrap();
    let (small, large) = (noise(1000, 8), noise(200_000, 9));
    let server = start(directory(&place.path().join("running")));
    let client = Client::of(&server);
    for number in 0..50 {
        client.put(&format!("/bucket/small-{number}"), &[], &small).expect(200);
        client.put(&format!("/bucket/large-{number}"), &[], &large).expect(200);
    }
    client.put("/bucket/large-0", &[], &small).expect(200);
    client.send("DELETE", "/bucket/large-1", &[], b"").expect(204);
    let killed = place.path().join("killed");
    copy_tree(&place.path().join("running"), &killed);
    // Bodies that were being received, and one that was received but never committed.
    fs::write(killed.join("incoming/0123456789abcdef"), b"half").unwrap();
    fs::write(killed.join("bodies/ef/0123456789abcdef"), b"whole").unwrap();
    let bodies = count_files(&killed.join("bodies"));

    let server = start(directory(&killed));
    let client = Client::of(&server);
    assert_eq!(list_all(&client, "").len(), 99);
    for number in 0..50 {
        assert!(client.get(&format!("/bucket/small-{number}"), &[]).expect(200).body == small);
    }
    for number in 2..50 {
        assert!(client.get(&format!("/bucket/large-{number}"), &[]).expect(200).body == large);
    }
    assert_eq!(client.get("/bucket/large-0", &[]).expect(200).body, small);
    assert_eq!(count_files(&killed.join("incoming")), 0);
    // The uncommitted body alone is gone: overwriting and deleting had removed theirs already.
    assert_eq!((count_files(&killed.join("bodies")), bodies), (48, 49));
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn count_files(path: &Path) -> usize {
    let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
    entries.map(|entry| if entry.path().is_dir() { count_files(&entry.path()) } else { 1 }).sum()
}

#[test]
fn a_directory_has_one_server_and_an_address_too() {
    let place = tempfile::tempdir().unwrap();
    let server = start(directory(place.path()));
    let error = Server::start(ServeSettings::new(directory(place.path()))).unwrap_err();
    assert!(matches!(error, ServeError::DirectoryLocked { .. }), "{error}");
    assert!(error.to_string().ends_with("stop it, or choose another directory"), "{error}");
    let mut settings = ServeSettings::new(Storage::Memory);
    settings.listen = server.address();
    let error = Server::start(settings).unwrap_err();
    assert!(matches!(error, ServeError::AddressInUse { .. }), "{error}");
    fs::write(place.path().join("file"), b"").unwrap();
    let error = Server::start(ServeSettings::new(directory(&place.path().join("file/inside")))).unwrap_err();
    assert!(matches!(error, ServeError::Directory { .. }), "{error}");
    drop(server);
    start(directory(place.path())).stop();
}

#[test]
fn a_waiting_server_is_stopped_from_elsewhere() {
    let server = start(Storage::Memory);
    let stopper = server.stopper();
    let waiting = std::thread::spawn(move || server.wait());
    stopper.stop();
    waiting.join().unwrap();
}

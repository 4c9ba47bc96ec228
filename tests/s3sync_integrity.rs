//! What proves a copy: the matrix of s3sync's verification (direction, size and parts, encryption, with and without
//! --auto-chunksize, ETag or checksum), one test for each cell, and its scenarios about checksums. Where s3sync takes a healthy
//! object for a damaged one, or leaves one unverified, these expect what is right.

mod support;

use ropeway::serve::{ServeSettings, Storage};
use support::cmd::Output;
use support::model::Object;
use support::scripted::{Answer, Scripted};
use support::tree::noise;
use support::uploads::{checksum, header};
use support::{Cmd, Server, Tree};

const MIB: usize = 1 << 20;

fn sync(tree: &Tree, source: &str, target: &str) -> Cmd {
    Cmd::sync(tree.path(), source, target).args(["--json", "--cores", "1", "--aws-max-attempts", "2"])
}

/// Verified in all, by a checksum, by an ETag; and not verified.
fn verified(output: &Output) -> [u64; 4] {
    ["verified", "verified_checksum", "verified_etag", "unverified"].map(|name| output.count(name))
}

fn events(output: &Output) -> Vec<serde_json::Value> {
    output.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn field(output: &Output, event: &str, name: &str) -> String {
    let found = events(output).into_iter().find(|it| it["event"] == event);
    let found = found.unwrap_or_else(|| panic!("no event `{event}`:\n{}", output.stdout));
    found[name].as_str().unwrap_or_else(|| panic!("no `{name}` in {found}")).to_owned()
}

/// A server that keeps a checksum only of what came with one, as most did before 2025.
fn without_unasked_checksums() -> Server {
    let mut settings = ServeSettings::new(Storage::Memory);
    settings.checksums_unasked = false;
    Server::with(settings)
}

/// Whether the real server keeps to itself of what parts an object was made.
fn without_sizes_of_parts(server: &Server) -> bool {
    server.skip(&["ceph", "rgw"], "it does not tell the sizes of an object's parts")
}

/// Whether the real server lacks the checksums that a test is about.
fn without_checksums(server: &Server) -> bool {
    server.skip(&["moto", "ceph", "rgw"], "it keeps no checksums of all five algorithms")
}

fn cut<'a>(content: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = content;
    let parts = sizes.iter().map(|size| {
        let (part, behind) = rest.split_at(*size);
        rest = behind;
        part
    });
    let parts: Vec<_> = parts.collect();
    assert!(rest.is_empty());
    parts
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Direction {
    Up,
    Down,
    Across,
}

/// How the object is at the source; of a file, how large it is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// In one piece, below the threshold.
    Small,
    /// In one piece, above it.
    Single,
    /// In parts of different sizes; a checksum of it is that of the parts' checksums.
    Parts,
    /// The same, and a checksum of it is that of its bytes.
    PartsWhole,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Proof {
    /// The source has no checksum, so its ETag has to prove it.
    ETag,
    /// It has one that is not the default.
    Checksum,
}

/// By whose key it is encrypted, on both sides; the ETag of anything but `Plain` is no MD5.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Encryption {
    Plain,
    Kms,
    Customer,
}

/// The customer's key and its MD5.
const KEY: [&str; 2] = ["MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=", "zZ5FnqcIqUjVwvWmyog4zw=="];

impl Encryption {
    /// The headers of requests that write such an object.
    fn to_write(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Encryption::Plain => Vec::new(),
            Encryption::Kms => vec![("x-amz-server-side-encryption", "aws:kms")],
            Encryption::Customer => self.to_read(),
        }
    }

    /// Of those that read it.
    fn to_read(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Encryption::Plain | Encryption::Kms => Vec::new(),
            Encryption::Customer => vec![
                ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
                ("x-amz-server-side-encryption-customer-key", KEY[0]),
                ("x-amz-server-side-encryption-customer-key-md5", KEY[1]),
            ],
        }
    }

    fn flags(self, direction: Direction) -> Vec<&'static str> {
        let from = ["--source-sse-c", "AES256", "--source-sse-c-key", KEY[0], "--source-sse-c-key-md5", KEY[1]];
        let to = ["--target-sse-c", "AES256", "--target-sse-c-key", KEY[0], "--target-sse-c-key-md5", KEY[1]];
        match (self, direction) {
            (Encryption::Plain, _) | (Encryption::Kms, Down) => Vec::new(),
            (Encryption::Kms, Up | Across) => vec!["--sse", "aws:kms"],
            (Encryption::Customer, Up) => to.to_vec(),
            (Encryption::Customer, Down) => from.to_vec(),
            (Encryption::Customer, Across) => [from, to].concat(),
        }
    }
}

use Direction::{Across, Down, Up};
use Kind::{Parts, PartsWhole, Single, Small};

#[derive(Debug, Clone, Copy)]
struct Cell {
    direction: Direction,
    kind: Kind,
    encryption: Encryption,
    auto: bool,
    proof: Proof,
}

/// Unequal, and none like Ropeway's own.
const PARTS: [usize; 3] = [5 * MIB, 6 * MIB, MIB + 5];

impl Cell {
    fn content(self) -> Vec<u8> {
        match self.kind {
            Small => noise(1, 100_000),
            Single => noise(2, 9 * MIB + 1),
            Parts | PartsWhole => noise(3, PARTS.iter().sum()),
        }
    }

    /// The algorithm, and what it covers in parts.
    fn sum(self) -> Option<(&'static str, &'static str)> {
        match (self.proof, self.kind) {
            (Proof::ETag, _) => None,
            (Proof::Checksum, PartsWhole) => Some(("CRC32C", "FULL_OBJECT")),
            (Proof::Checksum, Small | Single | Parts) => Some(("SHA256", "COMPOSITE")),
        }
    }

    fn put(self, server: &Server, bucket: &str) {
        let (content, more) = (self.content(), self.encryption.to_write());
        match (self.kind, self.sum()) {
            (Small | Single, None) => server.put_with(bucket, "object", &more, &content),
            (Small | Single, Some((algorithm, _))) => {
                server.put_summed_with(bucket, "object", algorithm, &more, &content);
            }
            (Parts | PartsWhole, sum) => server.put_parts(bucket, "object", &cut(&content, &PARTS), sum, &more),
        }
    }

    /// What a sync of it is given.
    fn flags(self) -> Vec<&'static str> {
        let mut flags = self.encryption.flags(self.direction);
        if self.auto {
            flags.push("--auto-chunksize");
        }
        if let Some((algorithm, kind)) = self.sum() {
            if self.direction != Down {
                flags.extend(["--additional-checksum-algorithm", algorithm]);
                flags.extend((kind == "FULL_OBJECT").then_some("--full-object-checksum"));
            }
            if self.direction != Up {
                flags.push("--enable-additional-checksum");
            }
        }
        flags
    }

    fn run(self) {
        let real = Server::any();
        if self.proof == Proof::Checksum && without_checksums(&real) {
            return;
        }
        if self.direction != Up && self.kind == Parts && without_sizes_of_parts(&real) {
            return;
        }
        let secret = self.encryption != Encryption::Plain;
        if secret && real.skip(&["moto", "ceph", "rgw"], "it has no key management behind it, or no TLS in front") {
            return;
        }
        // A real server has the checksums that it has; of the embedded one, this is chosen.
        let server = match (self.proof, real.name.as_str()) {
            (Proof::ETag, "embedded") => without_unasked_checksums(),
            _ => real,
        };
        let (tree, from, to) = (Tree::new(), server.bucket("cell-from"), server.bucket("cell-to"));
        let content = self.content();
        let (source, target) = (format!("s3://{from}/"), format!("s3://{to}/"));
        let output = match self.direction {
            Up => {
                tree.file("files/object", &content);
                sync(&tree, "files", &target).to(&server).args(self.flags()).run()
            }
            Down => {
                self.put(&server, &from);
                sync(&tree, &source, "files").from(&server).args(self.flags()).run()
            }
            Across => {
                self.put(&server, &from);
                sync(&tree, &source, &target).from(&server).to(&server).args(self.flags()).run()
            }
        };
        // Nothing is left to compare: never a silent success.
        let unproven = secret && self.proof == Proof::ETag && self.direction != Up;
        let code = if unproven { 3 } else { 0 };
        assert_eq!(output.code, code, "{self:?}\n{}\n{}", output.stdout, output.stderr);
        let warnings = u64::from(unproven);
        assert_eq!((output.count("transferred_objects"), output.count("warnings")), (1, warnings), "{self:?}");
        let [all, by_checksum, by_etag, none] = verified(&output);
        assert_eq!((all, none), (1 - warnings, warnings), "{self:?}");
        match (self.proof, secret) {
            (_, true) => assert_eq!((by_checksum, by_etag), (1 - warnings, 0), "{self:?}"),
            // What goes up is proven by the checksum that goes with it too, where the service knows it.
            (Proof::ETag, false) => assert_eq!(by_etag, 1, "{self:?}"),
            (Proof::Checksum, false) => assert_eq!(by_checksum, 1, "{self:?}"),
        }
        match self.direction {
            Down => assert!(tree.contents("files").values().eq([&content]), "{self:?}"),
            Up | Across => {
                let target = format!("/{to}/object");
                let stored = server.request("GET", &target, &self.encryption.to_read(), b"").expect("the object").body;
                assert!(stored == content, "{self:?}");
                self.check_target(&server, &from, &to, &content);
            }
        }
    }

    fn check_target(self, server: &Server, from: &str, to: &str, content: &[u8]) {
        let key = self.encryption.to_read();
        let (etag, headers) = server.head_summed_with(to, "object", &key);
        if let Some((algorithm, kind)) = self.sum() {
            let value = &headers[&header(algorithm)];
            if !value.contains('-') {
                assert_eq!(*value, checksum(algorithm, content), "{self:?}");
            }
            if etag.contains('-') {
                assert_eq!(headers["x-amz-checksum-type"], kind, "{self:?}");
                assert_eq!(value.contains('-'), kind == "COMPOSITE", "{self:?}");
            }
        }
        if self.auto {
            let (theirs, their_headers) = server.head_summed_with(from, "object", &key);
            match self.encryption {
                Encryption::Plain => assert_eq!(etag, theirs, "{self:?}: the parts are kept"),
                Encryption::Kms | Encryption::Customer => {
                    assert_eq!(etag.split_once('-').map(|it| it.1), theirs.split_once('-').map(|it| it.1), "{self:?}");
                }
            }
            if let Some((algorithm, _)) = self.sum() {
                assert_eq!(headers[&header(algorithm)], their_headers[&header(algorithm)], "{self:?}");
            }
        }
    }
}

const AUTO: bool = true;
const AS_IT_COMES: bool = false;

macro_rules! cells {
    ($($name:ident: $direction:ident $kind:ident $encryption:ident $auto:ident $proof:ident;)+) => {
        $(
            #[test]
            fn $name() {
                let encryption = Encryption::$encryption;
                Cell { direction: $direction, kind: $kind, encryption, auto: $auto, proof: Proof::$proof }.run();
            }
        )+
    };
}

// Above the threshold a file always goes in parts. On the way up there are no parts to keep.
cells! {
    up_small_by_etag: Up Small Plain AS_IT_COMES ETag;
    up_parts_by_etag: Up Parts Plain AS_IT_COMES ETag;
    up_small_by_checksum: Up Small Plain AS_IT_COMES Checksum;
    up_parts_by_composite_checksum: Up Parts Plain AS_IT_COMES Checksum;
    up_parts_by_full_object_checksum: Up PartsWhole Plain AS_IT_COMES Checksum;
    down_small_by_etag: Down Small Plain AS_IT_COMES ETag;
    down_small_auto_by_etag: Down Small Plain AUTO ETag;
    down_single_by_etag: Down Single Plain AS_IT_COMES ETag;
    down_single_auto_by_etag: Down Single Plain AUTO ETag;
    down_parts_by_etag: Down Parts Plain AS_IT_COMES ETag;
    down_parts_auto_by_etag: Down Parts Plain AUTO ETag;
    down_small_by_checksum: Down Small Plain AS_IT_COMES Checksum;
    down_small_auto_by_checksum: Down Small Plain AUTO Checksum;
    down_single_by_checksum: Down Single Plain AS_IT_COMES Checksum;
    down_single_auto_by_checksum: Down Single Plain AUTO Checksum;
    down_parts_by_composite_checksum: Down Parts Plain AS_IT_COMES Checksum;
    down_parts_auto_by_composite_checksum: Down Parts Plain AUTO Checksum;
    down_parts_by_full_object_checksum: Down PartsWhole Plain AS_IT_COMES Checksum;
    down_parts_auto_by_full_object_checksum: Down PartsWhole Plain AUTO Checksum;
    across_small_by_etag: Across Small Plain AS_IT_COMES ETag;
    across_small_auto_by_etag: Across Small Plain AUTO ETag;
    across_single_by_etag: Across Single Plain AS_IT_COMES ETag;
    across_single_auto_by_etag: Across Single Plain AUTO ETag;
    across_parts_by_etag: Across Parts Plain AS_IT_COMES ETag;
    across_parts_auto_by_etag: Across Parts Plain AUTO ETag;
    across_small_by_checksum: Across Small Plain AS_IT_COMES Checksum;
    across_small_auto_by_checksum: Across Small Plain AUTO Checksum;
    across_single_by_checksum: Across Single Plain AS_IT_COMES Checksum;
    across_single_auto_by_checksum: Across Single Plain AUTO Checksum;
    across_parts_by_composite_checksum: Across Parts Plain AS_IT_COMES Checksum;
    across_parts_auto_by_composite_checksum: Across Parts Plain AUTO Checksum;
    across_parts_by_full_object_checksum: Across PartsWhole Plain AS_IT_COMES Checksum;
    across_parts_auto_by_full_object_checksum: Across PartsWhole Plain AUTO Checksum;
    up_small_kms_by_etag: Up Small Kms AS_IT_COMES ETag;
    up_parts_kms_by_etag: Up Parts Kms AS_IT_COMES ETag;
    up_small_kms_by_checksum: Up Small Kms AS_IT_COMES Checksum;
    up_parts_kms_by_composite_checksum: Up Parts Kms AS_IT_COMES Checksum;
    up_parts_kms_by_full_object_checksum: Up PartsWhole Kms AS_IT_COMES Checksum;
    down_small_kms_by_etag: Down Small Kms AS_IT_COMES ETag;
    down_small_kms_auto_by_etag: Down Small Kms AUTO ETag;
    down_single_kms_by_etag: Down Single Kms AS_IT_COMES ETag;
    down_single_kms_auto_by_etag: Down Single Kms AUTO ETag;
    down_parts_kms_by_etag: Down Parts Kms AS_IT_COMES ETag;
    down_parts_kms_auto_by_etag: Down Parts Kms AUTO ETag;
    down_small_kms_by_checksum: Down Small Kms AS_IT_COMES Checksum;
    down_small_kms_auto_by_checksum: Down Small Kms AUTO Checksum;
    down_single_kms_by_checksum: Down Single Kms AS_IT_COMES Checksum;
    down_single_kms_auto_by_checksum: Down Single Kms AUTO Checksum;
    down_parts_kms_by_composite_checksum: Down Parts Kms AS_IT_COMES Checksum;
    down_parts_kms_auto_by_composite_checksum: Down Parts Kms AUTO Checksum;
    down_parts_kms_by_full_object_checksum: Down PartsWhole Kms AS_IT_COMES Checksum;
    down_parts_kms_auto_by_full_object_checksum: Down PartsWhole Kms AUTO Checksum;
    across_small_kms_by_etag: Across Small Kms AS_IT_COMES ETag;
    across_small_kms_auto_by_etag: Across Small Kms AUTO ETag;
    across_single_kms_by_etag: Across Single Kms AS_IT_COMES ETag;
    across_single_kms_auto_by_etag: Across Single Kms AUTO ETag;
    across_parts_kms_by_etag: Across Parts Kms AS_IT_COMES ETag;
    across_parts_kms_auto_by_etag: Across Parts Kms AUTO ETag;
    across_small_kms_by_checksum: Across Small Kms AS_IT_COMES Checksum;
    across_small_kms_auto_by_checksum: Across Small Kms AUTO Checksum;
    across_single_kms_by_checksum: Across Single Kms AS_IT_COMES Checksum;
    across_single_kms_auto_by_checksum: Across Single Kms AUTO Checksum;
    across_parts_kms_by_composite_checksum: Across Parts Kms AS_IT_COMES Checksum;
    across_parts_kms_auto_by_composite_checksum: Across Parts Kms AUTO Checksum;
    across_parts_kms_by_full_object_checksum: Across PartsWhole Kms AS_IT_COMES Checksum;
    across_parts_kms_auto_by_full_object_checksum: Across PartsWhole Kms AUTO Checksum;
    up_small_sse_c_by_etag: Up Small Customer AS_IT_COMES ETag;
    up_parts_sse_c_by_etag: Up Parts Customer AS_IT_COMES ETag;
    up_small_sse_c_by_checksum: Up Small Customer AS_IT_COMES Checksum;
    up_parts_sse_c_by_composite_checksum: Up Parts Customer AS_IT_COMES Checksum;
    up_parts_sse_c_by_full_object_checksum: Up PartsWhole Customer AS_IT_COMES Checksum;
    down_small_sse_c_by_etag: Down Small Customer AS_IT_COMES ETag;
    down_small_sse_c_auto_by_etag: Down Small Customer AUTO ETag;
    down_single_sse_c_by_etag: Down Single Customer AS_IT_COMES ETag;
    down_single_sse_c_auto_by_etag: Down Single Customer AUTO ETag;
    down_parts_sse_c_by_etag: Down Parts Customer AS_IT_COMES ETag;
    down_parts_sse_c_auto_by_etag: Down Parts Customer AUTO ETag;
    down_small_sse_c_by_checksum: Down Small Customer AS_IT_COMES Checksum;
    down_small_sse_c_auto_by_checksum: Down Small Customer AUTO Checksum;
    down_single_sse_c_by_checksum: Down Single Customer AS_IT_COMES Checksum;
    down_single_sse_c_auto_by_checksum: Down Single Customer AUTO Checksum;
    down_parts_sse_c_by_composite_checksum: Down Parts Customer AS_IT_COMES Checksum;
    down_parts_sse_c_auto_by_composite_checksum: Down Parts Customer AUTO Checksum;
    down_parts_sse_c_by_full_object_checksum: Down PartsWhole Customer AS_IT_COMES Checksum;
    down_parts_sse_c_auto_by_full_object_checksum: Down PartsWhole Customer AUTO Checksum;
    across_small_sse_c_by_etag: Across Small Customer AS_IT_COMES ETag;
    across_small_sse_c_auto_by_etag: Across Small Customer AUTO ETag;
    across_single_sse_c_by_etag: Across Single Customer AS_IT_COMES ETag;
    across_single_sse_c_auto_by_etag: Across Single Customer AUTO ETag;
    across_parts_sse_c_by_etag: Across Parts Customer AS_IT_COMES ETag;
    across_parts_sse_c_auto_by_etag: Across Parts Customer AUTO ETag;
    across_small_sse_c_by_checksum: Across Small Customer AS_IT_COMES Checksum;
    across_small_sse_c_auto_by_checksum: Across Small Customer AUTO Checksum;
    across_single_sse_c_by_checksum: Across Single Customer AS_IT_COMES Checksum;
    across_single_sse_c_auto_by_checksum: Across Single Customer AUTO Checksum;
    across_parts_sse_c_by_composite_checksum: Across Parts Customer AS_IT_COMES Checksum;
    across_parts_sse_c_auto_by_composite_checksum: Across Parts Customer AUTO Checksum;
    across_parts_sse_c_by_full_object_checksum: Across PartsWhole Customer AS_IT_COMES Checksum;
    across_parts_sse_c_auto_by_full_object_checksum: Across PartsWhole Customer AUTO Checksum;
}

/// All that S3 knows, with what they may cover in parts.
const SUMS: [(&str, &str); 7] = [
    ("CRC32", "COMPOSITE"),
    ("CRC32", "FULL_OBJECT"),
    ("CRC32C", "COMPOSITE"),
    ("CRC32C", "FULL_OBJECT"),
    ("CRC64NVME", "FULL_OBJECT"),
    ("SHA1", "COMPOSITE"),
    ("SHA256", "COMPOSITE"),
];

fn with_sum(algorithm: &'static str, kind: &'static str) -> Vec<&'static str> {
    let mut flags = vec!["--additional-checksum-algorithm", algorithm];
    flags.extend((kind == "FULL_OBJECT").then_some("--full-object-checksum"));
    flags
}

/// The composite checksum of these parts, as S3 writes it.
fn composite(algorithm: &str, parts: &[&[u8]]) -> String {
    let sums: Vec<u8> = parts
        .iter()
        .flat_map(|part| base64_simd::STANDARD.decode_to_vec(checksum(algorithm, part)).expect("base64"))
        .collect();
    format!("{}-{}", checksum(algorithm, &sums), parts.len())
}

#[test]
fn every_checksum_goes_up_whole_and_in_parts_and_comes_back() {
    let content = noise(4, 17 * MIB + 3);
    for (algorithm, kind) in SUMS {
        let (server, tree) = (Server::any(), Tree::new());
        if without_checksums(&server) {
            return;
        }
        let (bucket, other) = (server.bucket("sums"), server.bucket("sums-again"));
        tree.file("source/small", &content[..1_000]).file("source/large", &content).file("source/empty", "");
        let place = format!("s3://{bucket}/");
        let up = sync(&tree, "source", &place).to(&server).args(with_sum(algorithm, kind)).expect(0);
        assert_eq!(verified(&up), [3, 3, 3, 0], "{algorithm} {kind}");
        let value = |key: &str| server.head_summed(&bucket, key).1[&header(algorithm)].clone();
        assert_eq!(value("small"), checksum(algorithm, &content[..1_000]));
        assert_eq!(value("empty"), checksum(algorithm, b""));
        let expected = match kind {
            "COMPOSITE" => composite(algorithm, &cut(&content, &[8 * MIB, 8 * MIB, MIB + 3])),
            _ => checksum(algorithm, &content),
        };
        assert_eq!(value("large"), expected, "{algorithm} {kind}");
        let down = sync(&tree, &place, "back").from(&server).arg("--enable-additional-checksum").expect(0);
        assert_eq!((verified(&down)[..2].to_vec(), down.count("warnings")), (vec![3, 3], 0), "{algorithm} {kind}");
        assert_eq!(tree.contents("source"), tree.contents("back"));
        let across = sync(&tree, &place, &format!("s3://{other}/")).from(&server).to(&server);
        let across = across.args(with_sum(algorithm, kind)).expect(0);
        assert_eq!((verified(&across)[..2].to_vec(), across.count("warnings")), (vec![3, 3], 0), "{algorithm} {kind}");
        assert_eq!(server.head_summed(&other, "large").1[&header(algorithm)], expected, "{algorithm} {kind}");
    }
}

#[test]
fn the_source_may_have_another_checksum_than_the_target_is_given() {
    for (theirs, ours) in [("SHA1", "SHA256"), ("SHA256", "CRC32"), ("CRC32C", "CRC64NVME")] {
        let (server, tree) = (Server::any(), Tree::new());
        if without_checksums(&server) {
            return;
        }
        let (from, to) = (server.bucket("other-from"), server.bucket("other-to"));
        let content = noise(5, 12 * MIB);
        server.put_summed(&from, "small", theirs, b"small");
        server.put_summed(&from, "single", theirs, &content);
        server.put_parts(&from, "parts", &cut(&content, &[5 * MIB, 7 * MIB]), Some((theirs, "COMPOSITE")), &[]);
        let run = sync(&tree, &format!("s3://{from}/"), &format!("s3://{to}/")).from(&server).to(&server);
        let run = run.args(["--additional-checksum-algorithm", ours, "--enable-additional-checksum"]).expect(0);
        assert_eq!((verified(&run)[..2].to_vec(), run.count("warnings")), (vec![3, 3], 0), "{theirs} {ours}");
        assert_eq!(server.objects(&to, ""), server.objects(&from, ""));
        assert!(server.head_summed(&to, "parts").1.contains_key(&header(ours)));
    }
}

#[test]
fn parts_larger_than_a_buffer_have_their_checksum_as_well() {
    // All of them are: none tells beforehand what the service can do.
    let content = noise(6, 49 * MIB + 1);
    for (algorithm, kind) in SUMS {
        let (server, tree) = (Server::any(), Tree::new());
        if without_checksums(&server) {
            return;
        }
        let (bucket, other) = (server.bucket("long"), server.bucket("long-again"));
        tree.file("source/large", &content);
        let place = format!("s3://{bucket}/");
        let run = |cmd: Cmd| cmd.args(["--multipart-chunksize", "20MiB"]).args(with_sum(algorithm, kind)).expect(0);
        let up = run(sync(&tree, "source", &place).to(&server));
        assert_eq!(verified(&up)[..2], [1, 1], "{algorithm} {kind}");
        let expected = match kind {
            "COMPOSITE" => composite(algorithm, &cut(&content, &[20 * MIB, 20 * MIB, 9 * MIB + 1])),
            _ => checksum(algorithm, &content),
        };
        assert_eq!(server.head_summed(&bucket, "large").1[&header(algorithm)], expected, "{algorithm} {kind}");
        let down = sync(&tree, &place, "back").from(&server).expect(0);
        assert_eq!(verified(&down)[..2], [1, 1], "{algorithm} {kind}");
        assert_eq!(tree.contents("source"), tree.contents("back"));
        let across = run(sync(&tree, &place, &format!("s3://{other}/")).from(&server).to(&server));
        assert_eq!(verified(&across)[..2], [1, 1], "{algorithm} {kind}");
        assert_eq!(server.head_summed(&other, "large").1[&header(algorithm)], expected, "{algorithm} {kind}");
    }
}

#[test]
fn an_object_sent_in_one_piece_through_several_buffers_has_its_checksum_as_well() {
    let content = noise(7, 21 * MIB + 1);
    for algorithm in ["CRC32", "CRC64NVME", "SHA1"] {
        let (server, tree) = (Server::any(), Tree::new());
        if without_checksums(&server) {
            return;
        }
        let (bucket, other) = (server.bucket("piece"), server.bucket("piece-again"));
        tree.file("source/large", &content);
        let place = format!("s3://{bucket}/");
        let run = |cmd: Cmd| {
            let cmd = cmd.args(["--multipart-threshold", "64MiB", "--additional-checksum-algorithm", algorithm]);
            cmd.expect(0)
        };
        let up = run(sync(&tree, "source", &place).to(&server));
        assert_eq!(verified(&up), [1, 1, 1, 0], "{algorithm}");
        let (etag, headers) = server.head_summed(&bucket, "large");
        assert!(!etag.contains('-'));
        assert_eq!(headers[&header(algorithm)], checksum(algorithm, &content));
        let across = run(sync(&tree, &place, &format!("s3://{other}/")).from(&server).to(&server));
        assert_eq!(verified(&across)[..2], [1, 1], "{algorithm}");
        assert_eq!(server.head_summed(&other, "large").1[&header(algorithm)], checksum(algorithm, &content));
    }
}

#[test]
fn a_single_part_object_of_30_mib_is_no_mismatch_with_the_defaults() {
    // s3sync's own edge case: it expects none verified, and a warning.
    let (server, tree, content) = (without_unasked_checksums(), Tree::new(), noise(8, 30 * MIB));
    let (from, to) = (server.bucket("thirty"), server.bucket("thirty-again"));
    server.put(&from, "a", &content);
    let from = format!("s3://{from}/");
    let down = sync(&tree, &from, "files").from(&server).expect(0);
    assert_eq!((verified(&down), down.count("warnings")), ([1, 0, 1, 0], 0));
    let across = sync(&tree, &from, &format!("s3://{to}/")).from(&server).to(&server).expect(0);
    assert_eq!((verified(&across)[0], across.count("warnings")), (1, 0));
}

#[test]
fn parts_that_only_look_equal_are_found_out_and_are_no_mismatch() {
    // 5 MiB into 12 MiB goes three times, as many as there are parts.
    let sizes = [5 * MIB, 6 * MIB, MIB];
    let (server, tree, content) = (without_unasked_checksums(), Tree::new(), noise(9, 12 * MIB));
    let (bucket, to) = (server.bucket("guess"), server.bucket("guess-to"));
    server.put_parts(&bucket, "large", &cut(&content, &sizes), None, &[]);
    // Somebody copied the object of another program that had stored its part size with it.
    server.put_parts(&bucket, "stale", &cut(&content, &sizes), None, &[("x-amz-meta-ropeway-part-bytes", "5242880")]);
    let place = format!("s3://{bucket}/");
    let down = sync(&tree, &place, "files").from(&server).expect(0);
    assert_eq!((verified(&down), down.count("warnings")), ([2, 0, 2, 0], 0));
    let across = sync(&tree, &place, &format!("s3://{to}/")).from(&server).to(&server).expect(0);
    assert_eq!((verified(&across)[0], across.count("warnings")), (2, 0));
    // The same below the threshold, where the whole object is in memory.
    let down = sync(&tree, &place, "more").from(&server).args(["--multipart-threshold", "64MiB"]).expect(0);
    assert_eq!((verified(&down), down.count("warnings")), ([2, 0, 2, 0], 0));
}

#[test]
fn small_objects_in_parts_keep_them_too() {
    let (server, tree, content) = (Server::any(), Tree::new(), noise(10, 5 * MIB + 1));
    if without_sizes_of_parts(&server) {
        return;
    }
    let (from, to) = (server.bucket("keep"), server.bucket("keep-to"));
    server.put_parts(&from, "two", &cut(&content, &[5 * MIB, 1]), None, &[]);
    server.put_parts(&from, "one", &[b"only"], None, &[]);
    let run = sync(&tree, &format!("s3://{from}/"), &format!("s3://{to}/")).from(&server).to(&server);
    let run = run.arg("--auto-chunksize").expect(0);
    assert_eq!((verified(&run)[0], run.count("warnings")), (2, 0));
    for key in ["one", "two"] {
        assert_eq!(server.head_summed(&to, key).0, server.head_summed(&from, key).0, "{key}");
    }
}

#[test]
fn a_service_that_knows_nothing_of_attributes_is_asked_once() {
    let (server, tree, content) = (in_parts(b"", 1), Tree::new(), noise(18, 12 * MIB));
    // As Ceph does, it answers with the object, and knows nothing of part numbers either.
    for key in ["a", "b"] {
        let object = Object { etag: format!("\"{}-3\"", "0".repeat(32)), ..Object::new(&content[..]) };
        server
            .model()
            .objects
            .insert(key.to_owned(), object.with(&header("SHA256"), &(checksum("SHA256", b"") + "-3")));
    }
    server.model().objects.remove("large");
    let down = sync(&tree, "s3://bucket/", "files").from(&server.server).args(["--worker-size", "1"]).expect(3);
    assert_eq!((verified(&down), down.count("warnings"), down.count("retries")), ([0, 0, 0, 2], 2, 0));
    let asked = server.requests().into_iter().filter(|request| request.target.contains("attributes")).count();
    assert_eq!(asked, 1);
}

/// A bucket with this object, which has `number` parts by its ETag.
fn in_parts(content: &[u8], number: u32) -> Scripted {
    let server = Scripted::start();
    let mut object = Object::new(content);
    object.etag = format!("\"{}-{number}\"", object.etag.trim_matches('"'));
    server.model().objects.insert("large".to_owned(), object);
    server
}

#[test]
fn parts_that_contradict_each_other_fail_the_object_with_a_hint() {
    let content = noise(11, 12 * MIB);
    // (what a HEAD of the first part says, words of the error)
    let table: [(Option<(usize, &str)>, &str); 3] = [
        (Some((5 * MIB, "4")), "the service says that it has 4"),
        (None, "the service does not tell their sizes"),
        (Some((5 * MIB, "3")), "have 15728640 bytes together"),
    ];
    for (part, words) in table {
        let (server, tree) = (in_parts(&content, 3), Tree::new());
        if let Some((size, count)) = part {
            for number in ["1", "2", "3"] {
                let answer = Answer::new(206)
                    .header("etag", &server.model().objects["large"].etag.clone())
                    .header("content-length", &size.to_string())
                    .header("content-range", &format!("bytes 0-{}/{}", size - 1, content.len()))
                    .header("x-amz-mp-parts-count", count);
                server.on("HeadObject", "large").query("partNumber", number).answer(answer);
            }
        }
        let output = sync(&tree, "s3://bucket/", "files").from(&server.server).arg("--auto-chunksize").expect(1);
        let error = field(&output, "failed", "error");
        assert!(error.contains(words) && error.contains("without --auto-chunksize"), "{error}");
        assert!(tree.names("files").is_empty());
    }
}

#[test]
fn a_download_whose_checksum_is_wrong_does_not_replace_the_file() {
    for (algorithm, size) in [("SHA256", 1_000), ("SHA1", 9 * MIB), ("CRC32", 9 * MIB), ("CRC32C", 10)] {
        let (server, tree, content) = (Scripted::start(), Tree::new(), noise(12, size));
        let object = Object::new(content).with(&header(algorithm), &checksum(algorithm, b"something else"));
        server.model().objects.insert("a".to_owned(), object);
        tree.file("files/a", "before").set_modified("files/a", 1_000_000_000_000_000_000);
        let output = sync(&tree, "s3://bucket/", "files").from(&server.server).expect(1);
        let error = field(&output, "failed", "error");
        assert!(error.contains(&format!("verification failed: the content's {algorithm} is ")), "{error}");
        assert_eq!(std::fs::read(tree.at("files/a")).unwrap(), b"before");
        assert_eq!(tree.names("files").len(), 1, "nothing half-made is left");
    }
}

/// It has the form of an MD5, and is of nothing that is sent here.
const FOREIGN: &str = "\"0123456789abcdef0123456789abcdef\"";

/// A server that stores every `a` under an ETag that is of other bytes, and says so.
fn spoiling() -> Scripted {
    let server = Scripted::start();
    server.on("PutObject", "a").play(|exchange| {
        let answer = exchange.perform()?.without("etag").header("etag", FOREIGN);
        exchange.model().objects.get_mut("a").expect("it was put").etag = FOREIGN.to_owned();
        exchange.answer(&answer)
    });
    server
}

#[test]
fn an_upload_that_came_out_wrong_is_removed_if_the_run_made_it() {
    let (server, tree) = (spoiling(), Tree::new());
    tree.file("source/a", "one").file("source/b", "two");
    let output = sync(&tree, "source", "s3://bucket/").to(&server.server).expect(1);
    let error = field(&output, "failed", "error");
    assert!(error.ends_with("the object was removed from the target"), "{error}");
    assert_eq!(server.model().objects.keys().collect::<Vec<_>>(), ["b"], "and the other one is there");
    assert_eq!(output.count("transferred_objects"), 1);
}

#[test]
fn an_upload_that_came_out_wrong_is_left_if_it_replaced_another() {
    for flags in [&[][..], &["--remove-modified-filter"]] {
        let (server, tree) = (spoiling(), Tree::new());
        server.model().objects.insert("a".to_owned(), Object::new("before"));
        tree.file("source/a", "one");
        let output = sync(&tree, "source", "s3://bucket/").to(&server.server).args(flags).expect(1);
        let error = field(&output, "failed", "error");
        assert!(error.contains("the object is left at the target") && error.contains("keeps no versions"), "{error}");
        assert!(server.model().objects.contains_key("a"));
        assert_eq!(server.deletes().len(), 0);
    }
}

#[test]
fn an_upload_that_came_out_wrong_is_removed_and_the_older_version_shows_again() {
    let (server, tree) = (Server::any(), Tree::new());
    if without_checksums(&server) {
        return;
    }
    let bucket = server.bucket("restored");
    if server.name == "embedded" {
        server.request("PUT", &format!("/{bucket}"), &[], b"").expect("the bucket");
    }
    let enable = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    server.request("PUT", &format!("/{bucket}?versioning="), &[], enable).expect("versioning");
    server.put(&bucket, "a", "before");
    tree.file("source/a", "one");
    // The answers say on their way back that the content was another, each time that it is sent.
    let relay = support::relay::Relay::before(&server);
    relay.replace(&checksum("CRC64NVME", b"one"), &checksum("CRC64NVME", b"two"), 100);
    let output = sync(&tree, "source", &format!("s3://{bucket}/")).to(&relay.server).args(["--check-size"]).expect(1);
    let error = field(&output, "failed", "error");
    assert!(error.ends_with("that version was removed from the target, which shows what it had before"), "{error}");
    assert_eq!(server.get(&bucket, "a").unwrap(), b"before");
    let versions = server.request("GET", &format!("/{bucket}?versions="), &[], b"").expect("versions");
    assert_eq!(versions.elements("VersionId").len(), 1, "{}", versions.text());
}

#[test]
fn disable_multipart_verify_compares_parts_but_not_what_covers_them() {
    let (server, tree, content) = (without_unasked_checksums(), Tree::new(), noise(13, 11 * MIB));
    let bucket = server.bucket("no-multipart");
    server.put_parts(&bucket, "etag", &cut(&content, &[5 * MIB, 6 * MIB]), None, &[]);
    server.put_parts(&bucket, "sum", &cut(&content, &[5 * MIB, 6 * MIB]), Some(("SHA256", "COMPOSITE")), &[]);
    server.put(&bucket, "single", &content);
    let place = format!("s3://{bucket}/");
    let down = sync(&tree, &place, "files").from(&server).arg("--disable-multipart-verify").expect(0);
    // As the person wants it, so it is no warning.
    assert_eq!((verified(&down), down.count("warnings")), ([1, 0, 1, 2], 0));
    // A wrong ETag of parts goes unseen with it, and not without.
    for (flags, code) in [(&["--disable-multipart-verify"][..], 0), (&[], 1)] {
        let (scripted, tree) = (Scripted::start(), Tree::new());
        tree.file("source/a", &content);
        scripted.on("CompleteMultipartUpload", "a").change(|answer| {
            let document = String::from_utf8(answer.body.clone()).unwrap();
            let (before, rest) = document.split_once("<ETag>").unwrap();
            let (_, after) = rest.split_once("</ETag>").unwrap();
            let etag = format!("{}-2", FOREIGN.trim_matches('"'));
            answer.body = format!("{before}<ETag>\"{etag}\"</ETag>{after}").into_bytes();
        });
        let output = sync(&tree, "source", "s3://bucket/").to(&scripted.server).args(flags).run();
        assert_eq!(output.code, code, "{}", output.stdout);
    }
}

#[test]
fn disable_etag_verify_leaves_the_checksums_of_parts() {
    let (server, tree, content) = (without_unasked_checksums(), Tree::new(), noise(19, 11 * MIB));
    let bucket = server.bucket("no-etag");
    server.put_parts(&bucket, "etag", &cut(&content, &[5 * MIB, 6 * MIB]), None, &[]);
    server.put_parts(&bucket, "sum", &cut(&content, &[5 * MIB, 6 * MIB]), Some(("SHA1", "COMPOSITE")), &[]);
    let down = sync(&tree, &format!("s3://{bucket}/"), "files").from(&server).arg("--disable-etag-verify").expect(0);
    assert_eq!((verified(&down), down.count("warnings")), ([1, 1, 0, 1], 0));
}

#[test]
fn disable_content_md5_header_sends_none_and_compares_etags_all_the_same() {
    for flags in [&[][..], &["--disable-content-md5-header"]] {
        let (server, tree) = (Scripted::start(), Tree::new());
        tree.file("source/a", "one").file("source/large", noise(14, 9 * MIB));
        let output = sync(&tree, "source", "s3://bucket/").to(&server.server).args(flags).expect(0);
        assert_eq!(verified(&output), [2, 0, 2, 0]);
        let sent: Vec<_> = ["PutObject", "UploadPart"].iter().flat_map(|name| server.requests_of(name)).collect();
        assert!(sent.len() >= 3 && sent.iter().all(|it| it.header("content-md5").is_some() == flags.is_empty()));
    }
}

#[test]
fn disable_additional_checksum_verify_leaves_the_comparison_to_the_service() {
    let flags = ["--additional-checksum-algorithm", "SHA256"];
    for (more, code) in [(&[][..], 1), (&["--disable-additional-checksum-verify"], 0)] {
        let (server, tree) = (Scripted::start(), Tree::new());
        tree.file("source/a", "one");
        server.on("PutObject", "a").change(|answer| {
            *answer = answer.clone().header(&header("SHA256"), &checksum("SHA256", b"other"));
        });
        let output = sync(&tree, "source", "s3://bucket/").to(&server.server).args(flags).args(more).run();
        assert_eq!(output.code, code, "{}", output.stdout);
        let put = server.requests_of("PutObject").remove(0);
        assert_eq!(put.header(&header("SHA256")), Some(checksum("SHA256", b"one").as_str()), "it is sent in any case");
    }
}

#[test]
fn enable_additional_checksum_warns_where_the_source_has_none() {
    let (server, tree) = (without_unasked_checksums(), Tree::new());
    let bucket = server.bucket("expected");
    server.put(&bucket, "without", "one");
    server.put_summed(&bucket, "with", "SHA1", b"two");
    let place = format!("s3://{bucket}/");
    let down = sync(&tree, &place, "files").from(&server).arg("--enable-additional-checksum").expect(3);
    assert_eq!((verified(&down), down.count("warnings")), ([2, 1, 2, 0], 1));
    assert_eq!(field(&down, "warned", "key"), "without");
    assert_eq!(sync(&tree, &place, "more").from(&server).expect(0).count("warnings"), 0);
}

#[test]
fn a_target_that_does_not_keep_the_checksum_is_a_warning() {
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/a", "one").file("source/large", noise(15, 9 * MIB));
    let run = |target: &str, more: &[&str]| sync(&tree, "source", target).to(&server.server).args(more).run();
    let output = run("s3://bucket/", &["--additional-checksum-algorithm", "SHA256"]);
    assert_eq!((output.code, verified(&output), output.count("warnings")), (3, [2, 0, 2, 0], 2));
    assert!(field(&output, "warned", "reason").contains("does not keep the SHA256"));
    assert_eq!(run("s3://bucket/other/", &[]).code, 0, "nobody asked for one");
}

#[test]
fn an_object_that_cannot_be_verified_is_a_warning_and_is_counted() {
    let (server, tree) = (Scripted::start(), Tree::new());
    let object = Object { etag: "\"opaque\"".to_owned(), ..Object::new("one") };
    server.model().objects.insert("a".to_owned(), object);
    let output = sync(&tree, "s3://bucket/", "files").from(&server.server).expect(3);
    assert_eq!((verified(&output), output.count("warnings")), ([0, 0, 0, 1], 1));
    assert!(field(&output, "warned", "reason").contains("neither a checksum nor an ETag that is an MD5"));
}

#[test]
fn a_single_part_object_is_put_whole_with_auto_chunksize_whatever_its_size() {
    let (server, target, tree) = (without_unasked_checksums(), Scripted::start(), Tree::new());
    let (bucket, content) = (server.bucket("whole"), noise(16, 20 * MIB));
    server.put(&bucket, "large", &content);
    let run = sync(&tree, &format!("s3://{bucket}/"), "s3://bucket/").from(&server).to(&target.server);
    let run = run.arg("--auto-chunksize").expect(0);
    assert_eq!((verified(&run)[0], run.count("warnings")), (1, 0));
    assert_eq!((target.requests_of("PutObject").len(), target.requests_of("UploadPart").len()), (1, 0));
    assert!(target.model().objects["large"].content == content);
}

#[test]
fn payload_signing_is_off_with_and_without_its_flag() {
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/a", "one");
    for flags in [&[][..], &["--disable-payload-signing", "--remove-modified-filter"]] {
        sync(&tree, "source", "s3://bucket/").to(&server.server).args(flags).expect(0);
    }
    let signed = server.requests_of("PutObject");
    assert!(
        signed.len() == 2 && signed.iter().all(|put| put.header("x-amz-content-sha256") == Some("UNSIGNED-PAYLOAD"))
    );
}

#[test]
fn an_interrupted_upload_with_a_checksum_is_continued_and_proven_by_it() {
    let (server, tree, content) = (Server::any(), Tree::new(), noise(17, 20 * MIB));
    if without_checksums(&server) {
        return;
    }
    for (algorithm, kind) in [("SHA256", "COMPOSITE"), ("CRC32", "FULL_OBJECT")] {
        for journal_is_lost in [false, true] {
            let relay = support::relay::Relay::before(&server);
            let (bucket, state) = (server.bucket("continued"), Tree::new());
            tree.file("source/large", &content);
            let up = |server: &Server| {
                let cmd = sync(&tree, "source", &format!("s3://{bucket}/")).to(server);
                let cmd = cmd.args(["--max-parallel-uploads", "1", "--multipart-chunksize", "5MiB", "--state-dir"]);
                cmd.arg(state.path()).args(with_sum(algorithm, kind))
            };
            relay.hold_uploads_after(11 * MIB as u64);
            let mut child = up(&relay.server).spawn();
            assert!(relay.wait_until_held());
            child.kill().expect("it runs");
            child.wait().expect("it ends");
            if journal_is_lost {
                let mut names = state.names("").into_iter();
                let journal = names.find(|name| name.extension().is_some_and(|it| it == "db")).expect("a journal");
                let journal = rusqlite::Connection::open(state.at(journal)).expect("it opens");
                journal.execute("DELETE FROM part", []).expect("a journal");
            }
            relay.cut();
            relay.release();
            let output = up(&relay.server).expect(0);
            assert_eq!(output.count("resumed_bytes"), 10 * MIB as u64, "{algorithm} {kind}: {}", output.stdout);
            assert_eq!(verified(&output)[..2], [1, 1]);
            let expected = match kind {
                "COMPOSITE" => composite(algorithm, &cut(&content, &[5 * MIB; 4])),
                _ => checksum(algorithm, &content),
            };
            assert_eq!(server.head_summed(&bucket, "large").1[&header(algorithm)], expected);
        }
    }
}

/// Ceph tells neither the parts of an object nor their sizes; the size that was noted at the upload is all there is.
#[test]
fn a_content_that_differs_is_a_mismatch_also_where_the_service_tells_no_parts() {
    let (server, tree) = (Scripted::start(), Tree::new());
    let content = noise(1, 12 * MIB);
    let object = Object::new(content).with("x-amz-meta-ropeway-part-bytes", &(8 * MIB).to_string());
    let etag = "\"00112233445566778899aabbccddeeff-2\"".to_owned();
    server.model().objects.insert("k".to_owned(), Object { etag, ..object });
    tree.file("target/k", "the old file");
    let output = sync(&tree, "s3://bucket/", "target").from(&server.server).expect(1);
    assert_eq!((output.count("failed_objects"), output.count("transferred_objects")), (1, 0));
    assert_eq!(std::fs::read(tree.at("target/k")).unwrap(), b"the old file");
    let verify = Cmd::new(tree.path(), ["verify", "s3://bucket/", "other"]).from(&server.server);
    tree.file("other/k", noise(1, 12 * MIB));
    assert!(verify.expect(4).stdout.contains("\"kind\":\"content\""));
}

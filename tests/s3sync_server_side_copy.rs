//! s3sync's own scenarios about copies that the service makes by itself, through CopyObject and through UploadPartCopy: that
//! no content passes here, that what arrives is the same as if it had, and what happens when the service refuses.

mod support;

use std::collections::BTreeMap;

use ropeway::serve::{ServeSettings, Storage};
use support::attributes::{KEY_1, KEY_2, SIZES, bucket_with, key_flags, lacks_encryption, tags, with_key};
use support::scripted::{Answer, Scripted};
use support::tree::noise;
use support::{Cmd, Server, Tree};

const MIB: usize = 1 << 20;

const OWN: [(&str, &str); 9] = [
    ("cache-control", "no-cache"),
    ("content-disposition", "inline"),
    ("content-encoding", "gzip"),
    ("content-language", "de"),
    ("content-type", "text/x-own"),
    ("expires", "Thu, 20 May 2044 00:00:00 GMT"),
    ("x-amz-website-redirect-location", "/own"),
    ("x-amz-meta-key1", "value1"),
    ("x-amz-tagging", "tag1=tag_value1&tag2=a%20b"),
];

/// A server that writes its requests down, so that a test can tell which way the bytes took. A real one shows it by nothing.
struct Watched {
    server: Server,
    log: Option<(tempfile::TempDir, std::path::PathBuf)>,
}

impl Watched {
    fn start() -> Watched {
        if std::env::var_os("ROPEWAY_TEST_ENDPOINT").is_some() {
            return Watched { server: Server::any(), log: None };
        }
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("requests");
        let settings = ServeSettings { request_log: Some(path.clone()), ..ServeSettings::new(Storage::Memory) };
        Watched { server: Server::with(settings), log: Some((directory, path)) }
    }

    /// Requests so far, as the log has them.
    fn requests(&self) -> Vec<String> {
        let Some((_, path)) = &self.log else { return Vec::new() };
        std::fs::read_to_string(path).expect("the log").lines().map(str::to_owned).collect()
    }

    /// No object's content was read since there were `before` requests.
    #[track_caller]
    fn assert_nothing_was_read(&self, before: usize) {
        let read =
            |line: &&String| line.contains("GET /") && !line.contains("list-type=2") && !line.contains("tagging");
        let reads: Vec<_> = self.requests().into_iter().skip(before).collect();
        let reads: Vec<_> = reads.iter().filter(read).collect();
        assert!(reads.is_empty(), "{reads:?}");
    }
}

fn copy(tree: &Tree, server: &Server, from: &str, to: &str) -> Cmd {
    let sync = Cmd::sync(tree.path(), &format!("s3://{from}"), &format!("s3://{to}"));
    sync.from(server).to(server).args(["--json", "--server-side-copy"])
}

/// The exit code where the object in parts cannot be proven: it has no ETag of parts at the source, and without a CRC64NVME
/// there is nothing else to compare, which is a warning.
fn code_without_crc(server: &Server) -> i32 {
    if server.name == "embedded" { 0 } else { 3 }
}

/// What an object was given beside its content.
fn attributes(server: &Server, bucket: &str, key: &str) -> BTreeMap<String, String> {
    let mut headers = server.head(bucket, key).unwrap_or_else(|| panic!("no object `{key}`"));
    headers.retain(|name, _| {
        let named = OWN.iter().any(|(own, _)| own == name) || name == "x-amz-storage-class";
        named || name.starts_with("x-amz-meta-") && !name.starts_with("x-amz-meta-ropeway-")
    });
    headers
}

#[test]
fn s3_to_s3_without_prefix_server_side_copy() {
    let (watched, tree) = (Watched::start(), Tree::new());
    let server = &watched.server;
    let (from, to) = (bucket_with(server, "plain-from", &[]), server.bucket("plain-to"));
    let before = watched.requests().len();
    let run = copy(&tree, server, &from, &to).expect(code_without_crc(server));
    assert_eq!((run.count("transferred_objects"), run.count("failed_objects")), (2, 0));
    assert_eq!(run.count("verified") + run.count("warnings"), 2);
    watched.assert_nothing_was_read(before);
    assert!(server.objects(&from, "") == server.objects(&to, ""), "the contents are the same");
    assert_eq!(copy(&tree, server, &from, &to).expect(0).count("skipped_objects"), 2);
    assert!(server.open_uploads(&to).is_empty());
}

#[test]
fn s3_to_s3_with_prefix_server_side_copy() {
    let (server, tree) = (Server::any(), Tree::new());
    let (from, to) = (server.bucket("prefix-from"), server.bucket("prefix-to"));
    for (name, size) in SIZES {
        server.put(&from, &format!("dir/{name}"), noise(size as u64, size));
    }
    server.put(&from, "outside", "x");
    copy(&tree, &server, &format!("{from}/dir/"), &format!("{to}/other/place/")).expect(code_without_crc(&server));
    assert_eq!(server.keys(&to, ""), ["other/place/large", "other/place/small"]);
}

#[test]
fn s3_to_s3_sever_side_copy_metadata_test() {
    let (watched, tree) = (Watched::start(), Tree::new());
    let server = &watched.server;
    let (from, to) = (bucket_with(server, "own-from", &OWN), server.bucket("own-to"));
    let before = watched.requests().len();
    copy(&tree, server, &from, &to).expect(code_without_crc(server));
    watched.assert_nothing_was_read(before);
    for (name, _) in SIZES {
        assert_eq!(attributes(server, &from, name), attributes(server, &to, name), "{name}");
        assert_eq!(attributes(server, &to, name).len(), OWN.len() - 1, "{name}");
        assert_eq!(tags(server, &to, name), ["tag1=tag_value1", "tag2=a b"], "{name}");
    }
}

#[test]
fn s3_to_s3_with_prefix_server_side_copy_all_metadata() {
    let (server, tree) = (Server::any(), Tree::new());
    let (from, to) = (bucket_with(&server, "over-from", &OWN), server.bucket("over-to"));
    let run = copy(&tree, &server, &from, &to).args(["--cache-control", "max-age=9", "--content-type", "a/b"]);
    run.args(["--metadata", "new=1", "--tagging", "t=2", "--website-redirect", "/there"])
        .expect(code_without_crc(&server));
    for (name, _) in SIZES {
        let mut expected = attributes(&server, &from, name);
        expected.remove("x-amz-meta-key1");
        let given = [
            ("cache-control", "max-age=9"),
            ("content-type", "a/b"),
            ("x-amz-website-redirect-location", "/there"),
            ("x-amz-meta-new", "1"),
        ];
        expected.extend(given.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(attributes(&server, &to, name), expected, "{name}");
        assert_eq!(tags(&server, &to, name), ["t=2"], "{name}");
    }
}

#[test]
fn server_side_copy_carries_over_nothing_that_is_to_stay_behind() {
    let (server, tree) = (Server::any(), Tree::new());
    let (from, to) = (bucket_with(&server, "drop-from", &OWN), server.bucket("drop-to"));
    let run = copy(&tree, &server, &from, &to).args(["--no-sync-system-metadata", "--no-sync-user-defined-metadata"]);
    run.arg("--disable-tagging").expect(code_without_crc(&server));
    for (name, _) in SIZES {
        let mut shown = attributes(&server, &to, name);
        assert_ne!(shown.remove("content-type").unwrap_or_default(), "text/x-own", "{name}");
        assert!(shown.is_empty(), "{name}: {shown:?}");
        assert!(tags(&server, &to, name).is_empty(), "{name}");
    }
}

#[test]
fn s3_to_s3_server_side_copy_with_storage_class() {
    let (server, tree) = (Server::any(), Tree::new());
    if server.skip(&["ceph", "rgw"], "it has no storage class but its own") {
        return;
    }
    let from = bucket_with(&server, "class-from", &[("x-amz-storage-class", "STANDARD_IA")]);
    let (same, other) = (server.bucket("class-same"), server.bucket("class-other"));
    copy(&tree, &server, &from, &same).expect(code_without_crc(&server));
    copy(&tree, &server, &from, &other).args(["--storage-class", "ONEZONE_IA"]).expect(code_without_crc(&server));
    for (name, _) in SIZES {
        assert_eq!(attributes(&server, &same, name)["x-amz-storage-class"], "STANDARD_IA", "{name}");
        assert_eq!(attributes(&server, &other, name)["x-amz-storage-class"], "ONEZONE_IA", "{name}");
    }
}

#[test]
fn s3_to_s3_server_side_copy_with_special_chars() {
    let (watched, tree) = (Watched::start(), Tree::new());
    let server = &watched.server;
    if server.skip(&["ceph", "rgw"], "it decodes the name of a part's source twice, and dies of what comes out") {
        return;
    }
    let (from, to) = (server.bucket("odd-from"), server.bucket("odd-to"));
    let odd = ["a b", "a+b", "a%20b", "a?versionId=1", "dir/../x", "ü/日本", "#&=;:@,!$'()*", "small?"];
    for key in odd {
        server.put(&from, key, key);
    }
    server.put(&from, "large +?%/ü", noise(5, 11 * MIB));
    let before = watched.requests().len();
    let run = copy(&tree, server, &from, &to).expect(code_without_crc(server));
    assert_eq!(run.count("transferred_objects"), odd.len() as u64 + 1);
    watched.assert_nothing_was_read(before);
    assert!(server.objects(&from, "") == server.objects(&to, ""));
}

#[test]
fn s3_to_s3_with_server_side_copy_dry_run() {
    let (server, tree) = (Server::any(), Tree::new());
    let (from, to) = (bucket_with(&server, "dry-from", &[]), server.bucket("dry-to"));
    let run = copy(&tree, &server, &from, &to).arg("--dry-run").expect(0);
    assert_eq!(run.count("planned_objects"), 2);
    assert!(server.keys(&to, "").is_empty());
}

#[test]
fn an_object_that_was_made_of_parts_is_copied_and_proven() {
    let (watched, tree) = (Watched::start(), Tree::new());
    let server = &watched.server;
    let (from, to) = (server.bucket("parts-from"), server.bucket("parts-to"));
    tree.file("source/large", noise(3, 21 * MIB));
    Cmd::sync(tree.path(), "source", &format!("s3://{from}/")).to(server).expect(0);
    let before = watched.requests().len();
    let run = copy(&tree, server, &from, &to).expect(0);
    assert_eq!((run.count("verified"), run.count("warnings")), (1, 0));
    watched.assert_nothing_was_read(before);
    assert!(server.get(&to, "large").unwrap() == noise(3, 21 * MIB));
    // What Ropeway notes of an upload is of that upload.
    let token = |bucket: &str| server.head(bucket, "large").unwrap()["x-amz-meta-ropeway-token"].clone();
    assert_ne!(token(&from), token(&to));
    // One that was made of parts and goes in one request gets another ETag, and its checksum still tells.
    let whole = server.bucket("parts-whole");
    let run = copy(&tree, server, &from, &whole).args(["--multipart-threshold", "64MiB"]).run();
    assert!([0, 3].contains(&run.code), "{}", run.stderr);
    assert_eq!(run.count("transferred_objects"), 1);
    assert!(server.get(&whole, "large").unwrap() == noise(3, 21 * MIB));
}

#[test]
fn s3_to_s3_with_sse_c_server_side_copy() {
    let (watched, tree) = (Watched::start(), Tree::new());
    let server = &watched.server;
    if lacks_encryption(server) {
        return;
    }
    let (from, to) = (bucket_with(server, "sse-c-from", &with_key(KEY_1)), server.bucket("sse-c-to"));
    let before = watched.requests().len();
    let run =
        copy(&tree, server, &from, &to).args(key_flags("source", KEY_1)).args(key_flags("target", KEY_2)).expect(0);
    assert_eq!((run.count("verified_checksum"), run.count("verified_etag"), run.count("warnings")), (2, 0, 0));
    watched.assert_nothing_was_read(before);
    for (name, size) in SIZES {
        let target = format!("/{to}/{name}");
        assert_eq!(server.request("GET", &target, &[], b"").status, 400, "{name}");
        assert_eq!(
            server.request("GET", &target, &with_key(KEY_2), b"").expect(name).body,
            noise(size as u64, size),
            "{name}"
        );
    }
}

#[test]
fn s3_to_s3_with_kms_server_side_copy() {
    let (watched, tree) = (Watched::start(), Tree::new());
    let server = &watched.server;
    if lacks_encryption(server) {
        return;
    }
    for kind in ["aws:kms", "aws:kms:dsse"] {
        let (from, to) =
            (bucket_with(server, "kms-from", &[("x-amz-server-side-encryption", kind)]), server.bucket("kms-to"));
        let before = watched.requests().len();
        let run = copy(&tree, server, &from, &to).args(["--sse", kind]).expect(0);
        assert_eq!((run.count("verified_checksum"), run.count("verified_etag"), run.count("warnings")), (2, 0, 0));
        watched.assert_nothing_was_read(before);
        for (name, _) in SIZES {
            assert_eq!(server.head(&to, name).unwrap()["x-amz-server-side-encryption"], kind, "{name}");
        }
    }
}

/// The two sides are services that know nothing of each other.
#[test]
fn what_the_service_refuses_to_copy_goes_through_here() {
    let (source, target, tree) = (Server::embedded(Storage::Memory), Server::embedded(Storage::Memory), Tree::new());
    let (from, to) = (bucket_with(&source, "elsewhere", &OWN), target.bucket("here"));
    let sync = Cmd::sync(tree.path(), &format!("s3://{from}/"), &format!("s3://{to}/")).from(&source).to(&target);
    let run = sync.args(["--json", "--server-side-copy"]).expect(3);
    let counts = ["transferred_objects", "verified", "failed_objects", "warnings"];
    assert_eq!(counts.map(|name| run.count(name)), [2, 2, 0, 1]);
    assert!(run.stderr.contains("does not copy from this source by itself"), "{}", run.stderr);
    assert!(source.objects(&from, "") == target.objects(&to, ""));
    for (name, _) in SIZES {
        assert_eq!(attributes(&source, &from, name), attributes(&target, &to, name), "{name}");
        assert_eq!(tags(&target, &to, name).len(), 2, "{name}");
    }
    assert!(target.open_uploads(&to).is_empty(), "the upload that no part could be copied into is gone");
}

/// A bucket in which two objects are, and a service that answers CopyObject and UploadPartCopy as a script says.
fn scripted() -> Scripted {
    let server = Scripted::start();
    for (name, size) in SIZES {
        server.model().objects.insert(format!("from/{name}"), support::model::Object::new(noise(1, size)));
    }
    server
}

fn within(server: &Scripted, tree: &Tree) -> Cmd {
    let sync = Cmd::sync(tree.path(), "s3://bucket/from/", "s3://bucket/copy/").from(&server.server).to(&server.server);
    sync.args(["--json", "--server-side-copy", "--initial-backoff-milliseconds", "1"])
}

#[test]
fn every_kind_of_refusal_leaves_the_other_way_open() {
    for (status, code) in [
        (403, "AccessDenied"),
        (501, "NotImplemented"),
        (400, "InvalidRequest"),
        (404, "NoSuchBucket"),
        (404, "NoSuchKey"),
        // Of a service that looks at another object than it was told.
        (412, "PreconditionFailed"),
    ] {
        let (server, tree) = (scripted(), Tree::new());
        server.on("CopyObject", "copy/small").answer(Answer::error(status, code));
        server.on("UploadPartCopy", "copy/large").answer(Answer::error(status, code));
        let run = within(&server, &tree).expect(3);
        assert_eq!((run.count("transferred_objects"), run.count("failed_objects")), (2, 0), "{code}");
        let model = server.model();
        assert!(
            SIZES.iter().all(|(name, size)| model.objects[&format!("copy/{name}")].content == noise(1, *size)),
            "{code}"
        );
        assert!(model.uploads.is_empty(), "{code}");
    }
}

#[test]
fn a_refusal_is_asked_for_once_and_not_for_every_object() {
    let (server, tree) = (Scripted::start(), Tree::new());
    for number in 0..20 {
        server.model().objects.insert(format!("from/{number}"), support::model::Object::new(&b"x"[..]));
    }
    for number in 0..20 {
        server.on("CopyObject", &format!("copy/{number}")).answer(Answer::error(403, "AccessDenied"));
    }
    let run = within(&server, &tree).args(["--worker-size", "1", "--cores", "1"]).expect(3);
    assert_eq!((run.count("transferred_objects"), run.count("warnings")), (20, 1));
    assert_eq!(server.requests_of("CopyObject").len(), 1);
}

/// Copies are of the object that was looked at, whether that is asked for or not.
#[test]
fn s3_to_s3_with_copy_source_if_match() {
    let (server, tree) = (scripted(), Tree::new());
    server.on("CopyObject", "copy/small").answer(Answer::error(403, "AccessDenied"));
    server.on("UploadPartCopy", "copy/large").answer(Answer::error(403, "AccessDenied"));
    within(&server, &tree).arg("--copy-source-if-match").expect(3);
    for (operation, key) in [("CopyObject", "small"), ("UploadPartCopy", "large")] {
        let etag = server.model().objects[&format!("from/{key}")].etag.clone();
        // The first refusal may have come before the other was asked.
        for request in server.requests_of(operation) {
            assert_eq!(request.header("x-amz-copy-source-if-match"), Some(etag.as_str()), "{operation}");
            assert_eq!(
                request.header("x-amz-copy-source"),
                Some(format!("/bucket/from/{key}").as_str()),
                "{operation}"
            );
        }
    }
    assert!(!server.requests_of("CopyObject").is_empty() || !server.requests_of("UploadPartCopy").is_empty());
}

#[test]
fn a_source_that_is_replaced_meanwhile_is_copied_as_it_is_then() {
    let (server, tree) = (Scripted::start(), Tree::new());
    server.model().objects.insert("from/small".into(), support::model::Object::new(&b"old"[..]));
    server.on("CopyObject", "copy/small").times(1).play(|exchange| {
        exchange.read_body()?;
        exchange.model().objects.insert("from/small".into(), support::model::Object::new(&b"and new"[..]));
        exchange.answer(&Answer::error(412, "PreconditionFailed"))
    });
    server.on("CopyObject", "copy/small").play(|exchange| {
        exchange.read_body()?;
        let object = exchange.model().objects["from/small"].clone();
        let document =
            format!("<CopyObjectResult><ETag>{}</ETag></CopyObjectResult>", object.etag.replace('"', "&quot;"));
        exchange.model().objects.insert("copy/small".into(), object);
        exchange.answer(&Answer::xml(document))
    });
    let run = within(&server, &tree).expect(0);
    assert_eq!((run.count("transferred_objects"), run.count("verified_etag")), (1, 1));
    assert_eq!(server.model().objects["copy/small"].content, b"and new");
    let conditions: Vec<_> = server
        .requests_of("CopyObject")
        .iter()
        .map(|request| request.header("x-amz-copy-source-if-match").map(str::to_owned))
        .collect();
    assert_eq!(conditions.len(), 2);
    assert_ne!(conditions[0], conditions[1], "the second time it is asked for what is there");
}

#[test]
fn copies_are_tried_again_like_all_other_requests() {
    let (server, tree) = (scripted(), Tree::new());
    server.on("CopyObject", "copy/small").times(1).answer(Answer::error(503, "SlowDown"));
    server.on("CopyObject", "copy/small").play(|exchange| {
        exchange.read_body()?;
        let object = exchange.model().objects["from/small"].clone();
        let document =
            format!("<CopyObjectResult><ETag>{}</ETag></CopyObjectResult>", object.etag.replace('"', "&quot;"));
        exchange.model().objects.insert("copy/small".into(), object);
        // An error may come under a status of 200.
        exchange.answer(&Answer::xml(document))
    });
    server.on("UploadPartCopy", "copy/large").times(1).answer(Answer::xml("<Error><Code>InternalError</Code></Error>"));
    server.on("UploadPartCopy", "copy/large").answer(Answer::error(403, "AccessDenied"));
    let run = within(&server, &tree).run();
    assert_eq!((run.count("transferred_objects"), run.count("failed_objects")), (2, 0), "{}", run.stderr);
    assert!(run.count("retries") >= 1);
}

/// A service that says that it made something else than was asked for.
#[test]
fn a_copy_that_is_not_the_original_is_an_error() {
    let (server, tree) = (Scripted::start(), Tree::new());
    server.model().objects.insert("from/small".into(), support::model::Object::new(&b"content"[..]));
    let wrong = "<CopyObjectResult><ETag>&quot;00000000000000000000000000000000&quot;</ETag></CopyObjectResult>";
    server.on("CopyObject", "copy/small").answer(Answer::xml(wrong));
    let run = within(&server, &tree).run();
    assert_eq!((run.code, run.count("failed_objects")), (1, 1), "{}", run.stderr);
    assert!(run.stdout.contains("verification failed"), "{}", run.stdout);
}

/// The same of parts: what the service says of them is compared before they become an object.
#[test]
fn parts_that_are_not_the_originals_never_become_an_object() {
    let (server, tree) = (Scripted::start(), Tree::new());
    server.model().echoes_crc64nvme = true;
    server.model().objects.insert("from/large".into(), support::model::Object::new(noise(1, 11 * MIB)));
    let wrong = "<CopyPartResult><ETag>&quot;00000000000000000000000000000000&quot;</ETag>\
                 <ChecksumCRC64NVME>AAAAAAAAAAA=</ChecksumCRC64NVME></CopyPartResult>";
    server.on("UploadPartCopy", "copy/large").answer(Answer::xml(wrong));
    let run = within(&server, &tree).expect(1);
    assert_eq!(run.count("failed_objects"), 1);
    assert!(run.stdout.contains("verification failed"), "{}", run.stdout);
    assert!(server.requests_of("CompleteMultipartUpload").is_empty());
    assert!(server.model().uploads.is_empty() && !server.model().objects.contains_key("copy/large"));
}

#[test]
fn server_side_copy_with_if_none_match_leaves_what_is_there() {
    let (server, tree) = (Server::any(), Tree::new());
    if server.skip(&["moto", "ceph", "rgw"], "it heeds no condition on copies") {
        return;
    }
    let (from, to) = (bucket_with(&server, "none-from", &[]), server.bucket("none-to"));
    server.put(&from, "new", "new");
    for (name, _) in SIZES {
        server.put(&to, name, "of another length");
    }
    let run = copy(&tree, &server, &from, &to).arg("--if-none-match").run();
    let counts = ["transferred_objects", "skipped_objects", "warnings", "failed_objects"];
    // The target's objects may be as new as the source's, and of another length in any case.
    assert_eq!(counts.map(|name| run.count(name)), [1, 2, 2, 0], "{}", run.stderr);
    assert!(server.open_uploads(&to).is_empty());
}

#[test]
fn archived_objects_are_not_copied_either() {
    let (server, tree) = (Server::any(), Tree::new());
    if server.skip(&["moto", "ceph", "rgw"], "it has no archive, or gives what is in it") {
        return;
    }
    let (from, to) =
        (bucket_with(&server, "cold-from", &[("x-amz-storage-class", "GLACIER")]), server.bucket("cold-to"));
    server.put(&from, "warm", "x");
    let run = copy(&tree, &server, &from, &to).expect(3);
    let counts = ["transferred_objects", "skipped_objects", "warnings", "failed_objects"];
    assert_eq!(counts.map(|name| run.count(name)), [1, 2, 2, 0]);
    let quiet = copy(&tree, &server, &from, &to).arg("--ignore-glacier-warnings").expect(0);
    assert_eq!(counts.map(|name| quiet.count(name)), [0, 3, 0, 0]);
    assert!(server.open_uploads(&to).is_empty());
}

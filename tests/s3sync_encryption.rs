//! s3sync's own scenarios about encryption: by the service's keys (SSE-S3, SSE-KMS, DSSE-KMS) and by the customer's (SSE-C), on
//! either side and on both, through one request and through parts. And what it gets wrong: objects under KMS that it leaves
//! out, and calls about parts that it does not try again.
//!
//! A customer's key is given by --source-sse-c, --source-sse-c-key and --source-sse-c-key-md5, or --target-sse-c,
//! --target-sse-c-key and --target-sse-c-key-md5.

mod support;

use std::collections::BTreeMap;

use ropeway::serve::Storage;
use support::attributes::{KEY_1, KEY_2, SIZES, bucket_with, files, key_flags, lacks_encryption, with_key};
use support::scripted::{Answer, Scripted};
use support::tree::noise;
use support::{Cmd, Server, Tree};

const MIB: usize = 1 << 20;

fn up(tree: &Tree, server: &Server, bucket: &str) -> Cmd {
    Cmd::sync(tree.path(), "source", &format!("s3://{bucket}/")).to(server).arg("--json")
}

fn down(tree: &Tree, server: &Server, bucket: &str) -> Cmd {
    Cmd::sync(tree.path(), &format!("s3://{bucket}/"), "back").from(server).arg("--json")
}

fn across(tree: &Tree, server: &Server, from: &str, to: &str) -> Cmd {
    Cmd::sync(tree.path(), &format!("s3://{from}/"), &format!("s3://{to}/")).from(server).to(server).arg("--json")
}

/// What an object says of its encryption.
fn encryption(headers: &BTreeMap<String, String>) -> [Option<&str>; 3] {
    ["", "-aws-kms-key-id", "-customer-key-md5"]
        .map(|name| headers.get(&format!("x-amz-server-side-encryption{name}")).map(String::as_str))
}

/// HEAD with the key, if there is one.
fn head(server: &Server, bucket: &str, key: &str, headers: &[(&str, &str)]) -> BTreeMap<String, String> {
    server.request("HEAD", &format!("/{bucket}/{key}"), headers, b"").expect(key).headers
}

fn content(server: &Server, bucket: &str, key: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    server.request("GET", &format!("/{bucket}/{key}"), headers, b"").expect(key).body
}

/// Both objects came through, each proven by its checksum: there is no MD5 to compare with.
#[track_caller]
fn assert_proven(run: &support::cmd::Output) {
    let counts =
        ["transferred_objects", "verified", "verified_checksum", "verified_etag", "warnings", "skipped_objects"];
    assert_eq!(counts.map(|name| run.count(name)), [2, 2, 2, 0, 0, 0], "{}", run.stdout);
}

#[test]
fn local_to_s3_with_sse_kms() {
    let (server, tree) = (Server::any(), files());
    if lacks_encryption(&server) {
        return;
    }
    let bucket = server.bucket("kms");
    assert_proven(&up(&tree, &server, &bucket).args(["--sse", "aws:kms"]).expect(0));
    for (name, _) in SIZES {
        assert_eq!(encryption(&head(&server, &bucket, name, &[])), [Some("aws:kms"), None, None], "{name}");
    }
    assert_eq!(up(&tree, &server, &bucket).args(["--sse", "aws:kms"]).expect(0).count("skipped_objects"), 2);
}

#[test]
fn local_to_s3_with_a_kms_key_of_ones_own() {
    let (server, tree) = (Server::any(), files());
    if lacks_encryption(&server) {
        return;
    }
    let bucket = server.bucket("kms-key");
    let id = "arn:aws:kms:eu-west-1:1:key/k";
    assert_proven(&up(&tree, &server, &bucket).args(["--sse", "aws:kms", "--sse-kms-key-id", id]).expect(0));
    for (name, _) in SIZES {
        assert_eq!(encryption(&head(&server, &bucket, name, &[])), [Some("aws:kms"), Some(id), None], "{name}");
    }
}

#[test]
fn local_to_s3_with_dsse_kms() {
    let (server, tree) = (Server::any(), files());
    if lacks_encryption(&server) {
        return;
    }
    let bucket = server.bucket("dsse");
    assert_proven(&up(&tree, &server, &bucket).args(["--sse", "aws:kms:dsse"]).expect(0));
    for (name, _) in SIZES {
        assert_eq!(encryption(&head(&server, &bucket, name, &[])), [Some("aws:kms:dsse"), None, None], "{name}");
    }
}

#[test]
fn local_to_s3_with_sse_s3() {
    let (server, tree) = (Server::any(), files());
    if server.skip(&["ceph", "rgw"], "it has no key management behind it") {
        return;
    }
    let bucket = server.bucket("sse-s3");
    let run = up(&tree, &server, &bucket).args(["--sse", "AES256"]).expect(0);
    assert_eq!((run.count("verified"), run.count("warnings")), (2, 0), "its ETags are MD5s as ever");
    for (name, _) in SIZES {
        assert_eq!(encryption(&head(&server, &bucket, name, &[]))[0], Some("AES256"), "{name}");
    }
}

#[test]
fn s3_to_local_sse_kms() {
    for kind in ["aws:kms", "aws:kms:dsse"] {
        let (server, tree) = (Server::any(), files());
        if lacks_encryption(&server) {
            return;
        }
        let bucket = bucket_with(&server, "kms-down", &[("x-amz-server-side-encryption", kind)]);
        assert_proven(&down(&tree, &server, &bucket).expect(0));
        assert_eq!(tree.contents("source"), tree.contents("back"), "{kind}");
    }
}

#[test]
fn s3_to_s3_sse_kms() {
    for kind in ["aws:kms", "aws:kms:dsse"] {
        let (server, tree) = (Server::any(), files());
        if lacks_encryption(&server) {
            return;
        }
        let from = bucket_with(&server, "kms-from", &[("x-amz-server-side-encryption", "aws:kms")]);
        let to = server.bucket("kms-to");
        assert_proven(&across(&tree, &server, &from, &to).args(["--sse", kind]).expect(0));
        for (name, _) in SIZES {
            assert_eq!(encryption(&head(&server, &to, name, &[]))[0], Some(kind), "{name}");
            assert_eq!(content(&server, &to, name, &[]), content(&server, &from, name, &[]), "{name}");
        }
    }
}

#[test]
fn the_sources_encryption_is_not_copied() {
    let (server, tree) = (Server::any(), files());
    if lacks_encryption(&server) {
        return;
    }
    let from = bucket_with(&server, "kms-plain-from", &[("x-amz-server-side-encryption", "aws:kms")]);
    let to = server.bucket("kms-plain-to");
    let run = across(&tree, &server, &from, &to).expect(0);
    assert_eq!((run.count("verified"), run.count("warnings")), (2, 0));
    for (name, _) in SIZES {
        assert_eq!(encryption(&head(&server, &to, name, &[])), [None; 3], "{name}");
    }
}

/// s3sync leaves out an object whose ETag it cannot judge.
#[test]
fn objects_under_kms_that_have_changed_are_not_left_out() {
    let (server, tree) = (Server::any(), files());
    if lacks_encryption(&server) {
        return;
    }
    let bucket = server.bucket("kms-changed");
    up(&tree, &server, &bucket).args(["--sse", "aws:kms"]).expect(0);
    for (name, size) in SIZES {
        tree.file(format!("source/{name}"), noise(77, size))
            .set_modified(format!("source/{name}"), 4_000_000_000_000_000_000);
    }
    assert_proven(&up(&tree, &server, &bucket).args(["--sse", "aws:kms"]).expect(0));
    let verify =
        Cmd::new(tree.path(), ["verify", "source", &format!("s3://{bucket}/"), "--json"]).to(&server).expect(0);
    assert_eq!((verify.count("equal_objects"), verify.count("unverifiable_objects")), (2, 0));
}

#[test]
fn local_to_s3_with_sse_c() {
    let (server, tree) = (Server::any(), files());
    if lacks_encryption(&server) {
        return;
    }
    let bucket = server.bucket("sse-c");
    assert_proven(&up(&tree, &server, &bucket).args(key_flags("target", KEY_1)).expect(0));
    for (name, size) in SIZES {
        let shown = head(&server, &bucket, name, &with_key(KEY_1));
        assert_eq!(encryption(&shown), [None, None, Some(KEY_1[1])], "{name}");
        assert_eq!(content(&server, &bucket, name, &with_key(KEY_1)), noise(size as u64, size), "{name}");
        assert_eq!(server.request("GET", &format!("/{bucket}/{name}"), &[], b"").status, 400, "{name}");
    }
    let again = up(&tree, &server, &bucket).args(key_flags("target", KEY_1)).expect(0);
    assert_eq!(again.count("skipped_objects"), 2);
}

#[test]
fn s3_to_local_with_sse_c() {
    let (server, tree) = (Server::any(), files());
    if lacks_encryption(&server) {
        return;
    }
    let bucket = bucket_with(&server, "sse-c-down", &with_key(KEY_1));
    assert_proven(&down(&tree, &server, &bucket).args(key_flags("source", KEY_1)).expect(0));
    assert_eq!(tree.contents("source"), tree.contents("back"));
}

#[test]
fn s3_to_s3_with_sse_c() {
    let (server, tree) = (Server::any(), files());
    if lacks_encryption(&server) {
        return;
    }
    let (from, to) = (bucket_with(&server, "sse-c-from", &with_key(KEY_1)), server.bucket("sse-c-to"));
    let run =
        across(&tree, &server, &from, &to).args(key_flags("source", KEY_1)).args(key_flags("target", KEY_2)).expect(0);
    assert_proven(&run);
    for (name, size) in SIZES {
        assert_eq!(content(&server, &to, name, &with_key(KEY_2)), noise(size as u64, size), "{name}");
    }
    let verify = Cmd::new(tree.path(), ["verify", &format!("s3://{from}/"), &format!("s3://{to}/"), "--json"]);
    let verify =
        verify.from(&server).to(&server).args(key_flags("source", KEY_1)).args(key_flags("target", KEY_2)).expect(0);
    assert_eq!(verify.count("equal_objects"), 2);
}

#[test]
fn s3_to_s3_from_a_customers_key_to_none_and_back() {
    let (server, tree) = (Server::any(), files());
    if lacks_encryption(&server) {
        return;
    }
    let (from, plain) = (bucket_with(&server, "sse-c-one", &with_key(KEY_1)), server.bucket("sse-c-none"));
    let run = across(&tree, &server, &from, &plain).args(key_flags("source", KEY_1)).expect(0);
    assert_eq!((run.count("verified"), run.count("warnings")), (2, 0));
    let to = server.bucket("sse-c-two");
    assert_proven(&across(&tree, &server, &plain, &to).args(key_flags("target", KEY_2)).expect(0));
    for (name, size) in SIZES {
        assert_eq!(encryption(&head(&server, &plain, name, &[])), [None; 3], "{name}");
        assert_eq!(content(&server, &to, name, &with_key(KEY_2)), noise(size as u64, size), "{name}");
    }
}

/// s3sync forbids it, for no reason of S3's.
#[test]
fn a_customers_key_at_the_source_goes_with_kms_at_the_target() {
    let (server, tree) = (Server::any(), files());
    if lacks_encryption(&server) {
        return;
    }
    let (from, to) = (bucket_with(&server, "sse-c-kms", &with_key(KEY_1)), server.bucket("sse-c-kms-to"));
    let run = across(&tree, &server, &from, &to).args(key_flags("source", KEY_1)).args(["--sse", "aws:kms"]).run();
    // Whether the two go together is for the table of conflicts to say; if they do, they work.
    if run.code == 0 {
        assert_proven(&run);
        assert_eq!(encryption(&head(&server, &to, "large", &[]))[0], Some("aws:kms"));
    } else {
        assert_eq!(run.code, 2, "{}", run.stderr);
    }
}

#[test]
fn a_wrong_key_and_a_missing_one_read_nothing() {
    let (server, tree) = (Server::any(), files());
    if lacks_encryption(&server) {
        return;
    }
    let bucket = bucket_with(&server, "sse-c-wrong", &with_key(KEY_1));
    let wrong = down(&tree, &server, &bucket).args(key_flags("source", KEY_2)).expect(1);
    assert_eq!((wrong.count("failed_objects"), wrong.count("transferred_objects")), (2, 0));
    let missing = down(&tree, &server, &bucket).expect(1);
    assert_eq!(missing.count("failed_objects"), 2);
    assert!(tree.contents("back").is_empty());
}

#[test]
fn keys_that_make_no_sense_are_refused_at_the_start_without_being_repeated() {
    let tree = files();
    let cases: [(&str, [&str; 2], &str); 3] = [
        ("no base64", ["mysecretkeythatisnobase64!!", KEY_1[1]], "--target-sse-c-key"),
        ("too short", ["bXlzZWNyZXQ=", KEY_1[1]], "--target-sse-c-key"),
        ("another's MD5", [KEY_1[0], KEY_2[1]], "--target-sse-c-key-md5"),
    ];
    for (what, key, flag) in cases {
        let run = Cmd::sync(tree.path(), "source", "s3://bucket/").args(key_flags("target", key)).expect(2);
        assert!(run.stderr.contains(flag), "{what}: {}", run.stderr);
        assert!(!run.stderr.contains(key[0]), "{what}: {}", run.stderr);
    }
    let run = Cmd::sync(tree.path(), "source", "s3://bucket/").args(["--target-sse-c", "AES256"]).expect(2);
    assert!(run.stderr.contains("--target-sse-c-key"), "{}", run.stderr);
}

#[test]
fn a_customers_key_is_shown_nowhere() {
    let (server, tree) = (Server::embedded(Storage::Memory), files());
    let bucket = server.bucket("canary");
    let environment = |cmd: Cmd| {
        cmd.env("ROPEWAY_TARGET_SSE_C", "AES256")
            .env("ROPEWAY_TARGET_SSE_C_KEY", KEY_1[0])
            .env("ROPEWAY_TARGET_SSE_C_KEY_MD5", KEY_1[1])
            .env("ROPEWAY_LOG", "trace")
    };
    let said = |run: support::cmd::Output| run.stdout + &run.stderr;
    let good =
        environment(up(&tree, &server, &bucket)).args(["-vv", "--report", "report.json", "--state-dir", "state"]);
    let bad = Cmd::sync(tree.path(), &format!("s3://{bucket}/"), "back").from(&server).args(key_flags("source", KEY_2));
    let help = environment(Cmd::new(tree.path(), ["sync", "--help"]));
    let mut all = said(good.expect(0)) + &said(bad.expect(1)) + &said(help.expect(0));
    for (_, content) in
        tree.contents("state").into_iter().chain([("".into(), std::fs::read(tree.at("report.json")).unwrap())])
    {
        all.push_str(&String::from_utf8_lossy(&content));
    }
    for secret in [KEY_1[0], KEY_2[0]] {
        assert!(!all.contains(secret), "a key was shown");
        assert!(!all.contains(&"0".repeat(32)) && !all.contains(&"1".repeat(32)), "its bytes were shown");
    }
}

/// Every request that needs the key has it, and those that need none do not.
#[test]
fn the_key_goes_with_every_request_that_needs_it() {
    let (source, target, tree) = (Scripted::start(), Scripted::start(), Tree::new());
    for (name, size) in SIZES {
        source.model().objects.insert(name.to_owned(), support::model::Object::new(noise(1, size)));
    }
    let sync = Cmd::sync(tree.path(), "s3://bucket/", "s3://bucket/").from(&source.server).to(&target.server);
    // The scripted server knows nothing of encryption, so nothing proves what it was sent.
    sync.args(key_flags("source", KEY_1)).args(key_flags("target", KEY_2)).arg("--json").run();
    let shown = |server: &Scripted, operation: &str| -> Vec<Option<String>> {
        let requests = server.requests_of(operation);
        let md5 = |request: &support::scripted::Request| {
            request.header("x-amz-server-side-encryption-customer-key-md5").map(str::to_owned)
        };
        assert!(!requests.is_empty(), "{operation}");
        requests.iter().map(md5).collect()
    };
    for operation in ["GetObject", "HeadObject"] {
        assert!(shown(&source, operation).iter().all(|md5| md5.as_deref() == Some(KEY_1[1])), "{operation}");
    }
    for operation in ["PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"] {
        assert!(shown(&target, operation).iter().all(|md5| md5.as_deref() == Some(KEY_2[1])), "{operation}");
    }
    for server in [&source, &target] {
        assert!(shown(server, "ListObjectsV2").iter().all(Option::is_none));
    }
}

#[test]
fn an_upload_under_a_customers_key_is_continued_with_that_key_alone() {
    let (server, tree) = (Scripted::start(), Tree::new());
    server.model().echoes_crc64nvme = true;
    tree.file("source/large", noise(9, 21 * MIB));
    let sync = |key| {
        let cmd = up(&tree, &server.server, "bucket").args(["--state-dir", "state"]).args(key_flags("target", key));
        cmd.args(["--aws-max-attempts", "1", "--max-parallel-uploads", "1", "--cores", "1"])
    };
    server.on("UploadPart", "large").query("partNumber", "2").times(2).answer(Answer::error(503, "SlowDown"));
    sync(KEY_1).expect(1);
    assert_eq!(sync(KEY_2).expect(1).count("resumed_bytes"), 0, "not with another key");
    assert_eq!(server.requests_of("AbortMultipartUpload").len(), 1);
    let again = sync(KEY_2).expect(0);
    assert_eq!(again.count("resumed_bytes"), 8 * MIB as u64);
    assert_eq!(server.requests_of("CreateMultipartUpload").len(), 2);
    let listed = server.requests_of("ListParts");
    assert!(
        listed
            .iter()
            .all(|request| { request.header("x-amz-server-side-encryption-customer-key-md5") == Some(KEY_2[1]) })
    );
}

/// s3sync starts single-request objects over, and ends the run at calls about parts.
#[test]
fn calls_about_parts_are_tried_again_like_all_others() {
    let (server, tree) = (Scripted::start(), files());
    server.model().echoes_crc64nvme = true;
    for (operation, key) in [
        ("PutObject", "small"),
        ("CreateMultipartUpload", "large"),
        ("UploadPart", "large"),
        ("CompleteMultipartUpload", "large"),
    ] {
        server.on(operation, key).times(1).answer(Answer::error(500, "InternalError"));
    }
    let run = up(&tree, &server.server, "bucket").args(["--sse", "aws:kms", "--initial-backoff-milliseconds", "1"]);
    let run = run.expect(0);
    assert_eq!((run.count("transferred_objects"), run.count("retries"), run.count("warnings")), (2, 4, 0));
    // This server does not say how it encrypts, and its ETags are taken for no MD5s all the same.
    assert_eq!((run.count("verified_checksum"), run.count("verified_etag")), (2, 0));
}

/// What the embedded server answers, in both its storages, as AWS does.
#[test]
fn the_embedded_server_shows_nothing_to_whoever_lacks_the_key() {
    let directory = Tree::new();
    for storage in [Storage::Memory, Storage::Directory(directory.at("store"))] {
        let server = Server::embedded(storage);
        let bucket = bucket_with(&server, "refusals", &with_key(KEY_1));
        let ask =
            |method: &str, headers: &[(&str, &str)]| server.request(method, &format!("/{bucket}/small"), headers, b"");
        let code = |answer: &support::raw::Answer| {
            (answer.status, answer.elements("Code").first().cloned().unwrap_or_default())
        };
        assert_eq!(code(&ask("GET", &[])), (400, "InvalidRequest".into()));
        assert_eq!(code(&ask("GET", &with_key(KEY_2))), (403, "AccessDenied".into()));
        assert_eq!(code(&ask("GET", &with_key([KEY_1[0], KEY_2[1]]))), (400, "InvalidArgument".into()));
        assert_eq!(code(&ask("GET", &with_key(KEY_1)[..2])), (400, "InvalidArgument".into()));
        assert_eq!((ask("HEAD", &[]).status, ask("HEAD", &with_key(KEY_2)).status), (400, 403));
        let good = ask("GET", &with_key(KEY_1)).expect("the right key");
        assert_eq!(good.body, noise(1_000, 1_000));
        let md5 = ropeway_s3proto::checksum::Md5Digest(ropeway_io::hash::md5(&good.body)).to_hex();
        assert_ne!(good.headers["etag"], format!("\"{md5}\""), "its ETag is no MD5");
        let source = format!("/{bucket}/small");
        let copy = |headers: &[(&str, &str)]| {
            let mut all = vec![("x-amz-copy-source", source.as_str())];
            all.extend(headers);
            code(&server.request("PUT", &format!("/{bucket}/copy"), &all, b""))
        };
        assert_eq!(copy(&[]), (400, "InvalidRequest".into()));
        let shown = [
            ("x-amz-copy-source-server-side-encryption-customer-algorithm", "AES256"),
            ("x-amz-copy-source-server-side-encryption-customer-key", KEY_1[0]),
            ("x-amz-copy-source-server-side-encryption-customer-key-md5", KEY_1[1]),
        ];
        assert_eq!(copy(&shown), (200, String::new()));
        assert_eq!(server.get(&bucket, "copy").unwrap(), noise(1_000, 1_000), "a copy without a key needs none");
        assert_eq!(
            code(&server.request("GET", &format!("/{bucket}/copy"), &with_key(KEY_1), b"")),
            (400, "InvalidRequest".into())
        );
    }
}

//! ETags beside checksums: what is compared, what is an error, and what a service is believed to mean by its ETags.

mod support;

use support::cmd::Output;
use support::model::Object;
use support::scripted::{Answer, Scripted};
use support::tree::noise;
use support::{Cmd, Server, Tree};

const MIB: usize = 1 << 20;

/// In three parts, the last one short.
const LARGE: usize = 10 * MIB + 4321;

/// It has the form of an MD5, and is of nothing that is sent here.
const FOREIGN: &str = "\"0123456789abcdef0123456789abcdef\"";

fn sync(tree: &Tree, source: &str, target: &str) -> Cmd {
    Cmd::sync(tree.path(), source, target)
        .env("ROPEWAY_JSON", "true")
        .env("ROPEWAY_CORES", "1")
        .env("ROPEWAY_MULTIPART_THRESHOLD", "5MiB")
        .env("ROPEWAY_MULTIPART_CHUNKSIZE", "5MiB")
        .env("ROPEWAY_AWS_MAX_ATTEMPTS", "2")
        .env("ROPEWAY_INITIAL_BACKOFF_MILLISECONDS", "1")
}

/// A server that computes CRC64NVME.
fn with_checksums() -> Scripted {
    let server = Scripted::start();
    server.model().echoes_crc64nvme = true;
    server
}

fn up(server: &Scripted, tree: &Tree) -> Cmd {
    // One after the other, so that what the first one shows is known to the second.
    sync(tree, "source", "s3://bucket/").to(&server.server).args(["--worker-size", "1"])
}

fn with_foreign_etag(answer: &mut Answer) {
    *answer = answer.clone().without("etag").header("etag", FOREIGN);
}

fn verified(output: &Output) -> [u64; 4] {
    ["verified", "verified_checksum", "verified_etag", "unverified"].map(|name| output.count(name))
}

fn event(output: &Output, key: &str) -> serde_json::Value {
    let events = output.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    events.into_iter().find(|event| event["key"] == key).unwrap_or_else(|| panic!("no event of `{key}`"))
}

#[test]
fn everything_is_verified_by_both_in_every_direction() {
    let (server, tree) = (Server::any(), Tree::new());
    if server.skip(&["moto", "ceph", "rgw"], "it computes no CRC64NVME") {
        return;
    }
    let (bucket, other) = (server.bucket("both"), server.bucket("both-again"));
    tree.file("source/empty", "").file("source/small", "hello").file("source/middle", noise(1, 300_000));
    tree.file("source/large", noise(2, LARGE));
    let up = sync(&tree, "source", &format!("s3://{bucket}/")).to(&server).expect(0);
    assert_eq!(verified(&up), [4, 4, 4, 0]);
    assert_eq!(event(&up, "large")["verified_by"], serde_json::json!(["checksum", "etag"]));
    let across = sync(&tree, &format!("s3://{bucket}/"), &format!("s3://{other}/")).from(&server).to(&server).expect(0);
    assert_eq!(verified(&across), [4, 4, 4, 0]);
    // A buffer is as long as a part here, so the parts of a download are the upload's.
    let down = sync(&tree, &format!("s3://{other}/"), "back").from(&server).expect(0);
    assert_eq!((down.count("verified"), down.count("verified_checksum")), (4, 4));
    assert!(down.count("verified_etag") >= 3);
    assert_eq!(tree.contents("source"), tree.contents("back"));
}

#[test]
fn an_etag_that_is_wrong_where_no_checksum_is_echoed_is_an_error() {
    for echoes in [true, false] {
        for (size, operation) in [(1_000, "PutObject"), (LARGE, "UploadPart")] {
            let (server, tree) = (Scripted::start(), Tree::new());
            server.model().echoes_crc64nvme = echoes;
            // The first object shows what the service can do.
            tree.file("source/a", "first").file("source/b", noise(1, size));
            server.on(operation, "b").change(|answer| {
                *answer = answer.clone().without("x-amz-checksum-crc64nvme");
                with_foreign_etag(answer);
            });
            let output = up(&server, &tree).expect(1);
            let error = event(&output, "b")["error"].as_str().unwrap().to_owned();
            assert!(error.contains("verification failed: the content's MD5 is "), "{operation}: {error}");
            assert_eq!((output.count("transferred_objects"), server.model().uploads.len()), (1, 0));
        }
    }
}

#[test]
fn an_etag_that_is_wrong_where_others_were_right_is_an_error_though_the_checksum_agrees() {
    let (server, tree) = (with_checksums(), Tree::new());
    tree.file("source/a", "first").file("source/b", "second");
    server.on("PutObject", "b").change(with_foreign_etag);
    let output = up(&server, &tree).expect(1);
    let error = event(&output, "b")["error"].as_str().unwrap().to_owned();
    assert!(error.contains("its checksum agrees, see --disable-etag-verify"), "{error}");
    // The bucket's own word about the object is another than the answer's, so it is not the run's to remove.
    assert!(error.ends_with("and the object is left there") && server.model().objects.contains_key("b"), "{error}");
    assert_eq!(verified(&output), [1, 1, 1, 0]);
}

#[test]
fn a_service_whose_etags_are_no_md5s_is_found_out_by_its_checksums() {
    let (server, tree) = (with_checksums(), Tree::new());
    for name in ["a", "b", "c"] {
        tree.file(format!("source/{name}"), name);
        server.on("PutObject", name).change(with_foreign_etag);
    }
    let output = up(&server, &tree).arg("-v").expect(0);
    assert_eq!(verified(&output), [3, 3, 0, 0]);
    assert_eq!((output.count("warnings"), output.count("retries")), (0, 0));
    assert_eq!(output.stderr.matches("the target's ETags look like MD5s and are none").count(), 1, "{}", output.stderr);
    // Without a checksum nothing is left to compare with, and it is not taken for a mistake.
    let server = with_checksums();
    server.on("PutObject", "a").change(with_foreign_etag);
    server.on("PutObject", "b").change(|answer| {
        *answer = answer.clone().without("x-amz-checksum-crc64nvme");
        with_foreign_etag(answer);
    });
    let output = up(&server, &tree).expect(3);
    assert_eq!(verified(&output), [2, 2, 0, 1]);
}

#[test]
fn an_etag_of_parts_of_another_formula_is_found_out_too_and_those_of_contents_are_compared_on() {
    let (server, tree) = (with_checksums(), Tree::new());
    tree.file("source/a", noise(1, LARGE)).file("source/b", "small");
    server.on("CompleteMultipartUpload", "a").change(|answer| {
        let document = String::from_utf8(answer.body.clone()).unwrap();
        let (before, rest) = document.split_once("<ETag>").unwrap();
        let (_, after) = rest.split_once("</ETag>").unwrap();
        let etag = format!("{}-3", FOREIGN.trim_matches('"'));
        answer.body = format!("{before}<ETag>\"{etag}\"</ETag>{after}").into_bytes();
    });
    let output = up(&server, &tree).expect(0);
    assert_eq!(verified(&output), [2, 2, 1, 0]);
    assert_eq!(event(&output, "a")["verified_by"], serde_json::json!(["checksum"]));
    assert_eq!(event(&output, "b")["verified_by"], serde_json::json!(["checksum", "etag"]));
}

#[test]
fn an_etag_of_content_encrypted_by_kms_or_the_customer_is_not_compared() {
    for (name, value) in [
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption", "aws:kms:dsse"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
    ] {
        let (server, tree) = (with_checksums(), Tree::new());
        tree.file("source/a", "first").file("source/b", "second");
        server.on("PutObject", "b").change(move |answer| {
            with_foreign_etag(answer);
            *answer = answer.clone().header(name, value);
        });
        assert_eq!(verified(&up(&server, &tree).expect(0)), [2, 2, 1, 0], "{name}: {value}");
    }
}

#[test]
fn disable_etag_verify_compares_no_etag_and_leaves_the_checksums() {
    for echoes in [true, false] {
        let (server, tree) = (Scripted::start(), Tree::new());
        server.model().echoes_crc64nvme = echoes;
        tree.file("source/small", "x").file("source/large", noise(1, LARGE));
        server.on("PutObject", "small").change(with_foreign_etag);
        let output = up(&server, &tree).arg("--disable-etag-verify").expect(0);
        assert_eq!(verified(&output), if echoes { [2, 2, 0, 0] } else { [0, 0, 0, 2] });
        assert_eq!(output.count("warnings"), 0, "it is as the person wants it");
        if !echoes {
            // A service that heeds no CRC still refuses what arrives changed.
            let parts = server.requests_of("UploadPart");
            assert!(parts.len() == 3 && parts.iter().all(|part| part.header("content-md5").is_some()));
        }
        server.model().objects.values_mut().for_each(|object| object.etag = FOREIGN.to_owned());
        let down = || sync(&tree, "s3://bucket/", "target").from(&server.server);
        let output = down().env("ROPEWAY_DISABLE_ETAG_VERIFY", "true").expect(0);
        assert_eq!(verified(&output), if echoes { [2, 2, 0, 0] } else { [0, 0, 0, 2] });
        assert_eq!(tree.contents("source"), tree.contents("target"));
    }
}

#[test]
fn a_download_is_compared_with_its_etag_too() {
    for size in [1_000, LARGE] {
        let (server, tree) = (with_checksums(), Tree::new());
        // A content whose MD5 was compared, and one whose ETag is another's: its CRC is right all the same.
        server.model().objects.insert("a".to_owned(), Object::new("first"));
        let other = Object { etag: Object::new("other").etag, ..Object::new(noise(1, size)) };
        server.model().objects.insert("b".to_owned(), other);
        let down = sync(&tree, "s3://bucket/", "target").from(&server.server).args(["--worker-size", "1"]).run();
        // A large object with a plain ETag is compared with its CRC alone: its parts need no order for that.
        let expected = if size == LARGE { (0, [2, 2, 1, 0]) } else { (1, [1, 1, 1, 0]) };
        assert_eq!((down.code, verified(&down)), expected, "{}", down.stderr);
    }
}

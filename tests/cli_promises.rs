//! The promises about single objects, with a relay that changes bytes on the wire: what is done was compared, what was not
//! compared is not done, and a failed attempt leaves the old target as it was.

mod support;

use std::path::PathBuf;

use base64_simd::STANDARD;
use support::relay::Relay;
use support::tree::noise;
use support::{Cmd, Server, Tree};

/// Bytes that the relay finds in any piece of the content.
fn content(size_bytes: usize) -> Vec<u8> {
    b"WXYZ".iter().copied().cycle().take(size_bytes).collect()
}

const ALWAYS: u64 = u64::MAX;

/// What stays wrong is not tried for minutes.
const HASTE: [&str; 4] = ["--aws-max-attempts", "2", "--initial-backoff-milliseconds", "1"];

#[test]
fn i1_done_means_that_the_services_word_was_compared_with_ours() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("evidence");
    tree.file("source/small", "hello").file("source/large", noise(1, 12 << 20)).file("source/empty", "");
    let run = Cmd::sync(tree.path(), "source", &format!("s3://{bucket}/")).to(&server).arg("--json").expect(0);
    let events: Vec<serde_json::Value> =
        run.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let transferred: Vec<_> = events.iter().filter(|event| event["event"] == "transferred").collect();
    assert_eq!(transferred.len(), 3);
    for event in transferred {
        let key = event["key"].as_str().unwrap();
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &tree.contents("source")[&PathBuf::from(key)]);
        let crc = STANDARD.encode_to_string(crc.to_be_bytes());
        assert_eq!(event["crc64nvme"], crc, "{event}");
        let headers = server.head(&bucket, key).unwrap();
        assert_eq!(event["etag"].as_str().unwrap().trim_matches('"'), headers["etag"].trim_matches('"'), "{event}");
        let by = if server.name == "embedded" { vec!["checksum", "etag"] } else { vec!["etag"] };
        assert_eq!(event["verified_by"], serde_json::json!(by), "{event}");
    }
}

#[test]
fn i1_i3_an_upload_that_arrives_changed_is_never_done_and_leaves_the_old_object() {
    let (server, tree) = (Server::any(), Tree::new());
    if server.skip(&["moto"], "it checks neither checksums nor Content-MD5, and keeps what it was sent") {
        return;
    }
    let bucket = server.bucket("changed-up");
    for size in [100 << 10, 12 << 20] {
        let relay = Relay::before(&server);
        relay.replace("WXYZ", "WXYz", ALWAYS);
        server.put(&bucket, "object", "old");
        tree.file("source/object", content(size));
        let run =
            || Cmd::sync(tree.path(), "source", &format!("s3://{bucket}/")).to(&relay.server).args(HASTE).arg("--json");
        let failed = run().expect(1);
        assert_eq!((failed.count("transferred_objects"), failed.count("failed_objects")), (0, 1));
        assert_eq!(server.get(&bucket, "object").unwrap(), b"old", "of {size} bytes");
        assert_eq!(server.open_uploads(&bucket), [""; 0]);
        // Once, and it is sent again.
        relay.replace("WXYZ", "WXYz", 1);
        let retried = run().expect(0);
        assert!(retried.count("retries") > 0 || retried.count("requests") > 2, "{}", retried.stdout);
        assert!(server.get(&bucket, "object").unwrap() == content(size), "the content differs");
    }
}

#[test]
fn i2_i3_a_download_that_arrives_changed_is_never_done_and_leaves_the_old_file() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("changed-down");
    for size in [100 << 10, 12 << 20] {
        let relay = Relay::before(&server);
        relay.replace("WXYZ", "WXYz", ALWAYS);
        server.put(&bucket, "object", content(size));
        tree.file("target/object", "old").set_modified("target/object", 1_000_000_000_000_000_000);
        let run = || {
            Cmd::sync(tree.path(), &format!("s3://{bucket}/"), "target").from(&relay.server).args(HASTE).arg("--json")
        };
        let failed = run().expect(1);
        assert_eq!((failed.count("transferred_objects"), failed.count("failed_objects")), (0, 1));
        assert!(failed.stdout.contains("verification failed"), "{}", failed.stdout);
        assert_eq!(tree.names("target"), [PathBuf::from("object")]);
        assert_eq!(tree.contents("target")[&PathBuf::from("object")], b"old", "of {size} bytes");
        relay.replace("WXYZ", "WXYz", 1);
        run().expect(0);
        assert!(tree.contents("target")[&PathBuf::from("object")] == content(size), "the content differs");
    }
}

#[test]
fn i2_a_copy_that_arrives_changed_is_never_done() {
    let (server, tree) = (Server::any(), Tree::new());
    let (from, to) = (server.bucket("from"), server.bucket("to"));
    for size in [100 << 10, 12 << 20] {
        let relay = Relay::before(&server);
        relay.replace("WXYZ", "WXYz", ALWAYS);
        server.put(&from, "object", content(size));
        let run = Cmd::sync(tree.path(), &format!("s3://{from}/"), &format!("s3://{to}/"));
        let failed = run.from(&relay.server).to(&server).args(HASTE).arg("--json").expect(1);
        assert_eq!((failed.count("transferred_objects"), failed.count("failed_objects")), (0, 1));
        assert_eq!(server.keys(&to, ""), [""; 0], "of {size} bytes");
        assert_eq!(server.open_uploads(&to), [""; 0]);
    }
}

#[test]
fn i5_exit_0_means_that_the_target_equals_the_plan() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("plan");
    for number in 0..200 {
        tree.file(format!("source/{}/{number}", number % 5), noise(number, number as usize * 1_000));
    }
    let place = format!("s3://{bucket}/");
    let plan = Cmd::sync(tree.path(), "source", &place).to(&server).args(["--dry-run", "--json"]).expect(0);
    let run = Cmd::sync(tree.path(), "source", &place).to(&server).arg("--json").expect(0);
    assert_eq!(run.count("transferred_objects"), plan.count("planned_objects"));
    assert_eq!(run.count("transferred_bytes"), plan.count("planned_bytes"));
    let source =
        tree.contents("source").into_iter().map(|(path, content)| (path.to_str().unwrap().to_owned(), content));
    assert_eq!(server.objects(&bucket, ""), source.collect());
    let after = Cmd::sync(tree.path(), "source", &place).to(&server).args(["--dry-run", "--json"]).expect(0);
    assert_eq!(after.count("planned_objects"), 0);
    let relay = Relay::before(&server);
    relay.deny("/3/103", "AccessDenied");
    let other = format!("s3://{}/", server.bucket("plan-less"));
    Cmd::sync(tree.path(), "source", &other).to(&relay.server).expect(1);
}

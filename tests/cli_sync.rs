//! `ropeway sync` from end to end: the built binary, a server, a tree. What is copied, in which direction, and when not.

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use ropeway::serve::Storage;
use support::tree::noise;
use support::{Cmd, Server, Tree};

const MIB: usize = 1 << 20;

/// Local contents as a bucket would show them.
fn as_objects(files: BTreeMap<PathBuf, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    files.into_iter().map(|(path, content)| (path.to_str().expect("UTF-8").to_owned(), content)).collect()
}

fn s3(bucket: &str, prefix: &str) -> String {
    format!("s3://{bucket}/{prefix}")
}

#[test]
fn a_tree_goes_up_and_comes_back_the_same() {
    let (server, tree) = (Server::any(), Tree::new());
    let place = s3(&server.bucket("round-trip"), "tree/");
    tree.file("source/a/b.txt", "hello").file("source/empty", "").file("source/big", noise(1, 20_000_000));
    let up = Cmd::sync(tree.path(), "source", &place).to(&server).arg("--json").expect(0);
    assert_eq!((up.count("transferred_objects"), up.count("failed_objects")), (3, 0));
    assert_eq!(up.count("verified"), 3);
    Cmd::sync(tree.path(), &place, "back").from(&server).expect(0);
    assert_eq!(tree.contents("source"), tree.contents("back"));
}

#[test]
fn a_bucket_goes_to_another_service_with_its_own_keys() {
    let (source, tree) = (Server::any(), Tree::new());
    let mut settings = ropeway::serve::ServeSettings::new(Storage::Memory);
    settings.credentials.push(("other-key".into(), "other-secret".into()));
    settings.create_buckets = true;
    let mut target = Server::with(settings);
    (target.access_key, target.secret_key) = ("other-key".into(), "other-secret".into());
    let (from, to) = (source.bucket("from"), target.bucket("to"));
    tree.file("files/x", "x").file("files/d/big", noise(2, 12 * MIB)).file("files/d/e/y.html", "y");
    Cmd::sync(tree.path(), "files", &s3(&from, "")).to(&source).expect(0);
    source.put_with(&from, "with-meta", &[("x-amz-meta-colour", "red"), ("cache-control", "no-cache")], "m");
    let copy = || Cmd::sync(tree.path(), &s3(&from, ""), &s3(&to, "p/")).from(&source).to(&target).arg("--json");
    let run = copy().expect(0);
    assert_eq!(run.count("transferred_objects"), 4);
    assert_eq!(run.count("verified"), 4);
    assert_eq!(target.objects(&to, "p/"), source.objects(&from, ""));
    let headers = target.head(&to, "p/with-meta").unwrap();
    assert_eq!(headers.get("x-amz-meta-colour").map(String::as_str), Some("red"));
    assert_eq!(headers.get("cache-control").map(String::as_str), Some("no-cache"));
    assert!(target.head(&to, "p/d/e/y.html").unwrap()["content-type"].starts_with("text/html"));
    assert_eq!(copy().expect(0).count("transferred_objects"), 0);
}

#[test]
fn a_directory_goes_to_a_directory() {
    let tree = Tree::new();
    tree.file("source/a/b", "b")
        .file("source/c", noise(3, 9 * MIB))
        .set_modified("source/c", 1_500_000_000_123_456_789);
    let run = || Cmd::sync(tree.path(), "source", "target/deep/er").arg("--json");
    assert_eq!(run().expect(0).count("transferred_objects"), 2);
    assert_eq!(tree.contents("source"), tree.contents("target/deep/er"));
    assert_eq!(tree.modified("target/deep/er/c"), 1_500_000_000_123_456_789);
    let again = run().expect(0);
    assert_eq!((again.count("transferred_objects"), again.count("skipped_objects")), (0, 2));
}

#[test]
fn a_prefix_is_literal() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("prefix");
    for key in ["photos/a", "photos2/b", "phot", "photosx"] {
        server.put(&bucket, key, key);
    }
    Cmd::sync(tree.path(), &s3(&bucket, "photos/"), "directory").from(&server).expect(0);
    assert_eq!(tree.names("directory"), [PathBuf::from("a")]);
    Cmd::sync(tree.path(), &s3(&bucket, "photo"), "literal").from(&server).expect(0);
    assert_eq!(as_objects(tree.contents("literal")).into_keys().collect::<Vec<_>>(), ["s/a", "s2/b", "sx"]);
}

#[test]
fn one_object_or_one_file_is_copied_under_its_own_name() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("single");
    for key in ["dir/one", "dir/one2", "dir/one/below"] {
        server.put(&bucket, key, key);
    }
    let run = Cmd::sync(tree.path(), &s3(&bucket, "dir/one"), "out").from(&server).arg("--json").expect(0);
    assert_eq!(run.count("transferred_objects"), 1);
    assert_eq!(as_objects(tree.contents("out")), BTreeMap::from([("one".to_owned(), b"dir/one".to_vec())]));
    tree.file("files/f.txt", "content").file("files/g.txt", "other");
    let up = || Cmd::sync(tree.path(), "files/f.txt", &s3(&bucket, "up/")).to(&server).arg("--json");
    assert_eq!(up().expect(0).count("transferred_objects"), 1);
    assert_eq!(server.keys(&bucket, "up/"), ["up/f.txt"]);
    assert_eq!(server.get(&bucket, "up/f.txt").unwrap(), b"content");
    assert_eq!(up().expect(0).count("transferred_objects"), 0);
    let between = || {
        Cmd::sync(tree.path(), &s3(&bucket, "dir/one"), &s3(&bucket, "copy/")).from(&server).to(&server).arg("--json")
    };
    assert_eq!(between().expect(0).count("transferred_objects"), 1);
    assert_eq!(server.keys(&bucket, "copy/"), ["copy/one"]);
    assert_eq!(between().expect(0).count("transferred_objects"), 0);
}

#[test]
fn absent_size_and_newer_are_copied_and_nothing_else() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("rule");
    let place = s3(&bucket, "");
    for name in ["same", "size", "newer", "older"] {
        tree.file(format!("source/{name}"), "1234").set_modified(format!("source/{name}"), 1_600_000_000_000_000_000);
    }
    let up = || Cmd::sync(tree.path(), "source", &place).to(&server).arg("--json");
    assert_eq!(up().expect(0).count("transferred_objects"), 4);
    let second = up().expect(0);
    assert_eq!((second.count("transferred_objects"), second.count("skipped_objects")), (0, 4));
    // One hour ahead of whatever clock the server has.
    let ahead = support::tree::nanoseconds(std::time::SystemTime::now()) + 3_600_000_000_000;
    tree.file("source/size", "12345").set_modified("source/size", 1_500_000_000_000_000_000);
    tree.file("source/newer", "abcd").set_modified("source/newer", ahead);
    tree.file("source/older", "zzzz").set_modified("source/older", 1_500_000_000_000_000_000);
    tree.file("source/absent", "x");
    let third = up().expect(0);
    let copied = copied_for(&third.stdout);
    let expected = [("absent", "absent"), ("newer", "newer"), ("size", "size")];
    assert_eq!(copied, BTreeMap::from(expected.map(|(key, reason)| (key.to_owned(), reason.to_owned()))));
    assert_eq!(server.get(&bucket, "older").unwrap(), b"1234", "an older file replaces nothing");
    assert_eq!(server.get(&bucket, "newer").unwrap(), b"abcd");
}

/// Key and reason of each copied object in a run with `--json`.
fn copied_for(stdout: &str) -> BTreeMap<String, String> {
    let events = stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    events.filter(|e| e["event"] == "transferred").map(|e| (text(&e["key"]), text(&e["reason"]))).collect()
}

#[test]
fn a_download_follows_the_same_rule() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("rule-down");
    for key in ["foreign", "sub/foreign", "replaced", "grown"] {
        server.put(&bucket, key, "1234");
    }
    tree.file("up/ours", "ours").set_modified("up/ours", 1_400_000_000_987_654_321);
    Cmd::sync(tree.path(), "up", &s3(&bucket, "")).to(&server).expect(0);
    let down = || Cmd::sync(tree.path(), &s3(&bucket, ""), "out").from(&server).arg("--json");
    assert_eq!(down().expect(0).count("transferred_objects"), 5);
    let second = down().expect(0);
    assert_eq!((second.count("transferred_objects"), second.count("skipped_objects")), (0, 5), "{}", second.stdout);
    // Long before any object was written, and not the time of what it holds: the object is newer.
    tree.file("out/replaced", "abcd").set_modified("out/replaced", 1_000_000_000_000_000_000);
    tree.file("out/grown", "12345");
    let third = down().expect(0);
    let expected = [("grown", "size"), ("replaced", "newer")];
    assert_eq!(copied_for(&third.stdout), BTreeMap::from(expected.map(|(k, r)| (k.to_owned(), r.to_owned()))));
    assert_eq!(tree.contents("out")[&PathBuf::from("replaced")], b"1234");
}

#[test]
fn times_are_restored_from_metadata_or_from_last_modified() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("times");
    tree.file("up/small", "s").set_modified("up/small", 1_234_567_890_123_456_789);
    tree.file("up/large", noise(4, 17 * MIB)).set_modified("up/large", 987_654_321_000_000_001);
    tree.file("up/ancient", "a").set_modified("up/ancient", 0);
    Cmd::sync(tree.path(), "up", &s3(&bucket, "")).to(&server).expect(0);
    server.put(&bucket, "foreign", "f");
    server.put_with(&bucket, "other-program", &[("x-amz-meta-mtime", "1354040105.5")], "o");
    Cmd::sync(tree.path(), &s3(&bucket, ""), "down").from(&server).expect(0);
    for name in ["small", "large", "ancient"] {
        assert_eq!(tree.modified(format!("down/{name}")), tree.modified(format!("up/{name}")), "{name}");
    }
    assert_eq!(tree.modified("down/other-program"), 1_354_040_105_500_000_000);
    let headers = server.head(&bucket, "foreign").unwrap();
    let rfc2822 = time::format_description::well_known::Rfc2822;
    let written = headers["last-modified"].replace("GMT", "+0000");
    let written = time::OffsetDateTime::parse(&written, &rfc2822).expect("a date").unix_timestamp();
    assert_eq!((tree.modified("down/foreign") / 1_000_000_000) as i64, written);
}

#[test]
fn a_dry_run_says_what_would_be_copied_and_changes_nothing() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("dry");
    server.put(&bucket, "there", "12");
    server.put(&bucket, "sub/object", "object");
    tree.file("source/there", "123").file("source/new/file", "n");
    let up = Cmd::sync(tree.path(), "source", &s3(&bucket, "")).to(&server).arg("--dry-run").expect(0);
    let mut lines: Vec<&str> = up.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["would copy new/file (1 B, absent)", "would copy there (3 B, size)"]);
    assert!(up.stderr.contains("dry run: 2 objects, 4 B would be copied; 0 skipped, 0 failed"), "{}", up.stderr);
    assert_eq!(server.keys(&bucket, ""), ["sub/object", "there"]);
    assert_eq!(server.get(&bucket, "there").unwrap(), b"12");
    let before = tree.names("");
    let down = Cmd::sync(tree.path(), &s3(&bucket, ""), "not/yet/there").from(&server).arg("--dry-run");
    let down = down.arg("--json").expect(0);
    assert_eq!((down.count("planned_objects"), down.count("transferred_objects")), (2, 0));
    Cmd::sync(tree.path(), "source", "nor/this").arg("--dry-run").expect(0);
    assert_eq!(tree.names(""), before);
}

#[test]
fn a_dry_run_makes_no_embedded_store() {
    let tree = Tree::new();
    tree.file("source/a", "a");
    let run = Cmd::sync(tree.path(), "source", "s3://demo/").args(["--target-endpoint-url", "embedded:store"]);
    assert_eq!(run.args(["--dry-run", "--json"]).expect(0).count("planned_objects"), 1);
    assert_eq!(tree.names(""), ["source", "source/a"].map(PathBuf::from));
}

#[test]
fn the_embedded_default_needs_no_account() {
    let tree = Tree::new();
    tree.file("source/a", "a").file("source/b/c", noise(5, 9 * MIB));
    let up = || Cmd::sync(tree.path(), "source", "s3://demo/p/").args(["--target-endpoint-url", "embedded:./store"]);
    assert_eq!(up().arg("--json").expect(0).count("transferred_objects"), 2);
    assert_eq!(up().arg("--json").expect(0).count("transferred_objects"), 0, "the store survives the run");
    let both = ["--source-endpoint-url", "embedded:./store", "--target-endpoint-url", "embedded:store"];
    Cmd::sync(tree.path(), "s3://demo/p/", "s3://demo/q/").args(both).expect(0);
    let down = Cmd::sync(tree.path(), "s3://demo/q/", "back").args(["--source-endpoint-url", "embedded:./store"]);
    down.expect(0);
    assert_eq!(tree.contents("source"), tree.contents("back"));
}

#[test]
fn sizes_around_every_border_arrive_whole() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("sizes");
    // Small buffer 128 KiB, threshold 8 MiB, parts of 5 MiB, a large buffer of 6 MiB.
    let (small, part, buffer, threshold) = (128 << 10, 5 * MIB, 6 * MIB, 8 * MIB);
    let mut sizes = vec![0, 1];
    for border in [small, part, buffer, threshold, 2 * part, 3 * part] {
        sizes.extend([border - 1, border, border + 1]);
    }
    for size in &sizes {
        tree.file(format!("source/{size}"), noise(*size as u64, *size));
    }
    let cut = ["--multipart-chunksize", "5MiB", "--multipart-threshold", "8MiB", "--json"];
    let up = Cmd::sync(tree.path(), "source", &s3(&bucket, "a/")).to(&server).args(cut).expect(0);
    assert_eq!(up.count("verified"), sizes.len() as u64);
    assert_eq!(server.objects(&bucket, "a/"), as_objects(tree.contents("source")));
    let copy = Cmd::sync(tree.path(), &s3(&bucket, "a/"), &s3(&bucket, "b/")).from(&server).to(&server).args(cut);
    let copy = copy.expect(0);
    assert_eq!(copy.count("verified"), sizes.len() as u64);
    let down = Cmd::sync(tree.path(), &s3(&bucket, "b/"), "down").from(&server).args(cut).expect(0);
    assert_eq!(down.count("verified"), sizes.len() as u64);
    assert_eq!(tree.contents("down"), tree.contents("source"));
}

#[test]
fn a_part_larger_than_a_buffer_is_streamed() {
    let (server, tree) = (Server::any(), Tree::new());
    if server.skip(&["moto"], "it needs gigabytes for large objects") {
        return;
    }
    let bucket = server.bucket("large-parts");
    tree.file("source/big", noise(6, 200 * MIB));
    let limits = ["--memory", "96MiB", "--cores", "1", "--multipart-chunksize", "64MiB"];
    let cut = ["--multipart-threshold", "5MiB", "--json"];
    let up = Cmd::sync(tree.path(), "source", &s3(&bucket, "a/")).to(&server).args(limits).args(cut).expect(0);
    assert_eq!(up.count("verified"), 1);
    let copy = Cmd::sync(tree.path(), &s3(&bucket, "a/"), &s3(&bucket, "b/")).from(&server).to(&server);
    let copy = copy.args(limits).args(cut).expect(0);
    assert_eq!(copy.count("verified"), 1);
    let down = Cmd::sync(tree.path(), &s3(&bucket, "b/"), "down").from(&server).args(limits).args(cut).expect(0);
    assert_eq!(down.count("verified"), 1);
    assert!(tree.contents("down") == tree.contents("source"), "the content differs");
    assert_eq!(server.open_uploads(&bucket), [""; 0]);
}

#[test]
fn an_object_below_a_high_threshold_is_one_streamed_request() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("streamed");
    tree.file("source/big", noise(7, 40 * MIB));
    let cut = ["--multipart-threshold", "64MiB", "--json"];
    let up = Cmd::sync(tree.path(), "source", &s3(&bucket, "a/")).to(&server).args(cut).expect(0);
    assert_eq!(up.count("verified"), 1);
    assert!(!server.head(&bucket, "a/big").unwrap()["etag"].contains('-'), "it went in parts");
    let copy = Cmd::sync(tree.path(), &s3(&bucket, "a/"), &s3(&bucket, "b/")).from(&server).to(&server);
    copy.args(cut).expect(0);
    assert!(!server.head(&bucket, "b/big").unwrap()["etag"].contains('-'), "it went in parts");
    let down = Cmd::sync(tree.path(), &s3(&bucket, "b/"), "down").from(&server).args(cut).expect(0);
    assert_eq!(down.count("verified"), 1);
    assert!(tree.contents("down") == tree.contents("source"), "the content differs");
}

#[test]
fn thousands_of_objects_in_flat_and_deep_trees() {
    let (server, tree) = (Server::any(), Tree::new());
    if server.skip(&["moto"], "it is too slow for thousands of objects") {
        return;
    }
    let bucket = server.bucket("many");
    for number in 0..2_500 {
        tree.file(format!("source/flat/{number:05}"), number.to_string());
        tree.file(format!("source/{}/{}/{number}", number % 7, number % 31), number.to_string());
    }
    let up = Cmd::sync(tree.path(), "source", &s3(&bucket, "x/")).to(&server).arg("--json").expect(0);
    assert_eq!((up.count("transferred_objects"), up.count("failed_objects")), (5_000, 0));
    assert_eq!(server.keys(&bucket, "x/").len(), 5_000);
    Cmd::sync(tree.path(), &s3(&bucket, "x/"), "down").from(&server).expect(0);
    assert_eq!(tree.contents("source"), tree.contents("down"));
    let again = Cmd::sync(tree.path(), "source", &s3(&bucket, "x/")).to(&server).arg("--json").expect(0);
    assert_eq!((again.count("transferred_objects"), again.count("skipped_objects")), (0, 5_000));
}

#[test]
fn a_prefix_without_a_slash_that_can_only_be_a_directory_is_one() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("slashless");
    server.put(&bucket, "photos/a", b"1");
    server.put(&bucket, "photos/sub/b", b"2");
    server.put(&bucket, "other", b"3");
    let run = || Cmd::sync(tree.path(), &s3(&bucket, "photos"), "back").from(&server).arg("--json");
    assert_eq!(run().expect(0).count("transferred_objects"), 2);
    assert_eq!(tree.contents("back").len(), 2);
    assert!(tree.at("back/sub/b").is_file());
    assert_eq!(run().expect(0).count("transferred_objects"), 0);
}

#[test]
fn a_prefix_without_a_slash_that_could_be_two_things_is_asked_about() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("ambiguous");
    server.put(&bucket, "photos/a", b"1");
    server.put(&bucket, "photos2", b"2");
    let refused = Cmd::sync(tree.path(), &s3(&bucket, "photos"), "back").from(&server).expect(2);
    assert!(refused.stderr.contains("end the source with `/`"), "{}", refused.stderr);
    assert!(!tree.at("back").exists());
    Cmd::sync(tree.path(), &s3(&bucket, "photos/"), "back").from(&server).expect(0);
}

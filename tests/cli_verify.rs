//! `ropeway verify`: each kind of difference, each exit code, between all kinds of sides; and nothing is changed.

mod support;

use support::cmd::Output;
use support::model::Object;
use support::scripted::{Answer, Scripted};
use support::tree::noise;
use support::{Cmd, Server, Tree};

const MIB: usize = 1 << 20;

fn verify(tree: &Tree, source: &str, target: &str) -> Cmd {
    Cmd::new(tree.path(), ["verify", source, target])
        .env("ROPEWAY_AWS_MAX_ATTEMPTS", "2")
        .env("ROPEWAY_INITIAL_BACKOFF_MILLISECONDS", "1")
}

/// Every difference as `kind key`, in order.
fn differences(output: &Output) -> Vec<String> {
    let line = |line: &str| -> serde_json::Value { serde_json::from_str(line).expect("each line is JSON") };
    let mut found: Vec<String> = output
        .stdout
        .lines()
        .map(line)
        .filter(|line| line["event"] == "difference")
        .map(|line| format!("{} {}", line["kind"].as_str().unwrap(), line["key"].as_str().unwrap()))
        .collect();
    found.sort();
    found
}

#[track_caller]
fn assert_says(output: &Output, words: &str) {
    assert!(output.stderr.contains(words), "`{words}` is not in:\n{}\n{}", output.stderr, output.stdout);
}

/// Two trees: equal, of equal length but other content, of other length, and on one side alone.
fn two_trees() -> Tree {
    let tree = Tree::new();
    for (side, content, size) in [("source", "one", "short"), ("target", "two", "longer")] {
        tree.file(format!("{side}/equal"), "equal").file(format!("{side}/d/content"), content);
        tree.file(format!("{side}/size"), size).file(format!("{side}/empty"), "");
        tree.file(format!("{side}/large"), noise(1, 12 * MIB));
        let large = if side == "source" { 2 } else { 3 };
        tree.file(format!("{side}/large-content"), noise(large, 12 * MIB));
        // Were they compared by time, all would be the same.
        for name in ["equal", "d/content", "size", "large", "large-content"] {
            tree.set_modified(format!("{side}/{name}"), 1_500_000_000_000_000_000);
        }
    }
    tree.file("source/missing", "m").file("target/extra", "e");
    tree
}

const DIFFERENCES: [&str; 5] =
    ["content d/content", "content large-content", "extra extra", "missing missing", "size size"];

#[test]
fn every_kind_of_difference_is_found_between_all_kinds_of_sides() {
    let (server, tree) = (Server::any(), two_trees());
    let (one, two) = (server.bucket("verify-one"), server.bucket("verify-two"));
    let (one, two) = (format!("s3://{one}/p/"), format!("s3://{two}/"));
    Cmd::sync(tree.path(), "source", &one).to(&server).expect(0);
    Cmd::sync(tree.path(), "target", &two).to(&server).expect(0);
    let before = tree.names("");
    for deep in [false, true] {
        let flags: &[&str] = if deep { &["--deep"] } else { &[] };
        let runs = [
            verify(&tree, "source", "target"),
            verify(&tree, "source", &two).to(&server),
            verify(&tree, &one, "target").from(&server),
            verify(&tree, &one, &two).from(&server).to(&server),
        ];
        for run in runs {
            let output = run.args(flags).expect(4);
            assert_eq!(differences(&output), DIFFERENCES, "{}", output.stderr);
            assert_says(&output, "3 objects equal, 5 differences, 0 not comparable");
        }
        for (source, target) in [("source", one.as_str()), ("source", "source"), (one.as_str(), one.as_str())] {
            let output = verify(&tree, source, target)
                .source_if_bucket(source, &server)
                .target_if_bucket(target, &server)
                .args(flags);
            let output = output.expect(0);
            assert_says(&output, "7 objects equal, 0 differences, 0 not comparable");
            assert_eq!(output.stdout, "");
        }
    }
    assert_eq!(tree.names(""), before);
}

trait IfBucket {
    fn source_if_bucket(self, place: &str, server: &Server) -> Self;
    fn target_if_bucket(self, place: &str, server: &Server) -> Self;
}

impl IfBucket for Cmd {
    fn source_if_bucket(self, place: &str, server: &Server) -> Cmd {
        if place.starts_with("s3:") { self.from(server) } else { self }
    }

    fn target_if_bucket(self, place: &str, server: &Server) -> Cmd {
        if place.starts_with("s3:") { self.to(server) } else { self }
    }
}

/// A bucket whose objects have these contents and, if given, these ETags.
fn holding(objects: &[(&str, &str, Option<&str>)]) -> Scripted {
    let server = Scripted::start();
    for (key, content, etag) in objects {
        let mut object = Object::new(*content);
        if let Some(etag) = etag {
            object.etag = format!("\"{etag}\"");
        }
        server.model().objects.insert((*key).to_owned(), object);
    }
    server
}

#[test]
fn a_single_object_has_no_neighbours() {
    let (source, target) = (holding(&[("d/ü", "1", None)]), holding(&[("d/a", "1", None), ("d/ü", "1", None)]));
    let tree = Tree::new();
    let run = verify(&tree, "s3://one/d/ü", "s3://two/d/").from(&source.server).to(&target.server);
    assert_says(&run.expect(0), "1 objects equal, 0 differences");
}

#[test]
fn what_cannot_be_compared_is_exit_code_3_and_can_be_read() {
    let (source, target) = (holding(&[("k", "same", Some("opaque"))]), holding(&[("k", "same", None)]));
    let tree = Tree::new();
    let run = || verify(&tree, "s3://one/", "s3://two/").from(&source.server).to(&target.server);
    let output = run().expect(3);
    assert_eq!(differences(&output), ["unverifiable k"]);
    assert!(output.stdout.contains("--deep"), "{}", output.stdout);
    assert_eq!(differences(&run().arg("--deep").expect(0)), [""; 0]);
    target.model().objects.insert("k".to_owned(), Object::new("SAME"));
    assert_eq!(differences(&run().arg("--deep").expect(4)), ["content k"]);
    tree.file("local/k", "same");
    let local = verify(&tree, "s3://one/", "local").from(&source.server);
    assert_eq!(differences(&local.expect(3)), ["unverifiable k"]);
    source.on("HeadObject", "k").answer(Answer::error(403, "AccessDenied"));
    assert_eq!(differences(&run().expect(3)), ["unverifiable k"]);
}

#[test]
fn equal_etags_in_the_listings_need_no_request() {
    let objects = [("a", "a", None), ("b", "b", None)];
    let (source, target, tree) = (holding(&objects), holding(&objects), Tree::new());
    verify(&tree, "s3://one/", "s3://two/").from(&source.server).to(&target.server).expect(0);
    assert_eq!((source.requests_of("HeadObject").len(), target.requests_of("HeadObject").len()), (0, 0));
    let only_read =
        |server: &Scripted| server.requests().iter().all(|request| ["GET", "HEAD"].contains(&&*request.method));
    assert!(only_read(&source) && only_read(&target));
}

#[test]
fn a_sample_is_read_and_its_seed_is_said() {
    let names: Vec<String> = (0..400).map(|number| format!("k{number}")).collect();
    let objects: Vec<_> = names.iter().map(|name| (name.as_str(), "x", None)).collect();
    let (source, target, tree) = (holding(&objects), holding(&objects), Tree::new());
    let run = || verify(&tree, "s3://one/", "s3://two/").from(&source.server).to(&target.server);
    let output = run().args(["--deep", "--sample", "10%", "--sample-seed", "7"]).expect(0);
    assert_says(&output, "the sample's seed is 7");
    let read = |server: &Scripted| {
        let mut keys: Vec<_> = server.requests_of("GetObject").into_iter().map(|request| request.key).collect();
        keys.sort();
        keys
    };
    let first = read(&source);
    assert!((10..90).contains(&first.len()), "{}", first.len());
    assert_eq!(first, read(&target), "both sides of the same objects");
    run().args(["--deep", "--sample", "10%", "--sample-seed", "7"]).expect(0);
    assert_eq!(read(&source).len(), 2 * first.len(), "the same objects again");
    let output = run().args(["--sample", "10%"]).expect(2);
    assert_says(&output, "give --deep as well");
}

#[test]
fn sides_that_are_not_there_are_said_and_not_made() {
    let (server, tree) = (Server::any(), Tree::new());
    let place = format!("s3://{}/", server.bucket("verify-absent"));
    tree.file("source/a", "a");
    assert_says(&verify(&tree, "source", "absent").expect(7), "`absent`");
    assert_says(&verify(&tree, "absent", &place).to(&server).expect(7), "`absent`");
    let dead = ["--target-endpoint-url", "http://127.0.0.1:1", "--target-access-key", "k"];
    let dead = verify(&tree, "source", "s3://bucket/").args(dead).args(["--target-secret-access-key", "s"]);
    assert_says(&dead.expect(7), "does not answer");
    let store = ["--target-endpoint-url", "embedded:store"];
    assert_says(&verify(&tree, "source", "s3://demo/").args(store).expect(7), "embedded store `store` is not there");
    assert!(!tree.at("store").exists() && !tree.at("absent").exists());
    Cmd::sync(tree.path(), "source", "s3://demo/").args(store).expect(0);
    verify(&tree, "source", "s3://demo/").args(store).expect(0);
    tree.file("source/b", "b");
    assert_eq!(differences(&verify(&tree, "source", "s3://demo/").args(store).expect(4)), ["missing b"]);
}

#[test]
fn a_listing_that_fails_is_exit_code_1() {
    let (source, target) = (holding(&[("a", "a", None), ("b", "b", None)]), holding(&[("a", "a", None)]));
    let tree = Tree::new();
    source.model().page_keys = 1;
    source.on("ListObjectsV2", "").query("continuation-token", "a").answer(Answer::error(500, "InternalError"));
    let run = verify(&tree, "s3://one/", "s3://two/").from(&source.server).to(&target.server);
    let output = run.env("ROPEWAY_CORES", "1").expect(1);
    assert_says(&output, "listing the source failed");
}

#[test]
fn with_json_the_summary_counts_what_was_found() {
    let tree = two_trees();
    let output = verify(&tree, "source", "target").arg("--json").expect(4);
    let counts = ["equal_objects", "differences", "unverifiable_objects", "transferred_objects"];
    assert_eq!(counts.map(|name| output.count(name)), [3, 5, 0, 0]);
    assert_eq!((&output.summary()["compared"], &output.summary()["exit_code"]), (&true.into(), &4.into()));
}

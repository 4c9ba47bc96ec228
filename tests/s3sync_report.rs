//! s3sync's own scenarios about its report of what is in sync: one record for each comparison, the totals last, exit code 0 or
//! 3, and nothing changed.

mod support;

use serde_json::Value;
use support::cmd::Output;
use support::model::Object;
use support::scripted::{Answer, Scripted};
use support::tree::noise;
use support::{Cmd, Server, Tree};

const MIB: usize = 1 << 20;

fn report(tree: &Tree, source: &str, target: &str) -> Cmd {
    Cmd::sync(tree.path(), source, target).arg("--report-sync-status")
}

/// Every record as `name type status key`, in order, without the totals.
fn records(output: &Output) -> Vec<String> {
    let word = |line: &Value, name: &str| line[name].as_str().unwrap_or("?").to_owned();
    let mut found: Vec<String> = lines(output)
        .iter()
        .filter(|line| line["event"] == "sync_status")
        .map(|line| ["name", "type", "status", "key"].map(|name| word(line, name)).join(" "))
        .collect();
    found.sort();
    found
}

fn lines(output: &Output) -> Vec<Value> {
    output.stdout.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

/// The totals that are not 0, as `name=number`; they are the last line, and the only one of their kind.
#[track_caller]
fn totals(output: &Output) -> Vec<String> {
    let lines = lines(output);
    assert_eq!(lines.iter().filter(|line| line["name"] == "REPORT_SUMMARY").count(), 1, "{}", output.stderr);
    let last = lines.last().unwrap().as_object().unwrap();
    assert_eq!(last["name"], "REPORT_SUMMARY", "{}", output.stdout);
    let numbers = last.iter().filter_map(|(name, value)| Some((name, value.as_u64()?)));
    numbers.filter(|(_, number)| *number > 0).map(|(name, number)| format!("{name}={number}")).collect()
}

fn step1(tree: &Tree) {
    tree.file("step1/data1", "my_data_1\n").file("step1/data2", "my_data_2_TEST\n");
}

/// The same names with other contents, and three more.
fn step2(tree: &Tree) {
    tree.file("step2/data1", "my_data_2_1\n").file("step2/data2", "my_data_2_2_TEST\n");
    for name in ["data3", "data4", "data5"] {
        tree.file(format!("step2/{name}"), name);
    }
}

#[test]
fn local_to_s3_sync_report() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("report-up");
    let (one, two) = (format!("s3://{bucket}/step1/"), format!("s3://{bucket}/step2/"));
    step1(&tree);
    step2(&tree);
    Cmd::sync(tree.path(), "step1", &one).to(&server).expect(0);
    let same = report(&tree, "step1", &one).to(&server).expect(0);
    assert_eq!(totals(&same), ["etag_matches=2", "number_of_objects=2"]);
    assert_eq!(records(&same), ["SYNC_STATUS ETAG MATCHES data1", "SYNC_STATUS ETAG MATCHES data2"]);
    let nothing = report(&tree, "step2", &two).to(&server).expect(3);
    assert_eq!(totals(&nothing), ["not_found=5", "number_of_objects=5"]);
    assert!(records(&nothing).iter().all(|line| line.starts_with("SYNC_STATUS EXISTENCE NOT_FOUND ")));
    let other = report(&tree, "step2", &one).to(&server).expect(3);
    assert_eq!(totals(&other), ["etag_mismatch=2", "not_found=3", "number_of_objects=5"]);
    assert_eq!(server.keys(&bucket, ""), ["step1/data1", "step1/data2"], "nothing is changed");
}

#[test]
fn sync_report_by_additional_checksum() {
    let (server, tree) = (Server::any(), Tree::new());
    if server.skip(&["moto", "ceph"], "it does not keep the SHA256 of what it is given") {
        return;
    }
    let [one, two] = ["report-sum-1", "report-sum-2"].map(|name| format!("s3://{}/", server.bucket(name)));
    step1(&tree);
    step2(&tree);
    let upload = Cmd::sync(tree.path(), "step1", &one).to(&server);
    upload.args(["--additional-checksum-algorithm", "SHA256"]).expect(0);
    let copy = Cmd::sync(tree.path(), &one, &two).from(&server).to(&server);
    copy.args(["--additional-checksum-algorithm", "SHA256", "--enable-additional-checksum"]).expect(0);
    let run = |source: &str, target: &str, code| {
        let flags = ["--check-additional-checksum", "SHA256"];
        let run = report(&tree, source, target).args(flags);
        let run = if source.starts_with("s3:") { run.from(&server) } else { run };
        let run = if target.starts_with("s3:") { run.to(&server) } else { run };
        totals(&run.expect(code))
    };
    for (source, target) in [("step1", one.as_str()), (&one, "step1"), (&one, &two)] {
        assert_eq!(run(source, target, 0), ["checksum_matches=2", "number_of_objects=2"], "{source} {target}");
    }
    assert_eq!(run("step2", &one, 3), ["checksum_mismatch=2", "not_found=3", "number_of_objects=5"]);
    let plain = format!("s3://{}/", server.bucket("report-no-sum"));
    Cmd::sync(tree.path(), "step1", &plain).to(&server).expect(0);
    assert_eq!(run("step1", &plain, 3), ["checksum_unknown=2", "number_of_objects=2"]);
}

#[test]
fn s3_to_local_sync_report() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("report-down");
    step1(&tree);
    step2(&tree);
    for step in ["step1", "step2"] {
        Cmd::sync(tree.path(), step, &format!("s3://{bucket}/{step}/")).to(&server).expect(0);
    }
    let run = |from: &str, to: &str, code: i32| {
        report(&tree, &format!("s3://{bucket}/{from}/"), to).from(&server).expect(code)
    };
    assert_eq!(totals(&run("step1", "step1", 0)), ["etag_matches=2", "number_of_objects=2"]);
    assert_eq!(totals(&run("step2", "step1", 3)), ["etag_mismatch=2", "not_found=3", "number_of_objects=5"]);
    // What only the target has is not spoken of.
    let fewer = run("step1", "step2", 3);
    assert_eq!(totals(&fewer), ["etag_mismatch=2", "number_of_objects=2"]);
    assert!(!fewer.stdout.contains("data3"));
}

#[test]
fn s3_to_s3_sync_report() {
    let (server, tree) = (Server::any(), Tree::new());
    let [one, two] = ["report-from", "report-to"].map(|name| server.bucket(name));
    let [one, two] = [one, two].map(|bucket| format!("s3://{bucket}/"));
    step2(&tree);
    tree.file("step2/large", noise(4, 17 * MIB));
    Cmd::sync(tree.path(), "step2", &one).to(&server).expect(0);
    Cmd::sync(tree.path(), &one, &two).from(&server).to(&server).expect(0);
    let run = |code| report(&tree, &one, &two).from(&server).to(&server).expect(code);
    assert_eq!(totals(&run(0)), ["etag_matches=6", "number_of_objects=6"]);
    let bucket = two.trim_start_matches("s3://").trim_end_matches('/');
    server.put(bucket, "data1", "my_data_X_1\n");
    server.put(bucket, "data2", "shorter");
    server.delete(bucket, "data3");
    let output = run(3);
    assert_eq!(totals(&output), ["etag_matches=3", "etag_mismatch=2", "not_found=1", "number_of_objects=6"]);
    let line = lines(&output).into_iter().find(|line| line["key"] == "data2").unwrap();
    assert_eq!((&line["source_size"], &line["target_size"]), (&17.into(), &7.into()));
    assert!(line["source_e_tag"].is_string() && line["target_e_tag"].is_string());
    assert!(line["source_last_modified"].as_str().unwrap().ends_with("+00:00"));
}

#[test]
fn s3_to_s3_sync_metadata_report() {
    let (server, tree) = (Server::any(), Tree::new());
    let [one, two] = ["report-meta-1", "report-meta-2"].map(|name| server.bucket(name));
    let same = [("x-amz-meta-a", "1"), ("x-amz-meta-b", "2"), ("content-type", "text/plain")];
    server.put_with(&one, "same", &same, "1");
    let marks = [("x-amz-meta-s3sync_origin_version_id", "v"), ("x-amz-meta-ropeway-token", "t")];
    server.put_with(&two, "same", &[&same[..], &marks].concat(), "1");
    server.put_with(&one, "user", &same, "1");
    server.put_with(&two, "user", &[("x-amz-meta-a", "other"), same[1], same[2]], "1");
    server.put_with(&one, "header", &[("cache-control", "no-store"), same[2]], "1");
    server.put_with(&two, "header", &[("content-disposition", "inline"), same[2]], "1");
    server.put(&one, "absent", "1");
    let (one, two) = (format!("s3://{one}/"), format!("s3://{two}/"));
    let run = |flags: &[&str], code| report(&tree, &one, &two).from(&server).to(&server).args(flags).expect(code);
    let plain = run(&[], 3);
    assert_eq!(totals(&plain), ["etag_matches=3", "not_found=1", "number_of_objects=4"]);
    let output = run(&["--report-metadata-sync-status"], 3);
    let expected =
        ["etag_matches=3", "metadata_matches=1", "metadata_mismatch=2", "not_found=1", "number_of_objects=4"];
    assert_eq!(totals(&output), expected);
    let different: Vec<String> = lines(&output)
        .iter()
        .filter(|line| line["name"] == "METADATA_SYNC_STATUS" && line["status"] == "MISMATCH")
        .map(|line| format!("{} {}", line["key"].as_str().unwrap(), line["metadata_name"].as_str().unwrap()))
        .collect();
    let mut different = different;
    different.sort();
    assert_eq!(different, ["header Cache-Control", "header Content-Disposition", "user x-amz-meta-"]);
    let of_same = records(&output).iter().filter(|line| line.ends_with(" same")).count();
    assert_eq!(of_same, 9, "eight about metadata, one about the content");
}

#[test]
fn a_copy_of_ropeways_has_the_metadata_of_its_source() {
    let (server, tree) = (Server::any(), Tree::new());
    let [one, two] = ["report-copy-1", "report-copy-2"].map(|name| format!("s3://{}/", server.bucket(name)));
    tree.file("source/small.txt", "1").file("source/large.bin", noise(9, 12 * MIB));
    Cmd::sync(tree.path(), "source", &one).to(&server).expect(0);
    let copy = Cmd::sync(tree.path(), &one, &two).from(&server).to(&server);
    copy.args(["--put-last-modified-metadata", "--multipart-chunksize", "5MiB"]).expect(0);
    let flags = ["--report-metadata-sync-status", "--report-tagging-sync-status"];
    let output = report(&tree, &one, &two).from(&server).to(&server).args(flags).run();
    let totals = totals(&output);
    for expected in ["metadata_matches=2", "tagging_matches=2", "number_of_objects=2"] {
        assert!(totals.contains(&expected.to_owned()), "{totals:?}\n{}", output.stdout);
    }
}

#[test]
fn s3_to_s3_sync_tagging_report() {
    let (server, tree) = (Server::any(), Tree::new());
    let [one, two] = ["report-tags-1", "report-tags-2"].map(|name| server.bucket(name));
    let tags = |value: &'static str| [("x-amz-tagging", value)];
    for (key, first, second) in
        [("same", "b=2&a=1", "a=1&b=2"), ("value", "a=1", "a=2"), ("more", "a=1", "a=1&b=2"), ("none", "a=1", "")]
    {
        server.put_with(&one, key, &tags(first), "1");
        let second = if second.is_empty() { vec![] } else { tags(second).to_vec() };
        server.put_with(&two, key, &second, "1");
    }
    server.put(&one, "neither", "1");
    server.put(&two, "neither", "1");
    let run = report(&tree, &format!("s3://{one}/"), &format!("s3://{two}/")).from(&server).to(&server);
    let output = run.arg("--report-tagging-sync-status").expect(3);
    assert_eq!(totals(&output), ["etag_matches=5", "number_of_objects=5", "tagging_matches=2", "tagging_mismatch=3"]);
    let line = lines(&output).into_iter().find(|line| line["key"] == "same" && line["type"] == "TAGGING").unwrap();
    assert_eq!((&line["name"], &line["source_tagging"]), (&"TAGGING_SYNC_STATUS".into(), &"a=1&b=2".into()));
    assert_eq!(line["source_tagging"], line["target_tagging"]);
}

#[test]
fn contents_that_cannot_be_compared_are_unknown() {
    let (source, target, tree) = (Scripted::start(), Scripted::start(), Tree::new());
    let mut opaque = Object::new("same");
    opaque.etag = "\"opaque\"".to_owned();
    source.model().objects.insert("k".to_owned(), opaque);
    target.model().objects.insert("k".to_owned(), Object::new("same"));
    source.model().objects.insert("refused".to_owned(), Object::new("1"));
    target.model().objects.insert("refused".to_owned(), Object::new("2"));
    source.on("HeadObject", "refused").answer(Answer::error(403, "AccessDenied"));
    let output = report(&tree, "s3://one/", "s3://two/").from(&source.server).to(&target.server).expect(3);
    assert_eq!(records(&output), ["SYNC_STATUS ETAG UNKNOWN k", "SYNC_STATUS ETAG UNKNOWN refused"]);
    assert_eq!(totals(&output), ["etag_unknown=2", "number_of_objects=2"]);
}

#[test]
fn a_report_only_reads_and_asks_for_nothing_that_the_listings_tell() {
    let (source, target, tree) = (Scripted::start(), Scripted::start(), Tree::new());
    for key in ["a", "b", "c"] {
        source.model().objects.insert(key.to_owned(), Object::new(key));
        target.model().objects.insert(key.to_owned(), Object::new(key));
    }
    target.model().objects.remove("b");
    target.model().objects.insert("extra".to_owned(), Object::new("e"));
    report(&tree, "s3://one/", "s3://two/").from(&source.server).to(&target.server).expect(3);
    for server in [&source, &target] {
        assert!(server.requests().iter().all(|request| ["GET", "HEAD"].contains(&&*request.method)));
        assert_eq!(server.requests_of("HeadObject").len(), 0);
    }
}

#[test]
fn filters_hold_in_a_report_too() {
    let tree = Tree::new();
    step1(&tree);
    step2(&tree);
    let output = report(&tree, "step2", "step1").args(["--filter-include-regex", "data[12]"]).expect(3);
    assert_eq!(totals(&output), ["etag_mismatch=2", "number_of_objects=2"]);
    assert_eq!(totals(&report(&tree, "step1", "step1").expect(0)), ["etag_matches=2", "number_of_objects=2"]);
}

#[test]
fn a_target_that_is_not_there_is_said_and_not_made() {
    let tree = Tree::new();
    step1(&tree);
    report(&tree, "step1", "absent").expect(7);
    assert!(!tree.at("absent").exists());
    let output = Cmd::sync(tree.path(), "step1", "step1").arg("--report-tagging-sync-status").expect(2);
    assert!(output.stderr.contains("--report-sync-status"), "{}", output.stderr);
    report(&tree, "step1", "step1").arg("--dry-run").expect(2);
}

#[test]
fn with_json_the_records_are_lines_among_the_others() {
    let tree = Tree::new();
    step1(&tree);
    step2(&tree);
    let output = report(&tree, "step2", "step1").arg("--json").expect(3);
    assert_eq!((output.count("reported_objects"), output.count("not_found")), (5, 3));
    assert_eq!(output.summary()["reported"], true);
    assert_eq!(records(&output).len(), 5);
}

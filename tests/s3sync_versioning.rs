//! s3sync's own scenarios about versions: all of them carried from bucket to bucket, and the state of a moment restored.

mod support;

use support::cmd::Output;
use support::model::{Object, Version};
use support::scripted::{Answer, Scripted};
use support::tree::noise;
use support::{Cmd, Server, Tree};

const MIB: usize = 1 << 20;

/// s3sync's usual five files of nine bytes.
const CASE1: [&str; 5] = ["data1", "dir1/data1", "dir2/data2", "dir21/data1", "dir5/data3"];

fn put_case1(server: &Server, bucket: &str) {
    for key in CASE1 {
        server.put(bucket, key, format!("case1 {key}"));
    }
}

fn delete_all(server: &Server, bucket: &str) {
    for key in server.keys(bucket, "") {
        server.delete(bucket, &key);
    }
}

/// From bucket to bucket, so that nothing is looked for in the directory.
fn sync(source: &str, target: &str) -> Cmd {
    Cmd::sync(&std::env::temp_dir(), source, target).env("ROPEWAY_JSON", "true")
}

/// All versions from one prefix to another.
fn carry(server: &Server, source: &str, target: &str) -> Cmd {
    sync(&format!("s3://{source}"), &format!("s3://{target}")).from(server).to(server).arg("--enable-versioning")
}

/// How many versions were carried, and how many were left alone.
#[track_caller]
fn counts(output: &Output) -> [u64; 2] {
    ["transferred_objects", "skipped_objects"].map(|name| output.count(name))
}

#[track_caller]
fn assert_says(output: &Output, words: &str) {
    assert!(output.stderr.contains(words), "`{words}` is not in:\n{}\n{}", output.stderr, output.stdout);
}

/// The contents of a key's versions, the oldest first.
fn contents(server: &Server, bucket: &str, key: &str) -> Vec<String> {
    let versions = server.versions(bucket, key).into_iter().rev();
    versions.map(|(_, content)| String::from_utf8(content).unwrap()).collect()
}

fn two_buckets(server: &Server, name: &str) -> [String; 2] {
    ["from", "to"].map(|side| server.versioned_bucket(&format!("{name}-{side}")))
}

#[test]
fn s3_to_s3_both_bucket_versioning_error() {
    let server = Server::any();
    let [one, two] = ["unversioned-1", "unversioned-2"].map(|name| server.bucket(name));
    let output = carry(&server, &one, &two).expect(6);
    assert_says(&output, "versioning is not enabled in the source bucket");
}

#[test]
fn s3_to_s3_source_bucket_versioning_error() {
    let server = Server::any();
    let (one, two) = (server.bucket("unversioned-source"), server.versioned_bucket("versioned-target"));
    let output = carry(&server, &one, &two).expect(6);
    assert_says(&output, "versioning is not enabled in the source bucket");
}

#[test]
fn s3_to_s3_target_bucket_versioning_error() {
    let server = Server::any();
    let (one, two) = (server.versioned_bucket("versioned-source"), server.bucket("unversioned-target"));
    server.put(&one, "k", "1");
    let output = carry(&server, &one, &two).expect(6);
    assert_says(&output, "versioning is not enabled in the target bucket");
    assert_eq!(server.keys(&two, ""), [""; 0]);
}

#[test]
fn a_bucket_whose_versioning_is_suspended_is_refused() {
    let server = Server::any();
    let [one, two] = two_buckets(&server, "suspended");
    let body = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";
    server.request("PUT", &format!("/{two}?versioning="), &[], body).expect("suspending");
    assert_says(&carry(&server, &one, &two).expect(6), "versioning is suspended in the target bucket");
}

#[test]
fn s3_to_s3_source_bucket_versioning_check_error() {
    let server = Server::any();
    if server.skip(&["embedded"], "a bucket exists from its first use on") {
        return;
    }
    let two = server.versioned_bucket("only-target");
    carry(&server, "no-such-bucket-anywhere", &two).expect(7);
}

#[test]
fn s3_to_s3_target_bucket_versioning_check_error() {
    let server = Server::any();
    if server.skip(&["embedded"], "a bucket exists from its first use on") {
        return;
    }
    let one = server.versioned_bucket("only-source");
    carry(&server, &one, "no-such-bucket-anywhere").expect(7);
}

#[test]
fn s3_to_s3_without_prefix() {
    let server = Server::any();
    let [one, two] = two_buckets(&server, "without-prefix");
    put_case1(&server, &one);
    let output = carry(&server, &one, &two).expect(0);
    assert_eq!((counts(&output), server.count_versions(&two)), ([5, 0], 5));

    delete_all(&server, &one);
    let output = carry(&server, &one, &two).expect(0);
    assert_eq!((counts(&output), output.count("deleted_objects")), ([0, 5], 5));
    assert_eq!((server.count_versions(&two), server.keys(&two, "").len()), (5, 0));

    for key in &CASE1[1..] {
        server.put(&one, key, "case2");
    }
    let output = carry(&server, &one, &two).expect(0);
    assert_eq!((counts(&output), output.count("deleted_objects")), ([4, 5], 0));
    assert_eq!((server.count_versions(&two), server.keys(&two, "").len()), (9, 4));
}

#[test]
fn s3_to_s3_without_prefix_server_side_copy() {
    let server = Server::any();
    let [one, two] = two_buckets(&server, "without-prefix-copied");
    put_case1(&server, &one);
    server.put(&one, "data1", "later");
    let output = carry(&server, &one, &two).arg("--server-side-copy").run();
    assert!([0, 3].contains(&output.code), "{}", output.stderr);
    assert_eq!((output.count("transferred_objects"), server.count_versions(&two)), (6, 6));
    assert_eq!(contents(&server, &two, "data1"), ["case1 data1", "later"]);
    let output = carry(&server, &one, &two).arg("--server-side-copy").expect(0);
    assert_eq!(counts(&output), [0, 6]);
}

#[test]
fn s3_to_s3_with_prefix() {
    let server = Server::any();
    let [one, two] = two_buckets(&server, "with-prefix");
    put_case1(&server, &one);
    carry(&server, &format!("{one}/dir2"), &format!("{two}/dir2")).expect(0);
    assert_eq!(server.keys(&two, ""), ["dir2/data2", "dir21/data1"]);
}

#[test]
fn s3_to_s3_with_prefix_many_times() {
    let server = Server::any();
    let [one, two] = two_buckets(&server, "many-times");
    put_case1(&server, &one);
    for expected in [[2, 0], [0, 2], [0, 2]] {
        let output = carry(&server, &format!("{one}/dir2"), &format!("{two}/dir2")).expect(0);
        assert_eq!((counts(&output), server.count_versions(&two)), (expected, 2));
    }
}

#[test]
fn s3_to_s3_with_same_prefix() {
    let server = Server::any();
    let [one, two] = two_buckets(&server, "same-prefix");
    for _ in 0..2 {
        put_case1(&server, &one);
        delete_all(&server, &one);
    }
    // The key that is the prefix itself has no relative key.
    let output = carry(&server, &format!("{one}/dir1/data1"), &format!("{two}/dir1/data1")).run();
    assert!([0, 3].contains(&output.code), "{}", output.stderr);
    assert_eq!((output.count("transferred_objects"), server.count_versions(&two)), (0, 0));
}

#[test]
fn a_single_object_is_carried_with_its_versions_and_no_other() {
    let server = Server::any();
    if server.skip(&["moto"], "behind a key marker it leaves out the first version") {
        return;
    }
    let [one, two] = two_buckets(&server, "single");
    for (key, content) in [("d/k", "1"), ("d/k", "2"), ("d/kk", "other"), ("d/j", "other"), ("d/k", "3")] {
        server.put(&one, key, content);
    }
    let output = carry(&server, &format!("{one}/d/k"), &format!("{two}/")).expect(0);
    assert_eq!((counts(&output), server.keys(&two, "")), ([3, 0], vec!["k".to_owned()]));
    assert_eq!(contents(&server, &two, "k"), ["1", "2", "3"]);
}

#[test]
fn s3_to_s3_with_dry_run() {
    let server = Server::any();
    let [one, two] = two_buckets(&server, "dry-run");
    put_case1(&server, &one);
    server.put(&one, "data1", "later");
    server.put(&two, "gone", "1");
    server.put(&one, "gone", "1");
    server.delete(&one, "gone");
    let output = carry(&server, &one, &two).arg("--dry-run").expect(0);
    assert_eq!((output.count("planned_objects"), output.count("planned_deletes")), (7, 1));
    let planned = output.stdout.lines().filter(|line| line.contains("\"planned\"")).count();
    assert_eq!((planned, server.count_versions(&two), server.keys(&two, "").len()), (7, 1, 1));
}

#[test]
fn s3_to_s3_with_skip_all() {
    let server = Server::any();
    let [one, two] = two_buckets(&server, "skip-all");
    put_case1(&server, &one);
    carry(&server, &one, &two).expect(0);
    delete_all(&server, &one);
    carry(&server, &one, &two).expect(0);
    let output = carry(&server, &one, &two).expect(0);
    assert_eq!((counts(&output), output.count("deleted_objects"), output.count("warnings")), ([0, 5], 0, 0));
    assert_eq!((server.count_versions(&two), server.keys(&two, "").len()), (5, 0));
}

/// Every part of every version is asked for by its id: the versions differ only at their ends.
#[test]
fn s3_to_s3_with_multipart_upload() {
    let server = Server::any();
    let [one, two] = two_buckets(&server, "multipart");
    let version = |last: u8| {
        let mut content = noise(5, 17 * MIB);
        content.push(last);
        content
    };
    for last in [1, 2, 3] {
        server.put(&one, "large", version(last));
    }
    let output = carry(&server, &one, &two).expect(0);
    assert_eq!(counts(&output), [3, 0]);
    let found = server.versions(&two, "large");
    assert!(found.iter().map(|(_, content)| content).eq([3, 2, 1].map(version).iter()), "in order and whole");
    let output = carry(&server, &one, &two).expect(0);
    assert_eq!((counts(&output), server.open_uploads(&two)), ([0, 3], vec![]));
}

/// Parts of other sizes than ours, and a version whose neighbours were cut otherwise.
#[test]
fn s3_to_s3_with_multipart_upload_auto_chunksize() {
    let (server, tree) = (Server::any(), Tree::new());
    if server.skip(&["ceph"], "it does not tell the sizes of parts") {
        return;
    }
    let [one, two] = two_buckets(&server, "auto-chunksize");
    for (seed, chunk) in [(1, "5MiB"), (2, "6MiB"), (3, "8MiB")] {
        tree.file("source/large", noise(seed, 17 * MIB));
        tree.set_modified("source/large", 1_600_000_000_000_000_000 + seed * 1_000_000_000_000_000);
        let upload = Cmd::sync(tree.path(), "source", &format!("s3://{one}/")).to(&server);
        upload.args(["--multipart-chunksize", chunk, "--remove-modified-filter"]).expect(0);
    }
    let output = carry(&server, &one, &two).arg("--auto-chunksize").expect(0);
    assert_eq!(counts(&output), [3, 0]);
    let etags = |bucket: &str| -> Vec<String> {
        let versions = server.versions(bucket, "large").into_iter();
        versions.map(|(id, _)| server.head_version(bucket, "large", &id)["etag"].clone()).collect()
    };
    assert_eq!(etags(&one), etags(&two));
    let found = server.versions(&two, "large");
    assert!(found.iter().map(|(_, content)| content).eq([3, 2, 1].map(|seed| noise(seed, 17 * MIB)).iter()));
}

#[test]
fn s3_to_s3_with_tagging() {
    let server = Server::any();
    let [one, two] = two_buckets(&server, "tagging");
    server.put_with(&one, "data1", &[("x-amz-tagging", "k=old")], "1");
    server.put_with(&one, "data1", &[("x-amz-tagging", "k=new&l=2")], "2");
    server.put(&one, "data1", "3");
    carry(&server, &one, &two).expect(0);
    let tags: Vec<Vec<String>> = server
        .versions(&two, "data1")
        .iter()
        .map(|(id, _)| {
            let tags = server.request("GET", &format!("/{two}/data1?tagging=&versionId={id}"), &[], b"");
            let mut values = tags.expect("tags").elements("Value");
            values.sort();
            values
        })
        .collect();
    assert_eq!(tags, [vec![], vec!["2".to_owned(), "new".to_owned()], vec!["old".to_owned()]]);
}

#[test]
fn s3_to_s3_with_version_check() {
    let server = Server::any();
    let [one, two] = two_buckets(&server, "version-check");
    for size in 1..=5 {
        server.put(&one, "data1", "x".repeat(size));
    }
    carry(&server, &one, &two).expect(0);
    assert_eq!(contents(&server, &two, "data1"), ["x", "xx", "xxx", "xxxx", "xxxxx"]);
    // What the target's own people delete stays deleted.
    server.delete(&two, "data1");
    let output = carry(&server, &one, &two).expect(0);
    assert_eq!((counts(&output), server.keys(&two, "").len()), ([0, 5], 0));
}

#[test]
fn every_version_says_where_it_comes_from() {
    let server = Server::any();
    let [one, two] = two_buckets(&server, "origins");
    server.put_with(&one, "k", &[("x-amz-meta-own", "kept"), ("content-type", "text/x-own")], "1");
    server.put(&one, "k", "2");
    carry(&server, &one, &two).args(["--metadata", "given=1"]).expect(0);
    let sources = server.versions(&one, "k");
    for ((source, _), (target, _)) in sources.iter().zip(server.versions(&two, "k")) {
        let (from, head) = (server.head_version(&one, "k", source), server.head_version(&two, "k", &target));
        // Ceph makes hyphens of the underscores.
        let head: std::collections::BTreeMap<_, _> =
            head.into_iter().map(|(name, value)| (name.replace('_', "-"), value)).collect();
        assert_eq!(head["x-amz-meta-s3sync-origin-version-id"], *source);
        let modified = &head["x-amz-meta-s3sync-origin-last-modified"];
        assert!(modified.ends_with("+00:00") && modified.contains('T'), "{modified}");
        let seconds = |text: &str| text.split(':').nth(2).map(|rest| rest[..2].to_owned());
        assert_eq!(seconds(modified), seconds(&from["last-modified"]));
        assert_eq!(head["x-amz-meta-given"], "1");
    }
    // Without the flag, nothing of the kind is added.
    let plain = server.bucket("origins-plain");
    sync(&format!("s3://{one}/"), &format!("s3://{plain}/")).from(&server).to(&server).expect(0);
    assert!(!server.head(&plain, "k").unwrap().contains_key("x-amz-meta-s3sync_origin_version_id"));
}

#[test]
fn what_s3sync_carried_is_not_carried_again() {
    let server = Server::any();
    let [one, two] = two_buckets(&server, "carried-by-s3sync");
    for content in ["1", "2", "3"] {
        server.put(&one, "k", content);
    }
    let ids: Vec<String> = server.versions(&one, "k").into_iter().rev().map(|(id, _)| id).collect();
    for (id, content) in ids.iter().zip(["1", "2"]) {
        server.put_with(&two, "k", &[("x-amz-meta-s3sync_origin_version_id", id)], content);
    }
    let output = carry(&server, &one, &two).expect(0);
    assert_eq!((counts(&output), contents(&server, &two, "k")), ([1, 2], ["1", "2", "3"].map(str::to_owned).to_vec()));
}

#[test]
fn what_the_target_has_of_its_own_is_no_version_of_the_source() {
    let server = Server::any();
    let [one, two] = two_buckets(&server, "own");
    server.put(&one, "k", "1");
    server.put(&two, "k", "1");
    server.put(&two, "only-here", "stays");
    assert_eq!(counts(&carry(&server, &one, &two).expect(0)), [1, 0]);
    assert_eq!((server.versions(&two, "k").len(), server.keys(&two, "")), (2, vec!["k".into(), "only-here".into()]));
}

#[test]
fn only_the_latest_delete_marker_is_reproduced() {
    let server = Server::any();
    let [one, two] = two_buckets(&server, "markers");
    for content in ["1", "2"] {
        server.put(&one, "back", content);
        server.delete(&one, "back");
        server.put(&one, "gone", content);
        server.delete(&one, "gone");
    }
    server.put(&one, "back", "3");
    server.delete(&one, "never-was");
    let output = carry(&server, &one, &two).expect(0);
    assert_eq!((counts(&output), output.count("deleted_objects")), ([5, 0], 1));
    assert_eq!(
        (server.keys(&two, ""), contents(&server, &two, "gone")),
        (vec!["back".into()], vec!["1".into(), "2".into()])
    );
    let page = server.request("GET", &format!("/{two}?versions="), &[], b"");
    assert_eq!(page.elements("DeleteMarker").len(), 1);
}

#[test]
fn filters_are_about_each_version() {
    let server = Server::any();
    let [one, two] = two_buckets(&server, "filters");
    for content in ["1", "22", "333"] {
        server.put(&one, "k", content);
        server.put(&one, "other", content);
    }
    server.delete(&one, "k");
    let flags = ["--filter-larger-size", "2", "--filter-include-regex", "^k$"];
    let output = carry(&server, &one, &two).args(flags).expect(0);
    assert_eq!((output.count("transferred_objects"), output.count("filtered_objects")), (2, 4));
    assert_eq!((contents(&server, &two, "k"), server.keys(&two, "").len()), (vec!["22".into(), "333".into()], 0));
    let future = ["--filter-mtime-after", "2200-01-01T00:00:00Z"];
    let three = server.versioned_bucket("filters-three");
    assert_eq!(carry(&server, &one, &three).args(future).expect(0).count("filtered_objects"), 7);
    let asked = ["--filter-exclude-content-type-regex", "^text/x-skip$"];
    server.put_with(&one, "other", &[("content-type", "text/x-skip")], "4444");
    let output = carry(&server, &one, &three).args(asked).expect(0);
    assert_eq!((output.count("transferred_objects"), contents(&server, &three, "other").len()), (6, 3));
}

/// Names that XML, queries or headers could spoil, with versions.
#[test]
fn s3_to_s3_with_special_chars() {
    let server = Server::any();
    let [one, two] = two_buckets(&server, "special");
    let keys = ["a b", "a&b=c", "a+b", "a%2Fb", "a?versionId=x", "☃☃👪", "q\"<>'", "d//e/"];
    for key in keys {
        server.put(&one, key, "1");
        server.put(&one, key, "2");
    }
    for flags in [&[][..], &["--server-side-copy"]] {
        let output = carry(&server, &one, &two).args(flags).run();
        assert!([0, 3].contains(&output.code), "{}\n{}", output.stdout, output.stderr);
    }
    assert_eq!(server.count_versions(&two), 2 * keys.len());
    let mut expected = keys.to_vec();
    expected.sort();
    assert_eq!(server.keys(&two, ""), expected);
}

#[test]
fn s3_to_s3_with_max_keys() {
    let server = Server::any();
    let [one, two] = two_buckets(&server, "max-keys");
    put_case1(&server, &one);
    put_case1(&server, &one);
    server.delete(&one, "data1");
    for (max_keys, expected) in [("1", [10, 0]), ("2", [0, 10]), ("3", [0, 10]), ("32767", [0, 10])] {
        let output = carry(&server, &one, &two).args(["--max-keys", max_keys]).expect(0);
        assert_eq!((counts(&output), server.count_versions(&two), server.keys(&two, "").len()), (expected, 10, 4));
    }
}

#[test]
fn a_page_of_a_listing_is_asked_for_as_the_person_says() {
    let (source, target) = (Scripted::start(), Scripted::start());
    for key in ["a", "b", "c", "d", "e"] {
        source.model().objects.insert(key.to_owned(), Object::new(key));
    }
    let run = |flags: &[&str]| {
        sync("s3://one/", "s3://two/")
            .from(&source.server)
            .to(&target.server)
            .env("ROPEWAY_CORES", "1")
            .args(flags)
            .expect(0)
    };
    let accepted = [
        "--max-parallel-listings",
        "1",
        "--max-parallel-listing-max-depth",
        "3",
        "--object-listing-queue-size",
        "1000",
        "--allow-parallel-listings-in-express-one-zone",
    ];
    assert_eq!(run(&[&accepted[..], &["--max-keys", "2"]].concat()).count("transferred_objects"), 5);
    let asked = |server: &Scripted, size: &str| {
        server.requests_of("ListObjectsV2").iter().filter(|request| request.query("max-keys") == size).count()
    };
    assert_eq!((asked(&source, "2"), asked(&source, "1000")), (3, 0));
    run(&[]);
    assert_eq!(asked(&source, "1000"), 1);
    for wrong in [["--max-keys", "0"], ["--max-keys", "32768"], ["--object-listing-queue-size", "0"]] {
        sync("s3://one/", "s3://two/").args(wrong).expect(2);
    }
}

/// Six versions of each of many keys, on several cores and many ranges: each key in order.
#[test]
fn many_keys_with_many_versions_arrive_in_order() {
    let server = Server::any();
    let [one, two] = two_buckets(&server, "many");
    for round in 0..6 {
        for number in 0..40 {
            server.put(&one, &format!("{}/{number:02}", number % 4), format!("{round}"));
        }
    }
    let output = carry(&server, &one, &two).env("ROPEWAY_CORES", "2").args(["--worker-size", "8"]).expect(0);
    assert_eq!(counts(&output), [240, 0]);
    for number in 0..40 {
        let expected: Vec<String> = (0..6).map(|round| round.to_string()).collect();
        assert_eq!(contents(&server, &two, &format!("{}/{number:02}", number % 4)), expected);
    }
    assert_eq!(counts(&carry(&server, &one, &two).expect(0)), [0, 240]);
}

fn version(key: &'static str, id: &'static str, modified: &'static str, content: &str, is_latest: bool) -> Version {
    let object = (content != "!").then(|| Object::new(content));
    Version { key, id, modified, is_latest, object }
}

/// Two keys: `a` was 1, 2, deleted, 3; `b` came late.
fn history(page_keys: usize) -> Scripted {
    let server = Scripted::start();
    let mut model = server.model();
    model.page_keys = page_keys;
    model.versions = vec![
        version("a", "a3", "2020-01-04T00:00:00.000Z", "3", true),
        version("a", "a!", "2020-01-03T00:00:00.000Z", "!", false),
        version("a", "a2", "2020-01-02T00:00:00.000Z", "22", false),
        version("a", "a1", "2020-01-01T00:00:00.000Z", "1", false),
        version("b", "b!", "2020-01-05T00:00:00.000Z", "!", true),
        version("b", "b1", "2020-01-03T12:00:00.000Z", "b", false),
    ];
    drop(model);
    server
}

#[test]
fn a_version_that_fails_holds_back_those_after_it_and_no_other_key() {
    for page_keys in [0, 1, 4] {
        let source = history(page_keys);
        let target = Scripted::start();
        target.model().versions = vec![version("z", "z", "2020-01-01T00:00:00.000Z", "z", true)];
        source.on("GetObject", "a").query("versionId", "a2").answer(Answer::error(403, "AccessDenied"));
        let run = || {
            sync("s3://one/", "s3://two/").from(&source.server).to(&target.server).args(["--enable-versioning", "-v"])
        };
        let output = run().run();
        let carried: Vec<String> = target
            .requests()
            .into_iter()
            .filter(|request| ["PutObject", "DeleteObject"].contains(&request.operation))
            .map(|request| {
                let origin = request.header("x-amz-meta-s3sync_origin_version_id").unwrap_or("!").to_owned();
                format!("{} {origin}", request.key)
            })
            .collect();
        assert!(output.code == 1, "{}\n{}", output.stdout, output.stderr);
        assert_eq!(output.count("failed_objects"), 2);
        assert!(output.stdout.contains("later versions of it were not carried"), "{}", output.stdout);
        let of = |key: &str| carried.iter().filter(|it| it.starts_with(key)).cloned().collect::<Vec<_>>();
        assert_eq!((of("a"), of("b")), (vec!["a a1".to_owned()], vec!["b b1".to_owned(), "b !".to_owned()]));
    }
}

#[test]
fn a_listing_of_versions_that_is_not_in_order_is_refused() {
    let source = history(3);
    source.model().versions.rotate_left(4);
    let target = Scripted::start();
    target.model().versions = vec![version("z", "z", "2020-01-01T00:00:00.000Z", "z", true)];
    let output =
        sync("s3://one/", "s3://two/").from(&source.server).to(&target.server).arg("--enable-versioning").expect(1);
    assert!(output.stdout.contains("sorts as high"), "{}", output.stdout);
}

/// What a restore to a time brings, into a directory and into a bucket.
fn restored(time: &str, page_keys: usize) -> Vec<String> {
    let (source, target, tree) = (history(page_keys), Scripted::start(), Tree::new());
    // Whatever is there is overwritten, however new it is.
    tree.file("local/a", "old").file("local/mine", "stays");
    let run = |target: &str| {
        Cmd::sync(tree.path(), "s3://one/", target)
            .env("ROPEWAY_JSON", "true")
            .from(&source.server)
            .args(["--point-in-time", time])
    };
    run("local").expect(0);
    run("s3://two/").to(&target.server).expect(0);
    let mut found: Vec<String> = target
        .model()
        .objects
        .iter()
        .map(|(key, object)| format!("{key}={}", String::from_utf8_lossy(&object.content)))
        .collect();
    let mut local: Vec<String> = tree
        .contents("local")
        .into_iter()
        .map(|(path, content)| format!("{}={}", path.display(), String::from_utf8_lossy(&content)))
        .collect();
    assert!(local.contains(&"mine=stays".to_owned()));
    local.retain(|line| line != "mine=stays" && line != "a=old");
    found.sort();
    local.sort();
    assert_eq!(found, local, "at {time}");
    assert!(target.requests_of("ListObjectsV2").len() <= 1, "the target is not listed, but for the look at the start");
    found
}

#[test]
fn s3_to_s3_and_to_local_point_in_time() {
    for page_keys in [0, 1, 3] {
        let table: [(&str, &[&str]); 8] = [
            ("2019-12-31T23:59:59Z", &[]),
            ("2020-01-01T00:00:00Z", &["a=1"]),
            ("2020-01-02T01:00:00+02:00", &["a=1"]),
            ("2020-01-02T00:00:00Z", &["a=22"]),
            ("2020-01-03T00:00:00Z", &[]),
            ("2020-01-03T12:00:00Z", &["b=b"]),
            ("2020-01-04T00:00:00Z", &["a=3", "b=b"]),
            ("2020-01-05T00:00:00Z", &["a=3"]),
        ];
        for (time, expected) in table {
            assert_eq!(restored(time, page_keys), expected, "{time}");
        }
    }
}

/// What was deleted since is not to be seen but among versions.
#[test]
fn an_object_and_a_directory_that_are_gone_can_be_restored_by_their_names() {
    let (source, tree) = (Scripted::start(), Tree::new());
    let modified = "2020-01-01T00:00:00.000Z";
    source.model().versions = vec![
        version("d/k", "!1", "2020-02-01T00:00:00.000Z", "!", true),
        version("d/k", "1", modified, "1", false),
        version("d/kk", "!2", "2020-02-01T00:00:00.000Z", "!", true),
        version("d/kk", "2", modified, "2", false),
    ];
    let run = |place: &str, target: &str| {
        let run = Cmd::sync(tree.path(), &format!("s3://one/{place}"), target).from(&source.server);
        run.args(["--point-in-time", "2020-01-15T00:00:00Z"]).expect(0);
        tree.names(target)
    };
    let paths = |names: &[&str]| names.iter().map(std::path::PathBuf::from).collect::<Vec<_>>();
    assert_eq!(run("d/k", "object"), paths(&["k"]));
    assert_eq!(run("d", "directory"), paths(&["k", "kk"]));
    assert_eq!(run("d/", "slash"), paths(&["k", "kk"]));
}

#[test]
fn s3_to_local_point_in_time_source_bucket_versioning_error() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("unversioned-moment");
    server.put(&bucket, "k", "1");
    let output = Cmd::sync(tree.path(), &format!("s3://{bucket}/"), "local")
        .from(&server)
        .args(["--point-in-time", "2020-01-01T00:00:00Z"])
        .expect(6);
    assert_says(&output, "versioning is not enabled in the source bucket");
}

/// When the bucket was last changed, as its own listing writes it: the service's clock, and not ours.
fn last_change(server: &Server, bucket: &str) -> String {
    let page = server.request("GET", &format!("/{bucket}?versions="), &[], b"").expect("listing versions");
    page.elements("LastModified").into_iter().max().expect("a version")
}

#[test]
fn the_state_of_now_is_restored_from_a_real_service() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.versioned_bucket("now");
    put_case1(&server, &bucket);
    server.put(&bucket, "data1", noise(3, 9 * MIB));
    server.delete(&bucket, "dir1/data1");
    let run = |time: &str| {
        Cmd::sync(tree.path(), &format!("s3://{bucket}/"), "local")
            .env("ROPEWAY_JSON", "true")
            .from(&server)
            .args(["--point-in-time", time])
            .expect(0)
    };
    let output = run(&last_change(&server, &bucket));
    // Where times are whole seconds, nobody can tell whether the deletion came before what it deleted.
    let there = tree.contents("local");
    assert!([4, 5].contains(&output.count("transferred_objects")), "{}", output.stdout);
    assert_eq!(there[std::path::Path::new("data1")].len(), 9 * MIB);
    assert_eq!(counts(&run("2001-01-01T00:00:00Z")), [0, 0]);
}

#[test]
fn a_moment_overwrites_what_is_there_unless_checksums_are_compared() {
    let (server, tree) = (Server::any(), Tree::new());
    if server.skip(&["moto", "ceph"], "it keeps no SHA256 of objects, or does not tell it of versions") {
        return;
    }
    let bucket = server.versioned_bucket("moment-checks");
    tree.file("source/data3", "Wed Jul 16");
    let place = format!("s3://{bucket}/");
    let upload = Cmd::sync(tree.path(), "source", &place).to(&server);
    upload.args(["--additional-checksum-algorithm", "SHA256"]).expect(0);
    let moment = last_change(&server, &bucket);
    let run = |flags: &[&str]| {
        let run = Cmd::sync(tree.path(), &place, "local").env("ROPEWAY_JSON", "true").from(&server);
        counts(&run.args(["--point-in-time", &moment]).args(flags).expect(0))
    };
    assert_eq!([run(&[]), run(&[])], [[1, 0], [1, 0]]);
    assert_eq!(run(&["--check-additional-checksum", "SHA256", "--enable-additional-checksum"]), [0, 1]);
    tree.file("local/data3", "Thu Jul 17");
    assert_eq!(run(&["--check-additional-checksum", "SHA256", "--enable-additional-checksum"]), [1, 0]);
}

#[test]
fn times_that_make_no_sense_are_refused() {
    for time in ["2200-01-01T00:00:00Z", "yesterday", "2020-01-01"] {
        assert_says(&sync("s3://one/", "s3://two/").args(["--point-in-time", time]).expect(2), "--point-in-time");
    }
    let output = sync("s3://one/", "s3://two/").args(["--enable-versioning", "--delete"]).expect(2);
    assert_says(&output, "--enable-versioning");
}

//! Update checking with s3sync's flags: what is copied and what is left alone, in each direction. Scenarios of s3sync's own
//! end-to-end tests, but for what it gets wrong: what cannot be compared is copied here.

mod support;

use support::cmd::Output;
use support::model::Object;
use support::scripted::{Answer, Scripted};
use support::tree::noise;
use support::uploads::{checksum, header};
use support::{Cmd, Server, Tree};

const MIB: usize = 1 << 20;

/// In 2009, long before and long after it, as nanoseconds since 1970. A scripted server's objects are of 2009.
const BEFORE: u64 = 1_000_000_000_000_000_000;
const AFTER: u64 = 1_500_000_000_000_000_000;

fn sync(tree: &Tree, source: &str, target: &str) -> Cmd {
    Cmd::sync(tree.path(), source, target).args(["--json", "--aws-max-attempts", "1"])
}

/// Objects copied and left alone.
fn counts(output: &Output) -> (u64, u64) {
    (output.count("transferred_objects"), output.count("skipped_objects"))
}

fn warning(output: &Output) -> String {
    let events = output.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let warned = events.into_iter().find(|event| event["event"] == "warned");
    warned.map(|event| event["reason"].as_str().expect("a reason").to_owned()).unwrap_or_default()
}

/// A bucket of 2009 that computes CRC64NVME.
fn of_2009(objects: &[(&str, &str)]) -> Scripted {
    let server = Scripted::start();
    server.model().echoes_crc64nvme = true;
    for (key, content) in objects {
        server.model().objects.insert((*key).to_owned(), Object::new(*content));
    }
    server
}

#[test]
fn check_size_leaves_newer_files_of_the_same_size_alone_on_the_way_up() {
    let (server, tree) = (of_2009(&[("same", "one"), ("other", "short")]), Tree::new());
    tree.file("source/same", "two").file("source/other", "longer");
    let output = sync(&tree, "source", "s3://bucket/").to(&server.server).arg("--check-size").expect(0);
    assert_eq!(counts(&output), (1, 1));
    assert_eq!(server.model().objects["same"].content, b"one");
    assert_eq!(server.model().objects["other"].content, b"longer");
}

#[test]
fn check_size_copies_an_older_file_of_another_size() {
    let (server, tree) = (of_2009(&[("a", "short")]), Tree::new());
    tree.file("source/a", "longer").set_modified("source/a", BEFORE);
    assert_eq!(counts(&sync(&tree, "source", "s3://bucket/").to(&server.server).arg("--check-size").expect(0)), (1, 0));
}

#[test]
fn check_size_on_the_way_down_and_between_buckets() {
    let (server, tree) = (Server::any(), Tree::new());
    let (from, to) = (server.bucket("size-from"), server.bucket("size-to"));
    for (key, ours, theirs) in [("same", "one", "two"), ("other", "longer", "short")] {
        server.put(&from, key, ours);
        server.put(&to, key, theirs);
        tree.file(format!("target/{key}"), theirs).set_modified(format!("target/{key}"), BEFORE);
    }
    let from = format!("s3://{from}/");
    let down = sync(&tree, &from, "target").from(&server).arg("--check-size").expect(0);
    assert_eq!(counts(&down), (1, 1));
    assert_eq!(std::fs::read(tree.at("target/same")).unwrap(), b"two");
    let across = sync(&tree, &from, &format!("s3://{to}/")).from(&server).to(&server).arg("--check-size").expect(0);
    assert_eq!(counts(&across), (1, 1));
    assert_eq!(server.get(&to, "same").unwrap(), b"two");
}

#[test]
fn check_etag_on_the_way_up_compares_contents_and_not_times() {
    let (server, tree) = (of_2009(&[("same", "one"), ("other", "two"), ("size", "short")]), Tree::new());
    tree.file("source/same", "one").file("source/other", "TWO").file("source/size", "longer").file("source/new", "n");
    tree.set_modified("source/same", AFTER).set_modified("source/other", BEFORE).set_modified("source/size", BEFORE);
    let run = || sync(&tree, "source", "s3://bucket/").to(&server.server).arg("--check-etag");
    let plan = run().arg("--dry-run").expect(0);
    assert_eq!((plan.count("planned_objects"), plan.count("warnings")), (3, 0));
    let output = run().expect(0);
    assert_eq!((counts(&output), output.count("warnings")), ((3, 1), 0));
    assert_eq!(server.model().objects["other"].content, b"TWO");
    assert_eq!(counts(&run().expect(0)), (0, 4));
}

#[test]
fn check_etag_on_the_way_down_compares_contents_and_not_times() {
    let (server, tree) = (of_2009(&[("same", "one"), ("other", "two"), ("new", "n")]), Tree::new());
    tree.file("target/same", "one").file("target/other", "TWO");
    tree.set_modified("target/same", BEFORE).set_modified("target/other", AFTER);
    let run = || sync(&tree, "s3://bucket/", "target").from(&server.server).arg("--check-etag");
    assert_eq!(counts(&run().expect(0)), (2, 1));
    assert_eq!(std::fs::read(tree.at("target/other")).unwrap(), b"two");
    assert_eq!(tree.modified("target/same"), BEFORE, "it was not touched");
    assert_eq!(counts(&run().expect(0)), (0, 3));
}

#[test]
fn check_etag_between_buckets_asks_neither_of_them() {
    let (from, to) = (of_2009(&[("same", "one"), ("other", "two")]), of_2009(&[("same", "one"), ("other", "TWO")]));
    let tree = Tree::new();
    let run = || sync(&tree, "s3://a/", "s3://b/").from(&from.server).to(&to.server).arg("--check-etag");
    assert_eq!(counts(&run().expect(0)), (1, 1));
    let heads = [&from, &to].map(|server| server.requests_of("HeadObject").len());
    assert_eq!(heads, [0, 0], "the listings have the ETags");
    assert_eq!(counts(&run().expect(0)), (0, 2));
}

/// A large file, and the sizes in which it is put into a bucket by somebody else.
fn in_parts(sizes: &[usize]) -> (Vec<u8>, Vec<std::ops::Range<usize>>) {
    let content = noise(7, sizes.iter().sum());
    let mut end = 0;
    let ranges = sizes.iter().map(|size| {
        end += size;
        end - size..end
    });
    (content, ranges.collect())
}

#[test]
fn check_etag_hashes_a_file_in_the_parts_that_the_object_has() {
    for (sizes, auto) in [
        (&[8 * MIB, 3 * MIB][..], false),
        (&[5 * MIB, 5 * MIB, 1], false),
        (&[5 * MIB, 6 * MIB, MIB], false),
        (&[5 * MIB, 6 * MIB, MIB], true),
        (&[MIB], false),
    ] {
        let (server, tree) = (Server::any(), Tree::new());
        if server.skip(&["ceph", "rgw"], "it does not tell the sizes of an object's parts") {
            return;
        }
        let bucket = server.bucket("etag-parts");
        let (content, ranges) = in_parts(sizes);
        let parts: Vec<&[u8]> = ranges.iter().map(|range| &content[range.clone()]).collect();
        server.put_parts(&bucket, "large", &parts, None, &[]);
        tree.file("files/large", &content).set_modified("files/large", BEFORE);
        let place = format!("s3://{bucket}/");
        let flags: &[&str] = if auto { &["--check-etag", "--auto-chunksize"] } else { &["--check-etag"] };
        let up = || sync(&tree, "files", &place).to(&server).args(flags);
        assert_eq!(counts(&up().expect(0)), (0, 1), "{sizes:?}");
        assert_eq!(counts(&sync(&tree, &place, "files").from(&server).args(flags).expect(0)), (0, 1), "{sizes:?}");
        let mut changed = content.clone();
        changed[0] ^= 1;
        tree.file("files/large", changed).set_modified("files/large", BEFORE);
        let output = up().arg("--dry-run").expect(0);
        assert_eq!(output.count("planned_objects"), 1, "{sizes:?}");
    }
}

#[test]
fn check_etag_copies_with_a_warning_what_has_no_etag_to_compare() {
    for (name, value) in [
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption", "aws:kms:dsse"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
    ] {
        let (server, tree) = (of_2009(&[]), Tree::new());
        server.model().objects.insert("a".to_owned(), Object::new("one").with(name, value));
        tree.file("files/a", "one").set_modified("files/a", BEFORE);
        let output = sync(&tree, "files", "s3://bucket/").to(&server.server).arg("--check-etag").expect(3);
        assert_eq!((counts(&output), output.count("warnings")), ((1, 0), 1), "{value}");
        assert!(warning(&output).contains("ETag is no MD5"), "{}", warning(&output));
        server.model().objects.insert("a".to_owned(), Object::new("one").with(name, value));
        let output = sync(&tree, "s3://bucket/", "files").from(&server.server).arg("--check-etag").expect(3);
        assert_eq!((counts(&output), output.count("warnings")), ((1, 0), 1), "{value}");
    }
}

#[test]
fn check_mtime_and_etag_needs_both() {
    // (name, the file's content and time, the object's content, whether it is copied)
    let table = [
        ("older-other", "ONE", BEFORE, "one", false),
        ("older-size", "longer", BEFORE, "short", false),
        ("newer-same", "one", AFTER, "one", false),
        ("newer-other", "ONE", AFTER, "one", true),
        ("newer-size", "longer", AFTER, "short", true),
    ];
    let (server, tree) = (of_2009(&[]), Tree::new());
    for (name, content, time, there, _) in table {
        tree.file(format!("source/{name}"), content).set_modified(format!("source/{name}"), time);
        server.model().objects.insert(name.to_owned(), Object::new(there));
    }
    let output = sync(&tree, "source", "s3://bucket/").to(&server.server).arg("--check-mtime-and-etag").expect(0);
    assert_eq!((counts(&output), output.count("warnings")), ((2, 3), 0));
    for (name, content, _, there, copied) in table {
        let expected = if copied { content } else { there };
        assert_eq!(server.model().objects[name].content, expected.as_bytes(), "{name}");
    }
}

#[test]
fn check_mtime_and_etag_on_the_way_down_and_between_buckets() {
    let (old, new, tree) = (of_2009(&[("a", "one"), ("b", "two")]), Server::any(), Tree::new());
    let bucket = new.bucket("mtime-etag");
    new.put(&bucket, "a", "one");
    new.put(&bucket, "b", "TWO");
    let place = format!("s3://{bucket}/");
    // The files are newer than the objects of 2009, and older than the others.
    tree.file("target/a", "one")
        .set_modified("target/a", AFTER)
        .file("target/b", "xxx")
        .set_modified("target/b", AFTER);
    let flag = "--check-mtime-and-etag";
    assert_eq!(counts(&sync(&tree, "s3://bucket/", "target").from(&old.server).arg(flag).expect(0)), (0, 2));
    assert_eq!(counts(&sync(&tree, &place, "target").from(&new).arg(flag).expect(0)), (1, 1));
    assert_eq!(std::fs::read(tree.at("target/b")).unwrap(), b"TWO");
    let back = sync(&tree, "s3://bucket/", &place).from(&old.server).to(&new).arg(flag).expect(0);
    assert_eq!(counts(&back), (0, 2), "the source is older");
    let across = sync(&tree, &place, "s3://bucket/").from(&new).to(&old.server).arg(flag).expect(0);
    assert_eq!(counts(&across), (1, 1));
    assert_eq!(old.model().objects["b"].content, b"TWO");
}

const ALGORITHMS: [&str; 5] = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"];

/// Whether the real server lacks the checksums that a test is about.
fn without_checksums(server: &Server) -> bool {
    server.skip(&["moto", "ceph", "rgw"], "it keeps no checksums of all five algorithms")
}

#[test]
fn check_additional_checksum_of_a_whole_object_in_both_directions() {
    for algorithm in ALGORITHMS {
        let (server, tree) = (Server::any(), Tree::new());
        if without_checksums(&server) {
            return;
        }
        let bucket = server.bucket("sum");
        server.put_summed(&bucket, "same", algorithm, b"one");
        server.put_summed(&bucket, "other", algorithm, b"two");
        tree.file("files/same", "one").file("files/other", "TWO").file("files/new", "n");
        tree.set_modified("files/other", BEFORE);
        let place = format!("s3://{bucket}/");
        let flags = ["--check-additional-checksum", algorithm];
        let up = || {
            sync(&tree, "files", &place).to(&server).args(flags).args(["--additional-checksum-algorithm", algorithm])
        };
        assert_eq!(counts(&up().expect(0)), (2, 1), "{algorithm}");
        assert_eq!(counts(&up().expect(0)), (0, 3), "{algorithm}");
        tree.file("files/same", "ONE").set_modified("files/same", AFTER);
        let down = sync(&tree, &place, "files").from(&server).args(flags).expect(0);
        assert_eq!(counts(&down), (1, 2), "{algorithm}");
        assert_eq!(std::fs::read(tree.at("files/same")).unwrap(), b"one");
    }
}

#[test]
fn check_additional_checksum_of_parts_hashes_a_file_in_the_same_parts() {
    let table = [
        ("SHA256", "COMPOSITE"),
        ("SHA1", "COMPOSITE"),
        ("CRC32", "COMPOSITE"),
        ("CRC32C", "FULL_OBJECT"),
        ("CRC64NVME", "FULL_OBJECT"),
    ];
    for (algorithm, kind) in table {
        let (server, tree) = (Server::any(), Tree::new());
        if without_checksums(&server) {
            return;
        }
        let bucket = server.bucket("sum-parts");
        let (content, ranges) = in_parts(&[5 * MIB, 6 * MIB, 77]);
        let parts: Vec<&[u8]> = ranges.iter().map(|range| &content[range.clone()]).collect();
        server.put_parts(&bucket, "large", &parts, Some((algorithm, kind)), &[]);
        tree.file("files/large", &content);
        let place = format!("s3://{bucket}/");
        let flags = ["--check-additional-checksum", algorithm];
        let up = || sync(&tree, "files", &place).to(&server).args(flags);
        assert_eq!(counts(&up().expect(0)), (0, 1), "{algorithm} {kind}");
        assert_eq!(counts(&sync(&tree, &place, "files").from(&server).args(flags).expect(0)), (0, 1));
        let mut changed = content.clone();
        *changed.last_mut().unwrap() ^= 1;
        tree.file("files/large", changed);
        assert_eq!(up().arg("--dry-run").expect(0).count("planned_objects"), 1, "{algorithm} {kind}");
    }
}

#[test]
fn check_additional_checksum_copies_with_a_warning_where_there_is_none() {
    let (server, tree) = (Server::any(), Tree::new());
    if without_checksums(&server) {
        return;
    }
    let (bucket, other) = (server.bucket("sum-none"), server.bucket("sum-none-either"));
    server.put_summed(&bucket, "a", "CRC32", b"one");
    server.put_summed(&other, "a", "SHA256", b"one");
    tree.file("files/a", "one");
    let (place, elsewhere) = (format!("s3://{bucket}/"), format!("s3://{other}/"));
    let flags = ["--check-additional-checksum", "SHA256"];
    for (output, words) in [
        (sync(&tree, &place, "files").from(&server).args(flags).expect(3), "the object has no SHA256"),
        (sync(&tree, &place, &elsewhere).from(&server).to(&server).args(flags).expect(3), "the source has no SHA256"),
        (sync(&tree, "files", &place).to(&server).args(flags).expect(3), "the object has no SHA256"),
    ] {
        assert_eq!((counts(&output), output.count("warnings")), ((1, 0), 1));
        assert!(warning(&output).contains(words), "{}", warning(&output));
    }
    // With the checksum it has been given now it is left alone.
    let up =
        || sync(&tree, "files", &place).to(&server).args(flags).args(["--additional-checksum-algorithm", "SHA256"]);
    assert_eq!(counts(&up().expect(3)), (1, 0));
    assert_eq!(counts(&up().expect(0)), (0, 1));
}

#[test]
fn check_additional_checksum_between_buckets() {
    let (server, tree) = (Server::any(), Tree::new());
    if without_checksums(&server) {
        return;
    }
    let (from, to) = (server.bucket("sum-from"), server.bucket("sum-to"));
    server.put_summed(&from, "same", "SHA1", b"one");
    server.put_summed(&to, "same", "SHA1", b"one");
    server.put_summed(&from, "other", "SHA1", b"two");
    server.put_summed(&to, "other", "SHA1", b"TWO");
    let flags = ["--check-additional-checksum", "SHA1", "--additional-checksum-algorithm", "SHA1"];
    let run = || sync(&tree, &format!("s3://{from}/"), &format!("s3://{to}/")).from(&server).to(&server).args(flags);
    assert_eq!(counts(&run().expect(0)), (1, 1));
    assert_eq!(counts(&run().expect(0)), (0, 2));
    assert_eq!(server.get(&to, "other").unwrap(), b"two");
}

#[test]
fn checksums_of_other_parts_cannot_be_compared_and_are_copied_with_a_warning() {
    let (server, tree) = (Server::any(), Tree::new());
    if without_checksums(&server) {
        return;
    }
    let (from, to) = (server.bucket("cut-from"), server.bucket("cut-to"));
    let content = noise(3, 11 * MIB);
    let cut = |at: usize| [&content[..at], &content[at..]];
    server.put_parts(&from, "a", &cut(5 * MIB), Some(("SHA256", "COMPOSITE")), &[]);
    server.put_parts(&to, "a", &cut(6 * MIB), Some(("SHA256", "COMPOSITE")), &[]);
    let flags = ["--check-additional-checksum", "SHA256"];
    let run = || {
        let cmd = sync(&tree, &format!("s3://{from}/"), &format!("s3://{to}/")).from(&server).to(&server);
        cmd.args(flags).args(["--auto-chunksize", "--additional-checksum-algorithm", "SHA256"])
    };
    let output = run().expect(3);
    assert_eq!(counts(&output), (1, 0));
    assert!(warning(&output).contains("of other parts"), "{}", warning(&output));
    // It has the source's parts now.
    assert_eq!(counts(&run().expect(0)), (0, 1));
}

#[test]
fn check_mtime_and_additional_checksum_needs_both() {
    let (server, tree) = (of_2009(&[("older", "one"), ("same", "one"), ("newer", "one")]), Tree::new());
    tree.file("source/older", "ONE").file("source/same", "one").file("source/newer", "ONE");
    tree.set_modified("source/older", BEFORE).set_modified("source/same", AFTER).set_modified("source/newer", AFTER);
    let flags = ["--check-mtime-and-additional-checksum", "CRC64NVME"];
    let output = sync(&tree, "source", "s3://bucket/").to(&server.server).args(flags).expect(0);
    assert_eq!((counts(&output), output.count("warnings")), ((1, 2), 0));
    assert_eq!(server.model().objects["newer"].content, b"ONE");
    // What is older is not even asked about.
    assert!(server.requests_of("HeadObject").iter().all(|head| head.key != "older"));
}

#[test]
fn check_mtime_and_additional_checksum_of_an_algorithm_that_is_not_there_copies_what_is_newer() {
    let (server, tree) = (of_2009(&[("older", "one"), ("newer", "one")]), Tree::new());
    tree.file("source/older", "one").file("source/newer", "one");
    tree.set_modified("source/older", BEFORE).set_modified("source/newer", AFTER);
    let flags = ["--check-mtime-and-additional-checksum", "SHA256"];
    let output = sync(&tree, "source", "s3://bucket/").to(&server.server).args(flags).expect(3);
    assert_eq!((counts(&output), output.count("warnings")), ((1, 1), 1));
}

#[test]
fn remove_modified_filter_copies_everything_and_does_not_list_the_target() {
    let (server, tree) = (of_2009(&[("same", "one")]), Tree::new());
    tree.file("source/same", "one").set_modified("source/same", BEFORE).file("source/new", "n");
    let lists = || server.requests_of("ListObjectsV2").len();
    let run = || sync(&tree, "source", "s3://bucket/").to(&server.server);
    assert_eq!(counts(&run().expect(0)), (1, 1));
    let with_listing = lists();
    assert_eq!(counts(&run().arg("--remove-modified-filter").expect(0)), (2, 0));
    assert!(lists() - with_listing < with_listing, "{} {with_listing}", lists() - with_listing);
}

#[test]
fn remove_modified_filter_with_delete_still_finds_what_the_source_does_not_have() {
    let (server, tree) = (of_2009(&[("same", "one"), ("extra", "x")]), Tree::new());
    tree.file("source/same", "one").set_modified("source/same", BEFORE);
    let flags = ["--remove-modified-filter", "--delete"];
    let output = sync(&tree, "source", "s3://bucket/").to(&server.server).args(flags).expect(0);
    assert_eq!((output.count("transferred_objects"), output.count("deleted_objects")), (1, 1));
    assert_eq!(server.model().objects.keys().collect::<Vec<_>>(), ["same"]);
}

#[test]
fn remove_modified_filter_with_head_each_target_decides_by_what_each_answers() {
    for (rule, copied) in [(None, 2), (Some("--check-size"), 1), (Some("--check-etag"), 3)] {
        let objects = [("same", "one"), ("newer", "two"), ("older", "three")];
        let (server, tree) = (of_2009(&objects), Tree::new());
        tree.file("source/same", "one")
            .file("source/newer", "TWO")
            .file("source/older", "THREE")
            .file("source/new", "n");
        tree.set_modified("source/same", BEFORE)
            .set_modified("source/newer", AFTER)
            .set_modified("source/older", BEFORE);
        let flags = ["--remove-modified-filter", "--head-each-target"];
        let output = sync(&tree, "source", "s3://bucket/").to(&server.server).args(flags).args(rule).expect(0);
        assert_eq!(counts(&output), (copied, 4 - copied), "{rule:?}");
        let asked: std::collections::BTreeSet<_> =
            server.requests_of("HeadObject").into_iter().map(|head| head.key).filter(|key| !key.is_empty()).collect();
        assert_eq!(asked.len(), 4, "each is asked about: {asked:?}");
    }
}

#[test]
fn head_each_target_leaves_alone_what_arrived_after_the_listing() {
    let (server, tree) = (of_2009(&[("a", "one")]), Tree::new());
    server.on("ListObjectsV2", "").answer(Answer::xml(support::model::list_document(std::iter::empty(), None)));
    tree.file("source/a", "one").set_modified("source/a", BEFORE);
    let run = || sync(&tree, "source", "s3://bucket/").to(&server.server);
    assert_eq!(counts(&run().arg("--head-each-target").expect(0)), (0, 1));
    assert_eq!(counts(&run().expect(0)), (1, 0), "by the listing alone it is copied");
}

#[test]
fn head_each_target_looks_at_files_too() {
    let (server, tree) = (of_2009(&[("a", "one"), ("b", "two"), ("d/", "")]), Tree::new());
    tree.file("target/a", "one").set_modified("target/a", AFTER);
    let flags = ["--remove-modified-filter", "--head-each-target"];
    let output = sync(&tree, "s3://bucket/", "target").from(&server.server).args(flags).expect(0);
    assert_eq!(counts(&output), (2, 1));
    assert!(tree.at("target/d").is_dir());
}

#[test]
fn head_each_target_takes_two_empty_ones_for_unchanged() {
    let (server, tree) = (of_2009(&[("empty", "")]), Tree::new());
    tree.file("source/empty", "").set_modified("source/empty", AFTER);
    let run = || sync(&tree, "source", "s3://bucket/").to(&server.server);
    assert_eq!(counts(&run().args(["--dry-run"]).expect(0)), (0, 0));
    assert_eq!(counts(&run().arg("--head-each-target").expect(0)), (0, 1));
    assert_eq!(counts(&run().expect(0)), (1, 0), "by the listing alone it is newer");
}

#[test]
fn a_plan_with_a_check_is_carried_out_as_it_stands() {
    let (server, tree) = (of_2009(&[("same", "one"), ("other", "two")]), Tree::new());
    tree.file("source/same", "one").file("source/other", "TWO").set_modified("source/other", BEFORE);
    let plan = Cmd::new(tree.path(), ["plan", "source", "s3://bucket/", "--check-etag", "--output", "plan"]);
    plan.to(&server.server).expect(0);
    assert!(std::fs::read_to_string(tree.at("plan")).unwrap().contains("\"reason\":\"etag\""));
    let output = sync(&tree, "source", "s3://bucket/").to(&server.server).args(["--from-plan", "plan"]).expect(0);
    assert_eq!(output.count("transferred_objects"), 1);
    assert_eq!(server.model().objects["other"].content, b"TWO");
}

#[test]
fn without_a_check_sizes_and_times_decide_and_no_fraction_of_a_second_is_lost() {
    let tree = Tree::new();
    tree.file("source/a", "one").file("target/a", "ONE");
    tree.set_modified("source/a", AFTER + 2).set_modified("target/a", AFTER + 1);
    tree.file("source/b", "longer").file("target/b", "short");
    tree.set_modified("source/b", BEFORE).set_modified("target/b", AFTER);
    let output = sync(&tree, "source", "target").expect(0);
    assert_eq!(counts(&output), (2, 0), "s3sync sees neither");
}

#[test]
fn check_etag_between_directories_compares_bytes() {
    let tree = Tree::new();
    tree.file("source/same", "one").file("target/same", "one").file("source/other", "two").file("target/other", "TWO");
    tree.set_modified("source/same", AFTER).set_modified("target/same", BEFORE);
    tree.set_modified("source/other", BEFORE).set_modified("target/other", AFTER);
    assert_eq!(counts(&sync(&tree, "source", "target").arg("--check-etag").expect(0)), (1, 1));
    assert_eq!(tree.contents("source"), tree.contents("target"));
}

#[test]
fn a_checksum_that_s3_does_not_know_is_refused_at_the_start() {
    let (server, tree) = (of_2009(&[]), Tree::new());
    for flag in
        ["--check-additional-checksum", "--check-mtime-and-additional-checksum", "--additional-checksum-algorithm"]
    {
        for value in ["MD5", "XXHASH64", "sha256", ""] {
            let output = sync(&tree, "source", "s3://bucket/").to(&server.server).args([flag, value]).expect(2);
            assert!(output.stderr.contains(flag), "{}", output.stderr);
        }
    }
    assert_eq!(server.requests().len(), 0, "nothing was contacted");
}

#[test]
fn environment_variables_mean_the_same() {
    let (server, tree) = (of_2009(&[("a", "one")]), Tree::new());
    tree.file("source/a", "two").set_modified("source/a", AFTER);
    let run = |name: &str, value: &str| {
        counts(&sync(&tree, "source", "s3://bucket/").to(&server.server).env(name, value).expect(0))
    };
    assert_eq!(run("ROPEWAY_CHECK_SIZE", "true"), (0, 1));
    assert_eq!(run("CHECK_SIZE", "true"), (1, 0), "a name without the prefix is another program's");
}

#[test]
fn a_service_that_shows_its_checksum_only_in_a_head_is_believed() {
    let (server, tree) = (of_2009(&[]), Tree::new());
    let object = Object::new("one").with(&header("SHA256"), &checksum("SHA256", b"one"));
    server.model().echoes_crc64nvme = false;
    server.model().objects.insert("a".to_owned(), object);
    tree.file("source/a", "one");
    let flags = ["--check-additional-checksum", "SHA256"];
    let output = sync(&tree, "source", "s3://bucket/").to(&server.server).args(flags).expect(0);
    assert_eq!(counts(&output), (0, 1));
}

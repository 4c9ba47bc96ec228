//! s3sync's own scenarios about what travels beside the content: headers, user metadata, tags, storage class, ACL, and the
//! conditions of writing. Each goes through one request and through parts, where that may differ.

mod support;

use std::collections::BTreeMap;

use support::attributes::{SIZES, bucket_with, files, tags};
use support::scripted::{Answer, Scripted};
use support::tree::noise;
use support::{Cmd, Server, Tree};

const MIB: usize = 1 << 20;

/// What is given in place of what the source has, and what an object shows then.
const GIVEN: [(&str, &str, &str, &str); 7] = [
    ("--cache-control", "s-maxage=1604800", "cache-control", "s-maxage=1604800"),
    (
        "--content-disposition",
        "attachment; filename=\"n.xls\"",
        "content-disposition",
        "attachment; filename=\"n.xls\"",
    ),
    ("--content-encoding", "deflate", "content-encoding", "deflate"),
    ("--content-language", "en-US,en-CA", "content-language", "en-US,en-CA"),
    ("--content-type", "application/vnd.ms-excel", "content-type", "application/vnd.ms-excel"),
    ("--expires", "2055-05-20T00:00:00.000Z", "expires", "Thu, 20 May 2055 00:00:00 GMT"),
    ("--website-redirect", "/elsewhere", "x-amz-website-redirect-location", "/elsewhere"),
];

/// What the source's objects have.
const OWN: [(&str, &str); 10] = [
    ("cache-control", "no-cache"),
    ("content-disposition", "inline"),
    ("content-encoding", "gzip"),
    ("content-language", "de"),
    ("content-type", "text/x-own"),
    ("expires", "Thu, 20 May 2044 00:00:00 GMT"),
    ("x-amz-website-redirect-location", "/own"),
    ("x-amz-meta-key1", "value1"),
    ("x-amz-meta-key2", "value2"),
    ("x-amz-tagging", "tag1=tag_value1&tag2=a%20b%2F%3D%2B"),
];

/// Headers that show what an object was given.
fn attributes(server: &Server, bucket: &str, key: &str) -> BTreeMap<String, String> {
    let mut headers = server.head(bucket, key).unwrap_or_else(|| panic!("no object `{key}`"));
    headers.retain(|name, _| {
        let system = ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type"];
        let more = ["expires", "x-amz-website-redirect-location", "x-amz-storage-class"];
        let ours = ["x-amz-meta-mtime", "x-amz-meta-ropeway-token", "x-amz-meta-ropeway-part-bytes"];
        !ours.contains(&name.as_str())
            && (name.starts_with("x-amz-meta-") || system.contains(&name.as_str()) || more.contains(&name.as_str()))
    });
    headers
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn set_tags(server: &Server, bucket: &str, key: &str, tags: &[(&str, &str)]) {
    let tags: String =
        tags.iter().map(|(key, value)| format!("<Tag><Key>{key}</Key><Value>{value}</Value></Tag>")).collect();
    let body = format!("<Tagging><TagSet>{tags}</TagSet></Tagging>");
    // Of a body in XML the services want to have a checksum.
    let md5 = base64_of_md5(body.as_bytes());
    let target = format!("/{bucket}/{key}?tagging=");
    server.request("PUT", &target, &[("content-md5", md5.as_str())], body.as_bytes()).expect("setting tags");
}

fn base64_of_md5(bytes: &[u8]) -> String {
    ropeway_s3proto::checksum::Md5Digest(ropeway_io::hash::md5(bytes)).to_base64()
}

fn up(tree: &Tree, server: &Server, bucket: &str) -> Cmd {
    Cmd::sync(tree.path(), "source", &format!("s3://{bucket}/")).to(server).arg("--json")
}

fn across(tree: &Tree, server: &Server, from: &str, to: &str) -> Cmd {
    Cmd::sync(tree.path(), &format!("s3://{from}/"), &format!("s3://{to}/")).from(server).to(server).arg("--json")
}

/// With every flag of [`GIVEN`].
fn given(cmd: Cmd) -> Cmd {
    GIVEN.iter().fold(cmd, |cmd, (flag, value, ..)| cmd.args([flag, value]))
}

fn all_given(user: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut expected: BTreeMap<String, String> =
        GIVEN.iter().map(|(_, _, header, value)| ((*header).to_owned(), (*value).to_owned())).collect();
    expected.extend(pairs(user));
    expected
}

#[test]
fn local_to_s3_with_all_metadata_option() {
    let (server, tree) = (Server::any(), files());
    let bucket = server.bucket("all-metadata");
    let run = given(up(&tree, &server, &bucket))
        .args(["--metadata", "key1=value1,Key2=value_2.x-y", "--tagging", "tag2=tag_value2&tag1=a%20b"])
        .expect(0);
    assert_eq!((run.count("transferred_objects"), run.count("verified")), (2, 2));
    for (name, _) in SIZES {
        let expected = all_given(&[("x-amz-meta-key1", "value1"), ("x-amz-meta-key2", "value_2.x-y")]);
        assert_eq!(weekday_apart(attributes(&server, &bucket, name)), weekday_apart(expected), "{name}");
        assert_eq!(tags(&server, &bucket, name), ["tag1=a b", "tag2=tag_value2"], "{name}");
    }
}

/// Some servers write the day of the week anew, and one gets it wrong.
fn weekday_apart(mut headers: BTreeMap<String, String>) -> BTreeMap<String, String> {
    if let Some(expires) = headers.get_mut("expires") {
        *expires = expires.split_once(", ").expect("a date").1.to_owned();
    }
    headers
}

#[test]
fn metadata_that_is_given_leaves_the_files_time_with_the_object() {
    let (server, tree) = (Server::any(), files());
    let bucket = server.bucket("keeps-time");
    for (name, _) in SIZES {
        tree.set_modified(format!("source/{name}"), 1_500_000_000_123_456_789);
    }
    up(&tree, &server, &bucket).args(["--metadata", "key1=value1"]).expect(0);
    for (name, _) in SIZES {
        assert_eq!(server.head(&bucket, name).unwrap()["x-amz-meta-mtime"], "1500000000.123456789", "{name}");
        assert_eq!(server.head(&bucket, name).unwrap()["x-amz-meta-key1"], "value1", "{name}");
    }
    Cmd::sync(tree.path(), &format!("s3://{bucket}/"), "back").from(&server).expect(0);
    assert_eq!(tree.modified("back/large"), 1_500_000_000_123_456_789);
}

#[test]
fn local_to_s3_with_guess_mime_type_and_without() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("mime");
    tree.file("source/a.html", "x").file("source/b.pdf", noise(1, 11 * MIB)).file("source/c.none-such", "x");
    up(&tree, &server, &bucket).expect(0);
    let kind = |key: &str| server.head(&bucket, key).unwrap()["content-type"].clone();
    assert!(kind("a.html").starts_with("text/html"));
    assert_eq!((kind("b.pdf"), kind("c.none-such")), ("application/pdf".into(), "application/octet-stream".into()));
    let plain = server.bucket("no-mime");
    up(&tree, &server, &plain).arg("--no-guess-mime-type").expect(0);
    for key in ["a.html", "b.pdf", "c.none-such"] {
        let kind = server.head(&plain, key).unwrap().get("content-type").cloned().unwrap_or_default();
        assert!(!kind.contains("html") && !kind.contains("pdf") && kind != "application/octet-stream", "{key}: {kind}");
    }
}

#[test]
fn local_to_s3_with_last_modified_metadata() {
    let (server, tree) = (Server::any(), files());
    if server.skip(&["ceph", "rgw"], "it makes `-` of `_` in names of metadata") {
        return;
    }
    let bucket = server.bucket("last-modified");
    for (name, _) in SIZES {
        tree.set_modified(format!("source/{name}"), 1_255_369_830_500_000_000);
    }
    up(&tree, &server, &bucket).args(["--put-last-modified-metadata", "--metadata", "a=b"]).expect(0);
    for (name, _) in SIZES {
        let shown = attributes(&server, &bucket, name);
        assert_eq!(shown["x-amz-meta-s3sync_origin_last_modified"], "2009-10-12T17:50:30+00:00", "{name}");
        assert_eq!(shown["x-amz-meta-a"], "b", "{name}: what is given takes nothing of it away");
    }
}

#[test]
fn s3_to_s3_with_last_modified_metadata() {
    let (server, tree) = (Server::any(), Tree::new());
    if server.skip(&["ceph", "rgw"], "it makes `-` of `_` in names of metadata") {
        return;
    }
    let (from, to) = (bucket_with(&server, "modified-from", &[]), server.bucket("modified-to"));
    across(&tree, &server, &from, &to).arg("--put-last-modified-metadata").expect(0);
    for (name, _) in SIZES {
        let written = server.head(&from, name).unwrap()["last-modified"].clone();
        let noted = attributes(&server, &to, name)["x-amz-meta-s3sync_origin_last_modified"].clone();
        let clock = written.split(' ').nth(4).expect("a header's date has a time").to_owned();
        assert_eq!(noted.split(['T', '+']).nth(1), Some(clock.as_str()), "{noted} is {written}");
    }
}

#[test]
fn local_to_s3_with_storage_class() {
    let (server, tree) = (Server::any(), files());
    if server.skip(&["ceph", "rgw"], "it has no storage class but its own") {
        return;
    }
    let bucket = server.bucket("class");
    up(&tree, &server, &bucket).args(["--storage-class", "REDUCED_REDUNDANCY"]).expect(0);
    for (name, _) in SIZES {
        assert_eq!(attributes(&server, &bucket, name)["x-amz-storage-class"], "REDUCED_REDUNDANCY", "{name}");
    }
}

#[test]
fn s3_to_s3_metadata_test() {
    let (server, tree) = (Server::any(), Tree::new());
    let (from, to) = (bucket_with(&server, "own-from", &OWN), server.bucket("own-to"));
    let run = across(&tree, &server, &from, &to).expect(0);
    assert_eq!(run.count("transferred_objects"), 2);
    for (name, _) in SIZES {
        let (source, target) = (attributes(&server, &from, name), attributes(&server, &to, name));
        assert_eq!(source.len(), OWN.len() - 1, "the source has them all: {source:?}");
        assert_eq!(source, target, "{name}");
        assert_eq!(tags(&server, &to, name), ["tag1=tag_value1", "tag2=a b/=+"], "{name}");
    }
    assert_eq!(across(&tree, &server, &from, &to).expect(0).count("transferred_objects"), 0);
}

#[test]
fn s3_to_s3_with_prefix_all_metadata() {
    let (server, tree) = (Server::any(), Tree::new());
    let (from, to) = (bucket_with(&server, "over-from", &OWN), server.bucket("over-to"));
    given(across(&tree, &server, &from, &to)).args(["--metadata", "new=1", "--tagging", "t=2"]).expect(0);
    for (name, _) in SIZES {
        let expected = all_given(&[("x-amz-meta-new", "1")]);
        assert_eq!(weekday_apart(attributes(&server, &to, name)), weekday_apart(expected), "{name}");
        assert_eq!(tags(&server, &to, name), ["t=2"], "{name}");
    }
}

#[test]
fn one_header_that_is_given_leaves_the_others() {
    let (server, tree) = (Server::any(), Tree::new());
    let (from, to) = (bucket_with(&server, "one-from", &OWN), server.bucket("one-to"));
    across(&tree, &server, &from, &to).args(["--cache-control", "max-age=9"]).expect(0);
    for (name, _) in SIZES {
        let mut expected = attributes(&server, &from, name);
        expected.insert("cache-control".into(), "max-age=9".into());
        assert_eq!(attributes(&server, &to, name), expected, "{name}");
    }
}

#[test]
fn s3_to_s3_no_system_metadata_test() {
    let (server, tree) = (Server::any(), Tree::new());
    let (from, to) = (bucket_with(&server, "nosys-from", &OWN), server.bucket("nosys-to"));
    across(&tree, &server, &from, &to).arg("--no-sync-system-metadata").expect(0);
    for (name, _) in SIZES {
        let mut shown = attributes(&server, &to, name);
        // What no uploader said, each service says in its own way.
        let kind = shown.remove("content-type").unwrap_or_default();
        assert_ne!(kind, "text/x-own", "{name}");
        assert_eq!(shown, pairs(&[("x-amz-meta-key1", "value1"), ("x-amz-meta-key2", "value2")]), "{name}");
        assert_eq!(tags(&server, &to, name).len(), 2, "{name}: tags are neither");
    }
}

#[test]
fn s3_to_s3_no_user_defined_metadata_test() {
    let (server, tree) = (Server::any(), Tree::new());
    let (from, to) = (bucket_with(&server, "nouser-from", &OWN), server.bucket("nouser-to"));
    across(&tree, &server, &from, &to).arg("--no-sync-user-defined-metadata").expect(0);
    for (name, _) in SIZES {
        let mut expected = attributes(&server, &from, name);
        expected.retain(|header, _| !header.starts_with("x-amz-meta-"));
        assert_eq!(attributes(&server, &to, name), expected, "{name}");
    }
}

#[test]
fn s3_to_s3_attribute_test_disable_tagging() {
    let (server, tree) = (Server::any(), Tree::new());
    let (from, to) = (bucket_with(&server, "notags-from", &OWN), server.bucket("notags-to"));
    across(&tree, &server, &from, &to).arg("--disable-tagging").expect(0);
    for (name, _) in SIZES {
        assert_eq!(attributes(&server, &from, name), attributes(&server, &to, name), "{name}");
        assert!(tags(&server, &to, name).is_empty(), "{name}");
    }
}

#[test]
fn s3_to_s3_with_copy_storage_class() {
    let (server, tree) = (Server::any(), Tree::new());
    if server.skip(&["ceph", "rgw"], "it has no storage class but its own") {
        return;
    }
    let from = bucket_with(&server, "class-from", &[("x-amz-storage-class", "STANDARD_IA")]);
    let to = server.bucket("class-to");
    across(&tree, &server, &from, &to).expect(0);
    let other = server.bucket("class-other");
    across(&tree, &server, &from, &other).args(["--storage-class", "ONEZONE_IA"]).expect(0);
    for (name, _) in SIZES {
        assert_eq!(attributes(&server, &to, name)["x-amz-storage-class"], "STANDARD_IA", "{name}");
        assert_eq!(attributes(&server, &other, name)["x-amz-storage-class"], "ONEZONE_IA", "{name}");
    }
}

#[test]
fn s3_to_s3_with_tagging() {
    let (server, tree) = (Server::any(), Tree::new());
    if server.skip(&["ceph", "rgw"], "there an object whose tags change is a newer one, and is copied for that") {
        return;
    }
    let (from, to) = (bucket_with(&server, "sync-tags-from", &OWN), server.bucket("sync-tags-to"));
    across(&tree, &server, &from, &to).expect(0);
    let sync = || across(&tree, &server, &from, &to).arg("--sync-latest-tagging").expect(0);
    let untouched = sync();
    let counts = ["transferred_objects", "retagged_objects", "skipped_objects", "planned_objects"];
    assert_eq!(counts.map(|name| untouched.count(name)), [0, 0, 2, 0], "nothing differs");
    set_tags(&server, &from, "small", &[("updated_key1", "updated_value1"), ("updated_key2", "updated_value2")]);
    set_tags(&server, &from, "large", &[("only", "one")]);
    let changed = sync();
    assert_eq!(counts.map(|name| changed.count(name)), [0, 2, 0, 0]);
    assert_eq!(tags(&server, &to, "small"), ["updated_key1=updated_value1", "updated_key2=updated_value2"]);
    assert_eq!(tags(&server, &to, "large"), ["only=one"]);
    server.request("DELETE", &format!("/{from}/small?tagging="), &[], b"").expect("deleting tags");
    assert_eq!(counts.map(|name| sync().count(name))[3], 0);
    assert!(tags(&server, &to, "small").is_empty(), "none at the source, none at the target");
    // Tags make an object no newer.
    let plain = across(&tree, &server, &from, &to).expect(0);
    assert_eq!(plain.count("skipped_objects"), 2);
}

#[test]
fn s3_to_s3_with_tagging_dry_run() {
    let (server, tree) = (Server::any(), Tree::new());
    if server.skip(&["ceph", "rgw"], "there an object whose tags change is a newer one, and is copied for that") {
        return;
    }
    let (from, to) = (bucket_with(&server, "dry-tags-from", &OWN), server.bucket("dry-tags-to"));
    across(&tree, &server, &from, &to).expect(0);
    set_tags(&server, &from, "small", &[("new", "tag")]);
    let run = across(&tree, &server, &from, &to).args(["--sync-latest-tagging", "--dry-run"]).expect(0);
    assert_eq!((run.count("retagged_objects"), run.count("planned_objects")), (1, 0));
    assert!(run.stdout.contains("\"reason\":\"tags\""), "{}", run.stdout);
    assert_eq!(tags(&server, &to, "small"), ["tag1=tag_value1", "tag2=a b/=+"]);
}

#[test]
fn tags_cost_a_request_only_where_there_are_some() {
    let (source, tree) = (Scripted::start(), Tree::new());
    source.model().objects.insert("plain".into(), support::model::Object::new(&b"x"[..]));
    source.model().objects.insert("tagged".into(), support::model::Object::new(&b"x"[..]));
    let document = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>";
    source.on("GetObjectTagging", "tagged").answer(Answer::xml(document));
    source.on("GetObject", "tagged").change(|answer| answer.headers.push(("x-amz-tagging-count".into(), "1".into())));
    let target = Server::any();
    let to = target.bucket("counted");
    let sync = Cmd::sync(tree.path(), "s3://bucket/", &format!("s3://{to}/"));
    sync.from(&source.server).to(&target).expect(0);
    assert_eq!(tags(&target, &to, "tagged"), ["a=1"]);
    let asked: Vec<_> = source.requests_of("GetObjectTagging").into_iter().map(|request| request.key).collect();
    assert_eq!(asked, ["tagged"]);
}

/// Some services forget the tags with which an upload was opened.
#[test]
fn tags_that_a_service_loses_with_an_upload_are_given_afterwards() {
    for (kept, sets) in [(true, 0), (false, 2)] {
        let (server, tree) = (Scripted::start(), Tree::new());
        for name in ["one", "two"] {
            tree.file(format!("source/{name}"), noise(1, 9 * MIB));
            let document = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>";
            server.on("GetObjectTagging", name).answer(Answer::xml(if kept { document } else { "" }));
            server.on("PutObjectTagging", name).answer(Answer::new(200));
        }
        let run = up(&tree, &server.server, "bucket").args(["--tagging", "a=1", "--worker-size", "1", "--cores", "1"]);
        assert_eq!(run.expect(0).count("transferred_objects"), 2);
        assert_eq!(server.requests_of("GetObjectTagging").len(), 1, "it is looked at once");
        let given = server.requests_of("PutObjectTagging");
        assert_eq!(given.len(), sets);
        let tag = "<Tag><Key>a</Key><Value>1</Value></Tag>";
        assert!(given.iter().all(|request| String::from_utf8_lossy(&request.body).contains(tag)));
    }
}

/// A server that records requests shows what was said of an object: the ACL is not shown by HEAD.
#[test]
fn local_to_s3_with_acl() {
    let (server, tree) = (Scripted::start(), files());
    up(&tree, &server.server, "bucket").args(["--acl", "bucket-owner-full-control"]).expect(0);
    for operation in ["PutObject", "CreateMultipartUpload"] {
        let requests = server.requests_of(operation);
        assert_eq!(requests.len(), 1, "{operation}");
        assert_eq!(requests[0].header("x-amz-acl"), Some("bucket-owner-full-control"), "{operation}");
    }
    assert!(server.requests_of("UploadPart").iter().all(|part| part.header("x-amz-acl").is_none()));
}

#[test]
fn values_that_make_no_sense_are_refused_at_the_start() {
    let tree = files();
    for (flag, value) in [
        ("--acl", "everybody"),
        ("--storage-class", "ZONEONE_IA"),
        ("--metadata", "key"),
        ("--metadata", "key=a b"),
        ("--tagging", "a"),
        ("--expires", "tomorrow"),
        ("--sse", "aes"),
        ("--cache-control", "a\nb"),
        ("--target-sse-c", "DES"),
    ] {
        let run = Cmd::sync(tree.path(), "source", "s3://bucket/").args([flag, value]).expect(2);
        assert!(run.stderr.contains(flag), "{flag} {value}: {}", run.stderr);
    }
}

#[test]
fn what_is_given_may_come_from_the_environment() {
    let (server, tree) = (Server::any(), files());
    let bucket = server.bucket("environment");
    up(&tree, &server, &bucket).env("ROPEWAY_CACHE_CONTROL", "max-age=1").env("CACHE_CONTROL", "max-age=2").expect(0);
    assert_eq!(attributes(&server, &bucket, "small")["cache-control"], "max-age=1");
}

#[test]
fn an_upload_is_not_continued_with_other_attributes() {
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/large", noise(9, 21 * MIB));
    let sync = |class: &str| {
        let cmd = up(&tree, &server.server, "bucket").args(["--state-dir", "state", "--storage-class", class]);
        cmd.args(["--aws-max-attempts", "1", "--max-parallel-uploads", "1", "--cores", "1"])
    };
    // The second part of the first run fails, so that the first is left for the next one.
    server.on("UploadPart", "large").query("partNumber", "2").times(1).answer(Answer::error(503, "SlowDown"));
    sync("STANDARD_IA").expect(1);
    assert_eq!(server.model().uploads.len(), 1, "the upload was kept");
    let again = sync("ONEZONE_IA").expect(0);
    assert_eq!(again.count("resumed_bytes"), 0, "and is of no use");
    assert_eq!(server.requests_of("AbortMultipartUpload").len(), 1, "so that it was aborted");
    let classes: Vec<_> = server
        .requests_of("CreateMultipartUpload")
        .iter()
        .map(|request| request.header("x-amz-storage-class").map(str::to_owned))
        .collect();
    assert_eq!(classes, [Some("STANDARD_IA".to_owned()), Some("ONEZONE_IA".to_owned())]);
}

#[test]
fn an_upload_is_continued_with_the_same_attributes() {
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/large", noise(9, 21 * MIB));
    let sync = || {
        let cmd = up(&tree, &server.server, "bucket").args(["--state-dir", "state", "--storage-class", "STANDARD_IA"]);
        cmd.args(["--aws-max-attempts", "1", "--max-parallel-uploads", "1", "--cores", "1"])
    };
    server.on("UploadPart", "large").query("partNumber", "2").times(1).answer(Answer::error(503, "SlowDown"));
    sync().expect(1);
    let again = sync().expect(0);
    assert_eq!(again.count("resumed_bytes"), 8 * MIB as u64);
    assert_eq!(server.requests_of("CreateMultipartUpload").len(), 1);
}

#[test]
fn local_to_s3_if_none_match() {
    let (server, tree) = (Server::any(), files());
    if server.skip(&["moto", "ceph", "rgw"], "it heeds no condition on writes, or not on all of them") {
        return;
    }
    let bucket = server.bucket("none-match");
    tree.file("source/new", "new");
    for (name, _) in SIZES {
        server.put(&bucket, name, "of another length");
    }
    let run = up(&tree, &server, &bucket).arg("--if-none-match").expect(3);
    let counts = ["transferred_objects", "skipped_objects", "warnings", "failed_objects"];
    assert_eq!(counts.map(|name| run.count(name)), [1, 2, 2, 0]);
    assert_eq!(server.get(&bucket, "new").unwrap(), b"new");
    for (name, _) in SIZES {
        assert_eq!(server.get(&bucket, name).unwrap(), b"of another length", "{name}");
    }
    assert!(server.open_uploads(&bucket).is_empty(), "nothing is left of the one in parts");
}

#[test]
fn local_to_s3_with_if_match() {
    let (server, tree) = (Server::any(), files());
    if server.skip(&["ceph", "rgw"], "it compares If-Match, quotes and all, with an ETag that has none") {
        return;
    }
    let bucket = server.bucket("if-match");
    for (name, _) in SIZES {
        server.put(&bucket, name, "of another length");
    }
    tree.file("source/new", "new");
    let run = up(&tree, &server, &bucket).arg("--if-match").expect(0);
    assert_eq!(run.count("transferred_objects"), 3);
    assert_eq!(server.objects(&bucket, "").len(), 3);
}

/// Somebody replaces the target's objects between the listing and the write.
#[test]
fn with_if_match_what_was_replaced_meanwhile_is_left_alone() {
    let (server, tree) = (Scripted::start(), files());
    for (name, _) in SIZES {
        server.model().objects.insert(name.to_owned(), support::model::Object::new(&b"as listed"[..]));
    }
    let refuse = || Answer::error(412, "PreconditionFailed");
    server.on("PutObject", "small").answer(refuse());
    server.on("CompleteMultipartUpload", "large").answer(refuse());
    let run = up(&tree, &server.server, "bucket").arg("--if-match").expect(3);
    assert_eq!((run.count("skipped_objects"), run.count("warnings"), run.count("failed_objects")), (2, 2, 0));
    let listed = format!("\"{}\"", ropeway_s3proto::checksum::Md5Digest(ropeway_io::hash::md5(b"as listed")).to_hex());
    for operation in ["PutObject", "CompleteMultipartUpload"] {
        let requests = server.requests_of(operation);
        assert_eq!(requests[0].header("if-match"), Some(listed.as_str()), "{operation}");
    }
    assert!(server.requests_of("CreateMultipartUpload")[0].header("if-match").is_none());
    assert_eq!(server.requests_of("AbortMultipartUpload").len(), 1);
}

/// The answer to a write under a condition is lost: at the next try it is our own object that is in the way.
#[test]
fn with_if_none_match_a_write_whose_answer_was_lost_is_recognized() {
    let (server, tree) = (Scripted::start(), files());
    let refuse = || Answer::error(412, "PreconditionFailed");
    for (operation, key) in [("PutObject", "small"), ("CompleteMultipartUpload", "large")] {
        server.on(operation, key).times(1).play(|exchange| {
            exchange.perform()?;
            exchange.reset()
        });
        server.on(operation, key).answer(refuse());
    }
    let run = up(&tree, &server.server, "bucket").args(["--if-none-match", "--initial-backoff-milliseconds", "1"]);
    let run = run.expect(0);
    assert_eq!((run.count("transferred_objects"), run.count("warnings")), (2, 0));
}

#[test]
fn local_to_s3_with_delete_if_match() {
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/kept", "x");
    for name in ["gone", "replaced"] {
        server.model().objects.insert(name.to_owned(), support::model::Object::new(&b"extra"[..]));
    }
    server.on("DeleteObject", "replaced").answer(Answer::error(412, "PreconditionFailed"));
    let run = up(&tree, &server.server, "bucket").args(["--delete", "--if-match"]).expect(3);
    assert_eq!((run.count("deleted_objects"), run.count("warnings")), (1, 1));
    let listed = format!("\"{}\"", ropeway_s3proto::checksum::Md5Digest(ropeway_io::hash::md5(b"extra")).to_hex());
    let deletes = server.deletes();
    assert_eq!(deletes.len(), 2, "each alone");
    assert!(deletes.iter().all(|delete| delete.header("if-match") == Some(listed.as_str())));
}

/// The embedded server in a directory keeps as much as the one in memory, and for longer.
#[test]
fn the_embedded_store_keeps_what_objects_were_given_across_starts() {
    let (tree, directory) = (files(), Tree::new());
    let storage = || ropeway::serve::Storage::Directory(directory.at("store"));
    let server = Server::embedded(storage());
    let sync = given(up(&tree, &server, "kept")).args(["--metadata", "key1=value1", "--tagging", "a=1&b=2"]);
    sync.args(["--storage-class", "STANDARD_IA", "--sse", "aws:kms", "--sse-kms-key-id", "k"]).expect(0);
    drop(server);
    let server = Server::embedded(storage());
    for (name, _) in SIZES {
        let expected = all_given(&[("x-amz-meta-key1", "value1"), ("x-amz-storage-class", "STANDARD_IA")]);
        assert_eq!(attributes(&server, "kept", name), expected, "{name}");
        assert_eq!(tags(&server, "kept", name), ["a=1", "b=2"], "{name}");
        let shown = server.head("kept", name).unwrap();
        assert_eq!(shown["x-amz-tagging-count"], "2", "{name}");
        assert_eq!(shown["x-amz-server-side-encryption"], "aws:kms", "{name}");
        assert_eq!(shown["x-amz-server-side-encryption-aws-kms-key-id"], "k", "{name}");
    }
}

#[test]
fn archived_objects_are_left_out_with_a_warning_or_without() {
    let (server, tree) = (Server::any(), Tree::new());
    if server.skip(&["moto", "ceph", "rgw"], "it has no archive, or gives what is in it") {
        return;
    }
    let bucket = server.bucket("archive");
    for (name, size) in SIZES {
        server.put_with(&bucket, name, &[("x-amz-storage-class", "GLACIER")], noise(1, size));
    }
    server.put_with(&bucket, "deep", &[("x-amz-storage-class", "DEEP_ARCHIVE")], "x");
    server.put_with(&bucket, "instant", &[("x-amz-storage-class", "GLACIER_IR")], "x");
    let down = || Cmd::sync(tree.path(), &format!("s3://{bucket}/"), "back").from(&server).arg("--json");
    let run = down().expect(3);
    let counts = ["transferred_objects", "skipped_objects", "warnings", "failed_objects"];
    assert_eq!(counts.map(|name| run.count(name)), [1, 3, 3, 0]);
    assert!(run.stdout.contains("has to be restored"), "{}", run.stdout);
    let quiet = down().arg("--ignore-glacier-warnings").expect(0);
    assert_eq!(counts.map(|name| quiet.count(name)), [0, 4, 0, 0]);
    assert_eq!(tree.names("back"), [std::path::PathBuf::from("instant")], "no temporary file either");
    let to = server.bucket("archive-to");
    let copied = across(&tree, &server, &bucket, &to).expect(3);
    assert_eq!(counts.map(|name| copied.count(name)), [1, 3, 3, 0]);
    assert!(server.open_uploads(&to).is_empty());
}

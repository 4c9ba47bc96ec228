//! What s3sync does wrong and Ropeway must not: one test for each of its known defects (s3sync.md). Those that a whole suite
//! is about are there: deletes after incomplete listings in `deletes.rs`, memory in `memory.rs`, part sizes that are raised in
//! `src/transfer/part.rs`, objects under KMS in `s3sync_encryption.rs`, prefixed variables in `s3sync_general.rs`.

mod support;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use support::model::Object;
use support::scripted::{Answer, Scripted};
use support::tree::noise;
use support::{Cmd, Server, Tree};

const MIB: usize = 1 << 20;

#[test]
fn max_delete_n_allows_n() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("max-delete");
    tree.file("source/kept", "kept");
    let place = format!("s3://{bucket}/");
    for extras in 1..4 {
        (0..extras).for_each(|number| server.put(&bucket, &format!("extra-{number}"), "x"));
        let sync = |max: usize| {
            Cmd::sync(tree.path(), "source", &place).to(&server).args([
                "--delete",
                "--max-delete",
                &max.to_string(),
                "--json",
            ])
        };
        sync(extras - 1).expect(5);
        assert_eq!(server.keys(&bucket, "").len(), extras + 1);
        assert_eq!(sync(extras).expect(0).count("deleted_objects"), extras as u64);
        assert_eq!(server.keys(&bucket, ""), ["kept"]);
    }
}

#[test]
fn times_are_compared_to_the_nanosecond_between_directories() {
    let tree = Tree::new();
    tree.file("source/a", "new").file("target/a", "old");
    tree.set_modified("source/a", 1_700_000_000_500_000_000).set_modified("target/a", 1_700_000_000_400_000_000);
    Cmd::sync(tree.path(), "source", "target").expect(0);
    assert_eq!(std::fs::read(tree.at("target/a")).unwrap(), b"new");
}

#[test]
fn another_size_is_copied_however_old_the_source_is() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("sizes");
    tree.file("source/a", "restored from a backup").set_modified("source/a", 1_000_000_000_000_000_000);
    server.put(&bucket, "a", "newer");
    Cmd::sync(tree.path(), "source", &format!("s3://{bucket}/")).to(&server).expect(0);
    assert_eq!(server.get(&bucket, "a").unwrap(), b"restored from a backup");
}

#[test]
fn every_call_of_a_multipart_upload_is_tried_again() {
    for operation in ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"] {
        let (server, tree) = (Scripted::start(), Tree::new());
        tree.file("source/f", noise(1, 6 * MIB));
        server.on(operation, "f").times(2).answer(Answer::error(503, "SlowDown"));
        server.on(operation, "f").times(2).play(|exchange| exchange.reset());
        let flags =
            ["--multipart-threshold", "5MiB", "--multipart-chunksize", "5MiB", "--initial-backoff-milliseconds", "1"];
        Cmd::sync(tree.path(), "source", "s3://bucket/").to(&server.server).args(flags).expect(0);
        assert_eq!(server.model().objects["f"].content, noise(1, 6 * MIB), "{operation}");
    }
}

#[test]
fn a_pipe_in_the_tree_is_passed_by_and_not_waited_for() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("pipes");
    tree.file("source/a", "a");
    assert!(std::process::Command::new("mkfifo").arg(tree.at("source/pipe")).status().unwrap().success());
    Cmd::sync(tree.path(), "source", &format!("s3://{bucket}/")).to(&server).expect(3);
    assert_eq!(server.keys(&bucket, ""), ["a"]);
}

#[test]
fn a_name_that_is_no_text_fails_alone_and_nothing_panics() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("names");
    tree.file("source/a", "a").file(std::path::Path::new("source").join(std::ffi::OsStr::from_bytes(b"b\xff")), "b");
    let output = Cmd::sync(tree.path(), "source", &format!("s3://{bucket}/")).to(&server).run();
    assert!([1, 3].contains(&output.code), "{}: {}", output.code, output.stderr);
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    assert_eq!(server.keys(&bucket, ""), ["a"]);
}

#[test]
fn keys_that_steer_paths_are_refused_one_by_one() {
    let (server, tree) = (Scripted::start(), Tree::new());
    for key in ["../out", "a/../../out", "..", "a/..", "fine"] {
        server.model().objects.insert(key.to_owned(), Object::new(key.as_bytes()));
    }
    let output = Cmd::sync(tree.path(), "s3://bucket/", "target").from(&server.server).run();
    assert!([1, 3].contains(&output.code), "{}", output.stderr);
    assert_eq!(tree.names("target"), [std::path::PathBuf::from("fine")]);
    assert!(!tree.at("out").exists());
}

#[test]
fn ranges_of_a_download_name_the_version_that_they_are_of() {
    let (server, tree) = (Scripted::start(), Tree::new());
    server.model().objects.insert("k".to_owned(), Object::new(noise(1, 11 * MIB)));
    let flags = ["--multipart-threshold", "5MiB", "--multipart-chunksize", "5MiB"];
    Cmd::sync(tree.path(), "s3://bucket/", "target").from(&server.server).args(flags).expect(0);
    let ranges = server.requests_of("GetObject");
    assert!(ranges.len() > 1 && ranges.iter().all(|request| request.header("if-match").is_some()), "{ranges:?}");
}

#[test]
fn a_download_has_the_mode_that_the_umask_gives() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("modes");
    server.put(&bucket, "small", "x");
    server.put(&bucket, "large", noise(1, 9 * MIB));
    for (umask, mode) in [("022", 0o644), ("077", 0o600), ("002", 0o664)] {
        let shell = format!("umask {umask}; exec \"$@\"");
        Cmd::sync(tree.path(), &format!("s3://{bucket}/"), umask)
            .from(&server)
            .under(["sh", "-c", &shell, "sh"])
            .expect(0);
        for name in ["small", "large"] {
            let permissions = std::fs::metadata(tree.at(umask).join(name)).unwrap().permissions();
            assert_eq!(permissions.mode() & 0o777, mode, "{umask} {name}");
        }
    }
}

#[test]
fn one_object_can_be_named_exactly() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("exact");
    server.put(&bucket, "d/one", "one");
    server.put(&bucket, "d/one-more", "two");
    Cmd::sync(tree.path(), &format!("s3://{bucket}/d/one"), "target").from(&server).expect(0);
    assert_eq!(tree.names("target"), [std::path::PathBuf::from("one")]);
}

#[test]
fn a_prefix_is_taken_as_it_is_typed() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("prefix");
    tree.file("source/a", "a");
    for prefix in ["100%25/", "50%/", "q?x=1#y/"] {
        Cmd::sync(tree.path(), "source", &format!("s3://{bucket}/{prefix}")).to(&server).expect(0);
        assert_eq!(server.keys(&bucket, prefix), [format!("{prefix}a")]);
    }
}

#[test]
fn a_source_within_its_own_target_is_noticed() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("same");
    server.put(&bucket, "p/a", "a");
    let place = format!("s3://{bucket}/p/");
    Cmd::sync(tree.path(), &place, &place).from(&server).to(&server).expect(5);
}

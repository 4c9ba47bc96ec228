//! Bad input: one clear sentence that names the thing and the remedy, the right exit code, and nothing changed.

mod support;

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use support::cmd::Output;
use support::raw::unused_bucket;
use support::relay::Relay;
use support::{Cmd, Server, Tree};

/// The run ended with `code`, said one sentence that contains each of `words`, and printed no results.
#[track_caller]
fn refused(run: Cmd, code: i32, words: &[&str]) -> Output {
    let output = run.expect(code);
    assert_eq!(output.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{}", output.stderr);
    for word in words {
        assert!(output.stderr.contains(word), "`{word}` is missing in: {}", output.stderr);
    }
    assert_eq!(output.stdout, "");
    output
}

/// The same, in a single line.
#[track_caller]
fn refused_in_a_line(run: Cmd, code: i32, words: &[&str]) {
    let output = refused(run, code, words);
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
}

fn upload(tree: &Tree, endpoint: &str) -> Cmd {
    let keys = ["--target-access-key", "k", "--target-secret-access-key", "s"];
    tree.file("source/a", "a");
    Cmd::sync(tree.path(), "source", "s3://bucket/p/").args(keys).args(["--target-endpoint-url", endpoint])
}

#[test]
fn places_that_are_not_there_or_are_something_else() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("places");
    let place = format!("s3://{bucket}/");
    tree.file("source/a", "a").file("file", "f");
    let sync = |source: &str, target: &str| Cmd::sync(tree.path(), source, target);
    let before = tree.names("");
    refused_in_a_line(sync("absent", &place).to(&server), 7, &["source `absent`", "check the path"]);
    refused_in_a_line(sync(&place, "file").from(&server), 2, &["target `file` is a file", "name the directory"]);
    refused_in_a_line(sync("source", "file"), 2, &["target `file` is a file"]);
    refused_in_a_line(sync("source", "file/below"), 7, &["`file/below`"]);
    refused_in_a_line(sync("/dev/null", "out"), 2, &["neither a directory nor a regular file"]);
    refused_in_a_line(sync("", "out"), 2, &["source is empty"]);
    refused_in_a_line(sync("source", "source/within"), 5, &["lies within the source", "outside"]);
    refused_in_a_line(sync("source", "source"), 5, &["lies within the source"]);
    refused_in_a_line(
        sync(&format!("{place}a/"), &format!("{place}a/b/")).from(&server).to(&server),
        5,
        &["lies within the source"],
    );
    refused_in_a_line(sync("source", "ftp://host/x"), 2, &["`ftp://`", "s3://bucket/prefix"]);
    refused_in_a_line(sync("source", "s3://"), 2, &["s3://"]);
    refused_in_a_line(sync("source", "s3://bad\tbucket/"), 2, &["bucket name holds the character"]);
    assert_eq!(tree.names(""), before);
    assert_eq!(server.keys(&bucket, ""), [""; 0]);
}

#[test]
fn flags_that_make_no_sense_together() {
    let tree = Tree::new();
    tree.file("source/a", "a");
    let sync = |arguments: &[&str]| Cmd::sync(tree.path(), "source", "s3://bucket/").args(arguments);
    refused_in_a_line(sync(&["--target-access-key", "k"]), 2, &["--target-secret-access-key", "together"]);
    refused_in_a_line(sync(&["--target-session-token", "t"]), 2, &["--target-session-token"]);
    let both = ["--target-access-key", "k", "--target-secret-access-key", "s", "--target-profile", "p"];
    refused_in_a_line(sync(&both), 2, &["--target-profile", "exclude"]);
    refused_in_a_line(sync(&["--target-profile", "p", "--target-no-sign-request"]), 2, &["no-sign-request"]);
    refused_in_a_line(
        sync(&["--source-endpoint-url", "http://localhost:1"]).env("AWS_ACCESS_KEY_ID", "k"),
        2,
        &["--source-endpoint-url", "local path"],
    );
    refused(sync(&["-q", "-v"]), 2, &["--quiet"]);
    refused(sync(&["--no-such-flag"]), 2, &["--no-such-flag"]);
    refused(Cmd::new(tree.path(), ["sync", "source"]), 2, &["TARGET"]);
    refused(Cmd::new(tree.path(), ["synk"]), 2, &["synk"]);
    assert_eq!(tree.names(""), ["source", "source/a"].map(PathBuf::from));
}

#[test]
fn sizes_without_sense() {
    let tree = Tree::new();
    tree.file("source/a", "a");
    let sync = |arguments: &[&str]| Cmd::sync(tree.path(), "source", "out").args(arguments);
    for (flag, value, word) in [
        ("--multipart-chunksize", "1MiB", "5MiB to 5GiB"),
        ("--multipart-chunksize", "6GiB", "5MiB to 5GiB"),
        ("--multipart-threshold", "0", "5MiB to 5GiB"),
        ("--multipart-threshold", "8M", "not a unit"),
        ("--memory", "-1", "'-1'"),
        ("--memory", "much", "not a unit"),
        ("--memory", "99999999999TiB", "more bytes"),
        ("--worker-size", "0", "--worker-size"),
        ("--cores", "0", "--cores"),
        ("--max-parallel-uploads", "-3", "-3"),
        ("--io", "magic", "uring"),
        ("--stats", "soon", "--stats"),
    ] {
        refused(sync(&[flag, value]), 2, &[word]);
    }
    refused_in_a_line(sync(&["--memory", "4MiB"]), 2, &["--memory", "is too little", "needs"]);
    assert_eq!(tree.names(""), ["source", "source/a"].map(PathBuf::from));
}

#[test]
fn urls_that_are_none() {
    let tree = Tree::new();
    for url in ["localhost:9000", "http://", "http://host:port/", "http://host:99999", "ftp://host", "http://h/p?q=1"] {
        refused_in_a_line(upload(&tree, url), 2, &["--target-endpoint-url", url]);
    }
    refused_in_a_line(upload(&tree, "embedded:"), 2, &["embedded:", "directory"]);
}

#[test]
fn an_endpoint_that_does_not_answer_is_named_with_its_phase() {
    let tree = Tree::new();
    refused_in_a_line(upload(&tree, "http://no-such-host.invalid"), 7, &["no-such-host.invalid", "DNS", "resolver"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    let nobody = format!("http://127.0.0.1:{port}");
    refused_in_a_line(upload(&tree, &nobody), 7, &[&nobody, "connecting (TCP)", "is the service running"]);
    // One that takes a connection and says nothing that HTTP or TLS knows.
    let rude = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = rude.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in rude.incoming().flatten() {
            answer_nonsense(stream);
        }
    });
    refused_in_a_line(upload(&tree, &format!("https://{address}")), 7, &["TLS handshake", "AWS_CA_BUNDLE"]);
    refused_in_a_line(upload(&tree, &format!("http://{address}")), 7, &["first byte", "http or https"]);
}

fn answer_nonsense(mut stream: TcpStream) {
    use std::io::{Read, Write};
    let _ = stream.read(&mut [0; 4096]).and_then(|_| stream.write_all(b"220 mail.example ESMTP\r\n"));
}

#[test]
fn a_ca_bundle_that_cannot_be_used() {
    let tree = Tree::new();
    let run = || upload(&tree, "https://127.0.0.1:1");
    refused_in_a_line(run().env("AWS_CA_BUNDLE", "absent.pem"), 6, &["absent.pem"]);
    tree.file("empty.pem", "no certificate here\n");
    refused_in_a_line(run().env("AWS_CA_BUNDLE", "empty.pem"), 6, &["empty.pem"]);
}

#[test]
fn an_unknown_bucket_is_said_once() {
    let (server, tree) = (strict(), Tree::new());
    for number in 0..50 {
        tree.file(format!("source/{number}"), "x");
    }
    let place = format!("s3://{}/", unused_bucket("unknown"));
    refused_in_a_line(
        Cmd::sync(tree.path(), "source", &place).to(&server),
        7,
        &["target", &place, "NoSuchBucket", "create the bucket"],
    );
    let before = tree.names("");
    refused_in_a_line(Cmd::sync(tree.path(), &place, "out").from(&server), 7, &["source", &place, "NoSuchBucket"]);
    assert_eq!(tree.names(""), before, "no target directory is made for a source that is not there");
}

/// A server on which buckets must have been created.
fn strict() -> Server {
    let server = Server::any();
    if server.name != "embedded" {
        return server;
    }
    let mut settings = ropeway::serve::ServeSettings::new(ropeway::serve::Storage::Memory);
    settings.create_buckets = false;
    Server::with(settings)
}

#[test]
fn wrong_keys_are_said_once() {
    let (server, tree) = (Server::any(), Tree::new());
    if server.skip(&["moto"], "it does not check keys") {
        return;
    }
    let bucket = server.bucket("wrong-keys");
    server.put(&bucket, "object", "o");
    for number in 0..50 {
        tree.file(format!("source/{number}"), "x");
    }
    let place = format!("s3://{bucket}/");
    let mut wrong_secret = server.at(server.endpoint.clone());
    wrong_secret.secret_key = "wrong".into();
    let mut wrong_key = server.at(server.endpoint.clone());
    wrong_key.access_key = "nobody".into();
    for (login, code) in [(wrong_secret, "SignatureDoesNotMatch"), (wrong_key, "InvalidAccessKeyId")] {
        let up = Cmd::sync(tree.path(), "source", &place).to(&login);
        refused_in_a_line(up, 6, &["target", code, "--target-access-key"]);
        let down = Cmd::sync(tree.path(), &place, "out").from(&login);
        refused_in_a_line(down, 6, &["source", code, "--source-access-key"]);
    }
    assert_eq!(server.keys(&bucket, ""), ["object"]);
    assert!(!tree.at("out").exists());
}

#[test]
fn keys_that_stop_working_under_way_end_the_run_with_one_sentence() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("expired");
    let relay = Relay::before(&server);
    relay.deny("PUT ", "ExpiredToken");
    for number in 0..300 {
        tree.file(format!("source/{number}"), "x");
    }
    let run = Cmd::sync(tree.path(), "source", &format!("s3://{bucket}/")).to(&relay.server).expect(6);
    assert_eq!(run.stderr.matches("ExpiredToken").count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains("ended early: 0 objects"), "{}", run.stderr);
    // What was under way when the first answer came may have been asked; the rest was not.
    assert!(relay.seen("PUT ").len() < 200, "{}", relay.seen("PUT ").len());
}

#[test]
fn i10_one_object_that_is_refused_fails_alone() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("denied");
    let relay = Relay::before(&server);
    relay.deny("/secret", "AccessDenied");
    let names = ["a", "secret", "z"];
    for name in names {
        tree.file(format!("source/{name}"), name);
    }
    let place = format!("s3://{bucket}/");
    let up = Cmd::sync(tree.path(), "source", &place).to(&relay.server).expect(1);
    assert!(up.stderr.contains("failed: `secret`: ") && up.stderr.contains("AccessDenied"), "{}", up.stderr);
    assert_eq!(server.keys(&bucket, ""), ["a", "z"]);
    names.iter().for_each(|name| server.put(&bucket, name, name));
    let down = Cmd::sync(tree.path(), &place, "out").from(&relay.server).expect(1);
    assert!(down.stderr.contains("failed: `secret`: ") && down.stderr.contains("AccessDenied"), "{}", down.stderr);
    assert_eq!(tree.names("out"), ["a", "z"].map(PathBuf::from));
}

#[test]
fn an_embedded_store_in_use_is_named() {
    let tree = Tree::new();
    let _server = Server::embedded(ropeway::serve::Storage::Directory(tree.at("store")));
    tree.file("source/a", "a");
    let run = Cmd::sync(tree.path(), "source", "s3://demo/").args(["--target-endpoint-url", "embedded:store"]);
    refused_in_a_line(run, 7, &["another embedded server uses", "store"]);
}

#[test]
fn a_report_that_cannot_be_written_is_said_before_anything_is_done() {
    let tree = Tree::new();
    tree.file("source/a", "a");
    let run = Cmd::sync(tree.path(), "source", "out").args(["--report", "no/such/directory/report"]);
    refused_in_a_line(run, 2, &["no/such/directory/report"]);
    assert!(!tree.at("out").exists());
}

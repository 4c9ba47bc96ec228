//! Directory buckets (S3 Express One Zone), against the embedded server's model of them: sessions, listings in no order, ETags
//! that tell nothing.

mod support;

use ropeway::serve::{ServeSettings, Storage};
use support::proxy::Proxy;
use support::scripted::Answer;
use support::{Cmd, Server, Tree};

const BUCKET: &str = "s3://base--usw2-az1--x-s3/";

/// A server that writes its requests down in `tree`, for sessions of so many milliseconds and requests that take so many.
fn server(tree: &Tree, lasts_ms: u64, latency_ms: u64) -> Server {
    server_on(Storage::Memory, tree, lasts_ms, latency_ms)
}

fn server_on(storage: Storage, tree: &Tree, lasts_ms: u64, latency_ms: u64) -> Server {
    let mut settings = ServeSettings::new(storage);
    settings.request_log = Some(tree.at("requests"));
    settings.sessions_last = std::time::Duration::from_millis(lasts_ms);
    settings.latency = std::time::Duration::from_millis(latency_ms);
    Server::with(settings)
}

const MINUTES: u64 = 300_000;

fn sessions(tree: &Tree) -> usize {
    let log = std::fs::read_to_string(tree.at("requests")).expect("a log of requests");
    log.matches("?session").count()
}

fn tree() -> Tree {
    let tree = Tree::new();
    for number in 0..30 {
        tree.file(format!("source/d{}/{number:02}", number % 3), format!("content {number}"));
    }
    tree.file("source/empty", "").file("source/large", vec![7; 20 << 20]);
    tree
}

#[test]
fn what_goes_up_comes_down_and_is_proven_by_its_checksums() {
    for storage in [Storage::Memory, Storage::Directory("the-store".into())] {
        round_trip(storage);
    }
}

fn round_trip(storage: Storage) {
    let tree = tree();
    let storage = match storage {
        Storage::Directory(name) => Storage::Directory(tree.at(name)),
        Storage::Memory => Storage::Memory,
    };
    let server = server_on(storage, &tree, MINUTES, 0);
    let up = || Cmd::sync(tree.path(), "source", BUCKET).to(&server).arg("--json");
    let first = up().expect(0);
    assert_eq!((first.count("transferred_objects"), first.count("verified_checksum")), (32, 32), "{}", first.stdout);
    let again = up().expect(0);
    assert_eq!((again.count("transferred_objects"), again.count("skipped_objects")), (0, 32));
    let down = Cmd::sync(tree.path(), BUCKET, "back").from(&server).arg("--json").expect(0);
    assert_eq!((down.count("transferred_objects"), down.count("verified_checksum")), (32, 32), "{}", down.stdout);
    assert_eq!(tree.contents("source"), tree.contents("back"));
    Cmd::new(tree.path(), ["verify", "source", BUCKET]).to(&server).expect(0);
}

#[test]
fn each_run_opens_one_session_for_all_its_shards() {
    let tree = tree();
    let server = server(&tree, MINUTES, 0);
    Cmd::sync(tree.path(), "source", BUCKET).to(&server).args(["--cores", "2"]).expect(0);
    assert_eq!(sessions(&tree), 1);
}

#[test]
fn a_session_is_renewed_while_the_run_goes_on() {
    let tree = tree();
    // One request at a time takes longer than a session lasts.
    let server = server(&tree, 2_000, 150);
    let run =
        Cmd::sync(tree.path(), "source", BUCKET).to(&server).args(["--cores", "1", "--worker-size", "1", "--json"]);
    let output = run.expect(0);
    assert_eq!(output.count("failed_objects"), 0);
    assert!(sessions(&tree) > 1, "{} sessions", sessions(&tree));
}

#[test]
fn between_a_directory_bucket_and_another_both_ways() {
    let tree = tree();
    let server = server(&tree, MINUTES, 0);
    Cmd::sync(tree.path(), "source", "s3://plain/").to(&server).expect(0);
    let between =
        |source: &str, target: &str| Cmd::sync(tree.path(), source, target).from(&server).to(&server).arg("--json");
    assert_eq!(between("s3://plain/", BUCKET).expect(0).count("transferred_objects"), 32);
    assert_eq!(between(BUCKET, "s3://second/").expect(0).count("transferred_objects"), 32);
    Cmd::sync(tree.path(), "s3://second/", "back").from(&server).expect(0);
    assert_eq!(tree.contents("source"), tree.contents("back"));
}

#[test]
fn what_the_source_does_not_have_is_deleted_whatever_the_order_of_the_listing() {
    let tree = tree();
    let server = server(&tree, MINUTES, 0);
    Cmd::sync(tree.path(), "source", BUCKET).to(&server).expect(0);
    std::fs::remove_dir_all(tree.at("source/d1")).expect("it is there");
    Cmd::sync(tree.path(), "source", BUCKET).to(&server).arg("--delete").expect(0);
    Cmd::sync(tree.path(), BUCKET, "back").from(&server).expect(0);
    assert_eq!(tree.contents("source"), tree.contents("back"));
}

#[test]
fn only_prefixes_that_end_with_a_slash_are_listed_and_single_objects_are_found() {
    let tree = tree();
    let server = server(&tree, MINUTES, 0);
    Cmd::sync(tree.path(), "source", BUCKET).to(&server).expect(0);
    let at = |prefix: &str| format!("{BUCKET}{prefix}");
    Cmd::sync(tree.path(), &at("d2/"), "d2").from(&server).expect(0);
    assert_eq!(tree.contents("d2").len(), 10);
    Cmd::sync(tree.path(), &at("d0/00"), "one").from(&server).expect(0);
    assert_eq!(tree.contents("one").len(), 1);
    for run in [
        Cmd::sync(tree.path(), &at("d"), "more").from(&server),
        Cmd::sync(tree.path(), "source", &at("copies")).to(&server),
    ] {
        let said = run.expect(2).stderr;
        assert!(said.contains("lists only prefixes that end with `/`"), "{said}");
    }
}

#[test]
fn who_may_open_no_session_is_told_so() {
    let tree = tree();
    let server = server(&tree, MINUTES, 0);
    let wrong = Cmd::sync(tree.path(), "source", BUCKET).to(&server).env("ROPEWAY_TARGET_SECRET_ACCESS_KEY", "wrong");
    let said = wrong.expect(6).stderr;
    assert!(
        said.contains("CreateSession of `s3://base--usw2-az1--x-s3`") && said.contains("SignatureDoesNotMatch"),
        "{said}"
    );
    let unsigned = Cmd::sync(tree.path(), BUCKET, "back").args(["--source-endpoint-url", &server.endpoint]);
    let said = unsigned.arg("--source-no-sign-request").expect(2).stderr;
    assert!(said.contains("serves no unsigned requests"), "{said}");
}

#[test]
fn s3syncs_flags_about_directory_buckets_are_taken() {
    let tree = tree();
    let server = server(&tree, MINUTES, 0);
    let flags = ["--disable-express-one-zone-additional-checksum", "--allow-parallel-listings-in-express-one-zone"];
    let output = Cmd::sync(tree.path(), "source", BUCKET).to(&server).args(flags).arg("--json").expect(0);
    assert_eq!(output.count("verified_checksum"), 32);
}

#[test]
fn no_key_of_a_session_is_ever_said() {
    let session = "<CreateSessionResult><Credentials><SessionToken>CANARY-token</SessionToken><SecretAccessKey>CANARY-secret\
         </SecretAccessKey><AccessKeyId>session-key</AccessKeyId><Expiration>2999-01-01T00:00:00Z</Expiration></Credentials>\
         </CreateSessionResult>";
    let host = "base--usw2-az1--x-s3.s3express-usw2-az1.us-west-2.amazonaws.com";
    let proxy = Proxy::start(&[host], move |asked| match asked.request.target.contains("session") {
        true => Answer::xml(session),
        false => Answer::xml("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"),
    });
    let tree = Tree::new();
    tree.file("ca.pem", &proxy.certificate_pem);
    let run = Cmd::sync(tree.path(), BUCKET, "back").args(["-vvv", "--source-region", "us-west-2"]);
    let run = run.env("AWS_ACCESS_KEY_ID", "the-key").env("AWS_SECRET_ACCESS_KEY", "the-secret");
    let run = run.env("AWS_SESSION_TOKEN", "the-token");
    let output = run.env("HTTPS_PROXY", &proxy.url).env("AWS_CA_BUNDLE", "ca.pem").expect(3);
    assert!(!output.stderr.contains("CANARY"), "{}", output.stderr);
    // Each zone has its own endpoint, and a session's token its own header.
    assert_eq!(proxy.hosts(), [host]);
    let asked = proxy.asked();
    let (first, others) = asked.split_first().expect("requests");
    let header = |asked: &support::proxy::Asked, name: &str| asked.request.header(name).map(str::to_owned);
    assert_eq!(header(first, "x-amz-security-token").as_deref(), Some("the-token"));
    assert!(header(first, "authorization").is_some_and(|text| text.contains("Credential=the-key/")));
    assert!(!others.is_empty());
    for asked in others {
        assert_eq!(header(asked, "x-amz-s3session-token").as_deref(), Some("CANARY-token"));
        assert_eq!(header(asked, "x-amz-security-token"), None);
        let authorization = header(asked, "authorization").expect("it is signed");
        assert!(authorization.contains("Credential=session-key/") && authorization.contains("/us-west-2/s3express/"));
    }
}

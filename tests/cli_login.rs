//! Keys from flags, environment and profiles; and that no secret is ever said.

mod support;

use support::relay::Relay;
use support::{Cmd, Server, Tree};

/// A server that knows one key, and a tree to send there.
fn arrange(key: &str, secret: &str) -> (Server, Tree) {
    let mut settings = ropeway::serve::ServeSettings::new(ropeway::serve::Storage::Memory);
    settings.credentials.push((key.into(), secret.into()));
    let mut server = Server::with(settings);
    (server.access_key, server.secret_key) = (key.into(), secret.into());
    let tree = Tree::new();
    tree.file("source/a", "a").file("source/b", vec![1; 9 << 20]);
    (server, tree)
}

fn upload(tree: &Tree) -> Cmd {
    Cmd::sync(tree.path(), "source", "s3://bucket/")
}

#[test]
fn keys_come_from_flags_or_from_the_environment() {
    let (server, tree) = arrange("the-key", "the-secret");
    let keys = ["--target-access-key", "the-key", "--target-secret-access-key", "the-secret"];
    upload(&tree).args(keys).args(["--target-endpoint-url", &server.endpoint]).expect(0);
    let aws = |run: Cmd| run.env("AWS_ACCESS_KEY_ID", "the-key").env("AWS_SECRET_ACCESS_KEY", "the-secret");
    aws(upload(&tree)).env("AWS_ENDPOINT_URL", &server.endpoint).expect(0);
    aws(upload(&tree)).env("AWS_ENDPOINT_URL_S3", &server.endpoint).env("AWS_ENDPOINT_URL", "http://wrong").expect(0);
    let ours = |run: Cmd| {
        let run = run.env("ROPEWAY_TARGET_ACCESS_KEY", "the-key");
        run.env("ROPEWAY_TARGET_SECRET_ACCESS_KEY", "the-secret").env("ROPEWAY_TARGET_ENDPOINT_URL", &server.endpoint)
    };
    ours(upload(&tree)).expect(0);
    // A flag beats the environment, and a variable of another program is not ours.
    ours(upload(&tree)).env("ROPEWAY_TARGET_ACCESS_KEY", "wrong").args(keys).expect(0);
    ours(upload(&tree)).env("TARGET_ACCESS_KEY", "wrong").env("DRY_RUN", "true").expect(0);
    assert_eq!(server.keys("bucket", ""), ["a", "b"]);
}

#[test]
fn every_flag_can_be_a_variable() {
    let (server, tree) = arrange("k", "s");
    let run = upload(&tree).to(&server).env("ROPEWAY_JSON", "true").env("ROPEWAY_DRY_RUN", "true").expect(0);
    assert_eq!(run.count("planned_objects"), 2);
    let run = upload(&tree).to(&server).env("ROPEWAY_REPORT", "the-report").env("ROPEWAY_CORES", "1");
    let run = run.env("ROPEWAY_MEMORY", "128MiB").env("ROPEWAY_WORKER_SIZE", "4").env("ROPEWAY_STATS", "0");
    let run = run.env("ROPEWAY_MAX_PARALLEL_UPLOADS", "2").env("ROPEWAY_MULTIPART_CHUNKSIZE", "5MiB");
    run.env("ROPEWAY_MULTIPART_THRESHOLD", "5MiB").expect(0);
    assert!(tree.at("the-report").exists());
    assert_eq!(server.head("bucket", "b").unwrap()["x-amz-meta-ropeway-part-bytes"], (5 << 20).to_string());
    let bad = upload(&tree).to(&server).env("ROPEWAY_MEMORY", "8M").expect(2);
    assert!(bad.stderr.contains("8M"), "{}", bad.stderr);
}

#[test]
fn keys_come_from_profiles() {
    let (server, tree) = arrange("profile-key", "profile-secret");
    tree.file(".aws/credentials", "[work]\naws_access_key_id = profile-key\naws_secret_access_key = profile-secret\n");
    tree.file(".aws/config", "[default]\nregion = eu-west-1\n[profile work]\nregion = us-east-1\n");
    let run = || upload(&tree).args(["--target-endpoint-url", &server.endpoint]);
    run().args(["--target-profile", "work"]).expect(0);
    run().env("ROPEWAY_TARGET_PROFILE", "work").expect(0);
    run().env("AWS_PROFILE", "work").expect(0);
    tree.file("elsewhere", "[default]\naws_access_key_id = profile-key\naws_secret_access_key = profile-secret\n");
    run().env("AWS_SHARED_CREDENTIALS_FILE", "elsewhere").expect(0);
    let nobody = run().args(["--target-profile", "nobody"]).expect(6);
    assert!(nobody.stderr.contains("no profile `nobody`") && nobody.stderr.contains(".aws/credentials"));
    let nothing = run().env("HOME", "/nonexistent").env("AWS_EC2_METADATA_DISABLED", "true").expect(6);
    assert!(nothing.stderr.contains("no credentials were found") && nothing.stderr.contains("AWS_ACCESS_KEY_ID"));
    let half = run().env("AWS_ACCESS_KEY_ID", "k").expect(6);
    assert!(half.stderr.contains("AWS_SECRET_ACCESS_KEY is missing"), "{}", half.stderr);
}

#[test]
fn each_side_has_its_own_login() {
    let (source, tree) = arrange("source-key", "source-secret");
    let (target, _) = arrange("target-key", "target-secret");
    tree.file("home/.aws/credentials", "[old]\naws_access_key_id=source-key\naws_secret_access_key=source-secret\n");
    source.put("bucket", "x", "x");
    let run = Cmd::sync(tree.path(), "s3://bucket/", "s3://bucket/").env("HOME", tree.at("home"));
    let run = run.args(["--source-endpoint-url", &source.endpoint, "--source-profile", "old"]);
    run.args(["--target-endpoint-url", &target.endpoint])
        .env("AWS_ACCESS_KEY_ID", "target-key")
        .env("AWS_SECRET_ACCESS_KEY", "target-secret")
        .expect(0);
    assert_eq!(target.get("bucket", "x").unwrap(), b"x");
}

#[test]
fn unsigned_requests_carry_no_signature() {
    let mut settings = ropeway::serve::ServeSettings::new(ropeway::serve::Storage::Memory);
    settings.allow_anonymous = true;
    let (server, tree) = (Server::with(settings), Tree::new());
    server.put("bucket", "public", "public");
    let run = || {
        let run = Cmd::sync(tree.path(), "s3://bucket/", "out").args(["--source-endpoint-url", &server.endpoint]);
        run.env("AWS_ACCESS_KEY_ID", "unknown").env("AWS_SECRET_ACCESS_KEY", "unknown")
    };
    run().expect(6);
    run().arg("--source-no-sign-request").expect(0);
    assert!(tree.at("out/public").exists());
}

/// Secrets as they would be seen if anything said them.
const SECRET: &str = "CANARYcanarySECRETsecret/+0123456789";
const TOKEN: &str = "CANARYcanaryTOKENtoken/+0123456789";

#[test]
fn i8_no_secret_is_in_anything_that_is_said_or_written() {
    let (server, tree) = arrange("canary-key", SECRET);
    let relay = Relay::before(&server);
    let flags = ["--target-access-key", "canary-key", "--target-secret-access-key", SECRET];
    let to = |endpoint: &str| upload(&tree).args(["--target-endpoint-url", endpoint, "-vvv", "--report", "report"]);
    let with_secret =
        |run: Cmd| run.env("ROPEWAY_TARGET_ACCESS_KEY", "canary-key").env("ROPEWAY_TARGET_SECRET_ACCESS_KEY", SECRET);
    tree.file(".aws/credentials", format!("[p]\naws_access_key_id=canary-key\naws_secret_access_key={SECRET}\n"));
    let login_in_url = server.endpoint.replace("http://", &format!("http://canary-key:{SECRET}@"));
    let runs = [
        ("success", with_secret(to(&server.endpoint)), 0),
        ("flags", to(&server.endpoint).args(flags).arg("--json"), 0),
        ("profile", to(&server.endpoint).args(["--target-profile", "p"]), 0),
        ("token", with_secret(to(&server.endpoint)).env("ROPEWAY_TARGET_SESSION_TOKEN", TOKEN), -1),
        ("wrong key", with_secret(to(&server.endpoint)).env("ROPEWAY_TARGET_ACCESS_KEY", "other"), 6),
        ("nobody there", with_secret(to("http://127.0.0.1:1")), 7),
        ("in the URL", with_secret(to(&login_in_url)), 2),
        ("as a flag's value", with_secret(to(&server.endpoint)).args(["--memory", "x"]), 2),
        ("help", with_secret(Cmd::new(tree.path(), ["sync", "--help"])), 0),
    ];
    for (what, run, code) in runs {
        let output = run.run();
        assert!(code == -1 || output.code == code, "{what}: {} {}", output.code, output.stderr);
        let report = std::fs::read_to_string(tree.at("report")).unwrap_or_default();
        for text in [&output.stdout, &output.stderr, &report] {
            let at = ["CANARYcanarySECRET", "CANARYcanaryTOKEN"].iter().find_map(|secret| text.find(secret));
            assert!(at.is_none(), "{what}: a secret is said: {text}");
        }
    }
    // Nor does an object that is refused say with what it was signed.
    relay.deny("PUT ", "AccessDenied");
    tree.file("source/new", "new");
    let output = with_secret(to(&relay.server.endpoint)).expect(1);
    assert!(!output.stderr.contains("CANARYcanary") && !output.stderr.contains("Signature="), "{}", output.stderr);
}

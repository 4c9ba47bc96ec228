//! s3sync's flags that are about the run as a whole: what is said and where, warnings, dry runs, rates, patience, completions,
//! and the combinations that it rejects.

mod support;

use std::net::TcpListener;

use support::scripted::{Answer, Exchange, Scripted};
use support::{Cmd, Server, Tree};

fn arrange() -> (Server, Tree, String) {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("general");
    tree.file("source/a", "one").file("source/d/b", "two").file("source/c", "");
    (server, tree, format!("s3://{bucket}/p/"))
}

fn pipe(tree: &Tree) {
    let made = std::process::Command::new("mkfifo").arg(tree.at("source/pipe")).status().unwrap();
    assert!(made.success());
}

#[track_caller]
fn lines_of_json(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
}

#[test]
fn warn_as_error_ends_the_run_with_1_where_a_warning_alone_ends_it_with_3() {
    let (server, tree, place) = arrange();
    pipe(&tree);
    let sync = || Cmd::sync(tree.path(), "source", &place).to(&server);
    let output = sync().expect(3);
    assert!(output.stderr.contains("warning: `pipe`: left out"), "{}", output.stderr);
    let output = sync().arg("--warn-as-error").expect(1);
    assert!(
        output.stderr.contains("`pipe`: left out") && output.stderr.contains("--warn-as-error"),
        "{}",
        output.stderr
    );
    // A dry run looks at the same things.
    sync().args(["--warn-as-error", "--dry-run"]).expect(1);
    std::fs::remove_file(tree.at("source/pipe")).unwrap();
    sync().arg("--warn-as-error").expect(0);
}

#[test]
fn show_no_progress_leaves_out_progress_and_summary_and_nothing_else() {
    let (server, tree, place) = arrange();
    let output = Cmd::sync(tree.path(), "source", &place).to(&server).arg("--show-no-progress").expect(0);
    assert_eq!((&*output.stdout, &*output.stderr), ("", ""));
    pipe(&tree);
    let output = Cmd::sync(tree.path(), "source", &place).to(&server).arg("--show-no-progress").expect(3);
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    assert!(output.stderr.starts_with("warning: `pipe`"), "{}", output.stderr);
}

#[test]
fn quiet_says_errors_alone_and_twice_not_even_those() {
    let (server, tree, place) = arrange();
    pipe(&tree);
    std::os::unix::fs::symlink("nowhere", tree.at("source/dangling")).unwrap();
    let sync = |flag: &str| Cmd::sync(tree.path(), "source", &place).to(&server).arg(flag).expect(1);
    let once = sync("-q");
    assert_eq!((&*once.stdout, once.stderr.lines().count()), ("", 1), "{}", once.stderr);
    assert!(once.stderr.starts_with("failed: `dangling`"), "{}", once.stderr);
    let twice = sync("-qq");
    assert_eq!((&*twice.stdout, &*twice.stderr), ("", ""));
}

#[test]
fn json_tracing_is_json_alone_on_stdout_or_with_tracing_stderr_on_stderr() {
    let (server, tree, place) = arrange();
    pipe(&tree);
    std::os::unix::fs::symlink("nowhere", tree.at("source/dangling")).unwrap();
    let sync = || Cmd::sync(tree.path(), "source", &place).to(&server).args(["--json-tracing", "-vv"]);
    for (output, stderr) in [(sync().expect(1), false), (sync().arg("--tracing-stderr").expect(1), true)] {
        let (json, nothing) = if stderr { (&output.stderr, &output.stdout) } else { (&output.stdout, &output.stderr) };
        assert_eq!(nothing, "");
        let lines = lines_of_json(json);
        assert_eq!(lines.last().unwrap()["event"], "summary");
        for event in ["failed", "warned"] {
            assert!(lines.iter().any(|line| line["event"] == event), "no {event}: {json}");
        }
        assert!(lines.iter().any(|line| line["level"].is_string()), "no line of the log: {json}");
    }
}

#[test]
fn span_events_tracing_logs_the_beginning_and_the_end_of_each_object() {
    let (server, tree, place) = arrange();
    let flags = ["--span-events-tracing", "--disable-color-tracing", "--json-tracing"];
    let output = Cmd::sync(tree.path(), "source", &place).to(&server).args(flags).expect(0);
    let lines = lines_of_json(&output.stdout);
    for key in ["a", "c", "d/b"] {
        for message in ["new", "close"] {
            let logged = |line: &serde_json::Value| {
                line["fields"]["message"] == message && line["span"]["name"] == "object" && line["span"]["key"] == key
            };
            assert!(lines.iter().any(logged), "{message} of {key}: {}", output.stdout);
        }
    }
    let output =
        Cmd::sync(tree.path(), "source", &place).to(&server).args(["--disable-color-tracing", "-vvv"]).expect(0);
    assert!(!output.stderr.contains('\x1b'));
}

#[test]
fn aws_sdk_tracing_logs_what_the_client_does() {
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/a", "a");
    server.on("PutObject", "a").times(1).answer(Answer::error(503, "SlowDown"));
    let sync = || {
        Cmd::sync(tree.path(), "source", "s3://bucket/").to(&server.server).args([
            "--initial-backoff-milliseconds",
            "1",
            "--aws-max-attempts",
            "3",
        ])
    };
    let output = sync().arg("--aws-sdk-tracing").expect(0);
    assert!(output.stderr.contains("trying again") && output.stderr.contains("SlowDown"), "{}", output.stderr);
    server.model().objects.clear();
    server.on("PutObject", "a").times(1).answer(Answer::error(503, "SlowDown"));
    assert!(!sync().expect(0).stderr.contains("trying again"));
}

#[test]
fn a_dry_run_changes_nothing_in_any_direction() {
    let (server, tree, place) = arrange();
    let bucket = place.trim_start_matches("s3://").split('/').next().unwrap().to_owned();
    Cmd::sync(tree.path(), "source", &place).to(&server).expect(0);
    let before = server.objects(&bucket, "");
    tree.file("source/new", "new").file("target/old", "old");
    std::fs::remove_file(tree.at("source/a")).unwrap();
    let run = |source: &str, target: &str| Cmd::sync(tree.path(), source, target).between(&server, source, target);
    let other = format!("s3://{bucket}/q/");
    for (source, target, copied, deleted) in [
        ("source", &*place, "would copy new", "would delete a"),
        (&*place, "target", "would copy d/b", "would delete old"),
        (&*place, &*other, "would copy d/b", ""),
        ("source", "target", "would copy new", "would delete old"),
    ] {
        let output = run(source, target).args(["--dry-run", "--delete", "--rate-limit-objects", "1000"]).expect(0);
        assert!(output.stdout.contains(copied) && output.stdout.contains(deleted), "{source}: {}", output.stdout);
        assert!(output.stderr.contains("dry run: "), "{}", output.stderr);
    }
    assert_eq!(server.objects(&bucket, ""), before);
    assert_eq!(tree.names("target"), [std::path::PathBuf::from("old")]);
}

#[test]
fn rates_are_kept_and_everything_arrives() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("rates");
    for number in 0..15 {
        tree.file(format!("source/{number}"), "x");
    }
    let place = format!("s3://{bucket}/");
    let output =
        Cmd::sync(tree.path(), "source", &place).to(&server).args(["--rate-limit-objects", "10", "--json"]).expect(0);
    assert_eq!(output.count("transferred_objects"), 15);
    // The fastest machine cannot be faster than the rate, but for its burst of a tenth of a second.
    assert!(output.count("elapsed_ms") >= 1_200, "{}", output.stdout);
    tree.file("more/large", support::tree::noise(1, 2 << 20));
    let output =
        Cmd::sync(tree.path(), "more", &place).to(&server).args(["--rate-limit-bandwidth", "1MiB", "--json"]).expect(0);
    assert_eq!(output.count("transferred_bytes"), 2 << 20);
}

#[test]
fn rates_and_numbers_beyond_their_bounds_are_refused() {
    let tree = Tree::new();
    tree.file("source/a", "a");
    for (flag, value) in [
        ("--rate-limit-objects", "9"),
        ("--rate-limit-bandwidth", "1023KiB"),
        ("--rate-limit-bandwidth", "101GiB"),
        ("--worker-size", "0"),
        ("--max-parallel-uploads", "0"),
        ("--multipart-threshold", "4MiB"),
        ("--multipart-chunksize", "6GiB"),
        ("--force-retry-count", "often"),
        ("--force-retry-interval-milliseconds", "soon"),
        ("--auto-complete-shell", "tcsh"),
    ] {
        let output = Cmd::sync(tree.path(), "source", "s3://bucket/").args([flag, value]).expect(2);
        assert!(output.stderr.contains(flag), "{}", output.stderr);
    }
}

/// Never answers.
fn silence(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    exchange.stop_reading()
}

#[test]
fn an_attempt_that_takes_too_long_is_tried_again() {
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/a", "a");
    server.on("PutObject", "a").times(1).play(silence);
    let flags = ["--operation-attempt-timeout-milliseconds", "500", "--initial-backoff-milliseconds", "1", "--json"];
    let output = Cmd::sync(tree.path(), "source", "s3://bucket/").to(&server.server).args(flags).expect(0);
    assert_eq!((output.count("retries"), output.count("transferred_objects")), (1, 1));
}

#[test]
fn an_operation_that_takes_too_long_with_all_its_tries_fails_and_says_so() {
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/a", "a");
    server.on("PutObject", "a").play(silence);
    let flags = ["--operation-timeout-milliseconds", "700", "--disable-stalled-stream-protection"];
    let output = Cmd::sync(tree.path(), "source", "s3://bucket/").to(&server.server).args(flags).expect(1);
    assert!(output.stderr.contains("it was not done within"), "{}", output.stderr);
}

#[test]
fn an_object_whose_connections_all_break_is_started_over_as_often_as_wished() {
    let tree = Tree::new();
    tree.file("source/a", "a");
    for (restarts, code) in [("1", 1), ("2", 0)] {
        let server = Scripted::start();
        // The first one finds a connection closed that was used before, which costs no try.
        server.on("PutObject", "a").times(5).play(|exchange| exchange.reset());
        let flags = ["--aws-max-attempts", "2", "--initial-backoff-milliseconds", "1", "--force-retry-count", restarts];
        let output = Cmd::sync(tree.path(), "source", "s3://bucket/")
            .to(&server.server)
            .args(flags)
            .args(["--force-retry-interval-milliseconds", "1", "--json"])
            .expect(code);
        assert_eq!(output.count("transferred_objects"), u64::from(code == 0));
    }
}

#[test]
fn an_object_that_the_service_refuses_is_not_started_over() {
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/a", "a");
    server.on("PutObject", "a").answer(Answer::error(500, "InternalError"));
    let flags = ["--aws-max-attempts", "2", "--initial-backoff-milliseconds", "1", "--force-retry-count", "3"];
    Cmd::sync(tree.path(), "source", "s3://bucket/").to(&server.server).args(flags).expect(1);
    assert_eq!(server.requests_of("PutObject").len(), 2);
}

#[test]
fn completion_scripts_for_every_shell_by_s3syncs_flag_and_by_our_command() {
    let tree = Tree::new();
    for shell in ["bash", "fish", "zsh", "powershell", "elvish"] {
        let by_flag = Cmd::new(tree.path(), ["sync", "--auto-complete-shell", shell]).expect(0);
        let by_command = Cmd::new(tree.path(), ["completions", shell]).expect(0);
        assert!(by_flag.stdout.contains("multipart-chunksize") && by_flag.stderr.is_empty(), "{shell}");
        assert_eq!(by_flag.stdout, by_command.stdout);
    }
    let output = Cmd::new(tree.path(), ["sync"]).expect(2);
    assert!(output.stderr.contains("<SOURCE>") && output.stderr.contains("<TARGET>"), "{}", output.stderr);
}

#[test]
fn numbers_of_workers_and_parts_change_nothing_in_what_arrives() {
    let (server, tree, place) = arrange();
    let bucket = place.trim_start_matches("s3://").split('/').next().unwrap().to_owned();
    tree.file("source/large", support::tree::noise(1, (6 << 20) + 1));
    for (number, workers) in ["1", "3", "64"].into_iter().enumerate() {
        let target = format!("s3://{bucket}/{number}/");
        Cmd::sync(tree.path(), "source", &target)
            .to(&server)
            .args(["--worker-size", workers, "--max-parallel-uploads", workers, "--max-parallel-listings", workers])
            .args(["--multipart-threshold", "5MiB", "--multipart-chunksize", "5MiB"])
            .args(["--connect-timeout-milliseconds", "5000", "--read-timeout-milliseconds", "60000"])
            .expect(0);
        assert_eq!(server.objects(&bucket, &format!("{number}/")).len(), 4);
    }
}

#[test]
fn combinations_that_s3sync_rejects_are_rejected_with_2_and_nothing_is_contacted() {
    let (listener, tree) = (TcpListener::bind("127.0.0.1:0").unwrap(), Tree::new());
    tree.file("source/a", "a");
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let rejected: [(&str, &str, &[&str], &str); 12] = [
        ("source", "s3://b/", &["--check-size", "--check-etag"], "exclude each other"),
        ("source", "s3://b/", &["--auto-chunksize", "--multipart-chunksize", "8MiB"], "exclude each other"),
        ("source", "s3://b/", &["--server-side-copy"], "from one bucket to another"),
        ("s3://b/", "target", &["--storage-class", "GLACIER"], "is a local path"),
        ("s3://b/", "target", &["--acl", "private"], "is a local path"),
        ("source", "s3://b/", &["--enable-versioning"], "from one bucket to another"),
        ("s3://a/", "s3://b/", &["--enable-versioning", "--delete"], "exclude each other"),
        ("s3://a/", "s3://b/", &["--max-delete", "3"], "needs --delete"),
        ("s3://a/", "s3://b/", &["--delete-excluded"], "needs --delete"),
        ("s3://a/", "s3://b/", &["--copy-source-if-match"], "needs --server-side-copy"),
        ("s3://a/", "s3://b/", &["--sse-kms-key-id", "k"], "needs --sse"),
        ("s3://a--use1-az4--x-s3/", "s3://b/", &["--check-etag"], "directory bucket"),
    ];
    for (source, target, flags, words) in rejected {
        let mut run = Cmd::sync(tree.path(), source, target).args(flags);
        for (side, place) in [("source", source), ("target", target)] {
            if place.starts_with("s3://") {
                run = run.args([format!("--{side}-endpoint-url"), endpoint.clone()]);
                run = run.args([
                    format!("--{side}-access-key"),
                    "k".into(),
                    format!("--{side}-secret-access-key"),
                    "s".into(),
                ]);
            }
        }
        let output = run.expect(2);
        assert!(output.stderr.contains(words) && output.stderr.contains(flags[0]), "{flags:?}: {}", output.stderr);
    }
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "something was contacted");
}

#[test]
fn variables_have_our_prefix_and_s3syncs_bare_ones_mean_nothing() {
    let (server, tree, place) = arrange();
    let bucket = place.trim_start_matches("s3://").split('/').next().unwrap().to_owned();
    server.put(&bucket, "p/extra", "extra");
    let sync = || Cmd::sync(tree.path(), "source", &place).to(&server);
    sync().env("DELETE", "true").env("DRY_RUN", "true").env("SOURCE", "elsewhere").expect(0);
    assert_eq!(server.keys(&bucket, "p/"), ["p/a", "p/c", "p/d/b", "p/extra"]);
    sync().env("ROPEWAY_DELETE", "true").env("ROPEWAY_DRY_RUN", "true").expect(0);
    sync().env("ROPEWAY_DELETE", "false").expect(0);
    assert_eq!(server.keys(&bucket, "p/"), ["p/a", "p/c", "p/d/b", "p/extra"]);
    sync().env("ROPEWAY_DELETE", "true").expect(0);
    assert_eq!(server.keys(&bucket, "p/"), ["p/a", "p/c", "p/d/b"]);
    let output = sync().env("ROPEWAY_DELETE", "yes").expect(2);
    assert!(output.stderr.contains("--delete"), "{}", output.stderr);
}

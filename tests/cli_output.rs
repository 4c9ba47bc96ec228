//! What a run says, to a person and to a program.

mod support;

use support::{Cmd, Server, Tree};

/// A server, a tree with one object to copy and one to skip, and the target's place.
fn arrange() -> (Server, Tree, String) {
    let (server, tree) = (Server::any(), Tree::new());
    let place = format!("s3://{}/", server.bucket("output"));
    tree.file("source/skipped", "s").set_modified("source/skipped", 1_500_000_000_000_000_000);
    Cmd::sync(tree.path(), "source", &place).to(&server).expect(0);
    tree.file("source/copied", "12345");
    (server, tree, place)
}

#[test]
fn the_summary_is_one_line_on_stderr() {
    let (server, tree, place) = arrange();
    let run = Cmd::sync(tree.path(), "source", &place).to(&server).expect(0);
    assert_eq!(run.stdout, "");
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    assert!(run.stderr.starts_with("1 objects, 5 B transferred; 1 verified ("), "{}", run.stderr);
    assert!(run.stderr.contains("; 1 skipped, 0 failed, 0 warnings; "), "{}", run.stderr);
}

#[test]
fn each_v_says_more() {
    let (server, tree, place) = arrange();
    let run = |flag: &str| {
        tree.file("source/copied", flag);
        Cmd::sync(tree.path(), "source", &place).to(&server).arg(flag).expect(0)
    };
    let once = run("-v");
    assert!(once.stderr.contains("note: limits: 256 MiB for"), "{}", once.stderr);
    assert!(once.stderr.contains("copied copied (2 B, verified by "), "{}", once.stderr);
    assert!(!once.stderr.contains("skipped skipped"), "{}", once.stderr);
    let twice = run("-vv");
    assert!(twice.stderr.contains("skipped skipped"), "{}", twice.stderr);
    assert!(twice.stderr.contains("copied copied (3 B"), "{}", twice.stderr);
    let thrice = run("-vvv");
    assert!(thrice.stderr.contains("copied copied (4 B"), "{}", thrice.stderr);
    assert_eq!(once.stdout + &twice.stdout + &thrice.stdout, "");
}

#[test]
fn q_says_only_errors() {
    let (server, tree, place) = arrange();
    let quiet = Cmd::sync(tree.path(), "source", &place).to(&server).arg("-q").expect(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    std::os::unix::fs::symlink("nowhere", tree.at("source/dangling")).unwrap();
    let quiet = Cmd::sync(tree.path(), "source", &place).to(&server).arg("-q").expect(1);
    assert_eq!(quiet.stderr, "failed: `dangling`: the symbolic link leads nowhere\n");
}

#[test]
fn warnings_alone_are_exit_code_3() {
    let (server, tree, place) = arrange();
    assert!(std::process::Command::new("mkfifo").arg(tree.at("source/pipe")).status().expect("coreutils").success());
    let run = Cmd::sync(tree.path(), "source", &place).to(&server).expect(3);
    assert!(run.stderr.contains("warning: `pipe`: left out: "), "{}", run.stderr);
    assert!(run.stderr.contains("0 failed, 1 warnings"), "{}", run.stderr);
}

#[test]
fn json_and_the_report_hold_every_event_and_the_summary() {
    let (server, tree, place) = arrange();
    std::os::unix::fs::symlink("nowhere", tree.at("source/dangling")).unwrap();
    let run = Cmd::sync(tree.path(), "source", &place).to(&server).args(["--json", "--report", "report"]).expect(1);
    assert_eq!(std::fs::read_to_string(tree.at("report")).unwrap(), run.stdout, "both hold the same");
    let lines: Vec<serde_json::Value> =
        run.stdout.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    let (summary, events) = lines.split_last().unwrap();
    let event = |name: &str| events.iter().find(|event| event["event"] == name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(events.len(), 3);
    let copied = event("transferred");
    assert_eq!(
        (&copied["key"], &copied["size_bytes"], &copied["reason"]),
        (&"copied".into(), &5.into(), &"absent".into())
    );
    assert!(copied["verified_by"][0].is_string() && copied["crc64nvme"].is_string() && copied["etag"].is_string());
    assert_eq!(event("skipped")["key"], "skipped");
    assert_eq!((&event("failed")["key"], event("failed")["error"].is_string()), (&"dangling".into(), true));
    for (counter, value) in [
        ("source_listed", 2),
        ("target_listed", 1),
        ("planned_objects", 1),
        ("planned_bytes", 5),
        ("transferred_objects", 1),
        ("transferred_bytes", 5),
        ("skipped_objects", 1),
        ("unverified", 0),
        ("failed_objects", 1),
        ("warnings", 0),
        ("exit_code", 1),
    ] {
        assert_eq!(summary[counter], value, "{counter}: {summary}");
    }
    assert!(
        summary["requests"].as_u64() >= Some(2) && summary["elapsed_ms"].is_u64() && summary["ended_early"].is_null()
    );
    assert_eq!(summary["dry_run"], false);
}

#[test]
fn help_and_version_are_answers() {
    let tree = Tree::new();
    let help = Cmd::new(tree.path(), ["sync", "--help"]).expect(0);
    for word in ["Exit codes", "--multipart-chunksize", "ROPEWAY_MEMORY", "embedded:DIR", "Nothing is ever deleted"] {
        assert!(help.stdout.contains(word), "{word}");
    }
    assert!(Cmd::new(tree.path(), ["--version"]).expect(0).stdout.starts_with("ropeway "));
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_error() {
    let (server, tree, place) = arrange();
    let mut child = Cmd::sync(tree.path(), "source", &place).to(&server).arg("--json").spawn();
    drop(child.stdout.take());
    assert_eq!(support::cmd::Output::of(child).code, 0);
}

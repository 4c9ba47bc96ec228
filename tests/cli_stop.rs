//! Runs that are ended before their time, at a moment that a relay before the server decides.

mod support;

use std::fs::File;
use std::process::{Child, Command};

use support::cmd::Output;
use support::relay::Relay;
use support::{Cmd, Server, Tree};

const MIB: u64 = 1 << 20;

/// A file of zeros that takes no room.
fn sparse(tree: &Tree, name: &str, size_bytes: u64) {
    tree.file(name, "");
    File::options().write(true).open(tree.at(name)).and_then(|file| file.set_len(size_bytes)).expect("a file");
}

fn signal(child: &Child, name: &str) {
    let line = format!("kill -{name} {}", child.id());
    assert!(Command::new("sh").args(["-c", &line]).status().expect("a shell").success());
}

#[test]
fn an_upload_that_is_stopped_without_resume_leaves_nothing_open_and_counts_what_arrived() {
    let server = Server::any();
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let tree = Tree::new();
        let bucket = server.bucket("stopped");
        let relay = Relay::before(&server);
        relay.hold_uploads_after(12 * MIB);
        for number in 0..20 {
            tree.file(format!("source/a{number:02}"), "small");
        }
        sparse(&tree, "source/z", 300 * MIB);
        let run = Cmd::sync(tree.path(), "source", &format!("s3://{bucket}/p/")).to(&relay.server).arg("--json");
        let child = run.args(["--multipart-chunksize", "5MiB", "--no-resume"]).spawn();
        relay.wait_until_held();
        assert_eq!(server.open_uploads(&bucket).len(), 1, "it is in the middle of the large file");
        signal(&child, name);
        let output = Output::of(child);
        assert_eq!(output.code, code, "{}", output.stderr);
        assert!(output.stderr.contains("stopped: "), "{}", output.stderr);
        assert!(output.stderr.contains("run the same command again"), "{}", output.stderr);
        assert_eq!(output.summary()["exit_code"], code);
        assert_eq!(server.open_uploads(&bucket), [""; 0]);
        assert_eq!(server.keys(&bucket, "p/").len() as u64, output.count("transferred_objects"));
        assert_eq!(output.count("failed_objects"), 0, "what was stopped has not failed");
        relay.release();
        let again = Cmd::sync(tree.path(), "source", &format!("s3://{bucket}/p/")).to(&server).arg("--json").expect(0);
        assert_eq!(again.count("transferred_objects") + again.count("skipped_objects"), 21);
    }
}

#[test]
fn i3_a_download_that_is_stopped_without_resume_leaves_the_old_file_and_no_other() {
    let server = Server::any();
    let bucket = server.bucket("stopped-down");
    server.put(&bucket, "big", vec![7; 40 << 20]);
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let tree = Tree::new();
        tree.file("target/big", "old");
        let relay = Relay::before(&server);
        relay.hold_answers_after(18 * MIB);
        let run = Cmd::sync(tree.path(), &format!("s3://{bucket}/"), "target").from(&relay.server);
        let child = run.args(["--json", "--no-resume"]).spawn();
        relay.wait_until_held();
        signal(&child, name);
        let output = Output::of(child);
        assert_eq!(output.code, code, "{}", output.stderr);
        assert_eq!(tree.names("target"), ["big"].map(std::path::PathBuf::from));
        assert_eq!(std::fs::read(tree.at("target/big")).unwrap(), b"old");
        assert_eq!((output.count("transferred_objects"), output.count("failed_objects")), (0, 0));
    }
}

#[test]
fn a_copy_that_is_stopped_without_resume_leaves_nothing_open() {
    let (server, tree) = (Server::any(), Tree::new());
    let (from, to) = (server.bucket("from"), server.bucket("to"));
    server.put(&from, "big", vec![7; 40 << 20]);
    let relay = Relay::before(&server);
    relay.hold_uploads_after(12 * MIB);
    let run = Cmd::sync(tree.path(), &format!("s3://{from}/"), &format!("s3://{to}/"));
    let child =
        run.from(&server).to(&relay.server).args(["--multipart-chunksize", "5MiB", "--json", "--no-resume"]).spawn();
    relay.wait_until_held();
    signal(&child, "TERM");
    assert_eq!(Output::of(child).code, 143);
    assert_eq!((server.open_uploads(&to).len(), server.keys(&to, "").len()), (0, 0));
}

#[test]
fn i6_a_killed_run_completes_when_it_is_run_again() {
    let server = Server::any();
    let tree = Tree::new();
    let bucket = server.bucket("killed");
    let place = format!("s3://{bucket}/");
    for number in 0..20 {
        tree.file(format!("source/a{number:02}"), number.to_string());
    }
    tree.file("source/z", vec![9; 40 << 20]);
    let kill = |relay: &Relay, run: Cmd| {
        let child = run.spawn();
        relay.wait_until_held();
        signal(&child, "KILL");
        assert_eq!(Output::of(child).code, 137);
    };
    let relay = Relay::before(&server);
    relay.hold_uploads_after(12 * MIB);
    kill(&relay, Cmd::sync(tree.path(), "source", &place).to(&relay.server));
    assert!(server.get(&bucket, "z").is_none());
    Cmd::sync(tree.path(), "source", &place).to(&server).expect(0);
    let relay = Relay::before(&server);
    relay.hold_answers_after(12 * MIB);
    kill(&relay, Cmd::sync(tree.path(), &place, "back").from(&relay.server));
    assert!(!tree.at("back/z").exists());
    Cmd::sync(tree.path(), &place, "back").from(&server).expect(0);
    let back = tree.contents("back");
    let whole = tree.contents("source");
    assert!(whole.iter().all(|(name, content)| back.get(name) == Some(content)), "{:?}", tree.names("back"));
}

/// Each directory holds two links to the next, so there are millions of ways through the tree and hardly a file.
#[test]
fn a_walk_that_finds_nothing_can_be_stopped() {
    use std::io::{BufRead, BufReader};
    let tree = Tree::new();
    tree.file("source/a", "found first");
    for level in 1..=24 {
        std::fs::create_dir(tree.at(format!("source/n{level:02}"))).expect("a directory");
    }
    for level in 1..24 {
        for name in ["a", "b"] {
            let link = tree.at(format!("source/n{level:02}/{name}"));
            std::os::unix::fs::symlink(format!("../n{:02}", level + 1), link).expect("a link");
        }
    }
    let mut child = Cmd::sync(tree.path(), "source", "target").arg("-v").spawn();
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    assert!(lines.any(|line| line.expect("a line").starts_with("copied a ")), "the first page was compared");
    signal(&child, "INT");
    lines.for_each(drop);
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
}

//! `ropeway cleanup`: what it finds, what it removes, and what it leaves alone.

mod support;

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, SystemTime};

use support::cmd::Output;
use support::relay::Relay;
use support::tree::noise;
use support::{Cmd, Server, Tree};

const MIB: u64 = 1 << 20;
const ONE_BY_ONE: [&str; 7] =
    ["--multipart-chunksize", "5MiB", "--cores", "1", "--max-parallel-uploads", "1", "--json"];

fn cleanup(server: &Server, tree: &Tree, arguments: &[&str]) -> Cmd {
    Cmd::new(tree.path(), ["cleanup", "--state-dir", "state", "--json"]).args(arguments).to(server)
}

fn events(output: &Output) -> Vec<serde_json::Value> {
    output.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The actions of all findings, in their order.
fn actions(output: &Output) -> Vec<(String, String)> {
    let word = |event: &serde_json::Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let found = events(output).into_iter().filter(|event| event["event"] != "summary");
    let mut actions: Vec<_> = found.map(|event| (word(&event, "origin"), word(&event, "action"))).collect();
    // In which order a bucket lists its uploads is its own affair.
    actions.sort_unstable();
    actions
}

fn pair(origin: &str, action: &str) -> (String, String) {
    (origin.to_owned(), action.to_owned())
}

fn kill(child: Child) {
    let line = format!("kill -KILL {}", child.id());
    assert!(Command::new("sh").args(["-c", &line]).status().expect("a shell").success());
    Output::of(child);
}

/// A run in the middle of its upload, or of its download.
fn begin(relay: &Relay, run: Cmd) -> Child {
    relay.hold_uploads_after(12 * MIB);
    relay.hold_answers_after(20 * MIB);
    let child = run.args(ONE_BY_ONE).args(["--state-dir", "state"]).spawn();
    relay.wait_until_held();
    child
}

#[test]
fn uploads_of_a_killed_run_are_removed_those_of_a_running_one_and_of_others_are_not() {
    let (server, tree) = (Server::any(), Tree::new());
    if server.skip(&["moto"], "it says of every upload that it was begun in 2010") {
        return;
    }
    let bucket = server.bucket("cleanup");
    tree.file("source/z", noise(1, 30 << 20));
    let relay = Relay::before(&server);
    // Jobs are known by their service, so cleanup goes where the run went.
    let seen = &relay.server;
    let child = begin(&relay, Cmd::sync(tree.path(), "source", &format!("s3://{bucket}/p/")).to(seen));
    server.request("POST", &format!("/{bucket}/p/other?uploads="), &[], b"").expect("another program's upload");
    server.request("POST", &format!("/{bucket}/q?uploads="), &[], b"").expect("an upload elsewhere");
    let place = format!("s3://{bucket}/p/");
    let unknown = pair("unknown", "kept");
    let running = cleanup(seen, &tree, &[&place, "--all", "--older-than", "0s"]).arg("--dry-run").expect(0);
    assert_eq!(actions(&running), [pair("running_job", "kept"), pair("unknown", "would_remove")]);
    kill(child);
    let dry = cleanup(seen, &tree, &[&place, "--dry-run"]).expect(0);
    assert_eq!(actions(&dry), [pair("resting_job", "would_remove"), unknown.clone()]);
    assert_eq!(server.open_uploads(&bucket).len(), 3);
    let younger = cleanup(seen, &tree, &[&place, "--older-than", "1d"]).expect(0);
    assert_eq!(actions(&younger), [pair("resting_job", "kept"), unknown.clone()]);
    let done = cleanup(seen, &tree, &[&place]).expect(0);
    assert_eq!(actions(&done), [pair("resting_job", "removed"), unknown.clone()]);
    let summary = events(&done).pop().expect("a summary");
    assert_eq!((summary["removed"].as_u64(), summary["kept"].as_u64()), (Some(1), Some(1)));
    assert_eq!(actions(&cleanup(seen, &tree, &[&place, "--all"]).expect(0)), [unknown], "it may be under way");
    let all = cleanup(seen, &tree, &[&place, "--all", "--older-than", "0s"]).expect(0);
    assert_eq!(actions(&all), [pair("unknown", "removed")]);
    assert_eq!(server.open_uploads(&bucket).len(), 1, "what is not below the prefix stays");
}

#[test]
fn every_page_of_uploads_is_looked_at() {
    let (server, tree) = (Server::any(), Tree::new());
    if server.skip(&["moto"], "it does not cut the list of uploads into pages") {
        return;
    }
    let bucket = server.bucket("pages");
    for number in 0..1_100 {
        server.request("POST", &format!("/{bucket}/{number:04}?uploads="), &[], b"").expect("an upload");
    }
    let all = cleanup(&server, &tree, &[&format!("s3://{bucket}/"), "--all", "--older-than", "0"]).expect(0);
    assert_eq!(actions(&all).len(), 1_100);
    assert_eq!(server.open_uploads(&bucket), [""; 0]);
}

#[test]
fn temporary_files_go_by_whose_they_are_and_how_old_and_links_are_not_followed() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("cleanup-down");
    server.put(&bucket, "z", noise(2, 41 << 20));
    let relay = Relay::before(&server);
    let child = begin(&relay, Cmd::sync(tree.path(), &format!("s3://{bucket}/"), "down").from(&relay.server));
    tree.file("down/sub/.ropeway-00000000deadbeef.partial", "young")
        .file("down/.ropeway-notes.partial", "a name alike");
    tree.file("down/.ropeway-11111111deadbeef.partial", "old")
        .file("elsewhere/.ropeway-22222222deadbeef.partial", "old");
    let old = (SystemTime::now() - Duration::from_secs(3 * 86_400)).duration_since(SystemTime::UNIX_EPOCH);
    let old_ns = old.expect("after 1970").as_nanos() as u64;
    tree.set_modified("down/.ropeway-11111111deadbeef.partial", old_ns);
    tree.set_modified("elsewhere/.ropeway-22222222deadbeef.partial", old_ns);
    std::os::unix::fs::symlink("../elsewhere", tree.at("down/link")).expect("a link");
    let found = |arguments: &[&str], code| {
        let output = Cmd::new(tree.path(), ["cleanup", "--state-dir", "state", "--json"]).args(arguments).expect(code);
        actions(&output)
    };
    let running = found(&["down", "--older-than", "0s", "--dry-run"], 0);
    let would = || pair("unknown", "would_remove");
    assert_eq!(running, [pair("running_job", "kept"), would(), would()]);
    kill(child);
    let removed = found(&["down"], 0);
    assert_eq!(removed, [pair("resting_job", "removed"), pair("unknown", "kept"), pair("unknown", "removed")]);
    let left = [".ropeway-notes.partial", "link", "sub", "sub/.ropeway-00000000deadbeef.partial"].map(PathBuf::from);
    assert_eq!(tree.names("down"), left);
    assert!(tree.at("elsewhere/.ropeway-22222222deadbeef.partial").exists());
    relay.release();
    let again = Cmd::sync(tree.path(), &format!("s3://{bucket}/"), "down").from(&relay.server);
    assert_eq!(again.args(ONE_BY_ONE).args(["--state-dir", "state"]).expect(0).count("resumed_bytes"), 0);
}

#[test]
fn what_cannot_be_reached_is_an_error_and_a_person_sees_a_table() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("table");
    server.request("POST", &format!("/{bucket}/a?uploads="), &[], b"").expect("an upload");
    let run = |arguments: &[&str]| Cmd::new(tree.path(), ["cleanup"]).args(arguments).to(&server);
    run(&[]).expect(2);
    run(&["nowhere"]).expect(7);
    run(&["--older-than", "7", "."]).expect(2);
    let table = run(&[&format!("s3://{bucket}/")]).expect(0);
    assert!(table.stdout.starts_with("kept "), "{}", table.stdout);
    assert!(table.stdout.contains(&format!("upload of s3://{bucket}/a, id ")), "{}", table.stdout);
    assert!(table.stdout.contains("--all takes it"), "{}", table.stdout);
    assert_eq!(table.stderr, "0 removed, 1 kept, 0 failed\n");
}

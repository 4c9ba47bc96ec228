//! I7: a run's memory stays within `--memory` and 64 MiB for the program itself, whatever is moved. The kernel's own
//! count of the child's peak decides; the server is another process.
//!
//! Runs only when asked for, in release mode: `cargo test --release --test memory -- --ignored`.

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use support::cmd::Output;
use support::{Cmd, Server, Tree};

const LIMIT_BYTES: u64 = (256 + 64) << 20;

/// `ropeway serve` as a process of its own, whose memory is not what is measured.
struct Serve {
    child: Child,
    server: Server,
}

impl Serve {
    fn start(storage: &[&str]) -> Serve {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ropeway"))
            .args(["serve", "--listen", "127.0.0.1:0", "--access-key", "k", "--secret-access-key", "s"])
            .args(storage)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let endpoint = line.trim().strip_prefix("listening on ").expect("the address").to_owned();
        let region = "us-east-1".to_owned();
        let name = "embedded".to_owned();
        let server = Server::known(endpoint, "k".to_owned(), "s".to_owned(), region, name);
        Serve { child, server }
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Runs to the end, and holds the kernel's count of its largest memory against the limit. It is read here whenever an event
/// arrives, and once by the run itself when all is done.
#[track_caller]
fn within_the_limit(what: &str, run: Cmd) {
    let mut child = run.args(["--memory", "256MiB", "--json"]).spawn();
    let status = format!("/proc/{}/status", child.id());
    let (mut peak_bytes, mut last) = (0, String::new());
    for line in BufReader::new(child.stdout.take().expect("a pipe")).lines() {
        last = line.expect("a line");
        peak_bytes = peak_bytes.max(peak_in(&std::fs::read_to_string(&status).unwrap_or_default()));
    }
    let output = Output::of(child);
    assert_eq!(output.code, 0, "{}", output.stderr);
    let summary: serde_json::Value = serde_json::from_str(&last).expect("the summary is JSON");
    peak_bytes = peak_bytes.max(summary["peak_memory_bytes"].as_u64().expect("Linux counts"));
    let text = format!("{what}: {} MiB at most, {} ms", peak_bytes >> 20, summary["elapsed_ms"]);
    let _ = writeln!(std::io::stderr(), "{text}");
    assert!(peak_bytes <= LIMIT_BYTES, "{text}, more than {} MiB", LIMIT_BYTES >> 20);
}

/// `VmHWM` of a process's status; it never falls.
fn peak_in(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) << 10
}

fn sparse(path: &Path, size_bytes: u64) {
    File::create(path).and_then(|file| file.set_len(size_bytes)).expect("a sparse file");
}

#[test]
#[ignore = "takes minutes; .ci/run asks for it"]
fn i7_large_objects() {
    let tree = Tree::new();
    let root = tree.at("store");
    let serve = Serve::start(&["--root", root.to_str().expect("UTF-8")]);
    std::fs::create_dir(tree.at("source")).expect("a directory");
    (0..4).for_each(|number| sparse(&tree.at(format!("source/{number}")), 1 << 30));
    within_the_limit("uploading 4 x 1 GiB", Cmd::sync(tree.path(), "source", "s3://memory/").to(&serve.server));
    within_the_limit("downloading 4 x 1 GiB", Cmd::sync(tree.path(), "s3://memory/", "back").from(&serve.server));
}

#[test]
#[ignore = "takes minutes; .ci/run asks for it"]
fn i7_many_small_objects() {
    let tree = Tree::new();
    let serve = Serve::start(&["--memory"]);
    for number in 0..200_000 {
        if number % 1_000 == 0 {
            std::fs::create_dir_all(tree.at(format!("source/{}", number / 1_000))).expect("a directory");
        }
        std::fs::write(tree.at(format!("source/{}/{number}", number / 1_000)), "x").expect("a file");
    }
    let up = || Cmd::sync(tree.path(), "source", "s3://memory/").to(&serve.server);
    within_the_limit("uploading 200,000 objects", up());
    within_the_limit("finding 200,000 objects in place", up());
    let copy = Cmd::sync(tree.path(), "s3://memory/", "s3://copies/").from(&serve.server).to(&serve.server);
    within_the_limit("copying 200,000 objects", copy);
    within_the_limit("downloading 200,000 objects", Cmd::sync(tree.path(), "s3://memory/", "back").from(&serve.server));
}

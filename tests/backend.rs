//! A host that forbids io_uring: the run falls back by itself and says why, or refuses if io_uring was insisted on.
#![cfg(target_os = "linux")]

mod support;

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use support::tree::noise;
use support::{Cmd, Server, Tree};

/// The same number on every architecture.
const IO_URING_SETUP: i64 = 425;

/// `EPERM`, which the default profiles of Docker and containerd answer (reliability.md F13).
const EPERM: u32 = 1;

/// Runs `body` on a thread that may not set up a ring, and whose children may not either.
fn without_io_uring<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    let forbidden = || {
        let arch = TargetArch::try_from(std::env::consts::ARCH).expect("a known architecture");
        let rules = BTreeMap::from([(IO_URING_SETUP, Vec::new())]);
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(EPERM), arch);
        let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
        seccompiler::apply_filter(&program).expect("a thread may restrict itself");
        body()
    };
    std::thread::scope(|scope| scope.spawn(forbidden).join().expect("no panic"))
}

#[test]
fn auto_falls_back_to_threads_and_says_why() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("auto-falls-back");
    tree.file("source/small", "x").file("source/large", noise(7, 20_000_000));
    let (up, down) = (format!("s3://{bucket}/"), format!("s3://{bucket}/"));
    let output = without_io_uring(|| {
        Cmd::sync(tree.path(), "source", &up).to(&server).env("ROPEWAY_IO", "auto").arg("-v").expect(0)
    });
    assert!(output.stderr.contains("io_uring is not used: "), "{}", output.stderr);
    without_io_uring(|| Cmd::sync(tree.path(), &down, "back").from(&server).env("ROPEWAY_IO", "auto").expect(0));
    assert_eq!(tree.contents("source"), tree.contents("back"));
}

#[test]
fn insisting_on_io_uring_is_refused_where_it_is_forbidden() {
    let tree = Tree::new();
    tree.file("source/a", "x");
    let output = without_io_uring(|| Cmd::sync(tree.path(), "source", "target").env("ROPEWAY_IO", "uring").expect(6));
    assert!(output.stderr.contains("io_uring"), "{}", output.stderr);
    assert!(!tree.at("target").exists(), "nothing was changed");
}

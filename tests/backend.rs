//! How files are read and written: a host that forbids io_uring, a build without glommio, and direct I/O on a disk.
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

#[cfg(not(feature = "glommio"))]
#[test]
fn glommio_is_refused_by_a_build_without_it() {
    let tree = Tree::new();
    tree.file("source/a", "x");
    let output = Cmd::sync(tree.path(), "source", "target").env("ROPEWAY_IO", "glommio").expect(6);
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    assert!(output.stderr.contains("build it on Linux with `--features glommio`"), "{}", output.stderr);
    assert!(!tree.at("target").exists(), "nothing was changed");
}

/// Sizes that end within a block, at a block's border and at a part's border, in parts whose borders fall within pages too.
/// The sources are forgotten by the page cache first, so that they are read directly where the disk allows it.
#[test]
fn large_files_are_the_same_past_the_page_cache_and_through_it() {
    const MIB: usize = 1 << 20;
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("direct-io");
    tree.file("source/odd", noise(1, 20 * MIB + 77))
        .file("source/blocks", noise(2, 9 * MIB + 8192))
        .file("source/parts", noise(3, 16 * MIB))
        .file("source/one-buffer", noise(4, 3 * MIB + 1));
    let names = ["odd", "blocks", "parts", "one-buffer"].map(|name| format!("source/{name}"));
    for (number, (way, part_bytes)) in
        [("auto", "8MiB"), ("auto", "6000001"), ("never", "8MiB")].into_iter().enumerate()
    {
        for name in &names {
            let file = std::fs::File::open(tree.at(name)).expect("a file");
            file.sync_all().expect("a disk");
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("a file system");
        }
        let (place, back) = (format!("s3://{bucket}/{number}/"), format!("back-{number}"));
        let cut = ["--direct-io", way, "--multipart-chunksize", part_bytes];
        Cmd::sync(tree.path(), "source", &place).to(&server).args(cut).expect(0);
        Cmd::sync(tree.path(), &place, &back).from(&server).args(cut).expect(0);
        Cmd::sync(tree.path(), &back, &format!("copied-{number}")).args(cut).expect(0);
        assert_eq!(tree.contents("source"), tree.contents(&back), "{way} {part_bytes}");
        assert_eq!(tree.contents("source"), tree.contents(format!("copied-{number}")), "{way} {part_bytes}");
    }
}

//! The example program does what its first lines promise.

use std::process::Command;

#[test]
fn the_example_copies_a_directory_and_reports_every_object() {
    let tree = tempfile::tempdir().expect("a temporary directory");
    std::fs::create_dir(tree.path().join("below")).expect("a directory");
    std::fs::write(tree.path().join("first.txt"), "one").expect("a file");
    std::fs::write(tree.path().join("below/second.txt"), "three").expect("a file");
    let program = example("sync_with_progress");
    let output = Command::new(&program).arg(tree.path()).output().expect("the example was built beside the tests");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    for line in [
        "below/second.txt, 5 bytes, verified by checksum and etag",
        "first.txt, 3 bytes, verified by checksum and etag",
    ] {
        assert!(said.contains(line), "`{line}` is not in\n{said}");
    }
    assert!(said.ends_with("2 objects and 8 bytes copied, 2 of them verified, 0 failed\n"), "{said}");
}

/// `cargo test` builds the examples into a directory beside the tests' own.
fn example(name: &str) -> std::path::PathBuf {
    let tests = std::env::current_exe().expect("the path of this test");
    let profile = tests.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

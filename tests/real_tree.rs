//! A real tree there and back: the sources of this machine's cargo registry, filled up to the size that a home directory
//! has, and one file of 3 GiB. Local, to a bucket, to a second prefix, and back; `diff -r` is the judge, and the second
//! run of each step moves nothing.
//!
//! It takes minutes, so it runs only when asked for, in release mode: `cargo test --release --test real_tree -- --ignored`.

mod support;

use std::fs;
use std::io::{BufWriter, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::tree::noise;
use support::{Cmd, Server, Tree};

/// What the tree must hold at least, and the most that is taken.
const FILES_MIN: usize = 20_000;
const FILES_MAX: usize = 25_000;
const BYTES_MIN: u64 = 500_000_000;

/// Made-up files at least, two rounds of sizes, so that they can make up for missing bytes.
const MADE_MIN: usize = 202;

const BIG_BYTES: u64 = 3 << 30;

#[test]
#[ignore = "takes minutes and 20 GB of disk; .ci/run asks for it"]
fn a_real_tree_goes_there_and_back() {
    let (tree, moto) = (Tree::new(), std::env::var("ROPEWAY_TEST_SERVER").is_ok_and(|name| name == "moto"));
    // moto answers a few hundred requests a second and keeps everything in memory.
    let (files_min, files_max, bytes_min) =
        if moto { (1_000, 1_500, 10 << 20) } else { (FILES_MIN, FILES_MAX, BYTES_MIN) };
    let (files, bytes) = gather(&tree, files_min, files_max, bytes_min);
    if !moto {
        write_big(&tree.at("source/big"));
    }
    let files = files + usize::from(!moto);
    say(&format!("{files} files, {} MB", bytes / 1_000_000 + if moto { 0 } else { BIG_BYTES / 1_000_000 }));
    let step = step_on(&tree);
    let (first, second) = (step.place("first/"), step.place("second/"));
    step.both("source", &first, files);
    step.both(&first, &second, files);
    step.both(&second, "back", files);
    let diff = Command::new("diff").args(["-r", "source", "back"]).current_dir(tree.path()).output().expect("diff");
    let differences = String::from_utf8_lossy(&diff.stdout);
    assert!(diff.status.success(), "{}", differences.lines().take(20).collect::<Vec<_>>().join("\n"));
}

/// Where the steps go: the embedded store in a directory, as a newcomer has it, or a real server.
struct Steps<'a> {
    tree: &'a Tree,
    server: Option<(Server, String)>,
}

fn step_on(tree: &Tree) -> Steps<'_> {
    let server = std::env::var_os("ROPEWAY_TEST_ENDPOINT").map(|_| {
        let server = Server::any();
        let bucket = server.bucket("real-tree");
        (server, bucket)
    });
    Steps { tree, server }
}

impl Steps<'_> {
    fn place(&self, prefix: &str) -> String {
        let bucket = self.server.as_ref().map_or("real-tree", |(_, bucket)| bucket);
        format!("s3://{bucket}/{prefix}")
    }

    /// One step, twice: the first moves all, the second nothing.
    fn both(&self, source: &str, target: &str, files: usize) {
        let first = self.run(source, target);
        assert_eq!(first["transferred_objects"], files, "{source} to {target}: {first}");
        assert_eq!(first["unverified"], 0, "{first}");
        say(&format!("{source} to {target}: {} ms", first["elapsed_ms"]));
        let again = self.run(source, target);
        assert_eq!((&again["transferred_objects"], &again["skipped_objects"]), (&0.into(), &files.into()), "{again}");
        say(&format!("{source} to {target} again: {} ms, {} requests", again["elapsed_ms"], again["requests"]));
    }

    fn run(&self, source: &str, target: &str) -> serde_json::Value {
        let mut run = Cmd::sync(self.tree.path(), source, target).args(["--json", "--report", "report"]);
        for (place, side) in [(source, "source"), (target, "target")] {
            if place.starts_with("s3://") {
                run = match &self.server {
                    None => run.args([format!("--{side}-endpoint-url"), "embedded:store".to_owned()]),
                    Some((server, _)) if side == "source" => run.from(server),
                    Some((server, _)) => run.to(server),
                };
            }
        }
        run.expect(0).summary()
    }
}

/// Links the registry's crates into `source/`, and adds made-up files until there are enough.
fn gather(tree: &Tree, files_min: usize, files_max: usize, bytes_min: u64) -> (usize, u64) {
    fs::create_dir(tree.at("source")).expect("a directory");
    let (mut files, mut bytes) = (0, 0);
    for krate in registry_crates() {
        let (more_files, more_bytes) = measure(&krate);
        // A crate that holds a link which leads nowhere is a matter for tests/cli_keys.rs.
        if more_files > 0 && files + more_files + MADE_MIN <= files_max {
            symlink(&krate, tree.at("source").join(krate.file_name().expect("a name"))).expect("a link");
            files += more_files;
            bytes += more_bytes;
        }
    }
    say(&format!("{files} files, {} MB from the cargo registry", bytes / 1_000_000));
    let missing_files = files_min.saturating_sub(files).max(MADE_MIN);
    let each = (bytes_min.saturating_sub(bytes) / missing_files.max(1) as u64).max(1_000);
    for number in 0..missing_files {
        // From nothing to twice the mean and a little, so that the mean comes out wherever the round ends.
        let size = each * 22 / 10 * (number as u64 % 101) / 100 + 200;
        tree.file(
            format!("source/made up/{}/{}/{number}.bin", number % 13, number % 97),
            noise(number as u64, size as usize),
        );
        bytes += size;
    }
    assert!(files + missing_files >= files_min && bytes >= bytes_min, "{files} + {missing_files} files, {bytes} bytes");
    (files + missing_files, bytes)
}

fn registry_crates() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cargo = std::env::var_os("CARGO_HOME").map_or(home.join(".cargo"), PathBuf::from);
    let registries = fs::read_dir(cargo.join("registry/src")).into_iter().flatten().flatten();
    let crates = registries.flat_map(|registry| fs::read_dir(registry.path()).into_iter().flatten().flatten());
    let mut crates: Vec<_> = crates.map(|krate| krate.path()).filter(|path| path.is_dir()).collect();
    crates.sort();
    crates
}

/// Files and bytes of a tree; no files if it holds anything but files and directories.
fn measure(directory: &Path) -> (usize, u64) {
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let facts = entry.metadata().expect("an entry");
        if facts.is_dir() {
            let (more_files, more_bytes) = measure(&entry.path());
            (files, bytes) = (files + more_files, bytes + more_bytes);
        } else if facts.is_file() {
            (files, bytes) = (files + 1, bytes + facts.len());
        } else {
            return (0, 0);
        }
    }
    (files, bytes)
}

fn write_big(path: &Path) {
    let mut file = BufWriter::new(fs::File::create(path).expect("a file"));
    for mib in 0..BIG_BYTES >> 20 {
        file.write_all(&noise(mib, 1 << 20)).expect("3 GiB of room");
    }
    file.flush().expect("3 GiB of room");
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

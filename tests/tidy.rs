//! The rules of the house that no compiler checks: which module may see which, what every file begins with, what never
//! stays in the code, and that every dependency says why it is here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What each top-level module of `src/` may name of the others. An arrow that is not here points up or sideways.
const ARROWS: &[(&str, &[&str])] = &[
    ("lib", MODULES),
    ("main", &["cli"]),
    (
        "cli",
        &["client", "engine", "entry", "error", "journal", "report", "serve", "settings", "transfer", "io", "s3proto"],
    ),
    (
        "engine",
        &[
            "client", "entry", "error", "journal", "listing", "plan", "report", "serve", "settings", "transfer", "io",
            "s3proto",
        ],
    ),
    ("listing", &["client", "entry", "io", "s3proto"]),
    ("plan", &["entry", "settings", "s3proto"]),
    ("transfer", &["client", "entry", "io", "journal", "s3proto"]),
    ("journal", &["entry", "io", "s3proto"]),
    ("client", &["io", "s3proto"]),
    ("entry", &["s3proto"]),
    ("settings", &["client", "io", "s3proto"]),
    ("report", &["settings"]),
    ("error", &[]),
    ("serve", &[]),
];

const MODULES: &[&str] = &[
    "cli", "client", "engine", "entry", "error", "journal", "listing", "plan", "report", "serve", "settings",
    "transfer",
];

#[test]
fn no_arrow_points_up() {
    let mut wrong = Vec::new();
    for file in rust_files("src") {
        let module = top_module(&file);
        let (_, allowed) = ARROWS.iter().find(|(name, _)| *name == module).unwrap_or_else(|| {
            panic!("`{module}` is not in the module map: add it to STYLE's map, to src/lib.rs and to ARROWS")
        });
        for seen in modules_named(&read(&file), depth(&file)) {
            if seen != module && !allowed.contains(&seen.as_str()) {
                wrong.push(format!("{}: `{module}` must not see `{seen}`", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_two_packages_never_see_each_other_and_keep_to_their_trade() {
    let mut wrong = Vec::new();
    let mut check = |directory: &str, forbidden: &[&str], why: &str| {
        for file in rust_files(directory) {
            let code = without_tests(&without_comments(&read(&file)));
            for word in forbidden.iter().filter(|word| code.contains(**word)) {
                wrong.push(format!("{}: `{word}`: {why}", file.display()));
            }
        }
    };
    check("io/src", &["ropeway_s3proto", "hyper", "http::"], "io is the machine, not S3 and not HTTP");
    let outside = [
        "ropeway_io",
        "tokio",
        "std::fs",
        "TcpStream",
        "UdpSocket",
        "std::thread",
        "std::env",
        "SystemTime::now",
        "Instant::now",
        "fastrand",
    ];
    check("s3proto/src", &outside, "s3proto has no socket, file, clock, thread or random number");
    check("src/plan", &["tokio", "std::fs", "std::net", "async fn"], "plan does no I/O, and so cannot fail");
    check("src/serve", &["ropeway_io", "ropeway_s3proto"], "the embedded server shares no line with the client");
    for (manifest, other) in [("io/Cargo.toml", "ropeway-s3proto"), ("s3proto/Cargo.toml", "ropeway-io")] {
        if read(Path::new(manifest)).contains(other) {
            wrong.push(format!("{manifest} depends on {other}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    let silent: Vec<_> = all_rust_files().into_iter().filter(|file| !read(file).starts_with("//! ")).collect();
    assert!(silent.is_empty(), "no opening paragraph in {silent:?}");
}

#[test]
fn nothing_unfinished_stays() {
    let words =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("db", "g!("), concat!("to", "do!("), "unimplemented!("];
    let mut found = Vec::new();
    for file in all_rust_files().into_iter().filter(|file| !file.ends_with("tests/tidy.rs")) {
        for (number, line) in read(&file).lines().enumerate() {
            found.extend(words.iter().filter(|word| line.contains(**word)).map(|word| {
                let line = number + 1;
                format!("{}:{line}: {word}", file.display())
            }));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn unsafe_code_is_in_io_alone() {
    for root in ["src/lib.rs", "s3proto/src/lib.rs"] {
        assert!(read(Path::new(root)).contains("#![forbid(unsafe_code)]"), "{root}");
    }
    let uses = |file: &Path| {
        let code = without_comments(&read(file));
        ["unsafe {", "unsafe fn", "unsafe impl"].iter().any(|word| code.contains(word))
    };
    let outside: Vec<_> = all_rust_files()
        .into_iter()
        .filter(|file| !file.starts_with("io/src") && !file.ends_with("tests/tidy.rs") && uses(file))
        .collect();
    assert!(outside.is_empty(), "{outside:?}");
}

#[test]
fn every_dependency_says_why_it_is_here() {
    let mut silent = Vec::new();
    for manifest in ["Cargo.toml", "io/Cargo.toml", "s3proto/Cargo.toml"] {
        silent.extend(unexplained(&read(Path::new(manifest))).into_iter().map(|line| format!("{manifest}: {line}")));
    }
    assert!(silent.is_empty(), "no reason on the line above:\n{}", silent.join("\n"));
}

/// Dependencies without a comment above them. One that is inherited from the workspace, or lives in it, has its there.
fn unexplained(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut in_dependencies, mut before) = (false, "");
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.trim_end_matches(']').ends_with("dependencies");
        } else if in_dependencies
            && line.contains('=')
            && !line.starts_with('#')
            && !(line.contains("workspace = true") || line.contains("path = "))
            && !before.starts_with("# ")
        {
            found.push(line.to_owned());
        }
        before = line;
    }
    found
}

/// The modules and packages of ours that a file names, by `crate::`, `ropeway::`, `super::` or a package's name.
fn modules_named(text: &str, depth: usize) -> BTreeSet<String> {
    let code = without_comments(text);
    let mut named = BTreeSet::new();
    for (package, name) in [("ropeway_io", "io"), ("ropeway_s3proto", "s3proto")] {
        if code.contains(package) {
            named.insert(name.to_owned());
        }
    }
    let to_the_root = "super::".repeat(depth);
    for root in ["crate::", "ropeway::", to_the_root.as_str()] {
        for (at, _) in code.match_indices(root) {
            // Not the end of a longer word, nor of a longer chain of `super`.
            let longer = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            if !longer {
                named.extend(first_names(&code[at + root.len()..]));
            }
        }
    }
    named.retain(|name| MODULES.contains(&name.as_str()) || name == "io" || name == "s3proto");
    named
}

/// `a` of `a::b`, and `a` and `b` of `{a::{x, y}, b}`.
fn first_names(text: &str) -> Vec<String> {
    let name = |text: &str| {
        let text = text.trim_start();
        text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())].to_owned()
    };
    let Some(group) = text.strip_prefix('{') else { return vec![name(text)] };
    let (mut names, mut open, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => open += 1,
            '}' if open > 0 => open -= 1,
            ',' | '}' if open == 0 => {
                names.push(name(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

#[test]
fn an_arrow_is_seen_however_it_is_written() {
    let seen = |text: &str, depth| modules_named(text, depth).into_iter().collect::<Vec<_>>();
    assert_eq!(seen("use crate::client::Client;", 1), ["client"]);
    assert_eq!(seen("use crate::{plan::{compare, merge}, entry::Entry,\n    report};", 1), ["entry", "plan", "report"]);
    assert_eq!(seen("fn f() -> crate::cli::X { ropeway_io::x() }", 1), ["cli", "io"]);
    assert_eq!(seen("use super::super::plan;", 2), ["plan"]);
    assert_eq!(seen("use super::plan;", 2), [""; 0], "a child of the same module");
    assert_eq!(seen("// crate::cli\n/// [`crate::plan`]", 1), [""; 0]);
    assert_eq!(seen("use tokio::client; mod plan;", 1), [""; 0]);
    assert_eq!(
        unexplained("[dependencies]\n# Why.\na = \"1\"\nb = \"1\"\nc.workspace = true\n[lints]\nd = 1"),
        ["b = \"1\""]
    );
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

/// Tests may look at a clock or open a file; they stand at the end of their file.
fn without_tests(text: &str) -> String {
    text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned()
}

fn top_module(file: &Path) -> String {
    let first = file.components().nth(1).expect("a file below src").as_os_str().to_str().expect("UTF-8");
    first.trim_end_matches(".rs").to_owned()
}

/// How many `super::` lead from a file of `src/` to the crate's root.
fn depth(file: &Path) -> usize {
    let below = file.components().count() - 1;
    if file.ends_with("mod.rs") { below - 1 } else { below }
}

fn all_rust_files() -> Vec<PathBuf> {
    let directories = ["src", "io/src", "s3proto/src", "tests", "benches", "perf", "examples"];
    directories.into_iter().flat_map(rust_files).collect()
}

fn rust_files(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::from(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

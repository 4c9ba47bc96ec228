//! Names that are easy to get wrong: odd keys in every direction, keys that no file can have, names that no key can be, and
//! keys made to write outside the target.

mod support;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use support::cmd::Output;
use support::{Cmd, Server, Tree};

/// Keys that are good file names as well.
const ODD: &[&str] = &[
    "a b",
    "a+b",
    "100%",
    "%41",
    "%2F",
    "a&b",
    "a<b>c",
    "it's",
    "say \"hi\"",
    "a#b",
    "a?b=c",
    "a=b;c:d@e",
    "ünïcödé/日本語",
    "🪣/🚠",
    "e\u{301}",
    "\u{e9}",
    "a-b",
    "a.b",
    "a/b",
    "a0",
    "tab\there",
    "back\\slash",
    "*~!()$,|^`{}[]",
    ".hidden",
    "..two",
    "...",
    " leading and trailing ",
    "\u{feff}bom",
];

/// Keys that no file below the target can have: they pass from bucket to bucket, and to a directory each fails by name.
const NOT_FILES: &[&str] = &["../up", "x/../../up", "..", "x/..", "./here", "x/./y", "double//slash", "//two"];

fn failures(output: &Output) -> BTreeMap<String, String> {
    let events = output.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    events.filter(|event| event["event"] == "failed").map(|e| (text(&e["key"]), text(&e["error"]))).collect()
}

fn relative(tree: &Tree, directory: &str) -> BTreeMap<String, Vec<u8>> {
    let contents = tree.contents(directory).into_iter();
    contents.map(|(path, content)| (path.to_str().expect("UTF-8").to_owned(), content)).collect()
}

#[test]
fn odd_keys_pass_in_every_direction() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("odd");
    for key in ODD {
        tree.file(format!("source/{key}"), key);
    }
    let url = |prefix: &str| format!("s3://{bucket}/{prefix}");
    // The prefix is as odd as the keys.
    let odd = "p +%/";
    let up = || Cmd::sync(tree.path(), "source", &url(odd)).to(&server).arg("--json");
    assert_eq!(up().expect(0).count("transferred_objects"), ODD.len() as u64);
    assert_eq!(server.objects(&bucket, odd), relative(&tree, "source"));
    let across = || Cmd::sync(tree.path(), &url(odd), &url("b/")).from(&server).to(&server).arg("--json");
    assert_eq!(across().expect(0).count("transferred_objects"), ODD.len() as u64);
    let down = || Cmd::sync(tree.path(), &url("b/"), "down").from(&server).arg("--json");
    assert_eq!(down().expect(0).count("transferred_objects"), ODD.len() as u64);
    assert_eq!(tree.contents("source"), tree.contents("down"));
    for again in [up(), across(), down()] {
        let again = again.expect(0);
        assert_eq!((again.count("transferred_objects"), again.count("skipped_objects")), (0, ODD.len() as u64));
    }
}

#[test]
fn keys_that_no_file_can_have_still_pass_between_buckets() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("not-files");
    let keys = || NOT_FILES.iter().chain(&["/one", "trailing/", "ctrl\u{1}\u{1f}", "cr\rhere"]);
    keys().for_each(|key| server.put(&bucket, &format!("a/{key}"), key));
    let url = |prefix: &str| format!("s3://{bucket}/{prefix}");
    let run = || Cmd::sync(tree.path(), &url("a/"), &url("b/")).from(&server).to(&server).arg("--json");
    assert_eq!(run().expect(0).count("transferred_objects"), keys().count() as u64);
    assert_eq!(server.objects(&bucket, "b/"), keys().map(|key| ((*key).to_owned(), key.as_bytes().to_vec())).collect());
    assert_eq!(run().expect(0).count("transferred_objects"), 0);
}

#[test]
fn i9_no_key_writes_outside_the_target() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("hostile");
    let absolute = tree.at("absolute").to_str().unwrap().to_owned();
    let hostile = [NOT_FILES, &[absolute.as_str(), "link/through", "deep/link/through"]].concat();
    hostile.iter().for_each(|key| server.put(&bucket, key, "evil"));
    server.put(&bucket, "good", "good");
    // Links at the target that lead out of it, to a directory and to a file.
    tree.file("outside/kept", "kept").file("target/deep/x", "x");
    symlink(tree.at("outside"), tree.at("target/link")).unwrap();
    symlink("../../outside", tree.at("target/deep/link")).unwrap();
    let run = Cmd::sync(tree.path(), &format!("s3://{bucket}/"), "target").from(&server).arg("--json").expect(1);
    assert_eq!(relative(&tree, "outside"), BTreeMap::from([("kept".to_owned(), b"kept".to_vec())]));
    assert!(!tree.at("absolute").exists() && !tree.at("up").exists());
    let mut top = std::fs::read_dir(tree.path()).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    top.sort();
    assert_eq!(top, ["outside", "target"]);
    let failed = failures(&run);
    for key in &hostile {
        assert!(failed.contains_key(*key), "`{key}` was not reported");
    }
    assert_eq!(std::fs::read(tree.at("target/good")).unwrap(), b"good", "one bad key does not stop the rest");
}

#[test]
fn i9_a_link_in_the_place_of_a_file_is_replaced_and_not_followed() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("link");
    server.put(&bucket, "name", "new content");
    tree.file("outside", "kept").file("target/other", "");
    symlink(tree.at("outside"), tree.at("target/name")).unwrap();
    Cmd::sync(tree.path(), &format!("s3://{bucket}/"), "target").from(&server).expect(0);
    assert_eq!(std::fs::read(tree.at("outside")).unwrap(), b"kept");
    assert_eq!(std::fs::read(tree.at("target/name")).unwrap(), b"new content");
}

#[test]
fn i10_a_file_and_a_directory_of_one_name() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("clash");
    for key in ["a", "a/b", "c", "d/e"] {
        server.put(&bucket, key, key);
    }
    let run = Cmd::sync(tree.path(), &format!("s3://{bucket}/"), "target").from(&server).arg("--json").expect(1);
    let failed = failures(&run);
    assert_eq!(failed.len(), 1, "{failed:?}");
    let (key, error) = failed.first_key_value().unwrap();
    assert!(key == "a" || key == "a/b", "{key}");
    assert!(error.contains("in the place of"), "{error}");
    assert_eq!(run.count("transferred_objects"), 3);
    let got = relative(&tree, "target");
    assert_eq!((got["c"].as_slice(), got["d/e"].as_slice()), (&b"c"[..], &b"d/e"[..]));
    assert_eq!(got.get("a").map(Vec::len).or(got.get("a/b").map(|_| 1)), Some(1));
}

#[test]
fn two_keys_never_meet_in_one_file() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("meet");
    server.put(&bucket, "/same", "with a slash");
    server.put(&bucket, "same", "without");
    let run = || Cmd::sync(tree.path(), &format!("s3://{bucket}/"), "target").from(&server).arg("--json").expect(1);
    for output in [run(), run()] {
        assert_eq!(failures(&output).into_keys().collect::<Vec<_>>(), ["/same"]);
        assert_eq!(relative(&tree, "target"), BTreeMap::from([("same".to_owned(), b"without".to_vec())]));
    }
}

#[test]
fn directory_markers_become_directories() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("markers");
    server.put(&bucket, "empty/", "");
    server.put(&bucket, "full/", "");
    server.put(&bucket, "full/file", "f");
    server.put(&bucket, "content/", "a directory holds no content");
    let run = || Cmd::sync(tree.path(), &format!("s3://{bucket}/"), "target").from(&server).arg("--json").expect(1);
    let first = run();
    assert_eq!(failures(&first).into_keys().collect::<Vec<_>>(), ["content/"]);
    assert_eq!(tree.names("target"), ["empty", "full", "full/file"].map(PathBuf::from));
    let second = run();
    assert_eq!((second.count("transferred_objects"), second.count("failed_objects")), (0, 1));
}

#[test]
fn i10_names_that_are_too_long_fail_alone() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("long");
    let (longest, too_long) = ("n".repeat(255), "m".repeat(256));
    server.put(&bucket, &format!("d/{longest}"), "fits");
    server.put(&bucket, &format!("d/{too_long}"), "does not");
    let down = Cmd::sync(tree.path(), &format!("s3://{bucket}/d/"), "target").from(&server).arg("--json").expect(1);
    let failed = failures(&down);
    assert!(failed[&too_long].contains("too long"), "{failed:?}");
    assert_eq!(relative(&tree, "target"), BTreeMap::from([(longest, b"fits".to_vec())]));
    // A key has room for 1,024 bytes, a path for more.
    let deep = vec!["d".repeat(250); 5].join("/");
    tree.file(format!("source/{deep}"), "too deep").file("source/good", "good");
    let up = Cmd::sync(tree.path(), "source", &format!("s3://{bucket}/up/")).to(&server).arg("--json").expect(1);
    let failed = failures(&up);
    assert!(failed[&deep].contains("1024") || failed[&deep].contains("1,024"), "{failed:?}");
    assert_eq!(server.keys(&bucket, "up/"), ["up/good"]);
}

#[test]
fn i10_what_cannot_be_read_fails_by_name_and_the_rest_goes_on() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("unreadable");
    tree.file("source/good", "good").file("source/z/last", "last");
    std::fs::write(tree.at("source").join(OsStr::from_bytes(b"not\xffutf8")), "x").unwrap();
    symlink("nowhere", tree.at("source/dangling")).unwrap();
    symlink("..", tree.at("source/z/loop")).unwrap();
    symlink("itself", tree.at("source/itself")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(tree.at("source/pipe")).status().expect("coreutils");
    assert!(fifo.success());
    let run = Cmd::sync(tree.path(), "source", &format!("s3://{bucket}/")).to(&server).arg("--json").expect(1);
    let failed = failures(&run);
    assert!(failed["dangling"].contains("leads nowhere"), "{failed:?}");
    assert!(failed["z/loop/"].contains("leads back"), "{failed:?}");
    assert!(failed.iter().any(|(key, error)| key.starts_with("not") && error.contains("not UTF-8")), "{failed:?}");
    assert!(failed.contains_key("itself"), "{failed:?}");
    assert_eq!((failed.len(), run.count("failed_objects"), run.count("warnings")), (4, 4, 1));
    assert!(run.stdout.contains("\"event\":\"warned\",\"key\":\"pipe\""), "{}", run.stdout);
    assert_eq!(server.keys(&bucket, ""), ["good", "z/last"]);
}

#[test]
fn links_are_followed() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("links");
    tree.file("elsewhere/f", "far").file("source/near", "near");
    symlink("near", tree.at("source/alias")).unwrap();
    symlink(tree.at("elsewhere"), tree.at("source/directory")).unwrap();
    let run = || Cmd::sync(tree.path(), "source", &format!("s3://{bucket}/")).to(&server).arg("--json").expect(0);
    assert_eq!(run().count("transferred_objects"), 3);
    let expected = [("alias", "near"), ("directory/f", "far"), ("near", "near")];
    assert_eq!(server.objects(&bucket, ""), expected.map(|(k, v)| (k.to_owned(), v.into())).into());
    assert_eq!(run().count("transferred_objects"), 0);
}

#[test]
fn no_key_steers_the_terminal() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("terminal");
    server.put(&bucket, "\u{1b}[31mred\r", "x");
    let source = format!("s3://{bucket}/");
    for arguments in [&["--dry-run"][..], &["-v"], &["-vvv"], &["--json"]] {
        let run = Cmd::sync(tree.path(), &source, "target").from(&server).args(arguments).expect(0);
        let said = run.stdout + &run.stderr;
        assert!(!said.contains(['\u{1b}', '\r']), "{arguments:?}: {said:?}");
        assert!(said.contains("red"), "{arguments:?}: {said:?}");
    }
}

//! `ropeway plan` and `ropeway sync --from-plan`: what is planned is what is done, and nothing that changed since.

mod support;

use support::cmd::Output;
use support::model::Object;
use support::scripted::Scripted;
use support::tree::noise;
use support::{Cmd, Server, Tree};

#[track_caller]
fn assert_says(output: &Output, words: &str) {
    assert!(output.stderr.contains(words), "`{words}` is not in:\n{}\n{}", output.stderr, output.stdout);
}

fn plan(tree: &Tree, source: &str, target: &str) -> Cmd {
    Cmd::new(tree.path(), ["plan", source, target, "--output", "the.plan"])
}

fn execute(tree: &Tree, source: &str, target: &str) -> Cmd {
    Cmd::sync(tree.path(), source, target).args(["--from-plan", "the.plan", "--json"])
}

fn lines(tree: &Tree) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(tree.at("the.plan")).expect("the plan");
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

/// A bucket with one object that is the same, one that is old, and one too many; and what is to be there instead.
fn arrange() -> (Server, Tree, String) {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("planned");
    tree.file("old/same", "same").file("old/changed", "old").file("old/extra", "extra");
    Cmd::sync(tree.path(), "old", &format!("s3://{bucket}/p/")).to(&server).expect(0);
    tree.file("source/same", "same").set_modified("source/same", 1_500_000_000_000_000_000);
    tree.file("source/changed", "changed").file("source/d/new", noise(1, 12 << 20));
    (server, tree, bucket)
}

#[test]
fn a_plan_that_is_carried_out_comes_to_what_a_sync_does() {
    let (server, tree, bucket) = arrange();
    let place = format!("s3://{bucket}/p/");
    plan(&tree, "source", &place).to(&server).arg("--delete").expect(0);
    assert_eq!(server.keys(&bucket, ""), ["p/changed", "p/extra", "p/same"], "nothing is changed");
    let lines = lines(&tree);
    let kinds: Vec<_> = lines.iter().map(|line| line["plan"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds[4], kinds.len()), ("header", "totals", 5));
    assert_eq!((&lines[4]["copies"], &lines[4]["deletes"]), (&2.into(), &1.into()));
    let changed = lines.iter().find(|line| line["key"] == "changed").unwrap();
    assert_eq!((&changed["plan"], &changed["reason"]), (&"copy".into(), &"size".into()));
    assert_eq!((&changed["source"]["size_bytes"], &changed["target"]["size_bytes"]), (&7.into(), &3.into()));
    assert!(changed["source"]["modified_ns"].is_i64() && changed["target"]["etag"].is_string());
    let output = execute(&tree, "source", &place).to(&server).expect(0);
    assert_eq!(["transferred_objects", "deleted_objects"].map(|name| output.count(name)), [2, 1]);
    assert_eq!(server.keys(&bucket, ""), ["p/changed", "p/d/new", "p/same"]);
    let again = Cmd::sync(tree.path(), "source", &place).to(&server).args(["--delete", "--json"]).expect(0);
    assert_eq!(["transferred_objects", "planned_deletes"].map(|name| again.count(name)), [0, 0]);
    // And back, into a directory that has one file too many.
    tree.file("back/extra", "extra").file("back/changed", "other");
    plan(&tree, &place, "back").from(&server).arg("--delete").expect(0);
    let output = execute(&tree, &place, "back").from(&server).expect(0);
    assert_eq!(["transferred_objects", "deleted_objects"].map(|name| output.count(name)), [3, 1]);
    assert_eq!(tree.contents("back"), tree.contents("source"));
}

#[test]
fn what_changed_since_is_refused_and_the_rest_is_done() {
    let (server, tree, bucket) = arrange();
    let place = format!("s3://{bucket}/p/");
    tree.file("source/gone", "gone").file("source/fine", "fine").file("source/overtaken", "1");
    plan(&tree, "source", &place).to(&server).arg("--delete").expect(0);
    tree.file("source/d/new", "newer").file("source/unplanned", "u");
    std::fs::remove_file(tree.at("source/gone")).unwrap();
    server.put(&bucket, "p/changed", "by somebody else");
    server.put(&bucket, "p/overtaken", "by somebody else");
    let output = execute(&tree, "source", &place).to(&server).expect(1);
    for (key, how) in [
        ("d/new", "the source has another version"),
        ("gone", "the source does not have it any more"),
        ("changed", "the target has another version"),
        ("overtaken", "the target has it by now"),
    ] {
        assert_says(&output, &format!("failed: `{key}`: it changed since the plan was made: {how}"));
    }
    assert_eq!(["transferred_objects", "failed_objects", "deleted_objects"].map(|name| output.count(name)), [1, 4, 0]);
    assert_says(&output, "nothing was deleted from the target, since 4 objects failed");
    assert_eq!(server.get(&bucket, "p/changed").unwrap(), b"by somebody else");
    assert!(server.get(&bucket, "p/unplanned").is_none());
}

#[test]
fn a_plan_that_is_not_whole_or_for_other_places_is_refused() {
    let tree = Tree::new();
    tree.file("source/a", "a").file("source/b", "b").file("other/a", "a");
    plan(&tree, "source", "target").expect(0);
    let whole = std::fs::read_to_string(tree.at("the.plan")).unwrap();
    let all: Vec<&str> = whole.lines().collect();
    let refused = |text: String, words: &str| {
        tree.file("the.plan", text);
        assert_says(&execute(&tree, "source", "target").expect(2), words);
        assert!(!tree.at("target").exists(), "nothing is begun");
    };
    refused(all[..3].join("\n"), "is incomplete");
    refused([all[0], all[1], all[3]].join("\n"), "does not hold what its last line counts");
    refused(all[1..].join("\n"), "its first line is no header");
    refused(String::new(), "its first line is no header");
    refused(whole.replace("\"version\":1", "\"version\":2"), "has version 2");
    refused(whole[..whole.len() / 2].to_owned(), "line");
    tree.file("the.plan", &whole);
    assert_says(&execute(&tree, "other", "target").expect(2), "is for the source");
    assert_says(&execute(&tree, "source", "elsewhere").expect(2), "is for the target");
    std::fs::remove_file(tree.at("the.plan")).unwrap();
    assert_says(&execute(&tree, "source", "target").expect(2), "cannot be read");
    assert!(!tree.at("target").exists() && !tree.at("elsewhere").exists());
    tree.file("the.plan", &whole);
    assert_eq!(execute(&tree, "./source", "target").expect(0).count("transferred_objects"), 2);
}

#[test]
fn a_plan_goes_to_stdout_unless_a_file_is_named() {
    let tree = Tree::new();
    tree.file("source/a", "a");
    let output = Cmd::new(tree.path(), ["plan", "source", "target"]).expect(0);
    assert_eq!(output.stdout.lines().count(), 3, "{}", output.stdout);
    assert!(!tree.at("target").exists());
}

fn holding(keys: &[&str]) -> Scripted {
    let server = Scripted::start();
    for key in keys {
        server.model().objects.insert((*key).to_owned(), Object::new(*key));
    }
    server
}

#[test]
fn i4_deletes_of_a_plan_are_looked_up_on_both_sides_and_counted() {
    let (source, target, tree) = (holding(&["a"]), holding(&["a", "back", "gone", "replaced"]), Tree::new());
    let sides = |run: Cmd| run.from(&source.server).to(&target.server);
    let (one, two) = ("s3://one/", "s3://two/");
    assert_says(
        &sides(plan(&tree, one, two)).args(["--delete", "--max-delete", "2"]).expect(5),
        "--max-delete allows 2",
    );
    assert_eq!(lines(&tree).len(), 2, "no delete is planned that is not allowed");
    sides(plan(&tree, one, two)).arg("--delete").expect(0);
    let output = sides(execute(&tree, one, two)).args(["--max-delete", "50%"]).expect(5);
    assert_says(&output, "3 objects would be, of 4, and --max-delete allows 50%");
    assert_eq!(target.deletes().len(), 0);
    source.model().objects.insert("back".to_owned(), Object::new("back"));
    target.model().objects.insert("replaced".to_owned(), Object::new("REPLACED"));
    let output = sides(execute(&tree, one, two)).expect(3);
    assert_says(&output, "`back`: not deleted from the target: the source has it by now");
    assert_says(&output, "`replaced`: not deleted from the target: it was replaced");
    assert_eq!(output.count("deleted_objects"), 1);
    assert_eq!(target.model().objects.keys().collect::<Vec<_>>(), ["a", "back", "replaced"]);
}

#[test]
fn i9_a_plan_cannot_delete_outside_the_target() {
    let tree = Tree::new();
    tree.file("source/a", "a").file("target/a", "a").file("target/extra", "x").file("outside", "x");
    plan(&tree, "source", "target").arg("--delete").expect(0);
    let text = std::fs::read_to_string(tree.at("the.plan")).unwrap();
    tree.file("the.plan", text.replace("\"extra\"", "\"../outside\""));
    let output = execute(&tree, "source", "target").expect(1);
    assert_says(&output, "`../outside`: deleting it from the target failed");
    assert!(tree.at("outside").exists() && tree.at("target/extra").exists());
}

#[test]
fn a_plan_to_move_deletes_what_it_copied() {
    let (source, target, tree) = (holding(&["a", "b"]), holding(&["a"]), Tree::new());
    let sides = |run: Cmd| run.from(&source.server).to(&target.server);
    sides(plan(&tree, "s3://one/", "s3://two/")).arg("--delete-source").expect(0);
    assert_eq!(lines(&tree).len(), 3);
    assert_eq!(sides(execute(&tree, "s3://one/", "s3://two/")).expect(0).count("deleted_objects"), 1);
    assert_eq!(source.model().objects.keys().collect::<Vec<_>>(), ["a"]);
}

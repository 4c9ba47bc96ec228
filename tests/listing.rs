//! Listings as services really give them: large ones, which are listed in many ranges at a time and still shown whole, and
//! ones that are not in the order that S3 promises (reliability.md K17, K19, K22).

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ropeway::serve::{ServeSettings, Storage};
use support::cmd::Output;
use support::model::{Object, list_document};
use support::scripted::{Answer, Exchange, Scripted};
use support::tree::seed;
use support::{Cmd, Server, Tree};

const SHAPES: [&str; 5] = ["flat", "tree", "hash", "date", "hot"];

/// A server whose buckets all seem to hold `count` keys. It answers a moment late, so that ranges are cut before they end.
fn made_up(shape: &str, count: usize) -> Server {
    let mut settings = ServeSettings::new(Storage::Memory);
    settings.latency = Duration::from_millis(5);
    settings.synthetic = Some(format!("{shape}:{count}").parse().expect("a shape and a count"));
    Server::with(settings)
}

fn between(server: &Server, tree: &Tree, source: &str, target: &str) -> Cmd {
    Cmd::sync(tree.path(), source, target).from(server).to(server).arg("--json")
}

/// Rows of the source and of the target in each range that was listed.
fn ranges(output: &Output) -> Vec<[u64; 2]> {
    let rows = |line: &str, name: &str| {
        let digits = line.split(&format!("{name}=")).nth(1).expect("it is said").split(' ').next().expect("a word");
        digits.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number")
    };
    let listed = output.stderr.lines().filter(|line| line.contains("listed a range"));
    listed.map(|line| [rows(line, "source_rows"), rows(line, "target_rows")]).collect()
}

#[test]
fn every_shape_of_keys_is_compared_whole_by_many_listers() {
    for shape in SHAPES {
        let (server, tree) = (made_up(shape, 20_000), Tree::new());
        let run = between(&server, &tree, "s3://left/", "s3://right/").args(["--list-threads", "12"]);
        let output = run.env("ROPEWAY_LOG", "ropeway::engine::range=debug").env("NO_COLOR", "1").expect(0);
        let counts = ["source_listed", "target_listed", "skipped_objects", "planned_objects"];
        assert_eq!(counts.map(|name| output.count(name)), [20_000, 20_000, 20_000, 0], "{shape}");
        let ranges = ranges(&output);
        assert!(ranges.len() > 2, "{shape}: {} ranges", ranges.len());
    }
}

#[test]
fn every_object_is_planned_once_whoever_lists_it() {
    for shape in SHAPES {
        let (server, tree) = (made_up(shape, 20_000), Tree::new());
        let run = between(&server, &tree, "s3://left/", "s3://empty/").args(["--dry-run", "--list-threads", "12"]);
        let output = run.expect(0);
        assert_eq!(planned(&output).len(), 20_000, "{shape}");
        assert_eq!(output.count("source_listed"), 20_000);
    }
}

#[test]
fn a_target_larger_than_its_source_is_shared_out_too() {
    let (server, tree) = (made_up("flat", 20_000), Tree::new());
    tree.file("source/a", "x");
    for source in ["s3://empty/", "source"] {
        let run = Cmd::sync(tree.path(), source, "s3://right/").to(&server).args(["--dry-run", "--json"]);
        let run = if source == "source" { run } else { run.from(&server) };
        // That there is nothing at all under the source is a warning.
        let code = if source == "source" { 0 } else { 3 };
        let output = run.env("ROPEWAY_LOG", "ropeway::engine::range=debug").expect(code);
        assert_eq!(output.count("target_listed"), 20_000);
        assert!(ranges(&output).len() > 2, "{source}: {} ranges", ranges(&output).len());
    }
}

#[test]
fn one_range_at_a_time_is_one_range() {
    let (server, tree) = (made_up("tree", 5_000), Tree::new());
    for flag in ["--list-threads", "--max-parallel-listings"] {
        let run = between(&server, &tree, "s3://left/", "s3://right/").args([flag, "1"]);
        let output = run.env("ROPEWAY_LOG", "ropeway::engine::range=debug").expect(0);
        assert_eq!(ranges(&output), [[5_000, 5_000]]);
    }
    let run = between(&server, &tree, "s3://left/", "s3://right/").env("ROPEWAY_LIST_THREADS", "1");
    assert_eq!(ranges(&run.env("ROPEWAY_LOG", "ropeway::engine::range=debug").expect(0)).len(), 1);
}

#[test]
fn a_tree_is_shared_out_and_whole() {
    let (server, tree) = (made_up("flat", 1), Tree::new());
    for number in 0..3_000 {
        tree.file(format!("source/{}/{}/{number}", number % 7, number % 31), "");
    }
    tree.file("source/alone", "");
    let run = Cmd::sync(tree.path(), "source", "s3://empty/").to(&server).args(["--dry-run", "--json"]);
    let output = run.env("ROPEWAY_LOG", "ropeway::engine::range=debug").expect(0);
    assert_eq!(planned(&output).len(), 3_001);
    assert!(ranges(&output).len() > 2);
}

/// The keys that a dry run would copy. None comes twice.
#[track_caller]
fn planned(output: &Output) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for line in output.stdout.lines().filter(|line| line.contains("\"planned\"")) {
        let event: serde_json::Value = serde_json::from_str(line).expect("an event is JSON");
        let key = event["key"].as_str().expect("a key").to_owned();
        assert!(keys.insert(key.clone()), "`{key}` is planned twice");
    }
    keys
}

/// Lists these keys in this order, `page_keys` at a time, wherever it is asked to start.
fn list_as_given(keys: Vec<String>, page_keys: usize) -> impl Fn(&mut Exchange<'_>) -> std::io::Result<()> {
    move |exchange| {
        exchange.read_body()?;
        let start: usize = exchange.request.query("continuation-token").parse().unwrap_or(0);
        let asked: usize = exchange.request.query("max-keys").parse().unwrap_or(page_keys);
        let page = &keys[start..(start + page_keys.min(asked)).min(keys.len())];
        let next = (start + page.len() < keys.len()).then(|| (start + page.len()).to_string());
        let object = Object::new("x");
        exchange.answer(&Answer::xml(list_document(page.iter().map(|key| (key.as_str(), &object)), next.as_deref())))
    }
}

/// Keys in random order, some of them twice.
fn disorder(dice: &mut fastrand::Rng) -> Vec<String> {
    let mut keys: Vec<String> = (0..dice.usize(2..60)).map(|_| format!("k{:03}", dice.u32(..300))).collect();
    // Mostly in order, as from a service with one wrong shard, or not at all.
    keys.sort();
    for _ in 0..dice.usize(1..4) {
        let (from, to) = (dice.usize(..keys.len()), dice.usize(..keys.len()));
        keys.swap(from, to);
    }
    if dice.bool() {
        dice.shuffle(&mut keys);
    }
    keys
}

#[test]
fn whatever_the_order_each_key_is_decided_once_and_as_if_it_were_sorted() {
    let seed = seed();
    let mut dice = fastrand::Rng::with_seed(seed);
    for round in 0..24 {
        let (server, tree) = (Scripted::start(), Tree::new());
        let source = disorder(&mut dice);
        server.on("ListObjectsV2", "").play(list_as_given(source.clone(), dice.usize(1..9)));
        // Some of them are in place, newer than in the bucket.
        let in_place: BTreeSet<_> = source.iter().filter(|_| dice.bool()).cloned().collect();
        for key in &in_place {
            tree.file(format!("target/{key}"), "x");
        }
        let threads = if dice.bool() { "1" } else { "5" };
        let run = Cmd::sync(tree.path(), "s3://scripted/", "target").from(&server.server);
        let output = run.args(["--dry-run", "--json", "--list-threads", threads]).run();
        let what = format!("seed {seed}, round {round}, {threads} listers: {source:?}\n{}", output.stderr);
        let truth: BTreeSet<_> = source.iter().cloned().collect();
        assert_eq!(planned(&output), &truth - &in_place, "{what}");
        assert_eq!(output.count("source_listed"), truth.len() as u64, "{what}");
        assert_eq!(output.count("target_listed"), in_place.len() as u64, "{what}");
        assert_eq!(output.count("skipped_objects"), in_place.len() as u64, "{what}");
        let in_order = source.is_sorted_by(|a, b| a < b);
        assert_eq!(output.code, if in_order { 0 } else { 3 }, "{what}");
        let warnings = output.stderr.matches("the source does not list in key order").count();
        assert_eq!(warnings, usize::from(!in_order), "{what}");
    }
}

#[test]
fn a_target_out_of_order_is_said_once_and_nothing_is_sent_twice() {
    let seed = seed();
    let mut dice = fastrand::Rng::with_seed(seed);
    for round in 0..12 {
        let (server, tree) = (Scripted::start(), Tree::new());
        let target = disorder(&mut dice);
        server.on("ListObjectsV2", "").play(list_as_given(target.clone(), dice.usize(1..9)));
        let files: BTreeSet<_> = (0..300).filter(|_| dice.u8(..) < 64).map(|number| format!("k{number:03}")).collect();
        for key in &files {
            tree.file(format!("source/{key}"), "other");
        }
        let run = Cmd::sync(tree.path(), "source", "s3://scripted/").to(&server.server).arg("--json");
        let output = run.run();
        let what = format!("seed {seed}, round {round}: {target:?}\n{}", output.stderr);
        let in_order = target.is_sorted_by(|a, b| a < b);
        assert_eq!(output.code, if in_order { 0 } else { 3 }, "{what}");
        let truth: BTreeSet<_> = target.iter().cloned().collect();
        assert_eq!(output.count("target_listed"), truth.len() as u64, "{what}");
        let mut sent = BTreeMap::new();
        server.requests_of("PutObject").into_iter().for_each(|put| *sent.entry(put.key).or_insert(0) += 1);
        assert_eq!(sent, files.iter().map(|key| (key.clone(), 1)).collect(), "{what}");
        let warnings = output.stderr.matches("the target does not list in key order").count();
        assert_eq!(warnings, usize::from(!in_order), "{what}");
    }
}

#[test]
fn a_directory_bucket_is_sorted_from_the_start_and_that_is_no_warning() {
    let (server, tree) = (Scripted::start(), Tree::new());
    let keys: Vec<String> = ["b/2", "a", "c/1", "b/1"].map(str::to_owned).into();
    server.on("ListObjectsV2", "").play(list_as_given(keys.clone(), 2));
    let run = Cmd::sync(tree.path(), "s3://data--use1-az4--x-s3/", "target").from(&server.server);
    let output = run.args(["--dry-run", "--json"]).expect(0);
    assert_eq!(planned(&output), keys.into_iter().collect());
    let listings = server.requests_of("ListObjectsV2");
    assert!(listings.iter().all(|request| request.query("start-after").is_empty()));
    assert_eq!(listings.len(), 1 + 2, "the first look, and each page once");
}

#[test]
fn what_one_page_holds_is_asked_for_once() {
    let (server, tree) = (Scripted::start(), Tree::new());
    for key in ["a/x", "big", "i.html"] {
        server.model().objects.insert(key.to_owned(), Object::new("x"));
    }
    let run = || Cmd::sync(tree.path(), "s3://scripted/", "target").from(&server.server);
    run().args(["--list-threads", "8"]).expect(0);
    assert_eq!(server.requests_of("ListObjectsV2").len(), 2, "the first look, and the page");
}

#[test]
fn pages_without_keys_and_without_end_are_given_up() {
    let (server, tree) = (Scripted::start(), Tree::new());
    server.on("ListObjectsV2", "").play(|exchange| {
        exchange.read_body()?;
        let number: u64 = exchange.request.query("continuation-token").parse().unwrap_or(0);
        let nothing = std::iter::empty::<(&str, &Object)>();
        exchange.answer(&Answer::xml(list_document(nothing, Some(&(number + 1).to_string()))))
    });
    let output = Cmd::sync(tree.path(), "s3://scripted/", "target").from(&server.server).expect(1);
    assert!(output.stderr.contains("1000 pages in a row held no key"), "{}", output.stderr);
    assert!(server.requests_of("ListObjectsV2").len() < 1_010);
}

#[test]
fn a_name_that_the_service_could_not_decode_is_a_warning() {
    let (server, tree) = (Scripted::start(), Tree::new());
    for key in ["a", "b\u{fffd}", "c\u{fffd}"] {
        server.model().objects.insert(key.to_owned(), Object::new("x"));
    }
    let run = Cmd::sync(tree.path(), "s3://scripted/", "target").from(&server.server);
    let output = run.args(["--dry-run", "--json"]).expect(3);
    assert_eq!(output.count("warnings"), 1);
    assert!(output.stderr.contains("`b\u{fffd}`") || output.stderr.contains("b\u{fffd}"), "{}", output.stderr);
    assert!(output.stderr.contains("could not decode"), "{}", output.stderr);
}

//! What is deleted, and when nothing is: one test for each condition of promise I4, each against a server that goes wrong in
//! that way. In every case that is refused, not one request to delete anything is sent.

mod support;

use std::io;
use std::sync::mpsc;

use support::cmd::Output;
use support::model::{Object, batch_keys, list_document};
use support::scripted::{Answer, Exchange, Gate, Scripted};
use support::{Cmd, Server, Tree};

/// A command on one core, so that every listing is one range, which tries a request no more than twice.
fn sync(tree: &Tree, source: &str, target: &str) -> Cmd {
    Cmd::sync(tree.path(), source, target)
        .env("ROPEWAY_JSON", "true")
        .env("ROPEWAY_CORES", "1")
        .env("ROPEWAY_AWS_MAX_ATTEMPTS", "2")
        .env("ROPEWAY_INITIAL_BACKOFF_MILLISECONDS", "1")
}

fn holding(keys: &[&str]) -> Scripted {
    let server = Scripted::start();
    for key in keys {
        server.model().objects.insert((*key).to_owned(), Object::new(*key));
    }
    server
}

fn keys(server: &Scripted) -> Vec<String> {
    server.model().objects.keys().cloned().collect()
}

fn between(source: &Scripted, target: &Scripted, tree: &Tree) -> Cmd {
    sync(tree, "s3://one/", "s3://two/").from(&source.server).to(&target.server)
}

#[track_caller]
fn assert_says(output: &Output, words: &str) {
    assert!(output.stderr.contains(words), "`{words}` is not in:\n{}\n{}", output.stderr, output.stdout);
}

/// The run ended with `code` and these words, and neither side was asked to delete anything.
#[track_caller]
fn withheld(run: Cmd, sides: &[&Scripted], code: i32, words: &str) -> Output {
    let output = run.expect(code);
    assert_says(&output, words);
    for side in sides {
        let deletes: Vec<_> = side.deletes().into_iter().map(|request| (request.operation, request.key)).collect();
        assert_eq!(deletes, [], "asked to delete");
    }
    assert_eq!(output.count("deleted_objects"), 0);
    output
}

#[test]
fn i4_extras_go_last_and_nothing_else_does() {
    let (server, tree) = (holding(&["a", "dir/old", "z"]), Tree::new());
    tree.file("source/a", "a").file("source/new", "new");
    let output = sync(&tree, "source", "s3://bucket/").to(&server.server).args(["--delete", "-v"]).expect(0);
    assert_eq!(keys(&server), ["a", "new"]);
    assert_eq!((output.count("planned_deletes"), output.count("deleted_objects")), (2, 2));
    assert_says(&output, "deleted dir/old from the target");
    assert_says(&output, "; 2 of 2 deleted; ");
    let requests = server.requests();
    assert_eq!(requests.last().map(|request| request.operation), Some("DeleteObjects"), "it comes last");
    let mut batch = batch_keys(requests.last().unwrap());
    batch.sort();
    assert_eq!(batch, ["dir/old", "z"]);
    assert!(requests.last().unwrap().header("content-md5").is_some());
    assert_eq!(server.requests_of("HeadObject").len(), 0, "the listings are fresh");
}

#[test]
fn without_the_flag_nothing_goes() {
    let (server, tree) = (holding(&["a", "extra"]), Tree::new());
    tree.file("source/a", "a");
    let output = sync(&tree, "source", "s3://bucket/").to(&server.server).expect(0);
    assert_eq!((output.count("planned_deletes"), server.deletes().len()), (0, 0));
    assert_eq!(keys(&server), ["a", "extra"]);
}

#[test]
fn i4_a_dry_run_says_what_would_be_deleted_and_deletes_nothing() {
    let (server, tree) = (holding(&["a", "extra"]), Tree::new());
    tree.file("source/a", "a").set_modified("source/a", 1_000_000_000_000_000_000);
    let run = || sync(&tree, "source", "s3://bucket/").to(&server.server).args(["--delete", "--dry-run"]);
    let output = run().env("ROPEWAY_JSON", "false").expect(0);
    assert_eq!(output.stdout, "would delete extra (5 B)\n");
    assert_says(&output, "; 1 would be deleted; ");
    let output = run().expect(0);
    let planned = output.stdout.lines().find(|line| line.contains("planned_delete")).expect("an event");
    let planned: serde_json::Value = serde_json::from_str(planned).expect("JSON");
    assert_eq!((&planned["key"], &planned["side"]), (&"extra".into(), &"target".into()));
    assert_eq!((server.deletes().len(), keys(&server)), (0, vec!["a".to_owned(), "extra".to_owned()]));
    withheld(run().args(["--max-delete", "0"]), &[&server], 5, "1 objects would be, and --max-delete allows 0");
}

/// What a server does wrong.
type Fault = fn(&mut Exchange<'_>) -> io::Result<()>;

/// Ways in which the second page of a listing goes wrong.
const BROKEN_PAGES: [(&str, Fault); 5] = [
    ("error", |exchange| exchange.answer(&Answer::error(500, "InternalError"))),
    ("cut off", |exchange| {
        let answer = exchange.perform()?;
        exchange.send(answer.head())?;
        exchange.send(&answer.body[..answer.body.len() / 2])?;
        exchange.reset()
    }),
    ("more without a token", |exchange| {
        let document = list_document(std::iter::empty(), None).replace("<IsTruncated>false", "<IsTruncated>true");
        exchange.answer(&Answer::xml(document))
    }),
    ("the same token again", |exchange| {
        let token = exchange.request.query("continuation-token").to_owned();
        exchange.answer(&Answer::xml(list_document(std::iter::empty(), Some(&token))))
    }),
    ("backwards", |exchange| {
        let object = Object::new("0");
        exchange.answer(&Answer::xml(list_document([("0", &object)].into_iter(), None)))
    }),
];

#[test]
fn i4_a_listing_that_does_not_come_to_its_end_deletes_nothing() {
    for (how, fault) in BROKEN_PAGES {
        for at_the_source in [true, false] {
            // An extra is found before the listing breaks.
            let (source, target, tree) = (holding(&["b", "c", "d"]), holding(&["a", "b", "c", "d", "e"]), Tree::new());
            let (broken, second_page) = if at_the_source { (&source, "c") } else { (&target, "b") };
            broken.model().page_keys = 2;
            broken.on("ListObjectsV2", "").query("continuation-token", second_page).play(fault);
            let run = between(&source, &target, &tree).arg("--delete").arg("--delete-source");
            let output = run.run();
            assert_ne!(output.code, 0, "{how} {at_the_source}: {}", output.stderr);
            assert_eq!((source.deletes().len(), target.deletes().len()), (0, 0), "{how} {at_the_source}");
            assert!(keys(&target).contains(&"a".to_owned()));
        }
    }
}

#[test]
fn i4_a_listing_that_failed_is_named_as_the_reason() {
    let (source, target, tree) = (holding(&["a", "b", "c"]), holding(&["a", "z"]), Tree::new());
    source.model().page_keys = 2;
    source.on("ListObjectsV2", "").query("continuation-token", "b").answer(Answer::error(500, "InternalError"));
    // What was listed before it is an extra found; the rest was not looked at.
    target.model().objects.insert("Z".to_owned(), Object::new("Z"));
    let run = between(&source, &target, &tree).arg("--delete");
    withheld(run, &[&source, &target], 1, "nothing was deleted, since a side was not listed to its end");
}

#[test]
fn i4_an_empty_source_deletes_nothing_unless_it_is_allowed() {
    let (source, target, tree) = (holding(&[]), holding(&["a", "b"]), Tree::new());
    std::fs::create_dir(tree.at("empty")).unwrap();
    let words = "the source lists no objects at all";
    withheld(between(&source, &target, &tree).arg("--delete"), &[&source, &target], 5, words);
    let local = || sync(&tree, "empty", "s3://two/").to(&target.server).arg("--delete");
    let output = withheld(local(), &[&target], 5, "give --allow-empty-source if that is right");
    assert_eq!(output.summary()["exit_code"], 5);
    assert!(output.summary()["deletes_withheld"].as_str().unwrap().contains("--allow-empty-source"));
    local().arg("--allow-empty-source").expect(0);
    assert_eq!(keys(&target), [""; 0]);
}

#[test]
fn i4_keys_that_a_listing_has_mangled_delete_nothing() {
    for at_the_source in [true, false] {
        let mangled: &[&str] = &["a", "b\u{FFFD}"];
        let (source, target) = match at_the_source {
            true => (holding(mangled), holding(&["a", "extra"])),
            false => (holding(&["a"]), holding(mangled)),
        };
        let tree = Tree::new();
        let run = between(&source, &target, &tree).arg("--delete");
        withheld(run, &[&source, &target], 5, "lists the key `b\u{FFFD}`");
    }
}

#[test]
fn i4_max_delete_allows_its_number_and_refuses_one_more() {
    let target_keys = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    for (max, extras, allowed) in
        [("3", 3, true), ("3", 4, false), ("30%", 3, true), ("30%", 4, false), ("0", 1, false)]
    {
        let (source, target, tree) = (holding(&target_keys[extras..]), holding(&target_keys), Tree::new());
        let run = between(&source, &target, &tree).args(["--delete", "--max-delete", max]);
        if allowed {
            assert_eq!(run.expect(0).count("deleted_objects"), extras as u64);
            assert_eq!(keys(&target), target_keys[extras..]);
        } else {
            withheld(run, &[&source, &target], 5, &format!("nothing was deleted: {extras} objects would be"));
            assert_eq!(keys(&target), target_keys);
        }
    }
    let (source, target, tree) = (holding(&["a"]), holding(&["a", "b", "c"]), Tree::new());
    let run = |max| between(&source, &target, &tree).args(["--delete", "--max-delete", max]);
    withheld(
        run("1"),
        &[&target],
        5,
        "2 objects would be, and --max-delete allows 1; give --max-delete 2 if that is right",
    );
    withheld(run("50%"), &[&target], 5, "2 objects would be, of 3, and --max-delete allows 50%");
}

#[test]
fn i4_a_failed_transfer_deletes_nothing_from_the_target() {
    let (source, target, tree) = (holding(&["a", "b"]), holding(&["extra"]), Tree::new());
    target.on("PutObject", "b").answer(Answer::error(403, "AccessDenied"));
    let output = withheld(
        between(&source, &target, &tree).arg("--delete"),
        &[&source, &target],
        1,
        "nothing was deleted from the target, since 1 objects failed",
    );
    assert_eq!(output.count("transferred_objects"), 1);
    let (server, tree) = (holding(&["a", "extra"]), Tree::new());
    tree.file("source/a", "a");
    std::os::unix::fs::symlink("nowhere", tree.at("source/dangling")).unwrap();
    let run = sync(&tree, "source", "s3://bucket/").to(&server.server).arg("--delete");
    withheld(run, &[&server], 1, "nothing was deleted from the target, since 1 objects failed");
}

#[test]
fn i4_a_key_that_the_source_has_by_then_stays() {
    let (source, target, tree) = (holding(&["a"]), holding(&["a", "back", "gone"]), Tree::new());
    source.on("HeadObject", "back").play(|exchange| {
        exchange.model().objects.insert("back".to_owned(), Object::new("back"));
        let answer = exchange.perform()?;
        exchange.answer(&answer)
    });
    let output = between(&source, &target, &tree).args(["--delete", "--delete-look-up-after", "0"]).expect(3);
    assert_says(&output, "warning: `back`: not deleted from the target: the source has it by now");
    assert_eq!(keys(&target), ["a", "back"]);
    assert_eq!((output.count("deleted_objects"), output.count("planned_deletes")), (1, 2));
}

#[test]
fn i4_a_source_that_cannot_be_asked_deletes_nothing() {
    let lookups: [fn(&Scripted); 2] = [
        |source| source.on("HeadObject", "extra").answer(Answer::error(403, "AccessDenied")),
        // A HEAD in a bucket that is gone says no more than that the object is.
        |source| {
            let gone = Answer::error(404, "NoSuchBucket");
            source.on("ListObjectsV2", "").query("max-keys", "1").skip(1).answer(gone);
        },
    ];
    for spoil in lookups {
        let (source, target, tree) = (holding(&["a"]), holding(&["a", "extra"]), Tree::new());
        spoil(&source);
        let run = between(&source, &target, &tree).args(["--delete", "--delete-look-up-after", "0"]);
        let output = withheld(run, &[&source, &target], 1, "`extra`: deleting it from the target failed");
        assert_eq!(output.count("failed_deletes"), 1);
    }
}

#[test]
fn i4_what_a_local_source_has_but_does_not_list_stays() {
    let (server, tree) = (holding(&["a", "dir/", "extra", "pipe"]), Tree::new());
    tree.file("source/a", "a");
    std::fs::create_dir(tree.at("source/dir")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(tree.at("source/pipe")).status().expect("coreutils").success());
    let output = sync(&tree, "source", "s3://bucket/").to(&server.server).arg("--delete").expect(3);
    assert_eq!(output.count("deleted_objects"), 1);
    assert_eq!(keys(&server), ["a", "dir/", "pipe"]);
}

#[test]
fn every_key_of_a_batch_has_its_own_fate() {
    let (server, tree) = (holding(&["a", "denied", "fine", "silent", "stumbles"]), Tree::new());
    tree.file("source/a", "a");
    server.on("DeleteObjects", "").play(|exchange| {
        exchange.read_body()?;
        exchange.model().objects.remove("fine");
        exchange.answer(&Answer::xml(
            "<DeleteResult><Deleted><Key>fine</Key></Deleted><Deleted><Key>never asked for</Key></Deleted>\
             <Error><Key>denied</Key><Code>AccessDenied</Code><Message>no</Message></Error>\
             <Error><Key>stumbles</Key><Code>InternalError</Code></Error></DeleteResult>",
        ))
    });
    let output = sync(&tree, "source", "s3://bucket/").to(&server.server).arg("--delete").expect(1);
    assert_says(&output, "failed: `denied`: deleting it from the target failed: the service answered AccessDenied: no");
    assert_says(&output, "failed: `silent`: deleting it from the target failed: the service's answer does not say");
    assert_eq!(keys(&server), ["a", "denied", "silent"], "what may succeed is tried again, alone");
    let counts = ["planned_deletes", "deleted_objects", "failed_deletes", "failed_objects"];
    assert_eq!(counts.map(|name| output.count(name)), [4, 2, 2, 2]);
}

#[test]
fn a_service_that_is_busy_is_asked_again_and_one_that_stays_busy_is_a_failure() {
    let (server, tree) = (holding(&["a", "x", "y"]), Tree::new());
    tree.file("source/a", "a");
    let run = || sync(&tree, "source", "s3://bucket/").to(&server.server).arg("--delete");
    server.on("DeleteObjects", "").times(3).answer(Answer::error(503, "SlowDown"));
    let output = run().expect(1);
    assert_eq!(["deleted_objects", "failed_deletes"].map(|name| output.count(name)), [0, 2]);
    let output = run().expect(0);
    assert_eq!((output.count("deleted_objects"), output.count("retries")), (2, 1));
}

#[test]
fn keys_that_no_batch_carries_and_services_without_batches_are_deleted_one_by_one() {
    let (server, tree) = (holding(&["a", "bell\u{7}", "x&<y>"]), Tree::new());
    tree.file("source/a", "a");
    let run = |server: &Scripted| sync(&tree, "source", "s3://bucket/").to(&server.server).arg("--delete").expect(0);
    assert_eq!(run(&server).count("deleted_objects"), 2);
    let single: Vec<_> = server.requests_of("DeleteObject").into_iter().map(|request| request.key).collect();
    assert_eq!((single, keys(&server)), (vec!["bell\u{7}".to_owned()], vec!["a".to_owned()]));
    for (status, code) in [(501, "NotImplemented"), (405, "MethodNotAllowed"), (400, "MalformedXML")] {
        let server = holding(&["a", "x", "y"]);
        server.on("DeleteObjects", "").answer(Answer::error(status, code));
        assert_eq!(run(&server).count("deleted_objects"), 2, "{code}");
        assert_eq!((server.requests_of("DeleteObject").len(), keys(&server)), (2, vec!["a".to_owned()]), "{code}");
    }
}

#[test]
fn thousands_of_extras_go_in_batches() {
    let (server, tree) = (Server::any(), Tree::new());
    if server.skip(&["moto"], "it is too slow for thousands of objects") {
        return;
    }
    let bucket = server.bucket("many-extras");
    for number in 0..2_500 {
        tree.file(format!("all/{}/{number}", number % 7), "");
    }
    tree.file("source/0/0", "");
    let place = format!("s3://{bucket}/");
    Cmd::sync(tree.path(), "all", &place).to(&server).expect(0);
    let output = Cmd::sync(tree.path(), "source", &place).to(&server).args(["--delete", "--json"]).expect(0);
    assert_eq!((output.count("deleted_objects"), server.keys(&bucket, "")), (2_499, vec!["0/0".to_owned()]));
    assert!(output.count("requests") < 100, "{}", output.count("requests"));
    Cmd::sync(tree.path(), &place, "all").from(&server).args(["--delete", "--json"]).expect(0);
    assert_eq!(tree.names("all"), ["0", "0/0"].map(std::path::PathBuf::from));
}

#[test]
fn local_deletes_follow_no_link_and_remove_only_directories_that_they_emptied() {
    let (server, tree) = (holding(&["keep/a"]), Tree::new());
    server.model().objects.insert("marked/".to_owned(), Object::new(""));
    tree.file("outside/x", "x")
        .file("target/keep/a", "keep/a")
        .file("target/gone/deep/x", "x")
        .file("target/gone/y", "y");
    tree.file("target/half/x", "x").file("target/half/.ropeway-0123456789abcdef.partial", "under way");
    tree.file("target/marked/x", "x");
    std::fs::create_dir_all(tree.at("target/was/empty")).unwrap();
    std::os::unix::fs::symlink("../outside", tree.at("target/link")).unwrap();
    std::os::unix::fs::symlink("../outside/x", tree.at("target/file-link")).unwrap();
    let output = sync(&tree, "s3://bucket/", "target").from(&server.server).arg("--delete").expect(0);
    assert_eq!(output.count("deleted_objects"), 4);
    let left = tree.names("target").into_iter().map(|path| path.to_str().unwrap().to_owned()).collect::<Vec<_>>();
    let expected = [
        "file-link",
        "half",
        "half/.ropeway-0123456789abcdef.partial",
        "keep",
        "keep/a",
        "link",
        "marked",
        "was",
        "was/empty",
    ];
    assert_eq!(left, expected);
    assert_eq!(tree.names("outside"), [std::path::PathBuf::from("x")]);
    assert_eq!(server.deletes().len(), 0);
}

#[test]
fn i4_a_file_that_changed_after_it_was_listed_stays() {
    let (server, tree) = (holding(&["a"]), Tree::new());
    tree.file("target/a", "a").file("target/extra", "old");
    let path = tree.at("target/extra");
    // The last question before the file goes.
    server.on("HeadObject", "extra").play(move |exchange| {
        std::fs::write(&path, "written meanwhile")?;
        let answer = exchange.perform()?;
        exchange.answer(&answer)
    });
    let run =
        sync(&tree, "s3://bucket/", "target").from(&server.server).args(["--delete", "--delete-look-up-after", "0"]);
    assert_says(&run.expect(3), "warning: `extra`: not deleted from the target: what has its name now is another file");
    assert_eq!(std::fs::read(tree.at("target/extra")).unwrap(), b"written meanwhile");
}

#[test]
fn i4_places_whose_extras_could_be_something_else_are_refused() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("careless");
    for key in ["photos/a", "photos/sub/b", "photos2/c"] {
        server.put(&bucket, key, "x");
    }
    tree.file("source/a", "a").file("source/sub/b", "b");
    let place = |prefix: &str| format!("s3://{bucket}/{prefix}");
    let refused = |source: &str, target: &str, code, words: &str| {
        let at = |run: Cmd, place: &str, from: bool| match (place.starts_with("s3:"), from) {
            (false, _) => run,
            (true, true) => run.from(&server),
            (true, false) => run.to(&server),
        };
        let run = Cmd::sync(tree.path(), source, target).arg("--delete");
        let output = at(at(run, source, true), target, false).expect(code);
        assert_says(&output, words);
    };
    refused("source", &place("photos"), 5, "end it with `/`");
    refused(&place("photos"), &place("copy/"), 5, "end it with `/`");
    refused("source/a", &place("photos/"), 2, "single object");
    refused(&place("photos/sub/"), &place("photos/"), 5, "lies within the target");
    refused("source/sub", "source", 5, "lies within the target");
    assert_eq!(server.keys(&bucket, ""), ["photos/a", "photos/sub/b", "photos2/c"]);
    assert_eq!(tree.names("source").len(), 3);
}

#[test]
fn a_stop_in_the_last_phase_ends_it_at_once_and_says_what_was_deleted() {
    let (server, tree) = (holding(&["a", "x", "y"]), Tree::new());
    tree.file("source/a", "a");
    let gate = Gate::default();
    let (arrived, arrival) = mpsc::channel();
    let closed = gate.clone();
    server.on("DeleteObjects", "").play(move |exchange| {
        let _ = arrived.send(());
        exchange.wait(&closed);
        exchange.reset()
    });
    let child = sync(&tree, "source", "s3://bucket/").to(&server.server).arg("--delete").spawn();
    arrival.recv().expect("the phase begins");
    let kill = format!("kill -INT {}", child.id());
    assert!(std::process::Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
    let output = Output::of(child);
    gate.open();
    assert_eq!(output.code, 130, "{}", output.stderr);
    assert_says(&output, "stopped while deleting: 0 of 2 objects were deleted, and up to 2 more");
}

#[test]
fn what_was_copied_and_proven_is_deleted_at_the_source() {
    let (server, tree) = (Server::any(), Tree::new());
    let (from, to) = (server.bucket("moved-from"), server.bucket("moved-to"));
    tree.file("source/a", "a").file("source/dir/big", vec![7; 20 << 20]);
    let flags = ["--delete-source", "--json"];
    let up = Cmd::sync(tree.path(), "source", &format!("s3://{from}/")).to(&server).args(flags).expect(0);
    assert_eq!((up.count("transferred_objects"), up.count("deleted_objects")), (2, 2));
    assert_eq!(tree.names("source"), [std::path::PathBuf::from("dir")], "directories stay");
    let across = Cmd::sync(tree.path(), &format!("s3://{from}/"), &format!("s3://{to}/")).from(&server).to(&server);
    assert_eq!(across.args(flags).expect(0).count("deleted_objects"), 2);
    assert_eq!((server.keys(&from, "").len(), server.keys(&to, "").len()), (0, 2));
    let down = Cmd::sync(tree.path(), &format!("s3://{to}/"), "back").from(&server).args(flags).expect(0);
    assert_eq!((down.count("deleted_objects"), server.keys(&to, "").len()), (2, 0));
    Cmd::sync(tree.path(), "back", "there").args(flags).expect(0);
    assert_eq!((tree.contents("back").len(), tree.contents("there").len()), (0, 2));
}

#[test]
fn i4_a_source_that_is_not_what_was_copied_stays() {
    // An object that is replaced when its copy has arrived.
    for by_condition in [false, true] {
        let (source, target, tree) = (holding(&["k", "same"]), Scripted::start(), Tree::new());
        let replace = |exchange: &mut Exchange<'_>| {
            exchange.model().objects.insert("k".to_owned(), Object::new("K"));
        };
        if by_condition {
            source.on("DeleteObject", "k").play(move |exchange| {
                replace(exchange);
                let answer = exchange.perform()?;
                exchange.answer(&answer)
            });
        } else {
            source.on("HeadObject", "k").play(move |exchange| {
                replace(exchange);
                let answer = exchange.perform()?;
                exchange.answer(&answer)
            });
        }
        let output = between(&source, &target, &tree).arg("--delete-source").expect(3);
        assert_says(&output, "warning: `k`: not deleted from the source: it was replaced");
        assert_eq!((keys(&source), keys(&target)), (vec!["k".to_owned()], vec!["k".to_owned(), "same".to_owned()]));
    }
    // A file that is written when its copy has arrived.
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/f", "1");
    let path = tree.at("source/f");
    server.on("PutObject", "f").play(move |exchange| {
        std::fs::write(&path, "newer")?;
        let answer = exchange.perform()?;
        exchange.answer(&answer)
    });
    let output = sync(&tree, "source", "s3://bucket/").to(&server.server).arg("--delete-source").expect(3);
    assert_says(&output, "warning: `f`: not deleted from the source");
    assert_eq!(std::fs::read(tree.at("source/f")).unwrap(), b"newer");
}

#[test]
fn i4_what_was_copied_without_a_proof_or_not_at_all_stays_at_the_source() {
    let (source, target, tree) = (holding(&["k", "skipped", "refused"]), holding(&["skipped"]), Tree::new());
    source.model().objects.get_mut("k").unwrap().etag = "\"opaque\"".to_owned();
    target.on("PutObject", "refused").answer(Answer::error(403, "AccessDenied"));
    let output = between(&source, &target, &tree).arg("--delete-source").expect(1);
    assert_eq!((output.count("transferred_objects"), output.count("planned_deletes")), (1, 0));
    assert_eq!((keys(&source).len(), source.deletes().len()), (3, 0));
}

#[test]
fn a_failure_of_one_object_does_not_keep_others_at_the_source_and_max_delete_counts_them_all() {
    let (source, target, tree) = (holding(&["a", "b", "refused"]), holding(&["extra"]), Tree::new());
    target.on("PutObject", "refused").answer(Answer::error(403, "AccessDenied"));
    let run = |max| between(&source, &target, &tree).args(["--delete-source", "--delete", "--max-delete", max]);
    withheld(run("2"), &[&source, &target], 1, "nothing was deleted: 3 objects would be");
    for key in ["a", "b"] {
        target.model().objects.remove(key);
    }
    let output = run("3").expect(1);
    assert_eq!((output.count("deleted_objects"), keys(&source)), (2, vec!["refused".to_owned()]));
    assert_eq!(keys(&target), ["a", "b", "extra"], "it is kept for the failure's sake");
}

#[test]
fn a_service_that_knows_no_conditional_deletes_is_asked_without() {
    let (source, target, tree) = (holding(&["a", "b"]), Scripted::start(), Tree::new());
    for key in ["a", "b"] {
        source.on("DeleteObject", key).play(|exchange| match exchange.request.header("if-match") {
            Some(_) => exchange.answer(&Answer::error(501, "NotImplemented")),
            None => {
                let answer = exchange.perform()?;
                exchange.answer(&answer)
            }
        });
    }
    assert_eq!(between(&source, &target, &tree).arg("--delete-source").expect(0).count("deleted_objects"), 2);
    assert_eq!(keys(&source), [""; 0]);
}

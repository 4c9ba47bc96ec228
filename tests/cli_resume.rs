//! Runs that are continued: what the server has is not sent again, what is on the disk is not fetched again, and what has
//! changed meanwhile is begun anew.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::cmd::Output;
use support::model::Object;
use support::relay::Relay;
use support::scripted::Scripted;
use support::tree::noise;
use support::{Cmd, Server, Tree};

const MIB: u64 = 1 << 20;

/// One part after the other, so that a moment on the wire is a known moment of the run.
const ONE_BY_ONE: [&str; 7] =
    ["--multipart-chunksize", "5MiB", "--cores", "1", "--max-parallel-uploads", "1", "--json"];

/// Starts a command, waits until the relay holds its bytes back, and ends it with a signal. What was held back never arrives;
/// what comes after passes. (A job is known by its service's address, so it goes on through the same relay.)
fn interrupt(relay: &Relay, run: Cmd, signal: &str) -> Output {
    let child = run.spawn();
    relay.wait_until_held();
    let line = format!("kill -{signal} {}", child.id());
    assert!(Command::new("sh").args(["-c", &line]).status().expect("a shell").success());
    let output = Output::of(child);
    relay.cut();
    relay.release();
    relay.forget_seen();
    output
}

/// The numbers of the parts that the bucket's only open upload has.
fn parts_there(server: &Server, bucket: &str, key: &str) -> BTreeSet<String> {
    let [id]: [String; 1] = server.open_uploads(bucket).try_into().expect("one open upload");
    let listed = server.request("GET", &format!("/{bucket}/{key}?uploadId={id}"), &[], b"").expect("ListParts");
    listed.elements("PartNumber").into_iter().collect()
}

/// The numbers of the parts that were sent through a relay.
fn parts_sent(relay: &Relay) -> Vec<String> {
    let number = |line: &String| {
        line.split_once("partNumber=").map(|(_, rest)| rest.split(['&', ' ']).next().unwrap().to_owned())
    };
    relay.seen("partNumber=").iter().filter(|line| line.starts_with("PUT")).filter_map(number).collect()
}

fn partials(tree: &Tree) -> Vec<PathBuf> {
    let is_partial = |path: &PathBuf| path.to_string_lossy().contains(".ropeway-");
    tree.names("").into_iter().filter(is_partial).collect()
}

#[test]
fn i6_an_interrupted_upload_continues_and_sends_no_part_that_the_server_has() {
    let server = Server::any();
    for (signal, code) in [("INT", 130), ("TERM", 143), ("KILL", 137)] {
        let tree = Tree::new();
        let bucket = server.bucket("continued");
        let place = format!("s3://{bucket}/p/");
        tree.file("source/z", noise(1, 33 << 20));
        let relay = Relay::before(&server);
        relay.hold_uploads_after(17 * MIB);
        let up = |server: &Server| Cmd::sync(tree.path(), "source", &place).to(server).args(ONE_BY_ONE);
        let stopped = interrupt(&relay, up(&relay.server), signal);
        assert_eq!(stopped.code, code, "{}", stopped.stderr);
        if signal != "KILL" {
            assert_eq!(stopped.count("kept_objects"), 1);
            assert!(stopped.stderr.contains("run the same command again to continue"), "{}", stopped.stderr);
            assert!(stopped.stderr.contains("`ropeway cleanup`"), "{}", stopped.stderr);
        }
        let there = parts_there(&server, &bucket, "p/z");
        assert_eq!(there.len(), 3, "{there:?}");
        let again = up(&relay.server).expect(0);
        let sent = parts_sent(&relay);
        assert_eq!(sent.len(), 4, "{sent:?}");
        assert!(sent.iter().all(|number| !there.contains(number)), "{signal}: {sent:?} of {there:?}");
        assert_eq!((again.count("transferred_objects"), again.count("resumed_bytes")), (1, 15 * MIB));
        assert!(server.get(&bucket, "p/z").unwrap() == noise(1, 33 << 20), "the content differs");
        assert_eq!(server.open_uploads(&bucket), [""; 0]);
    }
}

#[test]
fn i6_a_part_that_the_journal_lost_is_compared_with_the_source_and_not_sent() {
    let (server, tree, state) = (Server::any(), Tree::new(), Tree::new());
    let bucket = server.bucket("lost");
    let place = format!("s3://{bucket}/");
    tree.file("source/z", noise(2, 33 << 20));
    let relay = Relay::before(&server);
    relay.hold_uploads_after(17 * MIB);
    let up = |server: &Server| {
        Cmd::sync(tree.path(), "source", &place).to(server).args(ONE_BY_ONE).arg("--state-dir").arg(state.path())
    };
    interrupt(&relay, up(&relay.server), "KILL");
    let journal = only_journal(&state);
    let parts = journal.execute("DELETE FROM part", []).expect("a journal");
    assert_eq!(parts, 3);
    drop(journal);
    let again = up(&relay.server).expect(0);
    assert_eq!((parts_sent(&relay).len(), again.count("resumed_bytes")), (4, 15 * MIB));
    assert!(server.get(&bucket, "z").unwrap() == noise(2, 33 << 20), "the content differs");
    assert_eq!(state.names(""), [""; 0].map(PathBuf::from), "a job that is done leaves nothing");
}

#[test]
fn a_continued_run_begins_with_what_no_run_had_got_to() {
    let (server, tree, state) = (Server::any(), Tree::new(), Tree::new());
    let bucket = server.bucket("further");
    let place = format!("s3://{bucket}/");
    tree.file("source/z", noise(3, 33 << 20));
    let relay = Relay::before(&server);
    relay.hold_uploads_after(17 * MIB);
    let up = |server: &Server| {
        Cmd::sync(tree.path(), "source", &place).to(server).args(ONE_BY_ONE).arg("--state-dir").arg(state.path())
    };
    interrupt(&relay, up(&relay.server), "KILL");
    // As if it had listed and compared everything up to `m`, which is compared again all the same.
    only_journal(&state).execute_batch("DELETE FROM done; INSERT INTO done VALUES (NULL, x'6d')").expect("a journal");
    tree.file("source/c", "new before m");
    // More than wait for a worker, so that whoever lists beside them would come in between.
    for number in 10..40 {
        tree.file(format!("source/w{number}"), "new behind m");
    }
    let again = up(&relay.server).args(["--worker-size", "1"]).expect(0);
    assert_eq!((again.count("transferred_objects"), again.count("resumed_bytes")), (32, 15 * MIB));
    let small = |line: &String| line.starts_with("PUT") && !line.contains("partNumber");
    let sent: Vec<String> = relay.seen(&bucket).into_iter().filter(small).collect();
    assert!(sent.len() == 31 && sent[30].contains("/c "), "{sent:?}");
    assert_eq!(state.names(""), [""; 0].map(PathBuf::from), "a job that is done leaves nothing");
}

fn only_journal(state: &Tree) -> rusqlite::Connection {
    let names = state.names("");
    let [name] = names.iter().filter(|name| name.extension().is_some_and(|it| it == "db")).collect::<Vec<_>>()[..]
    else {
        panic!("one journal, not {names:?}")
    };
    rusqlite::Connection::open(state.at(name)).expect("a journal")
}

#[test]
fn i6_an_interrupted_download_continues_and_fetches_nothing_again() {
    let server = Server::any();
    let bucket = server.bucket("continued-down");
    server.put(&bucket, "d/z", noise(3, 41 << 20));
    for (signal, code) in [("INT", 130), ("KILL", 137)] {
        let tree = Tree::new();
        tree.file("down/d/z", "old");
        let relay = Relay::before(&server);
        relay.hold_answers_after(20 * MIB);
        let down =
            |server: &Server| Cmd::sync(tree.path(), &format!("s3://{bucket}/"), "down").from(server).args(ONE_BY_ONE);
        let stopped = interrupt(&relay, down(&relay.server), signal);
        assert_eq!(stopped.code, code, "{}", stopped.stderr);
        assert_eq!(partials(&tree).len(), 1);
        assert_eq!(std::fs::read(tree.at("down/d/z")).expect("the old file"), b"old");
        let again = down(&relay.server).expect(0);
        let resumed = again.count("resumed_bytes");
        assert!(resumed >= 8 * MIB, "{resumed}");
        assert!(tree.contents("down")[Path::new("d/z")] == noise(3, 41 << 20), "the content differs");
        assert_eq!(partials(&tree), [""; 0].map(PathBuf::from));
        let fetched = relay.seen("GET").iter().filter(|line| line.contains("/d/z")).count() as u64;
        assert!(fetched <= (41 * MIB - resumed).div_ceil(MIB), "{fetched} requests");
    }
}

#[test]
fn i2_a_kept_file_that_was_changed_meanwhile_is_fetched_again_where_it_was() {
    use std::os::unix::fs::FileExt;
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("changed-partial");
    server.put(&bucket, "z", noise(4, 41 << 20));
    let relay = Relay::before(&server);
    relay.hold_answers_after(20 * MIB);
    let down =
        |server: &Server| Cmd::sync(tree.path(), &format!("s3://{bucket}/"), "down").from(server).args(ONE_BY_ONE);
    interrupt(&relay, down(&relay.server), "KILL");
    let [partial]: [PathBuf; 1] = partials(&tree).try_into().expect("one temporary file");
    let file = std::fs::File::options().write(true).open(tree.at(partial)).expect("a file");
    file.write_all_at(b"not what was written", 1_000).expect("a write");
    file.set_len(50 << 20).expect("a length");
    drop(file);
    let again = down(&relay.server).expect(0);
    let resumed = again.count("resumed_bytes");
    assert!((1..16 * MIB).contains(&resumed), "of two parts that were written one is still what it was: {resumed}");
    assert!(tree.contents("down")[Path::new("z")] == noise(4, 41 << 20), "the content differs");
}

#[test]
fn i6_an_interrupted_copy_continues_and_sends_no_part_that_the_server_has() {
    let (server, tree) = (Server::any(), Tree::new());
    let (from, to) = (server.bucket("from"), server.bucket("to"));
    server.put(&from, "z", noise(5, 33 << 20));
    let relay = Relay::before(&server);
    relay.hold_uploads_after(17 * MIB);
    let copy = |to_server: &Server| {
        let run = Cmd::sync(tree.path(), &format!("s3://{from}/"), &format!("s3://{to}/"));
        run.from(&server).to(to_server).args(ONE_BY_ONE)
    };
    interrupt(&relay, copy(&relay.server), "KILL");
    let there = parts_there(&server, &to, "z");
    assert_eq!(there.len(), 3);
    copy(&relay.server).expect(0);
    let sent = parts_sent(&relay);
    assert!(sent.len() == 4 && sent.iter().all(|number| !there.contains(number)), "{sent:?} of {there:?}");
    assert!(server.get(&to, "z").unwrap() == noise(5, 33 << 20), "the content differs");
}

/// What was compared: in all, by checksums, by ETags, and nothing.
fn verified(output: &Output) -> [u64; 4] {
    ["verified", "verified_checksum", "verified_etag", "unverified"].map(|name| output.count(name))
}

#[test]
fn i1_a_continued_upload_is_proven_by_all_that_a_whole_one_is() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("proven");
    tree.file("source/z", noise(15, 33 << 20));
    let up = |server: &Server, prefix: &str| {
        Cmd::sync(tree.path(), "source", &format!("s3://{bucket}/{prefix}")).to(server).args(ONE_BY_ONE)
    };
    let whole = up(&server, "whole/").expect(0);
    let relay = Relay::before(&server);
    relay.hold_uploads_after(17 * MIB);
    interrupt(&relay, up(&relay.server, "parts/"), "KILL");
    let again = up(&relay.server, "parts/").expect(0);
    assert_eq!((again.count("resumed_bytes"), verified(&again)), (15 * MIB, verified(&whole)));
}

const OFF: [&str; 1] = ["--disable-etag-verify"];

/// Of a source without checksums, only hashing in its own cut, or in order, shows that all is right.
#[test]
fn i1_a_continued_object_is_compared_with_the_etag_of_its_source() {
    let (server, tree) = (Scripted::start(), Tree::new());
    let content = noise(16, 33 << 20);
    tree.file("source/z", &content);
    Cmd::sync(tree.path(), "source", "s3://bucket/parts/").to(&server.server).args(ONE_BY_ONE).expect(0);
    server.model().objects.insert("plain/z".to_owned(), Object::new(content.clone()));
    for kind in ["parts", "plain"] {
        let (relay, from, down) =
            (Relay::before(&server.server), format!("s3://bucket/{kind}/"), format!("down/{kind}"));
        let fetch = || Cmd::sync(tree.path(), &from, &down).from(&relay.server).args(ONE_BY_ONE);
        relay.hold_answers_after(20 * MIB);
        interrupt(&relay, fetch(), "KILL");
        let again = fetch().expect(0);
        assert!(again.count("resumed_bytes") >= 10 * MIB, "{kind}");
        assert_eq!(verified(&again), [1, 0, 1, 0], "{kind}");
        assert!(tree.contents(&down)[Path::new("z")] == content, "{kind}: the content differs");

        let to = format!("s3://bucket/copy-of-{kind}/");
        let copy = || Cmd::sync(tree.path(), &from, &to).from(&server.server).to(&relay.server).args(ONE_BY_ONE);
        relay.hold_uploads_after(17 * MIB);
        interrupt(&relay, copy(), "KILL");
        let again = copy().expect(0);
        assert_eq!((again.count("resumed_bytes"), parts_sent(&relay).len()), (15 * MIB, 4), "{kind}");
        assert_eq!(verified(&again), [1, 0, 1, 0], "{kind}");
        assert!(server.model().objects[&format!("copy-of-{kind}/z")].content == content, "{kind}: the content differs");
    }
}

#[test]
fn i1_a_kept_file_that_is_not_in_the_cut_of_its_sources_etag_is_fetched_again() {
    let (server, tree) = (Scripted::start(), Tree::new());
    let content = noise(21, 33 << 20);
    tree.file("source/z", &content);
    Cmd::sync(tree.path(), "source", "s3://bucket/").to(&server.server).args(ONE_BY_ONE).expect(0);
    let relay = Relay::before(&server.server);
    let fetch = || Cmd::sync(tree.path(), "s3://bucket/", "down").from(&relay.server).args(ONE_BY_ONE);
    relay.hold_answers_after(20 * MIB);
    interrupt(&relay, fetch().arg("--disable-etag-verify"), "KILL");
    let again = fetch().expect(0);
    assert_eq!((again.count("resumed_bytes"), verified(&again)), (0, [1, 0, 1, 0]));
    assert!(tree.contents("down")[Path::new("z")] == content, "the content differs");
    assert_eq!(partials(&tree), [""; 0].map(PathBuf::from));
}

/// Whether ETags are compared may differ from run to run; what was left out is made up for, and what is wanted is no warning.
#[test]
fn etags_that_were_not_compared_are_when_the_upload_is_continued_with_them() {
    let (tree, state) = (Tree::new(), Tree::new());
    tree.file("source/z", noise(17, 33 << 20));
    let table =
        [(true, false, false), (true, true, false), (false, true, false), (true, true, true), (true, false, true)];
    for (off_before, off_now, is_lost) in table {
        let (server, case) = (Scripted::start(), format!("{off_before} {off_now} {is_lost}"));
        let relay = Relay::before(&server.server);
        let up = |off: bool| {
            let run = Cmd::sync(tree.path(), "source", "s3://bucket/").to(&relay.server).args(ONE_BY_ONE);
            run.arg("--state-dir").arg(state.path()).args(OFF.iter().filter(|_| off))
        };
        relay.hold_uploads_after(17 * MIB);
        interrupt(&relay, up(off_before), "KILL");
        if is_lost {
            assert_eq!(only_journal(&state).execute("DELETE FROM part", []).expect("a journal"), 3);
        }
        let again = up(off_now).expect(0);
        assert_eq!((again.count("resumed_bytes"), parts_sent(&relay).len()), (15 * MIB, 4), "{case}");
        assert_eq!(verified(&again), if off_now { [0, 0, 0, 1] } else { [1, 0, 1, 0] }, "{case}");
        assert_eq!(again.count("warnings"), 0, "{case}");
    }
}

/// Nobody may take a part for ours because it has its number and its length.
#[test]
fn i2_a_part_that_holds_other_bytes_is_sent_again() {
    for (echoes, off) in [(true, false), (false, false), (false, true)] {
        let (server, tree, state) = (Scripted::start(), Tree::new(), Tree::new());
        server.model().echoes_crc64nvme = echoes;
        tree.file("source/z", noise(18, 33 << 20));
        let relay = Relay::before(&server.server);
        let up = || {
            let run = Cmd::sync(tree.path(), "source", "s3://bucket/").to(&relay.server).args(ONE_BY_ONE);
            run.arg("--state-dir").arg(state.path()).args(OFF.iter().filter(|_| off))
        };
        relay.hold_uploads_after(17 * MIB);
        interrupt(&relay, up(), "KILL");
        // One is known to the journal, and one is not.
        server.model().uploads.values_mut().for_each(|upload| {
            upload.parts.insert(1, noise(19, 5 << 20));
            upload.parts.insert(2, noise(20, 5 << 20));
        });
        only_journal(&state).execute("DELETE FROM part WHERE number = 2", []).expect("a journal");
        let again = up().expect(0);
        assert_eq!((again.count("resumed_bytes"), parts_sent(&relay).len()), (5 * MIB, 6), "{echoes} {off}");
        assert!(server.model().objects["z"].content == noise(18, 33 << 20), "{echoes} {off}: the content differs");
    }
}

#[test]
fn an_upload_whose_service_fails_for_good_is_kept_and_continued() {
    let (server, tree) = (Server::any(), Tree::new());
    if server.skip(&["moto"], "it keeps no connection open, and the fault is played on one that was used before") {
        return;
    }
    let bucket = server.bucket("failed");
    tree.file("source/z", noise(14, 33 << 20));
    let relay = Relay::before(&server);
    relay.hold_uploads_after(17 * MIB);
    let up = || Cmd::sync(tree.path(), "source", &format!("s3://{bucket}/")).to(&relay.server).args(ONE_BY_ONE);
    let child = up().args(["--aws-max-attempts", "1"]).spawn();
    // The connection had been used before, so the client tries once more on a fresh one.
    for _ in 0..2 {
        relay.wait_until_held();
        relay.cut();
    }
    let failed = Output::of(child);
    relay.release();
    assert_eq!((failed.code, failed.count("failed_objects"), failed.count("kept_objects")), (1, 1, 1));
    assert!(failed.stderr.contains("1 unfinished objects are kept"), "{}", failed.stderr);
    assert_eq!(server.open_uploads(&bucket).len(), 1);
    assert_eq!(up().expect(0).count("resumed_bytes"), 15 * MIB);
    assert_eq!(server.open_uploads(&bucket), [""; 0]);
}

#[test]
fn a_source_that_changed_is_begun_anew_and_what_was_left_of_the_old_is_removed() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("changed-source");
    let place = format!("s3://{bucket}/");
    tree.file("source/z", noise(6, 33 << 20));
    let relay = Relay::before(&server);
    relay.hold_uploads_after(17 * MIB);
    interrupt(&relay, Cmd::sync(tree.path(), "source", &place).to(&relay.server).args(ONE_BY_ONE), "KILL");
    tree.file("source/z", noise(7, 33 << 20));
    let again = Cmd::sync(tree.path(), "source", &place).to(&relay.server).args(ONE_BY_ONE).expect(0);
    assert_eq!(again.count("resumed_bytes"), 0);
    assert!(server.get(&bucket, "z").unwrap() == noise(7, 33 << 20), "the content differs");
    assert_eq!(server.open_uploads(&bucket), [""; 0]);

    relay.hold_answers_after(20 * MIB);
    let down = |server: &Server| Cmd::sync(tree.path(), &place, "down").from(server).args(ONE_BY_ONE);
    interrupt(&relay, down(&relay.server), "KILL");
    server.put(&bucket, "z", noise(8, 20 << 20));
    assert_eq!(down(&relay.server).expect(0).count("resumed_bytes"), 0);
    assert!(tree.contents("down")[Path::new("z")] == noise(8, 20 << 20), "the content differs");
    assert_eq!(partials(&tree), [""; 0].map(PathBuf::from));
}

#[test]
fn what_a_killed_run_left_is_removed_when_its_object_is_gone() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("gone");
    let place = format!("s3://{bucket}/");
    tree.file("source/a", "small").file("source/z", noise(9, 33 << 20));
    let relay = Relay::before(&server);
    relay.hold_uploads_after(17 * MIB);
    interrupt(&relay, Cmd::sync(tree.path(), "source", &place).to(&relay.server).args(ONE_BY_ONE), "KILL");
    std::fs::remove_file(tree.at("source/z")).expect("a file");
    Cmd::sync(tree.path(), "source", &place).to(&relay.server).args(ONE_BY_ONE).expect(0);
    assert_eq!(server.open_uploads(&bucket), [""; 0]);
}

#[test]
fn without_resume_nothing_is_continued_and_nothing_is_kept() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("afresh");
    let place = format!("s3://{bucket}/");
    tree.file("source/z", noise(10, 33 << 20));
    let up = |server: &Server| Cmd::sync(tree.path(), "source", &place).to(server).args(ONE_BY_ONE);
    let relay = Relay::before(&server);
    relay.hold_uploads_after(17 * MIB);
    interrupt(&relay, up(&relay.server), "KILL");
    let old = server.open_uploads(&bucket);
    relay.hold_uploads_after(17 * MIB);
    let stopped = interrupt(&relay, up(&relay.server).arg("--no-resume"), "INT");
    assert_eq!((stopped.code, stopped.count("kept_objects"), stopped.count("resumed_bytes")), (130, 0, 0));
    assert_eq!(server.open_uploads(&bucket), [""; 0], "neither {old:?} nor its own");
    assert_eq!(up(&relay.server).expect(0).count("resumed_bytes"), 0);
}

#[test]
fn a_second_run_of_the_same_job_is_refused_by_name_and_other_jobs_are_not() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("twice");
    let place = format!("s3://{bucket}/p/");
    tree.file("source/z", noise(11, 12 << 20));
    let relay = Relay::before(&server);
    relay.hold_uploads_after(MIB);
    let run = || Cmd::sync(tree.path(), "source", &place).to(&relay.server);
    let first = run().spawn();
    relay.wait_until_held();
    let second = run().expect(5);
    let words = format!("already running as process {}", first.id());
    assert!(second.stderr.contains(&words), "{}", second.stderr);
    run().arg("--dry-run").expect(0);
    Cmd::sync(tree.path(), "source", &format!("s3://{bucket}/q/")).to(&server).expect(0);
    let line = format!("kill -KILL {}", first.id());
    assert!(Command::new("sh").args(["-c", &line]).status().expect("a shell").success());
    Output::of(first);
    relay.release();
    run().expect(0);
}

#[test]
fn journals_within_the_source_are_not_copied() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("own-state");
    tree.file("a", "1").file("state-of-mind", "2").file("z", noise(13, 12 << 20));
    let run = || Cmd::sync(tree.path(), ".", &format!("s3://{bucket}/")).to(&server).args(["--state-dir", "./state"]);
    run().expect(0);
    tree.file("state/some.db", "not ours, but where ours would be");
    run().expect(0);
    assert_eq!(server.keys(&bucket, ""), ["a", "state-of-mind", "z"]);
}

#[test]
fn a_damaged_journal_is_put_aside_and_the_run_goes_on() {
    let (server, tree, state) = (Server::any(), Tree::new(), Tree::new());
    let bucket = server.bucket("damaged");
    let place = format!("s3://{bucket}/");
    tree.file("source/z", noise(12, 33 << 20));
    let up = |server: &Server| {
        Cmd::sync(tree.path(), "source", &place).to(server).args(ONE_BY_ONE).arg("--state-dir").arg(state.path())
    };
    let relay = Relay::before(&server);
    relay.hold_uploads_after(17 * MIB);
    interrupt(&relay, up(&relay.server), "KILL");
    let journals: Vec<_> = state.names("").into_iter().filter(|name| name.to_string_lossy().contains(".db")).collect();
    journals.iter().for_each(|name| std::fs::write(state.at(name), "nonsense ".repeat(2_000)).expect("a file"));
    let again = up(&relay.server).expect(3);
    assert!(again.stderr.contains("is damaged") && again.stderr.contains("put aside"), "{}", again.stderr);
    assert_eq!(again.count("transferred_objects"), 1);
    assert!(server.get(&bucket, "z").unwrap() == noise(12, 33 << 20), "the content differs");
    up(&relay.server).expect(0);
}

#[test]
fn a_full_state_directory_is_said_once_and_the_run_goes_on() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("full-state");
    for number in 0..3 {
        tree.file(format!("source/{number}"), noise(number, 12 << 20));
    }
    std::fs::create_dir(tree.at("state")).expect("a directory");
    // None at all; enough to begin with but not to go on.
    for (pages, target) in [(1, "a/"), (24, "b/")] {
        let mounted = format!("mount -t tmpfs -o size={}k none state && exec \"$@\"", pages * 4);
        let run = Cmd::sync(tree.path(), "source", &format!("s3://{bucket}/{target}")).to(&server);
        let run = run.args(["--state-dir", "state", "--multipart-chunksize", "5MiB", "--json"]);
        let probe = ["unshare", "--mount", "--map-root-user", "sh", "-c", "mount -t tmpfs none /tmp"];
        let may = Command::new(probe[0]).args(&probe[1..]).output().is_ok_and(|output| output.status.success());
        if !may {
            server.skip(&[&server.name], "this system lets nobody mount in a namespace of his own");
            return;
        }
        let output = run.under(["unshare", "--mount", "--map-root-user", "sh", "-c", &mounted, "sh"]).run();
        assert_eq!(output.count("transferred_objects"), 3, "{}", output.stderr);
        assert_eq!(output.count("failed_objects"), 0);
        let said = output.stderr.matches("cannot be continued if it is interrupted").count();
        assert_eq!((output.code, said), (3, 1), "{pages} pages: {}", output.stderr);
        assert_eq!(server.open_uploads(&bucket), [""; 0]);
    }
}

//! s3sync's own scenarios about filters, and the rules of its filters one by one: what is left out is counted, named in the
//! log and never deleted.

mod support;

use support::cmd::Output;
use support::{Cmd, Server, Tree};

/// s3sync's usual five files of nine bytes.
const CASE1: [&str; 5] = ["data1", "dir1/data1", "dir2/data2", "dir21/data1", "dir5/data3"];

fn case1(tree: &Tree, directory: &str) {
    for name in CASE1 {
        tree.file(format!("{directory}/{name}"), "case1 9 b");
    }
}

/// The same and one of twenty bytes.
fn case5(tree: &Tree, directory: &str) {
    case1(tree, directory);
    tree.file(format!("{directory}/20bytes"), "x".repeat(20));
}

fn sync(tree: &Tree, source: &str, target: &str) -> Cmd {
    Cmd::sync(tree.path(), source, target).env("ROPEWAY_JSON", "true")
}

/// How many objects were copied, and how many were left alone.
#[track_caller]
fn counts(output: &Output) -> [u64; 2] {
    ["transferred_objects", "skipped_objects"].map(|name| output.count(name))
}

/// Every object that a filter left out, as `flag key`.
fn filtered(output: &Output) -> Vec<String> {
    let lines = output.stdout.lines().map(|line| serde_json::from_str(line).expect("each line is JSON"));
    let mut found: Vec<String> = lines
        .filter(|line: &serde_json::Value| line["event"] == "filtered")
        .map(|line| format!("{} {}", line["filter"].as_str().unwrap(), line["key"].as_str().unwrap()))
        .collect();
    found.sort();
    found
}

#[track_caller]
fn assert_says(output: &Output, words: &str) {
    assert!(output.stderr.contains(words), "`{words}` is not in:\n{}\n{}", output.stderr, output.stdout);
}

#[test]
fn local_to_s3_with_multiple_filters() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("multiple-filters");
    case5(&tree, "case5");
    let output = sync(&tree, "case5", &format!("s3://{bucket}/"))
        .to(&server)
        .args(["--filter-smaller-size", "30", "--filter-larger-size", "10"])
        .expect(0);
    assert_eq!(counts(&output), [1, 5]);
    assert_eq!(server.keys(&bucket, ""), ["20bytes"]);
    assert_eq!(output.count("filtered_objects"), 5);
}

/// Each filter of what a listing shows, in all directions.
#[test]
fn every_filter_of_a_listing_leaves_out_what_it_says() {
    let (server, tree) = (Server::any(), Tree::new());
    let [one, two] = ["filters-one", "filters-two"].map(|name| server.bucket(name));
    case5(&tree, "source");
    Cmd::sync(tree.path(), "source", &format!("s3://{one}/p/")).to(&server).expect(0);
    let all = ["20bytes", "data1", "dir1/data1", "dir2/data2", "dir21/data1", "dir5/data3"];
    // Written a moment ago, in the clock of any server; files as well.
    let (past, future) = ("2001-01-01T00:00:00Z", "2200-01-01T00:00:00+02:00");
    let tables: [(&[&str], &[&str]); 12] = [
        (&["--filter-mtime-before", past], &[]),
        (&["--filter-mtime-before", future], &all),
        (&["--filter-mtime-after", past], &all),
        (&["--filter-mtime-after", future], &[]),
        (&["--filter-smaller-size", "20"], &all[1..]),
        (&["--filter-smaller-size", "1KiB"], &all),
        (&["--filter-larger-size", "20"], &all[..1]),
        (&["--filter-larger-size", "9B"], &all),
        (&["--filter-include-regex", "dir2"], &["dir2/data2", "dir21/data1"]),
        (&["--filter-exclude-regex", "^dir"], &["20bytes", "data1"]),
        // The prefix is not part of it.
        (&["--filter-include-regex", "^(p/|dir1/)"], &["dir1/data1"]),
        (&["--filter-include-regex", r"data\d$", "--filter-exclude-regex", "^(?!dir21)"], &["dir21/data1"]),
    ];
    let (one, two) = (format!("s3://{one}/p/"), format!("s3://{two}/"));
    for (number, (flags, expected)) in tables.into_iter().enumerate() {
        let (local, target) = (format!("t{number}"), format!("{two}{number}/"));
        let runs = [
            (sync(&tree, "source", &local), false),
            (sync(&tree, &one, &local).from(&server), false),
            (sync(&tree, &one, &target).from(&server).to(&server), true),
            (sync(&tree, "source", &target).to(&server), true),
        ];
        for (run, in_bucket) in runs {
            let output = run.args(flags).expect(0);
            let left_out = output.count("filtered_objects") as usize;
            assert_eq!(left_out, all.len() - expected.len(), "{flags:?}");
            assert_eq!(filtered(&output).len(), left_out);
            assert!(filtered(&output).iter().all(|line| flags.iter().any(|flag| line.starts_with(*flag))));
            let there: Vec<String> = match in_bucket {
                true => {
                    let bucket = two.trim_start_matches("s3://").trim_end_matches('/');
                    let prefix = format!("{number}/");
                    server.keys(bucket, &prefix).iter().map(|key| key[prefix.len()..].to_owned()).collect()
                }
                false => tree.contents(&local).keys().map(|path| path.to_str().unwrap().to_owned()).collect(),
            };
            assert_eq!(there, expected, "{flags:?}");
            if !in_bucket {
                let _ = std::fs::remove_dir_all(tree.at(&local));
            }
        }
    }
}

#[test]
fn a_time_is_told_to_the_nanosecond_and_belongs_to_what_comes_after() {
    let tree = Tree::new();
    // 2020-06-01T12:00:00.500000000Z, and a nanosecond before.
    let time = 1_591_012_800_500_000_000;
    tree.file("source/at", "a").file("source/before", "b");
    tree.set_modified("source/at", time).set_modified("source/before", time - 1);
    let run = |flag: &str, target: &str| {
        sync(&tree, "source", target).args([flag, "2020-06-01T14:00:00.5+02:00"]).expect(0);
        tree.names(target)
    };
    assert_eq!(run("--filter-mtime-before", "one"), [std::path::Path::new("before")]);
    assert_eq!(run("--filter-mtime-after", "two"), [std::path::Path::new("at")]);
}

/// What `--delete` leaves of five objects, of which the source has lost `dir21/data1`.
fn after_deleting(flags: &[&str], direction: Direction) -> Vec<String> {
    let (server, tree) = (Server::any(), Tree::new());
    let [one, two] = ["delete-filter-one", "delete-filter-two"].map(|name| server.bucket(name));
    case1(&tree, "source");
    let source = match direction {
        Direction::Upload => "source".to_owned(),
        Direction::Download | Direction::Between => {
            Cmd::sync(tree.path(), "source", &format!("s3://{one}/")).to(&server).expect(0);
            format!("s3://{one}/")
        }
    };
    let target = match direction {
        Direction::Download => "target".to_owned(),
        Direction::Upload | Direction::Between => format!("s3://{two}/"),
    };
    let run = || {
        let run = sync(&tree, &source, &target);
        match direction {
            Direction::Upload => run.to(&server),
            Direction::Download => run.from(&server),
            Direction::Between => run.from(&server).to(&server),
        }
    };
    run().expect(0);
    match direction {
        Direction::Upload => std::fs::remove_file(tree.at("source/dir21/data1")).unwrap(),
        Direction::Download | Direction::Between => {
            server.request("DELETE", &format!("/{one}/dir21/data1"), &[], b"").expect("deleting");
        }
    }
    run().args(flags).expect(0);
    match direction {
        Direction::Download => tree.contents("target").keys().map(|path| path.to_str().unwrap().to_owned()).collect(),
        Direction::Upload | Direction::Between => server.keys(&two, ""),
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Upload,
    Download,
    Between,
}

const WITHOUT_DIR21: [&str; 4] = ["data1", "dir1/data1", "dir2/data2", "dir5/data3"];

#[test]
fn local_to_s3_with_delete_excluded() {
    let flags = ["--filter-exclude-regex", "dir21/.+", "--delete", "--delete-excluded"];
    assert_eq!(after_deleting(&flags, Direction::Upload), WITHOUT_DIR21);
}

#[test]
fn local_to_s3_with_delete_without_excluded() {
    let flags = ["--filter-exclude-regex", "dir21/.+", "--delete"];
    assert_eq!(after_deleting(&flags, Direction::Upload), CASE1);
}

#[test]
fn s3_to_local_with_delete_excluded() {
    let flags = ["--filter-exclude-regex", "dir21/.+", "--delete", "--delete-excluded"];
    assert_eq!(after_deleting(&flags, Direction::Download), WITHOUT_DIR21);
}

#[test]
fn s3_to_local_with_delete_no_excluded() {
    let flags = ["--filter-exclude-regex", "dir21/.+", "--delete"];
    assert_eq!(after_deleting(&flags, Direction::Download), CASE1);
}

#[test]
fn s3_to_s3_with_delete_excluded() {
    let flags = ["--filter-exclude-regex", "dir21/.+", "--delete", "--delete-excluded"];
    assert_eq!(after_deleting(&flags, Direction::Between), WITHOUT_DIR21);
}

#[test]
fn s3_to_s3_with_delete_no_excluded() {
    let flags = ["--filter-exclude-regex", "dir21/.+", "--delete"];
    assert_eq!(after_deleting(&flags, Direction::Between), CASE1);
}

#[test]
fn an_object_that_is_left_out_is_in_the_source_and_never_an_extra() {
    let all_out: [&[&str]; 5] = [
        &["--filter-include-regex", "nothing is called so"],
        &["--filter-smaller-size", "1"],
        &["--filter-mtime-after", "2200-01-01T00:00:00Z"],
        &["--filter-include-content-type-regex", "nothing/nothing"],
        &["--filter-exclude-regex", "data", "--delete-excluded"],
    ];
    for flags in all_out {
        let flags: Vec<&str> = flags.iter().copied().chain(["--delete"]).collect();
        for direction in [Direction::Upload, Direction::Download, Direction::Between] {
            assert_eq!(after_deleting(&flags, direction), WITHOUT_DIR21, "{flags:?}");
        }
    }
}

#[test]
fn an_include_shields_nothing_at_the_target() {
    let flags = ["--filter-include-regex", "dir1/", "--delete"];
    assert_eq!(after_deleting(&flags, Direction::Upload), WITHOUT_DIR21);
}

/// Five objects with one kind of header, and one with another.
fn two_stages(server: &Server, name: &str, first: (&str, &str), second: (&str, &str)) -> String {
    let bucket = server.bucket(name);
    for key in CASE1 {
        server.put_with(&bucket, key, &[first, ("x-amz-meta-test", "filtering")], "case1 9 b");
    }
    server.put_with(&bucket, "20bytes", &[second, ("x-amz-meta-test", "filtering")], "x".repeat(20));
    format!("s3://{bucket}/")
}

/// Copies to a place of its own with one flag; what was copied and what was not.
fn run_with(server: &Server, source: &str, flag: &str, pattern: &str) -> [u64; 2] {
    let tree = Tree::new();
    let target = format!("s3://{}/", server.bucket("filter-target"));
    let output = sync(&tree, source, &target).from(server).to(server).args([flag, pattern]).expect(0);
    let local = sync(&tree, source, "local").from(server).args([flag, pattern]).expect(0);
    assert_eq!(counts(&output), counts(&local), "to a bucket and to a directory");
    assert_eq!(output.count("filtered_objects"), output.count("skipped_objects"));
    assert_eq!(output.count("planned_objects"), output.count("transferred_objects"), "nothing seems to be left to do");
    counts(&output)
}

#[test]
fn s3_to_s3_metadata_filtering() {
    let server = Server::any();
    let [first, second] = ["first_stage", "second_stage"].map(|stage| ("x-amz-meta-stage", stage));
    let source = two_stages(&server, "metadata-filter", first, second);
    let [include, exclude] = ["--filter-include-metadata-regex", "--filter-exclude-metadata-regex"];
    let never = "^(?!.*,test=filtering).*stage=first_stage";
    assert_eq!(run_with(&server, &source, include, never), [0, 6]);
    assert_eq!(run_with(&server, &source, include, "stage=first_stage"), [5, 1]);
    assert_eq!(run_with(&server, &source, include, "stage=second_stage"), [1, 5]);
    assert_eq!(run_with(&server, &source, include, "^stage=second_stage,test=filtering$"), [1, 5]);
    assert_eq!(run_with(&server, &source, exclude, "stage=first_stage"), [1, 5]);
    assert_eq!(run_with(&server, &source, exclude, "stage=second_stage"), [5, 1]);
    assert_eq!(run_with(&server, &source, exclude, never), [6, 0]);
}

#[test]
fn s3_to_s3_metadata_filtering_no_metadata() {
    let server = Server::any();
    let bucket = server.bucket("no-metadata");
    for key in CASE1 {
        server.put(&bucket, key, "case1 9 b");
    }
    let source = format!("s3://{bucket}/");
    let [include, exclude] = ["--filter-include-metadata-regex", "--filter-exclude-metadata-regex"];
    assert_eq!(run_with(&server, &source, include, "stage=first_stage"), [0, 5]);
    assert_eq!(run_with(&server, &source, include, ".*"), [0, 5]);
    assert_eq!(run_with(&server, &source, exclude, "stage=first_stage"), [5, 0]);
}

#[test]
fn s3_to_s3_content_type_filtering() {
    let server = Server::any();
    let [first, second] = ["application/pdf", "video/mpeg"].map(|kind| ("content-type", kind));
    let source = two_stages(&server, "type-filter", first, second);
    let [include, exclude] = ["--filter-include-content-type-regex", "--filter-exclude-content-type-regex"];
    assert_eq!(run_with(&server, &source, include, "application/.+"), [5, 1]);
    assert_eq!(run_with(&server, &source, include, "video/.+"), [1, 5]);
    assert_eq!(run_with(&server, &source, exclude, "application/.+"), [1, 5]);
    assert_eq!(run_with(&server, &source, exclude, "video/.+"), [5, 1]);
}

#[test]
fn s3_to_s3_tag_filtering() {
    let server = Server::any();
    let [first, second] =
        ["stage=first_stage&test=t%20t", "stage=second_stage&test=t%20t"].map(|it| ("x-amz-tagging", it));
    let source = two_stages(&server, "tag-filter", first, second);
    let [include, exclude] = ["--filter-include-tag-regex", "--filter-exclude-tag-regex"];
    assert_eq!(run_with(&server, &source, include, "^(?!.*&test=t%20t).*stage=first_stage"), [0, 6]);
    assert_eq!(run_with(&server, &source, include, "stage=first_stage"), [5, 1]);
    assert_eq!(run_with(&server, &source, include, "^stage=second_stage&test=t%20t$"), [1, 5]);
    assert_eq!(run_with(&server, &source, exclude, "stage=first_stage"), [1, 5]);
    assert_eq!(run_with(&server, &source, exclude, "stage=second_stage"), [5, 1]);
}

#[test]
fn s3_to_s3_tag_filtering_no_tag() {
    let server = Server::any();
    let bucket = server.bucket("no-tags");
    for key in CASE1 {
        server.put(&bucket, key, "case1 9 b");
    }
    let source = format!("s3://{bucket}/");
    let [include, exclude] = ["--filter-include-tag-regex", "--filter-exclude-tag-regex"];
    assert_eq!(run_with(&server, &source, include, "stage=first_stage"), [0, 5]);
    assert_eq!(run_with(&server, &source, include, ".*"), [0, 5]);
    assert_eq!(run_with(&server, &source, exclude, "stage=first_stage"), [5, 0]);
    assert_eq!(run_with(&server, &source, exclude, ".*"), [5, 0]);
}

#[test]
fn local_to_s3_content_type_filtering() {
    let (server, tree) = (Server::any(), Tree::new());
    tree.file("source/a.pdf", "a").file("source/b.mpeg", "b").file("source/c", "c");
    let run = |flag: &str, pattern: &str| {
        let bucket = server.bucket("type-filter-local");
        sync(&tree, "source", &format!("s3://{bucket}/")).to(&server).args([flag, pattern]).expect(0);
        server.keys(&bucket, "")
    };
    assert_eq!(run("--filter-include-content-type-regex", "^application/pdf$"), ["a.pdf"]);
    assert_eq!(run("--filter-include-content-type-regex", "octet-stream"), ["c"]);
    assert_eq!(run("--filter-exclude-content-type-regex", "^video/"), ["a.pdf", "c"]);
}

#[test]
fn local_to_s3_content_type_filtering_no_content_type() {
    let (server, tree) = (Server::any(), Tree::new());
    tree.file("source/a.pdf", "a").file("source/b", "b");
    let run = |flags: [&str; 2]| {
        let bucket = server.bucket("no-type");
        counts(
            &sync(&tree, "source", &format!("s3://{bucket}/"))
                .to(&server)
                .arg("--no-guess-mime-type")
                .args(flags)
                .expect(0),
        )
    };
    assert_eq!(run(["--filter-include-content-type-regex", "application/.+"]), [0, 2]);
    assert_eq!(run(["--filter-exclude-content-type-regex", "video/.+"]), [2, 0]);
}

#[test]
fn only_what_is_to_be_copied_is_asked() {
    use support::model::Object;
    use support::scripted::Scripted;
    let (source, target, tree) = (Scripted::start(), Scripted::start(), Tree::new());
    for key in ["a", "b", "c"] {
        source.model().objects.insert(key.to_owned(), Object::new(key));
    }
    target.model().objects.insert("a".to_owned(), Object::new("a"));
    let run = || {
        sync(&tree, "s3://one/", "s3://two/").from(&source.server).to(&target.server).args([
            "--filter-exclude-regex",
            "c",
            "--filter-exclude-metadata-regex",
            "nothing",
        ])
    };
    assert_eq!(counts(&run().expect(0)), [1, 2]);
    let asked: Vec<_> = source.requests_of("HeadObject").into_iter().map(|request| request.key).collect();
    assert_eq!(asked, ["b"]);
    assert_eq!(counts(&run().expect(0)), [0, 3]);
    assert_eq!(source.requests_of("HeadObject").len(), 1);
}

#[test]
fn an_object_that_cannot_be_asked_fails() {
    use support::model::Object;
    use support::scripted::{Answer, Scripted};
    let (source, tree) = (Scripted::start(), Tree::new());
    for key in ["a", "b"] {
        source.model().objects.insert(key.to_owned(), Object::new(key));
    }
    source.on("HeadObject", "a").answer(Answer::error(404, "NoSuchKey"));
    let output = sync(&tree, "s3://one/", "target")
        .from(&source.server)
        .args(["--filter-exclude-content-type-regex", "video"])
        .expect(1);
    assert_eq!((counts(&output), output.count("failed_objects")), ([1, 0], 1));
}

#[test]
fn a_dry_run_a_plan_and_a_comparison_heed_filters() {
    let tree = Tree::new();
    case1(&tree, "source");
    let flags = ["--filter-include-regex", "^dir", "--filter-exclude-regex", "5"];
    let output = sync(&tree, "source", "target").args(flags).arg("--dry-run").expect(0);
    assert_eq!(output.count("planned_objects"), 3);
    let plan = Cmd::new(tree.path(), ["plan", "source", "target"]).args(flags).expect(0);
    assert_eq!(plan.stdout.lines().filter(|line| line.contains("\"copy\"")).count(), 3, "{}", plan.stdout);
    sync(&tree, "source", "target").args(flags).expect(0);
    tree.file("target/other", "not taken from the source by this name").file("target/dir/extra", "taken");
    let verify = Cmd::new(tree.path(), ["verify", "source", "target"]).args(flags).expect(4);
    let lines: Vec<_> = verify.stdout.lines().collect();
    assert!(lines.len() == 1 && lines[0].contains("dir/extra"), "{lines:?}");
    Cmd::new(tree.path(), ["verify", "source", "target"]).expect(4);
}

#[test]
fn with_ignore_symlinks_links_are_left_out() {
    let (server, tree) = (Server::any(), Tree::new());
    tree.file("source/data1", "1").file("elsewhere/data2", "2");
    for (link, to) in [("source/link", "data1"), ("source/dir", "../elsewhere"), ("source/nowhere", "absent")] {
        std::os::unix::fs::symlink(to, tree.at(link)).unwrap();
    }
    std::os::unix::fs::symlink("source", tree.at("argument")).unwrap();
    let run = |source: &str, flags: &[&str], code: i32| {
        let bucket = server.bucket("symlinks");
        sync(&tree, source, &format!("s3://{bucket}/")).to(&server).args(flags).expect(code);
        server.keys(&bucket, "")
    };
    assert_eq!(run("source", &["--ignore-symlinks"], 0), ["data1"]);
    assert_eq!(run("argument", &["--ignore-symlinks"], 0), ["data1"], "the source itself may be a link");
    std::fs::remove_file(tree.at("source/nowhere")).unwrap();
    assert_eq!(run("source", &[], 0), ["data1", "dir/data2", "link"]);
}

#[test]
fn with_ignore_symlinks_the_copy_of_a_link_is_no_extra() {
    let (server, tree) = (Server::any(), Tree::new());
    let bucket = server.bucket("symlink-copies");
    tree.file("source/data1", "1");
    std::os::unix::fs::symlink("data1", tree.at("source/link")).unwrap();
    let run = || sync(&tree, "source", &format!("s3://{bucket}/")).to(&server);
    run().expect(0);
    server.put(&bucket, "extra", "e");
    run().args(["--ignore-symlinks", "--delete"]).expect(0);
    assert_eq!(server.keys(&bucket, ""), ["data1", "link"]);
}

#[test]
fn values_that_make_no_sense_are_refused_before_anything_is_contacted() {
    let tree = Tree::new();
    let wrong = [
        ["--filter-mtime-before", "yesterday"],
        ["--filter-mtime-after", "2023-02-19"],
        ["--filter-smaller-size", "10 sheep"],
        ["--filter-larger-size", "many"],
        ["--filter-include-regex", "("],
        ["--filter-exclude-metadata-regex", "[z-a]"],
    ];
    for flags in wrong {
        let output = sync(&tree, "absent", "target").args(flags).expect(2);
        assert_says(&output, flags[0]);
    }
}

#[test]
fn a_pattern_that_gives_up_on_a_key_fails_that_key() {
    let tree = Tree::new();
    let slow = "ab".repeat(40);
    tree.file(format!("source/{slow}"), "1").file("source/x", "2");
    let output = sync(&tree, "source", "target").args(["--filter-exclude-regex", "(a|b|ab)*(?>c)"]).expect(1);
    assert_eq!((counts(&output), output.count("failed_objects")), ([1, 0], 1));
    assert_says(&output, "--filter-exclude-regex cannot decide about it");
}

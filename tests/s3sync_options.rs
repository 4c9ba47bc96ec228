//! The table of s3sync's options (`s3sync_options.md`): generated from `ropeway sync --help` and from the tests that give each
//! option, and compared with what is committed. `ROPEWAY_WRITE_TABLE=1` writes it anew.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use support::{Cmd, Tree};

/// The options of s3sync 1.21, the seed.
const SEED: [&str; 92] = [
    "dry-run",
    "server-side-copy",
    "aws-config-file",
    "aws-shared-credentials-file",
    "source-profile",
    "source-access-key",
    "source-secret-access-key",
    "source-session-token",
    "target-profile",
    "target-access-key",
    "target-secret-access-key",
    "target-session-token",
    "source-region",
    "source-endpoint-url",
    "source-accelerate",
    "source-request-payer",
    "source-force-path-style",
    "target-region",
    "target-endpoint-url",
    "target-accelerate",
    "target-request-payer",
    "target-force-path-style",
    "storage-class",
    "filter-mtime-before",
    "filter-mtime-after",
    "filter-smaller-size",
    "filter-larger-size",
    "filter-include-regex",
    "filter-exclude-regex",
    "remove-modified-filter",
    "check-size",
    "check-etag",
    "check-mtime-and-etag",
    "check-additional-checksum",
    "check-mtime-and-additional-checksum",
    "additional-checksum-algorithm",
    "full-object-checksum",
    "enable-additional-checksum",
    "disable-multipart-verify",
    "disable-etag-verify",
    "worker-size",
    "max-parallel-uploads",
    "rate-limit-objects",
    "rate-limit-bandwidth",
    "multipart-threshold",
    "multipart-chunksize",
    "auto-chunksize",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "metadata",
    "website-redirect",
    "tagging",
    "disable-tagging",
    "sync-latest-tagging",
    "enable-versioning",
    "sse",
    "sse-kms-key-id",
    "source-sse-c",
    "source-sse-c-key",
    "source-sse-c-key-md5",
    "target-sse-c",
    "target-sse-c-key",
    "target-sse-c-key-md5",
    "json-tracing",
    "aws-sdk-tracing",
    "span-events-tracing",
    "disable-color-tracing",
    "aws-max-attempts",
    "initial-backoff-milliseconds",
    "force-retry-count",
    "force-retry-interval-milliseconds",
    "operation-timeout-milliseconds",
    "operation-attempt-timeout-milliseconds",
    "connect-timeout-milliseconds",
    "read-timeout-milliseconds",
    "warn-as-error",
    "ignore-symlinks",
    "head-each-target",
    "acl",
    "no-guess-mime-type",
    "max-keys",
    "put-last-modified-metadata",
    "auto-complete-shell",
    "disable-stalled-stream-protection",
    "disable-payload-signing",
    "disable-content-md5-header",
    "disable-express-one-zone-additional-checksum",
    "delete",
];

/// Newer ones, up to 1.62, that Ropeway has as well.
const NEWER: [&str; 26] = [
    "show-no-progress",
    "source-no-sign-request",
    "filter-include-content-type-regex",
    "filter-exclude-content-type-regex",
    "filter-include-metadata-regex",
    "filter-exclude-metadata-regex",
    "filter-include-tag-regex",
    "filter-exclude-tag-regex",
    "disable-additional-checksum-verify",
    "max-parallel-listings",
    "max-parallel-listing-max-depth",
    "object-listing-queue-size",
    "allow-parallel-listings-in-express-one-zone",
    "no-sync-system-metadata",
    "no-sync-user-defined-metadata",
    "point-in-time",
    "report-sync-status",
    "report-metadata-sync-status",
    "report-tagging-sync-status",
    "tracing-stderr",
    "delete-excluded",
    "if-match",
    "copy-source-if-match",
    "if-none-match",
    "max-delete",
    "ignore-glacier-warnings",
];

/// Newer ones that are left out for now: scripts, event callbacks and object annotations.
const LEFT_OUT: [&str; 11] = [
    "enable-sync-object-annotations",
    "disable-check-annotation-etag",
    "sync-latest-object-annotations",
    "report-annotations-sync-status",
    "preprocess-callback-lua-script",
    "event-callback-lua-script",
    "filter-callback-lua-script",
    "allow-lua-os-library",
    "lua-vm-memory-limit",
    "lua-callback-timeout-milliseconds",
    "allow-lua-unsafe-vm",
];

/// An option as the help shows it.
#[derive(Default)]
struct Shown {
    value: String,
    variable: String,
    default: String,
    aliases: String,
}

fn help() -> BTreeMap<String, Shown> {
    let text = Cmd::new(Tree::new().path(), ["sync", "--help"]).expect(0).stdout;
    let mut options: BTreeMap<String, Shown> = BTreeMap::new();
    let (mut now, mut bracket) = (String::new(), String::new());
    for line in text.lines() {
        let trimmed = line.trim();
        let flag = trimmed.split(", ").last().unwrap_or_default();
        if line.starts_with("  ") && trimmed.starts_with('-') && flag.starts_with("--") {
            let (name, value) = flag.split_once(' ').unwrap_or((flag, ""));
            // `--verbose...` may be given several times.
            now = name.trim_start_matches("--").trim_end_matches("...").to_owned();
            options.insert(now.clone(), Shown { value: value.to_owned(), ..Shown::default() });
            continue;
        }
        // `[env: ...]` and the like may go over several lines.
        if bracket.is_empty() && !trimmed.starts_with('[') && !trimmed.contains("[default: ") {
            continue;
        }
        bracket += if bracket.is_empty() { "" } else { " " };
        bracket += trimmed;
        if !trimmed.ends_with(']') && !trimmed.ends_with("].") {
            continue;
        }
        let Some(option) = options.get_mut(&now) else { continue };
        bracket = bracket.replace("[aliases: ", "[alias: ");
        for (start, field) in
            [("[env: ", &mut option.variable), ("[default: ", &mut option.default), ("[alias: ", &mut option.aliases)]
        {
            if let Some((_, rest)) = bracket.split_once(start) {
                *field = rest.split([']', '=']).next().unwrap_or_default().to_owned();
            }
        }
        bracket.clear();
    }
    options
}

/// The tests that give each flag, by itself or as a variable: `suite::test`.
fn tests() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut suites: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    // Those that are about s3sync first: they say most about the option.
    suites.sort_by_key(|path| (!path.file_stem().unwrap().to_string_lossy().starts_with("s3sync"), path.clone()));
    for path in suites.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        let suite = path.file_stem().unwrap().to_string_lossy().into_owned();
        if suite == "s3sync_options" {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        // What a suite says before its first test is given by tests of it.
        for body in text.split("#[test]\n") {
            let is_test = body.starts_with("fn ");
            let name = body.trim_start_matches("fn ").split('(').next().unwrap_or_default();
            for word in body.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_') {
                let by_variable = word.strip_prefix("ROPEWAY_").map(|name| name.to_lowercase().replace('_', "-"));
                let flag = word.strip_prefix("--").map(str::to_owned).or(by_variable);
                if let Some(flag) = flag.filter(|flag| !flag.is_empty()) {
                    let tests = found.entry(flag).or_default();
                    let test = if is_test { format!("{suite}::{name}") } else { suite.clone() };
                    if !tests.contains(&test) {
                        tests.push(test);
                    }
                }
            }
        }
    }
    found
}

/// Tests named for an option; more would only make the row long.
const TESTS_SHOWN: usize = 2;

fn table() -> String {
    let (options, tests, mut untested) = (help(), tests(), Vec::new());
    let mut text = String::from(
        "# s3sync's options in `ropeway sync`\n\nGenerated by `ROPEWAY_WRITE_TABLE=1 cargo test --test s3sync_options`; a test \
         compares it with `--help`. The README says where the meaning differs.\n",
    );
    for (title, flags) in [("s3sync 1.21 (92)", &SEED[..]), ("Newer, up to 1.62", &NEWER[..])] {
        let _ = write!(
            text,
            "\n## {title}\n\n| Option | Value | Default | Variable | Tested by |\n|---|---|---|---|---|\n"
        );
        for flag in flags {
            let alias = || options.values().find(|option| option.aliases.contains(&format!("--{flag}")));
            let option = options.get(*flag).or_else(alias).unwrap_or_else(|| panic!("--{flag} is not in the help"));
            let none = Vec::new();
            let tests = tests.get(*flag).unwrap_or(&none);
            if tests.is_empty() {
                untested.push(*flag);
            }
            let tests: Vec<String> = tests.iter().take(TESTS_SHOWN).map(|test| format!("`{test}`")).collect();
            let code =
                |text: &str| if text.is_empty() { String::new() } else { format!("`{}`", text.replace('|', "\\|")) };
            let _ = writeln!(
                text,
                "| `--{flag}` | {} | {} | {} | {} |",
                code(&option.value),
                option.default.replace('|', "\\|"),
                code(&option.variable),
                tests.join(", "),
            );
        }
    }
    assert!(untested.is_empty(), "no test gives {untested:?}");
    text
}

#[test]
fn the_table_of_options_is_what_the_help_and_the_tests_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/s3sync_options.md");
    let table = table();
    if std::env::var_os("ROPEWAY_WRITE_TABLE").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    for (line, (ours, theirs)) in table.lines().zip(committed.lines().chain(std::iter::repeat(""))).enumerate() {
        assert_eq!(ours, theirs, "line {} of s3sync_options.md; ROPEWAY_WRITE_TABLE=1 writes it anew", line + 1);
    }
    assert_eq!(table.len(), committed.len());
}

#[test]
fn every_variable_is_its_flag_with_our_prefix() {
    for (flag, option) in help().iter().filter(|(_, option)| !option.variable.is_empty()) {
        assert_eq!(option.variable, format!("ROPEWAY_{}", flag.replace('-', "_").to_uppercase()), "--{flag}");
    }
}

#[test]
fn what_is_left_out_is_refused_by_name() {
    for flag in LEFT_OUT {
        let output = Cmd::sync(Tree::new().path(), "a", "b").arg(format!("--{flag}")).expect(2);
        assert!(output.stderr.contains(&format!("--{flag}")), "{}", output.stderr);
    }
}

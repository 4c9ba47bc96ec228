//! Which flags exclude or need each other, and for which directions a flag means something: s3sync's rejections
//! (s3sync.md §2.3), as one table. They are made before anything is contacted, with exit code 2.
//!
//! What the environment sets counts as given, as on the command line, but for a flag that lacks another; a switch that it
//! sets to `false` does not.

use clap::ArgMatches;
use clap::parser::ValueSource;

/// One rule. Flags are named without their dashes; a rule about a flag that a command does not have says nothing there.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// The first makes no sense with any of the others.
    Excludes(&'static str, &'static [&'static str]),
    /// The first makes no sense without one of the others.
    Needs(&'static str, &'static [&'static str]),
    /// As `Excludes`, if the first has one of these values.
    ValueExcludes(&'static str, &'static [&'static str], &'static [&'static str]),
    /// The first makes no sense unless the second has one of these values.
    NeedsValue(&'static str, &'static str, &'static [&'static str]),
    /// The first two together need the third.
    TogetherNeed(&'static str, &'static str, &'static str),
    /// The flags need a bucket on this side.
    NeedBucket(End, &'static [&'static str]),
    /// The flags need a bucket on both sides.
    NeedBuckets(&'static [&'static str]),
    /// The flags need a local path as source.
    NeedLocalSource(&'static [&'static str]),
    /// The flags make no sense with a directory bucket (S3 Express One Zone) on either of these sides.
    NotExpress(&'static [End], &'static [&'static str]),
}

/// One of the two ends of a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Source,
    Target,
}

use Rule::{
    Excludes, NeedBucket, NeedBuckets, NeedLocalSource, Needs, NeedsValue, NotExpress, TogetherNeed, ValueExcludes,
};

const ETAG_CHECKS: &[&str] = &["check-etag", "check-mtime-and-etag"];
const KMS: &[&str] = &["aws:kms", "aws:kms:dsse"];
const BOTH: &[End] = &[End::Source, End::Target];

const RULES: &[Rule] = &[
    Excludes("dry-run", &["report-sync-status"]),
    Excludes("source-no-sign-request", &["source-request-payer"]),
    Excludes("target-no-sign-request", &["target-request-payer"]),
    Excludes(
        "enable-versioning",
        &[
            "delete",
            "delete-source",
            "head-each-target",
            "remove-modified-filter",
            "check-size",
            "check-etag",
            "check-mtime-and-etag",
            "check-additional-checksum",
            "check-mtime-and-additional-checksum",
            "if-match",
            "if-none-match",
            "copy-source-if-match",
            "point-in-time",
            "sync-latest-tagging",
            "report-sync-status",
        ],
    ),
    Excludes(
        "point-in-time",
        &[
            "delete",
            "delete-source",
            "head-each-target",
            "check-size",
            "check-etag",
            "check-mtime-and-etag",
            "check-mtime-and-additional-checksum",
            "if-match",
            "if-none-match",
            "copy-source-if-match",
            "report-sync-status",
        ],
    ),
    Excludes("remove-modified-filter", &["check-mtime-and-etag", "check-mtime-and-additional-checksum"]),
    TogetherNeed("remove-modified-filter", "check-size", "head-each-target"),
    TogetherNeed("remove-modified-filter", "check-etag", "head-each-target"),
    TogetherNeed("remove-modified-filter", "if-match", "head-each-target"),
    Excludes(
        "check-size",
        &["check-etag", "check-mtime-and-etag", "check-additional-checksum", "check-mtime-and-additional-checksum"],
    ),
    Excludes(
        "check-etag",
        &["check-mtime-and-etag", "check-additional-checksum", "check-mtime-and-additional-checksum"],
    ),
    Excludes("check-mtime-and-etag", &["check-additional-checksum", "check-mtime-and-additional-checksum"]),
    Excludes("check-additional-checksum", &["check-mtime-and-additional-checksum"]),
    Excludes("source-sse-c-key", ETAG_CHECKS),
    Excludes("target-sse-c-key", ETAG_CHECKS),
    ValueExcludes("sse", KMS, ETAG_CHECKS),
    Excludes("sse", &["source-sse-c", "target-sse-c"]),
    NeedsValue("sse-kms-key-id", "sse", KMS),
    Needs("source-sse-c", &["source-sse-c-key"]),
    Needs("source-sse-c-key", &["source-sse-c-key-md5"]),
    Needs("source-sse-c-key-md5", &["source-sse-c"]),
    Needs("target-sse-c", &["target-sse-c-key"]),
    Needs("target-sse-c-key", &["target-sse-c-key-md5"]),
    Needs("target-sse-c-key-md5", &["target-sse-c"]),
    ValueExcludes("additional-checksum-algorithm", &["SHA1", "SHA256"], &["full-object-checksum"]),
    Needs("full-object-checksum", &["additional-checksum-algorithm"]),
    Needs("disable-additional-checksum-verify", &["additional-checksum-algorithm"]),
    Excludes("auto-chunksize", &["multipart-threshold", "multipart-chunksize"]),
    Excludes("tagging", &["disable-tagging", "sync-latest-tagging"]),
    Excludes("disable-tagging", &["sync-latest-tagging"]),
    Excludes("sync-latest-tagging", &["delete"]),
    Excludes("report-sync-status", &["delete", "delete-source", "head-each-target"]),
    Needs("report-metadata-sync-status", &["report-sync-status"]),
    Needs("report-tagging-sync-status", &["report-sync-status"]),
    Needs("delete-excluded", &["delete"]),
    Needs("allow-empty-source", &["delete"]),
    Needs("max-delete", &["delete", "delete-source", "from-plan"]),
    Excludes("if-none-match", &["if-match"]),
    Needs("copy-source-if-match", &["server-side-copy"]),
    NeedBucket(
        End::Source,
        &[
            "source-profile",
            "source-access-key",
            "source-secret-access-key",
            "source-session-token",
            "source-no-sign-request",
            "source-endpoint-url",
            "source-accelerate",
            "source-request-payer",
            "filter-include-metadata-regex",
            "filter-exclude-metadata-regex",
            "filter-include-tag-regex",
            "filter-exclude-tag-regex",
            "enable-additional-checksum",
            "point-in-time",
            "source-sse-c",
            "source-sse-c-key",
            "source-sse-c-key-md5",
            "ignore-glacier-warnings",
        ],
    ),
    NeedBucket(
        End::Target,
        &[
            "target-profile",
            "target-access-key",
            "target-secret-access-key",
            "target-session-token",
            "target-no-sign-request",
            "target-endpoint-url",
            "target-accelerate",
            "target-request-payer",
            "storage-class",
            "additional-checksum-algorithm",
            "full-object-checksum",
            "disable-additional-checksum-verify",
            "cache-control",
            "content-disposition",
            "content-encoding",
            "content-language",
            "content-type",
            "expires",
            "website-redirect",
            "tagging",
            "sse",
            "sse-kms-key-id",
            "target-sse-c",
            "target-sse-c-key",
            "target-sse-c-key-md5",
            "acl",
            "put-last-modified-metadata",
            "disable-payload-signing",
            "disable-content-md5-header",
            "if-match",
            "if-none-match",
        ],
    ),
    NeedBuckets(&[
        "server-side-copy",
        "copy-source-if-match",
        "no-sync-system-metadata",
        "no-sync-user-defined-metadata",
        "sync-latest-tagging",
        "enable-versioning",
        "report-metadata-sync-status",
        "report-tagging-sync-status",
    ]),
    NeedLocalSource(&["ignore-symlinks", "no-guess-mime-type"]),
    NotExpress(BOTH, &["check-etag", "check-mtime-and-etag", "enable-versioning"]),
    NotExpress(&[End::Source], &["point-in-time"]),
];

/// What a command line asks for, as the rules see it.
struct Given<'a> {
    matches: &'a ArgMatches,
    source: Option<&'a str>,
    target: Option<&'a str>,
}

/// The first rule that the flags break, as a sentence. Rules about the two ends say nothing of a command that has none.
pub(super) fn broken_rule(matches: &ArgMatches) -> Option<String> {
    let side = |name: &str| matches.try_get_one::<String>(name).ok().flatten().map(String::as_str);
    let given = Given { matches, source: side("source"), target: side("target") };
    RULES.iter().find_map(|rule| given.breaks(*rule)).or_else(|| given.cut_without_a_source())
}

impl Given<'_> {
    fn breaks(&self, rule: Rule) -> Option<String> {
        match rule {
            Excludes(flag, others) => self.both(flag, others).map(|other| exclude(flag, other)),
            ValueExcludes(flag, values, others) => {
                let value = self.value(flag).filter(|value| values.contains(&value.as_str()))?;
                self.both(flag, others).map(|other| exclude(&format!("{flag} {value}"), other))
            }
            Needs(flag, others) => {
                let missing = self.is_typed(flag) && !others.iter().any(|other| self.has(other));
                let others = others.iter().map(|other| format!("--{other}")).collect::<Vec<_>>().join(" or ");
                missing.then(|| format!("--{flag} needs {others}"))
            }
            NeedsValue(flag, other, values) => {
                let fits = self.value(other).is_some_and(|value| values.contains(&value.as_str()));
                (self.has(flag) && !fits).then(|| format!("--{flag} needs --{other} {}", values.join(" or ")))
            }
            TogetherNeed(one, other, third) => {
                let missing = self.has(one) && self.has(other) && !self.has(third);
                missing.then(|| format!("--{one} with --{other} needs --{third}"))
            }
            NeedBucket(end, flags) => {
                let place = self.place(end).filter(|place| !is_bucket(place))?;
                let flag = flags.iter().find(|flag| self.has(flag))?;
                let side = end.name();
                Some(format!("--{flag} is given, but the {side} `{place}` is a local path"))
            }
            NeedBuckets(flags) => {
                let both = is_bucket(self.source?) && is_bucket(self.target?);
                let flag = flags.iter().find(|flag| self.has(flag)).filter(|_| !both)?;
                Some(format!("--{flag} is for a sync from one bucket to another"))
            }
            NeedLocalSource(flags) => {
                let source = self.source.filter(|source| is_bucket(source))?;
                let flag = flags.iter().find(|flag| self.has(flag))?;
                Some(format!("--{flag} is given, but the source `{source}` is a bucket"))
            }
            NotExpress(ends, flags) => {
                let place = ends.iter().filter_map(|end| self.place(*end)).find(|place| is_directory_bucket(place))?;
                let flag = flags.iter().find(|flag| self.has(flag))?;
                Some(format!(
                    "--{flag} means nothing for `{place}`: a directory bucket has neither versions nor such ETags"
                ))
            }
        }
    }

    /// A local source is cut as it likes; only an ETag check can need the target's cut.
    fn cut_without_a_source(&self) -> Option<String> {
        let flag = "auto-chunksize";
        let local = self.source.is_some_and(|source| !is_bucket(source));
        let useless = self.has(flag) && local && !ETAG_CHECKS.iter().any(|check| self.has(check));
        useless.then(|| format!("--{flag} with a local source needs --check-etag or --check-mtime-and-etag"))
    }

    fn both(&self, flag: &str, others: &[&'static str]) -> Option<&'static str> {
        others.iter().find(|other| self.has(flag) && self.has(other)).copied()
    }

    fn has(&self, flag: &str) -> bool {
        let id = flag.replace('-', "_");
        if !self.matches.try_contains_id(&id).unwrap_or(false) {
            return false;
        }
        let given = matches!(self.matches.value_source(&id), Some(ValueSource::CommandLine | ValueSource::EnvVariable));
        given && self.matches.try_get_one::<bool>(&id).ok().flatten() != Some(&false)
    }

    /// A variable may be set for commands that need it and for others that do not.
    fn is_typed(&self, flag: &str) -> bool {
        self.has(flag) && self.matches.value_source(&flag.replace('-', "_")) == Some(ValueSource::CommandLine)
    }

    /// The value as it was typed.
    fn value(&self, flag: &str) -> Option<String> {
        let id = flag.replace('-', "_");
        let raw = self.matches.try_get_raw(&id).ok().flatten()?.next()?;
        Some(raw.to_string_lossy().into_owned()).filter(|_| self.has(flag))
    }

    fn place(&self, end: End) -> Option<&str> {
        match end {
            End::Source => self.source,
            End::Target => self.target,
        }
    }
}

impl End {
    fn name(self) -> &'static str {
        match self {
            End::Source => "source",
            End::Target => "target",
        }
    }
}

fn exclude(one: &str, other: &str) -> String {
    format!("--{one} and --{other} exclude each other")
}

fn is_bucket(place: &str) -> bool {
    place.starts_with("s3://")
}

/// Directory buckets are told by their names, which end so.
fn is_directory_bucket(place: &str) -> bool {
    let bucket = place.strip_prefix("s3://").map(|rest| rest.split('/').next().unwrap_or(rest));
    bucket.is_some_and(|bucket| bucket.ends_with("--x-s3"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives each flag of the rule's command line a value that it takes.
    fn typed(flag: &str) -> Vec<String> {
        let value = match flag {
            "sse" => "aws:kms",
            "source-sse-c" | "target-sse-c" => "AES256",
            "source-sse-c-key" | "target-sse-c-key" => "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "source-sse-c-key-md5" | "target-sse-c-key-md5" => "cLyL1ov/ZP+2dkqcBpEDpA==",
            "check-additional-checksum" | "check-mtime-and-additional-checksum" | "additional-checksum-algorithm" => {
                "SHA256"
            }
            "point-in-time" | "expires" => "2020-01-01T00:00:00Z",
            "multipart-threshold" | "multipart-chunksize" => "8MiB",
            "tagging" => "k=v",
            "max-delete" => "5",
            "storage-class" => "STANDARD",
            "acl" => "private",
            "from-plan" | "website-redirect" | "sse-kms-key-id" => "x",
            _ if takes_a_value(flag) => "http://localhost:1",
            _ => return vec![format!("--{flag}")],
        };
        vec![format!("--{flag}"), value.to_owned()]
    }

    fn sync() -> clap::Command {
        super::super::command().find_subcommand("sync").expect("there is a sync").clone()
    }

    fn takes_a_value(flag: &str) -> bool {
        sync().get_arguments().any(|it| it.get_long() == Some(flag) && it.get_action().takes_values())
    }

    #[track_caller]
    fn verdict(source: &str, target: &str, flags: &[&str]) -> Option<String> {
        let words = flags.iter().flat_map(|flag| typed(flag));
        let all = ["ropeway", "sync", source, target].into_iter().map(str::to_owned).chain(words);
        let matches = super::super::command().try_get_matches_from(all).unwrap_or_else(|error| panic!("{error}"));
        broken_rule(matches.subcommand().expect("it is a sync").1)
    }

    #[track_caller]
    fn refused(source: &str, target: &str, flags: &[&str]) {
        let said = verdict(source, target, flags).unwrap_or_else(|| panic!("{flags:?} from {source} to {target}"));
        assert!(said.contains(&format!("--{}", flags[0])), "{flags:?}: {said}");
    }

    const LOCAL: &str = "directory";
    const BUCKET: &str = "s3://bucket/p/";

    #[test]
    fn every_rule_names_flags_that_exist_and_refuses_what_it_names() {
        for rule in RULES {
            match *rule {
                Excludes(flag, others) => others.iter().for_each(|other| {
                    assert!(broken(&[flag, other], rule), "--{flag} and --{other}");
                }),
                ValueExcludes(flag, _, others) => {
                    others.iter().for_each(|other| assert!(broken(&[flag, other], rule), "--{flag} and --{other}"));
                }
                Needs(flag, _) | NeedsValue(flag, ..) => assert!(broken(&[flag], rule), "--{flag} alone"),
                TogetherNeed(one, other, _) => assert!(broken(&[one, other], rule), "--{one} and --{other}"),
                NeedBucket(End::Source, flags) => flags.iter().for_each(|flag| {
                    assert!(breaks(LOCAL, BUCKET, &[flag], rule), "--{flag}");
                    assert!(!breaks(BUCKET, LOCAL, &[flag], rule), "--{flag}");
                }),
                NeedBucket(End::Target, flags) => flags.iter().for_each(|flag| {
                    assert!(breaks(BUCKET, LOCAL, &[flag], rule), "--{flag}");
                    assert!(!breaks(LOCAL, BUCKET, &[flag], rule), "--{flag}");
                }),
                NeedBuckets(flags) => flags.iter().for_each(|flag| {
                    assert!(breaks(BUCKET, LOCAL, &[flag], rule), "--{flag}");
                    assert!(breaks(LOCAL, BUCKET, &[flag], rule), "--{flag}");
                    assert!(!breaks(BUCKET, BUCKET, &[flag], rule), "--{flag}");
                }),
                NeedLocalSource(flags) => flags.iter().for_each(|flag| {
                    assert!(breaks(BUCKET, LOCAL, &[flag], rule), "--{flag}");
                    assert!(!breaks(LOCAL, BUCKET, &[flag], rule), "--{flag}");
                }),
                NotExpress(_, flags) => flags.iter().for_each(|flag| {
                    assert!(breaks("s3://b--use1-az4--x-s3/", BUCKET, &[flag], rule), "--{flag}");
                    assert!(!breaks(BUCKET, BUCKET, &[flag], rule), "--{flag}");
                }),
            }
        }
    }

    fn broken(flags: &[&str], rule: &Rule) -> bool {
        breaks(BUCKET, BUCKET, flags, rule)
    }

    fn breaks(source: &str, target: &str, flags: &[&str], rule: &Rule) -> bool {
        let words = flags.iter().flat_map(|flag| typed(flag));
        let all = ["ropeway", "sync", source, target].into_iter().map(str::to_owned).chain(words);
        let matches = super::super::command().try_get_matches_from(all).unwrap_or_else(|error| panic!("{error}"));
        let (_, matches) = matches.subcommand().expect("it is a sync");
        Given { matches, source: Some(source), target: Some(target) }.breaks(*rule).is_some()
    }

    #[test]
    fn what_goes_together_is_taken() {
        let together: [(&str, &str, &[&str]); 6] = [
            (LOCAL, BUCKET, &["sse", "sse-kms-key-id"]),
            (BUCKET, BUCKET, &["source-sse-c", "source-sse-c-key", "source-sse-c-key-md5"]),
            (BUCKET, BUCKET, &["server-side-copy", "copy-source-if-match"]),
            (BUCKET, LOCAL, &["delete", "delete-excluded", "max-delete"]),
            (LOCAL, BUCKET, &["auto-chunksize", "check-etag"]),
            (BUCKET, BUCKET, &["remove-modified-filter", "head-each-target", "check-size"]),
        ];
        for (source, target, flags) in together {
            assert_eq!(verdict(source, target, flags), None, "{flags:?}");
        }
        refused(LOCAL, BUCKET, &["auto-chunksize"]);
    }
}

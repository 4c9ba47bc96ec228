//! The hot paths whose instructions `perf/guard` counts, one path to a process: `guard NAME TURNS`.
//!
//! A path here is single-threaded and pure: no clock, socket, file, thread or random number, so that its count is the
//! same on every machine. What a path needs is made for the most turns it can be asked for, however many it takes, and
//! is never dropped: the difference between two runs of different turns is then the turns' alone.
#![expect(clippy::print_stdout, reason = "the answers to --list and --features are read by perf/guard")]

use std::hint::black_box;
use std::process::ExitCode;

use http::StatusCode;
use ropeway::entry::{Page, Row, SideName};
use ropeway::plan::compare::{Direction, Rule, Verdict, compare};
use ropeway::plan::merge::{Merge, Step};
use ropeway::transfer::part;
use ropeway_io::hash::{Md5, combine, crc64};
use ropeway_s3proto::checksum::Crc64Nvme;
use ropeway_s3proto::endpoint::{Address, Addressing, Endpoint};
use ropeway_s3proto::head::{HeadText, Headers};
use ropeway_s3proto::name::{Bucket, ETag, Key};
use ropeway_s3proto::op::{Condition, GetObject, ListObjectsV2, ObjectMetadata, PutObject};
use ropeway_s3proto::sign::{Credentials, Payload, Secret, Signer};

#[path = "support/listing.rs"]
mod listing;

/// One guarded path.
struct Path {
    name: &'static str,
    /// What one turn does, for the report.
    turn: &'static str,
    /// Turns of the shorter run; the longer one takes twice as many.
    turns: usize,
    /// Whether code below it is chosen by what the processor can do, so that counts of unlike processors differ.
    by_features: bool,
    /// Makes what so many turns need; the result takes one.
    prepare: fn(turns_max: usize) -> Box<dyn FnMut()>,
}

const PATHS: &[Path] = &[
    Path { name: "put-head", turn: "build and sign a PUT", turns: 500, by_features: false, prepare: put_head },
    Path { name: "answer-head", turn: "read a GET's answer", turns: 1_000, by_features: false, prepare: answer_head },
    Path { name: "listing-page", turn: "parse 1,000 keys", turns: 10, by_features: true, prepare: listing_page },
    Path { name: "plan", turn: "merge, compare 1,000 pairs", turns: 50, by_features: false, prepare: plan },
    Path { name: "parts", turn: "cut 1 TiB", turns: 5, by_features: false, prepare: parts },
    Path { name: "crc-combine", turn: "combine 100 parts' CRCs", turns: 5, by_features: false, prepare: crc_combine },
    Path { name: "crc", turn: "CRC64NVME of 10 KiB", turns: 500, by_features: true, prepare: crc },
    Path { name: "md5", turn: "MD5 of 10 x 1 KiB", turns: 20, by_features: false, prepare: md5 },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--list"] => {
            for Path { name, turn, turns, by_features, .. } in PATHS {
                println!("{name}\t{turns}\t{by_features}\t{turn}");
            }
            ExitCode::SUCCESS
        }
        ["--features"] => {
            println!("{}", features().join(" "));
            ExitCode::SUCCESS
        }
        [name, turns] => match (PATHS.iter().find(|path| path.name == *name), turns.parse()) {
            (Some(path), Ok(turns)) if turns <= 2 * path.turns => run(path, turns),
            _ => ExitCode::from(2),
        },
        _ => {
            println!("the paths of this bench are counted, not timed: run perf/guard");
            ExitCode::SUCCESS
        }
    }
}

fn run(path: &Path, turns: usize) -> ExitCode {
    let mut turn = (path.prepare)(2 * path.turns);
    for _ in 0..turns {
        turn();
    }
    // What turns that were not taken would have used up must not be dropped in one run and not in the other.
    std::mem::forget(turn);
    ExitCode::SUCCESS
}

/// What the processor (inside valgrind: the one it plays) can do, of all that our dependencies ask for.
fn features() -> Vec<&'static str> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! detect {
            ($($feature:tt)*) => {
                $(if std::arch::is_x86_feature_detected!($feature) { found.push($feature); })*
            };
        }
        detect!("sse4.1" "sse4.2" "pclmulqdq" "avx" "avx2" "bmi2" "sha" "avx512f" "avx512vl" "avx512bw" "vpclmulqdq");
    }
    #[cfg(not(target_arch = "x86_64"))]
    found.push(std::env::consts::ARCH);
    found
}

fn put_head(_: usize) -> Box<dyn FnMut()> {
    let endpoint = Endpoint::parse("http://127.0.0.1:9000").expect("an endpoint");
    let address = Address::new(&endpoint, &Bucket::parse("bench").expect("a bucket"), Addressing::Path);
    let key = Key::parse(b"logs/2024/11/20/host-0042/part-000001.bin").expect("a key");
    let metadata = ObjectMetadata {
        content_type: Some("application/octet-stream".to_owned()),
        user: vec![("mtime".to_owned(), "1700000000.123456789".to_owned())],
        ..ObjectMetadata::default()
    };
    let secret = Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    let credentials =
        Credentials { access_key_id: "AKIDEXAMPLE".into(), secret_access_key: secret, session_token: None };
    let mut signer = Signer::new(Some(credentials), "us-east-1".into());
    let mut head = HeadText::new();
    Box::new(move || {
        let put = PutObject {
            key: &key,
            content_length: 10_240,
            metadata: &metadata,
            content_md5: None,
            checksum: Some(Crc64Nvme(0x1234_5678_9abc_def0).into()),
            condition: Condition::Always,
        };
        put.request(black_box(&address), &mut head).expect("a head");
        signer.sign(&mut head, Payload::Unsigned, 1_700_000_000);
        black_box(head.end());
    })
}

fn answer_head(_: usize) -> Box<dyn FnMut()> {
    let mut headers = Headers::new();
    for (name, value) in [
        ("content-length", "10240"),
        ("content-type", "application/octet-stream"),
        ("date", "Wed, 20 Nov 2024 17:50:31 GMT"),
        ("etag", "\"d41d8cd98f00b204e9800998ecf8427e\""),
        ("last-modified", "Wed, 20 Nov 2024 17:50:30 GMT"),
        ("x-amz-checksum-crc64nvme", "rosUhgp5mIg="),
        ("x-amz-checksum-type", "FULL_OBJECT"),
        ("x-amz-meta-mtime", "1700000000.123456789"),
        ("x-amz-request-id", "9C41E0D27A55"),
    ] {
        headers.push(name, value.as_bytes());
    }
    Box::new(move || {
        let head = GetObject::parse_head(StatusCode::OK, black_box(&headers)).expect("a head");
        assert_eq!(head.size, Some(10_240));
    })
}

fn listing_page(_: usize) -> Box<dyn FnMut()> {
    let body = listing::page(1_000);
    Box::new(move || {
        let page = ListObjectsV2::parse(StatusCode::OK, &Headers::new(), black_box(body.as_bytes()));
        assert_eq!(page.expect("a page").rows.len(), 1_000);
    })
}

/// One walk over two equal listings; a turn takes it a page further.
fn plan(turns_max: usize) -> Box<dyn FnMut()> {
    let mut pages = [(); 2].map(|()| (0..turns_max).map(plan_page).collect::<Vec<_>>().into_iter());
    let mut merge = Merge::default();
    Box::new(move || {
        let mut pairs = 0;
        while pairs < 1_000 {
            match merge.step() {
                Step::Need(side) => {
                    let page = pages[usize::from(side == SideName::Target)].next().expect("a page for each turn");
                    merge.feed(side, page);
                }
                Step::Both(source, target) => {
                    let verdict = compare(Rule::Newer, Direction::BucketToBucket, source, Some(target));
                    assert_eq!(black_box(verdict), Verdict::Skip);
                    pairs += 1;
                }
                Step::SourceOnly(_) | Step::TargetOnly(_) | Step::Disorder(..) | Step::Done => {
                    unreachable!("both sides are the same and in order")
                }
            }
        }
    })
}

fn plan_page(number: usize) -> Page {
    let etag = ETag::parse("\"d41d8cd98f00b204e9800998ecf8427e\"").expect("a tag");
    let mut page = Page::default();
    for index in 0..1_000 {
        let start = page.text.len() as u32;
        page.text.extend_from_slice(format!("logs/2024/11/20/host-{number:04}/part-{index:08}.bin").as_bytes());
        let key = start..page.text.len() as u32;
        page.rows.push(Row { key, size_bytes: 10, modified_ns: 1_700_000_000_000_000_000, etag: Some(etag.clone()) });
    }
    page
}

fn parts(_: usize) -> Box<dyn FnMut()> {
    let size_bytes = 1u64 << 40;
    Box::new(move || {
        let part_bytes = part::upload_part_bytes(black_box(size_bytes), 8 << 20).expect("1 TiB fits");
        let parts = (0..part::count(size_bytes, part_bytes)).map(|index| part::nth(size_bytes, part_bytes, index));
        assert_eq!(parts.map(|part| black_box(part).size_bytes()).sum::<u64>(), size_bytes);
    })
}

fn crc_combine(_: usize) -> Box<dyn FnMut()> {
    Box::new(|| {
        let whole = (0..100).fold(0, |whole, part| combine(whole, black_box(part), 8 << 20));
        black_box(whole);
    })
}

fn crc(_: usize) -> Box<dyn FnMut()> {
    let content = vec![0xA5u8; 10 << 10];
    Box::new(move || {
        black_box(crc64(black_box(&content)));
    })
}

fn md5(_: usize) -> Box<dyn FnMut()> {
    let content = vec![0xA5u8; 1 << 10];
    Box::new(move || {
        let mut digest = Md5::new();
        for _ in 0..10 {
            digest.update(black_box(&content));
        }
        black_box(digest.finish());
    })
}

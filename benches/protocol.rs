//! What a request and a listing page cost before and after the wire: one signature, one PUT head, one page of 1,000 keys.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::StatusCode;
use ropeway_s3proto::checksum::Crc64Nvme;
use ropeway_s3proto::endpoint::{Address, Addressing, Endpoint};
use ropeway_s3proto::head::{HeadText, Headers};
use ropeway_s3proto::name::{Bucket, Key};
use ropeway_s3proto::op::{Condition, ListObjectsV2, ObjectMetadata, PutObject};
use ropeway_s3proto::sign::{Credentials, Payload, Secret, Signer};

#[path = "support/listing.rs"]
mod listing;

const NOW_UNIX_S: i64 = 1_700_000_000;

fn sign(criterion: &mut Criterion) {
    let endpoint = Endpoint::parse("http://127.0.0.1:9000").expect("an endpoint");
    let address = Address::new(&endpoint, &Bucket::parse("bench").expect("a bucket"), Addressing::Path);
    let key = Key::parse(b"logs/2024/11/20/host-0042/part-000001.bin").expect("a key");
    let metadata = ObjectMetadata {
        content_type: Some("application/octet-stream".to_owned()),
        user: vec![("mtime".to_owned(), "1700000000.123456789".to_owned())],
        ..ObjectMetadata::default()
    };
    let put = PutObject {
        key: &key,
        content_length: 10_240,
        metadata: &metadata,
        content_md5: None,
        checksum: Some(Crc64Nvme(0x1234_5678_9abc_def0).into()),
        condition: Condition::Always,
    };
    let secret = Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    let credentials =
        Credentials { access_key_id: "AKIDEXAMPLE".into(), secret_access_key: secret, session_token: None };
    let mut signer = Signer::new(Some(credentials), "us-east-1".into());
    let mut group = criterion.benchmark_group("request");
    let mut head = HeadText::new();
    group.bench_function("head of a PUT", |bencher| {
        bencher.iter(|| put.request(black_box(&address), &mut head).expect("a head"));
    });
    group.bench_function("signature", |bencher| {
        bencher.iter(|| signer.sign(black_box(&mut head), Payload::Unsigned, NOW_UNIX_S));
    });
    group.finish();
}

fn list_page(criterion: &mut Criterion) {
    let body = listing::page(1_000);
    let mut group = criterion.benchmark_group("listing");
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("page of 1,000 keys", |bencher| {
        bencher.iter(|| {
            let page = ListObjectsV2::parse(StatusCode::OK, &Headers::new(), black_box(body.as_bytes()));
            assert_eq!(page.expect("a page").rows.len(), 1_000);
        });
    });
    group.finish();
}

criterion_group!(benches, sign, list_page);
criterion_main!(benches);

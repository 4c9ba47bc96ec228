//! What deciding costs: two listings of equal keys walked and compared, and an object cut into its parts.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ropeway::entry::{Page, Row, SideName};
use ropeway::plan::compare::{Direction, Rule, Verdict, compare};
use ropeway::plan::merge::{Merge, Step};
use ropeway::transfer::part;

const KEYS: usize = 1_000;

fn merge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    group.throughput(Throughput::Elements(KEYS as u64));
    group.bench_function("merge and compare 1,000 pairs", |bencher| {
        bencher.iter_batched(|| [page(), page()], |pages| assert_eq!(skipped(pages), KEYS), BatchSize::SmallInput);
    });
    group.finish();
}

fn skipped(pages: [Page; 2]) -> usize {
    let mut pages = pages.map(Some);
    let mut merge = Merge::default();
    let mut skipped = 0;
    loop {
        match merge.step() {
            Step::Need(side) => match pages[usize::from(side == SideName::Target)].take() {
                Some(page) => merge.feed(side, page),
                None => merge.finish(side),
            },
            Step::Both(source, target) => {
                skipped +=
                    usize::from(compare(Rule::Newer, Direction::BucketToBucket, source, Some(target)) == Verdict::Skip);
            }
            Step::SourceOnly(_) | Step::TargetOnly(_) | Step::Disorder(..) => unreachable!("both sides are the same"),
            Step::Done => return skipped,
        }
    }
}

fn page() -> Page {
    let mut page = Page::default();
    for index in 0..KEYS {
        let start = page.text.len() as u32;
        page.text.extend_from_slice(format!("logs/2024/11/20/host-0042/part-{index:08}.bin").as_bytes());
        let key = start..page.text.len() as u32;
        page.rows.push(Row { key, size_bytes: 10, modified_ns: 0, etag: None });
    }
    page
}

fn parts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parts");
    let size_bytes = 1u64 << 40;
    group.bench_function("cut 1 TiB", |bencher| {
        bencher.iter(|| {
            let part_bytes = part::upload_part_bytes(black_box(size_bytes), 8 << 20).expect("1 TiB fits");
            let parts = (0..part::count(size_bytes, part_bytes)).map(|index| part::nth(size_bytes, part_bytes, index));
            assert_eq!(parts.map(|part| part.size_bytes()).sum::<u64>(), size_bytes);
        });
    });
    group.finish();
}

criterion_group!(benches, merge, parts);
criterion_main!(benches);

//! What the bytes themselves cost: one hash over a part, and a part read from the page cache by each backend.

use std::hint::black_box;
use std::io::Write;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ropeway_io::buf::{Arena, ArenaLayout};
use ropeway_io::file::{File, Files};
use ropeway_io::hash::crc64;
use ropeway_io::probe::probe;
use ropeway_io::runtime::{Backend, block_on};

const PART_BYTES: usize = 8 << 20;

/// Reads for each turn of the executor, so that starting it does not count.
const READS: u64 = 16;

fn hash(criterion: &mut Criterion) {
    let content = vec![0xA5u8; PART_BYTES];
    let mut group = criterion.benchmark_group("hash");
    group.throughput(Throughput::Bytes(PART_BYTES as u64));
    group.bench_function("crc64nvme of 8 MiB", |bencher| bencher.iter(|| crc64(black_box(&content))));
    group.finish();
}

fn file_read(criterion: &mut Criterion) {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(&vec![0xA5u8; PART_BYTES]).expect("room for 8 MiB");
    let file = File::from_std(file);
    let mut group = criterion.benchmark_group("file read");
    for backend in [Backend::Uring, Backend::Pool] {
        if let (Backend::Uring, Err(reason)) = (backend, probe().uring) {
            println!("file read by the ring is skipped: {reason}");
            continue;
        }
        for size_bytes in [10 << 10, PART_BYTES] {
            group.throughput(Throughput::Bytes(size_bytes as u64 * READS));
            group.bench_function(BenchmarkId::new(format!("{backend:?}"), size_bytes), |bencher| {
                bencher.iter(|| block_on(backend, read(backend, &file, size_bytes)).expect("a runtime"));
            });
        }
    }
    group.finish();
}

async fn read(backend: Backend, file: &File, size_bytes: usize) {
    let files = Files::new(backend);
    let layout = ArenaLayout { large_bytes: PART_BYTES, large_count: 1, small_bytes: 0, small_count: 0 };
    let arena = Arena::new(layout).expect("a buffer");
    let mut buffer = arena.try_lease(size_bytes).expect("the only buffer is free");
    for _ in 0..READS {
        let (count, back) = files.read_at(file, buffer, size_bytes, 0).await;
        assert_eq!(count.expect("the file can be read"), size_bytes);
        buffer = back;
    }
}

criterion_group!(benches, hash, file_read);
criterion_main!(benches);

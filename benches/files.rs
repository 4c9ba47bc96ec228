//! What a part of 8 MiB costs between a buffer and a disk: each backend, through the page cache and past it, both ways. The
//! files lie where `ROPEWAY_BENCH_DIR` says, else in `/var/tmp`, which is a disk on most machines; in memory the two ways
//! are one. Reads of the page cache are of a cached file, direct ones of a file that the cache has been made to forget.
#![expect(clippy::print_stdout, reason = "a bench that is skipped says why")]

use std::path::PathBuf;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ropeway_io::buf::{Arena, ArenaLayout};
use ropeway_io::file::{DirectIo, File, Files};
use ropeway_io::probe::{IoChoice, choose};
use ropeway_io::runtime::{Backend, block_on};

const PART_BYTES: usize = 8 << 20;

/// Parts for each turn of the executor, so that starting it does not count.
const PARTS: usize = 8;

/// Parts under way at the same time.
const BUFFERS: usize = 4;

fn files(criterion: &mut Criterion) {
    let place = std::env::var_os("ROPEWAY_BENCH_DIR").map_or_else(|| "/var/tmp".into(), PathBuf::from);
    let mut group = criterion.benchmark_group("files");
    group.sample_size(10).throughput(Throughput::Bytes((PART_BYTES * PARTS) as u64));
    for io in [IoChoice::Uring, IoChoice::Pool, IoChoice::Glommio] {
        let backend = match choose(io) {
            Ok((backend, _)) => backend,
            Err(reason) => {
                println!("{io:?} is skipped: {reason}");
                continue;
            }
        };
        for (way, direct_io) in [("buffered", DirectIo::Never), ("direct", DirectIo::Auto)] {
            let file = tempfile::tempfile_in(&place).expect("a temporary file");
            let file = File::from_std(file);
            group.bench_function(BenchmarkId::new(format!("{backend:?}"), format!("{way} write")), |bencher| {
                bencher
                    .iter(|| block_on(backend, move_parts(backend, direct_io, &file, Job::Write)).expect("a runtime"));
            });
            group.bench_function(BenchmarkId::new(format!("{backend:?}"), format!("{way} read")), |bencher| {
                bencher
                    .iter(|| block_on(backend, move_parts(backend, direct_io, &file, Job::Read)).expect("a runtime"));
            });
        }
    }
    group.finish();
}

#[derive(Clone, Copy)]
enum Job {
    Read,
    Write,
}

async fn move_parts(backend: Backend, direct_io: DirectIo, file: &File, job: Job) {
    let files = Files::new(backend).with_direct_io(direct_io);
    let layout = ArenaLayout { large_bytes: PART_BYTES, large_count: BUFFERS, small_bytes: 0, small_count: 0 };
    let arena = Arena::new(layout).expect("buffers");
    let parts = (0..PARTS).map(|number| {
        let (files, file, arena) = (files.clone(), file.clone(), arena.clone());
        tokio::task::spawn_local(async move {
            let mut buffer = arena.lease(PART_BYTES).await;
            let offset = (number * PART_BYTES) as u64;
            match job {
                Job::Read => {
                    let (count, _) = files.read_at(&file, buffer, PART_BYTES, offset).await;
                    assert_eq!(count.expect("the file can be read"), PART_BYTES);
                }
                Job::Write => {
                    buffer.set_len(PART_BYTES);
                    files.write_at(&file, buffer, offset).await.0.expect("the file can be written");
                }
            }
        })
    });
    for part in parts.collect::<Vec<_>>() {
        part.await.expect("no panic");
    }
}

criterion_group!(benches, files);
criterion_main!(benches);

//! MD5 in company: each kernel of this machine with all its lanes busy, and the lanes of a core with few streams and many.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ropeway_io::hash::{Kernel, Md5Lanes, Md5State, md5};
use ropeway_io::runtime::{Backend, block_on};

/// 32 of these lie in a core's second-level cache, so that it is the kernel that is measured and not the memory.
const PIECE_BYTES: usize = 16 << 10;

/// A part, as far as the scheduler can tell: many rounds.
const STREAM_BYTES: usize = 1 << 20;

/// A small object.
const SMALL_BYTES: usize = 10 << 10;

fn kernels(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("md5 kernel");
    for kernel in Kernel::of_this_machine() {
        let contents = vec![vec![0xA5u8; PIECE_BYTES]; kernel.width()];
        let inputs: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        let mut states: Vec<Md5State> = vec![[1, 2, 3, 4]; kernel.width()];
        group.throughput(Throughput::Bytes((kernel.width() * PIECE_BYTES) as u64));
        group.bench_function(BenchmarkId::from_parameter(kernel.width()), |bencher| {
            bencher.iter(|| kernel.advance(&mut states, &inputs));
        });
    }
    group.finish();
}

fn lanes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("md5 lanes");
    for (name, length_bytes) in [("streams of 1 MiB", STREAM_BYTES), ("objects of 10 KiB", SMALL_BYTES)] {
        for streams in [1, 4, 16, 32] {
            let contents: Vec<bytes::Bytes> = (0..streams).map(|_| vec![0xA5u8; length_bytes].into()).collect();
            // Small ones in several waves, so that starting the executor does not count.
            let waves = STREAM_BYTES / length_bytes;
            group.throughput(Throughput::Bytes((streams * length_bytes * waves) as u64));
            group.bench_function(BenchmarkId::new(name, streams), |bencher| {
                bencher.iter(|| block_on(Backend::Pool, hash(&contents, waves)).expect("a runtime"));
            });
        }
    }
    group.finish();
}

/// Hashes the contents at the same time, wave after wave, as parts or small objects under way are.
async fn hash(contents: &[bytes::Bytes], waves: usize) {
    let lanes = Md5Lanes::new();
    for _ in 0..waves {
        let mut open = Vec::with_capacity(contents.len());
        for content in contents {
            let mut lane = lanes.lane();
            lane.push(content.clone());
            open.push(lane);
        }
        for lane in open {
            std::hint::black_box(lane.finish().await);
        }
    }
}

fn alone(criterion: &mut Criterion) {
    let content = vec![0xA5u8; STREAM_BYTES];
    let mut group = criterion.benchmark_group("md5 alone");
    group.throughput(Throughput::Bytes(STREAM_BYTES as u64));
    group.bench_function("1 MiB", |bencher| bencher.iter(|| md5(std::hint::black_box(&content))));
    group.finish();
}

criterion_group!(benches, alone, kernels, lanes);
criterion_main!(benches);

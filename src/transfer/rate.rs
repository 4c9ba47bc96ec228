//! Rate limits that all shards share (`--rate-limit-objects`, `--rate-limit-bandwidth`): one word says from when on the next
//! piece may go. Whoever takes a piece moves it on by the time that the piece is worth, and waits until its own turn has
//! come. There is no bucket to fill and no tick: over any stretch the rate is kept to within the burst and one piece.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The limits of a run; each shard has a copy.
#[derive(Debug, Clone, Default)]
pub struct Limited {
    /// Objects written, copied or deleted.
    pub objects: Limit,
    /// Bytes read from the source.
    pub bytes: Limit,
}

impl Limited {
    /// Limits, counted from now on.
    pub fn new(objects_per_s: Option<u64>, bytes_per_s: Option<u64>) -> Limited {
        Limited { objects: Limit::new(objects_per_s), bytes: Limit::new(bytes_per_s) }
    }
}

/// One limit, or none.
#[derive(Debug, Clone, Default)]
pub struct Limit(Option<Arc<Pacer>>);

impl Limit {
    fn new(per_s: Option<u64>) -> Limit {
        Limit(per_s.map(|per_s| Arc::new(Pacer { per_s, started: Instant::now(), next_ns: AtomicU64::new(0) })))
    }

    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Waits until so much more may go.
    pub async fn take(&self, amount: u64) {
        if let Some(pacer) = &self.0 {
            let wait = pacer.take(amount, pacer.started.elapsed());
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
    }
}

#[derive(Debug)]
struct Pacer {
    per_s: u64,
    started: Instant,
    /// When the next piece may go, in nanoseconds since the start.
    next_ns: AtomicU64,
}

/// What was not taken is lost after so long, so that a pause is not followed by a flood.
const BURST: Duration = Duration::from_millis(100);

impl Pacer {
    /// Takes `amount` at the time `now`, and says how long to wait for it.
    fn take(&self, amount: u64, now: Duration) -> Duration {
        let now_ns = now.as_nanos() as u64;
        let worth_ns = (u128::from(amount) * 1_000_000_000 / u128::from(self.per_s)) as u64;
        let earliest_ns = now_ns.saturating_sub(BURST.as_nanos() as u64);
        let moved = self.next_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next_ns| {
            Some(next_ns.max(earliest_ns).saturating_add(worth_ns))
        });
        let begin_ns = moved.unwrap_or_default().max(earliest_ns);
        Duration::from_nanos(begin_ns.saturating_sub(now_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pacer(per_s: u64) -> Pacer {
        Pacer { per_s, started: Instant::now(), next_ns: AtomicU64::new(0) }
    }

    /// Shards that take as fast as they may, for ten seconds of a clock of its own.
    fn gone_in_ten_seconds(per_s: u64, shards: usize, piece: u64) -> u64 {
        let pacer = pacer(per_s);
        let mut clocks = vec![Duration::ZERO; shards];
        let mut gone = 0;
        loop {
            let clock = clocks.iter_mut().min().expect("there is a shard");
            let now = *clock;
            if now >= Duration::from_secs(10) {
                return gone;
            }
            *clock = now + pacer.take(piece, now);
            if *clock < Duration::from_secs(10) {
                gone += piece;
            }
            // Taking takes time as well.
            *clock += Duration::from_micros(1);
        }
    }

    #[test]
    fn ten_seconds_are_kept_to_five_percent_by_any_number_of_shards() {
        for (per_s, piece) in
            [(10, 1), (1_000, 1), (50_000, 1), (20 << 20, 8 << 20), (1 << 30, 8 << 20), (1 << 20, 9_000)]
        {
            for shards in [1, 3, 64] {
                let (gone, wished) = (gone_in_ten_seconds(per_s, shards, piece), 10 * per_s);
                assert!(
                    gone.abs_diff(wished) <= wished / 20,
                    "{gone} of {wished} ({piece} at a time, {shards} shards)"
                );
            }
        }
    }

    #[test]
    fn a_pause_is_not_followed_by_a_flood() {
        let pacer = pacer(100);
        let minute = Duration::from_secs(60);
        let waits: Vec<Duration> = (0..12).map(|_| pacer.take(1, minute)).collect();
        assert!(waits[..10].iter().all(Duration::is_zero), "{waits:?}");
        assert!(waits[11] >= Duration::from_millis(5), "{waits:?}");
    }
}

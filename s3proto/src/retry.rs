//! Whether to try again, and when: a pure function, so that its whole behaviour is a property of its arguments.
//!
//! Waits grow exponentially and are drawn evenly between nothing and the current ceiling ("full jitter"), so that
//! clients which failed together do not come back together.

use std::time::Duration;

use crate::error::Class;

/// How long a service may make us wait by `Retry-After`, in units of the policy's cap.
const RETRY_AFTER_CAPS_MAX: u32 = 4;

/// The limits of trying again. They cover one request in all its attempts; no other layer retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included.
    pub attempts_max: u32,
    /// The ceiling of the wait after the first failure; it doubles with each.
    pub base: Duration,
    /// The ceiling's own ceiling.
    pub cap: Duration,
    /// Time since the first attempt began, after which no other begins.
    pub elapsed_max: Duration,
}

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try again after this long.
    Wait(Duration),
    /// Report the error.
    GiveUp,
}

/// Decides after `attempt` (1 for the first) failed with `class`, `elapsed` after the first began.
///
/// `retry_after` is the service's wish and `dice` a random number from 0 to 1. Errors that need something other than
/// patience (another region, another clock, fresh credentials) are given up here: their cure is the caller's, once.
#[must_use]
pub fn decide(
    policy: &RetryPolicy,
    class: Class,
    attempt: u32,
    elapsed: Duration,
    retry_after: Option<Duration>,
    dice: f64,
) -> Verdict {
    match class {
        Class::Retry | Class::Throttle => {}
        Class::Auth
        | Class::Denied
        | Class::Absent
        | Class::Conflict
        | Class::WrongRegion
        | Class::ClockSkew
        | Class::Unsupported
        | Class::Fatal => return Verdict::GiveUp,
    }
    if attempt >= policy.attempts_max {
        return Verdict::GiveUp;
    }
    let doublings = attempt.saturating_sub(1).min(31);
    let ceiling = policy.base.saturating_mul(1 << doublings).min(policy.cap);
    let jittered = Duration::try_from_secs_f64(ceiling.as_secs_f64() * dice).unwrap_or(ceiling).min(ceiling);
    let asked = retry_after.unwrap_or_default().min(policy.cap.saturating_mul(RETRY_AFTER_CAPS_MAX));
    let wait = jittered.max(asked);
    // A wait that ends beyond the limit would only delay the report.
    if elapsed.saturating_add(wait) > policy.elapsed_max { Verdict::GiveUp } else { Verdict::Wait(wait) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        attempts_max: 10,
        base: Duration::from_millis(100),
        cap: Duration::from_secs(20),
        elapsed_max: Duration::from_secs(600),
    };
    const ALL: [Class; 10] = [
        Class::Retry,
        Class::Throttle,
        Class::Auth,
        Class::Denied,
        Class::Absent,
        Class::Conflict,
        Class::WrongRegion,
        Class::ClockSkew,
        Class::Unsupported,
        Class::Fatal,
    ];

    fn first(class: Class, attempt: u32, retry_after: Option<u64>) -> Verdict {
        decide(&POLICY, class, attempt, Duration::ZERO, retry_after.map(Duration::from_secs), 1.0)
    }

    #[test]
    fn ceilings_double_up_to_the_cap() {
        let waits: Vec<_> = (1..10).map(|attempt| first(Class::Retry, attempt, None)).collect();
        let expected = [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 20_000];
        assert_eq!(waits, expected.map(|ms| Verdict::Wait(Duration::from_millis(ms))));
        assert_eq!(first(Class::Retry, 10, None), Verdict::GiveUp);
    }

    #[test]
    fn a_services_wish_is_honoured_within_reason() {
        assert_eq!(first(Class::Throttle, 1, Some(7)), Verdict::Wait(Duration::from_secs(7)));
        assert_eq!(first(Class::Throttle, 1, Some(100_000)), Verdict::Wait(Duration::from_secs(80)));
    }

    #[test]
    fn only_patience_is_decided_here() {
        for class in ALL {
            let waits = matches!(first(class, 1, Some(1)), Verdict::Wait(_));
            assert_eq!(waits, matches!(class, Class::Retry | Class::Throttle), "{class:?}");
        }
    }

    #[test]
    fn nothing_begins_beyond_the_time_limit() {
        let late = decide(&POLICY, Class::Retry, 9, Duration::from_secs(590), None, 1.0);
        assert_eq!(late, Verdict::GiveUp);
    }

    proptest! {
        #[test]
        fn waits_are_bounded_whatever_the_arguments(
            class in proptest::sample::select(ALL.to_vec()),
            attempt in any::<u32>(),
            attempts_max in any::<u32>(),
            base_ms in any::<u64>(),
            cap_ms in 0_u64..1_000_000_000,
            elapsed in any::<u32>(),
            retry_after in proptest::option::of(any::<u64>()),
            dice in any::<f64>(),
        ) {
            let cap = Duration::from_millis(cap_ms);
            let base = Duration::from_millis(base_ms);
            let policy = RetryPolicy { attempts_max, base, cap, elapsed_max: Duration::MAX };
            let elapsed = Duration::from_secs(elapsed.into());
            match decide(&policy, class, attempt, elapsed, retry_after.map(Duration::from_secs), dice) {
                Verdict::Wait(wait) => {
                    prop_assert!(attempt < attempts_max);
                    let wait_max = if retry_after.is_some() { cap * 4 } else { cap };
                    prop_assert!(wait <= wait_max);
                }
                Verdict::GiveUp => {
                    prop_assert!(attempt >= attempts_max || !matches!(class, Class::Retry | Class::Throttle));
                }
            }
        }
    }
}

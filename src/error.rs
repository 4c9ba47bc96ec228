//! Exit codes, and the errors that end a run before it has begun. What a person reads is written where the error is known;
//! what a script reads is written here, and never changes.

/// What the process says to whoever started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Everything was done.
    Done = 0,
    /// Some objects failed.
    SomeFailed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// Everything was done, with warnings.
    Warnings = 3,
    /// `verify` found differences.
    Differences = 4,
    /// Refused, because it could destroy data or would meet another run of the same job.
    Unsafe = 5,
    /// Credentials or configuration are wrong.
    Configuration = 6,
    /// A side does not answer, or is not there.
    Unreachable = 7,
    /// A mistake of ours.
    Bug = 101,
    /// Stopped by SIGINT.
    Interrupted = 130,
    /// Stopped by SIGTERM.
    Terminated = 143,
}

impl ExitCode {
    /// The number.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// For a run that a signal stopped: 128 and the signal's number, as shells count.
    pub fn of_signal(signal: i32) -> ExitCode {
        if signal == SIGTERM { ExitCode::Terminated } else { ExitCode::Interrupted }
    }
}

/// The same on every system that has signals.
const SIGTERM: i32 = 15;

//! Why a transfer failed, as data. `engine` reads from it whether the object, or the whole run, is lost.

use std::io;

use ropeway_io::path::PathError;
use ropeway_s3proto::error::Class;
use ropeway_s3proto::name::{ETag, VersionId};

use super::copy::is_archived;
use crate::client::{self, Uploaded};
use crate::entry::SideName;

/// Why one object could not be transferred.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed.
    #[error("{0} side: {1}")]
    Client(SideName, Box<client::Error>),
    /// A local operation failed.
    #[error("cannot {doing} the {side} file: {error}{}", remedy(.error))]
    Local {
        /// Which side.
        side: SideName,
        /// What was tried, as a verb.
        doing: &'static str,
        /// The system's answer.
        error: io::Error,
    },
    /// The key cannot become a file name under the target directory.
    #[error("this key cannot be a file below the target directory: {0}")]
    Path(PathError),
    /// The key cannot be an object's.
    #[error("this name cannot be an object's key: {0}")]
    Key(String),
    /// A `dir/` object that has content: a directory cannot hold it.
    #[error("the key ends in `/` and has content, which a directory cannot hold")]
    MarkerWithContent,
    /// It was listed and is gone.
    #[error("it vanished from the source after it was listed")]
    Vanished,
    /// It is being written to while it is read.
    #[error("the source changed while it was being read: {0}")]
    Changed(String),
    /// It is not what the plan that is carried out says of it.
    #[error("it changed since the plan was made: {0}; make a new plan")]
    ChangedSincePlanned(String),
    /// It is neither a regular file nor a link to one.
    #[error("it is not a regular file")]
    NotRegular,
    /// What arrived, or was acknowledged, is not what was sent.
    #[error("verification failed: {0}")]
    Mismatch(String),
    /// The same, after an object had been made of it: this one.
    #[error("verification failed: {how}{became}")]
    Spoilt {
        /// What is wrong with it.
        how: String,
        /// What the service calls it.
        made: Made,
        /// What has become of it, in words; empty while that is not decided.
        became: String,
    },
    /// The parts that the object was uploaded in cannot be kept.
    #[error("its parts cannot be kept: {0}; without --auto-chunksize it is cut anew")]
    Parts(String),
    /// It is in an archive, from which it must be restored before it can be read.
    #[error("it is archived, and has to be restored before it can be read")]
    Archived,
    /// The target's object is not, or no longer, one that may be replaced.
    #[error("the target's object was left as it is, since it is there, or is not what was listed: {0}")]
    Overtaken(Box<client::Error>),
    /// The service did not copy by itself.
    #[error("the service did not copy it: {0}")]
    NotCopied(Box<client::Error>),
    /// Beyond 10,000 parts of 5 GiB.
    #[error("{0} bytes are more than 10,000 parts of 5 GiB can hold, the largest object that S3 takes")]
    TooLarge(u64),
    /// The run is ending; the object was not finished.
    #[error("the run was stopped")]
    Stopped,
}

/// Why an object was left alone, which is no failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftAlone {
    /// It cannot be read before it is restored.
    Archived,
    /// The person does not want the target's replaced.
    Overtaken,
}

/// An object that a service made, as it is known again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// Its ETag.
    pub etag: Option<ETag>,
    /// Its version, in a bucket that keeps versions.
    pub version: Option<VersionId>,
}

impl Made {
    pub(super) fn of(answer: &Uploaded) -> Made {
        Made { etag: answer.etag.clone(), version: answer.version.clone() }
    }
}

/// What is done for a large object before its bytes come.
pub(super) const MAKE_ROOM: &str = "make room for";

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "; free some space and run the same command again",
        io::ErrorKind::QuotaExceeded => "; the user's disk quota is used up",
        io::ErrorKind::PermissionDenied => "; run as a user who may, or change its mode",
        _ => "",
    }
}

impl Error {
    /// Whether starting the object over, with fresh knowledge of the source, may succeed.
    pub(super) fn restart_may_help(&self) -> bool {
        match self {
            Error::Changed(_) | Error::Mismatch(_) | Error::Spoilt { .. } => true,
            // The upload was aborted under our hands (a lifecycle rule, another person): its parts are gone.
            Error::Client(SideName::Target, error) => error.code() == Some("NoSuchUpload"),
            // If-Match failed: the object was replaced between two ranged reads.
            Error::Client(SideName::Source, error) => error.class() == Class::Conflict,
            Error::Local { .. }
            | Error::Path(_)
            | Error::Key(_)
            | Error::MarkerWithContent
            | Error::Vanished
            | Error::ChangedSincePlanned(_)
            | Error::NotRegular
            | Error::Parts(_)
            | Error::Archived
            | Error::Overtaken(_)
            | Error::NotCopied(_)
            | Error::TooLarge(_)
            | Error::Stopped => false,
        }
    }

    /// Whether a service could not be reached, or fell silent, in all tries of a request.
    pub(super) fn is_unreachable(&self) -> bool {
        let Error::Client(_, error) = self else { return false };
        error.class() == Class::Retry && matches!(error.failure, client::Failure::Transport { .. })
    }

    /// What it comes to when starting over did not help: an object that is replaced each time is a source that changes.
    pub(super) fn after_restarts(self) -> Error {
        match self {
            Error::Client(SideName::Source, error) if error.class() == Class::Conflict => {
                Error::Changed(error.to_string())
            }
            other => other,
        }
    }

    /// Whether nothing else will succeed either, so that the run should end with this one message.
    pub fn ends_the_run(&self) -> bool {
        match self {
            Error::Client(_, error) => {
                matches!(error.class(), Class::Auth)
                    || error.code() == Some("NoSuchBucket")
                    || matches!(error.phase(), Some(client::Phase::Dns | client::Phase::Connect | client::Phase::Tls))
            }
            // No room for one large object may be room enough for others.
            Error::Local { doing: MAKE_ROOM, error, .. } => error.kind() == io::ErrorKind::ReadOnlyFilesystem,
            Error::Local { side: SideName::Target, error, .. } => matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
            ),
            Error::Local { .. }
            | Error::Path(_)
            | Error::Key(_)
            | Error::MarkerWithContent
            | Error::Vanished
            | Error::Changed(_)
            | Error::ChangedSincePlanned(_)
            | Error::NotRegular
            | Error::Archived
            | Error::Overtaken(_)
            | Error::NotCopied(_)
            | Error::Mismatch(_)
            | Error::Spoilt { .. }
            | Error::Parts(_)
            | Error::TooLarge(_)
            | Error::Stopped => false,
        }
    }

    /// A comparison that failed after the service had made an object of what it compares.
    pub(super) fn of_what_was_made(self, made: Made) -> Error {
        match self {
            Error::Mismatch(how) => Error::Spoilt { how, made, became: String::new() },
            other => other,
        }
    }

    /// The same of a part, of which no object was made yet.
    pub(super) fn of_a_part(self) -> Error {
        match self {
            Error::Spoilt { how, .. } => Error::Mismatch(how),
            other => other,
        }
    }

    /// Whether this is a reason to leave the object alone rather than a failure.
    pub fn left_alone(&self) -> Option<LeftAlone> {
        match self {
            Error::Archived => Some(LeftAlone::Archived),
            Error::Overtaken(_) => Some(LeftAlone::Overtaken),
            Error::Client(..)
            | Error::Local { .. }
            | Error::Path(_)
            | Error::Key(_)
            | Error::MarkerWithContent
            | Error::Vanished
            | Error::Changed(_)
            | Error::ChangedSincePlanned(_)
            | Error::NotRegular
            | Error::Mismatch(_)
            | Error::Spoilt { .. }
            | Error::Parts(_)
            | Error::NotCopied(_)
            | Error::TooLarge(_)
            | Error::Stopped => None,
        }
    }

    pub(super) fn source(error: client::Error) -> Error {
        match error.class() {
            _ if is_archived(&error) => Error::Archived,
            Class::Absent if error.code() != Some("NoSuchBucket") => Error::Vanished,
            _ => Error::Client(SideName::Source, Box::new(error)),
        }
    }

    pub(super) fn target(error: client::Error) -> Error {
        // Only a write with a condition is answered so. Where nothing is left that could match, some say that it is absent.
        let writes = matches!(error.operation, "PutObject" | "CompleteMultipartUpload" | "CopyObject");
        let conditions = ["PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"];
        if writes && error.code().is_some_and(|code| conditions.contains(&code)) {
            return Error::Overtaken(Box::new(error));
        }
        Error::Client(SideName::Target, Box::new(error))
    }

    pub(super) fn reading(doing: &'static str) -> impl Fn(io::Error) -> Error {
        move |error| match error.kind() {
            io::ErrorKind::NotFound => Error::Vanished,
            _ => Error::Local { side: SideName::Source, doing, error },
        }
    }

    pub(super) fn writing(doing: &'static str) -> impl Fn(io::Error) -> Error {
        move |error| Error::Local { side: SideName::Target, doing, error }
    }
}

impl Error {
    /// A whole file did not get its name; a directory of that name may have been made meanwhile, for another key.
    pub(super) fn publishing(error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::IsADirectory | io::ErrorKind::DirectoryNotEmpty => Error::Path(PathError::IsDirectory),
            _ => Error::writing("put in place")(error),
        }
    }
}

impl From<PathError> for Error {
    fn from(error: PathError) -> Error {
        match error {
            PathError::Io(error) => Error::Local { side: SideName::Target, doing: "create", error },
            other => Error::Path(other),
        }
    }
}

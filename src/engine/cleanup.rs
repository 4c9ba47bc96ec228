//! What stopped and killed runs have left in a place: open multipart uploads in a bucket, temporary files in a directory.
//!
//! A listing of open uploads shows keys and times and no metadata, so an upload does not tell who began it. Known as ours is
//! what a journal in the state directory names. Temporary files tell by their name that they are Ropeway's; whose run they
//! were is known from the journals too. What a running job of this state directory uses is left alone, whatever was asked for.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ropeway_io::path::{Root, partial_tag};
use ropeway_io::runtime::{Backend, block_on};
use ropeway_s3proto::name::Key;
use ropeway_s3proto::op::ListedUpload;
use serde::Serialize;

use super::job;
use super::preflight::{self, Refusal, canonical_even_if_absent};
use super::run::{Error, StopHandle};
use crate::client::Client;
use crate::error::ExitCode;
use crate::journal::{self, JobOnDisk, Saved, SavedPlace};
use crate::settings::{BucketPlace, CleanupSettings, Place};

/// Something that was left, and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Leftover {
    /// An open multipart upload.
    Upload {
        /// Its bucket.
        bucket: String,
        /// The key of the object to be.
        key: String,
        /// The service's name for it.
        upload_id: String,
        /// Since it was begun, in seconds; null if the service does not say.
        age_seconds: Option<u64>,
        /// Who began it.
        origin: Origin,
        /// What was done.
        action: Action,
        /// Why, if it was kept or could not be removed.
        reason: Option<String>,
    },
    /// A temporary file.
    File {
        /// Where it is.
        path: PathBuf,
        /// Its length.
        size_bytes: u64,
        /// Since it was last written to, in seconds.
        age_seconds: Option<u64>,
        /// Whose it is.
        origin: Origin,
        /// What was done.
        action: Action,
        /// Why, if it was kept or could not be removed.
        reason: Option<String>,
    },
}

/// Who left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A job that is running now.
    RunningJob,
    /// A job of this state directory that is not running.
    RestingJob,
    /// No journal knows it.
    Unknown,
}

/// What was done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is gone.
    Removed,
    /// It would be, but for the dry run.
    WouldRemove,
    /// It was left alone.
    Kept,
    /// It should be gone, and is not.
    Failed,
}

/// What no journal knows is touched only at this age, unless another is asked for: it may be somebody's work under way.
const AGE_OF_UNKNOWN: Duration = Duration::from_secs(24 * 3_600);

/// Looks through all places, tells what is there and what was done, and returns the exit code.
///
/// # Errors
/// If a place cannot be reached at all.
pub fn cleanup(
    settings: &CleanupSettings,
    stop: &StopHandle,
    tell: &mut dyn FnMut(&Leftover),
) -> Result<ExitCode, Error> {
    let work = async {
        let jobs = settings.state_directory.as_deref().map(journal::jobs).unwrap_or_default();
        let mut exit_code = ExitCode::Done;
        let mut tell = |leftover: Leftover| {
            let (Leftover::Upload { action, .. } | Leftover::File { action, .. }) = &leftover;
            if *action == Action::Failed {
                exit_code = ExitCode::SomeFailed;
            }
            tell(&leftover);
        };
        for place in &settings.places {
            match place {
                Place::Local(directory) => look_below(settings, directory, &jobs, &mut tell)?,
                Place::Bucket(bucket) => look_into(settings, bucket, place, &jobs, &mut tell).await?,
            }
        }
        Ok(exit_code)
    };
    let or_stopped = async {
        tokio::select! {
            done = work => done,
            signal = stop.asked() => Ok(ExitCode::of_signal(signal)),
        }
    };
    block_on(Backend::Pool, or_stopped).map_err(|error| Error::Machine(format!("the control thread: {error}")))?
}

/// What the journals know of a bucket's open uploads.
#[derive(Default)]
struct KnownUploads<'a> {
    /// By their ids.
    named: HashMap<&'a str, (&'a JobOnDisk, &'a Saved)>,
    /// Asked for and not heard of: by their keys.
    asked_for: HashMap<String, (&'a JobOnDisk, &'a Saved)>,
}

impl<'a> KnownUploads<'a> {
    fn of(jobs: &'a [JobOnDisk], bucket: &str) -> KnownUploads<'a> {
        let mut known = KnownUploads::default();
        for job in jobs {
            // The bucket's own spelling is the target's up to its prefix.
            let Some(prefix) = job.identity.target.strip_prefix(bucket) else { continue };
            for saved in &job.unfinished {
                match &saved.place {
                    SavedPlace::Upload { upload_id: Some(id), .. } => drop(known.named.insert(id, (job, saved))),
                    SavedPlace::Upload { .. } => {
                        known.asked_for.insert(format!("{prefix}{}", saved.key), (job, saved));
                    }
                    SavedPlace::File { .. } => {}
                }
            }
        }
        known
    }
}

async fn look_into(
    settings: &CleanupSettings,
    bucket: &BucketPlace,
    place: &Place,
    jobs: &[JobOnDisk],
    tell: &mut impl FnMut(Leftover),
) -> Result<(), Error> {
    let (client, _servers) = preflight::reach_alone(bucket, &settings.patience).await?;
    // Nothing of a service that lives in one process is left for another to find.
    let Some(spelling) = job::spell(place) else { return Ok(()) };
    let whole_bucket = spelling.strip_suffix(&bucket.prefix).unwrap_or(&spelling);
    let known = KnownUploads::of(jobs, whole_bucket);
    let mut after = None;
    loop {
        let page = client.list_uploads(&bucket.prefix, after.as_ref()).await.map_err(|error| refused(place, &error))?;
        for upload in &page.uploads {
            tell(look_at_upload(settings, bucket, &client, &known, upload).await);
        }
        match page.next {
            Some(next) if after.as_ref() != Some(&next) => after = Some(next),
            _ => return Ok(()),
        }
    }
}

fn refused(place: &Place, error: &crate::client::Error) -> Error {
    let text = format!("the open uploads of `{place}` cannot be listed: {error}");
    Error::Refused(Refusal { text, exit_code: ExitCode::Unreachable })
}

async fn look_at_upload(
    settings: &CleanupSettings,
    bucket: &BucketPlace,
    client: &Client,
    known: &KnownUploads<'_>,
    upload: &ListedUpload,
) -> Leftover {
    let age = upload.initiated_ns.and_then(|ns| u64::try_from(ns).ok()).map(age_of);
    let parsed = Key::parse(&upload.key);
    let mut owner = known.named.get(upload.upload_id.as_str());
    if let (None, Ok(key)) = (owner, &parsed)
        && let Some(asked_for) = known.asked_for.get(key.as_str())
        // Ours, if nothing was sent to it: its run had not heard of it.
        && client.list_parts(key, &upload.upload_id).await.is_ok_and(|parts| parts.is_empty())
    {
        owner = Some(asked_for);
    }
    let origin = origin(owner.map(|(job, _)| *job));
    let (mut action, mut reason) = decide(settings, origin, age, settings.everything);
    if action == Action::Removed {
        let aborted = match &parsed {
            Ok(key) => client.abort_upload(key, &upload.upload_id).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match (aborted, owner) {
            (Ok(()), Some((job, saved))) => job.forget(&[saved.id]),
            (Ok(()), None) => {}
            (Err(error), _) => (action, reason) = (Action::Failed, Some(error)),
        }
    }
    Leftover::Upload {
        bucket: bucket.bucket.to_string(),
        key: String::from_utf8_lossy(&upload.key).into_owned(),
        upload_id: upload.upload_id.as_str().to_owned(),
        age_seconds: age.map(|age| age.as_secs()),
        origin,
        action,
        reason,
    }
}

fn look_below(
    settings: &CleanupSettings,
    directory: &Path,
    jobs: &[JobOnDisk],
    tell: &mut impl FnMut(Leftover),
) -> Result<(), Error> {
    let unreachable = |error: std::io::Error| {
        let text = format!("`{}` cannot be looked through: {error}", directory.display());
        Error::Refused(Refusal { text, exit_code: ExitCode::Unreachable })
    };
    let root = Root::open(directory).map_err(unreachable)?;
    let here = canonical_even_if_absent(directory);
    let mut owners: HashMap<String, (&JobOnDisk, &Saved)> = HashMap::new();
    let mut running: HashSet<u32> = HashSet::new();
    let mut resting: HashSet<u32> = HashSet::new();
    for job in jobs {
        let tags = if job.is_running() { &mut running } else { &mut resting };
        tags.extend(&job.run_tags);
        for saved in &job.unfinished {
            if let SavedPlace::File { temporary } = &saved.place {
                let beneath = temporary.as_os_str().as_encoded_bytes().escape_ascii();
                owners.insert(format!("{}/{beneath}", job.identity.target), (job, saved));
            }
        }
    }
    let mut found = Vec::new();
    root.partials(|path, facts| found.push((path.to_owned(), facts))).map_err(unreachable)?;
    found.sort_by(|one, other| one.0.cmp(&other.0));
    for (path, facts) in found {
        let tag = partial_tag(&path);
        let owner = owners.get(&job::spell_path(&here.join(&path)));
        let origin = match owner {
            Some((job, _)) => origin(Some(job)),
            None if tag.is_some_and(|tag| running.contains(&tag)) => Origin::RunningJob,
            None if tag.is_some_and(|tag| resting.contains(&tag)) => Origin::RestingJob,
            None => Origin::Unknown,
        };
        let age = Some(age_of(u64::try_from(facts.modified_ns).unwrap_or(0)));
        // Its name says whose program it is, so only its age is in question.
        let (mut action, mut reason) = decide(settings, origin, age, true);
        if action == Action::Removed {
            match root.remove_partial(&path) {
                Ok(()) => owner.into_iter().for_each(|(job, saved)| job.forget(&[saved.id])),
                Err(error) => (action, reason) = (Action::Failed, Some(error.to_string())),
            }
        }
        let path = directory.join(path);
        let age_seconds = age.map(|age| age.as_secs());
        tell(Leftover::File { path, size_bytes: facts.size_bytes, age_seconds, origin, action, reason });
    }
    Ok(())
}

fn origin(owner: Option<&JobOnDisk>) -> Origin {
    match owner {
        Some(job) if job.is_running() => Origin::RunningJob,
        Some(_) => Origin::RestingJob,
        None => Origin::Unknown,
    }
}

/// What is to be done, before it is tried. `unknown_too` is whether things of unknown origin are asked for.
fn decide(
    settings: &CleanupSettings,
    origin: Origin,
    age: Option<Duration>,
    unknown_too: bool,
) -> (Action, Option<String>) {
    let keep = |reason: &str| (Action::Kept, Some(reason.to_owned()));
    let old_enough = match origin {
        Origin::RunningJob => return keep("a running job uses it"),
        Origin::RestingJob => settings.older_than.unwrap_or_default(),
        Origin::Unknown if !unknown_too => return keep("no journal here knows it; --all takes it"),
        Origin::Unknown => settings.older_than.unwrap_or(AGE_OF_UNKNOWN),
    };
    match age {
        None if !old_enough.is_zero() => keep("its age is not known"),
        Some(age) if age < old_enough => keep("it is younger than --older-than"),
        _ if settings.dry_run => (Action::WouldRemove, None),
        _ => (Action::Removed, None),
    }
}

/// Since this moment, in nanoseconds since 1970. What lies in the future is of no age: clocks differ.
fn age_of(ns: u64) -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_nanos(ns)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row of the rule: who left it, how old it is, what was asked for.
    #[test]
    fn what_is_removed() {
        use Action::{Kept, Removed, WouldRemove};
        use Origin::{RestingJob, RunningJob, Unknown};
        let settings = |older_than: Option<u64>, dry_run| CleanupSettings {
            places: Vec::new(),
            patience: Default::default(),
            state_directory: None,
            older_than: older_than.map(Duration::from_secs),
            everything: false,
            dry_run,
        };
        let table = [
            (RunningJob, Some(1_000_000), Some(0), true, false, Kept),
            (RestingJob, Some(0), None, false, false, Removed),
            (RestingJob, None, None, false, false, Removed),
            (RestingJob, Some(9), Some(10), false, false, Kept),
            (RestingJob, Some(10), Some(10), false, false, Removed),
            (RestingJob, Some(10), Some(10), false, true, WouldRemove),
            (Unknown, Some(1_000_000), Some(0), false, false, Kept),
            (Unknown, Some(3_600), None, true, false, Kept),
            (Unknown, Some(86_400), None, true, false, Removed),
            (Unknown, Some(3_600), Some(60), true, false, Removed),
            (Unknown, None, None, true, false, Kept),
            (Unknown, None, Some(0), true, false, Removed),
        ];
        for (origin, age_s, older_than_s, unknown_too, dry_run, expected) in table {
            let age = age_s.map(Duration::from_secs);
            let decided = decide(&settings(older_than_s, dry_run), origin, age, unknown_too).0;
            assert_eq!(decided, expected, "{origin:?} {age_s:?} {older_than_s:?} {unknown_too} {dry_run}");
        }
    }
}

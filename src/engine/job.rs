//! A run's journal: opened before anything is begun, closed when all is done; and what runs before it left, removed.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use ropeway_io::path::partial_tag;

use super::live::Piece;
use super::preflight::{Refusal, canonical_even_if_absent};
use crate::entry::KeyRange;
use crate::error::ExitCode;
use crate::journal::{Identity, Job, Journal, OpenError, RunEnd};
use crate::report::{Event, Note, Observer};
use crate::settings::{EndpointChoice, Place, SyncSettings};
use crate::transfer::{self, Resume, Side};

/// The job of a run, if it has one.
pub(super) struct Remembered {
    job: Option<Job>,
    pub(super) resume: Resume,
    /// Things that were said as warnings.
    pub(super) warnings: u64,
    trouble_told: bool,
}

impl Remembered {
    /// Opens the journal and takes the job for this process. Without a journal the run goes on, and says so; while another
    /// process has the job, it does not.
    pub(super) fn open(settings: &SyncSettings, observer: &mut dyn Observer) -> Result<Remembered, Refusal> {
        let resume = if settings.journal.afresh { Resume::Afresh } else { Resume::Continue };
        let mut remembered = Remembered { job: None, resume, warnings: 0, trouble_told: false };
        let Some(identity) = identity(settings).filter(|_| !settings.dry_run) else { return Ok(remembered) };
        let Some(directory) = &settings.journal.state_directory else {
            observer.note(Note::Detail, "nothing is remembered for the next run: there is no state directory");
            return Ok(remembered);
        };
        match Job::open(directory, &identity, fastrand::u32(..)) {
            Ok(job) => {
                if let Some(damage) = &job.damage {
                    remembered.warn(observer, damage);
                }
                remembered.job = Some(job);
                Ok(remembered)
            }
            Err(error @ OpenError::Running(_)) => Err(Refusal { text: error.to_string(), exit_code: ExitCode::Unsafe }),
            Err(OpenError::Unusable(text)) => {
                remembered.cannot(observer, &text);
                Ok(remembered)
            }
        }
    }

    /// The key space, with what earlier runs had been through apart: its turn comes last.
    pub(super) fn pieces(&self) -> Vec<Piece> {
        match (&self.job, self.resume) {
            (Some(job), Resume::Continue) => apart(&job.done),
            (Some(_), Resume::Afresh) | (None, _) => vec![Piece::default()],
        }
    }

    /// For a shard.
    pub(super) fn journal(&self) -> Journal {
        self.job.as_ref().map(Job::journal).unwrap_or_default()
    }

    /// Stands in the names of temporary files, if their run is on record.
    pub(super) fn run_tag(&self) -> Option<u32> {
        self.job.as_ref().map(|job| job.run_tag)
    }

    /// Says once that nothing more is written down.
    pub(super) fn tell_trouble(&mut self, observer: &mut dyn Observer) {
        if let Some(text) = self.job.as_ref().and_then(Job::trouble).filter(|_| !self.trouble_told) {
            let text = text.to_owned();
            self.cannot(observer, &text);
        }
    }

    /// Removes what earlier runs left and nobody asked for: at the end of a run that has looked at every key, or before one
    /// that starts afresh.
    pub(super) async fn sweep(&mut self, target: &Side, observer: &mut dyn Observer) {
        let Some(job) = &self.job else { return };
        let mut kept: HashSet<PathBuf> = HashSet::new();
        let mut left_behind = Vec::new();
        for unfinished in job.unfinished().await {
            if unfinished.is_claimed {
                kept.extend(unfinished.temporary().map(PathBuf::from));
                continue;
            }
            match transfer::discard(target, &unfinished.saved).await {
                Ok(()) => job.journal().forget(unfinished.saved.id).await,
                Err(error) => {
                    let reason = transfer::left_behind(&unfinished.saved, &error.to_string());
                    left_behind.push(Event::Warned { key: unfinished.saved.key, reason });
                }
            }
        }
        if let Side::Local(side) = target
            && !job.killed_run_tags.is_empty()
        {
            let mut orphans = Vec::new();
            let walked = side.root.partials(|path, _| {
                let killed = partial_tag(path).is_some_and(|tag| job.killed_run_tags.contains(&tag));
                if killed && !kept.contains(path) {
                    orphans.push(path.to_owned());
                }
            });
            let removed = walked.and_then(|()| {
                orphans.iter().try_for_each(|path| side.root.remove_partial(path).map_err(std::io::Error::from))
            });
            if let Err(error) = removed {
                tracing::debug!(%error, "temporary files of a killed run could not be removed");
            }
        }
        for event in left_behind {
            self.warnings += 1;
            observer.event(&event);
        }
    }

    /// Closes the journal. All shards must have ended.
    pub(super) async fn finish(mut self, end: RunEnd, observer: &mut dyn Observer) -> u64 {
        if let Some(job) = self.job.take()
            && let Some(trouble) = job.finish(end).await
            && !self.trouble_told
        {
            self.cannot(observer, &trouble);
        }
        self.warnings
    }

    fn cannot(&mut self, observer: &mut dyn Observer, text: &str) {
        self.trouble_told = true;
        let text = format!(
            "{text}; this run cannot be continued if it is interrupted; free some space there, or name another directory \
             with --state-dir"
        );
        self.warn(observer, &text);
    }

    fn warn(&mut self, observer: &mut dyn Observer, text: &str) {
        self.warnings += 1;
        observer.note(Note::Warning, text);
    }
}

/// More pieces than this are not worth keeping apart.
const PIECES_MAX: usize = 256;

/// The ranges that were done, which are in order, and the gaps between them.
fn apart(done: &[KeyRange]) -> Vec<Piece> {
    if done.len() >= PIECES_MAX / 2 {
        return vec![Piece::default()];
    }
    let starts = std::iter::once(Some(None)).chain(done.iter().map(|range| range.through.clone().map(Some)));
    let ends = done.iter().map(|range| range.after.clone().map(Some)).chain([Some(None)]);
    let gaps = starts.zip(ends).filter_map(|(after, through)| Some(KeyRange { after: after?, through: through? }));
    let done = done.iter().cloned().map(Piece::done);
    gaps.map(Piece::new).chain(done).collect()
}

/// What makes this run's job. None if nothing of it could be there the next time.
fn identity(settings: &SyncSettings) -> Option<Identity> {
    Some(Identity { source: spell(&settings.source)?, target: spell(&settings.target)? })
}

/// One spelling for each place.
pub(super) fn spell(place: &Place) -> Option<String> {
    Some(match place {
        Place::Local(directory) => spell_path(&canonical_even_if_absent(directory)),
        Place::Bucket(bucket) => {
            let service = match &bucket.endpoint {
                EndpointChoice::Aws(_) => "aws".to_owned(),
                EndpointChoice::Service(endpoint) => {
                    let (scheme, host) = (endpoint.scheme.as_str(), &endpoint.host);
                    format!("{scheme}://{host}:{}{}", endpoint.port, endpoint.base_path)
                }
                EndpointChoice::EmbeddedDirectory(directory) => {
                    format!("embedded:{}", spell_path(&canonical_even_if_absent(directory)))
                }
                EndpointChoice::EmbeddedMemory => return None,
            };
            format!("{service} s3://{}/{}", bucket.bucket, bucket.prefix)
        }
    })
}

/// A path byte for byte, whatever it is made of; that of a name beneath it begins with it.
pub(super) fn spell_path(path: &Path) -> String {
    format!("file:{}", path.as_os_str().as_encoded_bytes().escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(after: Option<u8>, through: Option<u8>) -> KeyRange {
        let key = |byte: Option<u8>| byte.map(|byte| Box::from([byte]));
        KeyRange { after: key(after), through: key(through) }
    }

    proptest! {
        /// Ranges between borders, every second one done, from either end of the key space.
        #[test]
        fn what_was_done_and_the_rest_are_the_key_space_each_once(
            borders in prop::collection::btree_set(1u8..255, 0..8), first_is_done: bool,
        ) {
            let borders: Vec<Option<u8>> = borders.into_iter().map(Some).collect();
            let starts = [None].into_iter().chain(borders.iter().copied());
            let all: Vec<KeyRange> =
                starts.zip(borders.iter().copied().chain([None])).map(|(after, through)| range(after, through)).collect();
            let done: Vec<KeyRange> = all.iter().skip(usize::from(!first_is_done)).step_by(2).cloned().collect();
            let mut pieces = apart(&done);
            for piece in &pieces {
                prop_assert_eq!(piece.is_done, done.contains(&piece.keys));
            }
            pieces.sort_by(|one, other| one.keys.after.cmp(&other.keys.after));
            let keys: Vec<KeyRange> = pieces.into_iter().map(|piece| piece.keys).collect();
            prop_assert_eq!(keys, all);
        }
    }

    #[test]
    fn too_many_pieces_are_one() {
        let done: Vec<KeyRange> = (0..128).map(|at| range(Some(at), Some(at))).collect();
        assert_eq!(apart(&done).len(), 1);
    }
}

//! The journal as a whole: what is read back, what survives a cut at any byte, and what is done about a file that is not one.

use std::fs;
use std::future::Future;
use std::sync::LazyLock;

use proptest::prelude::*;
use ropeway_io::runtime::{Backend, block_on};

use super::*;

fn wait<T>(work: impl Future<Output = T>) -> T {
    block_on(Backend::Pool, work).unwrap()
}

fn identity() -> Identity {
    Identity { source: "file:/source".to_owned(), target: "http://h:1 s3://b/p".to_owned() }
}

fn open(directory: &Path) -> Job {
    Job::open(directory, &identity(), 7).unwrap()
}

fn source() -> SourceIdentity {
    SourceIdentity { size_bytes: 20 << 20, modified_ns: -5, inode: u64::MAX, etag: Some("e-2".to_owned()) }
}

const PROOFS: [SavedProof; 5] = {
    use SavedProof::{Checksum, ChecksumAndETag, ETag, None, TurnedOff};
    [Checksum, ETag, ChecksumAndETag, None, TurnedOff]
};

fn part(number: u32) -> SavedPart {
    SavedPart {
        number,
        size_bytes: 5 << 20,
        crc64: u64::MAX - u64::from(number),
        md5: number.is_multiple_of(2).then_some([number as u8; 16]),
        etag: Some(format!("etag-{number}")),
        proof: PROOFS[number as usize % PROOFS.len()],
    }
}

fn upload(upload_id: Option<&str>) -> SavedPlace {
    SavedPlace::Upload { token: "token".to_owned(), upload_id: upload_id.map(str::to_owned) }
}

/// A run that begins an upload of `big` and proves so many parts of it. It is not ended.
fn begun(directory: &Path, parts: u32) -> Job {
    let job = open(directory);
    wait(async {
        let journal = job.journal();
        let id = journal.begin("big", source(), 5 << 20, upload(None)).await.unwrap();
        journal.opened(id, "upload-1").await;
        for number in 1..=parts {
            journal.part(id, part(number)).await;
        }
        // Said once more, since this answer comes when everything before it is committed.
        journal.opened(id, "upload-1").await;
    });
    job
}

fn recall(job: &Job, key: &str) -> Option<Saved> {
    wait(async { job.journal().recall(key).await })
}

/// The files of a journal that is open, as a kill at this instant would leave them.
fn files_now(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it != "lock" && it != "db-shm"))
        .map(|path| (path.file_name().unwrap().into(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

fn laid_out(files: &[(PathBuf, Vec<u8>)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, content)| fs::write(directory.path().join(name), content).unwrap());
    directory
}

#[test]
fn what_was_written_is_read_back_and_what_was_finished_is_not() {
    let home = tempfile::tempdir().unwrap();
    let job = begun(home.path(), 4);
    assert_eq!(recall(&job, "big"), None, "it is this run's own");
    wait(async {
        let journal = job.journal();
        let file = SavedPlace::File { temporary: "a/.ropeway-0000000000000000.partial".into() };
        journal.begin("file", source(), 1, file).await.unwrap();
        let done = journal.begin("done", source(), 1, upload(None)).await.unwrap();
        journal.part(done, part(1)).await;
        journal.forget(done).await;
    });
    assert_eq!(wait(job.finish(RunEnd::Early)), None);

    let job = open(home.path());
    assert_eq!(job.killed_run_tags, [0; 0], "it came to its end");
    let big = recall(&job, "big").unwrap();
    assert_eq!((&big.source, big.part_bytes), (&source(), 5 << 20));
    assert_eq!(big.place, upload(Some("upload-1")));
    assert_eq!(big.parts, [1, 2, 3, 4].map(part));
    assert_eq!(recall(&job, "done"), None);
    let unfinished = wait(job.unfinished());
    let claims: Vec<_> = unfinished.iter().map(|it| (it.saved.key.as_str(), it.is_claimed)).collect();
    assert_eq!(claims, [("big", true), ("file", false)]);
    for it in &unfinished {
        wait(async { job.journal().forget(it.saved.id).await });
    }
    assert_eq!(wait(job.finish(RunEnd::Complete)), None);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "nothing is left of a job that is done");
}

#[test]
fn ranges_that_were_done_are_joined_and_forgotten_when_all_are() {
    let home = tempfile::tempdir().unwrap();
    let range = |after: &str, through: &str| {
        let key = |text: &str| (!text.is_empty()).then(|| Box::from(text.as_bytes()));
        KeyRange { after: key(after), through: key(through) }
    };
    let job = open(home.path());
    wait(async {
        for (after, through) in [("m", "p"), ("x", ""), ("", "c"), ("p", "q"), ("b", "d"), ("y", "z")] {
            job.journal().done(range(after, through)).await;
        }
    });
    wait(job.finish(RunEnd::Early));
    for _ in 0..2 {
        let job = open(home.path());
        assert_eq!(job.done, [range("", "d"), range("m", "q"), range("x", "")]);
        wait(job.finish(RunEnd::Early));
    }
    wait(open(home.path()).finish(RunEnd::Complete));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_run_that_was_killed_is_known_by_its_tag() {
    let home = tempfile::tempdir().unwrap();
    let job = begun(home.path(), 0);
    let killed = laid_out(&files_now(home.path()));
    let again = Job::open(killed.path(), &identity(), 8).unwrap();
    assert_eq!((again.killed_run_tags.as_slice(), again.run_tag), (&[7][..], 8));
    wait(again.finish(RunEnd::Early));
    assert_eq!(open(killed.path()).killed_run_tags, [7], "nobody has looked for its files yet");
    wait(job.finish(RunEnd::Early));
}

#[test]
fn the_same_job_is_run_once_at_a_time() {
    let home = tempfile::tempdir().unwrap();
    let job = open(home.path());
    let refused = Job::open(home.path(), &identity(), 8).unwrap_err();
    assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
    let other = Identity { target: "elsewhere".to_owned(), ..identity() };
    Job::open(home.path(), &other, 8).unwrap();
    wait(job.finish(RunEnd::Early));
    open(home.path());
}

/// I6: a kill may come between any two writes, and a file that was written ahead is then cut at any byte.
#[test]
fn i6_a_journal_cut_at_any_byte_knows_a_prefix_of_what_it_knew() {
    let home = tempfile::tempdir().unwrap();
    let job = begun(home.path(), 5);
    let files = files_now(home.path());
    let whole = files.iter().find(|(name, _)| name.extension().is_some_and(|it| it == "db-wal")).unwrap().1.len();
    let mut seen = std::collections::BTreeSet::new();
    // Every byte of the beginning, then steps that share no factor with a page: all phases of a frame are met.
    let cuts = (0..200).chain((200..whole).step_by(331)).chain([whole]);
    for cut in cuts {
        let mut files = files.clone();
        for (name, content) in &mut files {
            if name.extension().is_some_and(|it| it == "db-wal") {
                content.truncate(cut);
            }
        }
        let directory = laid_out(&files);
        let job = open(directory.path());
        assert_eq!(job.damage, None, "cut at {cut}");
        if let Some(saved) = recall(&job, "big") {
            let count = saved.parts.len() as u32;
            assert_eq!(saved.parts, (1..=count).map(part).collect::<Vec<_>>(), "cut at {cut}");
            seen.insert(count);
        }
    }
    assert!(seen.contains(&5) && seen.len() > 1, "{seen:?}");
    wait(job.finish(RunEnd::Early));
}

#[test]
fn a_journal_that_is_not_whole_is_put_aside_and_said_so() {
    let home = tempfile::tempdir().unwrap();
    wait(begun(home.path(), 200).finish(RunEnd::Early));
    let files = files_now(home.path());
    let [(name, whole)] = files.as_slice() else { panic!("a closed journal is one file") };
    let other_job = laid_out(&files);
    let other = Identity { source: "other".to_owned(), ..identity() };
    let other_name = format!("{}.db", other.name());
    fs::rename(other_job.path().join(name), other_job.path().join(&other_name)).unwrap();
    let job = Job::open(other_job.path(), &other, 8).unwrap();
    assert!(job.damage.as_ref().is_some_and(|text| text.contains("another job")), "{:?}", job.damage);

    for content in [b"no database".repeat(100), whole[..whole.len() / 2].to_vec(), whole[..5_000].to_vec()] {
        let directory = laid_out(&[(name.clone(), content.clone())]);
        let job = open(directory.path());
        let damage = job.damage.clone().expect("it was noticed");
        assert!(damage.contains("put aside"), "{damage}");
        assert_eq!(fs::read(directory.path().join(name).with_extension("damaged")).unwrap(), content);
        assert_eq!(recall(&job, "big"), None);
        wait(async { job.journal().begin("big", source(), 1, upload(None)).await }).expect("it can be written to");
        wait(job.finish(RunEnd::Early));
        let job = open(directory.path());
        assert_eq!((job.damage.as_deref(), recall(&job, "big").is_some()), (None, true));
    }
}

/// A closed journal with fifty parts in it.
static CLOSED: LazyLock<Vec<(PathBuf, Vec<u8>)>> = LazyLock::new(|| {
    let home = tempfile::tempdir().unwrap();
    wait(begun(home.path(), 50).finish(RunEnd::Early));
    files_now(home.path())
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_flipped_bit_stops_a_run(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut files = CLOSED.clone();
        let content = &mut files[0].1;
        let at = at.index(content.len());
        content[at] ^= 1 << bit;
        let directory = laid_out(&files);
        match Job::open(directory.path(), &identity(), 8) {
            Ok(job) => {
                recall(&job, "big");
                wait(job.finish(RunEnd::Early));
            }
            // Then the run goes on without a journal, as with a later version's.
            Err(OpenError::Unusable(_)) => {}
            Err(error @ OpenError::Running(_)) => prop_assert!(false, "byte {}: {}", at, error),
        }
    }
}

#[test]
fn a_journal_of_a_later_version_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    wait(begun(home.path(), 1).finish(RunEnd::Early));
    let path = home.path().join(format!("{}.db", identity().name()));
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(&path).unwrap();
    let refused = Job::open(home.path(), &identity(), 8).unwrap_err();
    assert!(matches!(&refused, OpenError::Unusable(text) if text.contains("later version")), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_write_that_fails_is_said_once_and_nobody_waits_for_it() {
    let home = tempfile::tempdir().unwrap();
    let job = begun(home.path(), 1);
    // Somebody drops a table under the run: the next write to it fails.
    let path = home.path().join(format!("{}.db", identity().name()));
    rusqlite::Connection::open(&path).unwrap().execute_batch("DROP TABLE transfer").unwrap();
    wait(async {
        let journal = job.journal();
        assert_eq!(journal.begin("other", source(), 1, upload(None)).await, None);
        journal.opened(1, "x").await;
        assert_eq!(journal.recall("big").await, None);
    });
    assert!(job.trouble().is_some_and(|text| text.contains("transfer")), "{:?}", job.trouble());
    assert!(wait(job.finish(RunEnd::Complete)).is_some());
    assert!(path.exists(), "what cannot be read is not removed");
}

#[test]
fn others_see_what_is_unfinished_and_strike_out_only_of_jobs_that_rest() {
    let home = tempfile::tempdir().unwrap();
    let job = begun(home.path(), 1);
    let seen = jobs(home.path());
    let [running] = seen.as_slice() else { panic!("one job, not {seen:?}") };
    assert!(running.is_running() && running.run_tags == [7] && running.identity == identity());
    running.forget(&[running.unfinished[0].id]);
    drop(seen);
    wait(job.finish(RunEnd::Early));
    let seen = jobs(home.path());
    assert!(!seen[0].is_running());
    assert_eq!(seen[0].unfinished.len(), 1, "a running job was left alone");
    assert!(Job::open(home.path(), &identity(), 8).is_err(), "it cannot begin while it is cleaned");
    seen[0].forget(&[seen[0].unfinished[0].id]);
    drop(seen);
    assert!(jobs(home.path())[0].unfinished.is_empty());
}

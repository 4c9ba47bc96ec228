//! One part of a large object, from whichever source to whichever target: read, hashed, written, proven.
//!
//! A part that fits a buffer is whole in memory when it is sent, with its checksum in the request's head. A larger one (the
//! person wished for it, or 10,000 smaller parts would not hold the object) goes through several buffers, one after the
//! other, and is compared afterwards.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use ropeway_io::hash::{Md5Lane, combine};
use ropeway_s3proto::checksum::{Algorithm, Checksum, Crc64Nvme};
use tokio::sync::{Notify, mpsc};

use super::large::{Attached, Destination, PartDone};
use super::part::{self, Part};
use super::resume::recall_part;
use super::side::{Acknowledged, Opened, acknowledge, write_failed};
use super::sums::Running;
use super::verify::{Wanted, finished};
use super::{Error, Kit, Side, Way, copy};
use crate::client::{Checks, Failure, RequestBody, UploadProof};

/// One part: read, hashed, written, proven.
pub(super) async fn carry_part(kit: &Rc<Kit>, attached: &Attached, part: Part) -> Result<PartDone, Error> {
    let _slot = kit.board.slot().await;
    if let Some(done) = recall_part(kit, attached, &part).await? {
        kit.moved(done.size_bytes);
        return Ok(done);
    }
    let done = if attached.large.way == Way::Copied {
        copy::part(kit, attached, &part).await
    } else if part.size_bytes() > kit.sizes.buffer_bytes {
        match &attached.large.target {
            Destination::File { .. } => write_stretches(kit, attached, &part).await,
            Destination::Upload { .. } | Destination::Put { .. } => send_stretches(kit, attached, &part).await,
        }
    } else {
        carry_whole(kit, attached, &part).await
    }?;
    kit.moved(done.size_bytes);
    Ok(done)
}

/// A part that fits one buffer.
async fn carry_whole(kit: &Kit, attached: &Attached, part: &Part) -> Result<PartDone, Error> {
    let large = &attached.large;
    let buffer = kit.arena.lease(part.size_bytes() as usize).await;
    let with_md5 = large.wanted.md5 || kit.target_wants_md5();
    let mut hashed = attached.source.read(kit, part.range.clone(), buffer, with_md5).await?.freeze();
    let content = hashed.content.clone();
    if let Some(turnstile) = &attached.in_order {
        turnstile.pass(part.range.clone(), content.clone()).await;
    }
    let acknowledged = match (&large.target, &kit.target) {
        (Destination::Upload { key, upload_id }, Side::Bucket(side)) => {
            let sent = side.send_proven(kit, &mut hashed, async |client, checks| {
                client.upload_part(key, upload_id, part.number, checks, content.clone()).await
            });
            Some(sent.await.map_err(Error::of_a_part)?)
        }
        (Destination::Put { key, metadata, checks, existing }, Side::Bucket(side)) => {
            let condition = kit.condition(existing.as_ref());
            let sent = side.client.put(key, metadata, condition, *checks, content).await.map_err(Error::target)?;
            Some(side.judge(kit, &mut hashed, sent).await?)
        }
        _ => {
            let file = attached.file.as_ref().expect("a local target has its file");
            kit.files.write_bytes_at(file, content, part.range.start).await.map_err(write_failed)?;
            None
        }
    };
    let md5 = if large.wanted.md5 { Some(hashed.md5(&kit.lanes).await) } else { None };
    let sum = match large.wanted.sum {
        Some(algorithm) => Some(hashed.checksum(algorithm).await),
        None => None,
    };
    let (number, size_bytes, crc64) = (part.number, part.size_bytes(), hashed.crc.0);
    Ok(PartDone { number, size_bytes, crc64, md5, sum, acknowledged })
}

/// A part larger than a buffer, into a file.
async fn write_stretches(kit: &Kit, attached: &Attached, part: &Part) -> Result<PartDone, Error> {
    let file = attached.file.as_ref().expect("a local target has its file");
    let mut hashes = Hashes::new(kit, attached.large.wanted);
    for range in part::stretches(part.range.clone(), kit.sizes.buffer_bytes) {
        let buffer = kit.arena.lease((range.end - range.start) as usize).await;
        let read = attached.source.read(kit, range.clone(), buffer, false).await?;
        let crc = read.crc.0;
        let content = read.freeze().content;
        hashes.add(&content, crc).await;
        if let Some(turnstile) = &attached.in_order {
            turnstile.pass(range.clone(), content.clone()).await;
        }
        kit.files.write_bytes_at(file, content, range.start).await.map_err(write_failed)?;
        // The next stretch may be waiting for this one's buffer.
        hashes.drained().await;
    }
    Ok(hashes.finish().await.done(part, None))
}

/// A part larger than a buffer, into a bucket: sent while it is read. Its CRC64NVME is known only afterwards, so it is compared
/// with what the service computed, before the upload is completed. A checksum of another algorithm, which the person wished
/// for, has to go with the request; for it the part is read once more.
async fn send_stretches(kit: &Rc<Kit>, attached: &Attached, part: &Part) -> Result<PartDone, Error> {
    let Side::Bucket(side) = &kit.target else { unreachable!("uploads have a bucket for a target") };
    let asked = kit.integrity.upload_with.filter(|_| side.client.abilities().upload_proof() != UploadProof::Md5);
    let checks = match (&attached.large.target, asked) {
        (Destination::Put { checks, .. }, _) => *checks,
        (_, Some(algorithm)) if algorithm != Algorithm::Crc64Nvme => {
            let wanted = Wanted { md5: false, sum: Some(algorithm) };
            let ahead = read_ahead(kit, &attached.source, part.range.clone(), wanted).await?;
            Checks { checksum: ahead.sum, content_md5: None }
        }
        _ => Checks::default(),
    };
    let wanted = attached.large.wanted;
    let stretches = Stretches::new(Wanted { md5: wanted.md5 || kit.target_wants_md5(), ..wanted });
    let body = || stretches.start(part);
    let (sent, ()) = tokio::join!(
        async {
            let sent = match &attached.large.target {
                Destination::Upload { key, upload_id } => {
                    side.client.upload_part_stream(key, upload_id, part.number, checks, part.size_bytes(), body).await
                }
                Destination::Put { key, metadata, existing, .. } => {
                    let condition = kit.condition(existing.as_ref());
                    side.client.put_stream(key, metadata, condition, checks, part.size_bytes(), body).await
                }
                Destination::File { .. } => unreachable!("files are written, not sent"),
            };
            stretches.end();
            sent
        },
        stretches.read_all(kit, attached)
    );
    if let Some(error) = stretches.source_error.take() {
        return Err(error);
    }
    let answer = sent.map_err(Error::target)?;
    let abilities = side.client.abilities();
    if checks.checksum.is_some() && (answer.checksum.is_some() || abilities.upload_proof() == UploadProof::Unknown) {
        abilities.learn_checksum_echo(answer.checksum.is_some());
    }
    let read = stretches.hashes.take().expect("a body that was sent whole was hashed whole");
    // The service has compared the one that it was given with what came.
    let ours = answer.checksum.and_then(|theirs| match theirs.checksum.algorithm() {
        Algorithm::Crc64Nvme => Some(Crc64Nvme(read.crc64).into()),
        algorithm => [checks.checksum, read.sum].into_iter().flatten().find(|ours| ours.algorithm() == algorithm),
    });
    let acknowledged = acknowledge(kit, kit.etags(side), ours, read.md5, answer);
    let acknowledged = match attached.large.target {
        Destination::Upload { .. } => acknowledged.map_err(Error::of_a_part)?,
        Destination::Put { .. } | Destination::File { .. } => acknowledged?,
    };
    Ok(read.done(part, Some(acknowledged)))
}

/// Hashes of a range of the source, which is read for them alone.
pub(super) async fn read_ahead(
    kit: &Kit,
    source: &Opened,
    range: Range<u64>,
    wanted: Wanted,
) -> Result<PartHashes, Error> {
    let mut hashes = Hashes::new(kit, wanted);
    for range in part::stretches(range, kit.sizes.buffer_bytes) {
        let buffer = kit.arena.lease((range.end - range.start) as usize).await;
        let read = source.read(kit, range, buffer, false).await?;
        let crc = read.crc.0;
        hashes.add(&read.freeze().content, crc).await;
        hashes.drained().await;
    }
    Ok(hashes.finish().await)
}

/// Hashes of a part that comes in stretches, being taken.
pub(super) struct Hashes {
    crc64: u64,
    md5: Option<Md5Lane>,
    sum: Option<Running>,
}

/// Hashes of a part.
pub(super) struct PartHashes {
    pub(super) crc64: u64,
    pub(super) md5: Option<[u8; 16]>,
    pub(super) sum: Option<Checksum>,
}

impl Hashes {
    pub(super) fn new(kit: &Kit, wanted: Wanted) -> Hashes {
        Hashes { crc64: 0, md5: wanted.md5.then(|| kit.lanes.lane()), sum: wanted.sum.map(Running::new) }
    }

    /// Adds a stretch, whose CRC64NVME is known.
    pub(super) async fn add(&mut self, content: &Bytes, crc64: u64) {
        self.crc64 = combine(self.crc64, crc64, content.len() as u64);
        if let Some(lane) = &mut self.md5 {
            lane.push(content.clone());
        }
        if let Some(sum) = &mut self.sum {
            sum.update(content).await;
        }
    }

    /// Waits until nothing that was added is held any more.
    pub(super) async fn drained(&mut self) {
        if let Some(lane) = &mut self.md5 {
            lane.drained().await;
        }
    }

    pub(super) async fn finish(self) -> PartHashes {
        PartHashes { crc64: self.crc64, md5: finished(self.md5).await, sum: self.sum.map(Running::finish) }
    }
}

impl PartHashes {
    pub(super) fn done(self, part: &Part, acknowledged: Option<Acknowledged>) -> PartDone {
        let PartHashes { crc64, md5, sum } = self;
        PartDone { number: part.number, size_bytes: part.size_bytes(), crc64, md5, sum, acknowledged }
    }
}

/// The reading half of a part that is sent while it is read. Each try of the request starts it anew.
struct Stretches {
    /// Where the present try's slices go, and what it is to read.
    try_now: RefCell<Option<(mpsc::Sender<Bytes>, Range<u64>)>>,
    started: Notify,
    ended: Cell<bool>,
    source_error: RefCell<Option<Error>>,
    wanted: Wanted,
    /// Of the part, once it was read whole.
    hashes: RefCell<Option<PartHashes>>,
}

impl Stretches {
    fn new(wanted: Wanted) -> Stretches {
        Stretches {
            try_now: RefCell::default(),
            started: Notify::new(),
            ended: Cell::new(false),
            source_error: RefCell::default(),
            wanted,
            hashes: RefCell::default(),
        }
    }

    /// Begins a try: the returned body is fed by [`Stretches::read_all`].
    fn start(&self, part: &Part) -> Result<RequestBody, Failure> {
        if let Some(error) = &*self.source_error.borrow() {
            return Err(Failure::Request(format!("the source failed: {error}")));
        }
        // One slice waits while another is sent, so a part takes two buffers at most.
        let (sender, slices) = mpsc::channel(1);
        *self.try_now.borrow_mut() = Some((sender, part.range.clone()));
        self.started.notify_one();
        Ok(RequestBody::Stream { slices, left_bytes: part.size_bytes() })
    }

    /// No further try will come.
    fn end(&self) {
        self.ended.set(true);
        self.started.notify_one();
    }

    /// Reads for one try after the other.
    async fn read_all(&self, kit: &Kit, attached: &Attached) {
        while !self.ended.get() {
            let try_now = self.try_now.borrow_mut().take();
            match try_now {
                None => self.started.notified().await,
                Some((slices, range)) => match self.read_once(kit, attached, range, &slices).await {
                    Ok(hashes) => *self.hashes.borrow_mut() = hashes,
                    Err(error) => *self.source_error.borrow_mut() = Some(error),
                },
            }
        }
    }

    /// Reads a part once. None if the request ended before it had taken everything.
    async fn read_once(
        &self,
        kit: &Kit,
        attached: &Attached,
        range: Range<u64>,
        slices: &mpsc::Sender<Bytes>,
    ) -> Result<Option<PartHashes>, Error> {
        let mut hashes = Hashes::new(kit, self.wanted);
        for range in part::stretches(range, kit.sizes.buffer_bytes) {
            let buffer = tokio::select! {
                buffer = kit.arena.lease((range.end - range.start) as usize) => buffer,
                () = slices.closed() => return Ok(None),
            };
            let read = attached.source.read(kit, range.clone(), buffer, false).await?;
            let crc = read.crc.0;
            let content = read.freeze().content;
            hashes.add(&content, crc).await;
            if let Some(turnstile) = &attached.in_order {
                turnstile.pass(range, content.clone()).await;
            }
            if slices.send(content).await.is_err() {
                return Ok(None);
            }
            // Hashed while it is sent, and before the next buffer is asked for.
            hashes.drained().await;
        }
        Ok(Some(hashes.finish().await))
    }
}

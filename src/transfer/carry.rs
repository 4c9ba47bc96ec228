//! One part of a large object, from whichever source to whichever target: read, hashed, written, proven.
//!
//! A part that fits a buffer is whole in memory when it is sent, with its checksum in the request's head. A larger one (the
//! person wished for it, or 10,000 smaller parts would not hold the object) goes through several buffers, one after the
//! other, and is compared afterwards.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use ropeway_io::hash::combine;
use ropeway_s3proto::checksum::Crc64Nvme;
use tokio::sync::{Notify, mpsc};

use super::large::{Attached, Destination, PartDone};
use super::part::{self, Part};
use super::resume::recall_part;
use super::side::{ReadStretch, acknowledge, write_failed};
use super::verify::{self, finished};
use super::{Error, Kit, Side, Way, copy};
use crate::client::{Checks, Failure, RequestBody};

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
    let with_md5 = large.part_md5 || kit.target_wants_md5();
    let read = attached.source.read(kit, part.range.clone(), buffer, with_md5).await?;
    let crc = read.crc;
    let (md5, acknowledged) = match (&large.target, &kit.target) {
        (Destination::Upload { key, upload_id }, Side::Bucket(side)) => {
            let mut md5 = read.freeze();
            let content = md5.content.clone();
            if let Some(turnstile) = &attached.in_order {
                turnstile.pass(part.range.clone(), content.clone()).await;
            }
            let sent = side.send_proven(kit, &mut md5, crc, async |client, checks| {
                client.upload_part(key, upload_id, part.number, checks, content.clone()).await
            });
            let acknowledged = Some(sent.await?);
            let digest = if large.part_md5 { Some(md5.digest(&kit.lanes).await) } else { None };
            (digest, acknowledged)
        }
        _ => (write_whole(kit, attached, part, read).await?, None),
    };
    Ok(PartDone { number: part.number, size_bytes: part.size_bytes(), crc64: crc.0, md5, acknowledged })
}

/// Writes a part that was read whole, and gives its MD5 if that is wanted.
async fn write_whole(
    kit: &Kit,
    attached: &Attached,
    part: &Part,
    read: ReadStretch,
) -> Result<Option<[u8; 16]>, Error> {
    let file = attached.file.as_ref().expect("a local target has its file");
    let mut md5 = read.freeze();
    let content = md5.content.clone();
    if let Some(turnstile) = &attached.in_order {
        turnstile.pass(part.range.clone(), content.clone()).await;
    }
    kit.files.write_bytes_at(file, content, part.range.start).await.map_err(write_failed)?;
    Ok(if attached.large.part_md5 { Some(md5.digest(&kit.lanes).await) } else { None })
}

/// A part larger than a buffer, into a file.
async fn write_stretches(kit: &Kit, attached: &Attached, part: &Part) -> Result<PartDone, Error> {
    let file = attached.file.as_ref().expect("a local target has its file");
    let (mut crc, mut md5) = (0, attached.large.part_md5.then(|| kit.lanes.lane()));
    for range in part::stretches(part.range.clone(), kit.sizes.buffer_bytes) {
        let buffer = kit.arena.lease((range.end - range.start) as usize).await;
        let read = attached.source.read(kit, range.clone(), buffer, false).await?;
        crc = combine(crc, read.crc.0, read.buffer.len() as u64);
        let content = read.freeze().content;
        if let Some(lane) = &mut md5 {
            lane.push(content.clone());
        }
        if let Some(turnstile) = &attached.in_order {
            turnstile.pass(range.clone(), content.clone()).await;
        }
        kit.files.write_bytes_at(file, content, range.start).await.map_err(write_failed)?;
        if let Some(lane) = &mut md5 {
            // The next stretch may be waiting for this one's buffer.
            lane.drained().await;
        }
    }
    let md5 = finished(md5).await;
    Ok(PartDone { number: part.number, size_bytes: part.size_bytes(), crc64: crc, md5, acknowledged: None })
}

/// A part larger than a buffer, into a bucket: sent while it is read. Its checksum is known only afterwards, so it is
/// compared with what the service computed, before the upload is completed.
async fn send_stretches(kit: &Rc<Kit>, attached: &Attached, part: &Part) -> Result<PartDone, Error> {
    let Side::Bucket(side) = &kit.target else { unreachable!("uploads have a bucket for a target") };
    let stretches = Stretches::new(attached.large.part_md5 || kit.target_wants_md5());
    let body = || stretches.start(part);
    let (sent, ()) = tokio::join!(
        async {
            let sent = match &attached.large.target {
                Destination::Upload { key, upload_id } => {
                    side.client
                        .upload_part_stream(key, upload_id, part.number, Checks::default(), part.size_bytes(), body)
                        .await
                }
                Destination::Put { key, metadata, checks, existing } => {
                    let condition = kit.condition(existing.as_ref());
                    side.client.put_stream(key, metadata, condition, *checks, part.size_bytes(), body).await
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
    let (crc64, md5) = stretches.hashes.take().expect("a body that was sent whole was hashed whole");
    if let Some(theirs) = answer.crc64nvme {
        verify::same_crc(Crc64Nvme(crc64), theirs)?;
    }
    let acknowledged = Some(acknowledge(kit.etags(side), md5, answer)?);
    Ok(PartDone { number: part.number, size_bytes: part.size_bytes(), crc64, md5, acknowledged })
}

/// The reading half of a part that is sent while it is read. Each try of the request starts it anew.
struct Stretches {
    /// Where the present try's slices go, and what it is to read.
    try_now: RefCell<Option<(mpsc::Sender<Bytes>, Range<u64>)>>,
    started: Notify,
    ended: Cell<bool>,
    source_error: RefCell<Option<Error>>,
    with_md5: bool,
    hashes: RefCell<Option<Hashes>>,
}

/// Of a part that was read whole: its CRC64NVME, and its MD5 if somebody will compare that.
type Hashes = (u64, Option<[u8; 16]>);

impl Stretches {
    fn new(with_md5: bool) -> Stretches {
        Stretches {
            try_now: RefCell::default(),
            started: Notify::new(),
            ended: Cell::new(false),
            source_error: RefCell::default(),
            with_md5,
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
    ) -> Result<Option<Hashes>, Error> {
        let (mut crc, mut md5) = (0, self.with_md5.then(|| kit.lanes.lane()));
        for range in part::stretches(range, kit.sizes.buffer_bytes) {
            let buffer = tokio::select! {
                buffer = kit.arena.lease((range.end - range.start) as usize) => buffer,
                () = slices.closed() => return Ok(None),
            };
            let read = attached.source.read(kit, range.clone(), buffer, false).await?;
            crc = combine(crc, read.crc.0, read.buffer.len() as u64);
            let content = read.freeze().content;
            if let Some(lane) = &mut md5 {
                lane.push(content.clone());
            }
            if let Some(turnstile) = &attached.in_order {
                turnstile.pass(range, content.clone()).await;
            }
            if slices.send(content).await.is_err() {
                return Ok(None);
            }
            if let Some(lane) = &mut md5 {
                // Hashed while it is sent, and before the next buffer is asked for.
                lane.drained().await;
            }
        }
        Ok(Some((crc, finished(md5).await)))
    }
}

//! Flags about integrity: by what an object is held to have changed, what proves a copy, and what uploads are given to be
//! proven by later.

use clap::Args;

use crate::settings::{Algorithm, Check, Integrity};

#[derive(Debug, Args)]
#[command(next_help_heading = "Update checking")]
pub(super) struct CheckArgs {
    /// Copy what differs in size, whatever the times.
    #[arg(long, env = "ROPEWAY_CHECK_SIZE")]
    check_size: bool,

    /// Copy what differs in its ETag, whatever the times. A local file is hashed in the parts that the object has. What cannot
    /// be compared, as under SSE-KMS, is copied, with a warning.
    #[arg(long, env = "ROPEWAY_CHECK_ETAG")]
    check_etag: bool,

    /// Copy what is newer at the source and differs in its ETag.
    #[arg(long, env = "ROPEWAY_CHECK_MTIME_AND_ETAG")]
    check_mtime_and_etag: bool,

    /// Copy what differs in this checksum, whatever the times: CRC32, CRC32C, CRC64NVME, SHA1 or SHA256. It costs a HEAD for
    /// each object and bucket. Where a side has no such checksum the object is copied, with a warning.
    #[arg(long, value_name = "ALGORITHM", env = "ROPEWAY_CHECK_ADDITIONAL_CHECKSUM", value_parser = algorithm)]
    check_additional_checksum: Option<Algorithm>,

    /// Copy what is newer at the source and differs in this checksum.
    #[arg(long, value_name = "ALGORITHM", env = "ROPEWAY_CHECK_MTIME_AND_ADDITIONAL_CHECKSUM", value_parser = algorithm)]
    check_mtime_and_additional_checksum: Option<Algorithm>,

    /// Copy everything: the target is not looked at, nor listed unless --delete needs it. With --head-each-target it is asked
    /// for each object instead.
    #[arg(long, env = "ROPEWAY_REMOVE_MODIFIED_FILTER")]
    remove_modified_filter: bool,

    /// Ask the target for each object right before it is copied, and copy it only if what is there then wants it.
    #[arg(long, env = "ROPEWAY_HEAD_EACH_TARGET")]
    head_each_target: bool,
}

impl CheckArgs {
    /// Puts what they mean into the settings.
    pub(super) fn apply(&self, integrity: &mut Integrity) {
        integrity.check = match (self.check_additional_checksum, self.check_mtime_and_additional_checksum) {
            (Some(algorithm), _) => Check::Checksum(algorithm),
            (None, Some(algorithm)) => Check::NewerAndChecksum(algorithm),
            (None, None) if self.check_mtime_and_etag => Check::NewerAndETag,
            (None, None) if self.check_etag => Check::ETag,
            (None, None) if self.check_size => Check::Size,
            (None, None) => Check::Newer,
        };
        integrity.ignore_target_listing = self.remove_modified_filter;
        integrity.head_each_target = self.head_each_target;
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Verification")]
pub(super) struct VerificationArgs {
    /// Compare no ETags with the MD5 of the content; checksums still are.
    #[arg(long, env = "ROPEWAY_DISABLE_ETAG_VERIFY")]
    disable_etag_verify: bool,

    /// Compare neither ETags nor checksums that cover an object's parts; each part still is.
    #[arg(long, env = "ROPEWAY_DISABLE_MULTIPART_VERIFY")]
    disable_multipart_verify: bool,
}

impl VerificationArgs {
    /// The settings, with nothing beyond these flags asked for.
    pub(super) fn integrity(&self) -> Integrity {
        Integrity {
            verify_etags: !self.disable_etag_verify,
            verify_multipart: !self.disable_multipart_verify,
            ..Integrity::default()
        }
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Checksums")]
pub(super) struct ChecksumArgs {
    /// Upload with this checksum, which the service computes too and keeps: CRC32, CRC32C, CRC64NVME, SHA1 or SHA256
    /// [default: CRC64NVME, where the service knows it].
    #[arg(long, value_name = "ALGORITHM", env = "ROPEWAY_ADDITIONAL_CHECKSUM_ALGORITHM", value_parser = algorithm)]
    additional_checksum_algorithm: Option<Algorithm>,

    /// With CRC32 or CRC32C: the checksum of an object sent in parts covers its bytes, not the parts' checksums. That of
    /// CRC64NVME always does.
    #[arg(long, env = "ROPEWAY_FULL_OBJECT_CHECKSUM")]
    full_object_checksum: bool,

    /// Warn of each object that has no checksum at the source. What has one is compared with it in any case.
    #[arg(long, env = "ROPEWAY_ENABLE_ADDITIONAL_CHECKSUM")]
    enable_additional_checksum: bool,

    /// Upload with the checksum, and leave it to the service to compare it.
    #[arg(long, env = "ROPEWAY_DISABLE_ADDITIONAL_CHECKSUM_VERIFY")]
    disable_additional_checksum_verify: bool,

    /// Send no Content-MD5, which goes only to services that heed no checksum, or are not yet known to. ETags are compared all
    /// the same.
    #[arg(long, env = "ROPEWAY_DISABLE_CONTENT_MD5_HEADER")]
    disable_content_md5_header: bool,

    /// Accepted for the sake of s3sync's users: payloads are never signed, since their checksums are.
    #[arg(long, env = "ROPEWAY_DISABLE_PAYLOAD_SIGNING")]
    disable_payload_signing: bool,

    /// Keep the parts in which an object was uploaded, so that its ETag and its checksum stay what they are; an object that was
    /// put whole is put whole, up to 5GiB.
    #[arg(long, env = "ROPEWAY_AUTO_CHUNKSIZE")]
    auto_chunksize: bool,
}

impl ChecksumArgs {
    /// Puts what they mean into the settings.
    pub(super) fn apply(&self, integrity: &mut Integrity) {
        integrity.upload_with = self.additional_checksum_algorithm;
        integrity.full_object = self.full_object_checksum;
        integrity.source_checksum_expected = self.enable_additional_checksum;
        integrity.verify_checksums = !self.disable_additional_checksum_verify;
        integrity.content_md5 = !self.disable_content_md5_header;
        integrity.auto_chunksize = self.auto_chunksize;
        // Nothing is different without it.
        let _ = self.disable_payload_signing;
    }
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    Algorithm::ALL
        .into_iter()
        .find(|algorithm| algorithm.name() == text)
        .ok_or_else(|| "one of CRC32, CRC32C, CRC64NVME, SHA1 and SHA256".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_have_s3s_names() {
        for known in ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"] {
            assert_eq!(algorithm(known).unwrap().name(), known);
        }
        for unknown in ["", "crc32", "MD5", "SHA512", "XXHASH64"] {
            assert!(algorithm(unknown).is_err(), "{unknown}");
        }
    }
}

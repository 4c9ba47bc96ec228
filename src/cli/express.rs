//! Flags about directory buckets (S3 Express One Zone) that s3sync has, and that ask for nothing here: their help says why.

use clap::Args;

#[derive(Debug, Args)]
#[command(next_help_heading = "Directory buckets")]
pub(super) struct ExpressArgs {
    /// Taken from command lines made for s3sync, and without effect: nothing but its CRC64NVME proves what arrives in a
    /// directory bucket, so it is always sent.
    #[arg(long, env = "ROPEWAY_DISABLE_EXPRESS_ONE_ZONE_ADDITIONAL_CHECKSUM")]
    disable_express_one_zone_additional_checksum: bool,

    /// Taken from command lines made for s3sync, and without effect: a directory bucket's listing can be begun nowhere but at
    /// its beginning, so it is one listing.
    #[arg(long, env = "ROPEWAY_ALLOW_PARALLEL_LISTINGS_IN_EXPRESS_ONE_ZONE")]
    allow_parallel_listings_in_express_one_zone: bool,
}

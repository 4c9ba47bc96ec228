//! The flags by which a sync reports what is in sync instead of making it so.

use clap::Args;

use crate::settings::Report;

#[derive(Debug, Args)]
#[command(next_help_heading = "Reporting")]
pub(super) struct ReportArgs {
    /// Compare every object of SOURCE with TARGET's and write what comes of it as one JSON object on a line of stdout, the totals
    /// last; change nothing. What only TARGET has is not reported: for that, see `ropeway verify`. Exit code 0 if all of
    /// them match, and 3 if not.
    #[arg(long, env = "ROPEWAY_REPORT_SYNC_STATUS")]
    report_sync_status: bool,

    /// With that: report the seven system headers and the user metadata, too.
    #[arg(long, env = "ROPEWAY_REPORT_METADATA_SYNC_STATUS")]
    report_metadata_sync_status: bool,

    /// With that: report the tags, too.
    #[arg(long, env = "ROPEWAY_REPORT_TAGGING_SYNC_STATUS")]
    report_tagging_sync_status: bool,
}

impl ReportArgs {
    /// What they come to.
    pub(super) fn report(&self) -> Option<Report> {
        self.report_sync_status
            .then_some(Report { metadata: self.report_metadata_sync_status, tags: self.report_tagging_sync_status })
    }
}

//! `ropeway sync`: its flags, and what they mean together.

use std::path::PathBuf;

use clap::{ArgMatches, Args};
use clap_complete::Shell;

use super::attributes::AttributeArgs;
use super::deletes::DeleteArgs;
use super::integrity::{CheckArgs, ChecksumArgs};
use super::reports::ReportArgs;
use super::sides::SidesArgs;
use super::versions::VersionArgs;
use crate::engine::StopHandle;
use crate::journal::state_directory;
use crate::settings::{JournalSettings, Task};

/// Copy what is new or different from SOURCE to TARGET.
///
/// Each is a local path or `s3://bucket/prefix`. The prefix is literal: no slash is added, so `s3://b/photos` also takes
/// `photos2`; write `s3://b/photos/` for a directory. A SOURCE that names exactly one object or file copies that one, under
/// its own name.
///
/// An object is copied when the target does not have it, when the sizes differ, or when the source is newer. Every byte is
/// verified on its way. Nothing is deleted unless --delete or --delete-source asks for it, and then last of all.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ropeway sync ./photos s3://demo/photos/ --target-endpoint-url embedded:./store
  ropeway sync ./photos s3://my-bucket/photos/
  ropeway sync s3://my-bucket/photos/ ./restored
  ropeway sync s3://old/ s3://new/ --source-endpoint-url https://old.example --source-profile old
  ropeway sync ./photos s3://my-bucket/photos/ --delete --max-delete 10% --dry-run

Exit codes: 0 all done; 1 some objects failed; 2 usage; 3 done with warnings; 5 refused for safety; 6 credentials or
configuration; 7 a side is unreachable; 130 and 143 stopped by SIGINT and SIGTERM.")]
pub(super) struct SyncArgs {
    /// Say what would be copied and deleted, and change nothing.
    #[arg(long, env = "ROPEWAY_DRY_RUN")]
    dry_run: bool,

    /// Do what this plan says, which `ropeway plan` wrote for the same SOURCE and TARGET, and list nothing. What has changed
    /// since is refused, object by object.
    #[arg(long, value_name = "FILE", env = "ROPEWAY_FROM_PLAN", conflicts_with_all = ["delete", "delete_excluded", "delete_source"])]
    from_plan: Option<PathBuf>,

    /// Where unfinished objects are remembered, one file for each pair of SOURCE and TARGET [default: ropeway below
    /// $XDG_STATE_HOME or ~/.local/state].
    #[arg(long, value_name = "DIR", env = "ROPEWAY_STATE_DIR")]
    state_dir: Option<PathBuf>,

    /// Start afresh: remove what an earlier run left unfinished, and leave nothing unfinished when stopped.
    #[arg(long, env = "ROPEWAY_NO_RESUME")]
    no_resume: bool,

    /// End at the first warning about an object, as at an error.
    #[arg(long, env = "ROPEWAY_WARN_AS_ERROR")]
    warn_as_error: bool,

    /// Print a completion script for this shell, and do nothing else; as `ropeway completions`.
    #[arg(long, value_enum, value_name = "SHELL", env = "ROPEWAY_AUTO_COMPLETE_SHELL")]
    auto_complete_shell: Option<Shell>,

    #[command(flatten)]
    sides: SidesArgs,

    #[command(flatten)]
    check: CheckArgs,

    #[command(flatten)]
    checksums: ChecksumArgs,

    #[command(flatten)]
    attributes: AttributeArgs,

    #[command(flatten)]
    deletes: DeleteArgs,

    #[command(flatten)]
    versions: VersionArgs,

    #[command(flatten)]
    reports: ReportArgs,
}

/// Who asks for a completion script names no sides.
pub(super) fn without_sides_for_a_script(command: clap::Command) -> clap::Command {
    let side = |arg: clap::Arg| arg.required(false).required_unless_present("auto_complete_shell");
    let usage = "ropeway sync [OPTIONS] <SOURCE> <TARGET>";
    command.mut_arg("source", side).mut_arg("target", side).override_usage(usage)
}

/// The shell whose script is asked for, if one is.
pub(super) fn script_asked_for(matches: &ArgMatches) -> Option<Shell> {
    matches.try_get_one("auto_complete_shell").ok().flatten().copied()
}

/// Runs the command and says how it ended.
pub(super) fn run(args: &SyncArgs, stop: &StopHandle) -> u8 {
    let settings = args.sides.settings().map(|mut settings| {
        settings.dry_run = args.dry_run;
        settings.from_plan = args.from_plan.clone();
        settings.warnings_are_errors = args.warn_as_error;
        settings.attributes = args.attributes.attributes();
        settings.deletes = args.deletes.deletes();
        settings.versions = args.versions.versions();
        if let Some(report) = args.reports.report() {
            settings.task = Task::Report(report);
            settings.dry_run = true;
        }
        args.check.apply(&mut settings.integrity);
        args.checksums.apply(&mut settings.integrity);
        settings.journal = JournalSettings {
            state_directory: args.state_dir.clone().or_else(|| state_directory(|name| std::env::var_os(name))),
            afresh: args.no_resume,
        };
        settings
    });
    args.sides.run(settings, stop)
}

//! `ropeway completions`: what a shell needs to complete our command line.

use clap::Args;
use clap_complete::Shell;

use crate::error::ExitCode;

/// Print a completion script for a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ropeway completions bash > /etc/bash_completion.d/ropeway
  ropeway completions fish > ~/.config/fish/completions/ropeway.fish")]
pub(super) struct CompletionsArgs {
    /// Whose.
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs the command and says how it ended.
pub(super) fn run(args: CompletionsArgs) -> u8 {
    print(args.shell)
}

/// Prints the script.
pub(super) fn print(shell: Shell) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::command(), "ropeway", &mut script);
    super::print::out(String::from_utf8_lossy(&script).trim_end());
    match super::print::lost() {
        None => ExitCode::Done.number(),
        Some(reason) => {
            super::print::err(&format!("error: the script is incomplete: {reason}"));
            ExitCode::SomeFailed.number()
        }
    }
}

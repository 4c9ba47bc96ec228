//! `ropeway verify`: its flags, and what they mean together.

use clap::Args;

use super::print;
use super::sides::{Mistake, SidesArgs, usage};
use crate::engine::StopHandle;
use crate::settings::{Depth, SyncSettings, Task};

/// Compare SOURCE with TARGET, and change nothing.
///
/// Each difference is one JSON object on a line of stdout: `kind` is `missing` (at the target), `extra` (there alone), `size`,
/// `content`, or `unverifiable` where nothing could be compared; `key` is relative to the two places.
///
/// Contents are compared by the checksums or ETags that the services have. A local file is hashed as its counterpart was, and
/// two local files are both read. With --deep the bytes of both sides are read, wherever they are.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ropeway verify ./photos s3://my-bucket/photos/
  ropeway verify s3://old/data/ s3://new/data/ --deep --sample 5%

Exit codes: 0 the two are equal; 1 a side could not be listed to its end; 2 usage; 3 something could not be compared;
4 there are differences; 6 credentials or configuration; 7 a side is unreachable; 130 and 143 stopped by SIGINT and SIGTERM.")]
pub(super) struct VerifyArgs {
    /// Read the bytes of both sides and compare those.
    #[arg(long, env = "ROPEWAY_DEEP")]
    deep: bool,

    /// With --deep: read only so many percent of the objects, chosen by chance; of the others, the checksums are compared.
    #[arg(long, value_name = "P%", env = "ROPEWAY_SAMPLE", value_parser = share)]
    sample: Option<u32>,

    /// With --sample: choose the same objects as the run that printed this seed.
    #[arg(long, value_name = "N", env = "ROPEWAY_SAMPLE_SEED")]
    sample_seed: Option<u64>,

    #[command(flatten)]
    sides: SidesArgs,
}

/// Runs the command and says how it ended.
pub(super) fn run(args: &VerifyArgs, stop: &StopHandle) -> u8 {
    args.sides.run(settings(args), stop)
}

fn settings(args: &VerifyArgs) -> Result<SyncSettings, Mistake> {
    let mut settings = args.sides.settings()?;
    settings.dry_run = true;
    settings.task = Task::Verify(depth(args)?);
    Ok(settings)
}

fn depth(args: &VerifyArgs) -> Result<Depth, Mistake> {
    match (args.deep, args.sample) {
        (false, None) => Ok(Depth::Checksums),
        (false, Some(_)) => Err(usage("--sample says how many objects --deep reads; give --deep as well")),
        (true, None) => Ok(Depth::Bytes { share: ALL, seed: 0 }),
        (true, Some(share)) => {
            let seed = args.sample_seed.unwrap_or_else(|| fastrand::u64(..));
            if !args.sides.output.is_quiet() {
                print::err(&format!(
                    "note: the sample's seed is {seed}; --sample-seed {seed} chooses the same objects"
                ));
            }
            Ok(Depth::Bytes { share, seed })
        }
    }
}

/// All objects, as a share of ten thousand.
const ALL: u32 = 10_000;

/// Reads `5%` or `0.25%`.
fn share(text: &str) -> Result<u32, String> {
    let percent: Option<f64> = text.strip_suffix('%').and_then(|number| number.parse().ok());
    match percent {
        Some(percent) if (0.01..=100.0).contains(&percent) => Ok((percent * 100.0).round() as u32),
        _ => Err("a percentage from 0.01% to 100%".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages_with_two_decimals() {
        for (text, expected) in
            [("5%", Some(500)), ("0.25%", Some(25)), ("100%", Some(ALL)), ("0%", None), ("5", None), ("101%", None)]
        {
            assert_eq!(share(text).ok(), expected, "{text}");
        }
    }
}

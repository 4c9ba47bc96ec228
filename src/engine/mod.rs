//! The run: `run` is the whole of it, readable in one sitting; `shard` is one core's loop; `budget` is every limit;
//! `job` is what is remembered from run to run; `cleanup` looks for what runs have left.

mod budget;
mod cleanup;
mod job;
mod preflight;
mod range;
mod run;
mod shard;

pub use budget::{Budget, BudgetError};
pub use cleanup::{Action, Leftover, Origin, cleanup};
pub use preflight::Refusal;
pub use run::{Error, StopHandle, run};

//! The run: `run` is the whole of it, readable in one sitting; `shard` is one core's loop; `range` is the story of a key
//! range, `live` how it is shared while it is told, `trust` what it may rely on; `budget` is every limit; `job` is what is
//! remembered from run to run; `cleanup` looks for what runs have left.

mod budget;
mod cleanup;
mod job;
mod live;
mod preflight;
mod range;
mod run;
mod shard;
mod trust;

pub use budget::{Budget, BudgetError};
pub use cleanup::{Action, Leftover, Origin, cleanup};
pub use preflight::Refusal;
pub use run::{Error, StopHandle, run};

//! The run: `run` is the whole of it, readable in one sitting; `shard` is one core's loop; `budget` is every limit.

mod budget;
mod preflight;
mod range;
mod run;
mod shard;

pub use budget::{Budget, BudgetError};
pub use preflight::Refusal;
pub use run::{Error, StopHandle, run};

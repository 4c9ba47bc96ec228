//! The run: `run` is the whole of it, readable in one sitting; `shard` is one core's loop; `range` is the story of a key
//! range, `live` how it is shared while it is told, `trust` what it may rely on; `budget` is every limit; `filters`
//! is what does not count; `deletes` is the last phase, and `record` what is kept for it; `versions` is what
//! else there is of objects than what their keys mean now; `verify` is a run that only compares, and `report` one
//! that says of everything how it compares; `plan_file` is a dry run kept for
//! later; `job` is what is remembered from run to run; `cleanup` looks for what runs have left.

mod attributes;
mod budget;
mod cleanup;
mod deletes;
mod filters;
mod job;
mod live;
mod plan_file;
mod preflight;
mod range;
mod record;
mod report;
mod run;
mod shard;
mod trust;
mod verify;
mod versions;

pub use budget::{Budget, BudgetError};
pub use cleanup::{Action, Leftover, Origin, cleanup};
pub use plan_file::PlanWriter;
pub use preflight::Refusal;
pub use run::{Error, StopHandle, run};

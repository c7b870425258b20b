//! From lineage to work: stages, and how a stage travels.

pub mod away;
mod dag;
mod preference;
mod programs;
pub mod resident;
pub mod ship;
mod stage;
mod tally;

pub(crate) use self::dag::{Facts, plan_job};
pub use self::preference::Preference;
pub use self::stage::{
    JobPlan, Properties, ShuffleStage, StageId, StagePlan, StageProgram, TaskContext, TaskOutput, TaskResult,
};
pub(crate) use self::stage::{set_site, site};
pub(crate) use self::tally::Tally;

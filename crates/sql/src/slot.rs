//! The leaf of a kept plan: a table without data, which reads whatever batch the task brings along.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions, SchedulingType};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream,
};

/// What a statement reads when it runs: the rows of each of its tables. It travels as an extension of the task's settings.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) tables: Vec<Arc<Vec<RecordBatch>>>,
}

/// A table of a statement, by its number. It holds no data: what plans keep is the number.
#[derive(Debug)]
pub(crate) struct SlotTable {
    pub(crate) slot: usize,
    pub(crate) name: String,
    pub(crate) schema: SchemaRef,
    /// About how many rows it has. Without that, a join may build its table from the large side.
    pub(crate) rows: usize,
}

#[async_trait]
impl TableProvider for SlotTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let properties = of_a_leaf(&self.schema, projection)?;
        Ok(Arc::new(SlotExec {
            slot: self.slot,
            name: self.name.clone(),
            rows: self.rows,
            projection: projection.cloned(),
            properties: Arc::new(properties.with_scheduling_type(SchedulingType::Cooperative)),
        }))
    }
}

/// What is known of a leaf before it runs: some columns of its table, in one partition.
pub(crate) fn of_a_leaf(table: &SchemaRef, projection: Option<&Vec<usize>>) -> Result<PlanProperties> {
    let schema = match projection {
        Some(columns) => Arc::new(table.project(columns)?),
        None => Arc::clone(table),
    };
    Ok(PlanProperties::new(
        EquivalenceProperties::new(schema),
        Partitioning::UnknownPartitioning(1),
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

/// The statistics of about so many rows.
pub(crate) fn about(rows: usize, schema: &SchemaRef) -> Arc<Statistics> {
    let mut statistics = Statistics::new_unknown(schema);
    statistics.num_rows = Precision::Inexact(rows);
    statistics.total_byte_size = Precision::Inexact(rows * schema.fields().len() * 8);
    Arc::new(statistics)
}

#[derive(Debug)]
struct SlotExec {
    slot: usize,
    name: String,
    rows: usize,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for SlotExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch: {}, about {} rows", self.name, self.rows)
    }
}

impl ExecutionPlan for SlotExec {
    fn name(&self) -> &'static str {
        "Batch"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _: usize, task: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let snapshot = task.session_config().get_extension::<Snapshot>();
        let rows = snapshot.as_ref().and_then(|snapshot| snapshot.tables.get(self.slot));
        let Some(rows) = rows else {
            return Err(DataFusionError::Internal(format!("the task brings no rows of `{}`", self.name)));
        };
        Ok(Box::pin(MemoryStream::try_new(rows.to_vec(), self.schema(), self.projection.clone())?))
    }

    fn partition_statistics(&self, _: Option<usize>) -> Result<Arc<Statistics>> {
        Ok(about(self.rows, &self.schema()))
    }
}

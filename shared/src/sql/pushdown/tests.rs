//! Which aggregates are asked of a view, and that plans are whole with them and without.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Decimal128Array, Float32Array, Float64Array, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use async_trait::async_trait;
use datafusion::datasource::MemTable;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::Expr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::AggregateLive;
use crate::counts::Counts;
use crate::live::{AggregateRequest, LiveAggregation, LiveError, LivePin, LiveRange, LiveState, LiveTable};
use crate::position::{Coverage, LogPartition};
use crate::reject::Reject;

/// What a view says that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// It answers.
    States,
    /// It answers, with as many states as there may be groups.
    ManyStates,
    /// It would, but not exactly.
    Nothing,
    /// It fails.
    Failure,
    /// It answers nothing of the kind.
    Never,
}

/// States of one who has many.
const MANY: usize = 10_000;

/// A view of two rows that answers any request with the states of a row in which all columns are 5, or of many such.
#[derive(Debug)]
struct View {
    says: Says,
    ranges: BTreeMap<LogPartition, LiveRange>,
    asked: Arc<Mutex<usize>>,
}

#[derive(Debug)]
struct Answer {
    says: Says,
    schema: SchemaRef,
    request: AggregateRequest,
    asked: Arc<Mutex<usize>>,
}

fn schema() -> SchemaRef {
    let columns = [
        ("text", DataType::Utf8View),
        ("n", DataType::Int64),
        ("x", DataType::Float64),
        ("f", DataType::Float32),
        ("price", DataType::Decimal128(10, 2)),
    ];
    Arc::new(Schema::new(columns.map(|(name, of)| Field::new(name, of, true)).to_vec()))
}

/// So many rows, whose values are all `n`.
fn rows(count: usize, n: i32) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from(vec![n.to_string(); count])),
        Arc::new(Int64Array::from(vec![i64::from(n); count])),
        Arc::new(Float64Array::from(vec![f64::from(n); count])),
        Arc::new(Float32Array::from(vec![n as f32; count])),
        Arc::new(Decimal128Array::from(vec![i128::from(n) * 100; count]).with_precision_and_scale(10, 2).unwrap()),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

#[async_trait]
impl LiveAggregation for Answer {
    async fn answer(&self) -> Result<Option<Vec<RecordBatch>>, LiveError> {
        *self.asked.lock().unwrap() += 1;
        match self.says {
            Says::Failure => return Err(LiveError::backend("aggregate rows", "the index is gone")),
            Says::Nothing | Says::Never => return Ok(None),
            Says::States | Says::ManyStates => {}
        }
        let count = if self.says == Says::ManyStates { MANY } else { 1 };
        let row = rows(count, 5);
        let groups = self.request.groups.iter().map(|column| Arc::clone(row.column(*column)));
        let states = self.request.states.iter().map(|state| match state {
            LiveState::Rows | LiveState::Values(_) => Arc::new(Int64Array::from(vec![1; count])) as ArrayRef,
            LiveState::FloatSum(_) => Arc::new(Float64Array::from(vec![5.0; count])),
            state => {
                let column = row.column(state.column().unwrap());
                arrow::compute::cast(column, &state.data_type(column.data_type())).unwrap()
            }
        });
        let columns = groups.chain(states).collect();
        Ok(Some(vec![RecordBatch::try_new(self.request.schema(&self.schema), columns).unwrap()]))
    }
}

#[async_trait]
impl LivePin for View {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn ranges(&self) -> &BTreeMap<LogPartition, LiveRange> {
        &self.ranges
    }

    fn lost(&self) -> BTreeMap<LogPartition, Vec<Range<u64>>> {
        BTreeMap::new()
    }

    async fn counts(&self, _: &Coverage) -> Result<Counts, LiveError> {
        Ok(Counts::default())
    }

    async fn rejects(&self, _: &Coverage, _: usize) -> Result<Vec<(LogPartition, Reject)>, LiveError> {
        Ok(Vec::new())
    }

    fn scan(
        &self,
        _: &BTreeMap<LogPartition, Range<u64>>,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, LiveError> {
        let rows = [vec![rows(1, 3)], vec![rows(1, 4)]];
        let exec = MemorySourceConfig::try_new_exec(&rows, schema(), projection.cloned());
        Ok(exec.map_err(|error| LiveError::backend("scan", error))?)
    }

    fn aggregation(&self, request: &AggregateRequest) -> Option<Arc<dyn LiveAggregation>> {
        let (schema, request, asked) = (schema(), request.clone(), Arc::clone(&self.asked));
        (self.says != Says::Never).then(|| Arc::new(Answer { says: self.says, schema, request, asked }) as _)
    }
}

/// A session with the view as `live`, rows of 1 as `curated`, and both as `merged`.
async fn session(says: Says) -> (SessionContext, Arc<Mutex<usize>>) {
    session_on(Arc::new(RuntimeEnv::default()), says).await
}

async fn session_on(runtime: Arc<RuntimeEnv>, says: Says) -> (SessionContext, Arc<Mutex<usize>>) {
    let first: Arc<dyn PhysicalOptimizerRule + Send + Sync> = Arc::new(AggregateLive);
    let rules = std::iter::once(first).chain(PhysicalOptimizer::new().rules).collect();
    let config = SessionConfig::new().with_target_partitions(3);
    let state = SessionStateBuilder::new().with_default_features().with_config(config).with_runtime_env(runtime);
    let state = state.with_physical_optimizer_rules(rules);
    let context = SessionContext::new_with_state(state.build());
    let asked = Arc::new(Mutex::new(0));
    let view = View { says, ranges: BTreeMap::new(), asked: Arc::clone(&asked) };
    let live = LiveTable::new("orders", Arc::new(view), BTreeMap::new());
    let curated = MemTable::try_new(schema(), vec![vec![rows(2, 1)], vec![rows(1, 1)]]).unwrap();
    context.register_table("live", Arc::new(live)).unwrap();
    context.register_table("curated", Arc::new(curated)).unwrap();
    let merged = "CREATE VIEW merged AS SELECT * FROM curated UNION ALL SELECT * FROM live";
    context.sql(merged).await.unwrap().collect().await.unwrap();
    (context, asked)
}

async fn lines(context: &SessionContext, sql: &str) -> Vec<String> {
    let batches = context.sql(sql).await.expect(sql).collect().await.expect(sql);
    let text = pretty_format_batches(&batches).unwrap().to_string();
    let rows = text.lines().filter(|line| line.starts_with('|')).skip(1);
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|")).collect()
}

/// What the view is asked for.
async fn shown(context: &SessionContext, sql: &str) -> Option<String> {
    let plan = lines(context, &format!("EXPLAIN FORMAT INDENT {sql}")).await.join("\n");
    assert!(!plan.contains("LiveScanExec"), "{plan}");
    let (_, after) = plan.split_once("LiveAggregateExec: ")?;
    Some(after.lines().next().unwrap_or_default().split('|').next().unwrap_or_default().trim().to_owned())
}

#[tokio::test]
async fn what_is_asked_of_a_view_is_decided_by_the_plan() {
    let (context, _) = session(Says::States).await;
    let cases = [
        ("SELECT text, count(*) FROM live GROUP BY text", Some("groups=[text], states=[rows]")),
        ("SELECT DISTINCT text FROM live", Some("groups=[text], states=[]")),
        ("SELECT count(*), sum(n) FROM live", Some("groups=[], states=[rows, sum(n)]")),
        (
            "SELECT n, text, count(x), sum(n), sum(x), min(text), max(price), sum(price) FROM live GROUP BY text, n",
            Some("groups=[text, n], states=[values(x), sum(n), sum(x), least(text), greatest(price), sum(price)]"),
        ),
        (
            "SELECT avg(x), avg(n), sum(f) FROM live",
            Some("groups=[], states=[values(x), sum(x), values(n), sum(n), sum(f)]"),
        ),
        (
            "SELECT text, sum(n) FROM live WHERE n > 2 AND text <> 'a' GROUP BY text",
            Some("groups=[text], states=[sum(n)], where=[n > Int64(2) AND text != Utf8View(\"a\")]"),
        ),
        (
            "SELECT k, sum(one) FROM (SELECT text AS k, 1 AS one FROM live) GROUP BY k",
            Some("groups=[text], states=[rows]"),
        ),
        ("SELECT text, count(*) FROM merged GROUP BY text ORDER BY text LIMIT 1", Some("groups=[text], states=[rows]")),
        ("SELECT text FROM merged WHERE x IS NULL GROUP BY text", Some("groups=[text], states=[], where=[x IS NULL]")),
        ("SELECT text, avg(price) FROM live GROUP BY text", None),
        // planned as a count of groups
        ("SELECT text, count(DISTINCT n) FROM live GROUP BY text", Some("groups=[text, n], states=[]")),
        ("SELECT text, count(DISTINCT n), count(DISTINCT x) FROM live GROUP BY text", None),
        ("SELECT text, sum(n) FILTER (WHERE n > 2) FROM live GROUP BY text", None),
        ("SELECT text, sum(n + 1) FROM live GROUP BY text", None),
        ("SELECT upper(text), count(*) FROM live GROUP BY 1", None),
        ("SELECT text, n, count(*) FROM live GROUP BY ROLLUP (text, n)", None),
        ("SELECT text, stddev(x) FROM live GROUP BY text", None),
        ("SELECT text, array_agg(n) FROM live GROUP BY text", None),
        ("SELECT count(*) FROM (SELECT * FROM live LIMIT 1)", None),
        ("SELECT text, count(*) FROM live WHERE random() < 2 GROUP BY text", None),
        ("SELECT text, sum(n) FROM live WHERE upper(text) = 'A' GROUP BY text", None),
        (
            "SELECT text, count(*) FROM (SELECT text, row_number() OVER () AS n FROM live) WHERE n = 1 GROUP BY text",
            None,
        ),
        ("SELECT text, n FROM live", None),
    ];
    for (sql, wanted) in cases {
        assert_eq!(shown(&context, sql).await.as_deref(), wanted, "{sql}");
    }
}

#[tokio::test]
async fn states_of_a_view_and_of_rows_are_merged() {
    let sql = "SELECT text, count(*), count(x), sum(n), sum(x), sum(price), avg(n), avg(x), min(n), max(text), sum(f) FROM merged \
               GROUP BY text ORDER BY text";
    let whole = "SELECT count(*), sum(n), avg(n), min(n), max(n) FROM merged";
    let curated = "1|3|3|3|3.0|3.00|1.0|1.0|1|1|3.0";
    let (context, asked) = session(Says::States).await;
    assert_eq!(lines(&context, sql).await, [curated, "5|1|1|5|5.0|5.00|5.0|5.0|5|5|5.0"]);
    assert_eq!(*asked.lock().unwrap(), 1, "all partitions ask once");
    assert_eq!(lines(&context, whole).await, ["4|8|2.0|1|5"]);
    let analyzed = lines(&context, &format!("EXPLAIN ANALYZE {sql}")).await.join("\n");
    assert!(analyzed.contains("answered_by_view=1") && analyzed.contains("read_rows_instead=0"), "{analyzed}");
    let read = [curated, "3|1|1|3|3.0|3.00|3.0|3.0|3|3|3.0", "4|1|1|4|4.0|4.00|4.0|4.0|4|4|4.0"];
    for says in [Says::Nothing, Says::Never] {
        let (context, asked) = session(says).await;
        assert_eq!(lines(&context, sql).await, read, "{says:?}");
        assert_eq!(*asked.lock().unwrap(), usize::from(says == Says::Nothing));
        assert_eq!(lines(&context, whole).await, ["5|10|2.0|1|4"], "{says:?}");
        let analyzed = lines(&context, &format!("EXPLAIN ANALYZE {sql}")).await.join("\n");
        assert_eq!(analyzed.contains("read_rows_instead=1"), says == Says::Nothing, "{analyzed}");
    }
}

#[tokio::test]
async fn a_view_that_fails_fails_the_statement() {
    let (context, _) = session(Says::Failure).await;
    let frame = context.sql("SELECT text, count(*) FROM merged GROUP BY text").await.unwrap();
    let error = frame.collect().await.expect_err("the index is gone");
    let source = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let live = source.filter_map(|error| error.downcast_ref::<LiveError>()).count();
    assert_eq!(live, 1, "{error:?}");
}

#[tokio::test]
async fn states_that_a_view_answers_count_as_memory_of_the_statement() {
    let sql = "SELECT count(*), sum(n) FROM live";
    for (bytes, fits) in [(1 << 20, true), (MANY, false)] {
        let pool: Arc<dyn MemoryPool> = Arc::new(FairSpillPool::new(bytes));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(&pool)).build_arc().unwrap();
        let (context, asked) = session_on(runtime, Says::ManyStates).await;
        if fits {
            assert_eq!(lines(&context, sql).await, [format!("{MANY}|{}", 5 * MANY)]);
            assert_eq!(*asked.lock().unwrap(), 1, "all partitions ask once");
        } else {
            let error =
                context.sql(sql).await.unwrap().collect().await.expect_err("sixteen bytes a state are too many");
            assert!(matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)), "{error:?}");
            assert!(error.to_string().contains("LiveAggregateExec"), "who had no room? {error}");
        }
        assert_eq!(pool.reserved(), 0, "what a statement held is free after it");
    }
}

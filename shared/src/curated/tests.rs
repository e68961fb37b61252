//! The read side against tables that `deltalake` writes into a local directory.

use std::sync::Arc;

use arrow::array::{Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::FunctionRegistry as _;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::{SessionConfig, SessionContext};
use deltalake::DeltaTable;
use deltalake::kernel::Transaction;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::protocol::SaveMode;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempDir;

use super::*;
use crate::position::LogPartition;
use crate::store::{IfMissing, Store};

mod judged;
mod numbers;
mod reader;

const GENERATION: &str = "g1";

struct Fixture {
    store: Store,
    objects: Arc<dyn ObjectStore>,
    _folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let store = Store::local(folder.path(), IfMissing::Fail).expect("a store in it");
        Self { objects: store.objects(), store, _folder: folder }
    }

    /// A store that holds trips of six months, four rows each, in one commit; the pointer names their generation.
    async fn with_trips() -> Self {
        let fixture = Self::new();
        let months = [("2018", "12"), ("2019", "01"), ("2019", "02"), ("2019", "07"), ("2019", "10"), ("2008", "12")];
        let batches = months.iter().enumerate().map(|(i, (year, month))| trips(i as i64 * 4, Some(year), Some(month)));
        fixture.append(batches.collect(), &[("files", 3), ("trips/0", 24)]).await;
        let pointer = CurrentGeneration::new(GENERATION, "d1", 1);
        let published = publish(&fixture.store, "trips", 0, &pointer).await.expect("publishes");
        assert_eq!(published, Published::Created);
        fixture
    }

    async fn append(&self, batches: Vec<RecordBatch>, coverage: &[(&str, i64)]) -> DeltaTable {
        self.append_to(GENERATION, batches, coverage).await
    }

    async fn append_to(&self, generation: &str, batches: Vec<RecordBatch>, coverage: &[(&str, i64)]) -> DeltaTable {
        let log = log_store(Arc::clone(&self.objects), "trips", generation).expect("a log store");
        let mut table = DeltaTable::new(log);
        if table.load().await.is_err() {
            assert!(table.version().is_none());
        }
        let transactions = coverage.iter().map(|(partition, end)| {
            let partition: LogPartition = partition.parse().expect("a partition");
            Transaction::new(transaction_id(&partition), *end)
        });
        let transactions = transactions.chain([Transaction::new(LAYOUT_TRANSACTION, 2), Transaction::new("other", 9)]);
        let properties = CommitProperties::default().with_application_transactions(transactions.collect());
        table
            .write(batches)
            .with_save_mode(SaveMode::Append)
            .with_partition_columns(["pickup_year", "pickup_month"])
            .with_commit_properties(properties)
            .await
            .expect("the table takes the rows")
    }

    async fn open(&self) -> CuratedVersion {
        let version = CuratedVersion::open(Arc::clone(&self.objects), "trips").await.expect("opens");
        version.expect("a generation is published")
    }

    async fn session(&self) -> SessionContext {
        let mut config = SessionConfig::new().with_target_partitions(2);
        config.options_mut().execution.parquet.pushdown_filters = true;
        let context = with_text_as_number(SessionContext::new_with_config(config));
        context.add_optimizer_rule(Arc::new(CountsFromLog));
        let table = CuratedTable::try_new(Arc::new(self.open().await)).expect("a table");
        context.register_table("trips", Arc::new(table)).expect("registers");
        context
    }
}

fn with_text_as_number(mut context: SessionContext) -> SessionContext {
    context.register_function_rewrite(Arc::new(TextAsNumber)).expect("registers");
    context
}

/// Four trips from `first` on; the id, its fare in cents, and a time `id` hours after the epoch.
fn trips(first: i64, year: Option<&str>, month: Option<&str>) -> RecordBatch {
    let ids: Vec<i64> = (first..first + 4).collect();
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("pickup_year", DataType::Utf8, true),
        Field::new("pickup_month", DataType::Utf8, true),
        Field::new("fare", DataType::Decimal128(10, 2), true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("zone", DataType::Utf8, true),
    ]);
    let fares = Decimal128Array::from_iter_values(ids.iter().map(|id| i128::from(*id) * 100 + 5));
    let times = TimestampMicrosecondArray::from_iter_values(ids.iter().map(|id| id * 3_600_000_000));
    RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(Int64Array::from(ids.clone())),
            Arc::new(StringArray::from(vec![year; 4])),
            Arc::new(StringArray::from(vec![month; 4])),
            Arc::new(fares.with_precision_and_scale(10, 2).expect("fits")),
            Arc::new(times.with_timezone("UTC")),
            Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("zone {id}")))),
        ],
    )
    .expect("columns of one length")
}

fn files_in(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let own = plan
        .downcast_ref::<DataSourceExec>()
        .and_then(|exec| exec.data_source().downcast_ref::<FileScanConfig>())
        .map_or(0, |scan| scan.file_groups.iter().map(|group| group.len()).sum());
    own + plan.children().into_iter().map(files_in).sum::<usize>()
}

/// The ids that satisfy `condition`, and the number of files in the plan.
async fn matching(context: &SessionContext, condition: &str) -> (Vec<i64>, usize) {
    let sql = format!("SELECT id FROM trips WHERE {condition} ORDER BY id");
    let plan = context.sql(&sql).await.expect(condition).create_physical_plan().await.expect(condition);
    let batches = datafusion::physical_plan::collect(Arc::clone(&plan), context.task_ctx()).await.expect(condition);
    let ids = batches.iter().flat_map(|batch| -> Vec<i64> {
        batch.column(0).as_any().downcast_ref::<Int64Array>().expect("ids").values().to_vec()
    });
    (ids.collect(), files_in(&plan))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dataset_without_a_generation_has_no_version() {
    let fixture = Fixture::new();
    assert!(CuratedVersion::open(Arc::clone(&fixture.objects), "trips").await.expect("opens").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_highest_pointer_counts_and_none_is_replaced() {
    let fixture = Fixture::new();
    let (store, objects) = (&fixture.store, fixture.objects.as_ref());
    for (n, name) in [(0, "a"), (9, "b"), (10, "c")] {
        let pointer = CurrentGeneration::new(name, "d", 1);
        // Twice: a lost acknowledgement looks like a lost race against oneself.
        for _ in 0..2 {
            assert_eq!(publish(store, "trips", n, &pointer).await.expect("publishes"), Published::Created);
        }
    }
    let late = CurrentGeneration::new("z", "d", 1);
    assert_eq!(publish(store, "trips", 10, &late).await.expect("publishes"), Published::Exists);
    let (n, pointer) = current(objects, "trips").await.expect("reads").expect("there is one");
    assert_eq!((n, pointer.generation.as_str()), (10, "c"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pointer_of_a_newer_form_is_refused() {
    let fixture = Fixture::new();
    let newer = r#"{"format": 2, "generation": "g", "shards": 3}"#;
    fixture.objects.put(&layout::current("trips", 0), newer.into()).await.expect("puts");
    let error = current(fixture.objects.as_ref(), "trips").await.expect_err("refused");
    assert_eq!(error.kind(), Kind::Unsupported);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h9_notes_lie_beside_pointers_and_the_highest_counts() {
    let fixture = Fixture::new();
    let (store, objects) = (&fixture.store, fixture.objects.as_ref());
    assert_eq!(heads(objects, "trips", None).await.expect("lists"), Heads::default());
    // Twice: whoever comes second finds what it would have put.
    for (n, times) in [(0, 2), (1, 2), (10, 0)] {
        let pointer = CurrentGeneration::new(&format!("g{n}"), "d", 1);
        publish(store, "trips", n, &pointer).await.expect("publishes");
        for _ in 0..times {
            note_answered(store, "trips", n, &pointer).await.expect("notes");
        }
    }
    let seen = |pointer, noted| Heads { pointer, noted };
    assert_eq!(heads(objects, "trips", None).await.expect("lists"), seen(Some(10), Some(1)));
    assert_eq!(heads(objects, "trips", Some(1)).await.expect("lists"), seen(Some(10), None));
    check_note(objects, "trips", 1).await.expect("it is a note");
    let (n, pointer) = current(objects, "trips").await.expect("reads").expect("there is one");
    assert_eq!((n, pointer.generation.as_str()), (10, "g10"), "a note is no pointer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_without_a_log_or_with_a_ban_has_no_table() {
    let fixture = Fixture::with_trips().await;
    let objects = fixture.objects.as_ref();
    let has = async |generation| has_table(objects, "trips", generation).await.expect("looks");
    assert_eq!((has(GENERATION).await, has("gone").await), (true, false));
    objects.put(&layout::ban("trips", GENERATION), "{}".into()).await.expect("puts");
    assert!(!has(GENERATION).await, "a vacuum is about to take it away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_note_of_a_newer_form_is_refused() {
    let fixture = Fixture::new();
    for (text, kind) in [
        (r#"{"format": 2, "generation": "g", "epoch": 3}"#, Kind::Unsupported),
        (r#"{"format": 1, "answered": "g"}"#, Kind::Corrupt),
    ] {
        fixture.objects.put(&layout::note("trips", 0), text.into()).await.expect("puts");
        let error = check_note(fixture.objects.as_ref(), "trips", 0).await.expect_err("refused");
        assert_eq!(error.kind(), kind, "{text}");
        let pointer = CurrentGeneration::new("g", "d", 1);
        let error = note_answered(&fixture.store, "trips", 0, &pointer).await.expect_err("it is no note of ours");
        assert!(matches!(error, NoteError::Curated(_)), "{error:?}");
        assert_eq!(error.kind(), kind, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_has_coverage_files_and_partition_values() {
    let fixture = Fixture::with_trips().await;
    let version = fixture.open().await;
    let coverage = serde_json::to_string(&version.coverage).expect("serialises");
    assert_eq!(coverage, r#"{"files":3,"trips/0":24}"#);
    assert_eq!(version.layout, 2);
    assert_eq!(version.rows(), Some(24));
    assert_eq!(version.files.len(), 6);
    for file in &version.files {
        let stored = fixture.objects.head(&file.object.location).await.expect("the file is where it says");
        assert_eq!(stored.size, file.object.size);
    }
    assert_eq!(version.files[0].partition_values["pickup_year"].as_deref(), Some("2008"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coverage_survives_a_checkpoint_and_takes_the_newest_commit() {
    let fixture = Fixture::with_trips().await;
    let table = fixture.append(vec![trips(100, Some("2020"), Some("01"))], &[("trips/0", 30)]).await;
    deltalake::checkpoints::create_checkpoint(&table, None).await.expect("checkpoints");
    // What lies below a checkpoint is cleaned up some day; the coverage must be in the checkpoint.
    let log = layout::table("trips", GENERATION).join("_delta_log").join(format!("{:020}.json", 0));
    fixture.objects.delete(&log).await.expect("the log is cleaned up");
    fixture.append(vec![trips(200, Some("2020"), Some("02"))], &[("trips/1", 7)]).await;
    let version = fixture.open().await;
    let coverage = serde_json::to_string(&version.coverage).expect("serialises");
    assert_eq!(coverage, r#"{"files":3,"trips/0":30,"trips/1":7}"#);
    assert_eq!((version.table_version, version.rows()), (2, Some(32)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_column_of_digits_prunes_for_text_and_for_numbers() {
    let fixture = Fixture::with_trips().await;
    let context = fixture.session().await;
    let july: Vec<i64> = (12..16).collect();
    let cases: [(&str, Vec<i64>, usize); 12] = [
        ("pickup_month = '07'", july.clone(), 1),
        ("pickup_month = 7", july.clone(), 1),
        ("pickup_month IN (7, 8)", july.clone(), 1),
        ("pickup_month IN ('07', '08')", july.clone(), 1),
        ("pickup_month BETWEEN 7 AND 9", july.clone(), 1),
        ("pickup_month < 2 AND pickup_year = 2019", (4..8).collect(), 1),
        ("pickup_month >= 10", (0..4).chain(16..24).collect(), 3),
        ("pickup_year = 2019 AND pickup_month > 1 AND pickup_month <> 10", (8..16).collect(), 2),
        ("pickup_month = '7'", Vec::new(), 0),
        ("pickup_month NOT IN ('07', NULL)", Vec::new(), 0),
        ("NOT (pickup_month IN ('07', NULL))", Vec::new(), 0),
        ("pickup_month NOT IN (NULL)", Vec::new(), 0),
    ];
    for (condition, ids, files) in cases {
        assert_eq!(matching(&context, condition).await, (ids, files), "{condition}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_no_number_fails_no_comparison() {
    let fixture = Fixture::with_trips().await;
    let odd = vec![trips(100, Some("unknown"), None), trips(200, None, Some("07"))];
    fixture.append(odd, &[("files", 4)]).await;
    let context = fixture.session().await;
    assert_eq!(matching(&context, "pickup_year = 2018").await, ((0..4).collect(), 1));
    assert_eq!(matching(&context, "pickup_month IS NULL").await, ((100..104).collect(), 1));
    assert_eq!(matching(&context, "pickup_month IS NULL OR id < 2").await.0, [0, 1, 100, 101, 102, 103]);
    assert_eq!(matching(&context, "pickup_month = 7").await.0, [12, 13, 14, 15, 200, 201, 202, 203]);
    assert_eq!(matching(&context, "pickup_year > 2018").await.0, (4..20).chain(100..104).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_in_the_log_prune_files() {
    let fixture = Fixture::with_trips().await;
    let context = fixture.session().await;
    let cases: [(&str, Vec<i64>, usize); 6] = [
        ("id = 9", vec![9], 1),
        ("id >= 22", vec![22, 23], 1),
        ("fare = 9.05", vec![9], 1),
        ("at >= TIMESTAMP '1970-01-01T22:00:00Z'", vec![22, 23], 1),
        ("zone = 'zone 9'", vec![9], 1),
        ("id = 9 AND pickup_month = 7", Vec::new(), 0),
    ];
    for (condition, ids, files) in cases {
        assert_eq!(matching(&context, condition).await, (ids, files), "{condition}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_keep_their_order_and_a_limit_reads_few_files() {
    let fixture = Fixture::with_trips().await;
    let context = fixture.session().await;
    let sql = "SELECT * FROM trips WHERE id = 12";
    let rows = context.sql(sql).await.expect("plans").collect().await.expect("runs");
    let expected = "\
+----+-------------+--------------+-------+----------------------+---------+
| id | pickup_year | pickup_month | fare  | at                   | zone    |
+----+-------------+--------------+-------+----------------------+---------+
| 12 | 2019        | 07           | 12.05 | 1970-01-01T12:00:00Z | zone 12 |
+----+-------------+--------------+-------+----------------------+---------+";
    assert_eq!(pretty_format_batches(&rows).expect("formats").to_string(), expected);

    let plan = context.sql("SELECT id FROM trips LIMIT 3").await.expect("plans");
    let plan = plan.create_physical_plan().await.expect("plans");
    assert_eq!((files_in(&plan), plan.output_partitioning().partition_count()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_is_answered_by_the_log_and_bounds_are_not_answers() {
    let fixture = Fixture::with_trips().await;
    let context = fixture.session().await;
    let plan = context.sql("SELECT count(*) FROM trips WHERE pickup_year = 2019").await.expect("plans");
    let plan = plan.create_physical_plan().await.expect("plans");
    assert_eq!(files_in(&plan), 0, "counted without a file");
    let rows = datafusion::physical_plan::collect(plan, context.task_ctx()).await.expect("runs");
    assert_eq!(rows[0].column(0).as_any().downcast_ref::<Int64Array>().expect("a count").value(0), 16);

    let plan = context.sql("SELECT max(at) FROM trips").await.expect("plans");
    assert_eq!(files_in(&plan.create_physical_plan().await.expect("plans")), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_by_partition_come_from_the_log_and_equal_those_from_the_files() {
    let fixture = Fixture::with_trips().await;
    fixture.append(vec![trips(100, Some("unknown"), None), trips(200, None, Some("07"))], &[("files", 4)]).await;
    let context = fixture.session().await;
    let plain = with_text_as_number(SessionContext::new());
    plain.register_table("trips", context.table_provider("trips").await.expect("is there")).expect("registers");
    let cases = [
        ("SELECT pickup_year, pickup_month, count(*) AS n FROM trips GROUP BY 1, 2", true),
        ("SELECT count(*), count(1) FROM trips WHERE pickup_month = 7", true),
        ("SELECT count(*) FROM trips WHERE pickup_year = 1999", true),
        ("SELECT t.pickup_month || '!', count(*) FROM trips t WHERE t.pickup_year = '2019' GROUP BY 1", true),
        ("SELECT DISTINCT pickup_month FROM trips", true),
        ("SELECT pickup_month FROM trips GROUP BY pickup_month HAVING count(*) > 4", true),
        ("SELECT pickup_month, count(*) FROM trips WHERE id > 13 GROUP BY 1", false),
        ("SELECT pickup_month, count(zone) FROM trips GROUP BY 1", false),
        ("SELECT pickup_month, count(*) FILTER (WHERE id > 13) FROM trips GROUP BY 1", false),
        ("SELECT count(*) FROM (SELECT pickup_month FROM trips LIMIT 3)", false),
        ("SELECT pickup_month, count(DISTINCT 1) FROM trips GROUP BY 1", false),
        ("SELECT pickup_year, pickup_month, count(*) FROM trips GROUP BY ROLLUP (pickup_year, pickup_month)", false),
    ];
    for (sql, from_log) in cases {
        let plan = context.sql(sql).await.expect(sql).create_physical_plan().await.expect(sql);
        if from_log {
            assert_eq!(files_in(&plan), 0, "{sql}");
        }
        let ours = datafusion::physical_plan::collect(plan, context.task_ctx()).await.expect(sql);
        let plain = plain.sql(sql).await.expect(sql).collect().await.expect(sql);
        let sorted = |batches: &[RecordBatch]| {
            let text = pretty_format_batches(batches).expect("formats").to_string();
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&ours), sorted(&plain), "{sql}");
    }
}

#[test]
fn an_error_of_the_store_keeps_its_kind_and_hint() {
    let generic = |kind| object_store::Error::Generic { store: "test", source: Box::new(std::io::Error::from(kind)) };
    let gone = || object_store::Error::NotFound { path: "p".to_owned(), source: "test".into() };
    let store = |source| CuratedError::Store { key: "k".to_owned(), source };
    let table = |source: DeltaTableError| CuratedError::Table { root: "t".to_owned(), source };
    let full = std::io::ErrorKind::StorageFull;
    for (error, kind, hinted) in [
        (store(generic(full)), Kind::Exhausted, true),
        (store(gone()), Kind::NotFound, false),
        (store(generic(std::io::ErrorKind::TimedOut)), Kind::Retryable, false),
        (table(generic(full).into()), Kind::Exhausted, true),
        (table(gone().into()), Kind::Corrupt, false),
        (table(generic(std::io::ErrorKind::TimedOut).into()), Kind::Retryable, false),
        (table(DeltaTableError::generic("no protocol")), Kind::Corrupt, false),
    ] {
        assert_eq!((error.kind(), error.hint().is_some()), (kind, hinted), "{error:?}");
    }
}

#[test]
fn a_coverage_that_a_store_kept_back_is_not_damaged() {
    for (message, kind) in [
        ("Error interacting with object store: Generic S3 error: 503", Kind::Retryable),
        ("application id `tidemark/files` has version -1", Kind::Corrupt),
    ] {
        let error = CuratedError::Coverage { root: "curated/a/b/table".to_owned(), message: message.to_owned() };
        assert_eq!(error.kind(), kind, "{message}");
    }
}

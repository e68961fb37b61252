//! Aggregates that the cluster makes: they are those of the rows, and statements that take them answer the same.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use tidemark_opensearch::{OpenSearchView, OpenSearchViewSettings};
use tidemark_shared::ambient::System;
use tidemark_shared::error::chain;
use tidemark_shared::live::{AggregateRequest, LivePin, LiveState, LiveTable, LiveView};
use tidemark_shared::sql::{
    DatasetAsOf, DatasetTables, Layer, Limits, NoCatalogTables, OpenedDataset, Query, SqlConfig, SqlEngine, SqlError,
    StatementDatasets, Wants,
};
use tidemark_shared::store::{IfMissing, Store};
use tidemark_testing::contract::aggregates::{self, CENTS, PAID, Values, asked};
use tidemark_testing::contract::live::partition;

use crate::{ask, indices, server};

/// Views of the same cluster and prefix with other settings.
fn views(settings: OpenSearchViewSettings) -> Arc<dyn LiveView> {
    let url = format!("opensearch+{}/test-{}", server(), std::process::id()).parse().expect("the server's address");
    Arc::new(OpenSearchView::new(&url, Arc::new(System), settings).expect("a client"))
}

/// Many indices, and pages of few groups.
fn small() -> OpenSearchViewSettings {
    OpenSearchViewSettings {
        index_offsets: 16,
        block_offsets: 24,
        page_groups: 24,
        ..OpenSearchViewSettings::default()
    }
}

fn seed() -> u64 {
    let given = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| u64::from(std::process::id()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_opensearch_aggregates_are_those_of_the_rows() {
    aggregates::check_all(&views(small()), seed()).await;
    aggregates::check_all(&views(OpenSearchViewSettings::default()), seed() + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_leaves_to_rows_what_costs_more_than_they() {
    let (view, pin) = aggregates::written(&views(small()), Values::Plain, seed()).await;
    let request = |of: &Arc<dyn LivePin>, groups: &[usize]| AggregateRequest {
        ranges: of.ranges().iter().map(|(partition, live)| (partition.clone(), 0..live.visible)).collect(),
        filters: Vec::new(),
        groups: groups.to_vec(),
        states: vec![LiveState::Rows],
    };
    let few = views(OpenSearchViewSettings { page_groups: 2, ..small() });
    let few = few.pin(&view).await.unwrap().unwrap();
    assert!(asked(&few, &request(&few, &[PAID]), "few groups").await.is_some());
    assert!(asked(&few, &request(&few, &[CENTS]), "too many groups").await.is_none());
    let off = views(OpenSearchViewSettings { aggregate_pushdown: false, ..small() });
    let off = off.pin(&view).await.unwrap().unwrap();
    assert!(off.aggregation(&request(&off, &[PAID])).is_none());
    assert!(asked(&pin, &request(&pin, &[PAID]), "nothing is read yet").await.is_some());
    let _groups = aggregates::of_rows(&pin, &request(&pin, &[PAID])).await;
    assert!(asked(&pin, &request(&pin, &[PAID]), "all rows are in memory").await.is_none());
    views(small()).close(&view).await.unwrap();
}

/// H6: what an index held is never left out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_that_lost_an_index_aggregates_nothing() {
    let (view, pin) = aggregates::written(&views(small()), Values::Plain, seed()).await;
    let request = AggregateRequest {
        ranges: [(partition(0), 0..150)].into(),
        filters: Vec::new(),
        groups: vec![PAID],
        states: vec![LiveState::Rows],
    };
    let lost = indices(&view).into_iter().find(|index| index.contains("rows")).expect("an index of rows");
    ask("DELETE", &lost);
    let answer = pin.aggregation(&request).expect("it is asked").answer().await;
    let error = answer.expect_err("rows are lost");
    assert!(chain(&error).contains("is gone"), "{}", chain(&error));
    views(small()).close(&view).await.unwrap();
}

/// One dataset: rows that are curated, and those of a view.
#[derive(Debug, Clone)]
struct Orders {
    pin: Arc<dyn LivePin>,
    curated: Arc<MemTable>,
}

impl DatasetTables for Orders {
    fn statement(&self, _: &Wants, _: Limits) -> Arc<dyn StatementDatasets> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl StatementDatasets for Orders {
    async fn open(&self, layer: Layer, _: &str) -> Result<Option<OpenedDataset>, SqlError> {
        let ranges = self.pin.ranges().iter().map(|(partition, live)| (partition.clone(), 0..live.visible)).collect();
        let live = Arc::new(LiveTable::new("orders", Arc::clone(&self.pin), ranges)) as Arc<dyn TableProvider>;
        let curated = (layer != Layer::Live).then(|| Arc::clone(&self.curated) as Arc<dyn TableProvider>);
        Ok(Some(OpenedDataset {
            schema: self.pin.schema(),
            parts: curated.into_iter().chain([live]).collect(),
            only: None,
            key: None,
            as_of: DatasetAsOf::default(),
            files: 0,
            bytes: 0,
            rows_batch: 0,
            rows_live: Some(0),
        }))
    }
}

/// Rows of a partition that the view has not, with the types in which they are read.
fn curated(read: &SchemaRef) -> Arc<MemTable> {
    let rows = aggregates::rows(7, 0..200, Values::Plain, seed());
    let columns =
        rows.columns().iter().zip(read.fields()).map(|(column, field)| cast(column, field.data_type()).unwrap());
    let rows = RecordBatch::try_new(Arc::clone(read), columns.collect()).unwrap();
    Arc::new(MemTable::try_new(Arc::clone(read), vec![vec![rows.slice(0, 120)], vec![rows.slice(120, 80)]]).unwrap())
}

async fn answered(engine: &SqlEngine, sql: &str) -> String {
    let mut answer = engine.query(&Query { sql: sql.to_owned(), ..Query::default() }).await.expect(sql);
    let mut batches = Vec::new();
    while let Some(batch) = answer.next().await.expect(sql) {
        batches.push(batch);
    }
    pretty_format_batches(&batches).unwrap().to_string()
}

/// Statements, and whether the cluster makes their aggregates.
const STATEMENTS: [(&str, bool); 13] = [
    (
        "SELECT country, paid, count(*), count(cents), sum(cents), min(at), max(at) FROM {t} GROUP BY 1, 2 ORDER BY 1, 2",
        true,
    ),
    (
        "SELECT paid, sum(price), min(price), max(day), round(avg(x), 6), round(sum(f), 1) FROM {t} GROUP BY paid ORDER BY 1",
        true,
    ),
    ("SELECT count(*), sum(small), round(avg(cents), 6), min(x), max(x) FROM {t}", true),
    ("SELECT count(*), sum(small), avg(cents), min(at) FROM {t} WHERE small > 1000", true),
    ("SELECT DISTINCT small, day FROM {t} ORDER BY 1, 2", true),
    ("SELECT cents, count(*) AS n FROM {t} GROUP BY cents HAVING count(*) > 1 ORDER BY n DESC, cents LIMIT 5", true),
    (
        "SELECT day, sum(cents) FROM {t} WHERE at >= TIMESTAMP '1970-01-01T00:00:01' AND country <> 'de' GROUP BY day ORDER BY 1",
        true,
    ),
    (
        "SELECT small, count(*) FROM {t} WHERE paid AND (country = 'fr' OR country IS NULL) GROUP BY small ORDER BY 1",
        true,
    ),
    (
        "SELECT country, avg(small) FROM {t} WHERE small BETWEEN -1 AND 2 AND cents IS NOT NULL GROUP BY country ORDER BY 1",
        true,
    ),
    ("SELECT x, count(*) FROM {t} GROUP BY x ORDER BY x LIMIT 3", false),
    ("SELECT paid, sum(wide) FROM {t} GROUP BY paid ORDER BY 1", false),
    ("SELECT country, count(DISTINCT small) FROM {t} GROUP BY country ORDER BY 1", true),
    ("SELECT country, count(DISTINCT small), count(DISTINCT day) FROM {t} GROUP BY country ORDER BY 1", false),
];

/// Conditions that come to more clauses than the cluster takes in a request.
fn long_conditions() -> [String; 2] {
    let prices: Vec<String> = (0..500).map(|n| format!("{n}.25")).collect();
    let countries: Vec<String> = (0..500).map(|n| format!("'c{n}'")).collect();
    [format!("price IN ({})", prices.join(", ")), format!("country NOT IN ({})", countries.join(", "))]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_opensearch_statements_answer_the_same_with_and_without_pushdown() {
    // Nothing is kept in memory, or rows would be nearer after the first statement that reads them.
    let settings = OpenSearchViewSettings { cache_bytes_max: 0, ..small() };
    let (view, _) = aggregates::written(&views(settings.clone()), Values::Plain, seed()).await;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::local(folder.path(), IfMissing::Fail).unwrap();
    let mut engines = Vec::new();
    for aggregate_pushdown in [true, false] {
        let views = views(OpenSearchViewSettings { aggregate_pushdown, ..settings.clone() });
        let pin = views.pin(&view).await.unwrap().unwrap();
        let orders = Orders { curated: curated(&pin.schema()), pin };
        let config = SqlConfig { threads: Some(2), ..SqlConfig::default() };
        let engine = SqlEngine::new(store.objects(), Arc::new(NoCatalogTables), config).unwrap();
        engines.push(engine.with_datasets(Arc::new(orders)));
    }
    let [with, without] = engines.as_slice() else { panic!("two engines") };
    for (sql, is_pushed) in STATEMENTS {
        for table in ["merged.orders", "live.orders"] {
            let sql = sql.replace("{t}", table);
            let (found, wanted) = (answered(with, &sql).await, answered(without, &sql).await);
            assert_eq!(found, wanted, "seed {}: {sql}", seed());
            let explained = answered(with, &format!("EXPLAIN ANALYZE {sql}")).await;
            let tells = explained.contains("answered_by_view=1") && explained.contains("read_rows_instead=0");
            assert_eq!(tells, is_pushed, "{sql}\n{explained}");
            let explained = answered(without, &format!("EXPLAIN {sql}")).await;
            assert!(!explained.contains("LiveAggregateExec"), "{explained}");
        }
    }
    for condition in long_conditions() {
        let sql =
            format!("SELECT paid, count(*), sum(small) FROM merged.orders WHERE {condition} GROUP BY paid ORDER BY 1");
        assert_eq!(answered(with, &sql).await, answered(without, &sql).await, "seed {}: {sql}", seed());
    }
    views(settings).close(&view).await.unwrap();
}

//! What every catalog must do, as one suite that each adapter runs in its tests. The checks panic with what was wrong.
//!
//! Each works in databases of its own, so that a suite can be run on a catalog in use and many at once.

use std::sync::Arc;

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use tidemark_shared::catalog::{
    Catalog, CatalogError, Column, DatabaseInput, Page, PageRequest, PartitionInput, SerdeInfo, StorageDescriptor,
    TableInput,
};

const UPDATERS: usize = 8;
const ROUNDS: u64 = 10;
const PARTITIONS: usize = 2_500;

/// Runs every check.
///
/// # Panics
/// If the catalog breaks the contract.
pub async fn check_all(catalog: &Arc<dyn Catalog>) {
    names_are_normalised(catalog).await;
    databases_live_and_die(catalog).await;
    tables_round_trip_whole(catalog).await;
    lists_are_paged_in_order(catalog).await;
    tables_keep_their_versions(catalog).await;
    an_update_of_an_old_version_conflicts(catalog).await;
    racing_updates_have_one_winner(catalog).await;
    racing_creations_have_one_winner(catalog).await;
    partitions_are_created_in_bulk_and_filtered(catalog).await;
    what_is_missing_is_not_found(catalog).await;
}

fn database_name(check: &str) -> String {
    format!("{check}_{}", uuid::Uuid::new_v4().simple())
}

async fn new_database(catalog: &Arc<dyn Catalog>, check: &str) -> String {
    let name = database_name(check);
    let input = DatabaseInput { name: name.clone(), ..DatabaseInput::default() };
    catalog.create_database(input).await.expect("a new database");
    name
}

fn column(name: &str, r#type: &str) -> Column {
    Column { name: name.to_owned(), r#type: Some(r#type.to_owned()), ..Column::default() }
}

fn table(name: &str) -> TableInput {
    TableInput {
        name: name.to_owned(),
        owner: Some("the \"owner\" — ünïcode".to_owned()),
        table_type: Some("EXTERNAL_TABLE".to_owned()),
        storage_descriptor: Some(StorageDescriptor {
            columns: vec![column("fare", "decimal(10,2)"), column("tags", "array<struct<a:int>>")],
            location: Some("s3://lake/trips".to_owned()),
            serde_info: Some(SerdeInfo { name: Some("parquet".to_owned()), ..SerdeInfo::default() }),
            number_of_buckets: Some(-1),
            ..StorageDescriptor::default()
        }),
        partition_keys: vec![column("pickup_year", "string"), column("pickup_month", "string")],
        parameters: [("classification".to_owned(), "parquet".to_owned())].into(),
        ..TableInput::default()
    }
}

fn page(limit: usize, token: Option<String>) -> PageRequest {
    PageRequest { limit, token }
}

/// Any case names the same database and table; what can't be a name is refused.
///
/// # Panics
/// If the catalog breaks the contract.
pub async fn names_are_normalised(catalog: &Arc<dyn Catalog>) {
    let name = database_name("Names");
    let input = DatabaseInput { name: name.clone(), ..DatabaseInput::default() };
    let created = catalog.create_database(input).await.expect("create");
    assert_eq!(created.input.name, name.to_lowercase());
    let found = catalog.get_database(&name.to_uppercase()).await.expect("found in another case");
    assert_eq!(found, created);

    let made = catalog.create_table(&name, table("TRIPS")).await.expect("create");
    assert_eq!((made.database.as_str(), made.input.name.as_str()), (name.to_lowercase().as_str(), "trips"));
    let again = catalog.create_table(&name, table("trips")).await;
    assert!(matches!(again, Err(CatalogError::AlreadyExists { .. })), "{again:?}");
    for bad in ["", "a/b", &"x".repeat(256)] {
        let refused = catalog.create_table(&name, table(bad)).await;
        assert!(matches!(refused, Err(CatalogError::Invalid { .. })), "{refused:?}");
    }
    catalog.delete_database(&name).await.expect("delete");
}

/// A database is created once, changed, and deleted with its tables.
///
/// # Panics
/// If the catalog breaks the contract.
pub async fn databases_live_and_die(catalog: &Arc<dyn Catalog>) {
    let name = new_database(catalog, "live").await;
    let input = DatabaseInput {
        name: name.clone(),
        description: Some("trips".to_owned()),
        parameters: [("a".to_owned(), "b".to_owned())].into(),
        ..DatabaseInput::default()
    };
    let again = catalog.create_database(input.clone()).await;
    assert!(matches!(again, Err(CatalogError::AlreadyExists { .. })), "{again:?}");
    let before = catalog.get_database(&name).await.expect("get");
    let updated = catalog.update_database(input.clone()).await.expect("update");
    assert_eq!((&updated.input, updated.create_time), (&input, before.create_time));
    assert_eq!(catalog.get_database(&name).await.expect("get"), updated);

    catalog.create_table(&name, table("trips")).await.expect("create");
    catalog.delete_database(&name).await.expect("delete");
    let gone = catalog.get_table(&name, "trips").await;
    assert!(matches!(gone, Err(CatalogError::NotFound { .. })), "{gone:?}");
    catalog.create_database(input).await.expect("the name is free again");
    let tables = catalog.list_tables(&name, PageRequest::default()).await.expect("list");
    assert!(tables.items.is_empty(), "tables of a deleted database came back");
    catalog.delete_database(&name).await.expect("delete");
}

/// A table comes back as it was given, also after an update.
///
/// # Panics
/// If the catalog breaks the contract.
pub async fn tables_round_trip_whole(catalog: &Arc<dyn Catalog>) {
    let database = new_database(catalog, "whole").await;
    let created = catalog.create_table(&database, table("trips")).await.expect("create");
    assert_eq!((&created.input, created.version), (&table("trips"), 0));
    assert_eq!(catalog.get_table(&database, "trips").await.expect("get"), created);

    let view = TableInput {
        view_original_text: Some("SELECT 1 -- 'x'".to_owned()),
        storage_descriptor: None,
        ..table("trips")
    };
    let updated = catalog.update_table(&database, view.clone(), Some(0)).await.expect("update");
    assert_eq!((&updated.input, updated.version, updated.create_time), (&view, 1, created.create_time));
    assert_eq!(catalog.get_table(&database, "trips").await.expect("get"), updated);
    catalog.delete_database(&database).await.expect("delete");
}

/// Pages join to the whole list, in order, whatever their size; only tables of that database are in it.
///
/// # Panics
/// If the catalog breaks the contract.
pub async fn lists_are_paged_in_order(catalog: &Arc<dyn Catalog>) {
    let database = new_database(catalog, "paged").await;
    let other = new_database(catalog, "paged_other").await;
    catalog.create_table(&other, table("t_05")).await.expect("create");
    // By bytes `-` < `0` < `_` < `a`: an order by locale would mix them.
    let mut names: Vec<String> = ["t-x", "t_x", "ta", "t0"].map(str::to_owned).to_vec();
    names.extend((0..21).map(|n| format!("t_{n:02}")));
    for name in &names {
        catalog.create_table(&database, table(name)).await.expect("create");
    }
    names.sort();
    for limit in [1, 7, 25, 1_000] {
        let mut found = Vec::new();
        let mut token = None;
        loop {
            let Page { items, next } = catalog.list_tables(&database, page(limit, token)).await.expect("list");
            assert!(items.len() <= limit, "a page is longer than asked");
            found.extend(items.into_iter().map(|table| table.input.name));
            token = next;
            if token.is_none() {
                break;
            }
            assert!(found.len() < names.len(), "an empty page follows the last");
        }
        assert_eq!(found, names, "pages of {limit}");
    }
    let first = catalog.list_databases(page(1, None)).await.expect("list");
    assert_eq!(first.items.len(), 1);
    assert!(first.next.is_some(), "two databases are one page of one");
    for name in [database, other] {
        catalog.delete_database(&name).await.expect("delete");
    }
}

/// Every version can be read, newest first.
///
/// # Panics
/// If the catalog breaks the contract.
pub async fn tables_keep_their_versions(catalog: &Arc<dyn Catalog>) {
    let database = new_database(catalog, "versions").await;
    catalog.create_table(&database, table("trips")).await.expect("create");
    for n in 1..=12 {
        let input = TableInput { description: Some(format!("version {n}")), ..table("trips") };
        catalog.update_table(&database, input, None).await.expect("update");
    }
    let first = catalog.list_table_versions(&database, "trips", page(5, None)).await.expect("list");
    let rest = catalog.list_table_versions(&database, "trips", page(100, first.next)).await.expect("list");
    let versions: Vec<u64> = first.items.iter().chain(&rest.items).map(|table| table.version).collect();
    assert_eq!(versions, (0..=12).rev().collect::<Vec<_>>());
    assert_eq!(rest.next, None);

    let old = catalog.get_table_version(&database, "trips", 3).await.expect("get");
    assert_eq!((old.version, old.input.description.as_deref()), (3, Some("version 3")));
    let missing = catalog.get_table_version(&database, "trips", 13).await;
    assert!(matches!(missing, Err(CatalogError::NotFound { .. })), "{missing:?}");
    let bad = catalog.list_table_versions(&database, "trips", page(5, Some("nonsense".to_owned()))).await;
    assert!(matches!(bad, Err(CatalogError::Invalid { .. })), "{bad:?}");

    catalog.delete_table(&database, "trips").await.expect("delete");
    let again = catalog.create_table(&database, table("trips")).await.expect("the name is free again");
    assert_eq!(again.version, 0, "a table made anew continues the old one's versions");
    catalog.delete_database(&database).await.expect("delete");
}

/// An update that names an old version changes nothing and tells the newest.
///
/// # Panics
/// If the catalog breaks the contract.
pub async fn an_update_of_an_old_version_conflicts(catalog: &Arc<dyn Catalog>) {
    let database = new_database(catalog, "conflict").await;
    catalog.create_table(&database, table("trips")).await.expect("create");
    let newer = catalog.update_table(&database, table("trips"), Some(0)).await.expect("update");
    let late = catalog.update_table(&database, table("trips"), Some(0)).await;
    assert!(matches!(late, Err(CatalogError::Conflict { expected: 0, actual: 1, .. })), "{late:?}");
    assert_eq!(catalog.get_table(&database, "trips").await.expect("get"), newer);
    catalog.delete_database(&database).await.expect("delete");
}

/// Of 8 updates of one version, exactly one wins each round, and its content is the next version's.
///
/// # Panics
/// If the catalog breaks the contract.
pub async fn racing_updates_have_one_winner(catalog: &Arc<dyn Catalog>) {
    let database = new_database(catalog, "race").await;
    catalog.create_table(&database, table("trips")).await.expect("create");
    for round in 0..ROUNDS {
        let barrier = Arc::new(Barrier::new(UPDATERS));
        let mut updaters = JoinSet::new();
        for updater in 0..UPDATERS {
            let (catalog, database, barrier) = (Arc::clone(catalog), database.clone(), Arc::clone(&barrier));
            let input = TableInput { description: Some(format!("{round} by {updater}")), ..table("trips") };
            updaters.spawn(async move {
                barrier.wait().await;
                catalog.update_table(&database, input, Some(round)).await
            });
        }
        let mut winners = Vec::new();
        for outcome in updaters.join_all().await {
            match outcome {
                Ok(table) => winners.push(table),
                Err(CatalogError::Conflict { expected, actual, .. }) => {
                    assert_eq!((expected, actual), (round, round + 1), "a loser was told a wrong version");
                }
                Err(error) => panic!("round {round}: neither won nor lost: {error:?}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round} has not exactly one winner");
        assert_eq!(winners[0], catalog.get_table(&database, "trips").await.expect("get"));
    }
    catalog.delete_database(&database).await.expect("delete");
}

/// Of 8 creations of one table, exactly one wins; the others are told that it exists.
///
/// # Panics
/// If the catalog breaks the contract.
pub async fn racing_creations_have_one_winner(catalog: &Arc<dyn Catalog>) {
    let database = new_database(catalog, "creation").await;
    let barrier = Arc::new(Barrier::new(UPDATERS));
    let mut creators = JoinSet::new();
    for _ in 0..UPDATERS {
        let (catalog, database, barrier) = (Arc::clone(catalog), database.clone(), Arc::clone(&barrier));
        creators.spawn(async move {
            barrier.wait().await;
            catalog.create_table(&database, table("trips")).await
        });
    }
    let outcomes = creators.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    let told = |outcome: &Result<_, _>| matches!(outcome, Ok(_) | Err(CatalogError::AlreadyExists { .. }));
    assert!(outcomes.iter().all(told), "{outcomes:?}");
    catalog.delete_database(&database).await.expect("delete");
}

/// Thousands of partitions in one call; found by exact values, paged, changed and deleted.
///
/// # Panics
/// If the catalog breaks the contract.
pub async fn partitions_are_created_in_bulk_and_filtered(catalog: &Arc<dyn Catalog>) {
    let database = new_database(catalog, "partitions").await;
    catalog.create_table(&database, table("trips")).await.expect("create");
    let values = |n: usize| vec![format!("{}", 2000 + n / 100), format!("{:02}", n % 100)];
    let input = |n: usize| PartitionInput {
        values: values(n),
        storage_descriptor: Some(StorageDescriptor {
            location: Some(format!("s3://lake/{n}")),
            ..StorageDescriptor::default()
        }),
        ..PartitionInput::default()
    };
    let there = catalog.create_partitions(&database, "trips", (0..PARTITIONS).map(input).collect()).await;
    assert!(there.expect("create").is_empty(), "new partitions were there before");
    let there = catalog.create_partitions(&database, "trips", vec![input(PARTITIONS), input(7)]).await;
    assert_eq!(there.expect("create"), [values(7)], "not exactly the old one is reported");

    let mut found = Vec::new();
    let mut token = None;
    loop {
        let Page { items, next } =
            catalog.list_partitions(&database, "trips", None, page(1_000, token)).await.expect("list");
        found.extend(items.into_iter().map(|partition| partition.input));
        token = next;
        if token.is_none() {
            break;
        }
    }
    assert!(found.into_iter().eq((0..=PARTITIONS).map(input)), "the list is not all partitions in order");

    let filter =
        |year: Option<&str>, month: Option<&str>| Some(vec![year.map(str::to_owned), month.map(str::to_owned)]);
    for (filter, expected) in [
        (filter(Some("2003"), None), 100),
        (filter(None, Some("07")), 25),
        (filter(Some("2003"), Some("07")), 1),
        (filter(Some("1999"), None), 0),
        (filter(None, None), 1_000),
    ] {
        let listed =
            catalog.list_partitions(&database, "trips", filter.clone(), page(1_000, None)).await.expect("list");
        assert_eq!(listed.items.len(), expected, "{filter:?}");
    }
    let tail =
        catalog.list_partitions(&database, "trips", filter(None, Some("07")), page(20, None)).await.expect("list");
    let rest = catalog.list_partitions(&database, "trips", filter(None, Some("07")), page(20, tail.next)).await;
    assert_eq!(rest.expect("list").items.len(), 5, "a filtered list loses or repeats at its page's end");

    changed_and_deleted(catalog, &database, input(7)).await;
    catalog.delete_database(&database).await.expect("delete");
}

async fn changed_and_deleted(catalog: &Arc<dyn Catalog>, database: &str, input: PartitionInput) {
    let values = input.values.clone();
    let moved = PartitionInput { parameters: [("moved".to_owned(), "yes".to_owned())].into(), ..input };
    let updated = catalog.update_partition(database, "trips", moved.clone()).await.expect("update");
    assert_eq!(updated.input, moved);
    assert_eq!(catalog.get_partition(database, "trips", &values).await.expect("get"), updated);
    for _ in 0..2 {
        let deleted = catalog.delete_partitions(database, "trips", vec![values.clone()]).await;
        deleted.expect("delete; the second time it is already gone");
    }
    let gone = catalog.get_partition(database, "trips", &values).await;
    assert!(matches!(gone, Err(CatalogError::NotFound { .. })), "{gone:?}");
    let wide = PartitionInput { values: vec!["2019".to_owned()], ..PartitionInput::default() };
    let refused = catalog.create_partitions(database, "trips", vec![wide]).await;
    assert!(matches!(refused, Err(CatalogError::Invalid { .. })), "one value for two keys: {refused:?}");
}

/// Whatever is asked of what is not there is not found.
///
/// # Panics
/// If the catalog breaks the contract.
pub async fn what_is_missing_is_not_found(catalog: &Arc<dyn Catalog>) {
    let database = new_database(catalog, "missing").await;
    let no_database = database_name("none");
    let input = DatabaseInput { name: no_database.clone(), ..DatabaseInput::default() };
    let all = PageRequest::default;
    let values = vec!["2019".to_owned(), "07".to_owned()];
    let partition = PartitionInput { values: values.clone(), ..PartitionInput::default() };
    let outcomes = [
        ("get database", catalog.get_database(&no_database).await.err()),
        ("update database", catalog.update_database(input).await.err()),
        ("delete database", catalog.delete_database(&no_database).await.err()),
        ("create table", catalog.create_table(&no_database, table("trips")).await.err()),
        ("list tables", catalog.list_tables(&no_database, all()).await.err()),
        ("get table", catalog.get_table(&database, "trips").await.err()),
        ("update table", catalog.update_table(&database, table("trips"), None).await.err()),
        ("update table at a version", catalog.update_table(&database, table("trips"), Some(0)).await.err()),
        ("delete table", catalog.delete_table(&database, "trips").await.err()),
        ("list versions", catalog.list_table_versions(&database, "trips", all()).await.err()),
        ("get version", catalog.get_table_version(&database, "trips", 0).await.err()),
        ("create partitions", catalog.create_partitions(&database, "trips", vec![partition.clone()]).await.err()),
        ("get partition", catalog.get_partition(&database, "trips", &values).await.err()),
        ("list partitions", catalog.list_partitions(&database, "trips", None, all()).await.err()),
        ("update partition", catalog.update_partition(&database, "trips", partition.clone()).await.err()),
        ("delete partitions", catalog.delete_partitions(&database, "trips", vec![values.clone()]).await.err()),
    ];
    for (what, error) in outcomes {
        assert!(matches!(error, Some(CatalogError::NotFound { .. })), "{what}: {error:?}");
    }
    catalog.create_table(&database, table("trips")).await.expect("create");
    let error = catalog.update_partition(&database, "trips", partition).await.err();
    assert!(matches!(error, Some(CatalogError::NotFound { .. })), "update partition: {error:?}");
    catalog.delete_database(&database).await.expect("delete");
}

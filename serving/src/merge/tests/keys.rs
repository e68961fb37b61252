//! Datasets with a key: one row per key, whichever layer its records are in.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::support::{KEYED, World};

/// A record: partition, key, version, and whether it deletes.
#[derive(Debug, Clone)]
struct Said {
    partition: u32,
    key: u8,
    version: Option<i64>,
    gone: bool,
}

fn said() -> impl Strategy<Value = Said> {
    // Few keys and versions, so that they meet; null versions come before all others.
    (0..2_u32, 0..4_u8, prop::option::weighted(0.8, 0..4_i64), prop::bool::weighted(0.25))
        .prop_map(|(partition, key, version, gone)| Said { partition, key, version, gone })
}

/// Version, position and row of the record that counts, by key. `cents` is the record's number.
fn fold(records: &[Said]) -> String {
    let mut offsets = [0_u64; 2];
    type Rank = (Option<i64>, u32, u64);
    let mut latest: BTreeMap<u8, (Rank, usize, bool)> = BTreeMap::new();
    for (number, record) in records.iter().enumerate() {
        let offset = &mut offsets[record.partition as usize];
        let rank = (record.version, record.partition, *offset);
        *offset += 1;
        let known = latest.get(&record.key);
        if known.is_none_or(|(before, _, _)| rank > *before) {
            latest.insert(record.key, (rank, number, record.gone));
        }
    }
    let lines =
        latest.into_iter().filter(|(_, (_, _, gone))| !gone).map(|(key, (_, number, _))| format!("{key}|{number}"));
    lines.collect::<Vec<_>>().join("\n")
}

async fn merged_is_the_fold(records: &[Said], marks: &[[u8; 2]]) {
    let world = World::new(KEYED).await;
    for (number, Said { partition, key, version, gone }) in records.iter().enumerate() {
        let version = version.map_or("null".to_owned(), |version| version.to_string());
        let record = format!(r#"{{"id": "{key}", "cents": {number}, "v": {version}, "gone": {gone}}}"#);
        let _offset = world.produce(*partition, &record).await;
    }
    world.index("g1").await;
    let ends = [0, 1].map(|partition| records.iter().filter(|record| record.partition == partition).count() as u64);
    let mut mark = [0, 0];
    for moved in marks {
        mark = [0, 1].map(|p| (mark[p] + u64::from(moved[p])).min(ends[p]));
        world.curate("g1", mark).await;
        let (rows, _) = world.ask("SELECT id, cents FROM orders ORDER BY id").await.expect("an answer");
        assert_eq!(rows, fold(records), "mark {mark:?} of {records:?}");
        let wanted = fold(records).lines().find(|line| line.starts_with("1|")).unwrap_or_default().to_owned();
        let (one, _) = world.ask("SELECT id, cents FROM orders WHERE id = '1'").await.expect("an answer");
        assert_eq!(one, wanted, "mark {mark:?} of {records:?}");
    }
    let (curated, _) = world
        .ask("SELECT count(*) FROM (SELECT id FROM batch.orders GROUP BY id HAVING count(*) > 1)")
        .await
        .expect("an answer");
    assert_eq!(curated, "0");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merged_is_a_recomputation_wherever_the_mark_is(
        records in prop::collection::vec(said(), 0..24),
        marks in prop::collection::vec([0..6_u8, 0..6_u8], 1..3),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(merged_is_the_fold(&records, &marks));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_conditions_on_the_key_go_below_its_resolution() {
    let world = World::new(KEYED).await;
    for record in [r#"{"id": "a", "cents": 1, "v": 1}"#, r#"{"id": "a", "cents": 2, "v": 2}"#] {
        let _offset = world.produce(0, record).await;
    }
    world.index("g1").await;
    world.curate("g1", [1, 0]).await;
    let plan = world.explain("SELECT cents FROM orders WHERE id = 'a' AND cents = 1").await;
    let plan = &plan[plan.find("physical_plan").expect("both plans")..];
    let window = plan.find("WindowAggExec").unwrap_or_else(|| panic!("no window in\n{plan}"));
    let (above, below) = plan.split_at(window);
    assert!(above.contains("cents@0 = 1") && !below.contains("cents@1 = 1"), "{plan}");
    assert_eq!(below.matches("FilterExec: id@0 = a").count(), 2, "{plan}");
    // The superseded row, curated or not, never answers for its key.
    assert_eq!(world.ask("SELECT cents FROM orders WHERE cents = 1").await.expect("an answer").0, "");
    assert_eq!(world.ask("SELECT count(*) FROM orders").await.expect("an answer").0, "1");
    assert_eq!(world.ask("SELECT cents FROM orders LIMIT 1").await.expect("an answer").0, "2");
}

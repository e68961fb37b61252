use super::*;

#[test]
fn names_are_lowered_and_bad_ones_refused() {
    assert_eq!(normalised("Trips_2019").unwrap(), "trips_2019");
    assert_eq!(normalised("a b").unwrap(), "a b");
    assert_eq!(normalised(&"x".repeat(255)).unwrap().len(), 255);
    for name in ["", " a", "a ", "a\nb", "a/b", &"x".repeat(256), &"é".repeat(128)] {
        assert!(matches!(normalised(name), Err(CatalogError::Invalid { .. })), "`{name}` was accepted");
    }
}

/// The stored format: what old releases wrote must be read for ever.
#[test]
fn a_table_serialises_as_glue_has_it() {
    let text = concat!(
        r#"{"Name":"trips","StorageDescriptor":{"Columns":[{"Name":"fare","Type":"decimal(10,2)"}],"#,
        r#""Location":"s3://lake/trips","Compressed":false,"SerdeInfo":{"SerializationLibrary":"x"},"#,
        r#""SortColumns":[{"Column":"fare","SortOrder":1}],"StoredAsSubDirectories":false},"#,
        r#""PartitionKeys":[{"Name":"month","Type":"string"}],"TableType":"EXTERNAL_TABLE","#,
        r#""Parameters":{"classification":"parquet"}}"#
    );
    let table: TableInput = serde_json::from_str(text).unwrap();
    assert_eq!(table.partition_keys[0].r#type.as_deref(), Some("string"));
    assert_eq!(table.storage_descriptor.as_ref().unwrap().columns[0].name, "fare");
    assert_eq!(serde_json::to_string(&table).unwrap(), text);
}

#[test]
fn a_page_is_bounded() {
    for (limit, bounded) in [(0, 1), (7, 7), (usize::MAX, PAGE_MAX)] {
        assert_eq!(PageRequest { limit, token: None }.bounded_limit(), bounded);
    }
}

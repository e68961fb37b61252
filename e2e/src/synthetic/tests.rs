use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;

use flate2::read::GzDecoder;

use super::{Manifest, Plan, generate};

fn texts(plan: Plan) -> (Manifest, BTreeMap<String, String>) {
    let folder = tempfile::tempdir().unwrap();
    let manifest = generate(plan, folder.path(), &mut |_| {}).unwrap();
    assert_eq!(Manifest::read(folder.path()).unwrap(), manifest);
    let mut texts = BTreeMap::new();
    for file in &manifest.files {
        let path = folder.path().join(&file.name);
        assert_eq!(fs::metadata(&path).unwrap().len(), file.bytes);
        let mut text = String::new();
        if file.name.ends_with(".gz") {
            GzDecoder::new(File::open(&path).unwrap()).read_to_string(&mut text).unwrap();
        } else {
            File::open(&path).unwrap().read_to_string(&mut text).unwrap();
        }
        assert_eq!(text.len() as u64, file.text_bytes);
        texts.insert(file.name.clone(), text);
    }
    (manifest, texts)
}

#[test]
fn the_same_plan_gives_the_same_bytes_and_another_seed_others() {
    let plan = Plan { records: 3_000, months: 5, seed: 1 };
    assert_eq!(texts(plan), texts(plan));
    assert_ne!(texts(plan).1, texts(Plan { seed: 2, ..plan }).1);
}

#[test]
fn the_manifest_counts_what_the_files_hold() {
    let (manifest, texts) = texts(Plan { records: 48_005, months: 24, seed: 3 });
    assert_eq!(manifest.records, 48_005);
    assert_eq!(manifest.records, manifest.accepted + manifest.rejected.values().sum::<u64>());
    assert_eq!(manifest.pickup_months.values().sum::<u64>(), manifest.accepted);
    assert_eq!(manifest.rejected.keys().collect::<Vec<_>>(), ["bad_value", "nonexistent_time", "width"]);
    let (mut records, mut blank, mut odd_width, mut bad_fare) = (0, 0, 0, 0);
    for text in texts.values() {
        let mut lines = text.lines();
        let columns = lines.next().unwrap().split(',').count();
        for line in lines {
            if line.is_empty() {
                blank += 1;
                continue;
            }
            records += 1;
            odd_width += u64::from(line.split(',').count() != columns);
            bad_fare += u64::from(line.contains(",8.x5,"));
        }
    }
    assert_eq!(records, manifest.records);
    assert_eq!(odd_width, manifest.rejected["width"]);
    assert_eq!(bad_fare, manifest.rejected["bad_value"]);
    assert!(blank > 0, "some lines are blank");
}

#[test]
fn the_dirt_of_real_files_is_there() {
    let (manifest, texts) = texts(Plan { records: 96_000, months: 24, seed: 4 });
    let forms: Vec<&str> = manifest.files.iter().flat_map(|f| &f.form).map(String::as_str).collect();
    assert_eq!(forms, ["layout-2014", "crlf", "gzip"]);
    assert!(manifest.files.iter().all(|f| f.name.starts_with("synthetic_")));
    let all: String = texts.values().cloned().collect();
    assert!(all.contains(",0.00,"), "zero distances");
    assert!(all.contains(",-"), "negative amounts");
    assert!(manifest.pickup_months.contains_key("2017-12"), "pickups before the first month");
    assert!(texts["synthetic_yellow_tripdata_2018-01.csv"].lines().skip(1).any(|l| l.ends_with(',')));
    assert!(texts["synthetic_yellow_tripdata_2019-12.csv"].lines().skip(1).all(|l| !l.ends_with(',')));
}

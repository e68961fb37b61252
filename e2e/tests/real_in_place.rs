//! Files that stay where they are, `--in-place`, on a real S3 server, whose objects boto3 writes.
//! `infra/servers/test-real.sh` starts the server and runs this; a plain `cargo test` leaves it out.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use tidemark_e2e::chaos::apply_trips;
use tidemark_e2e::platform::{Tidemark, repository};

/// `boto3.py put BUCKET KEY FILE` and so on, in a few lines.
const BOTO3: &str = r#"
import os, sys, boto3
from botocore.config import Config
from botocore.exceptions import ClientError
s3 = boto3.client("s3", endpoint_url=os.environ["TIDEMARK_TEST_S3_ENDPOINT"], config=Config(s3={"addressing_style": "path"}))
verb, bucket, *rest = sys.argv[1:]
if verb == "create":
    s3.create_bucket(Bucket=bucket)
    if rest == ["versioned"]:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
elif verb == "put":
    s3.put_object(Bucket=bucket, Key=rest[0], Body=open(rest[1], "rb").read())
"#;

fn boto3(args: &[&str]) {
    let python = repository().join(".venv/bin/python");
    let output = Command::new(python).args(["-c", BOTO3]).args(args).output().expect("run `make setup-python`");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A platform with the trips applied, and a bucket of the test's own.
fn home(name: &str, versioned: bool) -> (TempDir, Tidemark, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tidemark = Tidemark::new(&folder.path().join("data")).expect("built");
    apply_trips(&tidemark).expect("the definition is valid");
    let bucket = format!("in-place-{name}-{}", std::process::id());
    boto3(&if versioned { vec!["create", &bucket, "versioned"] } else { vec!["create", &bucket] });
    (folder, tidemark, bucket)
}

fn put(bucket: &str, folder: &Path, fares: &[&str]) {
    let mut csv = "VendorID,tpep_pickup_datetime,total_amount\n".to_owned();
    for fare in fares {
        csv.push_str(&format!("1,2019-07-04 10:00:00,{fare}\n"));
    }
    let path = folder.join("trips.csv");
    std::fs::write(&path, csv).expect("a temporary folder takes a file");
    boto3(&["put", bucket, "in/trips.csv", &path.to_string_lossy()]);
}

fn fares(tidemark: &Tidemark) -> Vec<Value> {
    tidemark.rows("SELECT count(*), sum(total_amount) FROM batch.trips").expect("it answers")
}

#[test]
fn real_s3_a_file_in_place_is_read_in_the_version_that_the_ledger_names() {
    let (folder, tidemark, bucket) = home("versioned", true);
    put(&bucket, folder.path(), &["7.50", "2.50"]);
    let url = format!("s3://{bucket}/in/trips.csv");
    let report = tidemark.run_json(&["ingest", "trips", &url, "--in-place", "--json"]).expect("it is taken in");
    assert_eq!(report["counts"]["accepted"], 2, "{report}");
    let before = fares(&tidemark);
    assert_eq!(before[0], serde_json::json!([2, "10.00"]));

    // Somebody writes over the object: the version that was taken in is still the truth.
    put(&bucket, folder.path(), &["1.00"]);
    tidemark.run_json(&["batch", "recompute", "trips", "--json"]).expect("it reads the old version");
    assert_eq!(fares(&tidemark), before);
    let refused = tidemark.run(&["ingest", "trips", &url, "--in-place", "--json"]).expect("it runs");
    assert!(refused.stdout.contains("content_changed"), "{}", refused.stdout);
    let replaced = tidemark.run_json(&["ingest", "trips", &url, "--in-place", "--replace", "--json"]);
    assert_eq!(replaced.expect("it is replaced")["counts"]["accepted"], 1);
    assert_eq!(fares(&tidemark)[0], serde_json::json!([1, "1.00"]));
}

#[test]
fn real_s3_in_place_needs_a_versioned_bucket_and_copying_does_not() {
    let (folder, tidemark, bucket) = home("plain", false);
    put(&bucket, folder.path(), &["7.50"]);
    let url = format!("s3://{bucket}/in");
    let refused = tidemark.run(&["ingest", "trips", &url, "--in-place"]).expect("it runs");
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("versioned bucket"), "{}", refused.stderr);
    tidemark.run_json(&["ingest", "trips", &url, "--json"]).expect("it is copied");
    // The copy is ours: what happens to the object does not matter any more.
    put(&bucket, folder.path(), &["1.00", "1.00"]);
    tidemark.run_json(&["batch", "recompute", "trips", "--json"]).expect("it reads the copy");
    assert_eq!(fares(&tidemark)[0], serde_json::json!([1, "7.50"]));
}

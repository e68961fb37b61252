//! `tidemark sql`: what it reads, how it fails, and what it leaves behind.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tidemark_batch::catalog::SqlCatalog;
use tidemark_shared::catalog::{Catalog as _, Column, DatabaseInput, SerdeInfo, StorageDescriptor, TableInput};
use tidemark_testing::wait::{PATIENCE, within};

use crate::support::{Home, SQL, TOML};

/// A folder with the dataset `rides`, two rows of `mon` and one of `tue`.
fn rides() -> Home {
    let home = Home::with_rides();
    home.write("week.csv", "id,fare,day\n1,2,mon\n2,3,mon\n4,4,tue\n");
    home.run(&["ingest", "rides", "week.csv"]).expect(0);
    home
}

/// A table of the catalog over what lies at `location` in `home`.
fn table(home: &Home, name: &str, location: &str, class: &str, partitioned: bool) -> TableInput {
    let column =
        |name: &str, hive: &str| Column { name: name.to_owned(), r#type: Some(hive.to_owned()), ..Column::default() };
    let serde = SerdeInfo {
        serialization_library: Some(class.to_owned()),
        parameters: [("skip.header.line.count".to_owned(), "1".to_owned())].into(),
        ..SerdeInfo::default()
    };
    TableInput {
        name: name.to_owned(),
        storage_descriptor: Some(StorageDescriptor {
            columns: vec![column("day", "string"), column("weekday", "int")],
            location: Some(format!("file://{}", home.path(location).display())),
            serde_info: Some(serde),
            ..StorageDescriptor::default()
        }),
        partition_keys: if partitioned { vec![column("year", "string")] } else { Vec::new() },
        ..TableInput::default()
    }
}

/// Registers tables over a CSV file, a folder of JSON files and a partitioned folder of Parquet files; and a view.
fn with_lookups() -> Home {
    let home = rides();
    home.write("days.csv", "day,weekday\nmon,1\ntue,2\n");
    home.write("json/a.json", "{\"day\":\"mon\",\"weekday\":1}\n");
    home.write("json/b.json", "{\"day\":\"tue\",\"weekday\":2}\n");
    let curated = home.path("tidemark-data/store/curated/rides");
    let parquet = files(&curated, "parquet").into_iter().find(|file| file.to_string_lossy().contains("day=mon"));
    fs::create_dir_all(home.path("parquet/year=2019")).expect("the folder is ours");
    fs::copy(parquet.expect("the folder is ours"), home.path("parquet/year=2019/part.parquet"))
        .expect("the folder is ours");
    let mut ids = table(&home, "ids", "parquet", "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe", true);
    ids.storage_descriptor.as_mut().expect("the folder is ours").columns =
        vec![Column { name: "id".to_owned(), r#type: Some("bigint".to_owned()), ..Column::default() }];
    let view = TableInput { name: "view".to_owned(), ..TableInput::default() };
    let tables = [
        table(&home, "days", "days.csv", "org.apache.hadoop.hive.serde2.OpenCSVSerde", false),
        table(&home, "weekdays", "json", "org.openx.data.jsonserde.JsonSerDe", false),
        ids,
        view,
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("the folder is ours");
    runtime.block_on(async {
        let catalog = SqlCatalog::open("sqlite:catalog.db", &home.path("tidemark-data"), false)
            .await
            .expect("the folder is ours");
        let lookup = DatabaseInput { name: "lookup".to_owned(), ..DatabaseInput::default() };
        catalog.create_database(lookup).await.expect("the folder is ours");
        for table in tables {
            catalog.create_table("lookup", table).await.expect("the folder is ours");
        }
        catalog.close().await;
    });
    home
}

/// Files below `folder` whose names end so.
fn files(folder: &std::path::Path, ending: &str) -> Vec<std::path::PathBuf> {
    let entries =
        fs::read_dir(folder).expect("the folder is ours").map(|entry| entry.expect("the folder is ours").path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path, ending) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == ending))
        .collect()
}

#[test]
fn tables_of_the_catalog_are_read_in_place_and_join_with_datasets() {
    let home = with_lookups();
    let before = files(&home.path("tidemark-data"), "db");
    let cases = [
        (
            "SELECT r.id, d.weekday FROM batch.rides r JOIN lookup.days d ON r.day = d.day ORDER BY 1",
            "id,weekday\n1,1\n2,1\n4,2\n",
        ),
        ("SELECT day, weekday + 1 AS next FROM lookup.weekdays ORDER BY 1", "day,next\nmon,2\ntue,3\n"),
        ("SELECT id, year FROM lookup.ids WHERE year = '2019' ORDER BY 1", "id,year\n1,2019\n2,2019\n"),
        ("SELECT count(*) AS n FROM LOOKUP.Days, lookup.weekdays", "n\n4\n"),
        (
            "SELECT table_schema AS s, table_name AS t FROM information_schema.tables \
             WHERE table_schema <> 'information_schema' ORDER BY 1, 2",
            "s,t\nbatch,rides\nlookup,days\nlookup,ids\nlookup,weekdays\n",
        ),
    ];
    for (sql, rows) in cases {
        let ended = home.run(&["sql", sql, "--format", "csv"]).expect(0);
        assert_eq!(ended.out, rows, "{sql}: {ended:?}");
    }
    let as_of = home.run(&["sql", "SELECT * FROM lookup.days", "--json"]).expect(0).json();
    assert_eq!(as_of["as_of"]["lookup.days"]["version"], "0");
    let ended = home.run(&["sql", "SELECT * FROM lookup.dais"]).expect(2);
    assert!(ended.err.contains("did you mean `lookup.days`?"), "{ended:?}");
    let ended = home.run(&["sql", "SELECT * FROM lookup.view"]).expect(1);
    assert!(ended.err.contains("table `lookup.view` does not consist of plain"), "{ended:?}");
    assert_eq!(files(&home.path("tidemark-data"), "db"), before);
    let beside = fs::read_dir(home.path("tidemark-data")).unwrap().map(|e| e.unwrap().file_name());
    assert!(!beside.into_iter().any(|name| name.to_string_lossy().contains("-wal")), "a write-ahead file was left");
}

#[test]
fn a_limit_of_the_configuration_counts_unless_a_flag_says_otherwise() {
    let home = rides();
    home.write("tidemark.toml", "[sql]\nbytes_read_max = 10\nspill_bytes_max = 1\n");
    let ended = home.run(&["sql", "SELECT max(fare) FROM rides"]).expect(1);
    assert!(ended.err.contains("stopped at 10 bytes read") && ended.err.contains("`--bytes-read-max`"), "{ended:?}");
    home.run(&["sql", "SELECT max(fare) FROM rides", "--bytes-read-max", "1MB"]).expect(0);
    let sorted = "SELECT v % 1000 AS k FROM range(3000000) t(v) ORDER BY 1";
    let ended = home.run(&["sql", sorted, "--memory", "24MB", "--threads", "1"]).expect(1);
    assert!(ended.err.contains("raise `sql.spill_bytes_max` or"), "{ended:?}");
}

#[test]
fn no_command_leaves_the_catalog_open() {
    let home = rides();
    let beside = |after: &str| {
        let names = fs::read_dir(home.path("tidemark-data")).unwrap().map(|entry| entry.unwrap().file_name());
        let open: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with("catalog.db-")).collect();
        assert!(open.is_empty(), "{after}: {open:?}");
    };
    beside("ingest");
    home.run(&["batch", "recompute", "rides"]).expect(0);
    beside("recompute");
    home.run(&["ingest", "rides", "nothing.csv"]).expect(2);
    beside("an ingest that fails");
}

#[test]
fn asking_makes_no_catalog_and_a_broken_one_is_named() {
    let home = rides();
    let catalog = home.path("tidemark-data/catalog.db");
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        // The last two lie there only if ingest ended before its last connection did.
        drop(fs::remove_file(catalog.with_file_name(file)));
    }
    for sql in ["SELECT count(*) FROM rides", "SHOW TABLES"] {
        home.run(&["sql", sql]).expect(0);
    }
    let ended = home.run(&["sql", "SELECT * FROM lookup.days"]).expect(2);
    assert!(ended.err.starts_with("error: table `lookup.days` not found"), "{ended:?}");
    assert!(!catalog.exists(), "asking made a catalog");

    fs::write(&catalog, "this is a text, and of some length at that: no database has such a beginning".repeat(99))
        .unwrap();
    // What does not need it is answered.
    home.run(&["sql", "SELECT count(*) FROM rides"]).expect(0);
    let ended = home.run(&["sql", "SELECT * FROM lookup.days"]).expect(1);
    assert!(
        ended.err.contains("tidemark-data/catalog.db") && ended.err.contains("\nhint: the file is no"),
        "{ended:?}"
    );
    let error = home.run(&["sql", "SELECT * FROM lookup.days", "--json"]).expect(1).json();
    assert!(error["error"]["message"].as_str().unwrap().contains("catalog.db"), "{error}");
    assert!(error["error"]["hint"].is_string() && error["error"]["code"].is_string(), "{error}");
}

#[test]
fn the_exit_code_tells_wrong_statements_from_values_and_limits() {
    let home = rides();
    home.write("torn.csv", "id,fare\n1,2\n1,2,3\n");
    let cases: [(&[&str], i32, &str); 18] = [
        (&["SELEC 1"], 2, "syntax error: "),
        (&["SELECT no FROM rides"], 2, "column `no` not found"),
        (&["SELECT 1 FROM ride"], 2, "did you mean `rides`?"),
        (&["SELECT nofunction(1)"], 2, "nofunction"),
        (&["SELECT $1"], 2, "parameter $1: has no value"),
        (&["SELECT 1; SELECT 2", "--format", "json"], 2, "2 statements, but this format holds one answer"),
        (&["SELECT x.id FROM rides"], 2, "column `x.id` not found; did you mean `rides.id`?"),
        (&["SELECT * FROM 'https://example.com/a.csv'"], 2, "neither `file:` nor `s3:`"),
        (&["SELECT * FROM 'nothing.csv'"], 2, "no such file or folder"),
        (&["SELECT * FROM 'torn.csv'"], 1, "torn.csv"),
        (&["DROP TABLE rides"], 2, "DROP is refused"),
        (&["SELECT id / (id - id) FROM rides"], 1, "Divide by zero"),
        (&["SELECT CAST(day AS INT) FROM rides"], 1, "hint: `TRY_CAST"),
        (&["SELECT CAST(day || id AS INT) FROM rides"], 1, "hint: `TRY_CAST"),
        (&["SELECT CAST(id * 10000000000 AS INT) FROM rides"], 1, "the query failed: "),
        (&["SELECT max(fare) FROM rides", "--bytes-read-max", "10"], 1, "stopped at 10 bytes read"),
        (
            &["SELECT sum(a.v * b.v) FROM range(100000) a(v), range(100000) b(v)", "--timeout", "200ms"],
            1,
            "stopped after",
        ),
        (
            &["SELECT a.v FROM range(1000000) a(v) ORDER BY a.v % 1000", "--memory", "100kB", "--format", "ndjson"],
            1,
            "hint: raise `--memory`",
        ),
    ];
    for (args, code, message) in cases {
        let ended = home.run(&[&["sql"], args].concat()).expect(code);
        assert!(ended.err.contains(message), "{args:?}: {ended:?}");
    }
}

#[test]
fn a_mistyped_column_gets_the_nearest_name_wherever_it_stands() {
    let home = rides();
    let near = |wrong: &str, right: &str| format!("error: column `{wrong}` not found; did you mean `{right}`?\n");
    for (sql, wrong, right) in [
        ("SELECT fard FROM rides", "fard", "fare"),
        ("SELECT id FROM rides WHERE fard > 1", "fard", "fare"),
        ("SELECT count(*) FROM rides GROUP BY dayy", "dayy", "day"),
        ("SELECT day FROM rides GROUP BY day HAVING max(fard) > 1", "fard", "fare"),
        ("SELECT id FROM rides ORDER BY fard", "fard", "fare"),
        ("SELECT id AS n FROM rides ORDER BY nn", "nn", "n"),
        ("SELECT r.id FROM rides r JOIN rides s ON r.idd = s.id", "idd", "id"),
        ("SELECT r.id FROM rides r JOIN rides s USING (idd)", "idd", "id"),
        ("SELECT r.fard FROM rides r", "fard", "fare"),
        ("SELECT id FROM rides r WHERE r.fard > 1", "fard", "fare"),
        ("SELECT batch.rides.fard FROM rides", "fard", "fare"),
        ("SELECT sum(fare) OVER (PARTITION BY dayy) FROM rides", "dayy", "day"),
        ("SELECT id FROM rides WHERE id IN (SELECT idd FROM rides)", "idd", "id"),
        ("WITH t AS (SELECT id, fare FROM rides) SELECT fard FROM t", "fard", "fare"),
    ] {
        assert_eq!(home.run(&["sql", sql]).expect(2).err, near(wrong, right), "{sql}");
    }
    let ended = home.run(&["sql", "SELECT id FROM rides ORDER BY x.fare"]).expect(2);
    assert!(ended.err.starts_with("error: column `x.fare` not found"), "{ended:?}");
}

#[test]
fn what_an_answer_covers_is_told_unless_the_command_is_quiet() {
    let home = rides();
    let sql = ["sql", "SELECT id FROM rides WHERE id = 1"];
    let ended = home.run(&sql).expect(0);
    assert!(ended.err.starts_with("as of {\"rides\":{"), "{ended:?}");
    let ended = home.run(&[&sql[..], &["--quiet"]].concat()).expect(0);
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("id\n1\n", ""));
    let ended = home.run(&[&sql[..], &["-q", "--stats", "--format", "table"]].concat()).expect(0);
    assert!(ended.err.starts_with("1 row in ") && ended.out.ends_with("\n(1 row)\n"), "{ended:?}");
    assert!(ended.err.ends_with(" in 1 of 2 files\n"), "{ended:?}");
}

#[test]
fn the_position_columns_can_be_left_out_of_a_star() {
    let home = rides();
    let sql = "SELECT * EXCLUDE (_source, _partition, _offset) FROM rides ORDER BY id LIMIT 1";
    assert_eq!(home.run(&["sql", sql]).expect(0).out, "id,fare,day\n1,2.0,mon\n");
}

#[test]
fn what_is_wrong_with_a_file_names_it() {
    let home = rides();
    home.write("ragged.csv", "a,b\n1,2\nx\n");
    // Beyond the rows by which types are found out.
    home.write("late.csv", &format!("a,b\n{}oops,3\n", "1,2\n".repeat(5000)));
    let mut data = files(&home.path("tidemark-data/store/curated/rides"), "parquet");
    data.retain(|file| file.to_string_lossy().contains("day=mon"));
    let mut bytes = fs::read(&data[0]).unwrap();
    bytes[4..200].fill(0xff);
    fs::write(&data[0], bytes).unwrap();
    for (sql, code, says) in [
        ("SELECT * FROM 'ragged.csv'", 1, "error: `ragged.csv` can't be read: "),
        ("SELECT sum(a) FROM 'late.csv'", 1, "as type 'Int64' for column 0 at line 500"),
        ("SELECT sum(a) FROM 'late.csv'", 1, "(in a file of `late.csv`)\n"),
        (
            "SELECT sum(id), max(fare), max(_offset) FROM rides",
            1,
            "(in a file of `rides`)\nhint: a dataset's table is built anew",
        ),
    ] {
        let ended = home.run(&["sql", sql]).expect(code);
        let first = ended.err.split("Row data").next().unwrap();
        assert!(ended.err.contains(says), "{sql}: {ended:?}");
        assert!(!first.contains("caused by"), "{sql}: {ended:?}");
    }
    fs::remove_file(&data[0]).unwrap();
    let ended = home.run(&["sql", "SELECT sum(id) FROM rides"]).expect(1);
    assert!(ended.err.contains(data[0].file_name().unwrap().to_str().unwrap()), "{ended:?}");
    assert!(ended.err.contains("hint: a dataset's table is built anew"), "{ended:?}");
}

#[test]
fn a_damaged_log_is_one_error_and_never_a_hole() {
    let home = rides();
    let mut commits = files(&home.path("tidemark-data/store/curated/rides"), "json");
    commits.retain(|file| file.to_string_lossy().contains("_delta_log"));
    commits.sort();
    for (text, says) in [("{\"add\": {", "Truncated"), ("", "is empty: the store lost its bytes")] {
        fs::write(commits.last().unwrap(), text).unwrap();
        let mut command = home.command(&["sql", "SELECT count(*) FROM rides"]);
        let ended = Home::end(command.env("RUST_BACKTRACE", "1")).expect(1);
        assert!(
            ended.err.starts_with("error: dataset `rides` can't be read: ") && ended.err.contains(says),
            "{ended:?}"
        );
        assert!(!ended.err.contains("buoyant_kernel") && ended.err.lines().count() <= 2, "{ended:?}");
    }
}

#[test]
fn a_time_limit_in_the_middle_of_opening_says_so_and_nothing_else() {
    let home = rides();
    let sql = "SELECT a.fare FROM rides a JOIN rides b ON a.id = b.id ORDER BY 1";
    let mut stopped = 0;
    for limit in ["1ms", "2ms", "3ms", "5ms", "8ms", "12ms", "20ms", "30ms", "45ms"] {
        for _ in 0..3 {
            let ended = home.run(&["sql", sql, "--timeout", limit, "--format", "csv"]);
            let message = format!("error: stopped after {}, the time limit\n", limit.replace("ms", " ms"));
            let hint = "hint: raise `--timeout`, or read fewer partitions\n";
            if ended.code == 0 {
                assert!(ended.err.starts_with("as of "), "{limit}: {ended:?}");
            } else {
                stopped += 1;
                assert_eq!((ended.code, ended.err.as_str()), (1, format!("{message}{hint}").as_str()), "{limit}");
            }
        }
    }
    assert!(stopped > 0, "no limit was short enough");
}

#[test]
fn an_empty_partition_text_is_null_and_its_rows_count() {
    let home = Home::new();
    home.define(TOML, &SQL.replace("day FROM", "coalesce(day, '') AS day FROM"));
    home.run(&["dataset", "apply", "rides"]).expect(0);
    home.write("week.csv", "id,fare,day\n1,2,mon\n2,3,\n4,4,tue\n");
    let ended = home.run(&["ingest", "rides", "week.csv"]).expect(0);
    assert!(ended.out.contains("3 records = 3 accepted"), "{ended:?}");
    for (sql, rows) in [
        ("SELECT count(*) AS n FROM rides", "n\n3\n"),
        ("SELECT id FROM rides WHERE day IS NULL", "id\n2\n"),
        ("SELECT id FROM rides WHERE day = ''", "id\n"),
        ("SELECT id FROM rides WHERE coalesce(day, '') = ''", "id\n2\n"),
        ("SELECT day, count(*) AS n FROM rides GROUP BY day ORDER BY day NULLS LAST", "day,n\nmon,1\ntue,1\n,1\n"),
        ("SELECT id FROM rides WHERE day <> 7 ORDER BY id", "id\n1\n4\n"),
    ] {
        let ended = home.run(&["sql", sql, "--format", "csv"]).expect(0);
        assert_eq!(ended.out, rows, "{sql}: {ended:?}");
    }
}

#[test]
fn a_signal_ends_a_statement_at_once_and_leaves_nothing_spilled() {
    let home = rides();
    home.write("spill/here.txt", "");
    // Sorts more than the memory holds, and looks at thousands of thousands of millions of pairs of what comes of it, which
    // takes hours. On one thread, so that no two sorts have to share the memory.
    let sql = "SELECT count(*) FROM range(1000000) a JOIN \
               (SELECT CAST(row_number() OVER (ORDER BY value % 1000) AS BIGINT) AS n FROM range(9000000)) b \
               ON a.value + b.n = -1";
    let folders = || fs::read_dir(home.path("spill")).unwrap().flatten().filter(|entry| entry.path().is_dir());
    let inside = |folder: fs::DirEntry| fs::read_dir(folder.path()).into_iter().flatten().flatten();
    // in the engine's folder is the disk manager's, and in that are the files
    let spilled = || folders().flat_map(inside).flat_map(inside).count();
    for signal in ["INT", "TERM"] {
        let mut command = home.command(&["sql", sql, "--memory", "64MB", "--threads", "1"]);
        let child = command.env("TMPDIR", home.path("spill")).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().unwrap();
        // Until it spills it may not even have begun.
        let goes_on = within(PATIENCE, Duration::from_millis(5), || match child.try_wait().unwrap() {
            Some(_) => Some(false),
            None => (spilled() > 0).then_some(true),
        });
        if goes_on != Some(true) {
            // It may have ended by itself.
            drop(child.kill());
            panic!("nothing was spilled: {:?}", child.wait_with_output());
        }
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(130), "{signal}: {ended:?}");
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "interrupted\n");
        assert_eq!(folders().count(), 0, "{signal}");
    }
}

#[test]
fn a_time_limit_does_not_wait_for_a_step_that_gives_way_late() {
    let home = Home::new();
    // Thousands of millions of pairs come out of each batch of rows, and none passes.
    let sql = "SELECT count(*) FROM range(300000) a JOIN range(300000) b \
               ON a.value % 2 = b.value % 2 AND a.value + b.value = -1";
    let started = Instant::now();
    let ended = home.run(&["--store-url", "file:.", "sql", sql, "--timeout", "100ms"]).expect(1);
    assert!(ended.err.starts_with("error: stopped after 100 ms"), "{ended:?}");
    // Generous: who waits for the step waits far longer, and a machine may be busy.
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn a_file_that_may_not_grow_is_an_error_of_its_writer() {
    let home = Home::new();
    home.write("out.csv", "");
    let mut command = home.command(&["--store-url", "file:.", "sql", "SELECT * FROM range(1000000)"]);
    let binary = command.get_program().to_owned();
    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    command = Command::new("sh");
    command
        .current_dir(home.path("."))
        .args(["-c", "ulimit -f 64; exec \"$0\" \"$@\" > out.csv"])
        .arg(binary)
        .args(args);
    let ended = Home::end(&mut command).expect(1);
    assert!(ended.err.contains("File too large"), "{ended:?}");
}

#[test]
fn what_the_store_lost_is_told_and_made_again_by_a_run() {
    let home = rides();
    let count = |says: &str, code: i32| {
        let ended = home.run(&["sql", "SELECT count(*) FROM rides", "--format", "csv"]).expect(code);
        assert!(ended.err.contains(says), "{ended:?}");
        ended.out
    };
    let whole = count("as of ", 0);
    let curated = home.path("tidemark-data/store/curated/rides");
    let mut commits = files(&curated, "json");
    commits.retain(|file| file.to_string_lossy().contains("_delta_log"));
    commits.sort();
    fs::remove_file(commits.last().unwrap()).unwrap();
    assert_ne!(
        count("note: rides is behind its ledger: of 1 entries, 1 are not in the table; `tidemark batch run", 0),
        whole
    );
    home.run(&["batch", "run", "rides"]).expect(0);
    assert_eq!(count("as of ", 0), whole);

    fs::remove_dir_all(curated.join("current")).unwrap();
    count("error: dataset `rides` has curated tables, but nothing under `curated/rides/current/` says", 1);
    home.run(&["batch", "run", "rides"]).expect(0);
    assert_eq!(count("as of ", 0), whole);
}

#[test]
fn files_in_place_need_no_store() {
    let home = Home::new();
    home.write("days.csv", "day,weekday\nmon,1\ntue,2\n");
    let ended = home.run(&["sql", "SELECT sum(weekday) AS n FROM 'days.csv'", "--format", "csv"]).expect(0);
    assert_eq!(ended.out, "n\n3\n");
    let ended = home.run(&["sql", "SELECT * FROM rides"]).expect(2);
    assert!(ended.err.contains("there is no store"), "{ended:?}");
    assert!(!home.path("tidemark-data").exists(), "asking creates nothing");
}

#[test]
fn a_name_in_capitals_and_an_argument_of_the_wrong_type_are_told_how_to_be_right() {
    let home = Home::new();
    home.write("sales.csv", "Amount,shop\n1,x\n");
    let ended = home.run(&["sql", "SELECT sum(Amount) FROM 'sales.csv'"]).expect(2);
    assert!(ended.err.contains("did you mean `\"Amount\"`?"), "{ended:?}");
    let ended = home.run(&["sql", "SELECT avg(shop) FROM 'sales.csv'"]).expect(2);
    assert!(ended.err.contains("no function is called as `avg(Utf8)`") && !ended.err.contains("bug"), "{ended:?}");
}

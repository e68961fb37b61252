use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

mod docs;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A small valid definition; tests replace parts of it.
const TOML: &str = r#"name = "orders"
partition_columns = ["day"]
columns = [
    { name = "id", type = "int64", required = true },
    { name = "at", type = "timestamp", aliases = ["Time"] },
    { name = "amount", type = "float64" },
]
[files]
format = "csv"
[event_time]
column = "at"
zone = "Europe/Berlin"
"#;
const SQL: &str = "SELECT id, at, CAST(amount AS DECIMAL(10, 2)) AS amount, CAST(at AS VARCHAR) AS day\nFROM input";

fn sources(toml: &str, sql: &str) -> Sources {
    [(DATASET_FILE, toml), (TRANSFORM_FILE, sql)].map(|(name, text)| (name.to_owned(), text.to_owned())).into()
}

fn problems(toml: &str, sql: &str) -> Vec<String> {
    match parse(&sources(toml, sql)) {
        Ok(_) => Vec::new(),
        Err(error) => error.problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_example_is_valid() {
    assert_eq!(problems(TOML, SQL), Vec::<String>::new());
}

#[test]
fn a_broken_definition_yields_all_its_problems() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/datasets/broken");
    let error = load(&folder).expect_err("it is broken");
    let shown = error.to_string().replace(&format!("{}/", folder.display()), "");
    let golden = r#"dataset.toml:1: `Trips` can't name a dataset (use lower-case letters, digits and `_`, starting with a letter)
dataset.toml:2: unknown key `colum` (did you mean `columns`?)
dataset.toml:5: unknown type `int` (did you mean `int64`?)
dataset.toml:6: unknown key `alias` in [[columns]] (did you mean `aliases`?)
dataset.toml:7: `Amount` can't name a column (use lower-case letters, digits and `_`, and put the header's spelling into aliases)
dataset.toml:8: `at` names two columns, `at` and `at` (case and white space do not count)
dataset.toml:12: unknown format `cvs` (did you mean `csv`?)
dataset.toml:16: `delimiter` has a meaning for csv only
dataset.toml:17: unknown input column `ids`
dataset.toml:18: `partitions` must be from 1 to 1024
dataset.toml:22: unknown time zone `America/New_Yrok` (did you mean `America/New_York`?)
dataset.toml:25: `max_reject_ratio` must be from 0 to 1
dataset.toml:26: unknown key `min_row` in [gate] (did you mean `min_rows`?)
views/daily.sql:1:1: expected: an SQL statement, found: SELEC"#;
    assert_eq!(shown, golden);
}

#[test]
fn every_cross_check_names_its_line() {
    let with = |extra: &str| format!("{TOML}{extra}");
    for (toml, sql, wanted) in [
        (
            TOML.replace("[\"day\"]", "[\"dya\"]"),
            SQL,
            "dataset.toml:2: partition column `dya` is not in the transform's output (did you mean `day`?)",
        ),
        (
            TOML.replace("[\"day\"]", "[\"id\"]"),
            SQL,
            "dataset.toml:2: partition column `id` is of type Int64, not a string (CAST(… AS VARCHAR) AS id in transform.sql)",
        ),
        (
            TOML.replace("column = \"at\"", "column = \"day\""),
            SQL,
            "dataset.toml:11: event-time column `day` is of type Utf8, not a timestamp",
        ),
        (
            TOML.replace("[files]\nformat = \"csv\"\n", ""),
            SQL,
            "dataset.toml:1: the dataset has neither files nor a stream (add [files] with format = \"csv\", or [stream] with a topic)",
        ),
        (
            TOML.replace("type = \"float64\"", "type = \"list<int64>\""),
            "SELECT id, at, CAST(at AS VARCHAR) AS day FROM input",
            "dataset.toml:9: csv can't hold column `amount`: it is a list or a struct (read it as a string, or use json)",
        ),
        (
            with("[[reject]]\nname = \"odd\"\nwhen = \"amont < 0\"\n"),
            SQL,
            "dataset.toml:15: unknown column `amont` (did you mean `amount`?)",
        ),
        (
            with("[[reject]]\nname = \"odd\"\nwhen = \"\"\"\nid > 0 AND\ninput.amont < 0\"\"\"\n"),
            SQL,
            "dataset.toml:17: unknown column `amont` (did you mean `amount`?)",
        ),
        (
            with("[[reject]]\nname = \"odd\"\nwhen = \"amount + 1\"\n"),
            SQL,
            "dataset.toml:15: `amount + 1` is of type Decimal128(23, 2), not a condition",
        ),
        (
            with("[[reject]]\nname = \"odd\"\nwhen = \"count(*) > 1\"\n"),
            SQL,
            "dataset.toml:15: `count(*)` is refused: an aggregate sees other records than the one at hand (aggregates belong into views/*.sql)",
        ),
        (
            with("[gate]\n[[gate.expect]]\nname = \"all\"\nthat = \"amount > 0\"\n"),
            SQL,
            "dataset.toml:16: `amount > 0` is not a condition over the whole batch (use aggregates, e.g. count(*) FILTER (WHERE …) = 0)",
        ),
        (
            with("[gate]\n[[gate.expect]]\nname = \"all\"\nthat = \"avg(amont) > 0\"\n"),
            SQL,
            "dataset.toml:16: unknown column `amont` (did you mean `amount`?)",
        ),
        (
            with("[gate]\n[[gate.expect]]\nname = \"all\"\nthat = \"sum(amount)\"\n"),
            SQL,
            "dataset.toml:16: `sum(amount)` is of type Decimal128(20, 2), not a condition",
        ),
        (
            with("[key]\ncolumns = [\"nr\"]\nversion_by = \"ad\"\n"),
            SQL,
            "dataset.toml:14: key column `nr` is not in the transform's output",
        ),
        (
            with("[key]\ncolumns = [\"id\"]\n[stream]\nformat = \"json\"\n"),
            SQL,
            "dataset.toml:13: a key without version_by: the stream's message key is not the dataset's key (set version_by, or partition_by to the input column that is the key)",
        ),
        (
            with("[key]\ncolumns = [\"id\"]\n[stream]\nformat = \"json\"\npartition_by = \"id\"\n"),
            SQL,
            "dataset.toml:13: a key without version_by: positions of files and of the stream do not compare (set version_by, or partition_by to the input column that is the key)",
        ),
    ] {
        let found = problems(&toml, sql);
        assert!(found.iter().any(|problem| problem == wanted), "wanted {wanted}\nfound  {found:#?}");
    }
}

#[test]
fn keys_whose_records_compare_are_accepted() {
    let stream_only =
        TOML.replace("[files]\nformat = \"csv\"\n", "[stream]\nformat = \"json\"\npartition_by = \"id\"\n");
    for toml in [
        format!("{stream_only}[key]\ncolumns = [\"id\"]\n"),
        format!("{TOML}[key]\ncolumns = [\"id\"]\n"),
        format!(
            "{TOML}[stream]\nformat = \"json\"\n[key]\ncolumns = [\"id\"]\nversion_by = \"at\"\ndelete_when = \"amount < 0\"\n"
        ),
    ] {
        assert_eq!(problems(&toml, SQL), Vec::<String>::new(), "{toml}");
    }
}

#[test]
fn a_folder_of_another_name_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let renamed = folder.path().join("renamed");
    std::fs::create_dir(&renamed).expect("created");
    for (name, text) in sources(TOML, SQL) {
        std::fs::write(renamed.join(name), text).expect("written");
    }
    let error = load(&renamed).expect_err("the names differ");
    assert!(error.problems[0].message.contains("`orders`") && error.problems[0].message.contains("`renamed`"));
    let orders = folder.path().join("orders");
    std::fs::rename(&renamed, &orders).expect("renamed");
    assert_eq!(load(&orders).expect("valid").definition.name, "orders");
}

#[test]
fn what_can_be_read_is_checked_though_a_file_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("within a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    let found = || -> Vec<String> {
        let error = load(folder.path()).expect_err("it is broken");
        let shown = error.to_string().replace(&format!("{}/", folder.path().display()), "");
        shown.lines().map(str::to_owned).collect()
    };
    write(DATASET_FILE, format!("colour = 1\n{TOML}").as_bytes());
    write("views/odd.sql", b"\xff");
    let unknown = "dataset.toml:1: unknown key `colour` (did you mean `columns`?)";
    let view = "views/odd.sql: not valid UTF-8";
    let mut problems = found();
    problems[0].truncate(unknown.find(" (").expect("a suggestion"));
    assert_eq!(problems, [&unknown[..problems[0].len()], "transform.sql: the file is missing", view]);
    write(TRANSFORM_FILE, b"\xff");
    assert_eq!(found()[1..], ["transform.sql: not valid UTF-8", view]);
    std::fs::remove_file(folder.path().join(DATASET_FILE)).expect("removed");
    write(TRANSFORM_FILE, b"SELEC id");
    assert_eq!(
        found(),
        ["dataset.toml: the file is missing", "transform.sql:1:1: expected: an SQL statement, found: SELEC", view]
    );
}

#[test]
fn views_are_checked_against_the_transforms_output() {
    let load_with = |views: &[(&str, &str)]| {
        let home = tempfile::tempdir().expect("a folder");
        let folder = home.path().join("orders");
        for part in ["views", "alerts"] {
            std::fs::create_dir_all(folder.join(part)).expect("made");
        }
        for (name, text) in
            sources(TOML, SQL).iter().map(|(n, t)| (n.as_str(), t.as_str())).chain(views.iter().copied())
        {
            std::fs::write(folder.join(name), text).expect("written");
        }
        let loaded = load(&folder);
        loaded.map_err(|error| error.to_string().replace(&format!("{}/", folder.display()), ""))
    };
    let right = [
        ("views/daily.sql", "SELECT day, sum(amount) AS total, max(_offset) AS last FROM batch.orders GROUP BY day"),
        ("views/own.sql", "WITH o AS (SELECT id FROM orders) SELECT o.id FROM o JOIN live.orders AS l ON l.id = o.id"),
        ("alerts/none.sql", "SELECT count(*) = 0 AS fires FROM merged.orders WHERE day > '2019'"),
    ];
    assert_eq!(load_with(&right).expect("valid").notes, Vec::<String>::new());
    let notes = load_with(&[("views/far.sql", "SELECT t.x FROM orders, batch.trips AS t")]).expect("valid").notes;
    assert_eq!(
        notes,
        ["views/far.sql: only its syntax was checked: it reads `batch.trips`, which is no table of `orders`"]
    );
    let wrong = [
        ("views/daily.sql", "SELECT day,\n  sum(amuont) AS total\nFROM orders GROUP BY day"),
        ("alerts/gone.sql", "DELETE FROM orders"),
    ];
    let shown = load_with(&wrong).expect_err("two are wrong");
    assert_eq!(
        shown,
        "alerts/gone.sql:1:1: `DELETE FROM orders` is not a SELECT\n\
         views/daily.sql:2:7: unknown column `amuont` (did you mean `amount`?)"
    );
}

/// The versions of the repository's own datasets. They may change only together with a change of the definition's
/// columns, formats, transform, rules, key, event time or partitioning, or of `SEMANTICS`: tables that were made with
/// the old version will be recomputed.
#[test]
fn versions_of_the_repository_are_stable() {
    for (name, version) in
        [("trips", "04bbbf1773290beb"), ("green", "884e7e54ecc576bb"), ("orders", "5a0bf60ab0b65adc")]
    {
        let loaded = load(&repository().join("datasets").join(name)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(definition_version(&loaded.definition).as_str(), version, "{name}");
    }
}

#[test]
fn a_version_moves_with_rows_and_with_nothing_else() {
    let version = |toml: &str, sql: &str| {
        let definition = parse(&sources(toml, sql)).unwrap_or_else(|error| panic!("{error}"));
        (definition_version(&definition), surroundings_version(&definition))
    };
    let (rows, around) = version(TOML, SQL);
    for same in [
        (TOML.to_owned(), format!("-- a comment\n{}", SQL.replace("SELECT", "select ").replace('\n', "  "))),
        (format!("# a comment\n{TOML}"), SQL.to_owned()),
    ] {
        assert_eq!(version(&same.0, &same.1), (rows.clone(), around.clone()), "{same:?}");
    }
    let (gated, gate) = version(&format!("{TOML}[gate]\nmin_rows = 7\n"), SQL);
    assert_eq!(gated, rows);
    assert_ne!(gate, around);
    for (toml, sql) in [
        (TOML.replace("Time", "Zeit"), SQL.to_owned()),
        (TOML.replace(", required = true", ""), SQL.to_owned()),
        (TOML.replace("Berlin", "Paris"), SQL.to_owned()),
        (TOML.replace("format = \"csv\"", "format = \"csv\"\ndelimiter = \";\""), SQL.to_owned()),
        (format!("{TOML}[[reject]]\nname = \"r\"\nwhen = \"id = 0\"\n"), SQL.to_owned()),
        (TOML.to_owned(), SQL.replace("10, 2", "10, 3")),
        (TOML.to_owned(), format!("{SQL} WHERE id > 0")),
    ] {
        assert_ne!(version(&toml, &sql).0, rows, "{toml}\n{sql}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn parse_never_panics(toml in "\\PC{0,200}", sql in "\\PC{0,200}") {
        prop_assert!(parse(&sources(&toml, &sql)).is_err());
    }

    #[test]
    fn parse_never_panics_on_damaged_definitions(
        at in 0usize..TOML.len(),
        length in 0usize..20,
        patch in "[\\[\\]{}\"=,.a-z0-9\\n<>]{0,8}",
        sql_at in 0usize..SQL.len(),
        sql_patch in "[()\"',.*;a-zA-Z0-9\\n +<>-]{0,8}",
    ) {
        let damaged = |text: &str, at: usize, patch: &str| {
            let end = (at + length).min(text.len());
            format!("{}{patch}{}", &text[..at], &text[end..])
        };
        // Both outcomes are right; what counts is that there is one, and that a refusal says something.
        if let Err(error) = parse(&sources(&damaged(TOML, at, &patch), &damaged(SQL, sql_at, &sql_patch))) {
            prop_assert!(!error.problems.is_empty());
        }
    }
}

#[test]
fn deep_and_long_sql_is_refused_in_bounded_space() {
    for sql in [
        format!("SELECT {}1{} AS x FROM input", "(".repeat(3_000), ")".repeat(3_000)),
        format!("SELECT 1{} AS x FROM input", " + 1".repeat(3_900)),
        format!("SELECT 1{} AS x FROM input", " + 1".repeat(50_000)),
        format!("SELECT {}1 AS x FROM input", "-".repeat(100_000)),
        format!("SELECT {}true AS x FROM input", "NOT ".repeat(7_000)),
    ] {
        assert!(!problems(TOML, &sql).is_empty());
    }
    let toml = format!("a = {}", "[".repeat(100_000));
    assert!(!problems(&toml, SQL).is_empty());
}

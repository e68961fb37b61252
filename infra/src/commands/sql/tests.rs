use clap::Parser;
use tidemark_batch::sql::{AsOf, DatasetAsOf, TableAsOf};
use tidemark_shared::position::{Coverage, LogPartition};

use super::prompt::{Command, command, complete};
use super::*;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    sql: SqlArgs,
}

fn parsed(args: &[&str]) -> Result<SqlArgs, clap::Error> {
    let args = std::iter::once("sql").chain(args.iter().copied());
    Cli::try_parse_from(args).map(|cli| cli.sql)
}

#[test]
fn lines_of_the_prompt_are_commands_or_text() {
    assert_eq!(command("\\q"), Some(Command::Quit));
    assert_eq!(command("exit;"), Some(Command::Quit));
    assert_eq!(command(" \\timing "), Some(Command::Timing));
    assert_eq!(command("\\d trips;"), Some(Command::Run("DESCRIBE trips".to_owned())));
    assert!(matches!(command("\\d"), Some(Command::Run(sql)) if sql.contains("information_schema.tables")));
    assert_eq!([".quit", ".exit"].map(command), [Some(Command::Quit), Some(Command::Quit)]);
    assert_eq!(command(".help"), Some(Command::Help));
    assert_eq!(command(".schema batch.trips;"), Some(Command::Run("DESCRIBE batch.trips".to_owned())));
    assert_eq!(command(".tables"), command("\\d"));
    assert_eq!(command("\\x"), Some(Command::Unknown("\\x".to_owned())));
    assert_eq!(command("SELECT 1;"), None);
}

#[test]
fn commands_of_the_prompt_are_told_from_statements() {
    for (text, wanted) in [
        (".tables", Some(".tables")),
        (" .schema batch.trips\nSELECT 1", Some(".schema")),
        ("\\d trips", Some("\\d")),
        ("SELECT .5", None),
        (".5", None),
        ("SELECT 1", None),
        ("", None),
    ] {
        assert_eq!(prompt_command(text), wanted, "{text}");
    }
}

#[test]
fn a_statement_is_complete_with_its_semicolon() {
    assert_eq!(complete("SELECT 1"), None);
    assert_eq!(complete("SELECT ';"), None);
    assert_eq!(complete("SELECT ';\n';"), Some(vec!["SELECT ';\n'".to_owned()]));
    assert_eq!(complete("SELECT 1; SELECT 2;"), Some(vec!["SELECT 1".to_owned(), "SELECT 2".to_owned()]));
    assert_eq!(complete("SELECT 1; SELECT 2"), None);
}

#[test]
fn arguments_become_a_query_with_its_limits() {
    let args =
        parsed(&["SELECT $1", "--param", "7", "--timeout", "30s", "--bytes-read-max", "2GB", "--memory", "64MiB"]);
    let args = args.expect("valid");
    let query = args.query("SELECT $1".to_owned());
    assert_eq!(query.params, [Param::Text("7".to_owned())]);
    assert_eq!(query.limits.timeout, Some(Duration::from_secs(30)));
    assert_eq!(query.limits.bytes_read_max, Some(2_000_000_000));
    assert_eq!(args.engine_config().memory_bytes_max, 64 * 1024 * 1024);
    for wrong in
        [["--json", "--format=csv"], ["SELECT 1", "--file=x.sql"], ["SELECT 1", "--table=x"], ["a", "--memory=0"]]
    {
        assert!(parsed(&wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_terminal_gets_a_table_of_bounded_length_and_a_pipe_gets_all_rows() {
    let args = parsed(&["SELECT 1"]).expect("valid");
    assert_eq!((args.format(true), args.format(false)), (Format::Table, Format::Csv));
    assert_eq!(args.table_limits(true).rows_max, Some(1000));
    assert_eq!(args.table_limits(false), TableLimits::default());
    assert_eq!(parsed(&["--json"]).expect("valid").format(true), Format::Json);
    let all = parsed(&["SELECT 1", "--max-rows", "all"]).expect("valid");
    assert_eq!(all.table_limits(true).rows_max, Some(u64::MAX));
}

#[test]
fn what_an_answer_covers_is_a_short_line_for_people_and_a_document_for_programs() {
    let mut positions = Coverage::new();
    positions.set(LogPartition::files(), 3);
    let dataset = DatasetAsOf {
        definition: "d".to_owned(),
        generation: "g".to_owned(),
        table_version: 17,
        coverage: positions.clone(),
        positions,
        ..DatasetAsOf::default()
    };
    let table = |version: Option<&str>| TableAsOf { location: "x".to_owned(), version: version.map(str::to_owned) };
    let as_of = AsOf {
        datasets: [("trips".to_owned(), dataset)].into(),
        tables: [("lookup.zones".to_owned(), table(Some("2"))), ("a.csv".to_owned(), table(None))].into(),
    };
    let as_of = serde_json::to_string(&as_of).expect("plain data");
    let line = as_of_line(&as_of, true);
    assert_eq!(line.as_deref(), Some("as of trips version 17, files up to 3; a.csv; lookup.zones version 2"));
    let nothing = serde_json::to_string(&AsOf::default()).expect("plain data");
    assert_eq!([true, false].map(|people| as_of_line(&nothing, people)), [None, None]);
    let document = as_of_line(&as_of, false).expect("something was read");
    let document: serde_json::Value =
        serde_json::from_str(document.strip_prefix("as of ").expect("so it begins")).expect("JSON");
    assert_eq!(document["trips"]["positions"]["files"], 3);
}

#[test]
fn who_names_a_file_to_a_server_is_told_how_it_is_read() {
    let refused = |code: &str| {
        let (code, message) = (code.to_owned(), "no".to_owned());
        SqlCommandError::Server(ClientError::Refused { status: 403, code, message, hint: None, retry_after_s: None })
    };
    assert!(refused("files_closed").hint().is_some_and(|hint| hint.contains("`--local`")));
    assert_eq!(refused("host_not_allowed").hint(), None);
}

#[test]
fn an_empty_file_is_told_from_a_missing_one() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let empty = folder.path().join("empty.sql");
    std::fs::write(&empty, "-- nothing\n").expect("writes");
    let read = |path: &Path| statements(&SqlArgs { file: Some(path.to_path_buf()), ..SqlArgs::default() });
    assert!(matches!(read(&empty), Err(SqlCommandError::Empty { .. })));
    assert!(matches!(read(&folder.path().join("none.sql")), Err(SqlCommandError::Input { .. })));
    std::fs::write(&empty, "SELECT 1;\nSELECT 2").expect("writes");
    assert_eq!(read(&empty).expect("reads"), Some(vec!["SELECT 1".to_owned(), "SELECT 2".to_owned()]));
}

//! Wrong usage: exit code 2, what to do, and nothing touched.

use crate::support::{Home, SQL, TOML};

#[test]
fn a_wrong_command_line_is_wrong_usage() {
    let home = Home::new();
    for args in [
        &["frobnicate"] as &[&str],
        &[],
        &["ingest", "rides"],
        &["ingest", "rides", "a.csv", "--withdraw", "--accept"],
        &["ingest", "rides", "a.csv", "b.csv", "--as", "c.csv"],
        &["rejects", "rides", "--limit", "0"],
        &["batch", "vacuum", "rides", "--older-than", "soon"],
        &["batch", "vacuum", "rides", "--older-than", "59m", "--dry-run"],
        &["--log", "rides=shout", "config"],
        &["--config", "missing.toml", "config"],
    ] {
        let ended = home.run(args).expect(2);
        assert_eq!(ended.out, "", "{args:?}");
        assert!(!ended.err.is_empty(), "{args:?}");
    }
    assert_eq!(home.names(), Vec::<String>::new());
}

#[test]
fn a_door_that_can_not_open_leaves_nothing_behind() {
    let home = Home::new();
    let ended = home.run(&["up", "--http", "0.0.0.0:0"]).expect(2);
    assert!(ended.err.contains("--tokens-file"), "{ended:?}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let ended = home.run(&["up", "--http", &address]).expect(1);
    assert!(ended.err.contains(&format!("the HTTP door can't open at {address}")), "{ended:?}");
    assert_eq!(home.names(), Vec::<String>::new());
}

#[test]
fn the_address_of_the_server_may_come_from_the_environment() {
    let home = Home::with_rides();
    for args in [&["status"] as &[&str], &["sql", "SELECT 1"], &["produce", "rides", "-"], &["audit", "rides"]] {
        let ended = Home::end(home.command(args).env("TIDEMARK_SERVER", "of-env:1")).expect(2);
        assert!(ended.err.contains("`of-env:1` is no address of a server"), "{args:?}: {ended:?}");
        let with_flag = [args, &["--server", "of-flag:1"]].concat();
        let ended = Home::end(home.command(&with_flag).env("TIDEMARK_SERVER", "of-env:1")).expect(2);
        assert!(ended.err.contains("`of-flag:1` is no address of a server"), "{args:?}: {ended:?}");
    }
    let local = ["sql", "SELECT 1 AS n", "--local", "--format", "csv"];
    let ended = Home::end(home.command(&local).env("TIDEMARK_SERVER", "of-env:1")).expect(0);
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("n\n1\n", ""));
}

#[test]
fn what_is_no_toml_is_one_problem() {
    let home = Home::new();
    home.define(&TOML.replace("columns = [\n", "columns = \n"), SQL);
    let ended = home.run(&["dataset", "check", "rides"]).expect(2);
    let problems = ended.err.lines().filter(|line| line.contains("dataset.toml:")).count();
    assert_eq!(problems, 1, "{ended:?}");
}

#[test]
fn commands_that_do_not_make_a_store_say_that_there_is_none_and_create_nothing() {
    let home = Home::new();
    home.write("a.csv", "id,fare,day\n1,2,mon\n");
    for args in [
        &["status"] as &[&str],
        &["status", "rides"],
        &["dataset", "list"],
        &["dataset", "show", "rides"],
        &["rejects", "rides"],
        &["ingest", "rides", "a.csv"],
        &["batch", "run", "rides"],
        &["batch", "recompute", "rides"],
        &["batch", "vacuum", "rides"],
        &["sql", "SELECT * FROM rides"],
    ] {
        let ended = home.run(args).expect(2);
        assert!(ended.err.starts_with("error: there is no store at file:"), "{args:?}: {ended:?}");
        assert!(ended.err.contains("\nhint: `tidemark dataset apply DIR` makes it"), "{args:?}: {ended:?}");
        assert_eq!(home.names(), ["a.csv"], "{args:?}");
    }
}

#[test]
fn a_log_that_nobody_can_read_stops_no_command() {
    let full = std::path::Path::new("/dev/full");
    if !full.exists() {
        return;
    }
    let home = Home::with_rides();
    let mut command = home.command(&["--log", "trace", "status", "--json"]);
    command.stderr(std::fs::File::options().write(true).open(full).expect("it can be written to"));
    let ended = Home::end(&mut command).expect(0);
    assert_eq!(ended.json()["datasets"][0]["dataset"], "rides");
}

#[test]
fn a_program_gets_errors_as_one_document() {
    let home = Home::new();
    let ended = home.run(&["status", "--json"]).expect(2);
    let document = ended.json();
    assert_eq!(document["error"]["code"], "not_found");
    assert!(document["error"]["message"].as_str().unwrap().starts_with("there is no store at file:"));
    assert!(document["error"]["hint"].is_string());
    assert_eq!(ended.err, "");
}

#[test]
fn a_program_gets_a_wrong_command_line_as_one_document() {
    let home = Home::new();
    for (args, message) in [
        (&["--json", "status", "--frob"] as &[&str], "unexpected argument '--frob' found"),
        (&["ingest", "rides", "--json"], "the following required arguments were not provided:"),
        (&["stats", "--json"], "unrecognized subcommand 'stats'"),
        (&["sql", "--json", "SELECT 1", "--timeout", "soon"], "invalid value 'soon' for '--timeout <TIME>'"),
    ] {
        let ended = home.run(args).expect(2);
        let error = &ended.json()["error"];
        assert_eq!((error["code"].as_str(), ended.err.as_str()), (Some("invalid"), ""), "{args:?}");
        assert!(error["message"].as_str().unwrap().contains(message), "{args:?}: {error}");
        assert!(error["hint"].as_str().is_some_and(|hint| !hint.contains('\n')), "{args:?}: {error}");
    }
    // Behind `--` it is a file's name.
    let ended = home.run(&["ingest", "--frob", "--", "--json"]).expect(2);
    assert!(ended.out.is_empty() && ended.err.starts_with("error: "), "{ended:?}");
    for args in [["--help"], ["--version"]] {
        assert!(home.run(&args).expect(0).out.contains("tidemark"), "{args:?}");
    }
}

#[test]
fn settings_of_the_batch_layer_have_flags_on_the_commands_that_they_concern() {
    let home = Home::with_rides();
    home.write("mon.csv", "id,fare,day\n1,2,mon\n");
    let settings =
        ["--threads", "1", "--buffer-bytes-max", "8MB", "--commit-bytes", "1MB", "--file-bytes-target", "1MB"];
    for command in
        [&["ingest", "rides", "mon.csv"] as &[&str], &["batch", "run", "rides"], &["batch", "recompute", "rides"]]
    {
        home.run(&[command, &settings[..]].concat()).expect(0);
        let ended = home.run(&[command, &["--threads", "9999"][..]].concat()).expect(2);
        assert!(ended.err.contains("--threads: `batch.threads`: `9999` is not between 0 and 1024"), "{ended:?}");
    }
    let ended = home.run(&["batch", "vacuum", "rides", "--grace", "1m"]).expect(2);
    assert!(ended.err.contains("`batch.grace` (1m) is shorter than `sql.timeout`"), "{ended:?}");
    let ended = home.run(&["sql", "SELECT 1", "--spill-bytes-max", "much"]).expect(2);
    assert!(ended.err.contains("--spill-bytes-max: `sql.spill_bytes_max`: `much` is not a size"), "{ended:?}");
}

#[test]
fn all_problems_of_a_definition_come_at_once_and_nothing_is_made() {
    let home = Home::new();
    let toml = TOML.replace("partition_columns", "partition_colums").replace("\"float64\"", "\"flaot64\"");
    home.define(&toml, SQL);
    for command in ["check", "apply"] {
        let ended = home.run(&["dataset", command, "rides"]).expect(2);
        assert!(ended.err.starts_with("error: the definition is not valid:\n"), "{ended:?}");
        assert!(ended.err.contains("rides/dataset.toml:8: "), "{ended:?}");
        assert!(ended.err.contains("did you mean `partition_columns`?"), "{ended:?}");
        assert!(ended.err.contains("rides/dataset.toml:5: "), "{ended:?}");
        assert!(ended.err.contains("flaot64"), "{ended:?}");
    }
    assert_eq!(home.names(), ["rides"]);
}

#[test]
fn a_transform_that_is_not_per_record_is_refused_with_its_reason() {
    let home = Home::new();
    home.define(TOML, "SELECT id, random() AS fare, day FROM input\n");
    let ended = home.run(&["dataset", "check", "rides"]).expect(2);
    assert!(ended.err.contains("transform.sql") && ended.err.contains("random()"), "{ended:?}");
    let ended = home.run(&["dataset", "check", "ride"]).expect(2);
    assert!(ended.err.starts_with("error: no such folder: ride\nhint: "), "{ended:?}");
}

#[test]
fn an_unknown_dataset_gets_the_nearest_name() {
    let home = Home::with_rides();
    home.write("a.csv", "id,fare,day\n1,2,mon\n");
    for args in [
        &["dataset", "show", "ride"] as &[&str],
        &["ingest", "ride", "a.csv"],
        &["status", "ride"],
        &["rejects", "ride"],
        &["batch", "run", "ride"],
        &["batch", "recompute", "ride"],
        &["batch", "vacuum", "ride"],
        &["audit", "ride"],
        &["audit", "ride", "--query", "SELECT count(*) FROM batch.rides"],
        &["audit", "ride", "--answers", "a.csv"],
    ] {
        let ended = home.run(args).expect(2);
        assert!(ended.err.contains("dataset `ride` is unknown"), "{args:?}: {ended:?}");
        assert!(ended.err.contains("did you mean `rides`?"), "{args:?}: {ended:?}");
    }
}

#[test]
fn the_configuration_counts_in_the_order_flag_environment_file_default() {
    let home = Home::new();
    home.write("tidemark.toml", "[batch]\nthreads = 3\n\n[store]\nurl = \"file:of-file\"\n");
    home.write("below/here.txt", "");
    let settings = |command: &mut std::process::Command| {
        let document = Home::end(command.current_dir(home.path("below"))).expect(0).json();
        let value = |key: &str| {
            let all = document["settings"].as_array().unwrap();
            let one = all.iter().find(|setting| setting["key"] == key).unwrap();
            (one["value"].as_str().unwrap().to_owned(), one["from"].as_str().unwrap().to_owned())
        };
        (value("store.url"), value("batch.threads"))
    };
    let (store, threads) = settings(&mut home.command(&["config", "--json"]));
    assert!(store.0.ends_with("/of-file") && !store.0.contains("below"), "{store:?}");
    assert!(store.1.ends_with("tidemark.toml:5"), "{store:?}");
    assert_eq!(threads.0, "3");
    let (store, threads) = settings(home.command(&["config", "--json"]).env("TIDEMARK_STORE_URL", "file:of-env"));
    assert!(store.0.ends_with("/below/of-env"), "{store:?}");
    assert_eq!((&store.1[..], &threads.0[..]), ("TIDEMARK_STORE_URL", "3"));
    let mut command = home.command(&["config", "--json", "--store-url", "file:of-flag"]);
    let (store, _) = settings(command.env("TIDEMARK_STORE_URL", "file:of-env"));
    assert!(store.0.ends_with("/below/of-flag"), "{store:?}");
    assert_eq!(store.1, "--store-url");
}

#[test]
fn a_wrong_configuration_stops_every_command_and_names_line_and_nearest_key() {
    let home = Home::new();
    home.write("tidemark.toml", "[batch]\nthreds = 3\n");
    let ended = home.run(&["status"]).expect(2);
    assert!(
        ended.err.contains("tidemark.toml:2: unknown key `threds` in [batch] (did you mean `threads`?)"),
        "{ended:?}"
    );
    home.write("tidemark.toml", "[doors]\naws = \"127.0.0.1:0\"\n");
    let ended = home.run(&["config"]).expect(0);
    assert!(ended.err.contains("tidemark.toml:2: [doors] aws does nothing"), "{ended:?}");
    assert_eq!(home.run(&["config", "--quiet"]).expect(0).err, "");
}

#[test]
fn secrets_are_not_shown() {
    let home = Home::new();
    let mut command = home.command(&["config", "--log", "debug"]);
    let ended = Home::end(command.env("TIDEMARK_CATALOG_URL", "postgres://u:hidden@localhost/db")).expect(0);
    assert!(ended.out.contains("postgres://u:***@localhost/db"), "{ended:?}");
    assert!(!format!("{ended:?}").contains("hidden"), "{ended:?}");
}

#[test]
fn no_refusal_shows_a_secret_of_an_address() {
    let home = Home::with_rides();
    let secret = "PW-s3cret";
    for (variable, args) in [
        ("TIDEMARK_LOG_URL=kafka://u:PW-s3cret@h", &["up"] as &[&str]),
        ("TIDEMARK_LOG_URL=kafka://h?x=PW-s3cret", &["up"]),
        ("TIDEMARK_LIVE_URL=opensearch+http://u:PW-s3cret@h/A", &["up"]),
        ("TIDEMARK_LIVE_URL=http://u:PW-s3cret@h", &["up"]),
        ("TIDEMARK_CATALOG_URL=postgres://u@h/db?sslmode=PW-s3cret", &["batch", "run", "rides"]),
        ("TIDEMARK_CATALOG_URL=mysql://u:PW-s3cret@h/db", &["batch", "run", "rides"]),
        ("TIDEMARK_SERVER=https://u:PW-s3cret@h", &["status"]),
        ("", &["status", "--store-url", "s3://k:PW-s3cret@bucket/x"]),
        ("", &["status", "--store-url", "s3://bucket/x?key=PW-s3cret"]),
        ("", &["status", "--store-url", "http://u:PW-s3cret@h"]),
        ("", &["status", "--server", "http://u:PW-s3cret@127.0.0.1:1/?key=PW-s3cret"]),
        ("", &["sql", "SELECT 1", "--server", "http://u:PW-s3cret@127.0.0.1:1"]),
        ("", &["ingest", "rides", "s3://k:PW-s3cret@bucket/x"]),
        ("", &["ingest", "rides", "http://u:PW-s3cret@h/x"]),
        ("", &["sql", "SELECT * FROM a", "--local", "--table", "a=s3://k:PW-s3cret@bucket/x"]),
        ("", &["sql", "SELECT * FROM a", "--local", "--table", "a=http://u:PW-s3cret@h/x"]),
        ("", &["config", "postgres://u:PW-s3cret@h/db"]),
        ("", &["config", "--json", "postgres://u:PW-s3cret@h/db"]),
        ("", &["config", "--catalog-ur=postgres://u:PW-s3cret@h/db"]),
    ] {
        let mut command = home.command(args);
        if let Some((name, value)) = variable.split_once('=') {
            command.env(name, value);
        }
        let ended = Home::end(&mut command);
        assert_ne!(ended.code, 0, "{variable} {args:?}: {ended:?}");
        assert!(!format!("{ended:?}").contains(secret), "{variable} {args:?}: {ended:?}");
    }
}

#[test]
fn the_shown_configuration_is_one_that_can_be_read() {
    let home = Home::new();
    let shown = home.run(&["config"]).expect(0).out;
    home.write("tidemark.toml", &shown);
    let again = home.run(&["config", "--json"]).expect(0).json();
    let settings = again["settings"].as_array().unwrap();
    assert!(settings.iter().all(|setting| setting["from"].as_str().unwrap().contains("tidemark.toml:")), "{again}");
}

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use tidemark_kafka::Security;

use super::*;

const CWD: &str = "/srv/here";
const FILE: &str = "/srv/tidemark.toml";

fn from(text: Option<&str>, env: &[(&str, &str)], flags: &Flags) -> Result<Config, ConfigError> {
    let file = text.map(|text| FileLayer::parse(Path::new(FILE), text)).transpose()?;
    let env: BTreeMap<String, String> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    resolve(file.as_ref(), &|name| env.get(name).cloned(), flags, Path::new(CWD))
}

fn problems(text: &str) -> Vec<String> {
    from(Some(text), &[], &Flags::default()).expect_err("the file is wrong").problems
}

#[test]
fn without_any_layer_the_defaults_count() {
    let config = from(None, &[], &Flags::default()).expect("defaults are valid");
    assert_eq!(config.data_dir, Path::new("/srv/here/tidemark-data"));
    assert_eq!(config.store_url, "file:/srv/here/tidemark-data/store");
    assert_eq!(config.catalog_url, "sqlite:/srv/here/tidemark-data/catalog.db");
    assert_eq!(config.batch, BatchSettings::default());
    assert_eq!(config.sql.timeout, Duration::from_secs(600));
    assert_eq!(config.sql.bytes_read_max, None);
    assert!(config.effective.iter().all(|value| value.origin == Origin::Default));
}

#[test]
fn a_flag_counts_before_the_environment_and_that_before_the_file() {
    let text = "[store]\nurl = \"file:of-file\"\n";
    let env = [("TIDEMARK_STORE_URL", "file:of-env")];
    let flags = Flags::from([("--store-url", "file:of-flag".to_owned())]);
    type Layer<'a> = (Option<&'a str>, &'a [(&'a str, &'a str)], Flags, &'a str, Origin);
    let layers: [Layer<'_>; 4] = [
        (None, &[], Flags::default(), "file:/srv/here/tidemark-data/store", Origin::Default),
        (Some(text), &[], Flags::default(), "file:/srv/of-file", Origin::File { line: 2 }),
        (
            Some(text),
            &env,
            Flags::default(),
            "file:/srv/here/of-env",
            Origin::Env { name: "TIDEMARK_STORE_URL".to_owned() },
        ),
        (Some(text), &env, flags, "file:/srv/here/of-flag", Origin::Flag { name: "--store-url" }),
    ];
    for (file, env, flags, url, origin) in layers {
        let config = from(file, env, &flags).expect("valid");
        assert_eq!(config.store_url, url);
        let value = config.effective.iter().find(|value| value.key.path() == "store.url").expect("listed");
        assert_eq!((&value.shown[..], &value.origin), (url, &origin));
    }
}

#[test]
fn paths_of_the_file_are_relative_to_its_folder_and_urls_derive_from_the_data_directory() {
    let config = from(Some("data_dir = \"d\"\n"), &[], &Flags::default()).expect("valid");
    assert_eq!(config.data_dir, Path::new("/srv/d"));
    assert_eq!(config.store_url, "file:/srv/d/store");
    let flags = Flags::from([("--data-dir", "e".to_owned())]);
    let config = from(Some("data_dir = \"d\"\n"), &[], &flags).expect("valid");
    assert_eq!(config.catalog_url, "sqlite:/srv/here/e/catalog.db");
    assert_eq!(config.warnings, Vec::<String>::new());
    let config = from(Some("[store]\nurl = \"s3://b/p\"\n"), &[], &flags).expect("valid");
    assert_eq!(config.store_url, "s3://b/p");
    assert_eq!(config.warnings, ["/srv/tidemark.toml:2: store.url stays s3://b/p, whatever the data directory"]);
}

#[test]
fn every_setting_has_a_flag_and_one_out_of_bounds_names_it() {
    // how to reach a broker is no matter of one call, and its secrets not for a command line
    let flagged = |key: &Key| key.flag.is_some() != (key.section == "log.kafka");
    assert!(KEYS.iter().all(flagged), "{KEYS:?}");
    let flags = Flags::from([("--grace", "2h".to_owned()), ("--threads", "3".to_owned())]);
    let config = from(Some("[batch]\nthreads = 2\n"), &[], &flags).expect("valid");
    assert_eq!((config.batch.grace, config.batch.threads), (Duration::from_secs(7_200), 3));
    let wrong = Flags::from([("--commit-bytes", "many".to_owned())]);
    let error = from(None, &[], &wrong).expect_err("no size");
    assert!(error.problems[0].starts_with("--commit-bytes: `batch.commit_bytes`: `many` is not a size"), "{error}");
}

#[test]
fn an_empty_variable_is_none() {
    let config = from(None, &[("TIDEMARK_BATCH_THREADS", "")], &Flags::default()).expect("valid");
    assert_eq!(config.batch.threads, 0);
}

#[test]
fn sizes_and_durations_are_read_as_people_write_them() {
    let text = "[batch]\nthreads = 4\nbuffer_bytes_max = \"64MiB\"\ngrace = \"2h\"\n[sql]\nbytes_read_max = 1000\n";
    let config = from(Some(text), &[("TIDEMARK_SQL_TIMEOUT", "90s")], &Flags::default()).expect("valid");
    assert_eq!(config.batch.threads, 4);
    assert_eq!(config.batch.buffer_bytes_max, 64 << 20);
    assert_eq!(config.batch.grace, Duration::from_secs(7_200));
    assert_eq!(config.sql.bytes_read_max, Some(1_000));
    assert_eq!(config.sql.timeout, Duration::from_secs(90));
}

#[test]
fn an_engine_that_nobody_configures_has_the_limits_that_are_documented() {
    let config = from(None, &[], &Flags::default()).expect("valid").sql;
    let engine = tidemark_batch::sql::SqlConfig::default();
    assert_eq!(config.memory_bytes_max, engine.memory_bytes_max as u64);
    assert_eq!(config.spill_bytes_max, engine.spill_bytes_max);
    let none = from(Some("[sql]\nspill_bytes_max = 0\n"), &[], &Flags::default()).expect("valid");
    assert_eq!(none.sql.spill_bytes_max, 0);
}

#[test]
fn all_problems_of_a_file_come_at_once_with_their_lines() {
    let text = "[stroe]\nurl = \"x\"\n[batch]\nbufer_bytes_max = 3\nzzz = 1\nthreads = true\n";
    let mut found = problems(text);
    found.sort();
    assert_eq!(
        found,
        [
            "/srv/tidemark.toml:1: unknown key `stroe` (did you mean `store`?)",
            "/srv/tidemark.toml:4: unknown key `bufer_bytes_max` in [batch] (did you mean `buffer_bytes_max`?)",
            "/srv/tidemark.toml:5: unknown key `zzz` in [batch] (known here: threads, buffer_bytes_max, commit_bytes, \
             file_bytes_target, grace, interval, vacuum_interval)",
            "/srv/tidemark.toml:6: `batch.threads` must be a text or a number",
        ]
    );
}

#[test]
fn a_wrong_value_names_its_place() {
    let text = "[batch]\nbuffer_bytes_max = \"many\"\nthreads = 5000\n[sql]\ntimeout = \"0s\"\n";
    assert_eq!(
        problems(text),
        [
            "/srv/tidemark.toml:3: `batch.threads`: `5000` is not between 0 and 1024",
            "/srv/tidemark.toml:2: `batch.buffer_bytes_max`: `many` is not a size such as `192MiB`, `4GB` or a number \
             of bytes",
            "/srv/tidemark.toml:5: `sql.timeout`: `0s` is shorter than 1ms",
        ]
    );
    let error = from(None, &[("TIDEMARK_BATCH_GRACE", "soon")], &Flags::default()).expect_err("wrong");
    assert!(error.problems[0].starts_with("TIDEMARK_BATCH_GRACE: `batch.grace`: `soon` is not a duration"), "{error}");
}

#[test]
fn text_that_is_no_toml_is_a_problem_with_a_line() {
    let found = problems("[store]\nurl = \n");
    assert!(found[0].starts_with("/srv/tidemark.toml:2: "), "{found:?}");
}

#[test]
fn the_grace_is_not_shorter_than_the_longest_query() {
    let found = problems("[batch]\ngrace = \"1m\"\n");
    assert!(found[0].contains("`batch.grace` (1m) is shorter than `sql.timeout` (10m)"), "{found:?}");
    from(Some("[batch]\ngrace = \"1m\"\n[sql]\ntimeout = \"1m\"\n"), &[], &Flags::default()).expect("valid");
}

#[test]
fn an_embedded_log_and_views_in_memory_are_the_processs_own() {
    let own = |env: &[(&str, &str)]| {
        let server = from(None, env, &Flags::default()).expect("valid").server;
        (server.own_log(), server.own_views())
    };
    let (kafka, opensearch) =
        (("TIDEMARK_LOG_URL", "kafka://k:1"), ("TIDEMARK_LIVE_URL", "opensearch+http://o:1/memory"));
    assert_eq!(own(&[]), (true, true));
    assert_eq!(own(&[("TIDEMARK_LOG_URL", "embedded:x"), ("TIDEMARK_LIVE_URL", "memory:")]), (true, true));
    assert_eq!(own(&[kafka]), (false, true));
    assert_eq!(own(&[opensearch]), (true, false));
    assert_eq!(own(&[kafka, opensearch]), (false, false));
}

/// H7: views in memory are one process's, whose own statements hold on to what they read; those in a cluster are read by others.
#[test]
fn the_grace_of_views_that_others_read_is_not_shorter_than_the_longest_query() {
    let grace = |cluster: bool, settings: &[(&str, &str)]| {
        let url = cluster.then_some(("TIDEMARK_LIVE_URL", "opensearch+http://o:1"));
        let env: Vec<(&str, &str)> = url.into_iter().chain(settings.iter().copied()).collect();
        from(None, &env, &Flags::default()).map(|config| config.server.live_grace.as_secs())
    };
    let (short, long) = (("TIDEMARK_LIVE_GRACE", "3s"), ("TIDEMARK_LIVE_GRACE", "20m"));
    let (timeout, part) = (("TIDEMARK_SQL_TIMEOUT", "3s"), ("TIDEMARK_ROLES", "serving"));
    for (cluster, settings, wanted) in [
        (false, vec![], 2),
        (false, vec![short], 3),
        (true, vec![], 600),
        (true, vec![part], 600),
        (true, vec![timeout], 3),
        (true, vec![short, timeout], 3),
        (true, vec![long], 1_200),
    ] {
        assert_eq!(grace(cluster, &settings).expect("valid"), wanted, "{cluster} {settings:?}");
    }
    for settings in [vec![short], vec![short, part]] {
        let error = grace(true, &settings).expect_err("others' queries would lose rows");
        let begin = "`live.grace` (3s) is shorter than `sql.timeout` (10m): ";
        assert!(error.problems[0].starts_with(begin), "{error}");
    }
}

#[test]
fn the_grace_is_not_longer_than_a_table_remembers_what_was_removed() {
    let found = problems("[batch]\ngrace = \"169h\"\n");
    assert!(found[0].contains("is longer than 7d"), "{found:?}");
    from(Some("[batch]\ngrace = \"7d\"\n"), &[], &Flags::default()).expect("valid");
}

#[test]
fn doors_of_later_builds_warn_and_do_nothing() {
    let config = from(Some("[doors]\nhttp = \"127.0.0.1:0\"\naws = \"127.0.0.1:4566\"\n"), &[], &Flags::default());
    let config = config.expect("valid");
    assert_eq!(config.warnings, ["/srv/tidemark.toml:3: [doors] aws does nothing: this build lacks that door"]);
    assert_eq!(config.server.http.to_string(), "127.0.0.1:0");
}

#[test]
fn the_servers_settings_are_read() {
    let text = "[log]\nurl = \"embedded:x\"\nretention_age = \"2d\"\n[batch]\ninterval = \"none\"\n";
    let config = from(Some(text), &[], &Flags::default()).expect("valid").server;
    assert_eq!((&config.log_url[..], &config.live_url[..]), ("embedded:/srv/x", "memory:"));
    assert_eq!(config.retention.age_max, Some(Duration::from_secs(2 * 86_400)));
    assert_eq!((config.batch_interval, config.tokens_file), (None, None));
    let wrong = problems("[doors]\nhttp = \"nowhere\"\n");
    assert!(wrong[0].contains("is not `host:port`"), "{wrong:?}");
}

#[test]
fn secrets_are_masked() {
    let env = [("TIDEMARK_CATALOG_URL", "postgres://u:hidden@h/db")];
    let config = from(None, &env, &Flags::default()).expect("valid");
    assert_eq!(config.catalog_url, "postgres://u:hidden@h/db");
    assert!(config.effective.iter().all(|value| !value.shown.contains("hidden")));
    assert!(config.effective.iter().any(|value| value.shown == "postgres://u:***@h/db"));
}

/// Whether the address is taken or refused here.
#[test]
fn no_layer_shows_a_secret_of_an_address() {
    let urls = [
        "s3://k:PW-s3cret@bucket/x",
        "s3:/k:PW-s3cret@bucket",
        "http://u:PW-s3cret@h",
        "http://h/?x=1&token=PW-s3cret",
        "http://h/#PW-s3cret",
        "kafka://u:PW-s3cret@h:1,h2:1",
        "opensearch+https://u:PW-s3cret@h/lake",
        "opensearch+http://h?x=PW-s3cret",
        "postgres://u:PW-s3cret@h/db?password=PW-s3cret",
        "postgres://u:1/PW-s3cret@h/db",
        "sqlite:x?key=PW-s3cret",
        "sqlite://u:PW-s3cret@h/x",
        "embedded://u:PW-s3cret@h/x",
        "u:PW-s3cret@h:1",
    ];
    let told = |result: Result<Config, ConfigError>| match result {
        Ok(config) => {
            let shown: Vec<String> = config.effective.into_iter().map(|value| value.shown).collect();
            format!("{shown:?} {:?}", config.warnings)
        }
        Err(error) => format!("{error} {error:?}"),
    };
    let addresses = KEYS.iter().filter(|key| matches!(key.shape, Shape::Url | Shape::EndpointOrNone));
    for (key, url) in addresses.flat_map(|key| urls.map(|url| (key, url))) {
        let text = format!("[{}]\n{} = \"{url}\"\n", key.section, key.name);
        let flag = Flags::from([(key.flag.expect("every address has a flag"), url.to_owned())]);
        // The data directory of a call has what the file says of addresses told again.
        let data_dir = Flags::from([("--data-dir", "d".to_owned())]);
        for result in [
            from(Some(&text), &[], &data_dir),
            from(None, &[(key.env().as_str(), url)], &Flags::default()),
            from(None, &[], &flag),
        ] {
            let told = told(result);
            assert!(!told.contains("s3cret"), "{} {url}: {told}", key.path());
        }
    }
}

#[test]
fn a_log_on_kafka_has_settings_of_its_own_and_its_topics_keep_what_they_say() {
    let text = "[log]\nurl = \"kafka://a:1,b:2\"\n[log.kafka]\nsecurity_protocol = \"sasl_ssl\"\nca_file = \"ca.pem\"\n\
                username = \"u\"\nreplication_factor = 3\n";
    let env = [("TIDEMARK_LOG_KAFKA_PASSWORD", "hidden")];
    let config = from(Some(text), &env, &Flags::default()).expect("valid");
    let server = &config.server;
    assert_eq!(server.log_url, "kafka://a:1,b:2");
    let protection = (server.kafka.security_protocol, server.kafka.sasl_mechanism);
    assert_eq!(protection, (Security::SaslSsl, SaslMechanism::ScramSha512));
    assert_eq!(server.kafka.ca_file.as_deref(), Some(Path::new("/srv/ca.pem")));
    assert_eq!((server.kafka.username.as_deref(), server.kafka.replication_factor), (Some("u"), Some(3)));
    assert_eq!(server.kafka.password.as_ref().map(Secret::reveal), Some("hidden"));
    assert!(!format!("{config:?}").contains("hidden"), "a password is shown");
    assert_eq!(server.retention, Retention::default(), "others read a topic, too");
    let wrong = problems("[log.kafka]\nsecurity_protocol = \"tls\"\nuser = \"u\"\n");
    assert!(wrong[0].starts_with("/srv/tidemark.toml:3: unknown key `user` in [log.kafka]"), "{wrong:?}");
    let wrong = problems("[log.kafka]\nsecurity_protocol = \"tls\"\n");
    assert!(wrong[0].ends_with("`tls` is none of plaintext, ssl, sasl_plaintext, sasl_ssl"), "{wrong:?}");
    let wrong = problems("[log.kafka]\nsasl_mechanism = \"GSSAPI\"\n");
    assert!(wrong[0].starts_with("/srv/tidemark.toml:2: `log.kafka.sasl_mechanism`: `GSSAPI` is none of"), "{wrong:?}");
    let wrong = problems("[log]\nurl = \"kafka://a:1\"\nretention_bytes = \"2GiB\"\n");
    assert!(wrong[0].contains("can't be kept on Kafka"), "{wrong:?}");
}

#[test]
fn traces_are_off_until_somebody_says_where_they_go() {
    let sent = |text: Option<&str>, env: &[(&str, &str)], flags: &[(&'static str, &str)]| {
        let flags = flags.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        let traces = from(text, env, &flags).expect("valid").traces;
        traces.map(|traces| (traces.endpoint, traces.sample.get()))
    };
    let (own, common) = ("TIDEMARK_TRACES_ENDPOINT", ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://common/otlp/"));
    let to = |endpoint: &str, sample| Some((endpoint.to_owned(), sample));
    assert_eq!(sent(None, &[], &[]), None);
    assert_eq!(sent(None, &[("TIDEMARK_TRACES_SAMPLE", "0.5")], &[]), None);
    let file = "[traces]\nendpoint = \"http://file:4318\"\nsample = 0.25\n";
    assert_eq!(sent(Some(file), &[], &[]), to("http://file:4318", 0.25));
    assert_eq!(sent(Some("[traces]\nendpoint = \"http://file\"\nsample = 0\n"), &[], &[]), to("http://file", 0.0));
    assert_eq!(sent(None, &[common], &[]), to("https://common/otlp", 1.0));
    assert_eq!(sent(Some(file), &[common], &[]), to("http://file:4318", 0.25));
    assert_eq!(sent(Some(file), &[common, (own, "none")], &[]), None);
    assert_eq!(sent(Some(file), &[(own, "http://env:1/")], &[]), to("http://env:1", 0.25));
    let flags = [("--traces-endpoint", "http://flag"), ("--traces-sample", "0.0000004")];
    assert_eq!(sent(Some(file), &[(own, "http://env:1/")], &flags), to("http://flag", 0.0));
    let config = from(None, &[common], &Flags::default()).expect("valid");
    let value = config.effective.iter().find(|value| value.key.path() == "traces.endpoint").expect("listed");
    assert_eq!(value.origin, Origin::Env { name: common.0.to_owned() });
}

#[test]
fn where_traces_go_is_an_address_and_their_share_a_share() {
    let refused = |name: &str, text: &str| {
        let error = from(None, &[(name, text)], &Flags::default()).expect_err(text);
        error.problems.join("\n")
    };
    for text in ["collector:4318", "grpc://collector", "http://", "http:///v1", "http://:1", "http://a b", "http://a?x"]
    {
        let told = refused("TIDEMARK_TRACES_ENDPOINT", text);
        assert!(told.starts_with("TIDEMARK_TRACES_ENDPOINT: `traces.endpoint`: `"), "{told}");
    }
    for text in ["1.5", "-0.1", "NaN", "inf", "all"] {
        let told = refused("TIDEMARK_TRACES_SAMPLE", text);
        assert!(told.starts_with("TIDEMARK_TRACES_SAMPLE: `traces.sample`: `"), "{told}");
    }
    let others = from(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")], &Flags::default()).expect("valid");
    assert_eq!(others.traces, None);
    let warning = "OTEL_EXPORTER_OTLP_ENDPOINT counts for nothing: `collector:4317` begins with neither";
    assert!(others.warnings[0].starts_with(warning), "{:?}", others.warnings);
}

#[test]
fn where_traces_go_holds_no_credentials() {
    let address = "http://user:hidden@collector";
    let error = from(None, &[("TIDEMARK_TRACES_ENDPOINT", address)], &Flags::default()).expect_err("credentials");
    let told = error.problems.join("\n");
    let begin = "TIDEMARK_TRACES_ENDPOINT: `traces.endpoint`: `http://***@collector` holds a user or a password";
    assert!(told.starts_with(begin) && told.contains("`OTEL_EXPORTER_OTLP_HEADERS`"), "{told}");
    let others = from(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", address)], &Flags::default()).expect("valid");
    assert_eq!(others.traces, None);
    assert!(others.warnings[0].contains("OTEL_EXPORTER_OTLP_ENDPOINT counts for nothing"), "{:?}", others.warnings);
    for told in [format!("{error:?}"), format!("{others:?}")] {
        assert!(!told.contains("hidden"), "a password is shown: {told}");
    }
}

#[test]
fn each_key_is_listed_once() {
    let mut paths: Vec<String> = KEYS.iter().map(Key::path).collect();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), KEYS.len());
}

/// What somebody uncomments is taken, and changes nothing where it stands as it is.
#[test]
fn the_example_has_every_setting_with_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tidemark.example.toml");
    let text = std::fs::read_to_string(&path).expect("it can be read");
    let is_setting = |line: &&str| line.starts_with('[') || line.contains(" = ");
    let settings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# ")).filter(is_setting).collect();
    let example = FileLayer::parse(&path, &settings.join("\n")).expect("it is valid");
    let sections: BTreeSet<&str> =
        settings.iter().filter_map(|line| line.strip_prefix('[')?.strip_suffix(']')).collect();
    for key in KEYS {
        assert!(key.section.is_empty() || sections.contains(key.section), "there is no [{}]", key.section);
        // Of Kafka and of traces it shows what somebody has who needs them.
        if ["log.kafka", "traces"].contains(&key.section) {
            continue;
        }
        let value = example.values.get(&key.path()).map(|(value, _)| value.as_str());
        // A path is relative to the file, and to the data folder where nobody says anything.
        let wanted = if key.default.contains('<') { value.or(Some("a path")) } else { Some(key.default) };
        assert_eq!(value, wanted, "{}", key.path());
    }
}

//! Layers of texts → the configuration. Pure: the environment comes in as a function.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidemark_batch::{BatchSettings, GRACE_MAX};
use tidemark_kafka::Security;
use tidemark_shared::log::Retention;
use tidemark_shared::secrets::shown_url;

use super::keys::{KEYS, Key, Shape};
use super::urls::{EMBEDDED, KAFKA, MEMORY};
use super::{
    Config, ConfigError, Effective, FileLayer, Flags, Fraction, KafkaConfig, LogFormat, Origin, Roles, SaslMechanism,
    Secret, ServerConfig, SqlLimits, TracesConfig, kafka, traces,
};
use crate::units::{format_duration, parse_bytes, parse_duration};

const RETENTION_BYTES: &str = "log.retention_bytes";
/// Grace of rows in views that this process alone reads: its own statements hold on to what they read besides.
const GRACE_ALONE: Duration = Duration::from_secs(2);

/// A value read from its text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Path(PathBuf),
    Url(String),
    Number(u64),
    Nothing,
    Duration(Duration),
    Address(SocketAddr),
    Text(String),
    Secret(Secret),
    Roles(Roles),
    Fraction(Fraction),
    Protocol(Security),
    Mechanism(SaslMechanism),
}

/// A value's text, before it is read.
struct Given {
    text: String,
    origin: Origin,
}

/// How a value is shown to people; `text` is how it was given.
fn shown(value: &Value, text: String) -> String {
    match value {
        Value::Path(path) => path.display().to_string(),
        Value::Url(url) => shown_url(url),
        Value::Secret(_) => "***".to_owned(),
        Value::Number(_)
        | Value::Nothing
        | Value::Duration(_)
        | Value::Address(_)
        | Value::Text(_)
        | Value::Roles(_)
        | Value::Fraction(_)
        | Value::Protocol(_)
        | Value::Mechanism(_) => text,
    }
}

/// The configuration that `file`, the environment and `flags` make, in a process that runs in `cwd`.
///
/// # Errors
/// Everything that is wrong with any of the values that count.
pub fn resolve(
    file: Option<&FileLayer>,
    env: &dyn Fn(&str) -> Option<String>,
    flags: &Flags,
    cwd: &Path,
) -> Result<Config, ConfigError> {
    let (mut problems, mut warned) = (Vec::new(), Vec::new());
    let home = file.and_then(|file| file.path.parent()).unwrap_or(cwd);
    let mut data_dir = home.to_owned();
    let mut values = Vec::with_capacity(KEYS.len());
    let mut effective = Vec::with_capacity(KEYS.len());
    for key in KEYS {
        let mut given = given(key, file, env, flags);
        if given.origin == Origin::Default {
            given.text = default_of(key, &data_dir, &values);
        }
        // The default data directory lies beside the file that says nothing of it.
        let base = match given.origin {
            Origin::Default | Origin::File { .. } => home,
            Origin::Env { .. } | Origin::Flag { .. } => cwd,
        };
        let value = match read(key.shape, &given.text, base) {
            Ok(value) => value,
            // What is set for all programs of a machine may be meant for others.
            Err(message) if is_common(&given.origin, key) => {
                warned.push(format!("{} counts for nothing: {message}", place(&given.origin, key, file)));
                given.text = "none".to_owned();
                Value::Nothing
            }
            Err(message) => {
                problems.push(format!("{}: `{}`: {message}", place(&given.origin, key, file), key.path()));
                Value::Nothing
            }
        };
        if let (Shape::Folder, Value::Path(path)) = (key.shape, &value) {
            data_dir.clone_from(path);
        }
        effective.push(Effective { key, shown: shown(&value, given.text), origin: given.origin });
        values.push(value);
    }
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let values = Values(values);
    let config = Config {
        file: file.map(|file| file.path.clone()),
        log_format: match values.optional_text("log_format").as_deref() {
            Some("json") => LogFormat::Json,
            _ => LogFormat::Text,
        },
        traces: traces_of(&values),
        store_url: values.url("store.url"),
        catalog_url: values.url("catalog.url"),
        batch: BatchSettings {
            threads: usize::try_from(values.number("batch.threads")).unwrap_or(usize::MAX),
            buffer_bytes_max: usize::try_from(values.number("batch.buffer_bytes_max")).unwrap_or(usize::MAX),
            commit_bytes: values.number("batch.commit_bytes"),
            file_bytes_target: values.number("batch.file_bytes_target"),
            grace: values.duration("batch.grace"),
        },
        sql: SqlLimits {
            memory_bytes_max: values.number("sql.memory_bytes_max"),
            spill_bytes_max: values.number("sql.spill_bytes_max"),
            timeout: values.duration("sql.timeout"),
            bytes_read_max: values.optional_number("sql.bytes_read_max"),
        },
        server: server(&values),
        warnings: warnings(file, &effective).into_iter().chain(warned).collect(),
        data_dir,
        effective,
    };
    validate(config)
}

fn server(values: &Values) -> ServerConfig {
    let grace = values.optional_duration("live.grace");
    let mut server = ServerConfig {
        live_grace: grace.unwrap_or_else(|| values.duration("sql.timeout")),
        roles: values.roles("roles"),
        log_url: values.url("log.url"),
        kafka: kafka_of(values),
        retention: Retention {
            age_max: values.optional_duration("log.retention_age"),
            bytes_max: values.optional_number("log.retention_bytes"),
        },
        live_url: values.url("live.url"),
        live_bytes_max: values.number("live.bytes_max"),
        live_index_offsets: values.number("live.index_offsets"),
        live_aggregate_pushdown: values.optional_text("live.aggregate_pushdown").as_deref() == Some("on"),
        segment_bytes_max: values.number("speed.segment_bytes_max"),
        segment_age_max: values.duration("speed.segment_age_max"),
        definitions_interval: values.duration("speed.definitions_interval"),
        batch_interval: values.optional_duration("batch.interval"),
        vacuum_interval: values.optional_duration("batch.vacuum_interval"),
        http: values.address("doors.http"),
        tokens_file: values.optional_path("doors.tokens_file"),
        body_bytes_max: values.number("doors.body_bytes_max"),
        body_timeout: values.duration("doors.body_timeout"),
        queries_max: usize::try_from(values.number("doors.queries_max")).unwrap_or(usize::MAX),
    };
    if grace.is_none() && server.roles.are_all() && server.own_views() {
        server.live_grace = GRACE_ALONE;
    }
    server
}

fn traces_of(values: &Values) -> Option<TracesConfig> {
    match (values.get("traces.endpoint"), values.get("traces.sample")) {
        (Value::Url(endpoint), Value::Fraction(sample)) => {
            Some(TracesConfig { endpoint: endpoint.clone(), sample: *sample })
        }
        _ => None,
    }
}

fn kafka_of(values: &Values) -> KafkaConfig {
    let replicas = u16::try_from(values.number("log.kafka.replication_factor")).unwrap_or(u16::MAX);
    let password = match values.get("log.kafka.password") {
        Value::Secret(secret) => Some(secret.clone()),
        _ => None,
    };
    KafkaConfig {
        security_protocol: match values.get("log.kafka.security_protocol") {
            Value::Protocol(protocol) => *protocol,
            other => unreachable!("a security protocol is read as one, not {other:?}"),
        },
        ca_file: values.optional_path("log.kafka.ca_file"),
        certificate_file: values.optional_path("log.kafka.certificate_file"),
        key_file: values.optional_path("log.kafka.key_file"),
        sasl_mechanism: match values.get("log.kafka.sasl_mechanism") {
            Value::Mechanism(mechanism) => *mechanism,
            other => unreachable!("a mechanism is read as one, not {other:?}"),
        },
        username: values.optional_text("log.kafka.username"),
        password,
        password_file: values.optional_path("log.kafka.password_file"),
        replication_factor: Some(replicas).filter(|replicas| *replicas > 0),
        properties_file: values.optional_path("log.kafka.properties_file"),
        session_timeout: values.duration("log.kafka.session_timeout"),
    }
}

/// The default of a key; of some it hangs on values before them.
fn default_of(key: &Key, data_dir: &Path, values: &[Value]) -> String {
    if key.path() == RETENTION_BYTES && is_kafka(values) {
        return "none".to_owned();
    }
    key.default.replace("<data_dir>", &data_dir.to_string_lossy())
}

/// True if the log, whose URL comes before this among the values, is on Kafka.
fn is_kafka(values: &[Value]) -> bool {
    let url = KEYS.iter().position(|key| key.path() == "log.url").and_then(|index| values.get(index));
    matches!(url, Some(Value::Url(url)) if url.starts_with(KAFKA))
}

/// The text that counts for `key`.
fn given(key: &Key, file: Option<&FileLayer>, env: &dyn Fn(&str) -> Option<String>, flags: &Flags) -> Given {
    if let Some((name, text)) = key.flag.and_then(|name| Some((name, flags.get(name)?))) {
        return Given { text: text.clone(), origin: Origin::Flag { name } };
    }
    let name = key.env();
    // An empty variable is how a shell unsets one for a single command.
    if let Some(text) = env(&name).filter(|text| !text.is_empty()) {
        return Given { text, origin: Origin::Env { name } };
    }
    if let Some((text, line)) = file.and_then(|file| file.values.get(&key.path())) {
        return Given { text: text.clone(), origin: Origin::File { line: *line } };
    }
    let common = key.common_env().and_then(|name| Some((name, env(name).filter(|text| !text.is_empty())?)));
    match common {
        Some((name, text)) => Given { text, origin: Origin::Env { name: name.to_owned() } },
        None => Given { text: key.default.to_owned(), origin: Origin::Default },
    }
}

/// True if a value comes from a variable that is not of ours.
fn is_common(origin: &Origin, key: &Key) -> bool {
    matches!(origin, Origin::Env { name } if Some(name.as_str()) == key.common_env())
}

fn place(origin: &Origin, key: &Key, file: Option<&FileLayer>) -> String {
    match (origin, file) {
        (Origin::File { line }, Some(file)) => format!("{}:{line}", file.path.display()),
        (Origin::Env { name }, _) => name.clone(),
        (Origin::Flag { name }, _) => (*name).to_owned(),
        _ => key.path(),
    }
}

fn read(shape: Shape, text: &str, base: &Path) -> Result<Value, String> {
    let within = |number: u64, min: u64, max: u64| {
        if (min..=max).contains(&number) {
            Ok(Value::Number(number))
        } else {
            Err(format!("`{text}` is not between {min} and {max}"))
        }
    };
    match shape {
        Shape::Folder if text.is_empty() => Err("the path is empty".to_owned()),
        Shape::Folder => Ok(Value::Path(base.join(text))),
        Shape::Url => absolute_url(text, base).map(Value::Url),
        Shape::Count(min, max) => {
            let number = text.parse().map_err(|_| format!("`{text}` is not a whole number"))?;
            within(number, min, max)
        }
        Shape::Bytes(min, max) => within(parse_bytes(text)?, min, max),
        Shape::BytesOrNone(_) if text == "none" => Ok(Value::Nothing),
        Shape::BytesOrNone(min) => within(parse_bytes(text)?, min, u64::MAX),
        Shape::DurationOrNone(_)
        | Shape::FileOrNone
        | Shape::TextOrNone
        | Shape::SecretOrNone
        | Shape::EndpointOrNone
            if text == "none" =>
        {
            Ok(Value::Nothing)
        }
        Shape::EndpointOrNone => traces::endpoint(text).map(Value::Url),
        Shape::Fraction => Fraction::parse(text).map(Value::Fraction),
        Shape::TextOrNone => Ok(Value::Text(text.to_owned())),
        Shape::SecretOrNone => Ok(Value::Secret(Secret::new(text))),
        Shape::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
        Shape::Choice(words) => Err(format!("`{text}` is none of {}", words.join(", "))),
        Shape::SecurityProtocol => kafka::protocol(text).map(Value::Protocol),
        Shape::SaslMechanism => kafka::mechanism(text).map(Value::Mechanism),
        Shape::FileOrNone if text.is_empty() => Err("the path is empty".to_owned()),
        Shape::FileOrNone => Ok(Value::Path(base.join(text))),
        Shape::Address => address(text).map(Value::Address),
        Shape::Roles => Roles::parse(text).map(Value::Roles),
        Shape::Duration(min) | Shape::DurationOrNone(min) => {
            let duration = parse_duration(text)?;
            let least = Duration::from_millis(min);
            if duration < least {
                return Err(format!("`{text}` is shorter than {}", format_duration(least)));
            }
            Ok(Value::Duration(duration))
        }
    }
}

/// The first address that `host:port` names.
fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|error| format!("`{text}` is not `host:port`: {error}"))?;
    found.next().ok_or_else(|| format!("`{text}` names no address"))
}

/// `url` with its path made absolute, where it names a local file. A text without a scheme is a folder.
fn absolute_url(url: &str, base: &Path) -> Result<String, String> {
    if url.is_empty() {
        return Err("the URL is empty".to_owned());
    }
    if url == MEMORY {
        return Ok(url.to_owned());
    }
    for scheme in ["file:", "sqlite:", EMBEDDED] {
        if let Some(rest) = url.strip_prefix(scheme) {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path.is_empty() {
                return Err(format!("`{url}` names no path"));
            }
            // It would become a folder's name, which is shown.
            if path != rest && path.split('/').next().is_some_and(|host| host.contains('@')) {
                return Err(format!("`{}` names a host, and this is a path of this machine", shown_url(url)));
            }
            return Ok(format!("{scheme}{}", base.join(path).display()));
        }
    }
    if url.contains("://") {
        return Ok(url.to_owned());
    }
    if url.split_once('@').is_some_and(|(before, _)| before.contains(':')) {
        let shown = shown_url(url);
        return Err(format!(
            "`{shown}` holds a user and a password and no `://`; a folder of that name is `file:PATH`"
        ));
    }
    Ok(format!("file:{}", base.join(url).display()))
}

/// Says so where a data directory given for this call does not move what the file places elsewhere.
fn warnings(file: Option<&FileLayer>, effective: &[Effective]) -> Vec<String> {
    let mut warnings = file.map(|file| file.warnings.clone()).unwrap_or_default();
    let data_dir = effective.iter().find(|value| value.key.path() == "data_dir");
    if data_dir.is_some_and(|value| matches!(value.origin, Origin::Flag { .. } | Origin::Env { .. })) {
        for value in effective.iter().filter(|value| value.key.shape == Shape::Url) {
            if let (Origin::File { .. }, Some(file)) = (&value.origin, file) {
                let (at, key) = (place(&value.origin, value.key, Some(file)), value.key.path());
                warnings.push(format!("{at}: {key} stays {}, whatever the data directory", value.shown));
            }
        }
    }
    warnings
}

/// Rules across values.
fn validate(config: Config) -> Result<Config, ConfigError> {
    if config.server.log_url.starts_with(KAFKA) && config.server.retention.bytes_max.is_some() {
        let problem = format!(
            "`{RETENTION_BYTES}` can't be kept on Kafka, which tells nobody how large a partition is: set the topic's own \
             `retention.bytes`"
        );
        return Err(ConfigError { problems: vec![problem] });
    }
    if config.batch.grace < config.sql.timeout {
        let (grace, timeout) = (format_duration(config.batch.grace), format_duration(config.sql.timeout));
        let problem = format!(
            "`batch.grace` ({grace}) is shorter than `sql.timeout` ({timeout}): files would go while queries read them"
        );
        return Err(ConfigError { problems: vec![problem] });
    }
    if config.batch.grace > GRACE_MAX {
        let (grace, most) = (format_duration(config.batch.grace), format_duration(GRACE_MAX));
        let problem = format!(
            "`batch.grace` ({grace}) is longer than {most}: tables remember no longer which data files were removed when"
        );
        return Err(ConfigError { problems: vec![problem] });
    }
    if !config.server.own_views() && config.server.live_grace < config.sql.timeout {
        let (grace, timeout) = (format_duration(config.server.live_grace), format_duration(config.sql.timeout));
        let problem = format!(
            "`live.grace` ({grace}) is shorter than `sql.timeout` ({timeout}): rows would leave views that other processes' \
             queries read; lengthen the one, shorten the other, or leave `live.grace` out"
        );
        return Err(ConfigError { problems: vec![problem] });
    }
    Ok(config)
}

/// Values in the order of [`KEYS`].
struct Values(Vec<Value>);

impl Values {
    fn get(&self, path: &str) -> &Value {
        let index = KEYS.iter().position(|key| key.path() == path).expect("only keys of KEYS are asked for");
        &self.0[index]
    }

    fn url(&self, path: &str) -> String {
        match self.get(path) {
            Value::Url(url) => url.clone(),
            other => unreachable!("{path} is read as a URL, not {other:?}"),
        }
    }

    fn number(&self, path: &str) -> u64 {
        self.optional_number(path).expect("only `none` is no number")
    }

    fn optional_number(&self, path: &str) -> Option<u64> {
        match self.get(path) {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    fn optional_duration(&self, path: &str) -> Option<Duration> {
        match self.get(path) {
            Value::Duration(duration) => Some(*duration),
            _ => None,
        }
    }

    fn optional_path(&self, path: &str) -> Option<PathBuf> {
        match self.get(path) {
            Value::Path(path) => Some(path.clone()),
            _ => None,
        }
    }

    fn optional_text(&self, path: &str) -> Option<String> {
        match self.get(path) {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn roles(&self, path: &str) -> Roles {
        match self.get(path) {
            Value::Roles(roles) => roles.clone(),
            other => unreachable!("{path} is read as roles, not {other:?}"),
        }
    }

    fn address(&self, path: &str) -> SocketAddr {
        match self.get(path) {
            Value::Address(address) => *address,
            other => unreachable!("{path} is read as an address, not {other:?}"),
        }
    }

    fn duration(&self, path: &str) -> Duration {
        match self.get(path) {
            Value::Duration(duration) => *duration,
            other => unreachable!("{path} is read as a duration, not {other:?}"),
        }
    }
}

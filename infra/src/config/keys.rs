//! Every value of the configuration, with what it means.

use std::fmt::Write as _;

/// What a value's text must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A folder.
    Folder,
    /// A URL whose relative path, if it has one, is resolved.
    Url,
    /// A whole number in `[min, max]`.
    Count(u64, u64),
    /// A size in `[min, max]` bytes.
    Bytes(u64, u64),
    /// A size of at least so many bytes, or `none`.
    BytesOrNone(u64),
    /// A duration of at least so many milliseconds.
    Duration(u64),
    /// A duration of at least so many milliseconds, or `none`.
    DurationOrNone(u64),
    /// A file, or `none`.
    FileOrNone,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// How connections to brokers are protected, in Kafka's words.
    SecurityProtocol,
    /// How a user proves to brokers who he is, in Kafka's words.
    SaslMechanism,
    /// Any text, or `none`.
    TextOrNone,
    /// A text that is shown to nobody, or `none`.
    SecretOrNone,
    /// `host:port`.
    Address,
    /// Roles with commas between them, or `all`.
    Roles,
    /// `http://` or `https://` and a host, or `none`.
    EndpointOrNone,
    /// A number from 0 to 1.
    Fraction,
}

/// One value of the configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// Section of the file; empty for the top.
    pub section: &'static str,
    /// Name in the section.
    pub name: &'static str,
    /// Flag of `up` and of the other commands that it concerns, where it has one.
    pub flag: Option<&'static str>,
    /// Value that counts if nobody sets one, as text.
    pub default: &'static str,
    /// What its text must be.
    pub shape: Shape,
    /// What it means, for people.
    pub help: &'static str,
}

impl Key {
    /// `store.url`, `data_dir`.
    #[must_use]
    pub fn path(&self) -> String {
        if self.section.is_empty() { self.name.to_owned() } else { format!("{}.{}", self.section, self.name) }
    }

    /// Its environment variable: `TIDEMARK_STORE_URL`.
    #[must_use]
    pub fn env(&self) -> String {
        format!("TIDEMARK_{}", self.path().replace('.', "_").to_ascii_uppercase())
    }

    /// The variable by which others set the same for all programs of a machine. It counts where nothing of ours says anything.
    #[must_use]
    pub fn common_env(&self) -> Option<&'static str> {
        (self.section == "traces" && self.name == "endpoint").then_some("OTEL_EXPORTER_OTLP_ENDPOINT")
    }
}

/// Doors that builds with more layers open; here their settings only warn.
pub const LATER_DOORS: &[&str] = &["aws", "postgres", "flight"];

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// All values.
pub const KEYS: &[Key] = &[
    Key {
        section: "",
        name: "data_dir",
        flag: Some("--data-dir"),
        default: "tidemark-data",
        shape: Shape::Folder,
        help: "Folder of everything that has no URL of its own.",
    },
    Key {
        section: "",
        name: "roles",
        flag: Some("--role"),
        default: "all",
        shape: Shape::Roles,
        help: "What this process of `tidemark up` is: `archiver`, `indexer`, `batch`, `serving`, several of them with commas in between, or `all`. A part of them needs a log, views, a store and a catalog that several processes can share, and each process a data directory of its own.",
    },
    Key {
        section: "",
        name: "log_format",
        flag: Some("--log-format"),
        default: "text",
        shape: Shape::Choice(&["text", "json"]),
        help: "How log lines on standard error look: `text`, or `json`, an object a line.",
    },
    Key {
        section: "store",
        name: "url",
        flag: Some("--store-url"),
        default: "file:<data_dir>/store",
        shape: Shape::Url,
        help: "Object store: `file:path` or `s3://bucket/prefix` (endpoint, region and keys from the usual AWS variables).",
    },
    Key {
        section: "catalog",
        name: "url",
        flag: Some("--catalog-url"),
        default: "sqlite:<data_dir>/catalog.db",
        shape: Shape::Url,
        help: "Catalog: `sqlite:path` or `postgres://user@host/database`.",
    },
    Key {
        section: "batch",
        name: "threads",
        flag: Some("--threads"),
        default: "0",
        shape: Shape::Count(0, 1_024),
        help: "Threads that decode, transform and encode. 0: as many as there are cores.",
    },
    Key {
        section: "batch",
        name: "buffer_bytes_max",
        flag: Some("--buffer-bytes-max"),
        default: "192MiB",
        shape: Shape::Bytes(MIB, TIB),
        help: "Rows that a run may hold in memory before it writes row groups early.",
    },
    Key {
        section: "batch",
        name: "commit_bytes",
        flag: Some("--commit-bytes"),
        default: "4GiB",
        shape: Shape::Bytes(1, TIB),
        help: "Raw bytes after which a run commits what it has and goes on.",
    },
    Key {
        section: "batch",
        name: "file_bytes_target",
        flag: Some("--file-bytes-target"),
        default: "128MiB",
        shape: Shape::Bytes(1 << 16, TIB),
        help: "Size that a data file should reach before the next one is begun.",
    },
    Key {
        section: "batch",
        name: "grace",
        flag: Some("--grace"),
        default: "1h",
        shape: Shape::Duration(0),
        help: "How long a generation that no longer answers, and a removed data file, are kept for running queries. Not shorter than `sql.timeout`, nor longer than 7 days.",
    },
    Key {
        section: "batch",
        name: "interval",
        flag: Some("--batch-interval"),
        default: "30s",
        shape: Shape::DurationOrNone(100),
        help: "How often `tidemark up` runs the batch layer on datasets with a stream; `none`: only when real-time views fill up.",
    },
    Key {
        section: "batch",
        name: "vacuum_interval",
        flag: Some("--vacuum-interval"),
        default: "24h",
        shape: Shape::DurationOrNone(100),
        help: "How often `tidemark up` removes what nothing names and is older than 24 hours, such as the files that a compaction replaced, of datasets with a stream; `none`: only `tidemark batch vacuum` does.",
    },
    Key {
        section: "log",
        name: "url",
        flag: Some("--log-url"),
        default: "embedded:<data_dir>/log",
        shape: Shape::Url,
        help: "Log: `embedded:path` or `kafka://host:port,host2:port` (see `[log.kafka]`).",
    },
    Key {
        section: "log",
        name: "retention_age",
        flag: Some("--retention-age"),
        default: "none",
        shape: Shape::DurationOrNone(1_000),
        help: "Archived records that were appended longer ago leave the log; `none`: age is no reason.",
    },
    Key {
        section: "log",
        name: "retention_bytes",
        flag: Some("--retention-bytes"),
        default: "1GiB",
        shape: Shape::BytesOrNone(MIB),
        help: "The oldest archived records leave a partition of the log that takes more; `none`: size is no reason. On Kafka always `none`, for Kafka tells nobody how large a partition is: a topic keeps what its own `retention.*` say.",
    },
    Key {
        section: "log.kafka",
        name: "security_protocol",
        flag: None,
        default: "plaintext",
        shape: Shape::SecurityProtocol,
        help: "How connections to brokers are protected: `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`.",
    },
    Key {
        section: "log.kafka",
        name: "ca_file",
        flag: None,
        default: "none",
        shape: Shape::FileOrNone,
        help: "Certificates (PEM) of the authorities that brokers' certificates may come from; `none`: those of the system.",
    },
    Key {
        section: "log.kafka",
        name: "certificate_file",
        flag: None,
        default: "none",
        shape: Shape::FileOrNone,
        help: "Our certificate (PEM), where brokers ask for one.",
    },
    Key {
        section: "log.kafka",
        name: "key_file",
        flag: None,
        default: "none",
        shape: Shape::FileOrNone,
        help: "The private key (PEM) of `certificate_file`.",
    },
    Key {
        section: "log.kafka",
        name: "sasl_mechanism",
        flag: None,
        default: "SCRAM-SHA-512",
        shape: Shape::SaslMechanism,
        help: "How `username` proves who he is: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.",
    },
    Key {
        section: "log.kafka",
        name: "username",
        flag: None,
        default: "none",
        shape: Shape::TextOrNone,
        help: "User, with the `sasl_` protocols.",
    },
    Key {
        section: "log.kafka",
        name: "password",
        flag: None,
        default: "none",
        shape: Shape::SecretOrNone,
        help: "The user's password; never shown. Better by the environment, or by `password_file`, than in `tidemark.toml`.",
    },
    Key {
        section: "log.kafka",
        name: "password_file",
        flag: None,
        default: "none",
        shape: Shape::FileOrNone,
        help: "File whose first line is the user's password; counts where `password` is `none`.",
    },
    Key {
        section: "log.kafka",
        name: "replication_factor",
        flag: None,
        default: "0",
        shape: Shape::Count(0, 1_000),
        help: "Replicas of topics that Tidemark makes; 0: as many as brokers make by themselves.",
    },
    Key {
        section: "log.kafka",
        name: "session_timeout",
        flag: None,
        default: "10s",
        shape: Shape::Duration(1_000),
        help: "An archiver or indexer that brokers have not heard of for so long loses its partitions to the others. Brokers have bounds of their own, `group.min.session.timeout.ms` (6 seconds by default) and `group.max.session.timeout.ms`.",
    },
    Key {
        section: "log.kafka",
        name: "properties_file",
        flag: None,
        default: "none",
        shape: Shape::FileOrNone,
        help: "File of further properties of librdkafka, `name=value` a line, such as `ssl.key.password`; never shown. Those that the log's promises hang on are refused.",
    },
    Key {
        section: "live",
        name: "url",
        flag: Some("--live-url"),
        default: "memory:",
        shape: Shape::Url,
        help: "Real-time views: `memory:`, or those in a cluster, `opensearch+http://host:9200` or `opensearch+https://user:password@host:9200/prefix`; the names of its indices begin with the prefix, `tidemark` unless it says another.",
    },
    Key {
        section: "live",
        name: "bytes_max",
        flag: Some("--live-bytes-max"),
        default: "1GiB",
        shape: Shape::Bytes(MIB, TIB),
        help: "Memory of all real-time views. At half of it a batch run is started, near it intake slows down. Of views in OpenSearch: of the rows that were read and are kept for the next statement.",
    },
    Key {
        section: "live",
        name: "index_offsets",
        flag: Some("--live-index-offsets"),
        default: "262144",
        shape: Shape::Count(16, 1 << 32),
        help: "Offsets of a partition whose rows one index of OpenSearch holds. Rows go with their whole index, once all of it is curated. A view that is there keeps the number that it was made with.",
    },
    Key {
        section: "live",
        name: "aggregate_pushdown",
        flag: Some("--live-aggregate-pushdown"),
        default: "on",
        shape: Shape::Choice(&["on", "off"]),
        help: "Of views in OpenSearch: whether it makes counts, sums, averages and bounds of real-time rows by itself, where it can make them exactly. `off`: rows are read for all of them.",
    },
    Key {
        section: "live",
        name: "grace",
        flag: Some("--live-grace"),
        default: "none",
        shape: Shape::DurationOrNone(0),
        help: "How long rows stay in a view after the curated table has them, and a view whose generation answers no more: a statement that another process answers from them for longer fails. `none`: 2 seconds for views in memory, which one process alone reads, and else `sql.timeout`. For views in a cluster, not shorter than `sql.timeout`.",
    },
    Key {
        section: "speed",
        name: "segment_bytes_max",
        flag: Some("--segment-bytes-max"),
        default: "32MiB",
        shape: Shape::Bytes(1 << 10, 256 * MIB),
        help: "Bytes of records after which a segment is sealed.",
    },
    Key {
        section: "speed",
        name: "segment_age_max",
        flag: Some("--segment-age-max"),
        default: "10s",
        shape: Shape::Duration(10),
        help: "A segment is sealed when its first record has waited so long. A batch run of `tidemark up` seals all that there is.",
    },
    Key {
        section: "speed",
        name: "definitions_interval",
        flag: Some("--definitions-interval"),
        default: "1s",
        shape: Shape::Duration(100),
        help: "How often `tidemark up` looks for definitions that were applied since: a listing of the store, and a request for each dataset. Records for a dataset that is not known yet make it look at once.",
    },
    Key {
        section: "doors",
        name: "http",
        flag: Some("--http"),
        default: "127.0.0.1:8410",
        shape: Shape::Address,
        help: "Address of the HTTP door; port 0: any free one. Other than loopback needs `doors.tokens_file`.",
    },
    Key {
        section: "doors",
        name: "tokens_file",
        flag: Some("--tokens-file"),
        default: "none",
        shape: Shape::FileOrNone,
        help: "File of bearer tokens, one a line; who has none of them gets nothing but health.",
    },
    Key {
        section: "doors",
        name: "body_bytes_max",
        flag: Some("--body-bytes-max"),
        default: "8MiB",
        shape: Shape::Bytes(1 << 10, 16 * MIB),
        help: "Largest body of a request.",
    },
    Key {
        section: "doors",
        name: "body_timeout",
        flag: Some("--body-timeout"),
        default: "30s",
        shape: Shape::Duration(100),
        help: "A body must have come in so long.",
    },
    Key {
        section: "doors",
        name: "queries_max",
        flag: Some("--queries-max"),
        default: "8",
        shape: Shape::Count(1, 1_024),
        help: "Statements that are answered at once; others wait.",
    },
    Key {
        section: "sql",
        name: "memory_bytes_max",
        flag: Some("--memory"),
        default: "1GiB",
        shape: Shape::Bytes(16 * MIB, TIB),
        help: "Memory that a statement may hold before it spills to disk.",
    },
    Key {
        section: "sql",
        name: "timeout",
        flag: Some("--timeout"),
        default: "10m",
        shape: Shape::Duration(1),
        help: "A statement that takes longer fails.",
    },
    Key {
        section: "sql",
        name: "spill_bytes_max",
        flag: Some("--spill-bytes-max"),
        default: "20GiB",
        shape: Shape::Bytes(0, TIB),
        help: "Disk space for what a statement can't hold in memory; 0: nothing spills. In the folder for temporary files, `TMPDIR`.",
    },
    Key {
        section: "sql",
        name: "bytes_read_max",
        flag: Some("--bytes-read-max"),
        default: "none",
        shape: Shape::BytesOrNone(1),
        help: "A statement that reads more bytes of data files fails; `none`: no limit.",
    },
    Key {
        section: "traces",
        name: "endpoint",
        flag: Some("--traces-endpoint"),
        default: "none",
        shape: Shape::EndpointOrNone,
        help: "Where traces go: the address of a receiver of OTLP over HTTP, such as `http://127.0.0.1:4318`, without the path `/v1/traces`; `none`: there are none. Where nothing here says anything, `OTEL_EXPORTER_OTLP_ENDPOINT` does. For `up`, `ingest` and `batch`. See [traces.md](traces.md).",
    },
    Key {
        section: "traces",
        name: "sample",
        flag: Some("--traces-sample"),
        default: "1",
        shape: Shape::Fraction,
        help: "Which share of the traces that begin here is kept, from 0 to 1. Of a caller's trace that goes on here, the caller has decided that.",
    },
];

/// The text of `docs/config.md`.
#[must_use]
pub fn documentation() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         <!-- Made from infra/src/config/keys.rs; bless with TIDEMARK_BLESS=1 cargo test --workspace --test cli -->\n\n\
         A flag counts before an environment variable, that before `tidemark.toml`, and that before the default. The file\n\
         is the nearest `tidemark.toml` upward from the working directory, or `--config FILE`. Relative paths in it are\n\
         relative to its folder, those of flags and variables to the working directory. `tidemark config` shows what counts\n\
         and where it comes from. `up` takes every flag, other commands those that concern them, as [cli.md](cli.md) shows:\n\
         `ingest` and `batch` some of `[batch]`, `sql` those of `[sql]`.\n\n\
         Sizes: `192MiB`, `4GB`, or a number of bytes. Durations: `30s`, `5m`, `1h30m`, `2d`.\n",
    );
    let mut section = None;
    for key in KEYS {
        if section != Some(key.section) {
            section = Some(key.section);
            let title = if key.section.is_empty() { "Top".to_owned() } else { format!("`[{}]`", key.section) };
            let header = "| key | default | environment | flag | meaning |\n| --- | --- | --- | --- | --- |";
            writeln!(text, "\n## {title}\n\n{header}").expect("a string takes all text");
        }
        let flag = key.flag.map_or(String::new(), |flag| format!("`{flag}`"));
        let (name, default, env, help) = (key.name, key.default, key.env(), key.help);
        writeln!(text, "| `{name}` | `{default}` | `{env}` | {flag} | {help} |").expect("a string takes all text");
    }
    let later: Vec<String> = LATER_DOORS.iter().map(|door| format!("`{door}`")).collect();
    write!(text, "\nThe doors {} are those of later builds: here they warn and do nothing.\n", later.join(", "))
        .expect("a string takes all text");
    text
}

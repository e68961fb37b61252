//! `tidemark up`: everything in one process, or the roles that this one is to have.

use std::sync::Arc;

use clap::Args;
use tidemark_shared::store::IfMissing;

use super::batch::BatchFlags;
use super::query;
use crate::cli::given;
use crate::config::Role;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::signals;
use crate::up::{self, UpRequest};

/// Arguments of `tidemark up`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Ctrl-C drains: requests under way end, what the log has is archived. A second Ctrl-C ends at once; nothing that was
acknowledged is lost.

Examples:
  tidemark up
  tidemark up --http 127.0.0.1:0 --batch-interval 5s

A process of some roles shares log, views, store and catalog with the others. Name those by flags,
by the environment or in tidemark.toml; what the data folder has is one process's alone:
  tidemark up --role archiver,indexer --data-dir one --log-url kafka://kafka:9092 \\
    --live-url opensearch+http://search:9200 --store-url s3://lake/tidemark
  tidemark up --role batch,serving --data-dir two --log-url kafka://kafka:9092 \\
    --live-url opensearch+http://search:9200 --store-url s3://lake/tidemark \\
    --catalog-url postgres://tidemark@db/tidemark")]
pub struct UpArgs {
    /// What this process is: archiver, indexer, batch, serving, several with commas, or all [env: TIDEMARK_ROLES]
    /// [default: all]
    #[arg(long, value_name = "ROLES")]
    pub role: Option<String>,
    /// Address of the HTTP door; port 0: any free one [env: TIDEMARK_DOORS_HTTP] [default: 127.0.0.1:8410]
    #[arg(long, value_name = "HOST:PORT")]
    pub http: Option<String>,
    /// File of bearer tokens, one a line; needed for another address than loopback [env: TIDEMARK_DOORS_TOKENS_FILE]
    #[arg(long, value_name = "FILE")]
    pub tokens_file: Option<String>,
    /// How often the batch layer runs on datasets with a stream, or `none` [env: TIDEMARK_BATCH_INTERVAL]
    #[arg(long, value_name = "TIME")]
    pub batch_interval: Option<String>,
    /// How often what nothing names is removed, once it is a day old; `none`: never [env: TIDEMARK_BATCH_VACUUM_INTERVAL]
    #[arg(long, value_name = "TIME")]
    pub vacuum_interval: Option<String>,
    /// Log: embedded:PATH or kafka://HOST:PORT,HOST2:PORT [env: TIDEMARK_LOG_URL] [default: the data folder's log]
    #[arg(long, value_name = "URL")]
    pub log_url: Option<String>,
    /// Real-time views: memory:, opensearch+http://host:9200 or opensearch+https://user:password@host:9200/prefix [env:
    /// TIDEMARK_LIVE_URL]
    #[arg(long, value_name = "URL")]
    pub live_url: Option<String>,
    /// Less common settings.
    #[command(flatten)]
    pub more: MoreArgs,
}

/// Settings that few change.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Bounds")]
pub struct MoreArgs {
    /// Archived records that were appended longer ago leave the log [env: TIDEMARK_LOG_RETENTION_AGE]
    #[arg(long, value_name = "TIME")]
    pub retention_age: Option<String>,
    /// The oldest archived records leave a partition that takes more [env: TIDEMARK_LOG_RETENTION_BYTES]
    #[arg(long, value_name = "BYTES")]
    pub retention_bytes: Option<String>,
    /// Memory of all real-time views [env: TIDEMARK_LIVE_BYTES_MAX]
    #[arg(long, value_name = "BYTES")]
    pub live_bytes_max: Option<String>,
    /// Offsets of a partition in one index of OpenSearch [env: TIDEMARK_LIVE_INDEX_OFFSETS]
    #[arg(long, value_name = "COUNT")]
    pub live_index_offsets: Option<String>,
    /// Whether OpenSearch makes aggregates of real-time rows where it can be exact [env: TIDEMARK_LIVE_AGGREGATE_PUSHDOWN]
    #[arg(long, value_name = "on|off")]
    pub live_aggregate_pushdown: Option<String>,
    /// How long rows stay in a view after they are curated [env: TIDEMARK_LIVE_GRACE]
    #[arg(long, value_name = "TIME")]
    pub live_grace: Option<String>,
    /// Bytes of records after which a segment is sealed [env: TIDEMARK_SPEED_SEGMENT_BYTES_MAX]
    #[arg(long, value_name = "BYTES")]
    pub segment_bytes_max: Option<String>,
    /// Age of its first record at which a segment is sealed [env: TIDEMARK_SPEED_SEGMENT_AGE_MAX]
    #[arg(long, value_name = "TIME")]
    pub segment_age_max: Option<String>,
    /// How often definitions that were applied since are looked for [env: TIDEMARK_SPEED_DEFINITIONS_INTERVAL]
    #[arg(long, value_name = "TIME")]
    pub definitions_interval: Option<String>,
    /// Largest body of a request [env: TIDEMARK_DOORS_BODY_BYTES_MAX]
    #[arg(long, value_name = "BYTES")]
    pub body_bytes_max: Option<String>,
    /// Longest time for a body to come [env: TIDEMARK_DOORS_BODY_TIMEOUT]
    #[arg(long, value_name = "TIME")]
    pub body_timeout: Option<String>,
    /// Statements that are answered at once [env: TIDEMARK_DOORS_QUERIES_MAX]
    #[arg(long, value_name = "N")]
    pub queries_max: Option<String>,
    /// Longest time of a statement [env: TIDEMARK_SQL_TIMEOUT]
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<String>,
    /// Most bytes of data files that a statement reads [env: TIDEMARK_SQL_BYTES_READ_MAX]
    #[arg(long, value_name = "BYTES")]
    pub bytes_read_max: Option<String>,
    /// Memory that statements hold before they spill [env: TIDEMARK_SQL_MEMORY_BYTES_MAX]
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Disk space for what statements spill; 0: nothing spills [env: TIDEMARK_SQL_SPILL_BYTES_MAX]
    #[arg(long, value_name = "BYTES")]
    pub spill_bytes_max: Option<String>,
    /// How long what queries may still read is kept [env: TIDEMARK_BATCH_GRACE]
    #[arg(long, value_name = "TIME")]
    pub grace: Option<String>,
    // After all others without a heading of their own: its heading holds on.
    /// Settings of the batch layer.
    #[command(flatten)]
    pub batch: BatchFlags,
    /// Where traces go: a receiver of OTLP over HTTP, or `none` [env: TIDEMARK_TRACES_ENDPOINT] [default: none]
    #[arg(long, value_name = "URL", help_heading = "Traces")]
    pub traces_endpoint: Option<String>,
    /// Which share of the traces that begin here is kept, 0 to 1 [env: TIDEMARK_TRACES_SAMPLE] [default: 1]
    #[arg(long, value_name = "SHARE", help_heading = "Traces")]
    pub traces_sample: Option<String>,
}

impl UpArgs {
    /// Those that are given.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let more = &self.more;
        let own = given(&[
            ("--role", &self.role),
            ("--http", &self.http),
            ("--tokens-file", &self.tokens_file),
            ("--batch-interval", &self.batch_interval),
            ("--vacuum-interval", &self.vacuum_interval),
            ("--log-url", &self.log_url),
            ("--live-url", &self.live_url),
            ("--retention-age", &more.retention_age),
            ("--retention-bytes", &more.retention_bytes),
            ("--live-bytes-max", &more.live_bytes_max),
            ("--live-index-offsets", &more.live_index_offsets),
            ("--live-aggregate-pushdown", &more.live_aggregate_pushdown),
            ("--live-grace", &more.live_grace),
            ("--segment-bytes-max", &more.segment_bytes_max),
            ("--segment-age-max", &more.segment_age_max),
            ("--definitions-interval", &more.definitions_interval),
            ("--body-bytes-max", &more.body_bytes_max),
            ("--body-timeout", &more.body_timeout),
            ("--queries-max", &more.queries_max),
            ("--timeout", &more.timeout),
            ("--bytes-read-max", &more.bytes_read_max),
            ("--memory", &more.memory),
            ("--spill-bytes-max", &more.spill_bytes_max),
            ("--grace", &more.grace),
            ("--traces-endpoint", &more.traces_endpoint),
            ("--traces-sample", &more.traces_sample),
        ]);
        [own, more.batch.settings()].concat()
    }
}

/// Runs until Ctrl-C.
///
/// # Errors
/// [`CliError`] if it can't start.
pub async fn run(context: &Context) -> Result<Exit, CliError> {
    let stop = signals::watch().map_err(crate::failed_to_start)?;
    context.config.check_roles().map_err(CliError::Config)?;
    let data_dir = context.config.data_dir.clone();
    let door = up::bind_door(&data_dir, &context.config.server).await?;
    let made = std::fs::create_dir_all(&data_dir);
    made.map_err(|source| CliError::File { action: "create", path: data_dir.clone(), source })?;
    let store = context.store(IfMissing::Create).await?;
    let batch = match context.config.server.roles.has(Role::Batch) {
        true => context.batch().await?,
        // who registers tables is another process
        false => context.batch_without_catalog().await?,
    };
    let (objects, limits) = (store.objects(), context.config.sql.clone());
    let tables = query::configured_catalog(context);
    let memory_bytes_max = usize::try_from(limits.memory_bytes_max).unwrap_or(usize::MAX);
    let spill_bytes_max = limits.spill_bytes_max;
    let said = context.quiet;
    let request = UpRequest {
        door,
        data_dir: data_dir.clone(),
        store,
        batch,
        engine: Box::new(move |datasets| {
            query::serving_engine(objects, tables, datasets, memory_bytes_max, spill_bytes_max)
        }),
        config: context.config.server.clone(),
        query_timeout: limits.timeout,
        bytes_read_max: limits.bytes_read_max,
        traces: Arc::clone(&context.telemetry.traces),
        span_counts: context.telemetry.counts.clone(),
        ready: Box::new(move |endpoints| {
            if !said {
                let (http, pid) = (&endpoints.http, endpoints.pid);
                // Nobody can be told that standard output is closed.
                drop(crate::context::print(&format!("ready: {http} (pid {pid}, data in {})\n", data_dir.display())));
            }
        }),
    };
    Box::pin(up::run(request, &stop)).await?;
    Ok(Exit::Done)
}

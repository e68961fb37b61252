//! `tidemark dataset`: definitions drafted, checked, registered and shown.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use tidemark_batch::BatchError;
use tidemark_shared::curated::current;
use tidemark_shared::dataset::registry::{self, Registered, RegistryError};
use tidemark_shared::dataset::{Definition, Loaded, Sources, definition_version, draft, is_name, load};
use tidemark_shared::store::IfMissing;

use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render::{self, clean};
use crate::units::{counted, format_bytes};

/// How much of a text file a draft looks at.
const TEXT_BYTES_MAX: u64 = 4 << 20;
/// Longest columnar file that a draft reads; their formats keep the schema where only the whole file tells.
const COLUMNAR_BYTES_MAX: u64 = 512 << 20;
/// Endings of columnar formats.
const COLUMNAR_ENDINGS: &[&str] = &["parquet", "orc", "avro"];

/// Commands on definitions.
#[derive(Debug, Subcommand)]
pub enum DatasetCommand {
    /// Draft a definition from a file's first rows
    Init(InitArgs),
    /// Validate a definition's folder; touches nothing
    Check(FolderArgs),
    /// Validate a definition's folder and make it the dataset's newest definition
    Apply(FolderArgs),
    /// List the known datasets
    List,
    /// Show a dataset's definition
    Show(ShowArgs),
}

/// Arguments of `tidemark dataset init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  tidemark dataset init rides yellow_2019-07.csv    writes a draft to datasets/rides")]
pub struct InitArgs {
    /// Name of the dataset: lower-case letters, digits and _
    pub name: String,
    /// A file of it: CSV, JSON lines, Parquet, Avro or ORC
    pub file: PathBuf,
    /// Folder that the definition's folder goes into
    #[arg(long, default_value = "datasets")]
    pub dir: PathBuf,
}

/// A definition's folder.
#[derive(Debug, Args)]
pub struct FolderArgs {
    /// The definition's folder, such as datasets/trips
    pub dir: PathBuf,
}

/// Arguments of `tidemark dataset show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Dataset
    pub name: String,
    /// An older definition, by its version
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
}

/// Carries out `command`.
///
/// # Errors
/// [`CliError`].
pub async fn run(command: &DatasetCommand, context: &Context) -> Result<Exit, CliError> {
    match command {
        DatasetCommand::Init(args) => init(args, context),
        DatasetCommand::Check(args) => check(args, context),
        DatasetCommand::Apply(args) => apply(args, context).await,
        DatasetCommand::List => list(context).await,
        DatasetCommand::Show(args) => show(args, context).await,
    }
}

#[derive(Debug, Serialize)]
struct Drafted {
    dataset: String,
    folder: PathBuf,
    files: Vec<String>,
}

fn init(args: &InitArgs, context: &Context) -> Result<Exit, CliError> {
    if !is_name(&args.name) {
        return Err(CliError::Argument {
            message: format!("`{}` can't name a dataset", args.name),
            hint: Some("use lower-case letters, digits and `_`, starting with a letter".to_owned()),
        });
    }
    let folder = args.dir.join(&args.name);
    if folder.exists() {
        return Err(CliError::Argument {
            message: format!("{} exists already", folder.display()),
            hint: Some("choose another name or --dir; a draft never overwrites a definition".to_owned()),
        });
    }
    let file_name = args.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let sources = draft(&args.name, &file_name, &sample(&args.file)?)?;
    write_draft(&folder, &sources)?;
    let drafted = Drafted { dataset: args.name.clone(), folder, files: sources.into_keys().collect() };
    context.report(&drafted, |drafted| {
        let folder = drafted.folder.display();
        let mut text = format!("drafted {} from {file_name}:\n", drafted.dataset);
        for file in &drafted.files {
            text.push_str(&format!("  {folder}/{file}\n"));
        }
        text.push_str(&format!("look it over, then: tidemark dataset apply {folder}\n"));
        text
    })?;
    Ok(Exit::Done)
}

/// The part of a file that a draft looks at.
fn sample(path: &Path) -> Result<Vec<u8>, CliError> {
    let failed = |source: io::Error| CliError::File { action: "read", path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_dir() {
        let message = format!("{} is a folder", path.display());
        return Err(CliError::Argument { message, hint: Some("name one of its files".to_owned()) });
    }
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let columnar = COLUMNAR_ENDINGS.contains(&ending.as_str());
    if columnar && meta.len() > COLUMNAR_BYTES_MAX {
        let (length, most) = (format_bytes(meta.len()), format_bytes(COLUMNAR_BYTES_MAX));
        return Err(CliError::Argument {
            message: format!("{} has {length}; a draft reads {ending} files up to {most}", path.display()),
            hint: Some("draft from a smaller file of the same schema".to_owned()),
        });
    }
    let limit = if columnar { COLUMNAR_BYTES_MAX } else { TEXT_BYTES_MAX };
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn write_draft(folder: &Path, sources: &Sources) -> Result<(), CliError> {
    let create = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| CliError::File { action: "create", path, source }
    };
    fs::create_dir_all(folder).map_err(create(folder))?;
    for (name, text) in sources {
        let path = folder.join(name);
        fs::write(&path, text).map_err(create(&path))?;
    }
    Ok(())
}

/// A definition in short.
#[derive(Debug, Serialize)]
struct Summary {
    dataset: String,
    version: String,
    description: Option<String>,
    columns: usize,
    partition_columns: Vec<String>,
    files: Option<&'static str>,
    stream: Option<String>,
}

impl Summary {
    fn of(definition: &Definition) -> Self {
        Self {
            dataset: definition.name.clone(),
            version: definition_version(definition).to_string(),
            description: definition.description.clone(),
            columns: definition.columns.len(),
            partition_columns: definition.partition_columns.clone(),
            files: definition.files.as_ref().map(|format| format.name()),
            stream: definition.stream.as_ref().map(|stream| stream.topic.clone()),
        }
    }

    /// `files csv, 20 input columns, partitioned by pickup_year, pickup_month`.
    fn details(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.files.map(|format| format!("files {format}")));
        parts.extend(self.stream.as_ref().map(|topic| format!("stream {topic}")));
        parts.push(counted(self.columns as u64, "input column"));
        if !self.partition_columns.is_empty() {
            parts.push(format!("partitioned by {}", self.partition_columns.join(", ")));
        }
        parts.join(", ")
    }
}

fn load_folder(args: &FolderArgs) -> Result<Loaded, CliError> {
    if !args.dir.is_dir() {
        let message = format!("no such folder: {}", args.dir.display());
        let hint = "name a definition's folder, such as datasets/trips".to_owned();
        return Err(CliError::Argument { message, hint: Some(hint) });
    }
    load(&args.dir).map_err(CliError::Definition)
}

/// What `check` found.
#[derive(Debug, Serialize)]
struct Checked {
    #[serde(flatten)]
    summary: Summary,
    /// What could not be checked.
    notes: Vec<String>,
}

fn check(args: &FolderArgs, context: &Context) -> Result<Exit, CliError> {
    let loaded = load_folder(args)?;
    let checked = Checked { summary: Summary::of(&loaded.definition), notes: loaded.notes };
    context.report(&checked, |Checked { summary, notes }| {
        let (dataset, version) = (&summary.dataset, &summary.version);
        let mut text = format!("{dataset} is valid: version {version}, {}\n", summary.details());
        for note in notes {
            text.push_str(&format!("note: {}\n", clean(note)));
        }
        text
    })?;
    Ok(Exit::Done)
}

/// What `apply` did.
#[derive(Debug, Serialize)]
struct AppliedReport {
    dataset: String,
    number: u64,
    version: String,
    changed: bool,
    rows_changed: bool,
    /// Whether the table that answers was made by another definition, of other rows.
    needs_recompute: bool,
}

/// How records come into a dataset that is new.
fn next(definition: &Definition) -> String {
    let name = &definition.name;
    let files = definition.files.as_ref().map(|_| format!("next: tidemark ingest {name} PATH\n"));
    let stream =
        definition.stream.as_ref().map(|_| format!("next: tidemark produce {name} FILE, while `tidemark up` runs\n"));
    files.into_iter().chain(stream).collect()
}

async fn apply(args: &FolderArgs, context: &Context) -> Result<Exit, CliError> {
    let loaded = load_folder(args)?;
    let store = context.store(IfMissing::Create).await?;
    let applied = registry::apply(&store, &loaded.sources).await?;
    let dataset = &loaded.definition.name;
    let active =
        current(&store.objects(), dataset).await.map_err(BatchError::from)?.map(|(_, current)| current.definition);
    let needs_recompute = active.is_some_and(|active| active != applied.version.as_str());
    let report = AppliedReport {
        needs_recompute,
        dataset: dataset.clone(),
        number: applied.n,
        version: applied.version.to_string(),
        changed: applied.changed,
        rows_changed: applied.rows_changed,
    };
    context.report(&report, |report| {
        let AppliedReport { dataset, number, version, .. } = report;
        match (report.changed, report.needs_recompute, *number) {
            (false, _, _) => format!("{dataset} is unchanged: definition {number}, version {version}\n"),
            (true, _, 1) => format!(
                "{dataset} is applied: definition {number}, version {version}\n{}",
                next(&loaded.definition)
            ),
            (true, true, _) => format!(
                "{dataset} is applied: definition {number}, version {version}\n\
                 it yields other rows than the one before, which stays active until: tidemark batch recompute {dataset}\n"
            ),
            (true, false, _) => format!(
                "{dataset} is applied: definition {number}, version {version}; there is nothing to recompute\n"
            ),
        }
    })?;
    Ok(Exit::Done)
}

async fn list(context: &Context) -> Result<Exit, CliError> {
    let store = context.store(IfMissing::Fail).await?;
    let mut datasets = Vec::new();
    for name in registry::list(&store).await? {
        match registry::latest(&store, &name).await {
            Ok(Some(registered)) => datasets.push(Summary::of(&registered.definition)),
            Ok(None) => {}
            // The others are known all the same.
            Err(error @ RegistryError::NoLongerValid { .. }) => context.remark(&format!("warning: {error}")),
            Err(error) => return Err(error.into()),
        }
    }
    context.report(&serde_json::json!({"datasets": datasets}), |_| {
        if datasets.is_empty() {
            return "no dataset yet; `tidemark dataset apply DIR` makes one known\n".to_owned();
        }
        let row = |summary: &Summary| {
            let description = clean(summary.description.as_deref().unwrap_or_default());
            vec![summary.dataset.clone(), summary.version.clone(), summary.details(), description]
        };
        let header = [("dataset", false), ("version", false), ("made of", false), ("description", false)];
        render::table(&header, &datasets.iter().map(row).collect::<Vec<_>>())
    })?;
    Ok(Exit::Done)
}

#[derive(Debug, Serialize)]
struct Shown<'a> {
    dataset: &'a str,
    number: u64,
    version: &'a str,
    semantics: u32,
    sources: &'a Sources,
}

async fn show(args: &ShowArgs, context: &Context) -> Result<Exit, CliError> {
    let store = context.store(IfMissing::Fail).await?;
    let name = &args.name;
    let newest = registry::latest(&store, name).await?;
    let Some(newest) = newest else {
        let names = registry::list(&store).await?;
        return Err(CliError::unknown_dataset(name, &names));
    };
    let registered: Registered = match &args.version {
        None => newest,
        Some(version) => match registry::by_version(&store, name, version).await? {
            Some(registered) => registered,
            None => {
                let mut known = Vec::new();
                for n in registry::numbers(&store, name).await? {
                    known.push(registry::version_of(&store, name, n).await?.to_string());
                }
                known.dedup();
                return Err(CliError::UnknownVersion { dataset: name.clone(), version: version.clone(), known });
            }
        },
    };
    let shown = Shown {
        dataset: name,
        number: registered.n,
        version: registered.version.as_str(),
        semantics: registered.semantics,
        sources: &registered.sources,
    };
    context.report(&shown, |shown| {
        let Shown { dataset, number, version, semantics, .. } = shown;
        let mut text = format!("{dataset}: definition {number}, version {version}, semantics {semantics}\n");
        for (file, source) in shown.sources {
            text.push_str(&format!("\n-- {file} --\n{}\n", source.trim_end()));
        }
        text
    })?;
    Ok(Exit::Done)
}

//! The whole of a definition: the parts of `dataset.toml` against the transform and each other.

use arrow::datatypes::{DataType, SchemaRef};

use super::parse::{NamedPart, Parts, read};
use super::{
    Definition, DefinitionError, EventTime, Expectation, Gate, InputSpec, KeySpec, NamedSql, Problem, RejectRule,
    Sources, StreamSpec, nearest,
};
use crate::document::{Document, Text};
use crate::transform::plan::{PlannedTransform, check_expectation, plan_condition, plan_transform};
use crate::transform::{SqlProblem, Transform, View, check_view, parse_statement};

/// The file that names and describes the dataset.
pub const DATASET_FILE: &str = "dataset.toml";
/// The file of the transform.
pub const TRANSFORM_FILE: &str = "transform.sql";
/// What is said of a file that is not there.
pub(super) const FILE_MISSING: &str = "the file is missing";
/// Largest file of a definition, in bytes.
pub const SOURCE_BYTES_MAX: usize = 1 << 20;

/// Builds a definition from the texts of its files: `dataset.toml`, `transform.sql`, `views/<name>.sql`,
/// `alerts/<name>.sql`. Pure; never panics, whatever the texts.
///
/// Of views and alerts only the syntax counts here: a definition that was applied stays readable whatever they say.
/// [`super::load`] checks them against the transform's output, too.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(sources: &Sources) -> Result<Definition, DefinitionError> {
    check(sources, None)
}

/// As [`parse`]; with `notes`, views and alerts are planned, and why one could not be is noted there.
pub(super) fn check(sources: &Sources, mut notes: Option<&mut Vec<String>>) -> Result<Definition, DefinitionError> {
    let mut problems = Vec::new();
    for (file, text) in sources {
        if text.len() > SOURCE_BYTES_MAX {
            problems.push(whole_file(file, format!("larger than {SOURCE_BYTES_MAX} bytes")));
        }
    }
    if !problems.is_empty() {
        return Err(DefinitionError::new(problems));
    }
    let views = named_sql(sources, "views/", &mut problems);
    let alerts = named_sql(sources, "alerts/", &mut problems);
    for file in sources.keys() {
        let known = [DATASET_FILE, TRANSFORM_FILE].contains(&file.as_str())
            || ["views/", "alerts/"].iter().any(|folder| file.starts_with(folder));
        if !known {
            problems.push(whole_file(file, "not a file of a definition".to_owned()));
        }
    }
    let missing = |file: &str| whole_file(file, FILE_MISSING.to_owned());
    let Some(text) = sources.get(DATASET_FILE) else {
        problems.push(missing(DATASET_FILE));
        match sources.get(TRANSFORM_FILE).map(|sql| parse_statement(sql)) {
            None => problems.push(missing(TRANSFORM_FILE)),
            Some(Err(problem)) => problems.push(in_file(TRANSFORM_FILE, problem)),
            Some(Ok(())) => {}
        }
        return Err(DefinitionError::new(problems));
    };
    let document = Document::new(DATASET_FILE, text);
    let parts = read(&document);
    let transform = sources.get(TRANSFORM_FILE);
    if transform.is_none() {
        problems.push(missing(TRANSFORM_FILE));
    }
    if let Some(sql) = transform.filter(|_| parts.columns_whole) {
        match check_transform(&document, &parts, sql) {
            Ok(output) => {
                if let (Some(notes), Some(name)) = (&mut notes, &parts.name) {
                    for (folder, named) in [("views", &views), ("alerts", &alerts)] {
                        problems.extend(check_named(&name.value, &output, folder, named, notes));
                    }
                }
            }
            Err(more) => problems.extend(more),
        }
    }
    let clean = !document.has_problems();
    problems.extend(document.into_problems());
    match (transform, parts.name.clone()) {
        (Some(sql), Some(name)) if clean && problems.is_empty() => {
            let definition = assemble(name.value, parts, sql, views, alerts);
            match Transform::compile(&definition) {
                Ok(_) => Ok(definition),
                Err(error) => Err(DefinitionError::new(vec![whole_file(TRANSFORM_FILE, error.problem)])),
            }
        }
        _ => Err(DefinitionError::new(problems)),
    }
}

fn whole_file(file: &str, message: String) -> Problem {
    Problem { file: file.to_owned(), line: None, column: None, message, suggestion: None }
}

fn in_file(file: &str, problem: SqlProblem) -> Problem {
    let SqlProblem { line, column, message, suggestion } = problem;
    Problem { file: file.to_owned(), line, column, message, suggestion }
}

/// The views or alerts; only their syntax is checked here.
fn named_sql(sources: &Sources, folder: &str, problems: &mut Vec<Problem>) -> Vec<NamedSql> {
    let mut found = Vec::new();
    for (file, sql) in sources.iter().filter(|(file, _)| file.starts_with(folder)) {
        let name = file.trim_start_matches(folder).strip_suffix(".sql").unwrap_or_default();
        if !super::is_name(name) {
            problems
                .push(whole_file(file, "its name must be of lower-case letters, digits and `_`, and `.sql`".into()));
        }
        match parse_statement(sql) {
            Ok(()) => found.push(NamedSql { name: name.to_owned(), sql: sql.clone() }),
            Err(problem) => problems.push(in_file(file, problem)),
        }
    }
    found
}

/// Views or alerts against the table that they read.
fn check_named(
    dataset: &str,
    output: &SchemaRef,
    folder: &str,
    named: &[NamedSql],
    notes: &mut Vec<String>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for NamedSql { name, sql } in named {
        let file = format!("{folder}/{name}.sql");
        match check_view(dataset, output, sql) {
            Ok(View::Checked) => {}
            Ok(View::Unchecked(why)) => notes.push(format!("{file}: only its syntax was checked: {why}")),
            Err(more) => problems.extend(more.into_iter().map(|problem| in_file(&file, problem))),
        }
    }
    problems
}

/// Everything that needs the transform's output, which it returns.
fn check_transform(document: &Document<'_>, parts: &Parts, sql: &str) -> Result<SchemaRef, Vec<Problem>> {
    let input = InputSpec { columns: parts.columns.clone(), format: super::Format::Json }.schema();
    let planned = match plan_transform(&input, sql) {
        Ok(planned) => planned,
        Err(problems) => {
            return Err(problems.into_iter().map(|problem| in_file(TRANSFORM_FILE, problem)).collect());
        }
    };
    let output = &planned.output;
    for column in &parts.partition_columns {
        if let Some(data_type) = output_type(document, output, column, "partition column")
            && data_type != DataType::Utf8
        {
            let message = format!("partition column `{}` is of type {data_type}, not a string", column.value);
            let suggestion = format!("CAST(… AS VARCHAR) AS {} in {TRANSFORM_FILE}", column.value);
            document.problem(column.at, message, Some(suggestion));
        }
    }
    if output.fields().len() == parts.partition_columns.len() {
        document.problem(0, "every output column is a partition column", None);
    }
    if let Some(event_time) = &parts.event_time
        && let Some(data_type) = output_type(document, output, &event_time.column, "event-time column")
        && !matches!(data_type, DataType::Timestamp(..))
    {
        let message =
            format!("event-time column `{}` is of type {data_type}, not a timestamp", event_time.column.value);
        document.problem(event_time.column.at, message, None);
    }
    check_key(document, parts, &planned);
    for NamedPart { sql, .. } in &parts.rules {
        check_condition(document, sql, |text| plan_condition(output, &input, text).map(|_| ()));
    }
    if let Some(sql) = parts.key.as_ref().and_then(|key| key.delete_when.as_ref()) {
        check_condition(document, sql, |text| plan_condition(output, &input, text).map(|_| ()));
    }
    for NamedPart { sql, .. } in &parts.expectations {
        check_condition(document, sql, |text| check_expectation(output, text));
    }
    Ok(planned.output)
}

fn check_condition(document: &Document<'_>, sql: &Text, plan: impl Fn(&str) -> Result<(), Vec<SqlProblem>>) {
    for problem in plan(&sql.value).err().into_iter().flatten() {
        let line = document.line_within(sql, problem.line.unwrap_or(1));
        document.problem_on(line, problem.message, problem.suggestion);
    }
}

fn output_type(document: &Document<'_>, output: &SchemaRef, column: &Text, what: &str) -> Option<DataType> {
    if let Some((_, field)) = output.column_with_name(&column.value) {
        return Some(field.data_type().clone());
    }
    let near = nearest(&column.value, output.fields().iter().map(|field| field.name().as_str()));
    let suggestion = near.map(|near| format!("did you mean `{near}`?"));
    let message = format!("{what} `{}` is not in the transform's output", column.value);
    document.problem(column.at, message, suggestion);
    None
}

fn check_key(document: &Document<'_>, parts: &Parts, planned: &PlannedTransform) {
    let Some(key) = &parts.key else { return };
    for column in &key.columns {
        if let Some(data_type) = output_type(document, &planned.output, column, "key column")
            && (data_type.is_nested() || data_type.is_floating())
        {
            let message = format!("key column `{}` is of type {data_type}, which does not compare", column.value);
            document.problem(column.at, message, None);
        }
    }
    if let Some(column) = &key.version_by {
        if let Some(data_type) = output_type(document, &planned.output, column, "version_by column")
            && data_type.is_nested()
        {
            let message = format!("version_by column `{}` is of type {data_type}, which has no order", column.value);
            document.problem(column.at, message, None);
        }
        return;
    }
    let Some(stream) = &parts.stream else { return };
    // Without a version the offsets decide, and only those of one partition compare: all records of one key must lie
    // in one partition, and in no other source.
    let keyed_by = match key.columns.as_slice() {
        [only] => planned.output.index_of(&only.value).ok().and_then(|index| planned.repeats.get(index)?.clone()),
        _ => None,
    };
    let same = keyed_by.is_some() && keyed_by == stream.partition_by.as_ref().map(|column| column.value.clone());
    if !same || parts.files.is_some() {
        let why = if parts.files.is_some() && same {
            "positions of files and of the stream do not compare"
        } else {
            "the stream's message key is not the dataset's key"
        };
        let suggestion = "set version_by, or partition_by to the input column that is the key";
        document.problem(key.at, format!("a key without version_by: {why}"), Some(suggestion.to_owned()));
    }
}

fn assemble(name: String, parts: Parts, sql: &str, views: Vec<NamedSql>, alerts: Vec<NamedSql>) -> Definition {
    let value = |text: Text| text.value;
    let values = |texts: Vec<Text>| texts.into_iter().map(value).collect::<Vec<_>>();
    let expectation = |part: NamedPart| Expectation { name: part.name, that: part.sql.value };
    Definition {
        name,
        description: parts.description,
        columns: parts.columns,
        files: parts.files,
        stream: parts.stream.map(|stream| StreamSpec {
            topic: stream.topic,
            format: stream.format,
            partition_by: stream.partition_by.map(value),
            partitions: stream.partitions,
        }),
        transform_sql: sql.to_owned(),
        event_time: parts.event_time.map(|part| EventTime { column: part.column.value, zone: part.zone }),
        partition_columns: values(parts.partition_columns),
        key: parts.key.map(|key| KeySpec {
            columns: values(key.columns),
            version_by: key.version_by.map(value),
            delete_when: key.delete_when.map(value),
        }),
        reject_rules: parts
            .rules
            .into_iter()
            .map(|part| RejectRule { name: part.name, when: part.sql.value })
            .collect(),
        gate: Gate {
            max_reject_ratio: parts.max_reject_ratio,
            min_rows: parts.min_rows.unwrap_or(Gate::default().min_rows),
            expectations: parts.expectations.into_iter().map(expectation).collect(),
        },
        views,
        alerts,
    }
}

//! The prompt: statements over several lines until `;`, and a few commands of its own.

use std::path::{Path, PathBuf};

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tidemark_batch::sql::{SqlEngine, split};

use super::{SqlArgs, SqlCommandError, note, remote, run_one};
use crate::client::Server;
use crate::error::for_people;
use crate::output::OutputError;

const HELP: &str = "\
statements end with `;` and may span lines; Ctrl-C clears the line or cancels the statement
.tables        tables                                                          (or \\d)
.schema TABLE  columns of a table                                              (or \\d TABLE)
.timing        say after each statement what it took, or stop that             (or \\timing)
.help          this                                                            (or \\?)
.quit          leave, as does Ctrl-D                                           (or \\q)";

/// The first line of a prompt.
const GREETING: &str = concat!(
    "tidemark ",
    env!("CARGO_PKG_VERSION"),
    "; statements end with `;`, `.help` lists the prompt's own commands, `.quit` or Ctrl-D leaves"
);

const LIST_TABLES: &str = "SELECT table_schema AS schema, table_name AS name FROM information_schema.tables \
                           WHERE table_schema <> 'information_schema' ORDER BY schema, name";

/// Who answers what is typed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked<'a> {
    /// This process.
    Here(&'a SqlEngine),
    /// A running server.
    Server(&'a Server),
}

/// What a line at the start of a statement asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Quit,
    Help,
    Timing,
    /// A statement to run in its place.
    Run(String),
    Unknown(String),
}

/// The command that `line` is, if it is one.
pub(super) fn command(line: &str) -> Option<Command> {
    let line = line.trim().trim_end_matches(';').trim_end();
    if matches!(line, "quit" | "exit") {
        return Some(Command::Quit);
    }
    // `.5` and the like begin no statement, so that a dot is free for commands.
    let words = line.strip_prefix(['\\', '.'])?;
    let (word, rest) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
    Some(match (word, rest.trim()) {
        ("q" | "quit" | "exit", _) => Command::Quit,
        ("?" | "h" | "help", _) => Command::Help,
        ("timing", _) => Command::Timing,
        ("d" | "schema", "") | ("tables", _) => Command::Run(LIST_TABLES.to_owned()),
        ("d" | "schema", table) => Command::Run(format!("DESCRIBE {table}")),
        _ => Command::Unknown(line.to_owned()),
    })
}

/// The statements in `text` once it is complete: the last one has its semicolon. Text that breaks off inside a string
/// or comment goes on with the next line.
pub(super) fn complete(text: &str) -> Option<Vec<String>> {
    match split(text) {
        Ok((statements, true)) if !statements.is_empty() => Some(statements),
        _ => None,
    }
}

/// Reads and runs statements until `.quit` or the end of input.
pub(super) async fn run(args: &SqlArgs, asked: Asked<'_>, history: Option<&Path>) -> Result<(), SqlCommandError> {
    let mut editor = DefaultEditor::new().map_err(SqlCommandError::Prompt)?;
    let history: Option<PathBuf> = history.map(Path::to_path_buf);
    if let Some(history) = &history {
        // The first time there is none yet.
        let _loaded = editor.load_history(history).is_ok();
    }
    if !args.quiet {
        note(GREETING);
    }
    let mut timing = args.stats;
    let mut text = String::new();
    loop {
        let sign = if text.is_empty() { "tidemark> " } else { "       -> " };
        let line;
        (editor, line) = read_line(editor, sign).await?;
        match line {
            Err(ReadlineError::Interrupted) => {
                text.clear();
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(SqlCommandError::Prompt(error)),
            Ok(line) => {
                if let Some(command) = text.is_empty().then(|| command(&line)).flatten() {
                    let _kept = editor.add_history_entry(line.trim()).is_ok();
                    match command {
                        Command::Quit => break,
                        Command::Help => note(HELP),
                        Command::Timing => {
                            timing = !timing;
                            note(if timing { "timing is on" } else { "timing is off" });
                        }
                        Command::Run(statement) => answer(args, asked, statement, false).await?,
                        Command::Unknown(line) => note(&format!("`{line}` is no command; .help lists them")),
                    }
                    continue;
                }
                text.push_str(&line);
                text.push('\n');
            }
        }
        if text.trim().is_empty() {
            text.clear();
        } else if let Some(statements) = complete(&text) {
            let _kept = editor.add_history_entry(text.trim()).is_ok();
            text.clear();
            for statement in statements {
                answer(args, asked, statement, timing).await?;
            }
        }
    }
    if let Some(history) = &history
        && let Err(error) = editor.save_history(history)
    {
        note(&format!("the history was not kept: {error}"));
    }
    Ok(())
}

/// One line, read off the runtime's threads.
async fn read_line(
    mut editor: DefaultEditor,
    sign: &'static str,
) -> Result<(DefaultEditor, Result<String, ReadlineError>), SqlCommandError> {
    let read = tokio::task::spawn_blocking(move || {
        let line = editor.readline(sign);
        (editor, line)
    });
    read.await.map_err(|error| SqlCommandError::Prompt(ReadlineError::Io(std::io::Error::other(error))))
}

/// Runs a statement; its failure is said and the prompt goes on, unless nobody reads any more.
async fn answer(args: &SqlArgs, asked: Asked<'_>, statement: String, timing: bool) -> Result<(), SqlCommandError> {
    let answered = match asked {
        Asked::Here(engine) => run_one(args, engine, statement, true, timing).await,
        Asked::Server(server) => remote::run_cancellable(args, server, &statement, timing).await,
    };
    match answered {
        Ok(()) => Ok(()),
        Err(SqlCommandError::Output(error @ OutputError::Io(_))) => Err(error.into()),
        Err(error) => {
            note(for_people(&error).trim_end());
            Ok(())
        }
    }
}

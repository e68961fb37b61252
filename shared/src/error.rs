//! The small public vocabulary of failure. Each module has a precise `thiserror` enum of its own; what a caller must
//! *do* about any of them is one of these kinds.

/// What a caller can do about an error. Exit codes and HTTP statuses are derived from it, in one place each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request or definition is wrong; trying again will not help. Nothing was touched.
    Invalid,
    /// The named object does not exist.
    NotFound,
    /// Somebody else changed the object first; read again and decide anew.
    Conflict,
    /// The other side is unavailable or slow; the same call may succeed later.
    Retryable,
    /// The values that were met allow no answer: a division by zero, a number that does not fit.
    Unprocessable,
    /// Stored bytes are not what they must be.
    Corrupt,
    /// Written by a newer version, or a feature this build lacks.
    Unsupported,
    /// A limit (memory, time, bytes) was reached.
    Exhausted,
    /// A defect of ours.
    Internal,
}

/// Implemented by every public error of the workspace.
pub trait ErrorKind: std::error::Error + Send + Sync + 'static {
    /// The coarse kind, for exit codes, HTTP statuses and retries.
    fn kind(&self) -> Kind;

    /// What the user can do about it, when there is something to say beyond the message.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Lets an enum keep an error of any module as its source.
impl std::error::Error for Box<dyn ErrorKind> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        (**self).source()
    }
}

/// Any error of the workspace, as the cause of another.
#[derive(Debug)]
pub struct AnyError(Box<dyn ErrorKind>);

impl AnyError {
    /// Wraps `error`; its kind and hint stay.
    #[must_use]
    pub fn new(error: impl ErrorKind) -> Self {
        Self(Box::new(error))
    }
}

impl std::fmt::Display for AnyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for AnyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl ErrorKind for AnyError {
    fn kind(&self) -> Kind {
        self.0.kind()
    }

    fn hint(&self) -> Option<String> {
        self.0.hint()
    }
}

/// An error with all its causes in one line, each said once.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = without_backtrace(&error.to_string());
    let mut next = error.source();
    while let Some(cause) = next {
        let said = without_backtrace(&cause.to_string());
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

/// What an error says without the frames that some libraries put behind it where `RUST_BACKTRACE` is set: they tell where
/// in the library it was noticed, and the user nothing.
fn without_backtrace(said: &str) -> String {
    let is_frame = |line: &str| {
        let line = line.trim_start();
        let digits = line.trim_start_matches(|c: char| c.is_ascii_digit());
        line.starts_with("at ") || (digits.len() < line.len() && digits.starts_with(": "))
    };
    let indented = |line: &str| line.starts_with([' ', '\t']);
    let mut kept: Vec<&str> = Vec::new();
    let mut rest = said.lines().peekable();
    while let Some(line) = rest.next() {
        let label = line.trim_start().strip_prefix("backtrace:").map(str::trim_start);
        let opens = match label {
            Some(first) => first.is_empty() || is_frame(first),
            None => indented(line) && line.trim_start().starts_with("0: "),
        };
        if !opens {
            kept.push(line);
            continue;
        }
        while rest.next_if(|line| indented(line) && is_frame(line)).is_some() {}
        while kept.last().is_some_and(|line| line.trim().is_empty()) {
            kept.pop();
        }
    }
    if kept.len() == said.lines().count() { said.to_owned() } else { kept.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{said}")]
    struct Said {
        said: &'static str,
        #[source]
        source: Option<Box<Said>>,
    }

    #[test]
    fn causes_follow_in_order_and_are_said_once() {
        let root = Said { said: "disk full", source: None };
        let repeated = Said { said: "can't write a", source: Some(Box::new(root)) };
        let outer = Said { said: "upload: can't write a", source: Some(Box::new(repeated)) };
        assert_eq!(chain(&outer), "upload: can't write a: disk full");
    }

    #[test]
    fn where_a_library_noticed_it_is_not_said() {
        let frames = "   0: std::backtrace::Backtrace::create\n             at /rustc/lib.rs:331:13\n  12: main\n";
        for (said, wanted) in [
            ("can't read a\n   0 of 3 bytes".to_owned(), "can't read a\n   0 of 3 bytes"),
            (format!("no protocol\n{frames}"), "no protocol"),
            (format!("Kernel error: no protocol\n{frames}of the table"), "Kernel error: no protocol\nof the table"),
            (format!("Internal error: x.\n\nbacktrace: {frames}"), "Internal error: x."),
        ] {
            assert_eq!(without_backtrace(&said), wanted);
        }
    }
}

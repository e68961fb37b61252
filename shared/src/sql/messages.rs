//! The planner's messages, for who wrote the statement.

/// `message` without what the planner says of itself, on one line where it is about the types of a function's arguments.
pub(super) fn of_planner(message: &str) -> String {
    const NO_MATCH: &str = "No function matches the given name and argument types '";
    let Some((_, rest)) = message.split_once(NO_MATCH) else { return without_appeal(message) };
    let Some((call, more)) = rest.split_once('\'') else { return without_appeal(message) };
    let candidates: Vec<&str> = more
        .split_once("Candidate functions:")
        .map(|(_, candidates)| candidates.lines().map(str::trim).filter(|line| !line.is_empty()).collect())
        .unwrap_or_default();
    let takes = if candidates.is_empty() { String::new() } else { format!("; there is {}", candidates.join(", ")) };
    format!("no function is called as `{call}`{takes}; `CAST(… AS …)` changes a type")
}

/// Why a step can't have two columns named `name`.
pub(super) fn named_alike(name: &str) -> String {
    format!(
        "two columns of one step are named `{name}`, and a cast is no part of a name: compute one of them in a subquery, under \
         an alias, `SELECT sum(x), sum(y) FROM (SELECT x, x::double AS y FROM …)`"
    )
}

/// A mistake in a statement is no defect of the planner, whatever it thinks.
fn without_appeal(message: &str) -> String {
    let text = message.strip_prefix("Internal error: ").unwrap_or(message);
    match text.split_once("\nThis issue was likely caused by a bug in DataFusion's code.") {
        Some((text, _)) => text.trim_end_matches('.').to_owned() + ".",
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::of_planner;

    #[test]
    fn the_wrong_type_of_an_argument_is_told_in_a_line() {
        let appeal = "This issue was likely caused by a bug in DataFusion's code. Please help us to resolve this by filing a \
                      bug report in our issue tracker: https://github.com/apache/datafusion/issues.";
        let avg = format!(
            "Internal error: Function 'avg' failed to match any signature, errors: Error during planning: …\n{appeal} No \
             function matches the given name and argument types 'avg(Utf8)'. You might need to add explicit type casts.\n\
             \tCandidate functions:\n\tavg(Decimal)\n\tavg(Float64)\n"
        );
        assert_eq!(
            of_planner(&avg),
            "no function is called as `avg(Utf8)`; there is avg(Decimal), avg(Float64); `CAST(… AS …)` changes a type"
        );
        assert_eq!(of_planner(&format!("Internal error: no such thing..\n{appeal}")), "no such thing.");
        assert_eq!(of_planner("Cannot coerce Utf8 + Boolean"), "Cannot coerce Utf8 + Boolean");
    }
}

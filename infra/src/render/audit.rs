//! An audit's verdict for people.

use std::fmt::Write as _;

use tidemark_serving::audit::AuditReport;

use crate::units::counted;

/// The verdict, then what differs.
#[must_use]
pub fn audit(report: &AuditReport) -> String {
    let AuditReport { audited, wrong, rows_derived, .. } = report;
    let (audited, rows_derived) = (counted(*audited, "answer"), counted(*rows_derived, "row"));
    let mut text = format!("{audited} audited, {wrong} wrong; {rows_derived} derived from the master dataset\n");
    for (reason, count) in &report.not_auditable {
        writeln!(text, "{count} not auditable: {reason}").expect("a string takes all text");
    }
    for difference in &report.differences {
        writeln!(text, "\nwrong: {}", difference.sql).expect("a string takes all text");
        for (dataset, claim) in &difference.as_of {
            let positions = serde_json::to_string(&claim.positions).expect("positions are plain data");
            writeln!(text, "  {dataset} by definition {} up to {positions}", claim.definition)
                .expect("a string takes all text");
        }
        for (side, rows) in [("answered", &difference.only_answered), ("derived", &difference.only_derived)] {
            for row in rows {
                let cells: Vec<&str> = row.iter().map(|cell| cell.as_deref().unwrap_or("null")).collect();
                writeln!(text, "  only {side}: {}", cells.join(", ")).expect("a string takes all text");
            }
        }
    }
    text
}

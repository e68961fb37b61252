//! Local times of a zone: which of them do not exist, and which instant the others mean.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, LazyLock, Mutex};

use arrow::array::{Array, BooleanArray, PrimitiveArray};
use arrow::compute::{max, min};
use arrow::datatypes::TimestampMicrosecondType;
use chrono::{DateTime, MappedLocalTime, NaiveDate, Offset, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned, Visit, Visitor,
};

use super::functions::EVENT_INSTANT;
use super::sql::{SqlProblem, excerpt};
use crate::dataset::nearest;
use crate::lock;

const SECOND: i64 = 1_000_000;
/// Half a day, in seconds: no zone of the database has two transitions closer than this.
const STEP: i64 = 43_200;
/// The years in which the time zone database has transitions: local mean time ends after the first, and the compiled
/// tables end before the last.
const YEARS: Range<i32> = 1840..2101;

/// Half-open ranges of local microseconds that a zone skips, ascending.
type Gaps = Arc<[Range<i64>]>;

/// Gaps of the zones that were asked for. To find those of one takes a look at each half day of centuries: milliseconds,
/// which a definition that is only read, or a batch of few records, must not pay again and again.
static GAPS: LazyLock<Mutex<HashMap<Tz, Gaps>>> = LazyLock::new(Mutex::default);

/// A zone's local times. All its gaps are found before the first batch, so that one pays for them only where they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct LocalTime {
    zone: Tz,
}

impl LocalTime {
    pub(super) fn new(zone: Tz) -> Self {
        Self { zone }
    }

    fn gaps(self) -> Gaps {
        let mut known = lock(&GAPS);
        Arc::clone(known.entry(self.zone).or_insert_with(|| gaps(self.zone)))
    }

    /// True for the rows whose local time does not exist; `None` where all do. Nulls are false.
    pub(super) fn nonexistent(self, local: &PrimitiveArray<TimestampMicrosecondType>) -> Option<BooleanArray> {
        let (least, greatest) = (min(local)?, max(local)?);
        let gaps = self.gaps();
        let first = gaps.partition_point(|gap| gap.end <= least);
        let end = gaps.partition_point(|gap| gap.start <= greatest);
        let near = gaps.get(first..end).filter(|near| !near.is_empty())?;
        let skipped = |micros: i64| {
            let after = near.partition_point(|gap| gap.start <= micros);
            after > 0 && micros < near[after - 1].end
        };
        let values = local.values();
        let mask: BooleanArray =
            (0..local.len()).map(|row| Some(local.is_valid(row) && skipped(values[row]))).collect();
        (mask.true_count() > 0).then_some(mask)
    }

    /// The instant of a local time, in microseconds since 1970-01-01 UTC; the first of two; `None` for a skipped one.
    pub(super) fn instant(self, micros: i64) -> Option<i64> {
        let local = DateTime::from_timestamp_micros(micros)?.naive_utc();
        match self.zone.from_local_datetime(&local) {
            MappedLocalTime::Single(instant) => Some(instant.timestamp_micros()),
            MappedLocalTime::Ambiguous(one, other) => Some(one.timestamp_micros().min(other.timestamp_micros())),
            MappedLocalTime::None => None,
        }
    }
}

/// The zone that `text` names.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub(crate) fn parse_zone(text: &str) -> Result<Tz, (String, String)> {
    text.parse().map_err(|_| {
        let near = nearest(text, TZ_VARIANTS.iter().map(|zone| zone.name()));
        let suggestion = near.map_or_else(
            || "write an IANA name like `America/New_York`".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        (format!("unknown time zone `{}`", excerpt(text)), suggestion)
    })
}

/// What is wrong with the zones of `event_instant` in `node`. A zone is fixed when SQL is planned: found only when rows
/// flow, one wrong letter would reject every record.
pub(super) fn zone_problems(node: &impl Visit) -> Vec<SqlProblem> {
    let mut zones = Zones(Vec::new());
    let done = node.visit(&mut zones);
    debug_assert!(done.is_continue(), "the walk never breaks off");
    zones.0
}

struct Zones(Vec<SqlProblem>);

impl Visitor for Zones {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            self.0.extend(zone_problem(function));
        }
        ControlFlow::Continue(())
    }
}

fn zone_problem(function: &Function) -> Option<SqlProblem> {
    if !function.name.to_string().eq_ignore_ascii_case(EVENT_INSTANT) {
        return None;
    }
    // Another number of arguments is the planner's to refuse.
    let FunctionArguments::List(list) = &function.args else { return None };
    let [_, FunctionArg::Unnamed(FunctionArgExpr::Expr(zone))] = list.args.as_slice() else { return None };
    let literal = match zone {
        Expr::Value(value) => value.value.clone().into_string(),
        _ => None,
    };
    let problem = match literal {
        Some(text) => parse_zone(&text).err().map(|(message, hint)| SqlProblem::new(message).suggest(hint)),
        None => {
            let message = format!("the zone of {EVENT_INSTANT} is `{}`, not a literal", excerpt(zone));
            Some(SqlProblem::new(message).suggest("write an IANA name like 'America/New_York'"))
        }
    };
    problem.map(|problem| problem.at(zone.span()))
}

fn gaps(zone: Tz) -> Gaps {
    let seconds = |year| {
        NaiveDate::from_ymd_opt(year, 1, 1).expect("a year within chrono's range").and_time(chrono::NaiveTime::MIN)
    };
    let offset_at = |second: i64| -> i64 {
        let utc = DateTime::from_timestamp(second, 0).expect("within chrono's range").naive_utc();
        i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc())
    };
    let (mut at, end) = (seconds(YEARS.start).and_utc().timestamp(), seconds(YEARS.end).and_utc().timestamp());
    let mut gaps = Vec::new();
    let mut offset = offset_at(at);
    while at < end {
        let next = at + STEP;
        let next_offset = offset_at(next);
        if next_offset > offset {
            let change = first_second(at, next, |second| offset_at(second) != offset);
            gaps.push((change + offset) * SECOND..(change + next_offset) * SECOND);
        }
        (at, offset) = (next, next_offset);
    }
    gaps.into()
}

/// The first second in `(low, high]` from which on `changed` holds.
fn first_second(mut low: i64, mut high: i64, changed: impl Fn(i64) -> bool) -> i64 {
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if changed(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDateTime;

    use super::*;

    fn micros(text: &str) -> i64 {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").expect(text).and_utc().timestamp_micros()
    }

    #[test]
    fn a_skipped_hour_is_found_to_the_microsecond() {
        let zone = LocalTime::new(Tz::America__New_York);
        for (text, skipped) in [
            ("2019-03-10 01:59:59.999999", false),
            ("2019-03-10 02:00:00", true),
            ("2019-03-10 02:59:59.999999", true),
            ("2019-03-10 03:00:00", false),
            ("2019-11-03 01:30:00", false),
            ("2008-12-31 23:00:00", false),
            ("2090-03-12 02:30:00", true),
        ] {
            let column = PrimitiveArray::from(vec![Some(micros(text)), None]);
            let found = zone.nonexistent(&column).is_some_and(|mask| mask.value(0) && !mask.value(1));
            assert_eq!(found, skipped, "{text}");
            assert_eq!(zone.instant(micros(text)).is_none(), skipped, "{text}");
        }
    }

    #[test]
    fn gaps_agree_with_the_zone_database() {
        for zone in [Tz::America__New_York, Tz::Europe__Berlin, Tz::Asia__Kathmandu, Tz::Australia__Lord_Howe, Tz::UTC]
        {
            let known = LocalTime::new(zone);
            for gap in known.gaps().iter() {
                for (at, exists) in [(gap.start - 1, true), (gap.start, false), (gap.end - 1, false), (gap.end, true)] {
                    assert_eq!(known.instant(at).is_some(), exists, "{zone} {at}");
                }
            }
        }
    }

    #[test]
    fn an_ambiguous_hour_is_the_first() {
        let zone = LocalTime::new(Tz::America__New_York);
        assert_eq!(zone.instant(micros("2019-11-03 01:30:00")), Some(micros("2019-11-03 05:30:00")));
    }
}

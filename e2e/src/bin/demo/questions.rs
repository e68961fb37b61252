//! Four business questions, asked of the CSV in place and of the curated table, side by side.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;
use tidemark_e2e::platform::Tidemark;

use super::print::{count, heading, percent, size};

/// A question in words, in SQL over the CSV table `trips_csv`, and in SQL over the curated table. Each answer's second
/// column is a number of trips; `{year}` stands for the year in question.
struct Question {
    words: &'static str,
    csv: &'static str,
    curated: &'static str,
}

const QUESTIONS: [Question; 4] = [
    Question {
        words: "How many trips and how much revenue a month?",
        csv: "SELECT date_part('month', tpep_pickup_datetime) AS k, count(*) AS n, sum(total_amount) AS revenue \
              FROM trips_csv WHERE date_part('year', tpep_pickup_datetime) = {year} GROUP BY 1 ORDER BY 2 DESC, 1",
        curated: "SELECT pickup_month AS k, count(*) AS n, sum(total_amount) AS revenue \
                  FROM batch.trips WHERE pickup_year = '{year}' GROUP BY 1 ORDER BY 2 DESC, 1",
    },
    Question {
        words: "How do passengers pay?",
        csv: "SELECT payment_type AS k, count(*) AS n, sum(tip_amount) AS tips \
              FROM trips_csv WHERE date_part('year', tpep_pickup_datetime) = {year} GROUP BY 1 ORDER BY 2 DESC, 1",
        curated: "SELECT payment_type AS k, count(*) AS n, sum(tip_amount) AS tips \
                  FROM batch.trips WHERE pickup_year = '{year}' GROUP BY 1 ORDER BY 2 DESC, 1",
    },
    Question {
        words: "At which hour are taxis busiest?",
        csv: "SELECT date_part('hour', tpep_pickup_datetime) AS k, count(*) AS n FROM trips_csv \
              WHERE date_part('year', tpep_pickup_datetime) = {year} GROUP BY 1 ORDER BY 2 DESC, 1",
        curated: "SELECT date_part('hour', pickup_at) AS k, count(*) AS n FROM batch.trips \
                  WHERE pickup_year = '{year}' GROUP BY 1 ORDER BY 2 DESC, 1",
    },
    Question {
        words: "How long were July's trips of more than ten miles, by number of passengers?",
        csv: "SELECT passenger_count AS k, count(*) AS n, avg(trip_distance) AS miles FROM trips_csv \
              WHERE tpep_pickup_datetime >= '{year}-07-01' AND tpep_pickup_datetime < '{year}-08-01' \
              AND trip_distance > 10 GROUP BY 1 ORDER BY 2 DESC, 1",
        curated: "SELECT passenger_count AS k, count(*) AS n, avg(trip_distance) AS miles FROM batch.trips \
                  WHERE pickup_year = '{year}' AND pickup_month = '07' \
                  AND trip_distance > 10 GROUP BY 1 ORDER BY 2 DESC, 1",
    },
];

/// One side's answer.
struct Answer {
    rows: Vec<Value>,
    seconds: f64,
    bytes: u64,
}

/// Asks all questions both ways and prints time and bytes read. Where `known`, the files hold exactly the year's trips
/// and an answer that differs is an error; real files may hold a few trips of a neighbouring year.
pub(crate) fn ask(tidemark: &Tidemark, csv: &Path, year: &str, out: &Path, known: bool) -> Result<(), Box<dyn Error>> {
    heading(&format!("Four questions about {year}: CSV in place against the curated table"));
    let folder = out.join("csv-in-question");
    let csv_bytes = link_year(csv, year, &folder)?;
    println!("  (plain CSV readers stop at a broken record; these are the files of {year}, which have none)");
    for question in &QUESTIONS {
        let curated = answer(tidemark, &question.curated.replace("{year}", year), &[])?;
        println!("\n  {}", question.words);
        for row in curated.rows.iter().take(3) {
            println!("      {}", spoken(row));
        }
        match answer(tidemark, &question.csv.replace("{year}", year), &[("trips_csv", &folder)]) {
            Ok(plain) => {
                // a reader of text that does not count its bytes has read them all
                let bytes = if plain.bytes == 0 { csv_bytes } else { plain.bytes };
                println!("    CSV      {:>7.3} s  {:>10} read", plain.seconds, size(bytes));
                println!("    curated  {:>7.3} s  {:>10} read", curated.seconds, size(curated.bytes));
                let same = trips(&plain.rows) == trips(&curated.rows);
                if known && !same {
                    return Err(format!("the answers differ: {:?} {:?}", plain.rows, curated.rows).into());
                }
                println!("    {}", if same { "the same answer" } else { "another answer: see the rejects" });
            }
            Err(error) => {
                println!("    CSV      could not be asked: {}", error.to_string().lines().next().unwrap_or_default());
                println!("    curated  {:>7.3} s  {:>10} read", curated.seconds, size(curated.bytes));
            }
        }
    }
    Ok(())
}

/// Shows that a question about one month reads that month's files only.
pub(crate) fn prune(tidemark: &Tidemark, year: &str) -> Result<(), Box<dyn Error>> {
    heading("One month out of all: partitions that can't matter are not opened");
    let sql = format!(
        "SELECT count(*), sum(total_amount) FROM batch.trips WHERE pickup_year = '{year}' AND pickup_month = 7"
    );
    let document = tidemark.sql(&sql, &[])?;
    let months = tidemark.rows("SELECT count(DISTINCT pickup_year || pickup_month) FROM batch.trips")?;
    let stats = &document["stats"];
    let (read, total) = (stats["bytes_read"].as_u64().unwrap_or(0), stats["bytes_total"].as_u64().unwrap_or(0));
    println!("  {sql}");
    println!("  {}", document["rows"].as_array().and_then(|rows| rows.first()).map(spoken).unwrap_or_default());
    let months = months.first().map(spoken).unwrap_or_default();
    println!("  {}", one_month(&months, read, total));
    Ok(())
}

/// What reading one of the table's `months` took. They are more than the files' names tell: some records have a pickup
/// time far off, and are kept.
fn one_month(months: &str, read: u64, total: u64) -> String {
    format!(
        "pickups fall into {months} calendar months, those of a few misdated trips included; opened for one of them: \
         {} of {} ({})",
        size(read),
        size(total),
        percent(read, total)
    )
}

/// The year in a file name like `yellow_tripdata_2019-07.csv`.
pub(crate) fn year_of(name: &str) -> Option<String> {
    let bytes = name.as_bytes();
    let at = (0..bytes.len().saturating_sub(6)).find(|at| {
        let part = &bytes[*at..at + 7];
        part[..4].iter().chain(&part[5..]).all(u8::is_ascii_digit) && part[4] == b'-'
    })?;
    Some(name[at..at + 4].to_owned())
}

fn answer(tidemark: &Tidemark, sql: &str, tables: &[(&str, &Path)]) -> Result<Answer, Box<dyn Error>> {
    let begun = Instant::now();
    let document = tidemark.sql(sql, tables)?;
    Ok(Answer {
        rows: document["rows"].as_array().cloned().unwrap_or_default(),
        seconds: begun.elapsed().as_secs_f64(),
        bytes: document["stats"]["bytes_read"].as_u64().unwrap_or(0),
    })
}

/// The numbers of trips in an answer: codes have become words, so that keys do not compare.
fn trips(rows: &[Value]) -> Vec<String> {
    rows.iter().map(|row| row[1].to_string().replace('"', "")).collect()
}

fn spoken(row: &Value) -> String {
    let cells = row.as_array().cloned().unwrap_or_default();
    let text = |cell: &Value| match cell {
        Value::String(text) => text.clone(),
        Value::Number(n) if n.is_u64() => count(n.as_u64().unwrap_or(0)),
        Value::Number(n) => format!("{:.2}", n.as_f64().unwrap_or(0.0)),
        other => other.to_string(),
    };
    cells.iter().map(text).collect::<Vec<_>>().join("   ")
}

/// A folder with links to the year's plain CSV files, for a table in place; returns their bytes.
fn link_year(csv: &Path, year: &str, folder: &Path) -> Result<u64, Box<dyn Error>> {
    if folder.is_dir() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let mut bytes = 0;
    for entry in fs::read_dir(csv)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".csv") && year_of(&name).as_deref() == Some(year) {
            std::os::unix::fs::symlink(entry.path().canonicalize()?, folder.join(&name))?;
            bytes += entry.path().metadata()?.len();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::{one_month, year_of};

    #[test]
    fn a_number_of_months_says_what_it_counts() {
        let line = one_month("26", 1_200_000, 30_000_000);
        assert!(line.starts_with("pickups fall into 26 calendar months, "), "{line}");
        assert!(line.ends_with("opened for one of them: 1.2 MB of 30.0 MB (4.0 %)"), "{line}");
    }

    #[test]
    fn a_year_stands_before_a_month() {
        assert_eq!(year_of("yellow_tripdata_2019-07.csv").as_deref(), Some("2019"));
        assert_eq!(year_of("manifest.json"), None);
        assert_eq!(year_of("2019.csv"), None);
    }
}

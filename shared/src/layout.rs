//! Names of objects in the store. Every key that Tidemark reads or writes is made here, so that no key is ever a
//! prefix folder of another (H1: stores differ on that).
//!
//! ```text
//! definitions/<dataset>/<n, 8 digits>.json                      applied definitions, by conditional put
//! raw/<dataset>/files/ledger/<n, 20 digits>.json                the file ledger, by conditional put
//! raw/<dataset>/files/data/<sha256>/<attempt>/<name>            the files' bytes, by content and writer
//! raw/<dataset>/sources/<n, 8 digits>.json                      incarnations of its topics, by conditional put
//! raw/<dataset>/stream/<source>/origin/<p>.json                 where a partition's archive begins, by conditional put
//! raw/<dataset>/stream/<source>/origin/begun.json               that all have begun that had to, by conditional put
//! raw/<dataset>/stream/<source>/partition=<p>/<start>.parquet   segments, by conditional put
//! raw/<dataset>/stream/<source>/packed/partition=<p>/<start>-<end>.parquet   several of them in one
//! curated/<dataset>/current/<n, 8 digits>.json                  which generation answers, by conditional put
//! curated/<dataset>/current/<n, 8 digits>.answered.json         that it has answered, by conditional put
//! curated/<dataset>/<generation>/table/…                        a Delta table
//! curated/<dataset>/<generation>/rejects/…                      its rejects
//! curated/<dataset>/<generation>/abandoned.json                 a ban: a vacuum takes the generation away
//! ```

use object_store::path::{Path, PathPart};

use crate::position::{LogPartition, Source};

/// Digits of a ledger sequence number or segment start in a key: enough for any `u64`.
pub const SEQUENCE_DIGITS: usize = 20;
/// Digits of a definition's or generation pointer's number in a key.
pub const NUMBER_DIGITS: usize = 8;
/// Longest name of a raw file in its key, as escaped; file systems end at 255 bytes, and a write in progress adds some.
const NAME_BYTES_MAX: usize = 200;

/// Folder of all datasets' applied definitions.
#[must_use]
pub fn all_definitions() -> Path {
    Path::from("definitions")
}

/// Folder of a dataset's applied definitions.
#[must_use]
pub fn definitions(dataset: &str) -> Path {
    all_definitions().join(dataset)
}

/// The `n`-th applied definition.
#[must_use]
pub fn definition(dataset: &str, n: u64) -> Path {
    definitions(dataset).join(format!("{n:0NUMBER_DIGITS$}.json"))
}

/// Folder of a dataset's file ledger.
#[must_use]
pub fn ledger(dataset: &str) -> Path {
    Path::from_iter(["raw", dataset, "files", "ledger"])
}

/// The `n`-th entry of the file ledger.
#[must_use]
pub fn ledger_entry(dataset: &str, n: u64) -> Path {
    ledger(dataset).join(format!("{n:0SEQUENCE_DIGITS$}.json"))
}

/// The bytes of a raw file: by content, with its name last so that people and tools can tell what it is. `attempt` makes
/// the key its writer's own: nobody ever names an object that somebody else left behind, and that a vacuum may already
/// have listed as an old orphan.
#[must_use]
pub fn raw_file(dataset: &str, sha256_hex: &str, attempt: &str, name: &str) -> Path {
    let folder = Path::from_iter(["raw", dataset, "files", "data", sha256_hex, attempt]);
    let last = name.rsplit('/').next().unwrap_or(name);
    let part = PathPart::from(last);
    if part.as_ref().len() <= NAME_BYTES_MAX {
        return folder.join(part);
    }
    // The end tells more than the beginning: it has the file's kind.
    let mut short = last;
    while PathPart::from(short).as_ref().len() > NAME_BYTES_MAX {
        short = short.char_indices().nth(1).map_or("", |(second, _)| &short[second..]);
    }
    folder.join(short)
}

/// Folder of all raw file bytes of a dataset.
#[must_use]
pub fn raw_files(dataset: &str) -> Path {
    Path::from_iter(["raw", dataset, "files", "data"])
}

/// Folder of a dataset's archived streams.
#[must_use]
pub fn streams(dataset: &str) -> Path {
    Path::from_iter(["raw", dataset, "stream"])
}

/// Folder of the list of a dataset's sources.
#[must_use]
pub fn stream_sources(dataset: &str) -> Path {
    Path::from_iter(["raw", dataset, "sources"])
}

/// The `n`-th incarnation of a topic that the dataset was fed from.
#[must_use]
pub fn stream_source(dataset: &str, n: u64) -> Path {
    stream_sources(dataset).join(format!("{n:0NUMBER_DIGITS$}.json"))
}

/// Where the archive of a partition begins.
#[must_use]
pub fn stream_origin(dataset: &str, partition: &LogPartition) -> Path {
    streams(dataset).join(partition.source.as_str()).join("origin").join(format!("{}.json", partition.partition))
}

/// Mark that every partition of a source has an archive which had let go of records when the dataset came to it. It lies beside
/// the origins, and is none of them by [`number_of`].
#[must_use]
pub fn stream_begun(dataset: &str, source: &Source) -> Path {
    streams(dataset).join(source.as_str()).join("origin").join("begun.json")
}

/// Folder of a partition's segments.
#[must_use]
pub fn segments(dataset: &str, partition: &LogPartition) -> Path {
    streams(dataset).join(partition.source.as_str()).join(format!("partition={}", partition.partition))
}

/// The segment of a partition that begins at offset `start`.
#[must_use]
pub fn segment(dataset: &str, partition: &LogPartition, start: u64) -> Path {
    segments(dataset, partition).join(format!("{start:0SEQUENCE_DIGITS$}.parquet"))
}

/// Folder of a partition's packed segments.
#[must_use]
pub fn packed_segments(dataset: &str, partition: &LogPartition) -> Path {
    let stream = streams(dataset).join(partition.source.as_str());
    stream.join("packed").join(format!("partition={}", partition.partition))
}

/// The packed segment of a partition with offsets `start` to `end` (exclusive).
#[must_use]
pub fn packed_segment(dataset: &str, partition: &LogPartition, start: u64, end: u64) -> Path {
    let name = format!("{start:0SEQUENCE_DIGITS$}-{end:0SEQUENCE_DIGITS$}.parquet");
    packed_segments(dataset, partition).join(name)
}

/// The offset that the key of a segment begins with.
#[must_use]
pub fn segment_start(key: &Path) -> Option<u64> {
    key.filename()?.strip_suffix(".parquet")?.parse().ok()
}

/// Start and end offset of a packed segment, by its key.
#[must_use]
pub fn packed_range(key: &Path) -> Option<(u64, u64)> {
    let (start, end) = key.filename()?.strip_suffix(".parquet")?.split_once('-')?;
    Some((start.parse().ok()?, end.parse().ok()?))
}

/// Folder of everything curated.
#[must_use]
pub fn all_curated() -> Path {
    Path::from("curated")
}

/// Folder of everything curated of a dataset.
#[must_use]
pub fn curated(dataset: &str) -> Path {
    all_curated().join(dataset)
}

/// Folder of the pointers to the current generation.
#[must_use]
pub fn currents(dataset: &str) -> Path {
    curated(dataset).join("current")
}

/// The `n`-th pointer to the current generation; the highest counts.
#[must_use]
pub fn current(dataset: &str, n: u64) -> Path {
    currents(dataset).join(format!("{n:0NUMBER_DIGITS$}.json"))
}

/// What the note of a pointer has behind its number.
const ANSWERED: &str = ".answered.json";

/// Note that the generation of the `n`-th pointer has answered. It lies beside the pointers, so that one listing shows both
/// and nothing that lets pointers be takes it away, and is none of them by [`number_of`].
#[must_use]
pub fn note(dataset: &str, n: u64) -> Path {
    currents(dataset).join(format!("{n:0NUMBER_DIGITS$}{ANSWERED}"))
}

/// The number in a key made by [`note`].
#[must_use]
pub fn note_number(key: &Path) -> Option<u64> {
    key.filename()?.strip_suffix(ANSWERED)?.parse().ok()
}

/// Root of a generation's Delta table.
#[must_use]
pub fn table(dataset: &str, generation: &str) -> Path {
    curated(dataset).join(generation).join("table")
}

/// Folder of the commits and checkpoints of a generation's Delta table.
#[must_use]
pub fn delta_log(dataset: &str, generation: &str) -> Path {
    table(dataset, generation).join("_delta_log")
}

/// The commit that made the table's version `version`, as the Delta protocol names it.
#[must_use]
pub fn delta_commit(dataset: &str, generation: &str, version: u64) -> Path {
    delta_log(dataset, generation).join(format!("{version:0SEQUENCE_DIGITS$}.json"))
}

/// Folder of a generation's rejects.
#[must_use]
pub fn rejects(dataset: &str, generation: &str) -> Path {
    curated(dataset).join(generation).join("rejects")
}

/// Rejects and counts of file `n` in a generation.
#[must_use]
pub fn file_rejects(dataset: &str, generation: &str, n: u64) -> Path {
    rejects(dataset, generation).join("files").join(format!("{n:0SEQUENCE_DIGITS$}.parquet"))
}

/// Folder of the rejects of a log partition in a generation.
#[must_use]
pub fn stream_rejects(dataset: &str, generation: &str, partition: &LogPartition) -> Path {
    let folder = rejects(dataset, generation).join("stream").join(partition.source.as_str());
    folder.join(format!("partition={}", partition.partition))
}

/// Rejects and counts of offsets `start` to `end` (exclusive) of a log partition in a generation.
#[must_use]
pub fn range_rejects(dataset: &str, generation: &str, partition: &LogPartition, start: u64, end: u64) -> Path {
    let name = format!("{start:0SEQUENCE_DIGITS$}-{end:0SEQUENCE_DIGITS$}.parquet");
    stream_rejects(dataset, generation, partition).join(name)
}

/// Ban on a generation that a vacuum takes away: nobody may switch to it, or answer from it, any more.
#[must_use]
pub fn ban(dataset: &str, generation: &str) -> Path {
    curated(dataset).join(generation).join("abandoned.json")
}

/// The number that a key made by [`definition`], [`ledger_entry`] or [`current`] ends with.
#[must_use]
pub fn number_of(key: &Path) -> Option<u64> {
    key.filename()?.strip_suffix(".json")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_sort_as_text() {
        let keys: Vec<Path> = [0, 9, 10, 99_999].iter().map(|n| ledger_entry("trips", *n)).collect();
        assert!(keys.windows(2).all(|pair| pair[0].as_ref() < pair[1].as_ref()));
        assert_eq!(keys.iter().map(number_of).collect::<Vec<_>>(), [Some(0), Some(9), Some(10), Some(99_999)]);
    }

    #[test]
    fn a_note_is_no_pointer() {
        let (pointer, note) = (current("trips", 12), note("trips", 12));
        assert_eq!((number_of(&pointer), note_number(&pointer)), (Some(12), None));
        assert_eq!((number_of(&note), note_number(&note)), (None, Some(12)));
        // What is listed after a pointer concerns later ones only.
        assert!(note < pointer && pointer < super::note("trips", 13));
    }

    #[test]
    fn the_mark_that_a_source_has_begun_is_no_origin() {
        let partition: LogPartition = "trips/3".parse().expect("a partition");
        let (origin, begun) = (stream_origin("trips", &partition), stream_begun("trips", &partition.source));
        assert_eq!((number_of(&origin), number_of(&begun)), (Some(3), None));
        assert_eq!(begun.to_string(), "raw/trips/stream/trips/origin/begun.json");
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        let key = raw_file("trips", "ab", "1", &format!("{}.csv", "\u{442}".repeat(120)));
        let last = key.filename().expect("a name");
        assert!((NAME_BYTES_MAX - 6..=NAME_BYTES_MAX).contains(&last.len()) && last.ends_with(".csv"), "{last}");
    }

    #[test]
    fn a_raw_file_keeps_only_its_last_name() {
        assert_eq!(raw_file("trips", "ab", "1", "2019/x.csv").as_ref(), "raw/trips/files/data/ab/1/x.csv");
    }
}

//! When a segment is sealed: a pure decision.

use std::time::Duration;

use super::ArchiverSettings;

/// What is known of the records that were gathered for a partition's next segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gathered {
    /// Offsets read past since the last segment, with or without records.
    pub offsets: u64,
    /// Records among them.
    pub records: usize,
    /// Bytes of their keys, values and headers.
    pub bytes: usize,
    /// Bytes that are gathered for all partitions together.
    pub bytes_of_all: usize,
    /// How long ago the first of them was read.
    pub age: Duration,
    /// True if somebody asked for what there is to be archived.
    pub asked: bool,
    /// True if the log has let go of what comes next.
    pub cut_off: bool,
}

/// Why a segment is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// It is large enough.
    Size,
    /// Memory is needed for others.
    Memory,
    /// It has waited long enough.
    Age,
    /// Somebody asked.
    Asked,
    /// What follows is lost.
    CutOff,
}

/// Whether what was gathered becomes a segment now.
#[must_use]
pub fn seal(gathered: &Gathered, settings: &ArchiverSettings) -> Option<Seal> {
    let Gathered { offsets, records, bytes, bytes_of_all, age, asked, cut_off } = *gathered;
    if offsets == 0 {
        return None;
    }
    if bytes >= settings.segment_bytes_max || records >= settings.segment_records_max {
        return Some(Seal::Size);
    }
    match () {
        () if cut_off => Some(Seal::CutOff),
        () if asked => Some(Seal::Asked),
        () if bytes_of_all >= settings.memory_bytes_max && bytes > 0 => Some(Seal::Memory),
        () if age >= settings.segment_age_max => Some(Seal::Age),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_memory_age_and_wishes_seal() {
        let settings = ArchiverSettings {
            segment_bytes_max: 100,
            segment_records_max: 10,
            segment_age_max: Duration::from_secs(5),
            memory_bytes_max: 1_000,
            ..ArchiverSettings::default()
        };
        let some = Gathered { offsets: 3, records: 2, bytes: 20, bytes_of_all: 20, ..Gathered::default() };
        for (gathered, wanted) in [
            (Gathered::default(), None),
            (Gathered { asked: true, age: Duration::from_secs(9), ..Gathered::default() }, None),
            (some, None),
            (Gathered { bytes: 100, ..some }, Some(Seal::Size)),
            (Gathered { records: 10, ..some }, Some(Seal::Size)),
            (Gathered { records: 10, asked: true, ..some }, Some(Seal::Size)),
            (Gathered { asked: true, ..some }, Some(Seal::Asked)),
            (Gathered { cut_off: true, asked: true, ..some }, Some(Seal::CutOff)),
            (Gathered { bytes_of_all: 1_000, ..some }, Some(Seal::Memory)),
            (Gathered { bytes_of_all: 1_000, records: 0, bytes: 0, ..some }, None),
            (Gathered { age: Duration::from_secs(5), ..some }, Some(Seal::Age)),
            (Gathered { age: Duration::from_secs(5), records: 0, bytes: 0, ..some }, Some(Seal::Age)),
            (Gathered { age: Duration::from_millis(4_999), ..some }, None),
        ] {
            assert_eq!(seal(&gathered, &settings), wanted, "{gathered:?}");
        }
    }
}

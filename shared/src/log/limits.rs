//! What every adapter refuses alike, before it does anything.

use super::{
    APPEND_BYTES_MAX, APPEND_RECORDS_MAX, Bounds, LogError, PARTITIONS_MAX, RECORD_BYTES_MAX, Routed, Topic, TopicName,
};

/// How large an append is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendSize {
    /// Bytes of all records.
    pub bytes: usize,
}

/// Checks a number of partitions.
///
/// # Errors
/// [`LogError::Invalid`] for 0 or too many.
pub fn check_partitions(topic: &TopicName, partitions: u32) -> Result<(), LogError> {
    if (1..=PARTITIONS_MAX).contains(&partitions) {
        return Ok(());
    }
    let what = format!("{partitions} partitions of topic `{topic}`");
    Err(LogError::Invalid { what, reason: format!("a topic has 1 to {PARTITIONS_MAX}") })
}

/// Checks that a topic of `partitions` has that partition.
///
/// # Errors
/// [`LogError::NoPartition`] if not.
pub fn check_partition(topic: &Topic, partition: u32, partitions: u32) -> Result<(), LogError> {
    if partition < partitions {
        return Ok(());
    }
    Err(LogError::NoPartition { topic: topic.name.clone(), partition, partitions })
}

/// Checks the records of an append to a topic that has `partitions` now.
///
/// # Errors
/// [`LogError::NoPartition`] or [`LogError::TooLarge`].
pub fn check_append(topic: &Topic, records: &[Routed], partitions: u32) -> Result<AppendSize, LogError> {
    let at_most = |what, size, max| if size <= max { Ok(()) } else { Err(LogError::TooLarge { what, size, max }) };
    at_most("an append's number of records", records.len(), APPEND_RECORDS_MAX)?;
    let mut bytes = 0;
    for Routed { partition, record } in records {
        check_partition(topic, *partition, partitions)?;
        let size = record.bytes();
        at_most("a record's bytes", size, RECORD_BYTES_MAX)?;
        bytes += size;
    }
    at_most("an append's bytes", bytes, APPEND_BYTES_MAX)?;
    Ok(AppendSize { bytes })
}

/// Checks that a partition can be read from `from` on: at its end there is nothing yet.
///
/// # Errors
/// [`LogError::Gone`] below its start, [`LogError::BeyondEnd`] above its end.
pub fn check_within(topic: &TopicName, partition: u32, from: u64, bounds: Bounds) -> Result<(), LogError> {
    let (Bounds { start, end }, topic) = (bounds, topic.clone());
    if from < start {
        return Err(LogError::Gone { topic, partition, from, start });
    }
    if from > end {
        return Err(LogError::BeyondEnd { topic, partition, from, end });
    }
    Ok(())
}

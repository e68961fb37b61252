//! Which partition a record goes to. Records with a key go where Kafka's Java client sends them, so that it does not matter
//! who produces; records without one stay with a partition for a while, which makes large batches, then move on.

use super::Record;

/// Bytes of keyless records that go to one partition before the next one has its turn (Kafka's `batch.size`).
pub const STICKY_BYTES: usize = 16 << 10;

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;
const R: u32 = 24;

/// MurmurHash2 as the Java client computes it, with its seed.
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    // Java's lengths are `int`; a key that long can't be appended anyway.
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of a key, of `partitions` (at least 1). An empty key is a key.
///
/// # Panics
/// If there are no partitions.
#[must_use]
pub fn partition_of_key(key: &[u8], partitions: u32) -> u32 {
    assert!(partitions > 0, "a topic has at least one partition");
    // Java's `toPositive`: the sign bit goes, it is not the absolute value.
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// Assigns records to the partitions of a topic. The same records after the same start get the same partitions.
#[derive(Debug, Clone)]
pub struct Partitioner {
    partitions: u32,
    sticky: u32,
    sticky_bytes: usize,
}

impl Partitioner {
    /// For a topic of `partitions` (at least 1). `start` says which partition is the first to get keyless records; let
    /// producers differ in it.
    ///
    /// # Panics
    /// If there are no partitions.
    #[must_use]
    pub fn new(partitions: u32, start: u32) -> Self {
        assert!(partitions > 0, "a topic has at least one partition");
        Self { partitions, sticky: start % partitions, sticky_bytes: 0 }
    }

    /// The partition of the next record.
    pub fn next(&mut self, record: &Record) -> u32 {
        if let Some(key) = &record.key {
            return partition_of_key(key, self.partitions);
        }
        if self.sticky_bytes >= STICKY_BYTES {
            self.sticky = (self.sticky + 1) % self.partitions;
            self.sticky_bytes = 0;
        }
        self.sticky_bytes += record.bytes().max(1);
        self.sticky
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// The first six are those of Kafka's own test, `UtilsTest.testMurmur2`.
    #[test]
    fn hashes_are_those_of_the_java_client() {
        let cases: [(&[u8], i32); 9] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
            (b"", 275_646_681),
            (b"a", -1_563_381_124),
            (b"ab", 316_155_434),
        ];
        for (key, expected) in cases {
            assert_eq!(murmur2(key).cast_signed(), expected, "{key:?}");
        }
    }

    #[test]
    fn a_negative_hash_loses_its_sign_and_not_more() {
        // -973932308 & 0x7fffffff = 1173551340
        assert_eq!(partition_of_key(b"21", 12), 0);
        assert_eq!(partition_of_key(b"21", 7), 1_173_551_340 % 7);
        assert_eq!(partition_of_key(b"abc", 12), 3);
        assert_eq!(partition_of_key(b"", 12), 9);
        assert_eq!(partition_of_key(b"anything", 1), 0);
    }

    #[test]
    fn keyless_records_stay_for_a_batch_and_reach_every_partition() {
        let record = Record { value: Some(Bytes::from(vec![0; 1 << 10])), ..Record::default() };
        let mut partitioner = Partitioner::new(3, 5);
        let partitions: Vec<u32> = (0..16 * 4).map(|_| partitioner.next(&record)).collect();
        assert_eq!(partitions[..16], [2; 16]);
        assert_eq!(partitions[16..32], [0; 16]);
        assert_eq!(partitions[32..48], [1; 16]);
        assert_eq!(partitions[48..], [2; 16]);
    }

    #[test]
    fn an_empty_keyless_record_moves_on_too() {
        let mut partitioner = Partitioner::new(2, 0);
        let record = Record::default();
        let moved = (0..=STICKY_BYTES).map(|_| partitioner.next(&record)).any(|partition| partition == 1);
        assert!(moved, "empty records never leave their partition");
    }

    #[test]
    fn a_key_decides_whatever_came_before() {
        let keyed = Record { key: Some(Bytes::from_static(b"foobar")), ..Record::default() };
        let mut partitioner = Partitioner::new(12, 0);
        for _ in 0..3 {
            assert_eq!(partitioner.next(&Record::default()), 0);
            assert_eq!(partitioner.next(&keyed), 6);
        }
    }
}

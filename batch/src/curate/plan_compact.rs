//! Which small data files a compaction merges: a pure decision over what a table's version names.

use std::collections::BTreeMap;

/// A file is small below this share of the target size.
const SMALL_SHARE: u64 = 2;
/// Fewer files are not worth a merge.
const FILES_MIN: usize = 4;
/// Below this share of the target size, writing a file again costs next to nothing.
const TINY_SHARE: u64 = 64;

/// A data file, as far as the decision goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Values of the partition columns.
    pub(crate) partition: BTreeMap<String, Option<String>>,
    pub(crate) bytes: u64,
}

/// Groups of files, by index, each of which becomes one file of up to `target` bytes; as many groups as one commit of about
/// `bytes_max` bytes takes, but for one that has more. Nothing if nothing is worth it.
///
/// A file goes with smaller ones only when these together are as large as it is, so that a row is written again a few times
/// in its life (about once per doubling), however often small files come.
pub(crate) fn groups(files: &[File], target: u64, bytes_max: u64) -> Vec<Vec<usize>> {
    let mut small: BTreeMap<_, Vec<(u64, usize)>> = BTreeMap::new();
    for (index, file) in files.iter().enumerate().filter(|(_, file)| file.bytes < target / SMALL_SHARE) {
        small.entry(&file.partition).or_default().push((file.bytes, index));
    }
    let (mut groups, mut total) = (Vec::new(), 0u64);
    for mut files in small.into_values() {
        files.sort_unstable();
        for group in of_partition(&files, target) {
            let bytes: u64 = group.iter().map(|(bytes, _)| bytes).sum();
            if total > 0 && total.saturating_add(bytes) > bytes_max {
                return groups;
            }
            total = total.saturating_add(bytes.max(1));
            groups.push(group.iter().map(|(_, index)| *index).collect());
        }
    }
    groups
}

/// Cuts files of one partition, smallest first, into groups.
fn of_partition(files: &[(u64, usize)], target: u64) -> Vec<&[(u64, usize)]> {
    let (mut groups, mut first, mut sum) = (Vec::new(), 0, 0u64);
    for (at, (bytes, _)) in files.iter().enumerate() {
        let fits = sum + bytes <= target && *bytes <= sum.max(target / TINY_SHARE);
        if at > first && !fits {
            groups.push(&files[first..at]);
            (first, sum) = (at, 0);
        }
        sum += bytes;
    }
    groups.push(&files[first..]);
    groups.retain(|group| group.len() >= FILES_MIN);
    groups
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(partition: &str, bytes: u64) -> File {
        File { partition: [("p".to_owned(), Some(partition.to_owned()))].into(), bytes }
    }

    #[test]
    fn small_files_of_one_partition_go_together() {
        let of = |sizes: &[u64], bytes_max| {
            let files: Vec<File> = sizes.iter().map(|bytes| file("a", *bytes)).collect();
            groups(&files, 1_000, bytes_max)
        };
        for (sizes, bytes_max, wanted) in [
            (vec![], 9_999, vec![]),
            (vec![1, 1, 1], 9_999, vec![]),
            (vec![1, 1, 1, 1], 9_999, vec![vec![0, 1, 2, 3]]),
            (vec![500, 1, 1, 1], 9_999, vec![]),
            // A large one waits until the small ones are as large together.
            (vec![400, 1, 1, 1, 1], 9_999, vec![vec![1, 2, 3, 4]]),
            (vec![400, 100, 100, 100, 100], 9_999, vec![vec![1, 2, 3, 4, 0]]),
            (vec![300, 300, 300, 300], 9_999, vec![]),
            (vec![15; 80], 9_999, vec![(0..66).collect(), (66..80).collect()]),
            (vec![15; 80], 990, vec![(0..66).collect()]),
        ] {
            assert_eq!(of(&sizes, bytes_max), wanted, "{sizes:?}");
        }
        let two = [file("a", 1), file("b", 1), file("a", 1), file("b", 1), file("a", 1), file("b", 1)];
        assert_eq!(groups(&two, 1_000, 9_999), Vec::<Vec<usize>>::new());
    }

    proptest! {
        /// Compacting until nothing is left to do ends, with few files, and never mixes partitions or exceeds the target.
        #[test]
        fn compaction_comes_to_an_end(sizes in proptest::collection::vec((0u8..3, 0u64..1_500), 0..80)) {
            let target = 1_000;
            let mut files: Vec<File> =
                sizes.iter().map(|(partition, bytes)| file(&partition.to_string(), *bytes)).collect();
            for _ in 0..200 {
                let found = groups(&files, target, u64::MAX);
                if found.is_empty() {
                    return Ok(());
                }
                let mut merged = Vec::new();
                for group in &found {
                    let bytes: u64 = group.iter().map(|index| files[*index].bytes).sum();
                    prop_assert!(bytes <= target && group.len() >= FILES_MIN);
                    prop_assert!(group.iter().all(|index| files[*index].partition == files[group[0]].partition));
                    merged.push(File { partition: files[group[0]].partition.clone(), bytes });
                }
                let gone: std::collections::BTreeSet<usize> = found.iter().flatten().copied().collect();
                let kept = files.iter().enumerate().filter(|(index, _)| !gone.contains(index));
                files = kept.map(|(_, file)| file.clone()).chain(merged).collect();
            }
            prop_assert!(false, "it goes on and on");
        }
    }
}

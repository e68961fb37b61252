//! Seeds that found something once. They are run before all others; whoever changes what a seed means finds new ones.

/// Seeds, and what each found.
pub const FOUND: [(u64, &str); 4] = [
    (138, "two recomputes in a row, and the answer went back behind an earlier one"),
    (161, "the same, by a first generation that was skipped"),
    (204, "an old listing of the archive taken for a hole in it"),
    (2, "a read that nobody waited for any more held up the gate"),
];

//! The speed layer: log, archiver, indexer, real-time view. Empty in this release.

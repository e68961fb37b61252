//! The serving layer: one query over batch and speed. Empty in this release.

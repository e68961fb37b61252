//! The archive of streams on S3.

use crate::servers as parts;

#[path = "../../../shared/tests/ports/archive.rs"]
mod archive;

//! Dataset definitions: one folder with `dataset.toml`, `transform.sql`, `views/*.sql`, `alerts/*.sql`.

pub mod model;

pub use model::*;

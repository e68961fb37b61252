//! The serving layer: one SQL answer from batch and speed, over HTTP.
//!
//! [`merge`] takes one cut per dataset and query through the curated table and the real-time view (H5, H6) and gives the
//! SQL engine `batch.<dataset>`, `merged.<dataset>` and `live.<dataset>`. [`http`] is the door. [`audit`] derives answers again from the master
//! dataset.

pub mod audit;
pub mod http;
pub mod merge;
#[cfg(test)]
mod testing;

//! The real-time view on OpenSearch: the live view port's adapter for a search cluster.
//!
//! What lies where, for a view (a dataset's generation):
//!
//! - One *state index* with a document per partition for its visible position and one for its floor. Both are written under
//!   external versions, so that neither moves back whoever writes late (H4): [`state`]. With a position stand the offsets below it
//!   that have no row ([`rowless`]), and how many bytes the rows have: [`sizes`].
//! - *Row indices*, one per partition and range of offsets, with a document per record: what its row was, or why there is
//!   none. Names follow from the view, the partition and the range, so a rewrite lands where the first attempt did (H3), and
//!   rows go by dropping whole indices (H7): [`indices`].
//!
//! A row's document holds the exact row in a form that nobody searches ([`exact`]) and, beside it, fields that are
//! searched. These only ever narrow down what is read (H8): [`mapping`], [`filter`]. Of columns whose values stand in them as
//! they are, aggregates are made by the cluster: [`aggregate`], [`whole`].
//!
//! Every index has an alias of its own, made with it and never used again. All reading and writing goes through aliases: who
//! addresses an index that was deleted, or replaced by another of its name, is told so, and no write makes one by itself. Whether
//! it still holds what was written to it is compared after each read: [`identity`]. What templates of the users' own say of indices
//! is overruled where rows would suffer: [`indices`].

mod aggregate;
mod blocks;
mod bulk;
mod cache;
mod calls;
mod client;
mod cluster;
mod counts;
mod document;
mod due;
mod exact;
mod failure;
mod filter;
mod floors;
mod identity;
mod indices;
mod leases;
mod mapping;
mod names;
mod pin;
mod point_in_time;
mod rowless;
mod rows;
mod scan;
mod sizes;
mod state;
#[cfg(test)]
mod tests;
mod upkeep;
mod url;
mod usage;
mod view;
mod views;
mod whole;

pub use calls::{Call, CallOutcome, Calls, NoCalls};
pub use failure::Failure;
pub use url::{OpenSearchUrl, UrlError};
pub use view::{OpenSearchView, OpenSearchViewSettings};

//! What tests of several crates share: the ports' contract suites, stores that misbehave, waiting for what nobody announces, and
//! the fuzz targets' entry points. No part of any program.

mod comes;
pub mod contract;
pub mod faulty;
pub mod forward;
pub mod fuzzing;
pub mod wait;

pub use comes::comes;

//! What tests of several crates share: the ports' contract suites, stores that misbehave, and the fuzz targets' entry
//! points. No part of any program.

pub mod contract;
pub mod faulty;
pub mod forward;
pub mod fuzzing;

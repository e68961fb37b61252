//! The serving layer: one answer from both layers, and the proof that it is right.

pub mod audit;

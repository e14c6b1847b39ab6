//! Models and oracles behind the fuzz targets.

pub mod attempts;
pub mod bodies;
pub mod cells;
pub mod frames;
pub mod ingress;
pub mod lanes;
pub mod latest;
pub mod letters;
pub mod patterns;
pub mod recovery;
mod ring;
pub mod routing;
pub mod rules;

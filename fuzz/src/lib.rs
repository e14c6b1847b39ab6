//! Models and oracles behind the fuzz targets.

pub mod frames;
pub mod ingress;
pub mod patterns;

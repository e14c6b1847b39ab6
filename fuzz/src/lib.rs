//! Models and oracles behind the fuzz targets.

pub mod ingress;
pub mod patterns;

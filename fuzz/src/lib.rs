//! Models and oracles behind the fuzz targets.

pub mod patterns;

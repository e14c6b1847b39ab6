//! Models and oracles behind the fuzz targets.
